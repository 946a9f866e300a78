"""Frames survive any way in which their bytes arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisors import BadSpec
from supervisors.port.framing import FrameTooLong, frames

PAYLOAD = {
    "lines": st.lists(st.binary(max_size=20).filter(lambda data: b"\n" not in data)),
    "packets": st.lists(st.binary(max_size=20)),
}


@pytest.mark.parametrize("framing", ["lines", "packets"])
@given(data=st.data())
def test_what_was_encoded_comes_back_however_it_is_cut(framing, data):
    sent = data.draw(PAYLOAD[framing])
    wire = b"".join(map(frames(framing, 20).encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)))))
    receiver = frames(framing, 20)
    received = []
    for begin, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        received += receiver.feed(wire[begin:end])
    assert received + receiver.rest() == sent


def test_a_last_line_needs_no_end():
    lines = frames("lines", 10)
    assert list(lines.feed(b"one\ntw")) == [b"one"]
    assert list(lines.feed(b"o")) == []
    assert lines.rest() == [b"two"]


def test_half_a_packet_is_nothing():
    packets = frames("packets", 10)
    assert list(packets.feed(b"\0\0\0\x05half")) == []
    assert packets.rest() == []


def test_a_stream_is_what_comes_in_pieces_that_are_not_too_long():
    stream = frames("stream", 4)
    assert stream.encode(b"anything\n") == b"anything\n"
    assert list(stream.feed(b"abcdef")) == [b"abcd", b"ef"]
    assert stream.rest() == []


@pytest.mark.parametrize(
    ("framing", "wire"), [("lines", b"123456"), ("lines", b"123456\n"), ("packets", b"\0\0\0\x06")]
)
def test_a_frame_may_only_be_so_long(framing, wire):
    with pytest.raises(FrameTooLong) as error:
        list(frames(framing, 5).feed(wire))
    assert error.value.max_frame == 5


@pytest.mark.parametrize("framing", ["lines", "packets"])
def test_what_is_complete_before_a_frame_that_is_too_long_is_received(framing):
    wire = b"".join(map(frames(framing, 10).encode, [b"one", b"two", b"too long"]))
    received = []
    with pytest.raises(FrameTooLong):
        received.extend(frames(framing, 5).feed(wire))
    assert received == [b"one", b"two"]


def test_a_packet_to_the_program_may_only_be_so_long_too():
    with pytest.raises(FrameTooLong):
        frames("packets", 5).encode(b"123456")


@pytest.mark.parametrize(("framing", "max_frame"), [("words", 5), ("lines", 0), ("lines", True)])
def test_nonsense_is_refused(framing, max_frame):
    with pytest.raises(BadSpec) as error:
        frames(framing, max_frame)
    assert error.value.why == "invalid_framing"
