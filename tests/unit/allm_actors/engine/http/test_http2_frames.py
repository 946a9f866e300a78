"""Frames of HTTP/2, cut anywhere: all go on but GOAWAY, and what is no frame is named."""

import pytest

from allm_actors.engine.http.http1_errors import MalformedError
from allm_actors.engine.http.http2_frames import MAX_EMPTY_FRAMES, MAX_FRAME_BYTES, Goaway, Sieve

DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 4, 6, 7, 8


def frame(kind, payload=b"", stream=0, flags=0):
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def goaway(last, code, why=b""):
    return frame(GOAWAY, last.to_bytes(4) + code.to_bytes(4) + why)


WANTED = [
    frame(SETTINGS),
    frame(DATA, b"a" * 20, 1),
    frame(DATA, b"", 3),
    frame(DATA, b"b" * MAX_FRAME_BYTES, 1),
]
SENT = WANTED[0] + goaway(2**31 - 1, 0) + WANTED[1] + WANTED[2] + goaway(1, 2, b"max_age") + WANTED[3]


@pytest.mark.parametrize("size", [1, 2, 8, 9, 10, 17, 1000, len(SENT)])
def test_any_cut_gives_the_same_frames(size):
    sieve = Sieve()
    fed = [sieve.feed(SENT[at : at + size]) for at in range(0, len(SENT), size)]
    assert b"".join(passed for passed, _ in fed) == b"".join(WANTED)
    assert [each for _, leaving in fed for each in leaving] == [Goaway(2**31 - 1, 0), Goaway(1, 2)]


def test_only_whole_frames_go_on():
    sieve = Sieve()
    assert sieve.feed(WANTED[1][:-1]) == (b"", [])
    assert sieve.feed(WANTED[1][-1:]) == (WANTED[1], [])


def test_the_reserved_bit_is_not_a_part_of_the_number():
    assert Sieve().feed(goaway(2**31 + 5, 0))[1] == [Goaway(5, 0)]


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "a frame of 4740180 bytes"),
        (frame(GOAWAY, b"\0\0\0\1"), "a GOAWAY of 4 bytes"),
    ],
)
def test_what_is_no_frame_is_malformed(data, named):
    with pytest.raises(MalformedError, match=named):
        Sieve().feed(data)


EMPTY = {
    "empty data": frame(DATA, stream=1),
    "padding": frame(DATA, b"\xff" + bytes(255), 1, flags=8),
    "headers": frame(HEADERS, b"\x88", 1),
    "settings": frame(SETTINGS),
    "pings": frame(PING, b"anybody?"),
    "farewells": goaway(1, 0),
    "windows": frame(WINDOW_UPDATE, b"\0\0\0\1"),
    "of no known kind": frame(99),
}


@pytest.mark.parametrize("empty", EMPTY.values(), ids=EMPTY)
def test_a_flood_of_frames_without_data_is_malformed(empty):
    sieve = Sieve()
    for _ in range(3):
        sieve.feed(empty * MAX_EMPTY_FRAMES)
        sieve.feed(frame(DATA, b"\1a\0", 1, flags=8))
    with pytest.raises(MalformedError, match="more than 1000 frames in a row without data"):
        sieve.feed(empty * (MAX_EMPTY_FRAMES + 1))


def test_a_server_may_open_its_windows_as_it_reads_what_was_sent():
    sieve = Sieve()
    for _ in range(1700):  # 27 MB
        sieve.sent(MAX_FRAME_BYTES)
    for _ in range(1700 * 4):  # after each 4 KB
        sieve.feed(EMPTY["windows"] * 2)
    with pytest.raises(MalformedError):
        sieve.feed(EMPTY["windows"] * 1700 * MAX_FRAME_BYTES)
