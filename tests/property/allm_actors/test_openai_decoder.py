"""The OpenAI decoder meets a hostile network and a hostile server."""

import itertools
import json
import time

from hypothesis import given
from hypothesis import strategies as st

from allm_actors.data import (
    ErrorEvent,
    MessageCompleted,
    TextDelta,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallStarted,
)
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects.openai_chat import Decoder

ROW = PROVIDERS["openai"]
texts = st.text(max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats(allow_nan=True) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
names = ("content", "tool_calls", "refusal", "reasoning_content", "reasoning")
deltas = st.fixed_dictionaries({}, optional=dict.fromkeys(names, json_values) | {"content": texts})
fragments = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 2) | json_values,
        "id": st.sampled_from(["a", "b", None, ""]) | json_values,
        "function": st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from(["f", None, ""]),
                "arguments": st.sampled_from(["{", "}", "[", None, ""]),
            },
        )
        | json_values,
    },
)
choices = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 1) | json_values,
        "delta": deltas
        | st.fixed_dictionaries({"tool_calls": st.lists(fragments, max_size=3)})
        | json_values,
        "finish_reason": st.sampled_from(
            ["stop", "length", "tool_calls", "content_filter", "error", "odd", None]
        )
        | json_values,
    },
)
chunks = st.fixed_dictionaries(
    {},
    optional={
        "id": st.just("r1") | json_values,
        "model": json_values,
        "choices": st.lists(choices, max_size=2) | json_values,
        "usage": st.fixed_dictionaries({}, optional={"prompt_tokens": json_values, "cost": json_values})
        | json_values,
        "error": json_values,
        "x_groq": json_values,
    },
)
payloads = st.one_of(
    chunks.map(lambda chunk: json.dumps(chunk).encode()),
    st.just(b"[DONE]"),
    json_values.map(lambda v: json.dumps(v).encode()),
)
streams = st.lists(payloads, max_size=8).map(
    lambda drawn: b"".join(b"data: %b\n\n" % payload for payload in drawn)
)


def decode(stream, places=()):
    decoder = Decoder(ROW)
    cuts = sorted({min(place, len(stream)) for place in places} | {0, len(stream)})
    events = [e for a, b in itertools.pairwise(cuts) for e in decoder.feed(stream[a:b])]
    return events + decoder.end()


def assert_lawful(events):
    errors = [event for event in events if isinstance(event, ErrorEvent)]
    finals = [event for event in events if isinstance(event, ErrorEvent | MessageCompleted)]
    assert finals == events[-1:]
    if errors:
        assert not any(isinstance(event, ToolCallCompleted) for event in events)
    started = [event.id for event in events if isinstance(event, ToolCallStarted)]
    assert len(started) == len(set(started))
    for event in events:
        if isinstance(event, TextDelta):
            assert event.delta
        if isinstance(event, ToolCallDelta):
            assert event.arguments_delta
            assert event.id in started
        if isinstance(event, ToolCallCompleted):
            assert event.id in started
            assert event.name


@given(streams, st.lists(st.integers(0, 2000), max_size=6))
def test_any_stream_ends_in_one_final_event_in_any_chunking(stream, places):
    whole = decode(stream)
    assert_lawful(whole)
    assert repr(decode(stream, places)) == repr(whole)  # by text: NaN differs from itself


@given(st.binary(max_size=300))
def test_any_bytes_end_in_one_final_event(stream):
    assert_lawful(decode(stream))
    assert_lawful(decode(b"data: " + stream + b"\n\n"))


GOOD = (
    b"".join(
        b"data: %b\n\n" % json.dumps(chunk, ensure_ascii=False).encode()
        for chunk in [
            {
                "id": "r",
                "model": "m",
                "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hé"}}],
            },
            {
                "choices": [
                    {
                        "delta": {
                            "tool_calls": [
                                {"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}
                            ]
                        }
                    }
                ]
            },
            {
                "choices": [
                    {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": "Zürich"}'}}]}}
                ]
            },
            {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]},
            {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}},
        ]
    )
    + b"data: [DONE]\n\n"
)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_flipped_byte_never_breaks_the_rules(place, mask):
    assert_lawful(decode(GOOD[:place] + bytes([GOOD[place] ^ mask]) + GOOD[place + 1 :]))


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 40))
def test_dropped_bytes_never_break_the_rules(place, count):
    assert_lawful(decode(GOOD[:place] + GOOD[place + count :]))


def test_deep_nesting_is_an_error_event_and_not_a_crash():
    for payload in (
        b"[" * 100_000,
        b'{"choices":' * 100_000,
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ):
        events = decode(b"data: " + payload + b"\n\n")
        assert isinstance(events[-1], ErrorEvent)


def test_work_is_linear_in_the_number_of_chunks():
    chunk = b'data: {"choices":[{"delta":{"content":"word "}}]}\n\n'

    def seconds(count):
        decoder = Decoder(ROW)
        started = time.process_time()
        for _ in range(count):
            decoder.feed(chunk)
        decoder.end()
        return time.process_time() - started

    # Quadratic work would make this factor 64, every time; the slack and the tries are for a busy machine.
    assert any(seconds(16_000) < 24 * seconds(2_000) for _ in range(5))
