"""Our own HTTP/1.1, and HTTP/2 if it is turned on, behind httpx's transport API.

Rule of this file: it translates between httpx's types and ours, and decides nothing. An `httpx.AsyncClient` can use it,
with `transport=`; the engine calls it directly and reads with `Http1Body.pour`, without a task per body.

Not supported: proxies, redirects, compression. For these use httpx's own transport.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from hashlib import sha256
from typing import TYPE_CHECKING, TypeAlias

import httpx

from allm_actors.engine.secret import CREDENTIAL_HEADERS

from .doubt import within
from .http1_connection import Exchange, Sink
from .http1_errors import ClosedError, MalformedError, RefusedError
from .http1_message import Outgoing, request_bytes
from .http1_pool import AnyConnection, Origin, Pool
from .public_hosts import NotPublicError

if TYPE_CHECKING:
    from .http2_connection import Http2Connection, Http2Exchange  # need h2, which may not be installed

__all__ = ["Http1Body", "Http1Transport"]

AnyExchange: TypeAlias = "Exchange | Http2Exchange"

_PORTS = {"http": 80, "https": 443}
_REFUSALS = 2  # retries; a server that refuses more often has a problem that a new connection does not solve
_NEW_EACH_TIME = frozenset({"idempotency-key"})


class Http1Transport(httpx.AsyncBaseTransport):
    """Connections of one event loop, the first that uses it. `context` makes the TLS context at its first use.

    Of a request's timeouts only `connect` is used; the others are left to its reader. See `Pool` for the
    limits, and `connected_socket` for the request extension `public`.
    """

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        *,
        most: int | None = None,
        most_idle: int = 100,
        idle_seconds: float = 30.0,
        http2: type[Http2Connection] | None = None,
    ) -> None:
        self._make_pool: Callable[[], Pool] = lambda: Pool(
            context, most=most, most_idle=most_idle, idle_seconds=idle_seconds, http2=http2
        )
        self._pool: Pool | None = None

    @property
    def open(self) -> int:
        """How many connections there are."""
        return 0 if self._pool is None else self._pool.open

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer to `request`, its body unread. Raises httpx's exceptions."""
        url = request.url
        if url.scheme not in _PORTS or not url.raw_host:
            raise httpx.UnsupportedProtocol("the URL must begin with http:// or https://")
        headers = request.headers.raw
        origin = Origin(
            url.scheme,
            url.raw_host.decode("ascii").strip("[]"),
            url.port or _PORTS[url.scheme],
            _credential(headers),
            request.extensions.get("public", False),
        )
        method = request.method.encode("ascii")
        try:
            head = request_bytes(method, url.raw_path, headers, b"")
        except ValueError as error:
            raise httpx.LocalProtocolError(str(error)) from None
        outgoing = Outgoing(method, url.raw_path, headers, head, await request.aread())
        exchange = await self._send(origin, outgoing, request)
        return httpx.Response(
            exchange.status, headers=exchange.headers, stream=Http1Body(exchange), request=request
        )

    async def aclose(self) -> None:
        """Close every connection. Thread: that of their event loop."""
        if self._pool is not None:
            await self._pool.aclose()

    async def _send(self, origin: Origin, outgoing: Outgoing, request: httpx.Request) -> AnyExchange:
        if self._pool is None:
            self._pool = self._make_pool()
        refusals = 0
        while True:
            connection = await self._connection(self._pool, origin, request)
            try:
                return await connection.send(outgoing)
            except (OSError, MalformedError) as error:
                # The request was not read, so it is sent again, as curl does, over a new connection. If that is only
                # most likely (`ClosedError`), it is sent again only once.
                refusals += _REFUSALS if isinstance(error, ClosedError) else isinstance(error, RefusedError)
                if not isinstance(error, RefusedError) or refusals > _REFUSALS:
                    raise _as_httpx(error, request) from None
                self._pool.let_go_of_idle(origin)

    async def _connection(self, pool: Pool, origin: Origin, request: httpx.Request) -> AnyConnection:
        try:
            limit = request.extensions.get("timeout", {}).get("connect")
            end = None if limit is None else asyncio.get_running_loop().time() + limit
            return await within(end, pool.connection(origin))
        except NotPublicError:
            raise
        except TimeoutError as error:
            why = httpx.PoolTimeout if pool.is_full(origin) else httpx.ConnectTimeout
            raise why(str(error), request=request) from None
        except OSError as error:
            raise httpx.ConnectError(str(error), request=request) from None


class Http1Body(httpx.AsyncByteStream):
    """A body on its way. Read it once: by iterating, or by pouring it into a sink.

    Closing it before its end closes the connection, or, with HTTP/2, resets the stream.
    """

    def __init__(self, exchange: AnyExchange) -> None:
        self._exchange = exchange

    def pour(self, sink: Sink) -> None:
        """See `Exchange.pour`. The errors given to `sink.end` are OSError and `MalformedError`."""
        self._exchange.pour(sink)

    def hold(self) -> None:
        """See `Exchange.hold`."""
        self._exchange.hold()

    async def aclose(self) -> None:
        """Give up the rest of the body, if there is one."""
        self._exchange.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises httpx's exceptions."""
        held = _Held()
        while not held.over:
            if not held.reads:
                held.waiting = asyncio.get_running_loop().create_future()
                self._exchange.pour(held)
                await held.waiting
                self._exchange.hold()
            while held.reads:
                yield held.reads.popleft()
        if held.error is not None:
            raise _as_httpx(held.error, None)


class _Held:
    """A sink that buffers the body."""

    def __init__(self) -> None:
        self.reads: deque[bytes] = deque()
        self.over = False
        self.error: Exception | None = None
        self.waiting: asyncio.Future[None] | None = None

    def put(self, data: bytes) -> None:
        self.reads.append(data)
        self._wake()

    def end(self, error: Exception | None) -> None:
        self.over, self.error = True, error
        self._wake()

    def _wake(self) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)


def _credential(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A digest that tells keys apart without revealing them."""
    secrets = [name.lower() + b"=" + _key(value) for name, value in headers if _says_who(name)]
    return sha256(b"\n".join(secrets)).digest() if secrets else b""


def _says_who(name: bytes) -> bool:
    lower = name.decode("latin-1").lower()
    return bool(CREDENTIAL_HEADERS.fullmatch(lower)) and lower not in _NEW_EACH_TIME


def _key(value: bytes) -> bytes:
    """A header's value without what changes with each request: of an AWS signature only the key id, up to the slash."""
    return value.partition(b"/")[0] if value.startswith(b"AWS4-") else value


def _as_httpx(error: Exception, request: httpx.Request | None) -> httpx.TransportError:
    if isinstance(error, RefusedError) and not isinstance(error, ClosedError):
        return httpx.ConnectError(str(error), request=request)
    if isinstance(error, MalformedError):
        return httpx.RemoteProtocolError(str(error), request=request)
    return httpx.ReadError(str(error), request=request)
