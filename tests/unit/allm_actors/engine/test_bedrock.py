"""What Bedrock is sent, and what is made of its answers where no recording shows it."""

import json

import pytest

from allm_actors.data import (
    AdapterError,
    Document,
    DocumentPart,
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
from allm_actors.engine.dialects.bedrock.chat import DIALECT
from allm_actors.engine.wire import HttpAnswer
from tests.conformance.aws_frames import event, frame

ROW = PROVIDERS["bedrock"]
LOOK = Tool(name="look", description="Looks.", schema={"type": "object"})
CALL = ToolCall(id="t1", name="look", arguments={"x": 1})
LATER = ToolCall(id="t2", name="look", arguments={})
THOUGHT = {"reasoningContent": {"reasoningText": {"text": "Hm", "signature": "c2ln"}}}
SERVED = {"toolUse": {"toolUseId": "s1", "name": "run", "type": "server_tool_use", "input": {}}}
FOUND = {"toolResult": {"toolUseId": "s1", "content": [{"json": {"out": 2}}]}}


def sent(*messages, model="m", **fields):
    request = Request(messages=list(messages) or [user("hi")], model=model, **fields)
    return json.loads(DIALECT.encode(request, ROW, "https://x").body)


def user(content):
    return Message(role="user", content=content)


def called(*calls, **metadata):
    return Message(role="assistant", content="", metadata={"tool_calls": list(calls), **metadata})


def answered(text, call_id="t1"):
    return Message(role="tool", content=text, tool_call_id=call_id)


def stream(*frames):
    decoder = DIALECT.decoder(ROW)
    told = (
        each if isinstance(each, bytes) else event(each[0], json.dumps(each[1]).encode()) for each in frames
    )
    return decoder.feed(b"".join(told)) + decoder.end()


def delta(index=0, **fields):
    return "contentBlockDelta", {"contentBlockIndex": index, "delta": fields}


def stop(reason="end_turn"):
    return "messageStop", {"stopReason": reason}


def text(message):
    return [{"text": message}]


# --- what is sent ---------------------------------------------------------------------------------------------


def test_a_plain_question():
    http = DIALECT.encode(
        Request(
            messages=[Message(role="system", content="Be brief."), user("hi")],
            model="us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        ),
        ROW,
        "https://x",
    )
    assert http.url == "https://x/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream"
    assert json.loads(http.body) == {
        "messages": [{"role": "user", "content": [{"text": "hi"}]}],
        "system": [{"text": "Be brief."}],
    }


def test_an_arn_is_one_part_of_the_path():
    arn = "arn:aws:bedrock:us-east-1:1:inference-profile/us.m"
    http = DIALECT.encode(Request(messages=[user("hi")], model=arn), ROW, "https://x")
    assert (
        http.url
        == "https://x/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.m/converse-stream"
    )


def test_options_go_where_they_belong():
    body = sent(
        temperature=0.5,
        max_tokens=9,
        options={
            "topP": 0.9,
            "inferenceConfig": {"stopSequences": ["x"]},
            "thinking": {"type": "enabled"},
            "additionalModelRequestFields": {"top_k": 5},
            "guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"},
            "model": "other",
        },
    )
    assert body["inferenceConfig"] == {
        "maxTokens": 9,
        "temperature": 0.5,
        "topP": 0.9,
        "stopSequences": ["x"],
    }
    assert body["additionalModelRequestFields"] == {"thinking": {"type": "enabled"}, "top_k": 5}
    assert body["guardrailConfig"]["guardrailIdentifier"] == "g"
    assert "model" not in body


def test_messages_in_a_row_are_one_and_blank_ones_none():
    body = sent(
        user("look"), called(CALL), answered("a"), user("and?"), Message(role="assistant", content=" ")
    )
    assert body["messages"] == [
        {"role": "user", "content": text("look")},
        {
            "role": "assistant",
            "content": [{"toolUse": {"toolUseId": "t1", "name": "look", "input": {"x": 1}}}],
        },
        {
            "role": "user",
            "content": [{"toolResult": {"toolUseId": "t1", "content": text("a")}}, {"text": "and?"}],
        },
    ]


def test_a_document_alone_gets_a_text_beside_it():
    paper = DocumentPart(document=Document.from_bytes(b"%PDF", "application/pdf"))
    (alone,) = sent(user([TextPart(text=" "), paper]))["messages"]
    assert [list(block) for block in alone["content"]] == [["document"], ["text"]]
    (beside,) = sent(user([paper]), user("What is this?"))["messages"]
    assert beside["content"][1:] == text("What is this?")


def test_an_answer_that_the_model_goes_on_with_does_not_end_with_white_space():
    begun = Message(role="assistant", content="Once upon ")
    assert sent(user("a"), begun)["messages"][-1]["content"] == text("Once upon")
    assert sent(user("a"), begun, user("b"))["messages"][1]["content"] == text("Once upon ")


@pytest.mark.parametrize("blank", ["", "\n\n"])
def test_the_sides_take_turns_also_around_an_answer_that_says_nothing(blank):
    nothing = Message(role="assistant", content=blank)
    thought = called(provider_state={"bedrock": [THOUGHT, {"text": blank}]})
    assert sent(user("a"), nothing, user("b"), thought, user("c"))["messages"] == [
        {"role": "user", "content": [*text("a"), *text("b"), *text("c")]}
    ]
    after = sent(user("a"), called(CALL), answered("x"), nothing, user("b"))["messages"]
    assert [message["role"] for message in after] == ["user", "assistant", "user"]
    again = sent(user("a"), called(CALL), answered("x"), user(blank), called(LATER), answered("y", "t2"))
    assert [message["role"] for message in again["messages"]] == ["user", "assistant"] * 2 + ["user"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", None),
        ("required", {"any": {}}),
        ("look", {"tool": {"name": "look"}}),
        ({"any": {}}, {"any": {}}),
    ],
)
def test_tool_choices(choice, expected):
    config = sent(tools=[LOOK], tool_choice=choice)["toolConfig"]
    assert config.get("toolChoice") == expected
    assert config["tools"] == [
        {
            "toolSpec": {
                "name": "look",
                "description": "Looks.",
                "inputSchema": {"json": {"type": "object", "properties": {}}},
            }
        }
    ]


def test_a_conversation_with_calls_declares_them_even_when_no_tool_may_be_called():
    bare = [{"toolSpec": {"name": "look", "inputSchema": {"json": {"type": "object", "properties": {}}}}}]
    conversation = [user("look"), called(CALL, CALL), answered("a")]
    assert sent(*conversation)["toolConfig"] == {"tools": bare}
    assert sent(*conversation, tools=[LOOK], tool_choice="none")["toolConfig"] == {"tools": bare}
    assert "toolConfig" not in sent(tools=[LOOK], tool_choice="none")


@pytest.mark.parametrize("choice", [{"auto": {}}, "none"])
def test_a_choice_of_no_tools_is_none(choice):
    assert "toolConfig" not in sent(tool_choice=choice)
    assert (
        "toolChoice" not in sent(user("look"), called(CALL), answered("a"), tool_choice=choice)["toolConfig"]
    )


def test_a_format_is_said_beside_the_tools():
    schema = {"type": "object", "additionalProperties": False}
    wanted = {"type": "json_schema", "name": "n", "schema": schema}
    body = sent(response_format=wanted, tools=[LOOK])
    form = body["outputConfig"]["textFormat"]
    assert form["type"] == "json_schema"
    assert form["structure"]["jsonSchema"]["name"] == "n"
    assert json.loads(form["structure"]["jsonSchema"]["schema"]) == schema
    assert "toolConfig" in body
    assert not DIALECT.requires_structured_finalize(
        Request(messages=[], response_format=wanted, tools=[LOOK])
    )


def test_pictures_are_bytes_and_an_address_is_refused():
    picture = ImagePart(image=Image.from_bytes(b"\1\2", "image/jpeg"))
    block = {"image": {"format": "jpeg", "source": {"bytes": "AQI="}}}
    assert sent(user([TextPart(text="what?"), picture]))["messages"][0]["content"] == [
        {"text": "what?"},
        block,
    ]
    assert sent(user("x"), called(CALL), Message(role="tool", content=[picture], tool_call_id="t1"))[
        "messages"
    ][2]["content"] == [{"toolResult": {"toolUseId": "t1", "content": [block]}}]
    with pytest.raises(AdapterError, match="no picture by URL") as refused:
        sent(user([ImagePart(image=Image.from_url("https://x/y.png"))]))
    assert refused.value.reason == "unsupported_feature"


def test_prompt_caching_marks_the_system_and_the_end():
    body = sent(Message(role="system", content="Long."), user("hi"), prompt_cache={"key": "k"})
    mark = {"cachePoint": {"type": "default"}}
    assert body["system"] == [{"text": "Long."}, mark]
    assert body["messages"][-1]["content"] == [{"text": "hi"}, mark]
    long = sent(prompt_cache={"retention": "long"})["messages"][-1]["content"][-1]
    assert long == {"cachePoint": {"type": "default", "ttl": "1h"}}


@pytest.mark.parametrize(
    ("kinds", "order"),
    [
        (["", "text/markdown"], ["text", "cachePoint", "document"]),
        (["", "text/markdown", "text/csv"], ["text", "cachePoint", "document", "document"]),
        (["text/markdown", ""], ["document", "text", "cachePoint"]),
        (["text/markdown"], ["document", "text", "cachePoint"]),
        (["", "application/pdf"], ["text", "document", "cachePoint"]),
        (["", "application/pdf", "text/markdown"], ["text", "document", "cachePoint", "document"]),
    ],
)
def test_the_mark_at_the_end_is_not_right_behind_a_document(kinds, order):
    parts = [
        DocumentPart(document=Document.from_bytes(b"x", kind)) if kind else TextPart(text="Sum up.")
        for kind in kinds
    ]
    content = sent(user(parts), prompt_cache={"key": "k"})["messages"][-1]["content"]
    assert [next(iter(block)) for block in content] == order


# --- what is kept, and goes back ------------------------------------------------------------------------------


def test_thoughts_server_tools_and_citations_go_back_in_their_order():
    server = {"toolUseId": "s1", "name": "run", "type": "server_tool_use"}
    cited = {"title": "A page", "location": {"web": {"url": "https://x"}}}
    events = stream(
        ("messageStart", {"role": "assistant"}),
        delta(0, reasoningContent={"text": "Hm"}),
        delta(0, reasoningContent={"text": "m."}),
        delta(0, reasoningContent={"signature": "c2ln"}),
        delta(1, reasoningContent={"redactedContent": "cmVk"}),
        ("contentBlockStart", {"contentBlockIndex": 2, "start": {"toolUse": server}}),
        delta(2, toolUse={"input": '{"a":1}'}),
        ("contentBlockStart", {"contentBlockIndex": 3, "start": {"toolResult": {"toolUseId": "s1"}}}),
        delta(3, toolResult=[{"json": {"out": 2}}]),
        delta(4, text="It is "),
        delta(4, text="2."),
        delta(4, citation=cited),
        (
            "contentBlockStart",
            {
                "contentBlockIndex": 5,
                "start": {"toolUse": {"toolUseId": "t1", "name": "look", "type": "tool_use"}},
            },
        ),
        delta(5, toolUse={"input": '{"x": 1}'}),
        stop("tool_use"),
    )
    last = events[-1]
    assert last.message.content == "It is 2."
    assert last.metadata["citations"] == [cited]
    assert [call.id for call in last.message.tool_calls] == ["t1"]
    blocks = [
        {"reasoningContent": {"reasoningText": {"text": "Hmm.", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": "cmVk"}},
        {"toolUse": {**server, "input": {"a": 1}}},
        {"toolResult": {"toolUseId": "s1", "content": [{"json": {"out": 2}}]}},
        {"citationsContent": {"content": [{"text": "It is 2."}], "citations": [cited]}},
        {"toolUse": {"toolUseId": "t1", "name": "look", "input": {"x": 1}}},
    ]
    assert sent(user("?"), last.message)["messages"][1]["content"] == blocks
    state = last.message.metadata["provider_state"]
    assert sent(user("?"), called(provider_state=state))["messages"][1]["content"] == blocks[:-1]


@pytest.mark.parametrize("model", ["eu.anthropic.claude-sonnet-4-5", "m"])
@pytest.mark.parametrize(
    ("blocks", "kept"),
    [
        ([THOUGHT], []),
        ([{"reasoningContent": {"reasoningText": {"text": "Let me"}}}], []),
        ([{"text": "so"}, THOUGHT], [{"text": "so"}]),
        ([{"text": "so"}, {"reasoningContent": {"redactedContent": "cmVk"}}], [{"text": "so"}]),
        ([THOUGHT, SERVED], []),
        ([THOUGHT, SERVED, FOUND, {"text": " "}], [THOUGHT, SERVED, FOUND]),
    ],
    ids=str,
)
def test_what_was_cut_off_does_not_go_back(blocks, kept, model):
    messages = sent(user("a"), called(provider_state={"bedrock": blocks}), user("b"), model=model)["messages"]
    assert [m["content"] for m in messages if m["role"] == "assistant"] == ([kept] if kept else [])


def test_a_call_on_the_server_goes_back_while_it_may_still_bring_something():
    paused = called(provider_state={"bedrock": [THOUGHT, SERVED]})
    assert sent(user("a"), paused)["messages"][1]["content"] == [THOUGHT, SERVED]


def test_a_whole_answer_with_citations_says_its_text():
    cited = {"content": [{"text": "It is 2."}], "citations": [{"title": "A page"}]}
    body = {"output": {"message": {"content": [{"citationsContent": cited}]}}, "stopReason": "end_turn"}
    last = DIALECT.decode_body(json.dumps(body).encode(), ROW)[-1]
    assert last.message.content == "It is 2."
    assert last.metadata["citations"] == [{"title": "A page"}]
    assert sent(user("?"), last.message)["messages"][1]["content"] == [{"citationsContent": cited}]


def test_a_picture_is_kept():
    start = {"contentBlockIndex": 0, "start": {"image": {"format": "png"}}}
    source = {"source": {"bytes": "AQI="}}
    message = stream(("contentBlockStart", start), delta(image=source), delta(1, text="So."), stop())[
        -1
    ].message
    blocks = [{"image": {"format": "png", **source}}, {"text": "So."}]
    assert sent(user("?"), message)["messages"][1]["content"] == blocks


def test_a_plain_answer_keeps_nothing():
    assert stream(delta(text="Yes."), stop())[-1].message.metadata == {}


# --- how it ends ----------------------------------------------------------------------------------------------


def test_a_guardrail_is_a_content_filter_with_its_trace():
    trace = {"guardrail": {"actionReason": "Guardrail blocked."}}
    events = stream(
        delta(text="Sorry."),
        stop("guardrail_intervened"),
        ("metadata", {"trace": trace, "usage": {"inputTokens": 3, "outputTokens": 1, "totalTokens": 4}}),
    )
    last = events[-1]
    assert isinstance(last, MessageCompleted)
    assert (last.finish_reason, last.message.content) == ("content_filter", "Sorry.")
    assert last.metadata["trace"] == trace


def test_what_the_models_own_fields_say_comes_with_the_stop():
    own = {"stop_sequence": "x"}
    kind, wire = stop()
    events = stream(delta(text="x"), (kind, {**wire, "additionalModelResponseFields": own}))
    assert events[-1].metadata["additionalModelResponseFields"] == own


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        ("stop_sequence", "stop"),
        ("model_context_window_exceeded", "length"),
        ("content_filtered", "content_filter"),
        ("something_new", "other"),
    ],
)
def test_finishes(wire, reason):
    last = stream(delta(text="x"), stop(wire))[-1]
    assert (last.finish_reason, last.metadata["raw_finish_reason"]) == (reason, wire)


@pytest.mark.parametrize("wire", ["malformed_model_output", "malformed_tool_use"])
def test_what_cannot_be_used_is_an_error(wire):
    error = stream(delta(text="x"), stop(wire))[-1].error
    assert (error.reason, wire in error.message) == ("malformed_response", True)


def test_what_was_read_from_a_cache_was_input_too():
    usage = {
        "inputTokens": 2,
        "outputTokens": 5,
        "totalTokens": 1329,
        "cacheReadInputTokens": 1300,
        "cacheWriteInputTokens": 22,
        "cacheReadInputTokenCount": 1300,
    }
    got = stream(delta(text="x"), stop(), ("metadata", {"usage": usage}))[-1].metadata["usage"]
    assert (got.input_tokens, got.output_tokens, got.total_tokens) == (1324, 5, 1329)
    assert (got.cached_input_tokens, got.cache_write_input_tokens) == (1300, 22)
    assert got.extra == {"uncached_input_tokens": 2}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("throttlingException", "rate_limited"),
        ("validationException", "invalid_request"),
        ("modelStreamErrorException", "provider_unavailable"),
        ("internalServerException", "provider_unavailable"),
        ("serviceUnavailableException", "provider_unavailable"),
        ("modelTimeoutException", "timeout"),
        ("accessDeniedException", "authentication_failed"),
        ("somethingNewException", "unknown"),
    ],
)
def test_an_exception_in_the_stream_is_typed_by_its_name(name, reason):
    headers = {":message-type": "exception", ":exception-type": name}
    events = stream(delta(text="x"), frame(headers, b'{"message": "because"}'), stop())
    assert isinstance(events[-1], ErrorEvent)
    error = events[-1].error
    assert (error.reason, error.metadata["code"]) == (reason, name[0].upper() + name[1:])
    assert "because" in error.message


def test_an_error_in_the_stream_has_its_words_in_its_headers():
    headers = {
        ":message-type": "error",
        ":error-code": "InternalServerException",
        ":error-message": "because",
    }
    error = stream(frame(headers, b""))[-1].error
    assert (error.reason, "because" in error.message) == ("provider_unavailable", True)


def test_a_wrong_checksum_is_one_error_and_nothing_follows():
    good = event("contentBlockDelta", json.dumps(delta(text="x")[1]).encode())
    events = stream(good, good[:-1] + bytes([good[-1] ^ 1]), good)
    assert [type(each).__name__ for each in events] == ["TextDelta", "ErrorEvent"]
    assert isinstance(events[-1].error, StreamError)
    assert "checksum" in events[-1].error.message


def test_the_end_before_messagestop_is_a_cut_and_after_it_is_the_end():
    assert stream(delta(text="x"))[-1].error.reason == "network_error"
    assert isinstance(stream(delta(text="x"), stop())[-1], MessageCompleted)


@pytest.mark.parametrize("so_far", [delta(text="x"), stop()], ids=["a text", "its stop"])
def test_another_message_in_the_middle_of_one_is_an_error(so_far):
    start = ("messageStart", {"role": "assistant"})
    last = stream(start, so_far, start)[-1]
    assert isinstance(last, ErrorEvent)
    assert isinstance(last.error, StreamError)


@pytest.mark.parametrize(
    ("status", "name", "reason"),
    [
        (400, "ValidationException", "invalid_request"),
        (400, "ServiceQuotaExceededException", "rate_limited"),
        (403, "AccessDeniedException", "authentication_failed"),
        (403, "ExpiredTokenException", "authentication_failed"),
        (404, "ResourceNotFoundException", "invalid_request"),
        (408, "ModelTimeoutException", "timeout"),
        (424, "ModelErrorException", "provider_unavailable"),
        (429, "ThrottlingException", "rate_limited"),
        (503, "ServiceUnavailableException", "provider_unavailable"),
    ],
)
def test_refusals_are_named_beside_the_body(status, name, reason):
    headers = {"x-amzn-ErrorType": f"{name}:http://internal.amazon.com/", "x-amzn-RequestId": "r-1"}
    failure = HttpAnswer(status=status, headers=headers, body=b'{"message":"because"}')
    error = DIALECT.decode_error(failure, ROW)
    assert (error.reason, error.status, error.metadata["code"]) == (reason, status, name)
    assert error.metadata["provider_request_id"] == "r-1"
    assert "because" in error.message
    if reason == "authentication_failed":
        assert "AWS_BEARER_TOKEN_BEDROCK, or the credentials that sign" in error.message


def test_what_is_quoted_of_a_signed_request_shows_no_secret():
    quoted = (
        "The request signature does not match. The Canonical String should have been 'POST\n/model/m\n\n"
        "x-amz-date:20260901T000000Z\nx-amz-security-token:IQoJb3JpZ2luX2VjEAAaCXVz/+==\n' "
        "Credential=ASIAIOSFODNN7EXAMPLE/20260901, and not bedrock-api-key-YmVkcm9jay5hbWF6b24 "
        "nor ABSKQmVkcm9ja0FQSUtleS1h"
    )
    failure = HttpAnswer(status=403, body=json.dumps({"message": quoted}).encode())
    error = DIALECT.decode_error(failure, ROW)
    assert error.message.count("[REDACTED]") == 4
    for secret in ("IQoJ", "ASIAIOS", "YmVkcm9", "QmVkcm9"):
        assert secret not in repr(error.to_fields())


def test_too_long_is_said_in_words():
    body = b'{"message":"Input is too long for requested model."}'
    error = DIALECT.decode_error(HttpAnswer(status=400, body=body), ROW)
    assert error.reason == "context_length_exceeded"


def test_thinking_begins_also_if_none_of_it_is_told_and_what_nobody_knows_is_passed_on():
    new = {"p": "abc", "x": 1}
    signed = delta(reasoningContent={"signature": "S"})
    redacted = delta(1, reasoningContent={"redactedContent": "x"})
    done = ("contentBlockStop", {"contentBlockIndex": 0})
    events = stream(("messageStart", {"role": "assistant"}), signed, done, redacted, ("weather", new), stop())
    assert [event.payload for event in events if isinstance(event, RawChunk)] == [
        ("thinking_start", {"index": 0}),
        ("unknown_event", "weather", new),
    ]
