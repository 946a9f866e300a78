r"""Bytes to lines, in any chunking: newline-delimited JSON.

Rule of this file: total and linear, as `sse`. Lines end with LF, or CRLF, and nothing else; a line is bytes, so that a
character split between two chunks is whole again before it is decoded. The last line needs no line end.
"""

from __future__ import annotations

__all__ = ["MAX_LINE_BYTES", "LineDecoder"]

MAX_LINE_BYTES = 16 * 1024 * 1024


class LineDecoder:
    """One stream's decoder. A line of more than `max_line_bytes` sets `overflowed`, which stays set."""

    __slots__ = ("_held", "_size", "max_line_bytes", "overflowed")

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self.max_line_bytes: int = max_line_bytes
        self.overflowed: bool = False
        self._held: list[bytes] = []  # of the unfinished line
        self._size = 0

    @property
    def broken(self) -> str | None:
        """Why no more lines follow, or None."""
        return f"a line is larger than {self.max_line_bytes} bytes" if self.overflowed else None

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes, without those that are empty."""
        if self.overflowed:
            return []
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines and self._held:
            lines[0] = b"".join([*self._held, lines[0]])
            self._held, self._size = [], 0
        kept: list[bytes] = []
        for line in lines:
            if len(line) > self.max_line_bytes:
                self.overflowed = True
                return kept
            if line.strip():
                kept.append(line)
        self._hold(rest)
        return kept

    def end(self) -> list[bytes]:
        """The line that the end of the body completes, if there is one."""
        rest, self._held = b"".join(self._held), []
        return [rest] if rest.strip() else []

    def _hold(self, rest: bytes) -> None:
        if rest:
            self._held.append(rest)
            self._size += len(rest)
        if self._size > self.max_line_bytes:
            self.overflowed = True
            self._held = []
