"""What passes between a dialect, which knows the format, and the transport, which knows the network.

Rule of this file: plain data and contracts; neither side imports the other. A key is only ever in
`HttpRequest.headers`, and no `repr` here shows headers or bodies.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from allm_actors.data import AdapterError, Event, Request

__all__ = [
    "Deadlines",
    "Decoder",
    "Dialect",
    "HttpFailure",
    "HttpRequest",
    "HttpResponse",
    "Sign",
    "Transport",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request that was not sent yet. One that is `public` goes to an address that everybody can reach, or nowhere."""

    url: str
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    method: str = "POST"
    public: bool = False

    def with_headers(self, headers: Mapping[str, str]) -> HttpRequest:
        """This request with `headers` over its own."""
        return replace(self, headers={**self.headers, **headers})


Sign = Callable[[HttpRequest], Awaitable[HttpRequest]]
"""Signs a request that is complete, anew for each attempt. Raises `AdapterError` and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFailure:
    """An answer that is not a stream; `body` is its beginning, `now` the wall clock in seconds since the epoch."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    now: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long to wait, in seconds; None is for ever.

    `connect` until there is a connection, `first_byte` until the answer begins, `idle` between two reads, `total` for
    everything, of which earlier attempts have `spent` some.
    """

    connect: float | None = 10.0
    first_byte: float | None = 60.0
    idle: float | None = 60.0
    total: float | None = None
    spent: float = 0.0


class HttpResponse(Protocol):
    """An answer whose head is here and whose body is not."""

    status: int
    headers: Mapping[str, str]

    async def pour(self, feed: Callable[[bytes], bool]) -> bool:
        """Call `feed` with all that comes, in the call that brings it, until it says False; False at the body's end.

        To be called again for the rest. Raises `AdapterError`, and what `feed` raises.
        """
        ...

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, to be closed. Raises `AdapterError` and nothing else."""
        ...

    async def body(self, limit: int, seconds: float | None = None) -> bytes:
        """At most `limit` bytes of the body, read for at most `seconds`; what came, if the rest does not."""
        ...


class Transport(Protocol):
    """Sends requests. Entering the context sends; leaving it, in any way, closes the response.

    One that only plays may also have `needs_no_key` (true: nobody is asked, so nobody needs a key) and
    `async sleep(seconds)`, which waits between two attempts.
    """

    def open(self, request: HttpRequest, deadlines: Deadlines) -> AbstractAsyncContextManager[HttpResponse]:
        """The response to `request`. Raises `AdapterError` and nothing else."""
        ...

    async def aclose(self) -> None:
        """Close what belongs to the running loop."""
        ...


class Decoder(Protocol):
    """Bytes of one response to events, in any chunking; never raises. After an `ErrorEvent` nothing follows."""

    @property
    def done(self) -> bool:
        """Whether nothing more can come of this response."""
        ...

    def feed(self, chunk: bytes) -> list[Event]:
        """What `chunk` completes."""
        ...

    def end(self) -> list[Event]:
        """What the end of the body completes."""
        ...

    def broke(self, error: AdapterError) -> list[Event]:
        """What is left to say when the body breaks off with `error`, which is last."""
        ...


class Dialect(Protocol):
    """A wire format. Its module has it as `DIALECT`."""

    @property
    def stream_types(self) -> frozenset[str]:
        """The content types of its streams; any other kind of JSON is an answer that came whole."""
        ...

    def encode(self, request: Request, row: Any, base_url: str) -> HttpRequest:
        """The request without its key. Raises `ValidationError` for what the format cannot say."""
        ...

    def decoder(self, row: Any) -> Decoder:
        """A decoder for one response."""
        ...

    def decode_error(self, failure: HttpFailure, row: Any) -> AdapterError:
        """Why the provider refused."""
        ...

    def decode_body(self, body: bytes, row: Any) -> Sequence[Event]:
        """The events of a whole answer that came without streaming, `MessageStarted` not among them."""
        ...

    def requires_structured_finalize(self, request: Request) -> bool:
        """Whether the format cannot have the request's tools and its response format in one call."""
        ...
