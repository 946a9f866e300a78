"""Every dialect meets a hostile network and a hostile server.

The streams are those of `tests/exchanges`, one for each dialect, changed in every way: a dialect that has none fails.
"""

import functools
import itertools
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.data import (
    ErrorEvent,
    Message,
    MessageCompleted,
    RawChunk,
    Request,
    TextDelta,
    ToolCall,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallStarted,
)
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects import find_dialect
from allm_actors.engine.routes import dialects_of
from tests.conformance import aws_frames

EXCHANGES = Path(__file__).parents[2] / "exchanges"
ROWS = {dialect: row for row in reversed(PROVIDERS.values()) for dialect in dialects_of(row)}
UNNAMED = ("cohere",)  # whose wire does not say which model answers
CITIES = [("weather", {"city": "Zürich"}), ("weather", {"city": "東京"})]

every_dialect = pytest.mark.parametrize("dialect", sorted(ROWS))

texts = st.text(max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats(allow_nan=True) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@functools.cache
def sample(dialect):
    return next(EXCHANGES.glob(f"{dialect}.*")).read_bytes()


def is_binary(dialect):
    return next(EXCHANGES.glob(f"{dialect}.*")).suffix == ".bin"


def frames(dialect):
    """The sample in pieces that end where events do."""
    stream = sample(dialect)
    if is_binary(dialect):
        return aws_frames.split(stream)
    mark = b"\n\n" if b"\n\n" in stream else b"\n"
    return [piece + mark for piece in stream.split(mark) if piece]


def framed(dialect, payload):
    """An event with this payload, whatever it is."""
    if is_binary(dialect):
        return aws_frames.event("contentBlockDelta", payload)
    return b"data: " + payload + b"\n\n"


def decode(dialect, stream, places=(), conversation=()):
    known = find_dialect(dialect).answering(Request(messages=[]), conversation)
    decoder = known.decoder(ROWS[dialect])
    cuts = sorted({min(place, len(stream)) for place in places} | {0, len(stream)})
    events = [event for a, b in itertools.pairwise(cuts) for event in decoder.feed(stream[a:b])]
    return events + decoder.end()


def assert_lawful(events):
    finals = [event for event in events if isinstance(event, ErrorEvent | MessageCompleted)]
    assert finals == events[-1:]
    if isinstance(events[-1], ErrorEvent):
        assert not any(isinstance(event, ToolCallCompleted) for event in events)
    started = [event.id for event in events if isinstance(event, ToolCallStarted)]
    assert len(started) == len(set(started))
    for event in events:
        match event:
            case TextDelta(delta=delta):
                assert delta
            case ToolCallDelta(id=call_id, arguments_delta=fragment):
                assert fragment
                assert call_id in started
            case ToolCallCompleted(id=call_id, name=name):
                assert call_id in started
                assert name
            case _:
                pass


@every_dialect
def test_the_answer_is_what_it_is(dialect):
    events = decode(dialect, sample(dialect))
    assert_lawful(events)
    last = events[-1]
    assert isinstance(last, MessageCompleted)
    assert last.finish_reason == "tool_calls"
    assert last.message.content == "Let me look at Zürich and 東京.\u2028"
    assert [(call.name, call.arguments) for call in last.message.tool_calls] == CITIES
    usage = last.metadata["usage"]
    assert usage.output_tokens == 13
    assert last.metadata.get("model") == (None if dialect in UNNAMED else "m-1")
    thoughts = [
        e.payload[1]["delta"] for e in events if isinstance(e, RawChunk) and e.payload[0] == "thinking_delta"
    ]
    assert "".join(thoughts) == "Two cities…"


@every_dialect
@given(data=st.data())
def test_any_chunking_gives_the_same_events(dialect, data):
    stream = sample(dialect)
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    assert decode(dialect, stream, places) == decode(dialect, stream)


@every_dialect
@given(data=st.data())
def test_the_ids_of_one_conversations_calls_are_unique(dialect, data):
    """A provider may number its calls anew in each answer, and the ids of another provider may be like its own."""
    own = [call.id for call in decode(dialect, sample(dialect))[-1].message.tool_calls]
    like = st.sampled_from(own) | st.builds("{}_{}".format, st.sampled_from(own), st.integers(0, 4)) | texts
    calls = [
        ToolCall(id=each, name="weather", arguments={}) for each in data.draw(st.lists(like, max_size=4))
    ]
    conversation = [Message(role="assistant", content="", metadata={"tool_calls": calls})]
    late = data.draw(like)  # for a call that was removed
    conversation.append(Message(role="tool", content="21", tool_call_id=late))
    taken = {late, *(call.id for call in calls)}
    for _ in range(3):
        places = data.draw(st.lists(st.integers(0, len(sample(dialect))), max_size=4))
        events = decode(dialect, sample(dialect), places, conversation)
        assert_lawful(events)
        message = events[-1].message
        ids = [call.id for call in message.tool_calls]
        assert ids == [event.id for event in events if isinstance(event, ToolCallStarted)]
        assert len(set(ids)) == 2
        assert taken.isdisjoint(ids)
        assert all(id == before or before in taken for id, before in zip(ids, own, strict=True))
        assert [(call.name, call.arguments) for call in message.tool_calls] == CITIES
        conversation.append(message)
        taken |= set(ids)


@every_dialect
@given(data=st.data())
def test_a_flipped_byte_or_dropped_ones_never_break_the_rules(dialect, data):
    stream = sample(dialect)
    place = data.draw(st.integers(0, len(stream) - 1))
    if data.draw(st.booleans()):
        there, rest = bytes([stream[place] ^ data.draw(st.integers(1, 255))]), stream[place + 1 :]
    else:
        there, rest = b"", stream[place + data.draw(st.integers(1, 400)) :]
    assert_lawful(decode(dialect, stream[:place] + there + rest))


@every_dialect
@given(data=st.data())
def test_events_dropped_repeated_and_out_of_order_never_break_the_rules(dialect, data):
    pieces = frames(dialect)
    picked = data.draw(st.lists(st.integers(0, len(pieces) - 1), max_size=2 * len(pieces)))
    assert_lawful(decode(dialect, b"".join(pieces[index] for index in picked)))


@every_dialect
@given(data=st.data())
def test_values_of_any_kind_anywhere_never_break_the_rules(dialect, data):
    pieces = frames(dialect)
    for index in data.draw(st.sets(st.integers(0, len(pieces) - 1), min_size=1, max_size=3)):
        pieces[index] = _changed_in(dialect, pieces[index], data)
    places = data.draw(st.lists(st.integers(0, 2000), max_size=4))
    whole = decode(dialect, b"".join(pieces))
    assert_lawful(whole)
    assert repr(decode(dialect, b"".join(pieces), places)) == repr(whole)  # by text: NaN differs from itself


@every_dialect
@given(stream=st.binary(max_size=300))
def test_any_bytes_end_in_one_final_event(dialect, stream):
    assert_lawful(decode(dialect, stream))
    assert_lawful(decode(dialect, framed(dialect, stream)))


@every_dialect
@given(body=st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_whole_body_ends_in_one_final_event(dialect, body):
    assert_lawful(find_dialect(dialect).decode_body(body, ROWS[dialect]))


@every_dialect
def test_deep_nesting_is_an_error_event_and_not_a_crash(dialect):
    for payload in (b"[" * 100_000, b'{"x":' * 100_000, b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"):
        assert isinstance(decode(dialect, framed(dialect, payload))[-1], ErrorEvent)


@every_dialect
def test_work_is_linear_in_the_number_of_events(dialect):
    piece = next(piece for piece in frames(dialect) if "Zürich ".encode() in piece)
    before = sample(dialect)[: sample(dialect).index(piece)]

    def seconds(count):
        decoder = find_dialect(dialect).decoder(ROWS[dialect])
        decoder.feed(before)
        started = time.process_time()
        for _ in range(count):
            decoder.feed(piece)
        decoder.end()
        return time.process_time() - started

    # Quadratic work would make this factor 64, every time; the slack and the tries are for a busy machine.
    assert any(seconds(16_000) < 24 * seconds(2_000) for _ in range(5))


def _changed_in(dialect, piece, data):
    if not is_binary(dialect):
        return _changed(piece, data)
    headers, payload = aws_frames.read(piece)
    return aws_frames.frame(headers, _changed(payload, data))


def _changed(piece, data):
    """The event with one value, somewhere in it, replaced by any other."""
    head, mark, tail = piece.partition(b"{")
    body, end, rest = tail.rpartition(b"}")
    if not mark or not end:
        return piece
    try:
        value = json.loads(mark + body + end)
    except ValueError:
        return piece
    holder = value
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            return piece
        key = data.draw(st.sampled_from(keys))
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            holder[key] = data.draw(json_values)
            return head + json.dumps(value).encode() + rest
        holder = inner
