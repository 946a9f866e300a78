"""The frames of HTTP/2, as far as they must be told apart before h2 sees them.

Rule of this file: no I/O. Everything goes on to h2 but GOAWAY, after which h2 would take no more frames. A server that
leaves sends the answers that it has begun to their ends, and those are wanted.

Source: RFC 9113 sections 4.1 (frames) and 6.8 (GOAWAY).
"""

from __future__ import annotations

from typing import NamedTuple

from .http1_errors import MalformedError

__all__ = ["MAX_FRAME_BYTES", "Goaway", "Sieve"]

MAX_FRAME_BYTES = 16 * 1024
"""What a peer may send in one frame, unless it is told that it may send more."""

_HEAD_BYTES = 9
_GOAWAY = 7
_OF_A_STREAM = 2**31 - 1  # the first bit is reserved


class Goaway(NamedTuple):
    """The peer leaves: what came after the stream `last` it has not looked at, and will not."""

    last: int
    code: int


class Sieve:
    """Takes bytes as they come, gives whole frames."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, list[Goaway]]:
        """The frames that are whole now, and those among them that h2 must not see. Raises `MalformedError`."""
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
