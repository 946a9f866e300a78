"""Picks GOAWAY frames out of an HTTP/2 stream before h2 sees them.

Rule of this file: no I/O. Every frame goes to h2 except GOAWAY, after which h2 would accept no more frames. A
server that sends GOAWAY still completes the answers that it has begun, and those must be read.

Source: RFC 9113 sections 4.1 (frames) and 6.8 (GOAWAY).
"""

from __future__ import annotations

from typing import NamedTuple

from .http1_errors import MalformedError

__all__ = ["MAX_FRAME_BYTES", "Goaway", "Sieve"]

MAX_FRAME_BYTES = 16 * 1024
"""The most bytes that a peer may send in one frame, by default."""

_HEAD_BYTES = 9
_GOAWAY = 7
_OF_A_STREAM = 2**31 - 1  # the first bit is reserved


class Goaway(NamedTuple):
    """The peer ends the connection: streams after `last` it has not processed, and will not."""

    last: int
    code: int


class Sieve:
    """Takes bytes in any chunking and returns whole frames."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

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
            if data[at + 3] == _GOAWAY:
                leaving.append(_goaway(data[at + _HEAD_BYTES : end]))
            else:
                passed.append(data[at:end])
            at = end
        self._held = data[at:]
        return b"".join(passed), leaving


def _goaway(payload: bytes) -> Goaway:
    if len(payload) < 8:
        raise MalformedError(f"a GOAWAY of {len(payload)} bytes")
    return Goaway(int.from_bytes(payload[:4]) & _OF_A_STREAM, int.from_bytes(payload[4:8]))
