"""Every recorded message of Anthropic's decodes, whatever the network does to it, and its request is what we send."""

import json
import re

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
    StreamError,
    TextCompleted,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
)
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects.anthropic.chat import DIALECT
from allm_actors.engine.wire import HttpAnswer
from tests.conformance.ledger import Suite
from tests.conformance.traffic import (
    assert_calls_are_told_consistently,
    cases,
    exchanges,
    thoughts,
    unknown,
)

ROW = PROVIDERS["anthropic"]
SPLICED = "anthropic/vercel-spliced-message-start-stream"  # one message in the middle of another: nobody can read that


def is_message(exchange):
    return exchange.request["url"].split("?")[0].endswith("/v1/messages")


def is_stream(exchange):
    return b"data:" in exchange.body[:2000]


messages = [exchange for exchange in exchanges(["anthropic"]) if is_message(exchange)]
streams = list(filter(is_stream, messages))
every_stream = cases(streams)
every_answer = cases(exchange for exchange in messages if not is_stream(exchange))
every_request = cases(exchange for exchange in messages if isinstance(exchange.sent, dict))


def decoder_for(_exchange):
    return DIALECT.decoder(ROW)


def events_of(exchange):
    if is_stream(exchange):
        made = decoder_for(exchange)
        return made.feed(exchange.body) + made.end()
    return DIALECT.decode_body(exchange.body, ROW)


@every_stream
def test_a_recorded_stream_says_what_its_json_says(exchange):
    events = events_of(exchange)
    if exchange.name == SPLICED:
        assert isinstance(events[-1], ErrorEvent)
        assert isinstance(events[-1].error, StreamError)
        return
    said = read_stream(exchange.body)
    if not said["structured"]:
        assert "".join(e.delta for e in events if isinstance(e, TextDelta)) == said["text"]
    assert_says(events, said)


@every_answer
def test_an_answer_that_came_whole_becomes_the_same_events(exchange):
    if exchange.response["status"] >= 400:
        failure = HttpAnswer(status=exchange.response["status"], body=exchange.body)
        error = DIALECT.decode_error(failure, ROW)
        assert (error.reason, error.status) == ("invalid_request", exchange.response["status"])
        assert json.loads(exchange.body)["error"]["message"][:100] in error.message
        return
    assert_says(events_of(exchange), read_message(json.loads(exchange.body)))


@every_request
def test_what_we_send_is_what_was_sent(exchange):
    sent = exchange.sent
    unknown = untold(sent)
    if unknown:
        pytest.skip(f"not applicable: the request has {unknown}, which our requests have no word for")
    encoded = json.loads(DIALECT.encode(request_of(sent), ROW, "https://x").body)
    assert normal(encoded) == normal(
        {"stream": True, **sent, **({"stream": True} if "stream" in sent else {})}
    )


# --- reading, by somebody else ------------------------------------------------------------------------------------


def assert_says(events, said):
    last = events[-1]
    assert isinstance(last, MessageCompleted), last
    assert thoughts(events) == said["thinking"]
    assert not unknown(events)
    assert last.metadata["raw_finish_reason"] == said["finish"] or said["finish"] is None
    assert last.finish_reason == said["reason"]
    assert last.metadata["id"] == said["id"]
    assert last.metadata["model"] == said["model"]
    assert last.message.content == said["text"]
    assert [e.text for e in events if isinstance(e, TextCompleted)] == (
        [said["text"]] if said["text"] else []
    )
    assert [(c.id, c.name, c.arguments) for c in last.message.tool_calls] == said["calls"]
    assert_calls_are_told_consistently(events)
    usage = last.metadata.get("usage")
    wire = said["usage"]
    assert usage.output_tokens == wire.get("output_tokens")
    assert usage.extra["uncached_input_tokens"] == wire["input_tokens"]
    assert usage.input_tokens == sum(
        wire.get(name) or 0
        for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    )
    state = last.message.metadata.get("provider_state", {}).get("anthropic")
    if said["special"]:
        assert [block["type"] for block in state] == said["special"]
    else:
        assert state is None


def read_stream(body):
    message, blocks = None, {}
    for line in body.decode().split("\n"):
        if not line.startswith("data:"):
            continue
        event = json.loads(line[5:])
        match event["type"]:
            case "message_start" if message is None:
                message = event["message"]
            case "content_block_start":
                blocks[event["index"]] = event["content_block"] | {"json": ""}
            case "content_block_delta":
                block, delta = blocks[event["index"]], event["delta"]
                for name in ("text", "thinking", "signature"):
                    if name in delta:
                        block[name] = block.get(name, "") + delta[name]
                block["json"] += delta.get("partial_json") or ""
            case "message_delta":
                message["stop_reason"] = event["delta"]["stop_reason"]
                message["usage"] |= {k: v for k, v in event["usage"].items() if v is not None}
            case "message_stop":
                break
            case _:
                pass
    for block in blocks.values():
        if block["json"]:
            block["input"] = json.loads(block["json"])
    return read_message(message | {"content": [blocks[index] for index in sorted(blocks)]})


def read_message(message):
    calls = [block for block in message["content"] if block["type"] == "tool_use"]
    forced = [block for block in calls if block["name"].startswith("respond_with_json_")]
    asked_to_call = message["stop_reason"] == "end_turn" and len(calls) > len(forced)
    structured = json.dumps(forced[0]["input"]) if forced else None
    kinds = [block["type"] for block in message["content"] if block.get("text") != ""]
    reason = {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "max_tokens": "length",
        "tool_use": "tool_calls",
        "refusal": "content_filter",
        None: None,
    }[message["stop_reason"]]
    return {
        "id": message["id"],
        "model": message["model"],
        "text": structured or "".join(b.get("text", "") for b in message["content"] if b["type"] == "text"),
        "thinking": "".join(b.get("thinking", "") for b in message["content"] if b["type"] == "thinking"),
        "calls": [(block["id"], block["name"], block["input"]) for block in calls if block not in forced],
        "finish": message["stop_reason"],
        "reason": "tool_calls" if asked_to_call else reason,
        "usage": message["usage"],
        "structured": structured,
        "special": kinds if set(kinds) - {"text", "tool_use"} else [],
    }


# --- the request that somebody sent, in our words -----------------------------------------------------------------


def untold(sent):
    """What our requests have no word for, as a text; empty when they can say it all."""
    if re.search(r"SCRUBBED", json.dumps(sent)):
        return "scrubbed parts"
    for message in sent["messages"]:
        for block in blocks_of(message):
            unknown = untold_block(block, message["role"])
            if unknown:
                return unknown
        kinds = [block["type"] for block in blocks_of(message)]
        if "tool_result" in kinds and set(kinds) != {"tool_result"}:
            return "a tool result and other content in one message"
    if any(
        tool.get("type", "custom") != "custom" or "cache_control" in tool for tool in sent.get("tools", ())
    ):
        return "the provider's own tools"
    if isinstance(sent.get("system"), list):
        return "a system prompt in blocks"
    return ""


def untold_block(block, role):
    known = ("text", "tool_use", "tool_result", "image", "document", "thinking", "redacted_thinking")
    if block["type"] not in known and role == "user":
        return f"a {block['type']} block of the user's"
    if "cache_control" in block:
        return "cache_control inside of a message"
    if block["type"] in ("image", "document") and block["source"]["type"] not in ("base64", "url", "text"):
        return f"a block from a {block['source']['type']}"
    inner = block.get("content")
    results = inner if block["type"] == "tool_result" and isinstance(inner, list) else []
    for result in results:
        if result["type"] not in ("text", "image", "document") or untold_block(result, role):
            return f"a {result['type']} block of a tool's"
    return "is_error of a tool result" if block.get("is_error") else ""


def request_of(sent):
    known = ("model", "messages", "max_tokens", "system", "tools", "tool_choice", "temperature", "stream")
    system = [Message(role="system", content=sent["system"])] if sent.get("system") else []
    told = [part for message in sent["messages"] for part in messages_of(message)]
    return Request(
        messages=[*system, *told],
        model=sent["model"],
        max_tokens=sent["max_tokens"],
        temperature=sent.get("temperature"),
        tools=[tool_of(tool) for tool in sent.get("tools", ())],
        tool_choice=sent.get("tool_choice"),
        options={name: value for name, value in sent.items() if name not in known},
    )


def tool_of(tool):
    return Tool(name=tool["name"], description=tool.get("description", ""), schema=tool["input_schema"])


def messages_of(message):
    blocks = blocks_of(message)
    results = [block for block in blocks if block["type"] == "tool_result"]
    if results:
        for block in results:
            yield Message(role="tool", content=result_of(block), tool_call_id=block["tool_use_id"])
        return
    if message["role"] == "assistant":
        yield assistant_of(blocks)
        return
    parts = [part_of(block) for block in blocks]
    whole = isinstance(message["content"], str)
    yield Message(role="user", content=message["content"] if whole else parts)


def assistant_of(blocks):
    text = "".join(block["text"] for block in blocks if block["type"] == "text")
    calls = [
        ToolCall(id=b["id"], name=b["name"], arguments=b["input"]) for b in blocks if b["type"] == "tool_use"
    ]
    metadata = {"tool_calls": calls} if calls else {}
    if any(block["type"] not in ("text", "tool_use") for block in blocks):
        metadata["provider_state"] = {"anthropic": blocks}
    return Message(role="assistant", content=text, metadata=metadata)


def result_of(block):
    content = plain(block.get("content", ""))
    return content if isinstance(content, str) else [part_of(each) for each in content]


def part_of(block):
    if block["type"] == "text":
        return TextPart(text=block["text"])
    source = block["source"]
    if block["type"] == "document":
        return DocumentPart(document=document_of(source, block.get("title")))
    if source["type"] == "url":
        return ImagePart(image=Image.from_url(source["url"]))
    return ImagePart(image=Image.from_base64(source["data"], source["media_type"]))


def document_of(source, title):
    if source["type"] == "url":
        return Document.from_url(source["url"], title=title)
    if source["type"] == "text":
        return Document.from_bytes(source["data"].encode(), source["media_type"], title)
    return Document.from_base64(source["data"], source["media_type"], title)


def plain(content):
    if isinstance(content, str) or any(block["type"] != "text" for block in content):
        return content
    return "\n".join(block["text"] for block in content)


def blocks_of(message):
    content = message["content"]
    return content if isinstance(content, list) else [{"type": "text", "text": content}]


def normal(body):
    """Documented differences: a text block is a string; a missing description is empty; `auto` is the default."""
    made = dict(body)
    made["messages"] = [message | {"content": normal_content(message)} for message in body["messages"]]
    if "tools" in made:
        made["tools"] = [
            {"description": ""} | {k: v for k, v in t.items() if k != "type"} for t in made["tools"]
        ]
    if made.get("tool_choice") == {"type": "auto"}:
        del made["tool_choice"]
    return {name: value for name, value in made.items() if value not in (None, [])}


def normal_content(message):
    made = []
    for each in blocks_of(message):
        block = each
        if block["type"] == "tool_result":
            block = {
                "type": "tool_result",
                "tool_use_id": block["tool_use_id"],
                "content": plain(block.get("content", "")),
            }
        made.append(block)
    texts = [block["text"] for block in made if block["type"] == "text"]
    return "\n".join(texts) if len(texts) == len(made) else made


SUITE = Suite(
    endpoint="messages",
    dialect="anthropic",
    streams=streams,
    decoder=decoder_for,
    reads=(
        test_a_recorded_stream_says_what_its_json_says,
        test_an_answer_that_came_whole_becomes_the_same_events,
    ),
    sends=test_what_we_send_is_what_was_sent,
    differs={SPLICED: "one message in the middle of another: an error, as nobody can read that"},
)
