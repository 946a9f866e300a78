"""Where one message ends and the next begins, in bytes that come as they like.

The rule of this file: pure. A frame that is longer than it may be is an error, not a piece of a frame: nothing grows
without a limit because a program never ends its line.

Source: Erlang/OTP `open_port`: `{line, L}`, `{packet, 4}`, `stream`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, Protocol, TypeAlias

from supervisors.errors import BadSpec, SupervisorError

__all__ = ["FrameTooLong", "Frames", "Framing", "frames"]

Framing: TypeAlias = Literal["lines", "packets", "stream"]
"""`lines` end with a newline, which is taken off and put on; `packets` begin with their length, four bytes, the highest
first; a `stream` is whatever could be read at once."""

_HEAD: Final = 4


class FrameTooLong(SupervisorError):
    """A program sent, or was to be sent, a frame longer than `max_frame` bytes."""

    def __init__(self, max_frame: int) -> None:
        super().__init__(
            f"a frame is longer than max_frame={max_frame} bytes; raise it, or choose another framing"
        )
        self.max_frame = max_frame


class Frames(Protocol):
    """One direction out and one direction in."""

    def encode(self, data: bytes) -> bytes:
        """What goes to the program. Raises: `FrameTooLong`."""
        ...

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What has become complete by this, frame by frame. Raises: `FrameTooLong`, after those before that one."""
        ...

    def rest(self) -> list[bytes]:
        """What the program left when it ended: a last line without its newline; half a packet is nothing."""
        ...


def frames(framing: Framing, max_frame: int) -> Frames:
    """The frames of that kind.

    Raises: `BadSpec("invalid_framing")`.
    """
    maker = _KINDS.get(framing)
    if maker is None:
        raise BadSpec("invalid_framing", framing, f"framing must be one of {tuple(_KINDS)}, not {framing!r}")
    if isinstance(max_frame, bool) or max_frame < 1:
        raise BadSpec(
            "invalid_framing", max_frame, f"max_frame must be a number of bytes >= 1, not {max_frame!r}"
        )
    return maker(max_frame)


class _Lines:
    def __init__(self, max_frame: int) -> None:
        self._max = max_frame
        self._parts: list[bytes] = []
        self._size = 0

    def encode(self, data: bytes) -> bytes:
        return data + b"\n"

    def feed(self, data: bytes) -> Iterator[bytes]:
        *ended, begun = data.split(b"\n")
        for each in ended:
            self._keep(each)
            line = b"".join(self._parts)
            self._parts, self._size = [], 0
            yield line
        self._keep(begun)

    def rest(self) -> list[bytes]:
        return [b"".join(self._parts)] if self._size else []

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._max:
            raise FrameTooLong(self._max)
        if part:
            self._parts.append(part)


class _Packets:
    def __init__(self, max_frame: int) -> None:
        self._max = max_frame
        self._buffer = bytearray()

    def encode(self, data: bytes) -> bytes:
        if len(data) > self._max:
            raise FrameTooLong(self._max)
        return len(data).to_bytes(_HEAD) + data

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= _HEAD:
            size = int.from_bytes(self._buffer[at : at + _HEAD])
            if size > self._max:
                raise FrameTooLong(self._max)
            end = at + _HEAD + size
            if len(self._buffer) < end:
                break
            yield bytes(self._buffer[at + _HEAD : end])
            at = end
        del self._buffer[:at]

    def rest(self) -> list[bytes]:
        return []


class _Stream:
    def __init__(self, max_frame: int) -> None:
        self._max = max_frame

    def encode(self, data: bytes) -> bytes:
        return data

    def feed(self, data: bytes) -> Iterator[bytes]:
        return iter([data[at : at + self._max] for at in range(0, len(data), self._max)])

    def rest(self) -> list[bytes]:
        return []


_KINDS: Final[dict[str, type[_Lines | _Packets | _Stream]]] = {
    "lines": _Lines,
    "packets": _Packets,
    "stream": _Stream,
}
