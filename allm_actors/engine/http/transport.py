"""Requests over the network: the door to HTTP, and the one place that decides which stack a request takes.

Rule of this file: whatever goes wrong leaves here as an `AdapterError` that names the host and what to do,
and never a header, a key or a body. Four clocks run, each with its own message and `phase`: until there is a connection
(`connect`), until the answer begins (`first_byte`), between two reads (`idle`), and over all (`total`). A response is
closed however its context is left; a cancelled task closes its socket.

    a request                                            its stack
    to a host behind a proxy of the environment          httpx's
    of one made with an httpx transport, or own=False    httpx's
    whose URL has a user name; or httptools is missing   httpx's
    any other                                            our own, see `http1_transport`: HTTP/1.1, and with `http2=True`
                                                         HTTP/2 where the server chooses it

Thread: one `HttpxTransport` serves any number of event loops, each with its own connections.
Importing this file is cheap: httpx is imported by the first request.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from allm_actors.data import AdapterError
from allm_actors.engine.http import doubt
from allm_actors.engine.http.failures import SettingsError, failure_of
from allm_actors.engine.http.inflow import Inflow, ReadSource, Source
from allm_actors.engine.http.proxies import is_proxied, may_be_exempt
from allm_actors.engine.http.public_hosts import check_public, is_address
from allm_actors.engine.wire import Deadlines, HttpRequest

if TYPE_CHECKING:
    import ssl

    import httpx

    from allm_actors.engine.http.http1_transport import Http1Transport
    from allm_actors.engine.http.http2_connection import Http2Connection

__all__ = ["HttpxTransport", "default_transport"]

_MOST_IDLE = 100
_IDLE_SECONDS = 30.0
_LAST_PORT = 65535
_NO_SOCKS = "a proxy of the environment speaks SOCKS, and that needs a package: pip install 'httpx[socks]'"
_NO_PROXIES = (
    "the proxies of the environment cannot be used: HTTP_PROXY, HTTPS_PROXY and ALL_PROXY are URLs with http, https or "
    "socks5, and NO_PROXY names hosts and addresses, without brackets and without ranges of IPv6"
)
_NO_AUTHORITIES = "the authorities for TLS cannot be read: check SSL_CERT_FILE and SSL_CERT_DIR"
_Stack = Literal["own", "http2", "httpx"]
_OFFERS: Mapping[_Stack, list[str]] = {
    "own": ["http/1.1"],
    "http2": ["h2", "http/1.1"],
}  # httpx sees to its own
_HEADERS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "allm-actors"}
_ANY_WINDOW = zlib.MAX_WBITS | 32  # whether it is gzip's or zlib's, its header says
_lock = threading.Lock()
_default: HttpxTransport | None = None
_trusted: dict[tuple[str, bool], ssl.SSLContext] = {}


class HttpxTransport:
    """Connections to providers, for each event loop its own.

    `httpx_transport` replaces the network, for tests and gateways. Proxies and certificates come from the environment
    (`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`); `verify` may be a context with authorities of your own, or False.
    `max_connections` limits those to one host with one key, and who comes then waits, for at most the connect timeout;
    without it a stream never waits for another one to end. `http2` needs `httpx[http2]`. What a transport offers to
    servers is written on the context that it is given, so one with `http2` shares it with no other. `own=False` is
    httpx's stack for everything. Redirects are not followed. With `private_urls` a picture's URL may name a host of
    your own network.

    Raises: ImportError for `http2` without its package.
    """

    def __init__(
        self,
        httpx_transport: httpx.AsyncBaseTransport | None = None,
        *,
        verify: bool | ssl.SSLContext = True,
        http2: bool = False,
        own: bool = True,
        max_connections: int | None = None,
        private_urls: bool = False,
    ) -> None:
        if http2 and find_spec("h2") is None:
            raise ImportError("http2=True needs the package h2; pip install 'httpx[http2]' brings it")
        if max_connections is not None and max_connections < 1:
            raise ValueError(
                f"max_connections must be at least 1, or None for no limit, got: {max_connections!r}"
            )
        self._given = httpx_transport
        self._verify, self._http2, self._max_connections = verify, http2, max_connections
        self._own = own and httpx_transport is None
        self._private_urls = private_urls
        self._stacks: WeakKeyDictionary[asyncio.AbstractEventLoop, _Stacks] = WeakKeyDictionary()
        self._guard = threading.Lock()  # loops of several threads come and go

    @asynccontextmanager
    async def open(self, request: HttpRequest, deadlines: Deadlines) -> AsyncIterator[_Response]:
        """Send `request`. Raises `AdapterError` and nothing else."""
        clock = _Clock(deadlines, _host(request.url))
        response = await clock.until_answer(self._send(request, deadlines))
        async with AsyncExitStack() as stack:
            stack.push_async_callback(response.aclose)
            coding = response.headers.get("content-encoding", "identity").strip().lower()
            if response.is_success and coding not in ("", "identity"):
                raise clock.compressed(coding)
            inflow = Inflow(await _source(response, stack), clock)
            stack.callback(inflow.close)
            yield _Response(response, inflow)

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        with self._guard:
            stacks = self._stacks.pop(asyncio.get_running_loop(), None)
        if stacks is not None and stacks.watch is not None:
            await stacks.watch.aclose()

    async def _send(self, request: HttpRequest, deadlines: Deadlines) -> httpx.Response:
        import httpx

        built = httpx.Request(
            request.method,
            request.url,
            content=request.body,
            headers={**_HEADERS, **request.headers},
            extensions={
                "timeout": httpx.Timeout(None, connect=deadlines.connect, pool=deadlines.connect).as_dict()
            },
        )
        if built.url.port is not None and not 0 < built.url.port <= _LAST_PORT:
            raise httpx.InvalidURL("the port")
        public = request.public and not self._private_urls
        stacks = await self._here()
        own = stacks.own_for(built.url)
        if own is not None:
            built.extensions["public"] = public
            return await own.handle_async_request(built)
        if (
            public
            and self._given is None
            and (is_address(built.url.host) or not stacks.is_certainly_proxied(built.url))
        ):
            try:
                await check_public(built.url.host)
            except socket.gaierror as error:
                raise httpx.ConnectError(str(error)) from None
        return await stacks.client().send(built, stream=True)

    async def _here(self) -> _Stacks:
        loop = asyncio.get_running_loop()
        with self._guard:
            stacks = self._stacks.get(loop)
            if stacks is not None:
                return stacks
            # The connections of a loop keep it alive, which would keep its place here.
            gone = [self._stacks.pop(each) for each in list(self._stacks) if each.is_closed()]
            stacks = self._stacks[loop] = _Stacks(
                self._make_client, self._make_own if self._own and find_spec("httptools") else None
            )
        del gone  # not while others wait: it takes what they held with it
        stacks.watch = _until_the_loop_ends(stacks)
        await anext(stacks.watch)
        return stacks

    def _make_own(self) -> Http1Transport:
        from allm_actors.engine.http.http1_transport import Http1Transport

        stack: _Stack = "http2" if self._http2 else "own"
        return Http1Transport(
            lambda: _trust(stack, self._verify),
            http2=_http2_connection() if self._http2 else None,
            most=self._max_connections,
            most_idle=_MOST_IDLE,
            idle_seconds=_IDLE_SECONDS,
        )

    def _make_client(self) -> httpx.AsyncClient:
        import httpx

        limits = httpx.Limits(
            max_connections=self._max_connections,
            max_keepalive_connections=_MOST_IDLE,
            keepalive_expiry=_IDLE_SECONDS,
        )
        return httpx.AsyncClient(
            transport=self._given,
            verify=True if self._given is not None else _trust("httpx", self._verify),
            http2=self._http2,
            follow_redirects=False,
            trust_env=True,
            limits=limits,
        )


def default_transport() -> HttpxTransport:
    """The transport that calls use when they are given no other. Thread: safe."""
    global _default  # noqa: PLW0603 - connections are shared by the process, as they are with every HTTP client
    with _lock:
        if _default is None:
            _default = HttpxTransport()
        return _default


class _Stacks:
    """What one event loop has: our own stack, unless there is none, and httpx's; made when they are first needed."""

    def __init__(
        self, make_client: Callable[[], httpx.AsyncClient], make_own: Callable[[], Http1Transport] | None
    ) -> None:
        from urllib.request import getproxies

        self._make_client, self._make_own = make_client, make_own
        self._settings = getproxies()  # as they are now: httpx, too, looks once
        self._client: httpx.AsyncClient | None = None
        self._own: Http1Transport | None = None
        self.watch: AsyncGenerator[None, None] | None = None

    def own_for(self, url: httpx.URL) -> Http1Transport | None:
        """Our own stack, if it can do this."""
        if self._make_own is None or url.userinfo or self.is_proxied(url):
            return None
        if self._own is None:
            self._own = self._make_own()
        return self._own

    def is_proxied(self, url: httpx.URL) -> bool:
        """Whether a proxy asks in our place: then it is the proxy that knows what a name's addresses are."""
        return is_proxied(url.scheme, url.host, self._settings)

    def is_certainly_proxied(self, url: httpx.URL) -> bool:
        """The same, in doubt not: who goes there himself has to know where a name leads."""
        return self.is_proxied(url) and not may_be_exempt(url.host, self._settings)

    def client(self) -> httpx.AsyncClient:
        """The stack of httpx. Raises `SettingsError` for proxies that it does not take."""
        if self._client is None:
            try:
                self._client = self._make_client()
            except ImportError:
                raise SettingsError(_NO_SOCKS) from None
            except SettingsError:
                raise
            except Exception:  # noqa: BLE001 - it says that in many ways, which quote the proxy's password
                raise SettingsError(_NO_PROXIES) from None
        return self._client

    async def aclose(self) -> None:
        """Close the connections of both."""
        if self._own is not None:
            await self._own.aclose()
        if self._client is not None:
            await self._client.aclose()


async def _until_the_loop_ends(stacks: _Stacks) -> AsyncGenerator[None, None]:
    """An asynchronous generator, for a loop that ends closes those that it has begun (`asyncio.run` sees to that)."""
    try:
        yield
    finally:
        await stacks.aclose()


class _Response:
    """A response whose body was not read yet."""

    def __init__(self, response: httpx.Response, inflow: Inflow) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.pour = inflow.pour
        self.chunks = inflow.chunks

    async def body(self, limit: int, seconds: float | None = None) -> bytes:
        """At most `limit` bytes of the body, read for at most `seconds`; what came, if the rest does not."""
        held = bytearray()
        try:
            async with asyncio.timeout(seconds), aclosing(self.chunks()) as chunks:
                async for chunk in chunks:
                    held += chunk
                    if len(held) >= limit:
                        break
        except (AdapterError, TimeoutError):
            pass  # the beginning of an error's body says more than the failure to read the rest
        return _readable(bytes(held[:limit]), self.headers.get("content-encoding", ""), limit)


def _readable(body: bytes, coding: str, limit: int) -> bytes:
    """What a gateway's refusal says, as far as that can be read; at most `limit` bytes."""
    if coding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return body
    try:
        return zlib.decompressobj(_ANY_WINDOW).decompress(body, limit)
    except zlib.error:  # somebody in between has done it already, and left the header
        return body


async def _source(response: httpx.Response, stack: AsyncExitStack) -> Source:
    """Where a response's bytes come from: our own stack brings them, httpx's must be asked."""
    stream: Any = response.stream
    if hasattr(stream, "pour"):
        source: Source = stream
        return source
    return await stack.enter_async_context(ReadSource(_bytes_of(response)))


async def _bytes_of(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    if (
        response.is_stream_consumed
    ):  # a transport without a network, httpx.MockTransport say, gave the body whole
        yield response.content
        return
    async for chunk in response.aiter_raw():
        yield chunk


class _Clock:
    """The deadlines of one request, and the one place where its failures get their names."""

    def __init__(self, deadlines: Deadlines, host: str) -> None:
        self._deadlines = deadlines
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._end = None if deadlines.total is None else self._loop.time() + deadlines.total - deadlines.spent

    async def until_answer(self, sent: Any) -> httpx.Response:
        """The response, when it begins in time."""
        limit, failure = self._deadlines.first_byte, None
        try:
            response: httpx.Response = await doubt.within(self._earliest(self._loop.time(), limit), sent)
            if self.is_over(self._loop.time()):  # it came in doubt, and so may the rest of it
                self._end = self._loop.time() + doubt.DOUBT
            return response
        except TimeoutError:
            silence, option = "did not begin to answer within", "first_byte_timeout or stream_timeout"
            failure = self._timed_out(silence, limit, option, "first_byte")
        except Exception as error:  # noqa: BLE001 - httpx, its transports and TLS raise many kinds; all mean "it failed"
            failure = self.failure(error)
        # Raised here, outside of `except`, so that no traceback leads to an exception that quotes a header.
        raise failure

    def silence_ends(self, since: float) -> float | None:
        """When a read that has waited `since` has waited too long; None: never."""
        return self._earliest(since, self._deadlines.idle)

    def is_over(self, now: float) -> bool:
        """Whether the whole answer has taken too long by then."""
        return self._end is not None and now >= self._end

    def silent(self) -> AdapterError:
        """A read has waited too long, or all of them together."""
        silence = "stopped in the middle of its answer and sent nothing for"
        return self._timed_out(silence, self._deadlines.idle, "stream_timeout", "idle")

    def compressed(self, coding: str) -> AdapterError:
        """The answer cannot be read."""
        message = (
            f"{self._host} compressed its answer ({coding[:20]!r}), which was not asked for; "
            "a gateway in between may be told to leave it as it is"
        )
        return AdapterError("malformed_response", message=message)

    def failure(self, error: Exception) -> AdapterError:
        """What went wrong, in words that may be shown."""
        return failure_of(error, self._host, self._deadlines)

    def _earliest(self, since: float, limit: float | None) -> float | None:
        if limit is None:
            return self._end
        return since + limit if self._end is None else min(since + limit, self._end)

    def _timed_out(self, silence: str, limit: float | None, option: str, phase: str) -> AdapterError:
        if self._end is not None and self._loop.time() >= self._end:
            total = self._deadlines.total or 0.0
            return AdapterError(
                "timeout",
                message=f"the call to {self._host} took longer than {total:g} s in all; "
                "request_timeout allows more, in seconds",
                metadata={"phase": "total"},
            )
        message = f"{self._host} {silence} {limit or 0.0:g} s; {option} allows more, in seconds"
        return AdapterError("timeout", message=message, metadata={"phase": phase})


def _http2_connection() -> type[Http2Connection]:
    from allm_actors.engine.http.http2_connection import (
        Http2Connection,
    )  # it imports h2, which may not be there

    return Http2Connection


def _trust(stack: _Stack, verify: bool | ssl.SSLContext) -> ssl.SSLContext:
    """What a stack's TLS trusts. Reading certificates takes tens of milliseconds, so it is done once and not per loop.

    One for each stack, because which versions of HTTP are offered is written on it.
    """
    import httpx

    with _lock:
        context = verify if not isinstance(verify, bool) else _trusted.get((stack, verify))
        if context is None:
            try:
                context = _trusted[stack, bool(verify)] = httpx.create_ssl_context(verify=verify)
            except OSError as error:
                raise SettingsError(f"{_NO_AUTHORITIES} ({error.strerror or type(error).__name__})") from None
        if stack in _OFFERS:
            context.set_alpn_protocols(_OFFERS[stack])
        return context


def _host(url: str) -> str:
    """Host and port: what of a URL may be shown. User names, paths and queries may hold secrets."""
    try:
        parts = urlsplit(url)
        return (
            f"{parts.hostname or '(no host)'}:{parts.port}" if parts.port else parts.hostname or "(no host)"
        )
    except ValueError:
        return "(no host)"
