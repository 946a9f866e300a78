"""Chunks become events: the cases that recordings do not have."""

import json

import pytest

from allm_actors.data import (
    AdapterError,
    ErrorEvent,
    MessageCompleted,
    RawChunk,
    StreamError,
    TextCompleted,
    TextDelta,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects.histories import made_of
from allm_actors.engine.dialects.openai.chat import Decoder
from allm_actors.engine.dialects.openai.wire import merge_details, usage_fields

DONE = b"data: [DONE]\n\n"


def delta(finish=None, **fields):
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def fragment(index=0, id=None, name=None, arguments=None):
    return {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}


def decode(*chunks, done=True, provider="openai"):
    stream = b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks) + (
        DONE if done else b""
    )
    decoder = Decoder(PROVIDERS[provider])
    return decoder.feed(stream) + decoder.end()


def kinds(events):
    return [type(event) for event in events]


def test_text_usage_and_what_is_known_of_the_answer():
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    first = delta(content="Hel") | {"id": "r", "model": "m", "usage": None}
    events = decode(first, delta(content="lo"), delta("stop"), {"choices": [], "usage": usage})
    assert events[:-1] == [
        TextDelta("Hel"),
        TextDelta("lo"),
        RawChunk(("usage", {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8})),
        TextCompleted("Hello"),
    ]
    last = events[-1]
    assert (last.message.role, last.message.content, last.finish_reason) == ("assistant", "Hello", "stop")
    assert last.metadata == {
        "id": "r",
        "model": "m",
        "raw_finish_reason": "stop",
        "usage": Usage(input_tokens=3, output_tokens=5, total_tokens=8),
    }


def test_a_call_starts_when_its_id_and_name_are_known():
    events = decode(
        delta(tool_calls=[fragment(arguments='{"a"')]),
        delta(tool_calls=[fragment(id="c", arguments=":")]),
        delta(tool_calls=[fragment(name="f", arguments="1")]),
        delta(tool_calls=[fragment(arguments="}")]),
        delta("tool_calls"),
    )
    assert events[:-1] == [
        ToolCallStarted("c", "f"),
        ToolCallDelta("c", '{"a":1'),
        ToolCallDelta("c", "}"),
        ToolCallCompleted("c", "f", {"a": 1}, '{"a":1}'),
    ]
    assert events[-1].message.tool_calls[0].arguments == {"a": 1}


def test_parallel_calls_may_interleave():
    events = decode(
        delta(tool_calls=[fragment(0, "a", "f", ""), fragment(1, "b", "g", "")]),
        delta(tool_calls=[fragment(1, arguments="{}")]),
        delta(tool_calls=[fragment(0, arguments='{"x":0}')]),
        delta("tool_calls"),
    )
    done = [(e.id, e.name, e.arguments) for e in events if isinstance(e, ToolCallCompleted)]
    assert done == [("a", "f", {"x": 0}), ("b", "g", {})]


def test_calls_without_an_index_or_with_the_same_one_are_told_apart_by_id():
    for index in (None, 0):
        events = decode(
            delta(tool_calls=[fragment(index, "a", "f", "{}"), fragment(index, "b", "f", '{"n":2}')]),
            delta("tool_calls"),
        )
        assert [(e.id, e.arguments) for e in events if isinstance(e, ToolCallCompleted)] == [
            ("a", {}),
            ("b", {"n": 2}),
        ]


def test_a_call_that_repeats_its_id_with_each_fragment_is_one_call():
    events = decode(
        *[delta(tool_calls=[fragment(0, "a", "f", part)]) for part in ("{", "}")], delta("tool_calls")
    )
    assert [(e.id, e.raw_arguments) for e in events if isinstance(e, ToolCallCompleted)] == [("a", "{}")]


def test_another_id_without_a_name_is_no_other_call():
    parts = [fragment(0, "a", "f", '{"x"'), fragment(0, "b", None, ": 1}")]
    events = decode(*[delta(tool_calls=[part]) for part in parts], delta("tool_calls"))
    assert [e.arguments for e in events if isinstance(e, ToolCallCompleted)] == [{"x": 1}]


def test_calls_with_the_same_id_get_ids_of_their_own():
    events = decode(
        delta(tool_calls=[fragment(0, "a", "f", "{}"), fragment(1, "a", "g", "{}")]), delta("tool_calls")
    )
    first, second = [e for e in events if isinstance(e, ToolCallCompleted)]
    assert first.id == "a"
    assert second.id != "a"


def test_a_call_without_an_id_gets_one():
    events = decode(delta(tool_calls=[fragment(0, None, "f", "{}")]) | {"id": "r"}, delta("tool_calls"))
    assert kinds(events) == [ToolCallStarted, ToolCallDelta, ToolCallCompleted, MessageCompleted]
    assert events[0].id == events[2].id == "call_r_0"


def test_a_call_without_a_name_is_an_error():
    (event,) = decode(delta(tool_calls=[fragment(0, "a", None, "{}")]), delta("tool_calls"))
    assert event.error.reason == "malformed_response"


@pytest.mark.parametrize(
    ("raw", "finish", "why"),
    [
        ("[1]", "tool_calls", "an array"),
        ('"x"', "tool_calls", "a string"),
        ("12", "tool_calls", "a number"),
        ("null", "tool_calls", "null"),
        ('{"a":', "tool_calls", "not valid JSON"),
        ('{"a":' * 65 + "1" + "}" * 65, "tool_calls", "nested more than 64 levels deep"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "tool_calls", "nested more than 64 levels deep"),
        ('{"a":', "length", "cut off"),
        (None, "length", "cut off"),
    ],
)
def test_arguments_that_are_no_object_are_flagged_and_kept(raw, finish, why):
    events = decode(delta(tool_calls=[fragment(0, "a", "f", raw)]), delta(finish))
    completed = next(e for e in events if isinstance(e, ToolCallCompleted))
    assert (completed.arguments, completed.raw_arguments) == ({}, raw or "")
    assert why in completed.metadata["arguments_error"]
    assert events[-1].message.tool_calls[0].metadata == completed.metadata


def test_arguments_may_be_nested():
    raw = '{"a":' * 64 + "1" + "}" * 64
    events = decode(delta(tool_calls=[fragment(0, "a", "f", raw)]), delta("tool_calls"))
    completed = next(e for e in events if isinstance(e, ToolCallCompleted))
    assert (completed.arguments, completed.metadata) == (json.loads(raw), {})


def test_no_arguments_at_all_are_no_arguments():
    events = decode(delta(tool_calls=[fragment(0, "a", "f", "")]), delta("tool_calls"))
    completed = next(e for e in events if isinstance(e, ToolCallCompleted))
    assert (completed.arguments, completed.metadata) == ({}, {})


def test_arguments_that_came_as_an_object_are_written_as_text():
    events = decode(delta(tool_calls=[fragment(0, "a", "f", {"n": 1})]), delta("tool_calls"))
    assert next(e for e in events if isinstance(e, ToolCallCompleted)).raw_arguments == '{"n":1}'


def test_calls_that_finish_with_stop_are_calls():
    last = decode(delta(tool_calls=[fragment(0, "a", "f", "{}")]), delta("stop"))[-1]
    assert (last.finish_reason, last.metadata["raw_finish_reason"]) == ("tool_calls", "stop")


@pytest.mark.parametrize(
    ("wire", "ours"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("model_length", "length"),
        ("function_call", "tool_calls"),
        ("model_context_window_exceeded", "length"),
        ("odd", "other"),
    ],
)
def test_finish_reasons(wire, ours):
    last = decode(delta(content="x"), delta(wire))[-1]
    assert (last.finish_reason, last.metadata["raw_finish_reason"]) == (ours, wire)


def test_done_without_a_finish_reason_has_none():
    last = decode(delta(content="x"))[-1]
    assert last.finish_reason is None
    assert "raw_finish_reason" not in last.metadata


def test_the_end_after_a_finish_reason_is_success():
    assert kinds(decode(delta(content="x"), delta("stop"), done=False)) == [
        TextDelta,
        TextCompleted,
        MessageCompleted,
    ]


def test_the_end_before_a_finish_reason_is_an_error():
    events = decode(
        delta(content="x", tool_calls=[fragment(0, "a", "f", "{}")]),
        {"usage": {"total_tokens": 1}},
        done=False,
    )
    assert kinds(events) == [TextDelta, ToolCallStarted, ToolCallDelta, RawChunk, ErrorEvent]
    error = events[-1].error
    assert (type(error), error.reason, error.metadata) == (AdapterError, "network_error", {"partial": True})


def test_a_refusal_is_a_content_filter_with_its_words():
    last = decode(delta(refusal="I can"), delta(refusal="not."), delta("stop"))[-1]
    assert (last.finish_reason, last.metadata["raw_finish_reason"]) == ("content_filter", "refusal")
    assert (last.metadata["refusal"], last.message.content) == ("I cannot.", "")


@pytest.mark.parametrize("finish", ["content_filter", "sensitive"])
def test_a_content_filter_waits_for_the_usage_and_is_an_error(finish):
    events = decode(delta(content="x"), delta(finish), {"choices": [], "usage": {"total_tokens": 4}})
    assert kinds(events) == [TextDelta, RawChunk, ErrorEvent]
    assert events[-1].error.reason == "content_filter"


@pytest.mark.parametrize("finish", ["error", "insufficient_system_resource", "network_error"])
def test_an_answer_that_was_broken_off_is_an_error(finish):
    error = decode(delta(content="x"), delta(finish))[-1].error
    assert (error.reason, error.metadata["partial"]) == ("provider_unavailable", True)


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        ({"message": "m", "code": "rate_limit_exceeded"}, "rate_limited"),
        ({"message": "m", "code": 502}, "provider_unavailable"),
        ({"message": "m", "code": "429"}, "rate_limited"),
        ({"message": "m", "type": "server_error"}, "provider_unavailable"),
        ({"message": "m", "code": "context_length_exceeded"}, "context_length_exceeded"),
        ({"message": "m", "type": "invalid_request_error", "status_code": 400}, "invalid_request"),
        ({"message": "m", "code": "content_policy_violation"}, "content_filter"),
        ({"message": "m"}, "unknown"),
        ("m", "unknown"),
        (["m"], "unknown"),
    ],
)
def test_an_error_object_inside_a_stream_ends_it(wire, reason):
    events = decode(delta(content="x"), {"error": wire}, delta(content="never"), delta("stop"))
    assert kinds(events) == [TextDelta, ErrorEvent]
    assert events[-1].error.reason == reason


def test_groqs_own_field_carries_usage_and_errors():
    events = decode(delta("stop") | {"x_groq": {"usage": {"prompt_tokens": 2}}})
    assert events[-1].metadata["usage"] == Usage(input_tokens=2)
    events = decode({"x_groq": {"error": "over capacity"}})
    assert "over capacity" in events[-1].error.message


def test_usage_in_its_usual_place_goes_before_groqs_own():
    both = {"usage": {"prompt_tokens": 3}, "x_groq": {"usage": {"prompt_tokens": 9}}}
    assert decode(delta("stop") | both)[-1].metadata["usage"] == Usage(input_tokens=3)


@pytest.mark.parametrize("payload", [b"not json", b"[1]", b"12", b"{", b"null"])
def test_what_is_no_json_object_is_malformed(payload):
    decoder = Decoder(PROVIDERS["openai"])
    (event,) = decoder.feed(b"data: " + payload + b"\n\n")
    assert (type(event.error), event.error.reason) == (StreamError, "malformed_event")
    assert decoder.feed(DONE) == decoder.end() == []


def test_an_event_that_is_too_large_is_malformed():
    decoder = Decoder(PROVIDERS["openai"])
    decoder._frames.max_event_bytes = 100
    (event,) = decoder.feed(b"data: " + b"x" * 200)
    assert event.error.reason == "malformed_event"
    assert "100 bytes" in event.error.message


def test_fields_of_an_unexpected_kind_count_as_missing():
    odd = {
        "id": 7,
        "choices": [{"index": "0", "delta": {"content": "ok", "tool_calls": {"a": 1}}, "finish_reason": 1}],
        "usage": [],
    }
    assert decode(odd, delta("stop"))[0] == TextDelta("ok")
    assert decode({"choices": 3}, {"choices": [None, 4]}, delta("stop"))[-1].finish_reason == "stop"


def test_only_the_first_answer_is_read():
    other = {"choices": [{"index": 1, "delta": {"content": "other"}, "finish_reason": "length"}]}
    events = decode(delta(content="mine"), other, delta("stop"), other)
    assert (events[-1].message.content, events[-1].finish_reason) == ("mine", "stop")


def test_reasoning_is_told_apart_from_text():
    events = decode(delta(reasoning_content="hm"), delta(reasoning="m"), delta(content="x"), delta("stop"))
    told = [RawChunk(("thinking_delta", {"index": 0, "delta": part})) for part in ("hm", "m")]
    assert events[:3] == [RawChunk(("thinking_start", {"index": 0})), *told]
    assert (events[-1].message.content, events[-1].metadata["reasoning"]) == ("x", {"text": "hmm"})


THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "hmm"}], "closed": True}


def thinking(text, **fields):
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}], **fields}


def kept(events):
    return events[-1].message.metadata.get("provider_state", {}).get("openai_chat")


def test_mistrals_thoughts_are_kept_among_the_parts_of_the_answer():
    pieces = [[thinking("h", closed=False)], [thinking("mm", closed=True), {"type": "text", "text": "The "}]]
    events = decode(
        *(delta(content=piece) for piece in ["", *pieces, "end"]), delta("stop"), provider="mistral"
    )
    assert events[-1].message.content == "The end"
    assert events[-1].metadata["reasoning"] == {"text": "hmm"}
    assert kept(events) == {"content": [THOUGHT, {"type": "text", "text": "The end"}]}


def test_a_thought_that_was_closed_is_not_joined_with_the_next_one():
    cite = {"type": "tool_reference", "tool": "web_search", "title": "t"}
    signed = [thinking("a", signature=None), {**thinking("b", signature="s", closed=True)}]
    cited = {
        "type": "thinking",
        "thinking": [{"type": "text", "text": "c"}, cite, {"type": "text", "text": "d"}],
    }
    events = decode(
        delta(content=[*signed, cited]),
        delta(content="x"),
        delta(content=[thinking("e")]),
        delta("stop"),
        provider="mistral",
    )
    first = {**thinking("ab", signature="s"), "closed": True}
    assert kept(events) == {"content": [first, cited, {"type": "text", "text": "x"}, thinking("e")]}


def test_content_without_thoughts_is_not_kept():
    reference = {"type": "reference", "reference_ids": [1]}
    parts = [{"type": "text", "text": "so"}, reference, 7]
    assert kept(decode(delta(content=parts), delta("stop"), provider="mistral")) is None
    assert kept(decode(delta(content=[thinking("a")]), delta("stop"), provider="groq")) is None


def test_usage_is_counts_and_the_rest_is_kept():
    wire = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0},
        "cost": 0.5,
        "queue_time": 0.1,
    }
    assert Usage(**usage_fields(wire)) == Usage(
        input_tokens=10,
        output_tokens=5,
        total_tokens=15,
        cached_input_tokens=4,
        cache_write_input_tokens=1,
        reasoning_tokens=2,
        total_cost=0.5,
        extra={"queue_time": 0.1, "prompt_tokens_details": {"audio_tokens": 0}},
    )
    odd = {"prompt_tokens": "x", "completion_tokens": True, "cost": 10**400}
    assert Usage(**usage_fields(odd)) == Usage()
    assert usage_fields({"prompt_cache_hit_tokens": 3})["cached_input_tokens"] == 3
    priced = {"cost": {"total_cost": 0.25, "request_cost": 0.2}}
    assert Usage(**usage_fields(priced)) == Usage(total_cost=0.25, extra=priced)
    assert usage_fields({"cached_tokens": 2})["cached_input_tokens"] == 2


def test_what_was_cached_is_what_the_details_say_if_they_do():
    told = {"prompt_tokens_details": {"cached_tokens": 3}, "cached_tokens": 5}
    assert usage_fields(told)["cached_input_tokens"] == 3


def test_usage_may_be_where_the_answer_is():
    finished = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": {"prompt_tokens": 3}}
    last = decode(delta(content="x"), {"choices": [finished]}, provider="moonshotai")[-1]
    assert last.metadata["usage"].input_tokens == 3


def test_what_was_searched_and_cited_is_kept():
    found = {
        "citations": ["https://y"],
        "search_results": [{"title": "t"}],
        "images": [],
        "related_questions": None,
    }
    last = decode(delta(content="x") | found, delta("stop"), provider="perplexity")[-1]
    assert last.metadata["citations"] == ["https://y"]
    assert last.metadata["search_results"] == [{"title": "t"}]
    assert not {"images", "related_questions"} & set(last.metadata)
    notes = [{"type": "url_citation", "url_citation": {"url": page}} for page in ("a", "b")]
    last = decode(*(delta(annotations=[note]) for note in notes), delta("stop"))[-1]
    assert last.metadata["citations"] == notes
    last = decode(
        delta(content="x", annotations=notes) | {"citations": "none"}, delta(annotations=notes), delta("stop")
    )[-1]
    assert last.metadata["citations"] == notes


def test_thoughts_are_kept_for_those_who_want_them_back():
    said = [delta(reasoning_content="hm"), delta(reasoning_content="m"), delta("stop", content="x")]
    kept = decode(*said, provider="deepseek")[-1].message.metadata["provider_state"]
    assert kept.pop("made_of") == made_of("x", [])
    assert kept == {"openai_chat": {"reasoning_content": "hmm"}, "made_by": ["deepseek", None]}
    assert "provider_state" not in decode(*said, provider="groq")[-1].message.metadata


def test_details_of_thoughts_are_put_together_from_their_pieces():
    def piece(**fields):
        return delta(reasoning_details=[{"type": "reasoning.text", "index": 0, **fields}])

    sealed = {"type": "reasoning.encrypted", "index": 1, "data": "x"}
    said = [
        piece(text="h", signature=None),
        piece(text="m"),
        piece(signature="s"),
        delta(reasoning_details=[sealed]),
    ]
    events = decode(*said, delta("stop"), provider="openrouter")
    assert events[-1].metadata["reasoning"] == {"text": "hm"}
    whole = {"type": "reasoning.text", "index": 0, "text": "hm", "signature": "s"}
    assert events[-1].message.metadata["provider_state"]["openai_chat"] == {
        "reasoning_details": [whole, sealed]
    }
    told = delta(reasoning="h", reasoning_details=[{"type": "reasoning.text", "text": "h"}])
    assert decode(told, delta("stop"))[-1].metadata["reasoning"] == {"text": "h"}


def test_what_a_later_piece_says_nothing_of_stays_as_it_was():
    pieces = [{"type": "t", "id": id, "text": text} for id, text in (("a", "x"), (None, "y"))]
    assert merge_details(pieces) == [{"type": "t", "id": "a", "text": "xy"}]


@pytest.mark.parametrize("id", [None, ""])
def test_calls_without_an_id_or_an_index_are_told_apart_by_where_one_ends(id):
    def of(name=None, arguments=None):
        return {"id": id, "function": {"name": name, "arguments": arguments}}

    chunks = [of("a", '{"x"'), of(None, ": 1}"), of("b", '{"y": 2}'), of("c", "{}")]
    events = decode(*[delta(tool_calls=[each]) for each in chunks], delta("tool_calls"), provider="llamacpp")
    calls = events[-1].message.tool_calls
    assert [(call.name, call.arguments) for call in calls] == [("a", {"x": 1}), ("b", {"y": 2}), ("c", {})]
    assert len({call.id for call in calls}) == 3


def test_calls_of_a_whole_answer_need_no_index():
    calls = [{"function": {"name": name, "arguments": "{}"}} for name in ("a", "a")]
    whole = {
        "choices": [{"message": {"role": "assistant", "tool_calls": calls}, "finish_reason": "tool_calls"}]
    }
    events = Decoder(PROVIDERS["llamacpp"]).body(json.dumps(whole).encode())
    assert [call.name for call in events[-1].message.tool_calls] == ["a", "a"]


def test_ids_that_come_again_in_one_answer_are_told_apart():
    calls = [{"index": at, "id": "c", "function": {"name": "f"}} for at in range(3)]
    told = decode(
        delta(tool_calls=[*calls, {"index": 3, "id": "c_1", "function": {"name": "f"}}]), delta("stop")
    )
    ids = [call.id for call in told[-1].message.tool_calls]
    assert ids[0] == "c"
    assert len(set(ids)) == 4


def test_counts_below_nothing_are_not_counts():
    usage = {"prompt_tokens": -5, "completion_tokens": 2, "total_tokens": -3}
    assert Usage(**usage_fields(usage)) == Usage(output_tokens=2)
