"""Every recorded chat of Cohere's decodes, whatever the network does to it, and its request is what we send."""

import json

import pytest

from allm_actors.data import Message, MessageCompleted, Request, TextCompleted, TextDelta, Tool, ToolCall
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects.cohere.chat import DIALECT
from allm_actors.engine.wire import HttpAnswer
from tests.conformance.ledger import Suite
from tests.conformance.traffic import (
    assert_calls_are_told_consistently,
    cases,
    exchanges,
    thoughts,
    unknown,
)

ROW = PROVIDERS["cohere"]


def is_chat(exchange):
    # One recording of embeddings has a chat's URL.
    return exchange.request["url"].endswith("/v2/chat") and b'"embeddings"' not in exchange.body


def is_stream(exchange):
    return b"data:" in exchange.body[:200]


recorded = list(exchanges(["cohere"]))
chats = [exchange for exchange in recorded if is_chat(exchange)]
every_chat = cases(chats)
streams = list(filter(is_stream, chats))
every_request = cases(exchange for exchange in chats if isinstance(exchange.sent, dict))


def decoder_for(_exchange):
    return DIALECT.decoder(ROW)


@every_chat
def test_a_recorded_answer_says_what_its_json_says(exchange):
    if is_stream(exchange):
        made = decoder_for(exchange)
        events = made.feed(exchange.body) + made.end()
        said = read_stream(exchange.body)
    else:
        events = DIALECT.decode_body(exchange.body, ROW)
        said = read_whole(json.loads(exchange.body))
    last = events[-1]
    assert isinstance(last, MessageCompleted), last
    assert last.message.content == said["text"]
    assert "".join(e.delta for e in events if isinstance(e, TextDelta)) == said["text"]
    assert [e.text for e in events if isinstance(e, TextCompleted)] == ([said["text"]] * bool(said["text"]))
    assert thoughts(events) == said["thinking"] + said["plan"]
    assert not unknown(events)
    assert [(c.id, c.name, c.arguments) for c in last.message.tool_calls] == said["calls"]
    assert_calls_are_told_consistently(events)
    assert last.metadata["id"] == said["id"]
    assert last.metadata["raw_finish_reason"] == said["finish"]
    reasons = {"COMPLETE": "stop", "STOP_SEQUENCE": "stop", "TOOL_CALL": "tool_calls"}
    assert last.finish_reason == reasons[said["finish"]]
    assert last.metadata.get("citations", []) == said["citations"]
    usage, tokens = last.metadata["usage"], said["usage"]["tokens"]
    assert (usage.input_tokens, usage.output_tokens) == (tokens["input_tokens"], tokens["output_tokens"])
    assert usage.total_tokens == tokens["input_tokens"] + tokens["output_tokens"]
    assert usage.cached_input_tokens == said["usage"].get("cached_tokens")
    assert usage.extra["billed_units"] == said["usage"]["billed_units"]
    state = last.message.metadata.get("provider_state", {}).get("cohere", {})
    assert state.get("tool_plan", "") == said["plan"]
    assert bool(state.get("content")) == bool(said["thinking"])


def test_an_error_is_read():
    found = [exchange for exchange in recorded if exchange.response["status"] >= 400]
    if not found:
        pytest.skip("no recorded traffic")
    for exchange in found:  # of another endpoint; errors have one shape everywhere
        failure = HttpAnswer(status=exchange.response["status"], body=exchange.body)
        error = DIALECT.decode_error(failure, ROW)
        assert (error.reason, error.status) == ("invalid_request", 404)
        assert "model 'nonexistent' not found" in error.message


@every_request
def test_what_we_send_is_what_was_sent(exchange):
    encoded = json.loads(DIALECT.encode(request_of(exchange.sent), ROW, "https://x").body)
    assert normal(encoded) == normal({**exchange.sent, "stream": True})


# --- reading, by somebody else ------------------------------------------------------------------------------------


def read_stream(body):
    said = {"text": "", "thinking": "", "plan": "", "citations": [], "id": None}
    calls = {}
    for line in body.decode().split("\n"):
        if not line.startswith("data: {"):
            continue
        event = json.loads(line[6:])
        delta = event.get("delta", {})
        message = delta.get("message", {})
        match event["type"]:
            case "message-start":
                said["id"] = event["id"]
            case "content-delta":
                said["text"] += message["content"].get("text", "")
                said["thinking"] += message["content"].get("thinking", "")
            case "tool-plan-delta":
                said["plan"] += message["tool_plan"]
            case "tool-call-start":
                calls[event["index"]] = message["tool_calls"]
            case "tool-call-delta":
                function = calls[event["index"]]["function"]
                function["arguments"] += message["tool_calls"]["function"]["arguments"]
            case "citation-start":
                said["citations"].append(message["citations"])
            case "message-end":
                said |= {"finish": delta["finish_reason"], "usage": delta["usage"]}
    return {**said, "calls": [read_call(call) for call in calls.values()]}


def read_whole(wire):
    message = wire["message"]
    content = message.get("content", [])
    return {
        "id": wire["id"],
        "text": "".join(part.get("text", "") for part in content),
        "thinking": "".join(part.get("thinking", "") for part in content),
        "plan": message.get("tool_plan", ""),
        "calls": [read_call(call) for call in message.get("tool_calls", [])],
        "citations": message.get("citations", []),
        "finish": wire["finish_reason"],
        "usage": wire["usage"],
    }


def read_call(call):
    return call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])


# --- the request that somebody sent, in our words -----------------------------------------------------------------


def request_of(sent):
    known = ("messages", "model", "tools", "temperature", "stream")
    return Request(
        messages=[message_of(message) for message in sent["messages"]],
        model=sent["model"],
        temperature=sent.get("temperature"),
        tools=[
            Tool(
                name=tool["function"]["name"],
                description=tool["function"]["description"],
                schema=tool["function"]["parameters"],
            )
            for tool in sent.get("tools", ())
        ],
        options={name: value for name, value in sent.items() if name not in known},
    )


def message_of(message):
    calls = [
        ToolCall(
            id=call["id"],
            name=call["function"]["name"],
            arguments=json.loads(call["function"]["arguments"]),
            raw_arguments=call["function"]["arguments"],
        )
        for call in message.get("tool_calls", ())
    ]
    return Message(
        role=message["role"],
        content=message.get("content") or "",
        tool_call_id=message.get("tool_call_id"),
        metadata={"tool_calls": calls} if calls else {},
    )


def normal(body):
    """Documented difference: content that is null is left out."""
    messages = [{k: v for k, v in message.items() if v is not None} for message in body["messages"]]
    return {**body, "messages": messages}


SUITE = Suite(
    endpoint="chat",
    dialect="cohere",
    streams=streams,
    decoder=decoder_for,
    reads=(test_a_recorded_answer_says_what_its_json_says,),
    sends=test_what_we_send_is_what_was_sent,
)
