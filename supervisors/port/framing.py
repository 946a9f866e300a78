"""Framing: where one message ends and the next begins in a stream of bytes.

The rule of this file: pure. A frame longer than the limit is an error and is not split, so that a program
that never ends its line cannot make a buffer grow. Frames that were complete before it are still delivered.

Source: Erlang/OTP `open_port`: `{line, L}`, `{packet, 4}`, `stream`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Final, Literal, TypeAlias

from supervisors.errors import BadSpec, SupervisorError

__all__ = ["FrameTooLong", "Frames", "Framing", "frames"]

Framing: TypeAlias = Literal["lines", "packets", "stream"]
"""`lines` end with a newline, removed when read and added when written; `packets` begin with their length,
four bytes, big-endian; a `stream` has no frames of its own: each is what could be read at once."""

_HEAD: Final = 4


class FrameTooLong(SupervisorError):
    """A program sent, or was to be sent, a frame longer than `max_frame` bytes."""

    def __init__(self, max_frame: int) -> None:
        super().__init__(
            f"a frame is longer than max_frame={max_frame} bytes; raise it, or choose another framing"
        )
        self.max_frame = max_frame


class Frames(ABC):
    """The framing of one port: encodes what goes to the program, decodes what comes from it."""

    def __init__(self, max_frame: int) -> None:
        self._max = max_frame

    @abstractmethod
    def encode(self, data: bytes) -> bytes:
        """The bytes that go to the program for one frame. Raises: `FrameTooLong`."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that `data` completes. Raises: `FrameTooLong`, after the frames that come before it."""
        completed: list[bytes] = []
        fits = self._take(data, completed)
        yield from completed
        if not fits:
            raise FrameTooLong(self._max)

    def rest(self) -> list[bytes]:
        """What is left at the end: a last line without a newline; an incomplete packet is dropped."""
        return []

    @abstractmethod
    def _take(self, data: bytes, completed: list[bytes]) -> bool:
        """Take in `data`, and add the frames that it completes. False: the next one is too long."""


def frames(framing: Framing, max_frame: int) -> Frames:
    """A new `Frames` of that kind.

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


class _Lines(Frames):
    def __init__(self, max_frame: int) -> None:
        super().__init__(max_frame)
        self._parts: list[bytes] = []
        self._size = 0

    def encode(self, data: bytes) -> bytes:
        return data + b"\n"

    def rest(self) -> list[bytes]:
        return [b"".join(self._parts)] if self._size else []

    def _take(self, data: bytes, completed: list[bytes]) -> bool:
        *ended, begun = data.split(b"\n")
        for each in ended:
            if not self._keep(each):
                return False
            completed.append(b"".join(self._parts))
            self._parts, self._size = [], 0
        return self._keep(begun)

    def _keep(self, part: bytes) -> bool:
        self._size += len(part)
        if self._size > self._max:
            return False
        if part:
            self._parts.append(part)
        return True


class _Packets(Frames):
    def __init__(self, max_frame: int) -> None:
        super().__init__(max_frame)
        self._buffer = bytearray()

    def encode(self, data: bytes) -> bytes:
        if len(data) > self._max:
            raise FrameTooLong(self._max)
        return len(data).to_bytes(_HEAD) + data

    def _take(self, data: bytes, completed: list[bytes]) -> bool:
        self._buffer += data
        at = size = 0
        while len(self._buffer) - at >= _HEAD:
            size = int.from_bytes(self._buffer[at : at + _HEAD])
            end = at + _HEAD + size
            if size > self._max or len(self._buffer) < end:
                break
            completed.append(bytes(self._buffer[at + _HEAD : end]))
            at = end
        del self._buffer[:at]
        return size <= self._max


class _Stream(Frames):
    def encode(self, data: bytes) -> bytes:
        return data

    def _take(self, data: bytes, completed: list[bytes]) -> bool:
        completed += (data[at : at + self._max] for at in range(0, len(data), self._max))
        return True


_KINDS: Final[dict[str, Callable[[int], Frames]]] = {
    "lines": _Lines,
    "packets": _Packets,
    "stream": _Stream,
}
