"""Frames are read whatever the chunking, none that was damaged is, and botocore reads the same."""

import itertools
import struct
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.engine.eventstream import MAX_FRAME_BYTES, EventStreamDecoder
from tests.conformance import aws_frames

KINDS = {  # by type: what values there are, and how each is written
    0: (st.just(True), lambda value: b""),
    1: (st.just(False), lambda value: b""),
    2: (st.integers(-(2**7), 2**7 - 1), lambda value: struct.pack(">b", value)),
    3: (st.integers(-(2**15), 2**15 - 1), lambda value: struct.pack(">h", value)),
    4: (st.integers(-(2**31), 2**31 - 1), lambda value: struct.pack(">i", value)),
    5: (st.integers(-(2**63), 2**63 - 1), lambda value: struct.pack(">q", value)),
    6: (st.binary(max_size=9), lambda value: struct.pack(">H", len(value)) + value),
    7: (st.text(max_size=9), lambda value: struct.pack(">H", len(value.encode())) + value.encode()),
    8: (st.integers(-(2**63), 2**63 - 1), lambda value: struct.pack(">q", value)),
    9: (st.binary(min_size=16, max_size=16), lambda value: value),
}
typed = st.sampled_from(sorted(KINDS)).flatmap(lambda kind: st.tuples(st.just(kind), KINDS[kind][0]))
names = st.text(min_size=1, max_size=6).filter(lambda name: len(name.encode()) < 256)
messages = st.tuples(st.dictionaries(names, typed, max_size=4), st.binary(max_size=40))


def written(message):
    headers, payload = message
    head = b"".join(
        bytes([len(name.encode())]) + name.encode() + bytes([kind]) + KINDS[kind][1](value)
        for name, (kind, value) in headers.items()
    )
    lengths = struct.pack(">II", len(head) + len(payload) + 16, len(head))
    most = lengths + struct.pack(">I", zlib.crc32(lengths)) + head + payload
    return most + struct.pack(">I", zlib.crc32(most))


def meant(message):
    headers, payload = message
    return {name: value for name, (_, value) in headers.items()}, payload


def fed(stream, places=()):
    decoder = EventStreamDecoder()
    cuts = sorted({min(place, len(stream)) for place in places} | {0, len(stream)})
    frames = [frame for a, b in itertools.pairwise(cuts) for frame in decoder.feed(stream[a:b])]
    return [(dict(frame.headers), frame.data) for frame in frames], decoder.broken


@given(told=st.lists(messages, max_size=4), places=st.lists(st.integers(0, 400), max_size=9))
def test_what_is_written_is_read_in_any_chunking(told, places):
    stream = b"".join(map(written, told))
    read = fed(stream, places)
    assert repr(read) == repr(([meant(message) for message in told], None))  # False is not 0


@given(told=st.lists(messages, min_size=1, max_size=3), data=st.data())
def test_a_flipped_bit_ends_the_stream_at_the_frame_it_is_in(told, data):
    frames = [written(message) for message in told]
    hit = data.draw(st.integers(0, len(frames) - 1))
    place, bit = data.draw(st.integers(0, len(frames[hit]) - 1)), data.draw(st.integers(0, 7))
    wrong = bytearray(frames[hit])
    wrong[place] ^= 1 << bit
    got, broken = fed(b"".join([*frames[:hit], bytes(wrong), *frames[hit + 1 :]]))
    assert got == [meant(message) for message in told[:hit]]
    assert broken is not None
    assert "checksum" in broken


@given(stream=st.binary(max_size=60), places=st.lists(st.integers(0, 60), max_size=4))
def test_any_bytes_are_read_or_refused_and_never_raise(stream, places):
    assert fed(stream, places) == fed(stream)


@given(head=st.binary(max_size=40))
def test_any_headers_are_read_or_refused_and_never_raise(head):
    lengths = struct.pack(">II", len(head) + 16, len(head))
    most = lengths + struct.pack(">I", zlib.crc32(lengths)) + head
    got, broken = fed(most + struct.pack(">I", zlib.crc32(most)))
    assert (len(got), broken) in [(1, None), (0, "the headers of a frame cannot be read")]


@given(told=st.lists(messages, max_size=4), places=st.lists(st.integers(0, 400), max_size=5))
def test_botocore_reads_the_same(told, places):
    eventstream = pytest.importorskip("botocore.eventstream", reason="botocore is an extra")
    stream = b"".join(map(written, told))
    buffer = eventstream.EventStreamBuffer()
    cuts = sorted({min(place, len(stream)) for place in places} | {0, len(stream)})
    theirs = []
    for a, b in itertools.pairwise(cuts):
        buffer.add_data(stream[a:b])
        theirs += [(dict(event.headers), event.payload) for event in buffer]
    assert fed(stream, places)[0] == theirs


def test_a_frame_that_is_too_large_or_contradicts_itself_is_refused_by_its_lengths():
    def begun(length, header_length):
        lengths = struct.pack(">II", length, header_length)
        return fed(lengths + struct.pack(">I", zlib.crc32(lengths)))[1]

    assert begun(MAX_FRAME_BYTES, 0) is None  # the rest of it may come
    assert begun(2**20, 128 * 1024) is None
    assert "larger than" in begun(MAX_FRAME_BYTES + 1, 0)
    for length, header_length in [(15, 0), (0, 0), (100, 85), (2**20, 128 * 1024 + 1)]:
        assert "contradict" in begun(length, header_length)


def framed(head):
    lengths = struct.pack(">II", len(head) + 16, len(head))
    most = lengths + struct.pack(">I", zlib.crc32(lengths)) + head
    return most + struct.pack(">I", zlib.crc32(most))


@pytest.mark.parametrize(
    "head",
    [
        b"\1a\7\0\1b" * 2,
        b"\0",
        b"\1a",
        b"\1a\4\0\0\0",
        b"\1a\7\0",
        b"\1a\7\0\2b",
        b"\1a\x0a",
        b"\1\xff\0",
        b"\1a\7\0\1\xff",
    ],
    ids=[
        *("a name comes again", "no type after no name", "no type", "half a number", "half a length"),
        *("half a text", "no such type", "a name is no UTF-8", "a text is no UTF-8"),
    ],
)
def test_headers_that_cannot_be_are_refused(head):
    assert fed(framed(head)) == ([], "the headers of a frame cannot be read")


def test_a_header_is_a_text_only_if_it_says_so():
    (frame,) = EventStreamDecoder().feed(framed(b"\1a\7\0\1x" + b"\1b\6\0\1x"))
    assert [*map(frame.text, "abc")] == ["x", None, None]


def test_nothing_follows_what_was_damaged():
    decoder = EventStreamDecoder()
    assert decoder.feed(framed(b"\0")) == []
    broken = decoder.broken
    assert decoder.feed(framed(b"\1a\0")) == []
    assert decoder.broken == broken


def test_work_is_linear_in_the_number_of_bytes():
    def seconds(size):
        frame = aws_frames.event("chunk", b"x" * size)
        decoder, started = EventStreamDecoder(), time.process_time()
        assert len(decoder.feed(frame)) == 1
        got = [each for at in range(0, len(frame), 16) for each in decoder.feed(frame[at : at + 16])]
        assert len(got) == 1
        return time.process_time() - started

    # Quadratic work would make this factor 256; the slack and the tries are for a busy machine.
    assert any(seconds(1_600_000) < 64 * seconds(100_000) for _ in range(5))
