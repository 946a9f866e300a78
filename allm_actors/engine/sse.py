r"""Bytes to server-sent events, in any chunking.

Rule of this file: total and linear. No bytes make it raise, no chunking changes what it yields, no byte is
scanned twice for the same question. Lines end with LF, CR or CRLF and nothing else: not with U+2028 or the
other characters at which `str.splitlines` splits, which occur inside JSON. Data stays bytes, so that a
character split between two chunks is whole again before it is decoded. An event that is not ended by an
empty line is discarded.

Nearly every stream is `data: {…}\n\n` repeated: while no CR was seen, a read of that form is cut with one
`split`. The first CR switches to the general form, line by line, for the rest of the stream.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, 9.2.6, with two differences that every
provider needs: events with empty data are not delivered, and an event carries its own `id` and `retry` only.
"""

from __future__ import annotations

import re

import msgspec

__all__ = ["MAX_EVENT_BYTES", "ServerEvent", "SseDecoder"]

MAX_EVENT_BYTES = 16 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\r|\n")


class ServerEvent(msgspec.Struct, frozen=True, gc=False):
    """One event. `data` is the UTF-8 bytes of its data lines, joined by LF; `retry` is milliseconds."""

    data: bytes
    event: str | None = None
    id: str | None = None
    retry: int | None = None


class SseDecoder:
    """One stream's decoder. An event of more than `max_event_bytes` sets `overflowed`, which stays set."""

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_fields",
        "_general",
        "_held",
        "_size",
        "max_event_bytes",
        "overflowed",
    )

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.max_event_bytes: int = max_event_bytes
        self.overflowed: bool = False
        self._at_start = True  # a byte order mark may still come
        self._general = False  # a CR was seen
        self._after_cr = False  # the last byte was a CR: an LF that follows belongs to it
        self._held: list[bytes] = []  # of the unfinished block, or in the general form of the unfinished line
        self._size = 0  # bytes of the unfinished block
        self._fields = _Fields()

    @property
    def broken(self) -> str | None:
        """Why no more events follow, or None."""
        return f"an event is larger than {self.max_event_bytes} bytes" if self.overflowed else None

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that `chunk` completes."""
        if self._at_start:
            chunk = self._without_bom(chunk)
        if not chunk or self.overflowed:
            return []
        if self._general:
            return self._feed_lines(chunk)
        if b"\r" in chunk:
            return self._turn_general(chunk)
        return self._feed_blocks(chunk)

    def _without_bom(self, chunk: bytes) -> bytes:
        chunk = b"".join([*self._held, chunk])
        self._held = []
        if len(chunk) < len(_BOM):  # no event is so short
            self._held = [chunk]
            return b""
        self._at_start = False
        return chunk.removeprefix(_BOM)

    def _feed_blocks(self, chunk: bytes) -> list[ServerEvent]:
        held = self._held
        if not held and chunk.endswith(b"\n\n"):
            return self._cut(chunk[:-2])
        if b"\n\n" not in chunk and not (chunk[0] == 10 and held and held[-1][-1] == 10):
            held.append(chunk)
            self._grow(len(chunk))
            return []
        if held:
            held.append(chunk)
            chunk = b"".join(held)
        end = chunk.rfind(b"\n\n")
        rest = chunk[end + 2 :]
        self._held = [rest] if rest else []
        self._size = 0
        events = self._cut(chunk[:end])
        self._grow(len(rest))
        return events

    def _cut(self, blocks: bytes) -> list[ServerEvent]:
        """The events of whole blocks, the last one without its empty line."""
        if blocks[:6] == b"data: ":
            pieces = blocks[6:].split(b"\n\ndata: ")
            plain = blocks.count(b"\n") == 2 * len(pieces) - 2 and b"" not in pieces
            if plain and len(blocks) <= self.max_event_bytes:
                return [ServerEvent(piece) for piece in pieces]
        parsed = map(self._parse_block, self._fitting(blocks.split(b"\n\n")))
        return [event for event in parsed if event is not None]

    def _fitting(self, blocks: list[bytes]) -> list[bytes]:
        for index, block in enumerate(blocks):
            if len(block) > self.max_event_bytes:
                self.overflowed = True
                return blocks[:index]
        return blocks

    def _parse_block(self, block: bytes) -> ServerEvent | None:
        fields = self._fields
        for line in block.split(b"\n"):
            fields.add(line)
        return fields.take()

    def _turn_general(self, chunk: bytes) -> list[ServerEvent]:
        self._general = True
        chunk = b"".join([*self._held, chunk])
        self._held = []
        self._size = 0
        return self._feed_lines(chunk)

    def _feed_lines(self, chunk: bytes) -> list[ServerEvent]:
        if self._after_cr and chunk[0] == 10:
            chunk = chunk[1:]
        self._after_cr = chunk[-1:] == b"\r"
        lines = _LINE_END.split(chunk)
        if len(lines) > 1 and self._held:
            lines[0] = b"".join([*self._held, lines[0]])
            self._size -= sum(map(len, self._held))
            self._held = []
        rest = lines.pop()
        events: list[ServerEvent] = []
        for line in lines:
            if line:
                self._fields.add(line)
                self._grow(len(line) + 1)
                if self.overflowed:
                    return events
            else:
                self._size = 0
                if (event := self._fields.take()) is not None:
                    events.append(event)
        if rest:
            self._held.append(rest)
            self._grow(len(rest))
        return events

    def _grow(self, size: int) -> None:
        # One more than the limit: the line end of the last line is not the event's.
        self._size += size
        if self._size > self.max_event_bytes + 1:
            self.overflowed = True
            self._held = []


class _Fields:
    """The lines of one event."""

    __slots__ = ("data", "event", "id", "retry")

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.event: str | None = None
        self.id: str | None = None
        self.retry: int | None = None

    def add(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self.data.append(value)
        elif name == b"event":
            self.event = value.decode("utf-8", "replace")
        elif name == b"id":
            self.id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) < 16:
            self.retry = int(value) or None

    def take(self) -> ServerEvent | None:
        data = b"\n".join(self.data)
        event = ServerEvent(data, self.event, self.id, self.retry) if data else None
        self.data = []
        self.event = self.id = self.retry = None
        return event
