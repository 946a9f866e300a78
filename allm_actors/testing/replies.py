"""What a client asked, and what a loopback server answers: data.

Rule of this file: every way in which a server can fail its client is a field of `Reply`. Nothing here opens a socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

__all__ = ["Answer", "Gate", "Reply", "Request", "Then"]

Then: TypeAlias = Literal["end", "half_close", "reset", "stall"]
"""After the last byte: the proper end; the end of the connection (the body is cut); a reset; nothing, ever."""


class Gate:
    """A place among a reply's chunks where the server waits until the test says `open()`.

    Thread: any. Opening twice is harmless, and many replies may wait at one gate.
    """

    def __init__(self) -> None:
        self._opened: Future[None] = Future()

    def open(self) -> None:
        """Let every reply that waits here, now or later, go on."""
        if not self._opened.done():
            self._opened.set_result(None)

    async def passed(self) -> None:
        """Return once the gate is open."""
        # Shielded: the client of one reply who leaves must not close the gate for the others.
        await asyncio.shield(asyncio.wrap_future(self._opened))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer: a `body` sent whole with its length, or `chunks` sent one by one in chunked transfer coding.

    With a `then` other than `"end"` a body is sent as one chunk, so that no client can take it for complete. The
    content type is that of an event stream for chunks and of JSON for a body, unless `headers` says otherwise. With
    `raw` nothing is made: its pieces are all that is sent, head and framing included, and `then` is what follows them.
    Units: `pace` (between chunks), `waits` (before each chunk, instead of `pace`) and `first_byte_delay` (before the
    status line; `math.inf` is never) in seconds.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunks: Sequence[bytes | Gate] | None = None
    raw: Sequence[bytes | Gate] | None = None
    pace: float = 0.0
    waits: Sequence[float] = ()
    first_byte_delay: float = 0.0
    then: Then = "end"

    def __post_init__(self) -> None:
        """Raises TypeError or ValueError for what could not be sent."""
        given: list[tuple[str, Any]] = [("body", [self.body]), ("chunks", self.chunks), ("raw", self.raw)]
        for name, pieces in given:
            if isinstance(pieces, str | bytes):
                raise TypeError(
                    f"{name} of a Reply must be a list of bytes and gates, got: {type(pieces).__name__}"
                )
            if not isinstance(pieces, list | tuple):  # what is made as it goes is left alone
                continue
            for piece in pieces:
                if not isinstance(piece, bytes | bytearray | memoryview | Gate):
                    raise TypeError(f"{name} of a Reply must be bytes, got: {type(piece).__name__}")
        for header, value in self.headers.items():
            try:
                f"{header}: {value}".encode("latin-1")
            except UnicodeEncodeError:
                raise ValueError(
                    f"the header {header!r} of a Reply has a character that is not allowed in a header"
                ) from None

    def wait_before(self, index: int) -> float:
        """The seconds before that chunk."""
        if self.waits:
            return self.waits[index] if index < len(self.waits) else 0.0
        return self.pace if index else 0.0

    def all_headers(self) -> dict[str, str]:
        """Its headers in lower case, and the content type that it has without being told."""
        kind = "application/json" if self.chunks is None else "text/event-stream; charset=utf-8"
        return {"content-type": kind} | {name.lower(): value for name, value in self.headers.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asked. Header names are lower case; `json` is the body parsed, or `None` if it is not JSON.

    `connection` numbers the server's connections from 0, so that reuse can be seen; `at` is `time.monotonic()` at
    arrival. Headers and body are not in the `repr`: a failed assertion must not print a key.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    json: Any = field(repr=False)
    connection: int
    at: float


Answer: TypeAlias = Callable[[Request], Reply]
"""Chooses a reply. Thread: the server's own, so it must not block; what it raises is answered as a 500."""
