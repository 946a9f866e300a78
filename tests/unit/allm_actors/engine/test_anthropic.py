"""What Anthropic is sent, and what is made of its events where no recording shows it."""

import json

import msgspec
import pytest

from allm_actors.data import (
    ErrorEvent,
    Image,
    ImagePart,
    Message,
    MessageCompleted,
    RawChunk,
    Request,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallCompleted,
)
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects.anthropic.chat import DIALECT
from allm_actors.engine.wire import HttpAnswer

ROW = PROVIDERS["anthropic"]
TOOL = Tool(name="look", description="Looks.", schema={"type": "object"})
NAMESAKE = Tool(name="respond_with_json_city", description="Looks.", schema={"type": "object"})
SCHEMA = {"type": "json_schema", "name": "city", "schema": {"type": "object"}, "strict": True}


def sent(*messages, model="claude", **fields):
    request = Request(messages=list(messages) or [user("hi")], model=model, **fields)
    http = DIALECT.encode(request, ROW, "https://x")
    assert http.url == "https://x/v1/messages"
    assert http.headers["anthropic-version"] == "2023-06-01"
    return json.loads(http.body)


def user(content):
    return Message(role="user", content=content)


def answer(*calls, text="", **metadata):
    return Message(role="assistant", content=text, metadata={"tool_calls": list(calls), **metadata})


def result(call_id, content):
    return Message(role="tool", content=content, tool_call_id=call_id)


def stream(*events, dialect=DIALECT):
    lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
    decoder = dialect.decoder(ROW)
    return decoder.feed("".join(lines).encode()) + decoder.end()


START = {"type": "message_start", "message": {"id": "m", "model": "claude", "usage": {"input_tokens": 3}}}
STOP = {"type": "message_stop"}
TEXT = {"type": "text", "text": "said"}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}
SERVED = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}
STRUCTURE = {"type": "tool_use", "id": "1", "name": "respond_with_json_city", "input": {}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}


def raw(events):
    payloads = [event.payload for event in events if isinstance(event, RawChunk)]
    return [payload for payload in payloads if payload[0] != "usage"]


def ended(reason="end_turn", **usage):
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 2, **usage}}


def begun(index, **block):
    return {"type": "content_block_start", "index": index, "content_block": block}


def more(index, **delta):
    return {"type": "content_block_delta", "index": index, "delta": delta}


class TestEncode:
    def test_a_plain_question(self):
        assert sent() == {
            "model": "claude",
            "max_tokens": 1024,
            "messages": [{"role": "user", "content": "hi"}],
            "stream": True,
        }

    def test_the_most_tokens_leave_room_for_thoughts(self):
        assert sent(model="claude-opus-5-5")["max_tokens"] == 64000
        assert sent(options={"model": "claude-haiku-5-5"})["max_tokens"] == 64000
        assert sent(model="claude-opus-4-8")["max_tokens"] == 1024
        assert sent(model="claude-opus-5-5", max_tokens=9)["max_tokens"] == 9
        assert sent(model="claude-opus-5-5", options={"max_tokens": 9})["max_tokens"] == 9

    def test_system_messages_are_taken_out_and_joined(self):
        body = sent(Message(role="system", content="a"), user("hi"), Message(role="system", content="b"))
        assert (body["system"], len(body["messages"])) == ("a\n\nb", 1)

    def test_calls_and_their_results_in_a_row(self):
        calls = [
            ToolCall(id="1", name="look", arguments={"x": 1}),
            ToolCall(id="2", name="look", arguments={}),
        ]
        body = sent(user("hi"), answer(*calls, text="so"), result("1", "a"), result("2", "b"), tools=[TOOL])
        assert body["messages"][1]["content"] == [
            {"type": "text", "text": "so"},
            {"type": "tool_use", "id": "1", "name": "look", "input": {"x": 1}},
            {"type": "tool_use", "id": "2", "name": "look", "input": {}},
        ]
        assert body["messages"][2] == {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": "a"},
                {"type": "tool_result", "tool_use_id": "2", "content": "b"},
            ],
        }
        assert body["tools"] == [
            {"name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {}}}
        ]

    def test_an_answer_without_text_or_calls_is_left_out(self):
        assert [m["role"] for m in sent(user("a"), answer(), user("b"))["messages"]] == ["user", "user"]

    def test_thoughts_go_back_as_they_came_without_calls_that_nobody_answers(self):
        thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
        blocks = [thought, {"type": "tool_use", "id": "1", "name": "look", "input": {}}]
        kept = answer(ToolCall(id="1", name="look", arguments={}), provider_state={"anthropic": blocks})
        assert sent(user("a"), kept, result("1", "x"), tools=[TOOL])["messages"][1]["content"] == blocks
        cut = answer(text="so", provider_state={"anthropic": blocks})
        said = [thought, {"type": "text", "text": "so"}]
        assert sent(user("a"), cut, user("b"))["messages"][1]["content"] == said

    @pytest.mark.parametrize(
        ("blocks", "kept"),
        [
            ([{"type": "thinking", "thinking": "Let me", "signature": ""}], []),
            ([{"type": "thinking", "thinking": "Let me"}, TEXT], [TEXT]),
            ([TEXT, THOUGHT], [TEXT]),
            ([TEXT, THOUGHT, {"type": "redacted_thinking", "data": "x"}], [TEXT]),
            ([THOUGHT, SERVED], []),
            ([THOUGHT, TEXT, {**SERVED, "type": "mcp_tool_use"}], [THOUGHT, TEXT]),
            ([THOUGHT, SERVED, FOUND], [THOUGHT, SERVED, FOUND]),
            ([THOUGHT, SERVED, FOUND, {**SERVED, "id": "s2"}], [THOUGHT, SERVED, FOUND]),
        ],
        ids=str,
    )
    def test_what_was_cut_off_does_not_go_back(self, blocks, kept):
        text = "said" if TEXT in blocks else ""
        cut = answer(text=text, provider_state={"anthropic": blocks})
        messages = sent(user("a"), cut, user("b"))["messages"]
        assert [m["content"] for m in messages if m["role"] == "assistant"] == ([kept] if kept else [])

    def test_a_call_on_the_server_goes_back_while_it_may_still_bring_something(self):
        paused = answer(provider_state={"anthropic": [THOUGHT, SERVED]})
        assert sent(user("a"), paused)["messages"][1]["content"] == [THOUGHT, SERVED]
        call = {"type": "tool_use", "id": "1", "name": "look", "input": {}}
        asks = answer(
            ToolCall(id="1", name="look", arguments={}), provider_state={"anthropic": [SERVED, call]}
        )
        assert sent(user("a"), asks, result("1", "x"), tools=[TOOL])["messages"][1]["content"] == [
            SERVED,
            call,
        ]

    def test_pictures(self):
        parts = [
            TextPart(text="what?"),
            ImagePart(image=Image.from_bytes(b"\1\2", "image/png")),
            ImagePart(image=Image.from_url("https://y/z.png")),
        ]
        assert sent(user(parts))["messages"][0]["content"] == [
            {"type": "text", "text": "what?"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AQI="}},
            {"type": "image", "source": {"type": "url", "url": "https://y/z.png"}},
        ]

    @pytest.mark.parametrize(
        ("choice", "wire"),
        [
            ("auto", None),
            ("none", {"type": "none"}),
            ("required", {"type": "any"}),
            ("look", {"type": "tool", "name": "look"}),
            (
                {"type": "any", "disable_parallel_tool_use": True},
                {"type": "any", "disable_parallel_tool_use": True},
            ),
        ],
        ids=str,
    )
    def test_tool_choice(self, choice, wire):
        assert sent(tools=[TOOL], tool_choice=choice).get("tool_choice") == wire

    def test_a_structure_is_forced_through_a_tool_once(self):
        body = sent(response_format=SCHEMA, options={"top_k": 3, "max_tokens": 9})
        assert (body["top_k"], body["max_tokens"]) == (3, 9)
        forced = {"type": "tool", "name": "respond_with_json_city", "disable_parallel_tool_use": True}
        assert body["tool_choice"] == forced
        assert body["tools"][-1]["input_schema"] == {"type": "object"}
        told = answer(ToolCall(id="1", name="respond_with_json_city", arguments={}))
        step = [user("a"), told, result("1", "ok")]
        assert "tools" not in sent(*step, response_format=SCHEMA)
        assert len(sent(*step, tools=[NAMESAKE], response_format=SCHEMA)["tools"]) == 2
        assert sent(*step, user("b"), response_format=SCHEMA)["tool_choice"] == forced

    def test_who_asks_for_a_structure_in_the_providers_own_words_gets_no_tool_for_it(self):
        body = sent(response_format=SCHEMA, options={"output_config": {"format": {}}})
        assert "tools" not in body
        assert "tool_choice" not in body

    def test_beside_tools_the_model_may_call_them_before_it_answers(self):
        assert sent(tools=[TOOL], response_format=SCHEMA)["tool_choice"] == {"type": "any"}
        only = sent(tools=[TOOL], tool_choice="none", response_format=SCHEMA)["tool_choice"]
        assert only["name"] == "respond_with_json_city"

    def test_one_that_thinks_is_not_forced(self):
        thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
        alone = {"type": "auto", "disable_parallel_tool_use": True}
        assert sent(response_format=SCHEMA, options=thinking)["tool_choice"] == alone
        beside = sent(tools=[TOOL], response_format=SCHEMA, options=thinking)["tool_choice"]
        assert beside == {"type": "auto"}
        off = {"thinking": {"type": "disabled"}}
        assert sent(response_format=SCHEMA, options=off)["tool_choice"]["type"] == "tool"

    @pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-sonnet-5-5", "claude-fable-5-1"])
    def test_one_that_cannot_be_forced_is_asked(self, model):
        assert sent(model=model, response_format=SCHEMA)["tool_choice"]["type"] == "auto"
        assert sent(model=model, tools=[TOOL], response_format=SCHEMA)["tool_choice"] == {"type": "auto"}
        assert sent(model="claude-opus-5", response_format=SCHEMA)["tool_choice"]["type"] == "tool"

    def test_prompt_cache(self):
        assert sent(prompt_cache={"key": "k", "retention": "short"})["cache_control"] == {"type": "ephemeral"}
        long = sent(prompt_cache={"key": None, "retention": "long"})["cache_control"]
        assert long == {"type": "ephemeral", "ttl": "1h"}


class TestDecode:
    def test_what_a_block_began_with_stays_in_what_goes_back(self):
        thought = begun(0, type="thinking", thinking="Let me ", signature="")
        more_of_it = more(0, type="thinking_delta", thinking="see")
        signed = more(0, type="signature_delta", signature="S")
        text = begun(1, type="text", text="Hello ")
        rest = more(1, type="text_delta", text="world")
        message = stream(START, thought, more_of_it, signed, text, rest, ended(), STOP)[-1].message
        assert sent(user("hi"), message)["messages"][1]["content"] == [
            {"type": "thinking", "thinking": "Let me see", "signature": "S"},
            {"type": "text", "text": "Hello world"},
        ]

    def test_a_text_of_nothing_beside_a_thought_is_not_kept(self):
        blocks = [begun(0, **THOUGHT), begun(1, type="text", text="")]
        message = stream(START, *blocks, ended(), STOP)[-1].message
        assert message.metadata["provider_state"]["anthropic"] == [THOUGHT]

    @pytest.mark.parametrize("changed", [[{"type": "thinking_dropped", "path": "messages.1.content.0"}], []])
    def test_thoughts_that_the_server_left_out_are_told(self, changed):
        start = {**START, "message": {**START["message"], "input_transformations": changed}}
        told = stream(start, begun(0, type="text", text="so"), ended(), STOP)[-1].metadata
        assert told.get("input_transformations") == (changed or None)

    def test_the_first_counts_are_told_at_once_and_what_was_told_is_not_told_again(self):
        events = stream(START, begun(0, type="text", text="so"), ended(), STOP)
        counts = [(at, e.payload[1]) for at, e in enumerate(events) if isinstance(e, RawChunk)]
        (first, told), (_, last) = counts
        assert (first, told["input_tokens"], last["output_tokens"]) == (0, 3, 2)
        cut = stream(START, begun(0, type="text", text="so"))
        assert [type(event).__name__ for event in cut] == ["RawChunk", "TextDelta", "ErrorEvent"]

    @pytest.mark.parametrize("shown", ["Let me see", ""])
    def test_thinking_begins_also_if_none_of_it_is_told(self, shown):
        thought = begun(0, type="thinking", thinking="", signature="")
        told = [
            more(0, type="thinking_delta", thinking=shown),
            more(0, type="signature_delta", signature="S"),
        ]
        redacted = begun(1, type="redacted_thinking", data="x")
        payloads = raw(stream(START, thought, *told, redacted, ended(), STOP))
        deltas = [("thinking_delta", {"index": 0, "delta": shown})] if shown else []
        assert payloads == [("thinking_start", {"index": 0}), *deltas]

    def test_an_event_that_nobody_knows_is_passed_on(self):
        new = {"type": "weather", "city": "Zürich", "delta": {"type": "sun"}}
        odd = {"type": "gust", "index": "first"}
        stop = {"type": "content_block_stop", "index": 0}
        said = begun(0, type="text", text="so")
        events = stream(START, new, {"type": "ping"}, said, odd, stop, ended(), STOP)
        assert raw(events) == [("unknown_event", "weather", new), ("unknown_event", "gust", odd)]
        assert (events[-1].message.content, events[-1].finish_reason) == ("so", "stop")
        named = b'event: storm\ndata: {"of": 1}\n\n'
        assert raw(DIALECT.decoder(ROW).feed(named)) == [("unknown_event", "storm", {"of": 1})]
        assert DIALECT.decoder(ROW).feed(b'data: {"of": 1}\n\ndata: \n\n') == []

    def test_input_that_comes_with_the_blocks_beginning(self):
        block = begun(0, type="tool_use", id="1", name="look", input={"x": 1})
        events = stream(START, block, ended("tool_use"), STOP)
        assert [e.arguments for e in events if isinstance(e, ToolCallCompleted)] == [{"x": 1}]

    def test_input_that_comes_again_in_pieces_is_not_told_twice(self):
        block = begun(0, type="tool_use", id="1", name="look", input={"x": 1})
        again = more(0, type="input_json_delta", partial_json='{"x": 1}')
        events = stream(START, block, again, ended("tool_use"), STOP)
        assert [e.arguments for e in events if isinstance(e, ToolCallCompleted)] == [{"x": 1}]

    def test_a_structure_is_text_and_no_call(self):
        block = begun(1, type="tool_use", id="1", name="respond_with_json_city", input={})
        half = more(1, type="input_json_delta", partial_json='{"a":')
        rest = more(1, type="input_json_delta", partial_json="1}")
        said = begun(0, type="text", text="Here:")
        last = stream(START, said, block, half, rest, ended("tool_use"), STOP)[-1]
        assert isinstance(last, MessageCompleted)
        assert (last.finish_reason, last.message.content, last.message.tool_calls) == ("stop", '{"a":1}', [])
        assert last.metadata["structured_output_tool"] is True

    @pytest.mark.parametrize("whole", [True, False])
    def test_of_two_structures_the_first_is_the_answer_and_neither_is_a_call(self, whole):
        blocks = [{**STRUCTURE, "input": {"a": 1}}, {**STRUCTURE, "id": "2", "input": {"b": 2}}]
        if whole:
            body = {**START["message"], "type": "message", "content": blocks, "stop_reason": "tool_use"}
            events = DIALECT.decode_body(json.dumps(body).encode(), ROW)
        else:
            told = (
                each
                for at, block in enumerate(blocks)
                for each in (
                    begun(at, **{**block, "input": {}}),
                    more(at, type="input_json_delta", partial_json=json.dumps(block["input"])),
                )
            )
            events = stream(START, *told, ended("tool_use"), STOP)
        last = events[-1]
        assert json.loads(last.message.content) == {"a": 1}
        assert (
            "".join(event.delta for event in events if isinstance(event, TextDelta)) == last.message.content
        )
        assert (last.finish_reason, last.message.tool_calls, last.message.metadata) == ("stop", [], {})

    @pytest.mark.parametrize(
        ("before", "after"),
        [([], []), ([TEXT], []), ([], [{"type": "tool_use", "id": "c", "name": "look", "input": {"x": 1}}])],
        ids=["alone", "beside a text", "before a call"],
    )
    def test_a_structure_that_was_thought_about_goes_back_as_text(self, before, after):
        blocks = [THOUGHT, *before, {**STRUCTURE, "input": {"a": 1}}, *after]
        events = stream(
            START, *(begun(at, **block) for at, block in enumerate(blocks)), ended("tool_use"), STOP
        )
        messages = sent(user("a"), events[-1].message, user("b"))["messages"]
        told = {"type": "text", "text": '{"a":1}'}
        assert messages[1]["content"] == [THOUGHT, *before, told, *after]

    def test_a_structure_that_was_cut_off_says_so_and_keeps_what_there_is(self):
        block = begun(0, type="tool_use", id="1", name="respond_with_json_city", input={})
        half = more(0, type="input_json_delta", partial_json='{"a":')
        last = stream(START, block, half, ended("max_tokens"), STOP)[-1]
        assert (last.finish_reason, last.message.content) == ("length", '{"a":')

    @pytest.mark.parametrize("whole", [True, False])
    @pytest.mark.parametrize("fragments", [[], [""], [" ", "\n"]])
    @pytest.mark.parametrize(
        ("stop", "text", "finish"),
        [("tool_use", "{}", "stop"), ("max_tokens", "", "length"), ("refusal", "", "content_filter")],
    )
    def test_a_structure_without_a_word_is_an_empty_object_unless_it_was_cut_off(
        self, stop, text, finish, fragments, whole
    ):
        if whole:
            body = {**START["message"], "type": "message", "content": [STRUCTURE], "stop_reason": stop}
            events = DIALECT.decode_body(json.dumps(body).encode(), ROW)
        else:
            told = [more(0, type="input_json_delta", partial_json=each) for each in fragments]
            events = stream(START, begun(0, **STRUCTURE), *told, ended(stop), STOP)
        last = events[-1]
        assert (last.message.content.strip(), last.finish_reason) == (text, finish)
        assert "".join(e.delta for e in events if isinstance(e, TextDelta)) == last.message.content

    def test_usage_counts_what_the_cache_had(self):
        usage = stream(START, ended(cache_read_input_tokens=10, cache_creation_input_tokens=5), STOP)[
            -1
        ].metadata["usage"]
        assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (18, 2, 20)
        assert (usage.cached_input_tokens, usage.cache_write_input_tokens) == (10, 5)

    def test_a_count_that_is_told_as_none_later_is_the_one_that_was_told_first(self):
        usage = stream(START, ended(input_tokens=None), STOP)[-1].metadata["usage"]
        assert (usage.input_tokens, usage.output_tokens) == (3, 2)

    @pytest.mark.parametrize(
        ("kind", "reason"),
        [
            ("overloaded_error", "provider_unavailable"),
            ("rate_limit_error", "rate_limited"),
            ("api_error", "provider_unavailable"),
            ("authentication_error", "authentication_failed"),
            ("invalid_request_error", "invalid_request"),
            ("something_new", "unknown"),
        ],
    )
    def test_an_error_in_the_stream(self, kind, reason):
        error = {"type": "error", "error": {"type": kind, "message": "it says"}}
        last = stream(START, begun(0, type="text", text="so"), error)[-1]
        assert isinstance(last, ErrorEvent)
        assert (last.error.reason, last.error.provider) == (reason, "anthropic")
        assert "it says" in last.error.message

    def test_the_end_before_the_stop_is_an_error(self):
        last = stream(START, begun(0, type="text", text="so"), ended())[-1]
        known = {"partial": True, "response_id": "m", "model": "claude"}
        assert (last.error.reason, last.error.metadata) == ("network_error", known)

    @pytest.mark.parametrize(
        ("status", "words", "reason"),
        [
            (400, "prompt is too long: 200001 tokens > 200000 maximum", "context_length_exceeded"),
            (400, "max_tokens: Field required", "invalid_request"),
            (404, "model: nope", "invalid_request"),
            (413, "Request exceeds the maximum size", "invalid_request"),
            (529, "Overloaded", "provider_unavailable"),
        ],
    )
    def test_a_refusal(self, status, words, reason):
        body = json.dumps({"type": "error", "error": {"type": "x", "message": words}}).encode()
        failure = HttpAnswer(status=status, headers={"request-id": "req_1"}, body=body)
        error = DIALECT.decode_error(failure, ROW)
        assert (error.reason, error.status) == (reason, status)
        assert error.metadata["provider_request_id"] == "req_1"


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("Weather Report", "respond_with_json_Weather_Report"),
        ("a.b/c", "respond_with_json_a_b_c"),
        ("city", "respond_with_json_city"),
        ("x" * 200, "respond_with_json_" + "x" * 110),
    ],
)
def test_a_structure_of_any_name_is_a_tool_whose_name_may_be_sent(name, tool):
    body = sent(response_format={**SCHEMA, "name": name})
    assert body["tools"][0]["name"] == body["tool_choice"]["name"] == tool


@pytest.mark.parametrize("wanted", ["city", "x" * 200])
@pytest.mark.parametrize("raw", [True, False], ids=["in the provider's words", "in ours"])
def test_a_users_tool_may_be_called_as_the_one_for_a_structure_would_be(wanted, raw):
    """Then that one has another name; and each call is told from the other, streamed or not."""
    shown, own = {**SCHEMA, "name": wanted}, []
    for _ in range(3):
        given = {"options": {"tools": [{"name": name} for name in own]}}
        if not raw:
            given = {"tools": [msgspec.structs.replace(TOOL, name=name) for name in own]}
        *others, ours = (tool["name"] for tool in sent(response_format=shown, **given)["tools"])
        assert others == own
        assert len(ours) <= 128
        dialect = DIALECT.answering(Request(messages=[user("hi")], response_format=shown, **given), [])
        for name in (*own, ours):
            block = {**STRUCTURE, "name": name, "input": {"a": 1}}
            body = {**START["message"], "type": "message", "content": [block], "stop_reason": "tool_use"}
            whole = dialect.decode_body(json.dumps(body).encode(), ROW)
            streamed = stream(START, begun(0, **block), ended("tool_use"), STOP, dialect=dialect)
            for events in (whole, streamed):
                called = [call.name for call in events[-1].message.tool_calls]
                assert called == [name] * (name != ours)
        own.append(ours)


@pytest.mark.parametrize(
    "begun",
    [
        {"text": "Once upon "},
        {"text": "Once upon ", "provider_state": {"anthropic": [{"type": "text", "text": "Once upon "}]}},
    ],
)
def test_an_answer_that_the_model_goes_on_with_does_not_end_with_white_space(begun):
    assert "Once upon" in (flat(sent(user("a story"), answer(**begun))["messages"][-1]["content"]))
    assert not flat(sent(user("a story"), answer(**begun))["messages"][-1]["content"]).endswith(" ")
    middle = sent(user("a story"), answer(**begun), user("go on"))["messages"][1]["content"]
    assert flat(middle) == "Once upon ", "elsewhere it is sent as it was said"


def flat(content):
    return content if isinstance(content, str) else "".join(block["text"] for block in content)
