r"""Bytes to the frames of AWS's event stream, in any chunking.

Rule of this file: total, linear and bounded. No bytes make it raise, no chunking changes what it yields, and no byte is
copied more than a few times. A wrong checksum, an impossible length or an unreadable header ends the stream:
after one of these no frame boundary can be trusted, so nothing follows.

    bytes   4 length of all   4 length of headers   4 CRC-32 of these eight
            headers: each 1 length of name, name, 1 type, value
            payload           4 CRC-32 of all before it

Numbers are big-endian. Source: https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html, and
Smithy's `application/vnd.amazon.eventstream`.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from zlib import crc32

import msgspec

__all__ = ["MAX_FRAME_BYTES", "EventStreamDecoder", "Frame"]

MAX_FRAME_BYTES = 24 * 1024 * 1024
_MAX_HEADER_BYTES = 128 * 1024
_PRELUDE = Struct(">III")
_CRC = Struct(">I")
_FRAME_AROUND = _PRELUDE.size + _CRC.size

HeaderValue = bool | int | bytes | str


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One message. A header's value has the type it declares: bool, int, bytes (also for a UUID) or str."""

    headers: Mapping[str, HeaderValue]
    data: bytes

    def text(self, name: str) -> str | None:
        """The header's value, if it is a text."""
        value = self.headers.get(name)
        return value if isinstance(value, str) else None


class EventStreamDecoder:
    """One stream's decoder. `broken` says what was wrong with the first frame that could not be read, and stays set."""

    __slots__ = ("_held", "_needed", "_size", "broken", "max_frame_bytes")

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.max_frame_bytes: int = max_frame_bytes
        self.broken: str | None = None
        self._held: list[bytes] = []  # of the unfinished frame
        self._size = 0
        self._needed = _PRELUDE.size  # bytes needed before more can be read

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that `chunk` completes."""
        if self.broken is not None:
            return []
        self._held.append(chunk)
        self._size += len(chunk)
        if self._size < self._needed:
            return []
        data = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        frames: list[Frame] = []
        at = self._cut(data, frames)
        rest = data[at:]
        self._held = [rest] if rest and self.broken is None else []
        self._size = len(rest)
        return frames

    def _cut(self, data: bytes, frames: list[Frame]) -> int:
        """Append all complete frames in `data` to `frames`; returns the offset of the rest."""
        at = 0
        while len(data) - at >= _PRELUDE.size:
            length, header_length, checksum = _PRELUDE.unpack_from(data, at)
            self.broken = self._flaw(
                length, header_length, checksum, data[at : at + _PRELUDE.size - _CRC.size]
            )
            if self.broken is not None:
                return at
            if len(data) - at < length:
                self._needed = length
                return at
            frame = self._read(data[at : at + length], header_length)
            if frame is None:
                return at
            frames.append(frame)
            at += length
        self._needed = _PRELUDE.size
        return at

    def _flaw(self, length: int, header_length: int, checksum: int, lengths: bytes) -> str | None:
        if crc32(lengths) != checksum:
            return "the checksum of a frame's lengths is wrong"
        if length > self.max_frame_bytes:
            return f"a frame is larger than {self.max_frame_bytes} bytes"
        if header_length > _MAX_HEADER_BYTES or header_length + _FRAME_AROUND > length:
            return "the lengths of a frame contradict each other"
        return None

    def _read(self, data: bytes, header_length: int) -> Frame | None:
        end = len(data) - _CRC.size
        if crc32(memoryview(data)[:end]) != _CRC.unpack_from(data, end)[0]:
            self.broken = "the checksum of a frame is wrong"
            return None
        payload_at = _PRELUDE.size + header_length
        headers = _headers(data[_PRELUDE.size : payload_at])
        if headers is None:
            self.broken = "the headers of a frame cannot be read"
            return None
        return Frame(headers, data[payload_at:end])


_NUMBERS = {2: 1, 3: 2, 4: 4, 5: 8, 8: 8}  # the last is a time, in milliseconds since the epoch
_BYTES, _TEXT, _UUID = 6, 7, 9


def _headers(data: bytes) -> dict[str, HeaderValue] | None:
    """The headers, or None if a name, a type or a length is invalid."""
    headers: dict[str, HeaderValue] = {}
    at = 0
    while at < len(data):
        name_end = at + 1 + data[at]
        if name_end >= len(data):
            return None
        kind = data[name_end]
        found = _extent(data, name_end + 1, kind)
        if found is None or found[1] > len(data):
            return None
        start, end = found
        try:
            name = data[at + 1 : name_end].decode()
            value = _value(data[start:end], kind)
        except UnicodeDecodeError:
            return None
        if name in headers:
            return None
        headers[name] = value
        at = end
    return headers


def _extent(data: bytes, at: int, kind: int) -> tuple[int, int] | None:
    """Where a value of this kind begins and ends; None if there is no such kind."""
    if kind in (_BYTES, _TEXT):
        return at + 2, at + 2 + int.from_bytes(data[at : at + 2], "big")
    if kind <= 1:
        return at, at
    size = 16 if kind == _UUID else _NUMBERS.get(kind)
    return None if size is None else (at, at + size)


def _value(data: bytes, kind: int) -> HeaderValue:
    if kind == _TEXT:
        return data.decode()
    if kind in (_BYTES, _UUID):
        return data
    return kind == 0 if kind <= 1 else int.from_bytes(data, "big", signed=True)
