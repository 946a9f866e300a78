"""Every recorded chat completion decodes, whatever the network does to it, and its request is what we send."""

import json

import pytest

from allm_actors.data import (
    Document,
    DocumentPart,
    ErrorEvent,
    Image,
    ImagePart,
    Message,
    MessageCompleted,
    Request,
    TextCompleted,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallCompleted,
)
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects.openai.chat import DIALECT, Decoder
from allm_actors.engine.wire import HttpAnswer
from tests.conformance.ledger import Suite
from tests.conformance.traffic import (
    assert_calls_are_told_consistently,
    cases,
    exchanges,
    thoughts,
)

NAMES = (
    *("alibaba", "azure", "bedrock", "cerebras", "crusoe", "deepseek", "google", "groq", "huggingface"),
    *(
        "lmstudio",
        "mistral",
        "moonshotai",
        "ollama",
        "openai",
        "openai-compatible",
        "openrouter",
        "perplexity",
    ),
    *("snowflake", "together", "xai", "zai"),
)
MISNAMED = "azure/vercel-azure-deepseek-reasoning-1"  # recorded under another URL


def is_chat(exchange):
    return "chat/completions" in exchange.request["url"] or exchange.name == MISNAMED


def row_of(exchange):
    row = PROVIDERS.get(exchange.provider, PROVIDERS["openai-compatible"])
    return row if row.dialect == "openai_chat" else PROVIDERS["openai-compatible"]


def is_stream(exchange):
    return b"data:" in exchange.body[:2000]


def is_answer(exchange):
    return b'"choices"' in exchange.body or exchange.response["status"] >= 400


chats = [exchange for exchange in exchanges(NAMES) if is_chat(exchange)]
streams = list(filter(is_stream, chats))
every_stream = cases(streams)
every_request = cases(exchange for exchange in chats if isinstance(exchange.sent, dict))
every_answer = cases(each for each in chats if not is_stream(each) and is_answer(each))


def decoder_for(exchange):
    return Decoder(row_of(exchange))


@every_stream
def test_a_recorded_stream_says_what_its_json_says(exchange):
    said = read_independently(exchange.body)
    decoder = decoder_for(exchange)
    events = decoder.feed(exchange.body) + decoder.end()

    assert "".join(e.delta for e in events if isinstance(e, TextDelta)) == said["text"]
    assert thoughts(events) == said["reasoning"]
    if said["error"]:
        assert isinstance(events[-1], ErrorEvent)
        assert said["error"] in events[-1].error.message
        assert not any(isinstance(e, MessageCompleted | ToolCallCompleted) for e in events)
        return
    last = events[-1]
    assert isinstance(last, MessageCompleted)
    assert last.metadata.get("raw_finish_reason") == said["finish"]
    assert last.metadata.get("citations", []) == said["citations"]
    assert last.finish_reason == said["finish"]
    assert last.metadata.get("id") == (said["id"] or None)
    assert last.metadata["model"] == said["model"]
    assert last.message.content == said["text"]
    assert [(c.name, c.raw_arguments) for c in last.message.tool_calls] == said["calls"]
    assert [c.arguments for c in last.message.tool_calls] == [
        json.loads(raw or "{}") for _, raw in said["calls"]
    ]
    assert_calls_are_told_consistently(events)
    usage = last.metadata.get("usage")
    assert (usage and usage.input_tokens) == said["usage"].get("prompt_tokens")
    assert (usage and usage.output_tokens) == said["usage"].get("completion_tokens")
    assert (usage and usage.total_tokens) == said["usage"].get("total_tokens")
    texts = [e.text for e in events if isinstance(e, TextCompleted)]
    assert texts == ([said["text"]] if said["text"] else [])


@every_answer
def test_an_answer_that_came_whole_becomes_the_same_events(exchange):
    row, response, body = row_of(exchange), exchange.response, exchange.body
    if response["status"] >= 400:
        error = DIALECT.decode_error(HttpAnswer(status=response["status"], body=body), row)
        assert (error.reason, error.status) == ("invalid_request", response["status"])
        assert json.loads(body)["error"]["message"][:100] in error.message
        return
    *before, last = DIALECT.decode_body(body, row)
    wire = json.loads(body)["choices"][0]
    if wire["finish_reason"] == "content_filter":
        assert isinstance(last, ErrorEvent)
        assert last.error.reason == "content_filter"
        return
    said = {"text": "", "reasoning": ""}
    read_content(wire["message"].get("content"), said)
    calls = [call["function"] for call in wire["message"].get("tool_calls") or []]
    assert last.message.content == said["text"]
    refusal = wire["message"].get("refusal") or None
    assert last.metadata.get("refusal") == refusal
    assert last.metadata.get("raw_finish_reason") == ("refusal" if refusal else wire["finish_reason"] or None)
    called = wire["finish_reason"] == "function_call" or (calls and wire["finish_reason"] == "stop")
    finish = "tool_calls" if called else wire["finish_reason"]
    assert last.finish_reason == ("content_filter" if refusal else finish or None)
    counted, usage = json.loads(body).get("usage") or {}, last.metadata.get("usage")
    assert (usage and usage.input_tokens) == counted.get("prompt_tokens")
    assert (usage and usage.output_tokens) == counted.get("completion_tokens")
    assert (usage and usage.total_tokens) == counted.get("total_tokens")
    prompt, completion = (counted.get(f"{side}_tokens_details") or {} for side in ("prompt", "completion"))
    assert (usage and usage.cached_input_tokens) == prompt.get("cached_tokens", counted.get("cached_tokens"))
    assert (usage and usage.reasoning_tokens) == completion.get("reasoning_tokens")
    cited = wire["message"].get("annotations") or json.loads(body).get("citations") or None
    assert last.metadata.get("citations") == cited
    assert [(c.name, c.raw_arguments) for c in last.message.tool_calls] == [
        (c["name"], c["arguments"]) for c in calls
    ]
    assert len([event for event in before if isinstance(event, ToolCallCompleted)]) == len(calls)


def read_independently(body: bytes) -> dict:
    said = {
        "text": "",
        "reasoning": "",
        "finish": None,
        "usage": {},
        "error": None,
        "id": None,
        "model": None,
        "citations": [],
    }
    calls: list[dict] = []
    for line in body.decode().split("\n"):
        if not line.startswith("data:") or line[5:].strip() == "[DONE]":
            continue
        chunk = json.loads(line[5:])
        said["id"] = said["id"] or chunk.get("id")
        said["model"] = said["model"] or chunk.get("model")
        said["usage"] = chunk.get("usage") or (chunk.get("x_groq") or {}).get("usage") or said["usage"]
        said["error"] = said["error"] or (chunk.get("error") or {}).get("message")
        said["citations"] = chunk.get("citations") or said["citations"]
        for choice in chunk.get("choices") or []:
            said["finish"] = choice.get("finish_reason") or said["finish"]
            delta = choice["delta"]
            read_content(delta.get("content"), said)
            said["reasoning"] += delta.get("reasoning_content") or delta.get("reasoning") or details(delta)
            said["citations"] += delta.get("annotations") or []
            for call in delta.get("tool_calls") or []:
                if call.get("id") and call["id"] not in [known["id"] for known in calls]:
                    calls.append({"id": call["id"], "index": call.get("index"), "name": "", "raw": ""})
                known = [k for k in calls if k["index"] == call.get("index")][-1]
                known["name"] += call["function"].get("name") or ""
                known["raw"] += call["function"].get("arguments") or ""
    return said | {"calls": [(call["name"], call["raw"]) for call in calls]}


def details(delta):
    return "".join(detail.get("text") or "" for detail in delta.get("reasoning_details") or [])


def read_content(content, said):
    if isinstance(content, str):
        said["text"] += content
    for part in content if isinstance(content, list) else []:
        said["text"] += part.get("text") or ""
        said["reasoning"] += "".join(thought["text"] for thought in part.get("thinking") or [])


# --- the request that somebody sent, in our words -----------------------------------------------------------------


@every_request
def test_what_we_send_is_what_was_sent(exchange):
    sent, row = exchange.sent, row_of(exchange)
    unknown = untold(sent, row)
    if unknown:
        pytest.skip(f"not applicable: the request has {unknown}, which our requests have no word for")
    encoded = json.loads(DIALECT.encode(request_of(sent, row), row, "https://x").body)
    held = (sent.get("response_format") or {}).get("type") == "json_schema"
    assert encoded["stream"] is (row.quirks.schemas_streamed or not held)
    usage = encoded["stream"] and row.quirks.include_usage
    assert ("stream_options" in encoded) == (usage or "stream_options" in sent)
    assert normal(encoded) == normal(sent)


def untold(sent, row):
    """What our requests have no word for, as a text; empty when they can say it all."""
    if "SCRUBBED" in json.dumps(sent):
        return "scrubbed parts"
    for message in sent["messages"]:
        if message["role"] not in ("system", "user", "assistant", "tool"):
            return f"a {message['role']} message"
        known = {"role", "content", "tool_calls", "tool_call_id", "name", row.quirks.thoughts_back}
        unknown = sorted({name for name, value in message.items() if value not in (None, False)} - known)
        if unknown:
            return f"{', '.join(unknown)} in a message"
        for part in parts_of(message):
            known = ("text", "image_url", "file", row.quirks.documents)
            if part["type"] not in known or "file_id" in part.get("file", {}) or "cache_control" in part:
                return f"a part with {', '.join(sorted(part))}"
    return ""


def request_of(sent, row):
    known = ("model", "messages", "tools", "tool_choice", "temperature", "stream", "max_tokens")
    known += ("max_completion_tokens", "response_format")
    options = {name: value for name, value in sent.items() if name not in known}
    tools = sent.get("tools") or []
    if any(tool.get("type", "function") != "function" for tool in tools):
        options["tools"], tools = tools, []
    return Request(
        messages=[message_of(message, row) for message in sent["messages"]],
        model=sent.get("model"),
        max_tokens=sent.get("max_tokens") or sent.get("max_completion_tokens"),
        tools=[tool_of(tool["function"]) for tool in tools],
        tool_choice=sent.get("tool_choice"),
        temperature=sent.get("temperature"),
        response_format=sent.get("response_format"),
        options=options,
    )


def tool_of(function):
    return Tool(
        name=function["name"],
        description=function.get("description") or "",
        schema=function["parameters"],
        metadata={"strict": function["strict"]} if "strict" in function else {},
    )


def message_of(message, row):
    metadata = {}
    if message.get("tool_calls"):
        metadata["tool_calls"] = [call_of(call) for call in message["tool_calls"]]
    field = row.quirks.thoughts_back
    if field in message and field != "content":
        metadata["provider_state"] = {"openai_chat": {field: message[field]}}
    parts = parts_of(message)
    return Message(
        role=message["role"],
        content=[part_of(part) for part in parts] if parts else message.get("content") or "",
        name=message.get("name"),
        tool_call_id=message.get("tool_call_id"),
        metadata=metadata,
    )


def call_of(call):
    function = call["function"]
    raw = function["arguments"]
    return ToolCall(id=call["id"], name=function["name"], arguments={}, raw_arguments=raw)


def part_of(part):
    if part["type"] == "text":
        return TextPart(text=part["text"])
    if part["type"] == "document_url":
        return DocumentPart(document=document_of(part["document_url"], part.get("document_name")))
    if part["type"] == "file":
        return DocumentPart(document=document_of(part["file"]["file_data"], part["file"].get("filename")))
    url, detail = part["image_url"]["url"], part["image_url"]["detail"]
    head, _, data = url.partition(";base64,")
    if data:
        return ImagePart(image=Image.from_base64(data, head.removeprefix("data:")), detail=detail)
    return ImagePart(image=Image.from_url(url), detail=detail)


def document_of(url, title):
    head, _, data = url.partition(";base64,")
    if data:
        return Document.from_base64(data, head.removeprefix("data:"), title)
    return Document.from_url(url, title=title)


def parts_of(message):
    """The parts of a message, in the one shape that all servers know."""
    content = message.get("content")
    return [normal_part(part) for part in content] if isinstance(content, list) else []


def normal_part(part):
    if "image_url" not in part:
        return {"type": "text"} | part
    picture = part["image_url"] if isinstance(part["image_url"], dict) else {"url": part["image_url"]}
    return {"type": "image_url", "image_url": {"detail": "auto"} | picture}


def normal(body):
    """Documented differences: all is streamed, with usage; texts are one string, and nothing said is an empty one."""
    made = {name: value for name, value in body.items() if value not in (None, [])}
    made.pop("stream", None)
    made.pop("stream_options", None)
    if "max_completion_tokens" in made:
        made["max_tokens"] = made.pop("max_completion_tokens")
    if made.get("response_format") == {"type": "text"}:
        del made["response_format"]
    made["messages"] = [normal_message(message) for message in body["messages"]]
    if "tools" in made:
        made["tools"] = [normal_tool(tool) for tool in made["tools"]]
    return made


def normal_message(message):
    made = {name: value for name, value in message.items() if value not in (None, [], False)}
    parts = parts_of(message)
    if all(part["type"] == "text" for part in parts):
        parts = "\n".join(part["text"] for part in parts)
    made["content"] = parts or message.get("content") or ""
    if "tool_calls" in made:
        ours = ("id", "type", "function")
        made["tool_calls"] = [{name: call[name] for name in ours} for call in made["tool_calls"]]
    return made


def normal_tool(tool):
    if "function" not in tool:
        return tool
    function = tool["function"]
    return {"type": "function", "function": function | {"description": function.get("description") or ""}}


SUITE = Suite(
    endpoint="chat completions",
    dialect="openai_chat",
    streams=streams,
    decoder=decoder_for,
    reads=(
        test_a_recorded_stream_says_what_its_json_says,
        test_an_answer_that_came_whole_becomes_the_same_events,
    ),
    sends=test_what_we_send_is_what_was_sent,
)
