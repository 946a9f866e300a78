"""Picks GOAWAY frames out of an HTTP/2 stream before h2 sees them, and ends a flood of frames without data.

Rule of this file: no I/O. Every frame goes to h2 except GOAWAY, after which h2 would accept no more frames. A
server that sends GOAWAY still completes the answers that it has begun, and those must be read. Frames without data
cost the event loop as much as others, and many of them an answer, but no limit of an answer counts them.

Source: RFC 9113 sections 4.1 (frames), 6.8 (GOAWAY) and 10.5 (floods).
"""

from __future__ import annotations

from typing import NamedTuple

from .http1_errors import MalformedError

__all__ = ["MAX_EMPTY_FRAMES", "MAX_FRAME_BYTES", "Goaway", "Sieve"]

MAX_FRAME_BYTES = 16 * 1024
"""The most bytes that a peer may send in one frame, by default."""

MAX_EMPTY_FRAMES = 1000
"""The most frames in a row without data, beyond those that answer what we sent."""

_HEAD_BYTES = 9
_DATA, _GOAWAY = 0, 7
_PADDED = 8  # a flag
# A server may open its windows, by two frames, for each piece of a request that it reads.
_BYTES_OF_AN_ANSWER = 256
_OF_A_STREAM = 2**31 - 1  # the first bit is reserved


class Goaway(NamedTuple):
    """The peer ends the connection: streams after `last` it has not processed, and will not."""

    last: int
    code: int


class Sieve:
    """Takes bytes in any chunking and returns whole frames."""

    __slots__ = ("_held", "_left")

    def __init__(self) -> None:
        self._held = b""
        self._left = MAX_EMPTY_FRAMES  # frames without data that may still come

    def sent(self, size: int) -> None:
        """We have sent a frame of `size` bytes, to which the peer may answer by frames without data."""
        self._left += 2 + size // _BYTES_OF_AN_ANSWER

    def feed(self, data: bytes) -> tuple[bytes, list[Goaway]]:
        """The bytes of complete frames for h2, and the GOAWAY frames taken out of them. Raises `MalformedError`."""
        data = self._held + data
        passed, leaving, at = [], [], 0
        while len(data) - at >= _HEAD_BYTES:
            size = int.from_bytes(data[at : at + 3])
            if size > MAX_FRAME_BYTES:
                raise MalformedError(
                    f"a frame of {size} bytes, more than the {MAX_FRAME_BYTES} that are allowed"
                )
            end = at + _HEAD_BYTES + size
            if end > len(data):
                break
            if data[at + 3] == _DATA and _carried(data, at, size) > 0:
                self._left = max(self._left, MAX_EMPTY_FRAMES)
            else:
                self._left -= 1
            if self._left < 0:
                raise MalformedError(f"more than {MAX_EMPTY_FRAMES} frames in a row without data")
            if data[at + 3] == _GOAWAY:
                leaving.append(_goaway(data[at + _HEAD_BYTES : end]))
            else:
                passed.append(data[at:end])
            at = end
        self._held = data[at:]
        return b"".join(passed), leaving


def _carried(data: bytes, at: int, size: int) -> int:
    """The bytes of a DATA frame without its padding; below zero if it has more than it can."""
    return size - 1 - data[at + _HEAD_BYTES] if size and data[at + 4] & _PADDED else size


def _goaway(payload: bytes) -> Goaway:
    if len(payload) < 8:
        raise MalformedError(f"a GOAWAY of {len(payload)} bytes")
    return Goaway(int.from_bytes(payload[:4]) & _OF_A_STREAM, int.from_bytes(payload[4:8]))
