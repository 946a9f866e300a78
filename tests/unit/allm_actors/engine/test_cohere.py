"""What Cohere is sent, and what is made of its answers where no recording shows it."""

import json

import pytest

from allm_actors.data import (
    AdapterError,
    ErrorEvent,
    Image,
    ImagePart,
    Message,
    MessageCompleted,
    RawChunk,
    Request,
    StreamError,
    TextPart,
    Tool,
    ToolCall,
)
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects.cohere.chat import DIALECT
from allm_actors.engine.preflight import in_common_words
from allm_actors.engine.sse import MAX_EVENT_BYTES
from allm_actors.engine.wire import HttpAnswer

ROW = PROVIDERS["cohere"]
TOOLS = [Tool(name=name, description="Does.", schema={"type": "object"}) for name in ("look", "listen")]


def sent(*messages, **fields):
    request = Request(messages=list(messages) or [user("hi")], model="command-a", **fields)
    http = DIALECT.encode(in_common_words(request), ROW, "https://x")
    assert http.url == "https://x/v2/chat"
    return json.loads(http.body)


def user(content):
    return Message(role="user", content=content)


def stream(*events):
    decoder = DIALECT.decoder(ROW)
    body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    return decoder.feed(body) + decoder.end()


def content(**fields):
    return {"type": "content-delta", "index": 0, "delta": {"message": {"content": fields}}}


def end(finish="COMPLETE", **fields):
    return {"type": "message-end", "delta": {"finish_reason": finish, **fields}}


# --- what is sent ---------------------------------------------------------------------------------------------


def test_a_plain_question():
    assert sent(Message(role="system", content="Be brief."), user("hi")) == {
        "model": "command-a",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "stream": True,
    }


def test_options_have_the_last_word():
    thinking = {"type": "enabled", "token_budget": 100}
    body = sent(
        temperature=0.5,
        max_tokens=9,
        options={"documents": ["A fact."], "thinking": thinking, "temperature": 0.1},
    )
    assert (body["temperature"], body["max_tokens"]) == (0.1, 9)
    assert (body["documents"], body["thinking"]) == (["A fact."], thinking)


@pytest.mark.parametrize(
    ("choice", "expected", "names"),
    [
        ("auto", None, ["look", "listen"]),
        ("none", "NONE", ["look", "listen"]),
        ("required", "REQUIRED", ["look", "listen"]),
        ("REQUIRED", "REQUIRED", ["look", "listen"]),
        ("listen", "REQUIRED", ["listen"]),
    ],
)
def test_tool_choices(choice, expected, names):
    body = sent(tools=TOOLS, tool_choice=choice)
    assert body.get("tool_choice") == expected
    assert [tool["function"]["name"] for tool in body["tools"]] == names


def test_formats():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    wanted = {"type": "json_schema", "name": "n", "schema": schema}
    assert sent(response_format=wanted)["response_format"] == {"type": "json_object", "json_schema": schema}
    assert sent(response_format={"type": "json_object"})["response_format"] == {"type": "json_object"}
    assert "response_format" not in sent(response_format="text")
    request = Request(messages=[user("hi")], response_format=wanted)
    assert not DIALECT.requires_structured_finalize(request)
    both = Request(messages=[user("hi")], response_format=wanted, tools=TOOLS)
    assert DIALECT.requires_structured_finalize(both)


def test_pictures():
    picture = ImagePart(image=Image.from_bytes(b"\1\2", "image/png"))
    assert sent(user([TextPart(text="what?"), picture]))["messages"][0]["content"] == [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AQI="}},
    ]


def test_arguments_that_are_not_json_are_sent_as_json():
    call = ToolCall(id="c", name="look", arguments={}, raw_arguments="{", metadata={"arguments_error": "cut"})
    said = Message(role="assistant", content="", metadata={"tool_calls": [call]})
    message = sent(user("hi"), said)["messages"][1]
    assert message["tool_calls"][0]["function"]["arguments"] == "{}"
    assert "content" not in message


# --- what is told ---------------------------------------------------------------------------------------------


def test_thinking_begins_and_what_nobody_knows_is_passed_on():
    new = {"type": "debug-trace", "delta": {"x": 1}}
    ends = [{"type": kind, "index": 0} for kind in ("content-end", "tool-call-end", "citation-end")]
    events = stream(content(thinking="Hm"), new, content(thinking="m."), *ends, {"of": 1}, end())
    assert [event.payload for event in events if isinstance(event, RawChunk)] == [
        ("thinking_start", {"index": 0}),
        ("thinking_delta", {"index": 0, "delta": "Hm"}),
        ("unknown_event", "debug-trace", new),
        ("thinking_delta", {"index": 0, "delta": "m."}),
    ]


# --- what is kept, and goes back ------------------------------------------------------------------------------


def test_thoughts_and_plans_go_back_as_they_came():
    start = {
        "type": "tool-call-start",
        "index": 0,
        "delta": {"message": {"tool_calls": {"id": "c", "function": {"name": "look", "arguments": "{}"}}}},
    }
    plan = {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I look."}}}
    events = stream(
        content(thinking="Hm"), content(thinking="m."), plan, content(text="So:"), start, end("TOOL_CALL")
    )
    answer = events[-1].message
    assert events[-1].metadata["reasoning"] == {"text": "Hmm.I look."}
    assert sent(user("hi"), answer)["messages"][1] == {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "Hmm."}, {"type": "text", "text": "So:"}],
        "tool_plan": "I look.",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
    }


def test_a_plain_answer_keeps_nothing_and_goes_back_as_text():
    answer = stream(content(text="Yes"), content(text="."), end())[-1].message
    assert answer.metadata == {}
    assert sent(user("hi"), answer)["messages"][1] == {"role": "assistant", "content": "Yes."}


# --- how it ends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("finish", "reason"), [("COMPLETE", "stop"), ("MAX_TOKENS", "length"), ("SOMETHING_NEW", "other")]
)
def test_finishes(finish, reason):
    last = stream(content(text="x"), end(finish))[-1]
    assert isinstance(last, MessageCompleted)
    assert (last.finish_reason, last.metadata["raw_finish_reason"]) == (reason, finish)


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (end("ERROR", error="it broke"), "provider_unavailable"),
        (end("TIMEOUT"), "timeout"),
        (end(None, error="it broke"), "unknown"),
        ({"message": "it broke"}, "unknown"),
    ],
)
def test_an_answer_that_was_not_finished_is_an_error(last, reason):
    events = stream(content(text="x"), last)
    assert isinstance(events[-1], ErrorEvent)
    assert events[-1].error.reason == reason
    if "TIMEOUT" not in str(last):
        assert "it broke" in events[-1].error.message


def test_a_stream_without_its_end_is_cut():
    error = stream(content(text="x"))[-1].error
    assert (error.reason, error.metadata["partial"]) == ("network_error", True)


def test_an_event_without_end_is_malformed():
    decoder = DIALECT.decoder(ROW)
    events = decoder.feed(b"data: " + b"x" * (MAX_EVENT_BYTES + 10))
    assert isinstance(events[-1].error, StreamError)
    assert decoder.done


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "authentication_failed"),
        (422, "invalid_request"),
        (429, "rate_limited"),
        (498, "content_filter"),
    ],
)
def test_refusals(status, reason):
    error = DIALECT.decode_error(HttpAnswer(status=status, body=b'{"message": "too bad"}'), ROW)
    assert isinstance(error, AdapterError)
    assert (error.reason, error.status) == (reason, status)
    assert "too bad" in error.message


def test_a_whole_body_may_be_an_error_or_nothing_known():
    assert DIALECT.decode_body(b'{"message": "too bad"}', ROW)[-1].error.reason == "unknown"
    assert DIALECT.decode_body(b"[]", ROW)[-1].error.reason == "malformed_response"
