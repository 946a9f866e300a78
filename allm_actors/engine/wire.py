"""The types between a dialect, which knows the format, and a transport, which knows the network.

Rule of this file: plain data and contracts; neither side imports the other. A key is only ever in
`HttpRequest.headers`, and no `repr` here shows headers or bodies.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

__all__ = [
    "Deadlines",
    "HttpAnswer",
    "HttpRequest",
    "HttpResponse",
    "Sign",
    "Transport",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request to be sent. With `public` it is only sent to a host whose addresses are all public.

    `streamed`: whether its answer comes while it is made; else there is silence until it is whole.
    """

    url: str
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    method: str = "POST"
    public: bool = False
    streamed: bool = True

    def with_headers(self, headers: Mapping[str, str]) -> HttpRequest:
        """This request with `headers` merged over its own."""
        return replace(self, headers={**self.headers, **headers})


Sign = Callable[[HttpRequest], Awaitable[HttpRequest]]
"""Signs a complete request, again for each attempt. Raises `AdapterError` and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """An answer as data: `body` is all of it, of an error response its beginning, and of a stream nothing.

    `now` is the wall clock when it came, in seconds since the epoch.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    now: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long to wait, in seconds; None means no limit.

    `connect` until there is a connection, `first_byte` until the answer begins, `idle` between two reads, `total` for
    everything; earlier attempts have used `spent` of that.
    """

    connect: float | None = 10.0
    first_byte: float | None = 60.0
    idle: float | None = 60.0
    total: float | None = None
    spent: float = 0.0


class HttpResponse(Protocol):
    """An answer whose head has come, and whose body has not been read."""

    status: int
    headers: Mapping[str, str]

    async def pour(self, feed: Callable[[bytes], bool], /) -> bool:
        """Call `feed` with all data, in the call that brings it, until it returns False. False at the end of the body.

        Can be called again for the rest. Raises `AdapterError`, and what `feed` raises.
        """
        ...

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, to be closed. Raises `AdapterError` and nothing else."""
        ...

    async def body(self, limit: int, seconds: float | None = None, /) -> bytes:
        """At most `limit` bytes of the body, read for at most `seconds`; if it breaks off, what came before."""
        ...


class Transport(Protocol):
    """Sends requests. Entering the context sends; leaving it, in any way, closes the response.

    One that only plays recordings may also have `needs_no_key` (true: requests need no key) and
    `async sleep(seconds)`, which waits between two attempts.
    """

    def open(
        self, request: HttpRequest, deadlines: Deadlines, /
    ) -> AbstractAsyncContextManager[HttpResponse]:
        """The response to `request`. Raises `AdapterError` and nothing else."""
        ...

    async def aclose(self) -> None:
        """Close what belongs to the running loop."""
        ...
