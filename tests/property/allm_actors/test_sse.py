"""The SSE decoder against the specification read naively, in any chunking."""

import itertools
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.engine.sse import ServerEvent, SseDecoder

LINES = st.sampled_from(
    [
        *(b"data: {}", b"data:x", b"data: ", b"data", b"data:  two", b": ping", b"nonsense", b"", b"", b""),
        *(
            b"event: error",
            b"id: 7",
            b"retry: 30",
            b"retry: 0",
            b"retry: x",
            b"data: \xff\xfe",
            b"\xef\xbb\xbfdata: y",
        ),
        *(b"event: \xff", b"id: \xff"),
        "data: é\u2028\u0085\x0b€".encode(),
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.one_of(
    st.tuples(st.sampled_from([b"", b"\xef\xbb\xbf"]), st.lists(st.tuples(LINES, ENDS), max_size=30)).map(
        lambda drawn: drawn[0] + b"".join(line + end for line, end in drawn[1])
    ),
    st.tuples(st.lists(LINES, max_size=30), ENDS).map(lambda drawn: drawn[1].join(drawn[0])),
    st.binary(max_size=200),
)
CUTS = st.lists(st.integers(0, 400), max_size=12)


def cut(stream, cuts):
    places = sorted({min(place, len(stream)) for place in cuts} | {0, len(stream)})
    return [stream[a:b] for a, b in itertools.pairwise(places)]


def read_naively(stream: bytes) -> list[ServerEvent]:
    """The specification's algorithm over the whole stream: no chunks, no speed."""
    *lines, _unfinished = re.split(rb"\r\n|\n|\r", stream.removeprefix(b"\xef\xbb\xbf"))
    told, data, fields = [], [], {}
    for line in lines:
        if not line:
            if b"\n".join(data):
                told.append(ServerEvent(b"\n".join(data), **fields))
            data, fields = [], {}
            continue
        name, colon, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name in (b"event", b"id") and colon:
            fields[name.decode()] = value.decode("utf-8", "replace")
        elif name == b"retry" and re.fullmatch(rb"[0-9]+", value):
            fields["retry"] = int(value) or None  # the last one counts, and no time at all is none
    return told


@given(STREAMS, CUTS)
def test_any_chunking_gives_what_the_specification_says(stream, cuts):
    decoder = SseDecoder()
    told = [event for chunk in cut(stream, cuts) for event in decoder.feed(chunk)]
    assert told == read_naively(stream)


@given(STREAMS)
def test_one_byte_at_a_time_gives_the_same(stream):
    decoder = SseDecoder()
    assert [e for at in range(len(stream)) for e in decoder.feed(stream[at : at + 1])] == read_naively(stream)


MARK = b"\xef\xbb\xbf"
RARE = {
    "a mark": MARK + b"data: a\n\ndata: b\n\n",
    "two marks": MARK * 2 + b"data: a\n\ndata: b\n\n",
    "half a mark": MARK[:2] + b"data: a\n\ndata: b\n\n",
    "a late mark": b"data: a\n\n" + MARK + b"data: b\n\ndata: c\n\n",
    "many empty lines": b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n",
    "no data": b"nonsense\n\nevent: error\n\ndata:without\n\ndata: with\n\n",
    "data, then one field": b"data: a\nevent: e\n\ndata: b\n\n",
    "data, then all of it": b"data: a\n\ndata: b\nid: 7\nevent: e\nretry: 30\n: ping\n\n",
    "a number": b"wait: 30\ndata: a\n\n",
}


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("stream", RARE.values(), ids=RARE)
def test_what_is_rare_is_read_in_any_chunking_too(stream, end):
    stream = stream.replace(b"\n", end)
    for step in range(1, len(stream) + 1):
        decoder = SseDecoder()
        told = [e for at in range(0, len(stream), step) for e in decoder.feed(stream[at : at + step])]
        assert told == read_naively(stream)


@given(st.integers(0, 60), st.integers(1, 20), st.sampled_from([b"\n", b"\r\n"]))
def test_an_event_over_the_limit_ends_the_decoder_at_the_same_event_in_any_chunking(size, step, end):
    small, big = b"data: ok" + end * 2, b"data: " + b"x" * size + end * 2
    stream = small + big + small
    decoder = SseDecoder(max_event_bytes=40)
    told = [e for at in range(0, len(stream), step) for e in decoder.feed(stream[at : at + step])]
    fits = size + 6 <= 40
    assert decoder.overflowed is not fits
    assert [e.data for e in told] == (
        [b"ok"] + ([b"x" * size] if size else []) + [b"ok"] if fits else [b"ok"]
    )


@pytest.mark.parametrize("first", [b"\n", b"\r\n", b"\r"])
def test_line_ends_of_all_kinds_may_be_mixed_and_cut(first):
    for second, third, step in itertools.product(
        [b"\n", b"\r\n", b"\r"], [b"\n", b"\r\n", b"\r"], range(1, 9)
    ):
        stream = b"data: a" + first + second + b"data: b" + second + third + b"data: c" + third + first
        decoder = SseDecoder()
        told = [e for at in range(0, len(stream), step) for e in decoder.feed(stream[at : at + step])]
        assert told == read_naively(stream)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [39, 40, 41])
@pytest.mark.parametrize("lines", [[], [b"data: x"] * 3])
@pytest.mark.parametrize("before", [[], [b"ok"]])
def test_the_limit_is_to_the_byte_and_what_came_before_is_told_in_any_chunking(end, size, lines, before):
    last = b"x" * (size - len(b"\n".join([*lines, b"data: "])))
    big = end.join([*lines, b"data: " + last])
    stream = end.join([*[b"data: ok", b""] * len(before), big, b"", b"data: ok", b"", b""])
    large = b"\n".join([b"x"] * len(lines) + [last])
    for step in range(1, len(stream) + 1):
        decoder = SseDecoder(max_event_bytes=40)
        told = [e.data for at in range(0, len(stream), step) for e in decoder.feed(stream[at : at + step])]
        assert decoder.overflowed is (size > 40)
        assert decoder.broken == ("an event is larger than 40 bytes" if size > 40 else None)
        assert told == (before if size > 40 else [*before, large, b"ok"])


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("before", [b"", b"data: ok"])
def test_an_event_without_an_end_is_given_up_at_the_limit(end, before):
    stream = before + end * 2 + b"data: " + b"x" * 40
    for step in range(1, len(stream) + 1):
        decoder = SseDecoder(max_event_bytes=40)
        for at in range(0, len(stream), step):
            decoder.feed(stream[at : at + step])
        assert decoder.overflowed


@pytest.mark.parametrize("digits", [b"0", b"9" * 5000], ids=["no time", "very many digits"])
def test_a_time_to_reconnect_that_means_nothing_is_none(digits):
    assert SseDecoder().feed(b"retry: " + digits + b"\ndata: x\n\n") == [ServerEvent(b"x")]


def test_a_name_of_bytes_that_are_no_text_is_a_name_all_the_same():
    assert SseDecoder().feed(b"event: a\xff\nid: \xfe\ndata: x\n\n") == [
        ServerEvent(b"x", "a\ufffd", "\ufffd")
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_an_event_has_its_own_fields_and_not_those_of_the_one_before(end):
    lines = [b"id: 7", b"event: error", b"retry: 30", b"data: a", b"", b"data: b", b"", b""]
    first, second = SseDecoder().feed(end.join(lines))
    assert (first, second) == (ServerEvent(b"a", "error", "7", 30), ServerEvent(b"b"))


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_huge_event_in_small_chunks_costs_no_more_than_its_size(end):
    def seconds(megabytes):
        stream = b": ping" + end + b"data: " + b"x" * (megabytes * 1_000_000) + end * 2
        decoder = SseDecoder()
        started = time.process_time()
        told = [event for at in range(0, len(stream), 1400) for event in decoder.feed(stream[at : at + 1400])]
        assert len(told) == 1
        return time.process_time() - started

    # Quadratic work would make this factor 64, every time; the slack and the tries are for a busy machine.
    assert any(seconds(16) < 24 * max(seconds(2), 0.002) for _ in range(5))
