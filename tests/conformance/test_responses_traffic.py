"""Every recorded OpenAI response decodes, whatever the network does to it, and its request is what we send."""

import json
import re

import pytest

import allm_actors as allm
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
)
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects.openai.responses import DIALECT
from allm_actors.engine.wire import HttpAnswer
from allm_actors.testing.loopback import LoopbackServer, Reply
from tests.conformance.ledger import Suite
from tests.conformance.traffic import (
    TRAFFIC,
    assert_calls_are_told_consistently,
    cases,
    exchanges,
    thoughts,
    unknown,
)

NAMES = ("openai", "azure", "deepseek", "xai", "lmstudio", "bedrock")
CHAT = "azure/vercel-azure-deepseek-reasoning-1"  # recorded under this URL, but it is a chat completion
STATE = "openai_responses"
# How far the provider's own tools are.
SERVER_TOOL = re.compile(r"response\.[a-z]+_(?:[a-z]+_)*(?:call|tools)(?:_[a-z]+)*\.[a-z_]+")
# Most of their deltas were taken out.
SHORTENED = ("openai/vercel-openai-phase-1-stream", "openai/vercel-openai-shell-container-1-stream")


def is_response(exchange):
    path = exchange.request["url"].split("?")[0]
    return re.search(r"/responses(/ID)?$", path) is not None and exchange.name != CHAT


def is_stream(exchange):
    return b"data:" in exchange.body[:2000]


responses = list(filter(is_response, exchanges(NAMES)))
streams = list(filter(is_stream, responses))
every_stream = cases(streams)
every_answer = cases(exchange for exchange in responses if not is_stream(exchange))
every_request = cases(exchange for exchange in responses if isinstance(exchange.sent, dict))


def row_of(exchange):
    return PROVIDERS.get(exchange.provider, PROVIDERS["openai-compatible"])


def decoder_for(exchange):
    return DIALECT.decoder(row_of(exchange))


@every_stream
def test_a_recorded_stream_says_what_its_json_says(exchange):
    made = decoder_for(exchange)
    events = made.feed(exchange.body) + made.end()
    streamed, thought, final, error = read_stream(exchange.body)
    assert "".join(e.delta for e in events if isinstance(e, TextDelta)) == streamed
    assert thoughts(events).replace("\n\n", "") == thought.replace("\n\n", "")
    assert all(SERVER_TOOL.match(name) for name in unknown(events))
    if error:
        assert isinstance(events[-1], ErrorEvent)
        assert error in events[-1].error.message
        return
    if exchange.name in SHORTENED:
        assert events[-1].message.content == streamed
        return
    assert_says(events, final)


@every_answer
def test_an_answer_that_came_whole_becomes_the_same_events(exchange):
    if exchange.response["status"] >= 400:
        failure = HttpAnswer(status=exchange.response["status"], body=exchange.body)
        error = DIALECT.decode_error(failure, row_of(exchange))
        quota = b"insufficient_quota" in exchange.body
        assert error.reason == ("rate_limited" if quota else "invalid_request")
        assert error.status == exchange.response["status"]
        assert json.loads(exchange.body)["error"]["message"][:100] in error.message
        return
    wire = json.loads(exchange.body)
    assert_says(DIALECT.decode_body(exchange.body, row_of(exchange)), wire)


@every_request
def test_what_we_send_is_what_was_sent(exchange):
    sent = exchange.sent
    unknown = untold(sent)
    if unknown:
        pytest.skip(f"not applicable: the request has {unknown}, which our requests have no word for")
    http = DIALECT.encode(request_of(sent), row_of(exchange), "https://x")
    if b"without its required following item" in exchange.body:  # refused for what we do not send
        kept = [item for item in sent["input"] if item.get("type") != "reasoning"]
        sent = sent | {"input": kept}
    assert normal(json.loads(http.body), sent) == normal(sent, sent)


def test_a_recorded_loop_of_tools_is_the_loop_that_we_run():
    loop = [each for each in responses if "llm-responses-interleaved-reasoning" in each.name]
    if not loop:
        pytest.skip(f"no recorded traffic in {TRAFFIC}")
    first, last = loop[0].sent, loop[-1].sent
    results = [item["output"] for item in last["input"] if item.get("type") == "function_call_output"]
    asked = []

    def look_up(arguments):
        asked.append(arguments["key"])
        return results[len(asked) - 1] if len(asked) <= len(results) else "not recorded"

    tool = first["tools"][0]
    engine = allm.Engine(
        f"openai:{first['model']}",
        tools=[
            Tool(
                name=tool["name"], description=tool["description"], schema=tool["parameters"], handler=look_up
            )
        ],
        params={"reasoning_effort": first["reasoning"]["effort"]},
    )
    end = {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "the end"}]}
    bodies = [*(each.body for each in loop), json.dumps({"status": "completed", "output": [end]}).encode()]
    with LoopbackServer([Reply(body=body) for body in bodies]) as server:
        options = {"base_url": server.url + "/v1"}
        question = allm.user(first["input"][0]["content"])
        said = allm.chat(engine, [question], api_key="sk-none", adapter_opts=options)
        sent = [request.json for request in server.requests]

    assert said.final_response.output_text == "the end"
    assert [essence(request) for request in sent[:-1]] == [essence(each.sent) for each in loop]
    assert {request.target for request in server.requests} == {"/v1/responses"}


def essence(request):
    """What of a request is the same whoever sends it: ids of calls' items and spaces in arguments are not."""
    items = []
    for item in request["input"]:
        kept = {name: value for name, value in item.items() if name not in ("id", "status", "content")}
        if "arguments" in kept:
            kept["arguments"] = json.loads(kept["arguments"])
        items.append(kept)
    return items, request["model"], request["store"], request["include"], request["reasoning"]


# --- reading, by somebody else ------------------------------------------------------------------------------------


def read_stream(body):
    """Text and thoughts as they were streamed, and the response as the last event has it."""
    text, thought = "", ""
    for line in body.decode().split("\n"):
        if not line.startswith("data:") or line[5:].strip() == "[DONE]":
            continue
        event = json.loads(line[5:])
        match event["type"]:
            case "response.output_text.delta":
                text += event["delta"]
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                thought += event["delta"]
            case "error":
                return text, thought, None, event["error"]["message"]
            case "response.completed":
                return text, thought, event["response"], None
            case _:
                pass
    raise AssertionError("no recorded stream ends like this")


def assert_says(events, wire):
    output = wire["output"]
    parts = [part for item in output if item["type"] == "message" for part in item["content"]]
    text = "".join(part["text"] for part in parts if part["type"] == "output_text")
    calls = [item for item in output if item["type"] == "function_call"]
    last = events[-1]
    assert isinstance(last, MessageCompleted), last
    assert last.message.content == text
    assert [e.text for e in events if isinstance(e, TextCompleted)] == ([text] if text else [])
    assert [(c.id, c.name, c.raw_arguments) for c in last.message.tool_calls] == [
        (call["call_id"], call["name"], call["arguments"]) for call in calls
    ]
    assert [c.arguments for c in last.message.tool_calls] == [json.loads(c["arguments"]) for c in calls]
    assert_calls_are_told_consistently(events)
    assert last.finish_reason == ("tool_calls" if calls else "stop")
    assert last.metadata["raw_finish_reason"] == wire["status"] == "completed"
    assert last.metadata["id"] == wire["id"]
    assert last.metadata["model"] == wire["model"]
    thought = [t["text"] for i in output if i["type"] == "reasoning" for t in i.get("summary") or []]
    thought += [t["text"] for i in output if i["type"] == "reasoning" for t in i.get("content") or []]
    assert thoughts(events) == "\n\n".join(thought)
    cited = [note for part in parts for note in part["annotations"]]
    assert last.metadata.get("citations", []) == cited
    usage, said = last.metadata["usage"], wire["usage"]
    assert usage.input_tokens == said["input_tokens"]
    assert usage.output_tokens == said["output_tokens"]
    assert usage.total_tokens == said["total_tokens"]
    assert usage.reasoning_tokens == said["output_tokens_details"]["reasoning_tokens"]
    assert usage.cached_input_tokens == said["input_tokens_details"]["cached_tokens"]
    assert usage.cache_write_input_tokens == said["input_tokens_details"].get("cache_write_tokens")
    special = any(
        item["type"] not in ("message", "function_call")
        or {"phase", "namespace", "caller"} & {name for name, value in item.items() if value}
        for item in output
    )
    state = last.message.metadata.get("provider_state", {}).get(STATE)
    assert unsealed(state) == (unsealed(output) if special else None)


def unsealed(output):
    """What is sealed is sealed anew each time that it is told."""
    sealed = {"encrypted_content", "fingerprint"}
    return output and [
        {name: bool(value) if name in sealed else value for name, value in item.items()} for item in output
    ]


# --- the request that somebody sent, in our words -----------------------------------------------------------------


def untold(sent):
    """What our requests have no word for, as a text; empty when they can say it all."""
    if "SCRUBBED" in json.dumps(sent):
        return "scrubbed parts"
    for item in input_of(sent):
        if item.get("type") == "additional_tools":
            return "tools that come in the middle of a conversation"
        for part in parts_of(item.get("content")) + parts_of(item.get("output")):
            if "file_id" in part:
                kind = "document" if part["type"] == "input_file" else "picture"
                return f"a {kind} that was uploaded before"
    return ""


def request_of(sent):
    known = ("model", "input", "tools", "tool_choice", "temperature", "stream", "text")
    options = {name: value for name, value in sent.items() if name not in known}
    tools = sent.get("tools") or []
    ours = {"type", "name", "description", "parameters", "strict"}
    if any(tool["type"] != "function" or set(tool) - ours for tool in tools):
        options["tools"], tools = tools, []
    wanted = (sent.get("text") or {}).get("format")
    return Request(
        messages=list(messages_of(input_of(sent))),
        model=sent["model"],
        tools=[tool_of(tool) for tool in tools],
        tool_choice=sent.get("tool_choice"),
        temperature=sent.get("temperature"),
        response_format=wanted,
        options=options,
    )


def tool_of(tool):
    return Tool(
        name=tool["name"],
        description=tool.get("description") or "",
        schema=tool["parameters"],
        metadata={"strict": tool.get("strict", False)},
    )


def input_of(sent):
    return [{"role": "user", "content": sent["input"]}] if isinstance(sent["input"], str) else sent["input"]


def parts_of(content):
    return content if isinstance(content, list) else []


def messages_of(found):
    answer = []
    for item in found:
        role = item.get("role", "assistant")
        if role == "assistant" and item.get("type") != "function_call_output":
            if item.get("type") is None:  # so begins another answer
                yield from answer_of(answer)
                answer = []
            answer.append(item)
            continue
        yield from answer_of(answer)
        answer = []
        if item.get("type") == "function_call_output":
            output = item["output"]
            content = output if isinstance(output, str) else [part_of(part) for part in output]
            yield Message(role="tool", content=content, tool_call_id=item["call_id"])
        else:
            whole = isinstance(item["content"], str)
            yield Message(
                role=role, content=item["content"] if whole else [part_of(p) for p in item["content"]]
            )
    yield from answer_of(answer)


def answer_of(found):
    if not found:
        return
    calls = [
        ToolCall(
            id=item["call_id"],
            name=item["name"],
            arguments=json.loads(item["arguments"]),
            raw_arguments=item["arguments"],
        )
        for item in found
        if item.get("type") == "function_call"
    ]
    ours = {"role", "content", "type", "name", "arguments", "call_id"}
    plain = all(item.get("type") in (None, "function_call") and not set(item) - ours for item in found)
    text = "".join(item["content"] for item in found if item.get("type") is None)
    metadata = {"tool_calls": calls} if plain else {"tool_calls": calls, "provider_state": {STATE: found}}
    yield Message(role="assistant", content=text if plain else "", metadata=metadata)


def part_of(part):
    if part["type"] == "input_text":
        return TextPart(text=part["text"])
    if part["type"] == "input_file":
        return DocumentPart(document=document_of(part))
    return ImagePart(image=Image.from_url(part["image_url"]), detail=part["detail"])


def document_of(part):
    if "file_url" in part:
        return Document.from_url(part["file_url"])
    head, _, data = part["file_data"].partition(";base64,")
    return Document.from_base64(data, head.removeprefix("data:"), part["filename"])


def normal(body, sent):
    """Documented differences: nothing is stored, thoughts are asked for, all is streamed; null is nothing said."""
    made = dict(body) | {"store": sent.get("store"), "stream": True, "input": input_of(body)}
    if "include" not in sent:
        made.pop("include", None)
    made["input"] = [
        item | {"content": one_text(item["content"])} if "content" in item else item for item in made["input"]
    ]
    if "tools" in made:
        made["tools"] = [
            said({"strict": False} | tool | {"description": tool.get("description") or ""})
            for tool in made["tools"]
        ]
    return said(made)


def one_text(content):
    texts = [part["text"] for part in parts_of(content) if part["type"] == "input_text"]
    return "\n".join(texts) if texts and len(texts) == len(content) else content


def said(wire):
    return {name: value for name, value in wire.items() if value not in (None, [])}


SUITE = Suite(
    endpoint="responses",
    dialect="openai_responses",
    streams=streams,
    decoder=decoder_for,
    reads=(
        test_a_recorded_stream_says_what_its_json_says,
        test_an_answer_that_came_whole_becomes_the_same_events,
    ),
    sends=test_what_we_send_is_what_was_sent,
    differs=dict.fromkeys(SHORTENED, "deltas were taken out of the recording: we tell what was streamed"),
)
