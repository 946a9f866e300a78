"""Requests over the network: the only way to HTTP, and the one place that decides which stack a request uses.

Rule of this file: every failure is raised as an `AdapterError` that names the host and what to do,
and never a header, a key or a body. Four timeouts run, each with its own message and `phase`: until there is
a connection (`connect`), until the answer begins (`first_byte`), between two reads (`idle`), and for
everything (`total`). A response is closed however its context is left; a cancelled task closes its socket.

    a request                                            its stack
    to a host behind a proxy of the environment          httpx's
    through a given httpx transport, or with own=False   httpx's
    whose URL has a user name; or httptools is missing   httpx's
    any other                                            our own, see `http1_transport`: HTTP/1.1, and with `http2=True`
                                                         HTTP/2 where the server chooses it

Thread: one `HttpxTransport` serves any number of event loops, each with its own connections.
Importing this file is cheap: httpx is imported by the first request.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from allm_actors.data import AdapterError
from allm_actors.engine.http import doubt
from allm_actors.engine.http.failures import SettingsError, failure_of
from allm_actors.engine.http.inflow import Inflow, ReadSource, Source, beginning_of
from allm_actors.engine.http.proxies import is_proxied, may_be_exempt
from allm_actors.engine.http.public_hosts import check_public, is_address
from allm_actors.engine.http.sender import Sender
from allm_actors.engine.wire import Deadlines, HttpRequest

if TYPE_CHECKING:
    import ssl

    import httpx

    from allm_actors.engine.http.http1_transport import Http1Transport
    from allm_actors.engine.http.http2_connection import Http2Connection

__all__ = ["HttpxTransport", "default_transport", "is_httpx"]

T = TypeVar("T")
_MOST_IDLE = 100
_IDLE_SECONDS = 30.0
_LAST_PORT = 65535
_NO_SOCKS = "the environment sets a SOCKS proxy, which needs an extra package: pip install 'httpx[socks]'"
_NO_PROXIES = (
    "the proxy settings of the environment cannot be used: HTTP_PROXY, HTTPS_PROXY and ALL_PROXY must be URLs "
    "with http, https or socks5, and NO_PROXY must list hosts and addresses, without brackets and without IPv6 "
    "ranges"
)
_NO_AUTHORITIES = "the certificate authorities for TLS cannot be read: check SSL_CERT_FILE and SSL_CERT_DIR"
_Stack = Literal["own", "http2", "httpx"]
_Answer: TypeAlias = "tuple[httpx.Response, Callable[[], Awaitable[None]]]"  # and what closes it
# ALPN; httpx sets its own.
_OFFERS: Mapping[_Stack, list[str]] = {"own": ["http/1.1"], "http2": ["h2", "http/1.1"]}
_HEADERS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "allm-actors"}
_ANY_WINDOW = zlib.MAX_WBITS | 32  # gzip or zlib, detected by its header
_lock = threading.Lock()
_default: HttpxTransport | None = None
_trusted: dict[tuple[str, bool], tuple[object, ssl.SSLContext]] = {}  # and from what it was read


class HttpxTransport:
    """Connections to providers, separate for each event loop.

    `httpx_transport` replaces the network, for tests and gateways. Proxies and certificates come from the
    environment (`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`), and are read by the first request; `verify` may
    be an SSL context with your own authorities, or False. `max_connections` limits connections to one host
    with one key; further requests wait, for at most the connect timeout. Without it a stream never waits for
    another one to end. `http2` needs `httpx[http2]`. A transport sets the HTTP versions it offers on the SSL
    context it is given, so one with `http2` must not share its context. `own=False` uses httpx's stack for
    everything. Redirects are not followed. With `private_urls` an image's URL may name a host in your own
    network.

    Raises: ImportError for `http2` without its package, TypeError for an `httpx_transport` that is synchronous, or
    no transport of httpx.
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
            raise ImportError("http2=True needs the package h2; install it with pip install 'httpx[http2]'")
        if max_connections is not None and max_connections < 1:
            raise ValueError(
                f"max_connections must be at least 1, or None for no limit, got: {max_connections!r}"
            )
        if httpx_transport is not None and not is_httpx(httpx_transport):
            raise TypeError(
                "httpx_transport must be an asynchronous transport of httpx, such as httpx.AsyncHTTPTransport(), "
                f"got: {type(httpx_transport).__name__}"
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
        response, close = await clock.until_answer(self._send(request, deadlines))
        async with AsyncExitStack() as stack:
            stack.push_async_callback(close)
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

    async def _send(self, request: HttpRequest, deadlines: Deadlines) -> _Answer:
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
            response = await own.handle_async_request(built)
            return response, response.aclose
        if (
            public
            and self._given is None
            and (is_address(built.url.host) or not stacks.is_certainly_proxied(built.url))
        ):
            try:
                await check_public(built.url.host)
            except socket.gaierror as error:
                raise httpx.ConnectError(str(error)) from None
        sender = stacks.sender()
        response = await sender.send(built, deadlines.connect)
        return response, partial(sender.close, response)

    async def _here(self) -> _Stacks:
        loop = asyncio.get_running_loop()
        with self._guard:
            stacks = self._stacks.get(loop)
            if stacks is not None:
                return stacks
            # A loop's connections keep the loop alive, so its weak key would never go away by itself.
            gone = [self._stacks.pop(each) for each in list(self._stacks) if each.is_closed()]
            stacks = self._stacks[loop] = _Stacks(
                self._make_sender, self._make_own if self._own and find_spec("httptools") else None
            )
        del gone  # outside the lock, because this destroys connections
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

    def _make_sender(self) -> Sender:
        import httpx

        # They are never sent, so none is kept.
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        limits = httpx.Limits(
            max_connections=self._max_connections,
            max_keepalive_connections=_MOST_IDLE,
            keepalive_expiry=_IDLE_SECONDS,
        )
        client = httpx.AsyncClient(
            transport=self._given,
            verify=True if self._given is not None else _trust("httpx", self._verify),
            http2=self._http2,
            follow_redirects=False,
            trust_env=True,
            limits=limits,
            cookies=no_cookies,
        )
        return Sender(
            client, patient=self._given is None or isinstance(self._given, httpx.AsyncHTTPTransport)
        )


def is_httpx(transport: object) -> bool:
    """Whether this is an asynchronous transport of httpx."""
    return not isinstance(transport, type) and hasattr(transport, "handle_async_request")


def default_transport() -> HttpxTransport:
    """The transport that calls use when they are given no other. Thread: safe."""
    global _default  # noqa: PLW0603 - connections are shared by the process, as they are with every HTTP client
    with _lock:
        if _default is None:
            _default = HttpxTransport()
        return _default


class _Stacks:
    """The stacks of one event loop: our own, if it can be used, and httpx's; each made at its first use."""

    def __init__(
        self, make_sender: Callable[[], Sender], make_own: Callable[[], Http1Transport] | None
    ) -> None:
        from urllib.request import getproxies

        self._make_sender, self._make_own = make_sender, make_own
        self._settings = getproxies()  # read once, as httpx does
        self._sender: Sender | None = None
        self._own: Http1Transport | None = None
        self.watch: AsyncGenerator[None, None] | None = None

    def own_for(self, url: httpx.URL) -> Http1Transport | None:
        """Our own stack, if it can request this URL, else None."""
        if self._make_own is None or url.userinfo or self.is_proxied(url):
            return None
        if self._own is None:
            self._own = self._make_own()
        return self._own

    def is_proxied(self, url: httpx.URL) -> bool:
        """Whether a proxy is used, or may be: a proxy resolves the host's name itself."""
        return is_proxied(url.scheme, url.host, self._settings)

    def is_certainly_proxied(self, url: httpx.URL) -> bool:
        """Whether a proxy is certainly used. If not, the host's addresses have to be checked here."""
        return self.is_proxied(url) and not may_be_exempt(url.host, self._settings)

    def sender(self) -> Sender:
        """The stack of httpx. Raises `SettingsError` for proxy settings that httpx refuses."""
        if self._sender is None:
            try:
                self._sender = self._make_sender()
            except ImportError as error:
                if error.name is not None:  # httpx names nothing where its extra package is missing
                    raise
                raise SettingsError(_NO_SOCKS) from None
            except SettingsError:
                raise
            except Exception as error:  # noqa: BLE001 - of many types, whose texts quote the proxy's password
                broken = f"httpx cannot be used: making its client fails with {type(error).__name__}"
                raise SettingsError(_NO_PROXIES if self._settings else broken) from None
        return self._sender

    async def aclose(self) -> None:
        """Close the connections of both."""
        if self._own is not None:
            await self._own.aclose()
        if self._sender is not None:
            await self._sender.aclose()


async def _until_the_loop_ends(stacks: _Stacks) -> AsyncGenerator[None, None]:
    """Closes the stacks when their loop ends: a loop that is shut down, as by `asyncio.run`, closes its generators."""
    try:
        yield
    finally:
        await stacks.aclose()


class _Response:
    """A response whose body has not been read yet."""

    def __init__(self, response: httpx.Response, inflow: Inflow) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.pour = inflow.pour
        self.chunks = inflow.chunks

    async def body(self, limit: int, seconds: float | None = None) -> bytes:
        """See `beginning_of`."""
        held = await beginning_of(self.chunks(), limit, seconds)
        return _readable(held, self.headers.get("content-encoding", ""), limit)


def _readable(body: bytes, coding: str, limit: int) -> bytes:
    """The body of an error response, decompressed as far as possible; at most `limit` bytes."""
    if coding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return body
    try:
        return zlib.decompressobj(_ANY_WINDOW).decompress(body, limit)
    except zlib.error:  # an intermediary has decompressed it already, and left the header
        return body


async def _source(response: httpx.Response, stack: AsyncExitStack) -> Source:
    """The source of a response's bytes: our own stack pushes them, httpx's has to be read."""
    stream: Any = response.stream
    if hasattr(stream, "pour"):
        source: Source = stream
        return source
    return await stack.enter_async_context(ReadSource(_bytes_of(response)))


async def _bytes_of(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    if response.is_stream_consumed:
        # A transport without a network, httpx.MockTransport say, gave the body whole.
        yield response.content
        return
    stream: Any = response.stream  # not `aiter_raw`, which closes the response where a cancel cuts that off
    async for chunk in stream:
        yield chunk


class _Clock:
    """The deadlines of one request, and the one place where its failures become errors."""

    def __init__(self, deadlines: Deadlines, host: str) -> None:
        self._deadlines = deadlines
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._end = None if deadlines.total is None else self._loop.time() + deadlines.total - deadlines.spent

    async def until_answer(self, sent: Awaitable[T]) -> T:
        """The response, if it begins in time."""
        limit, failure = self._deadlines.first_byte, None
        try:
            response = await doubt.within(self._earliest(self._loop.time(), limit), sent)
            if self.is_over(self._loop.time()):  # it came in doubt, and so may the rest of it
                self._end = self._loop.time() + doubt.DOUBT
            return response
        except TimeoutError:
            silence, option = "did not begin to answer within", "first_byte_timeout or stream_timeout"
            failure = self._timed_out(silence, limit, option, "first_byte")
        except Exception as error:  # noqa: BLE001 - httpx, its transports and TLS raise many kinds; all mean "it failed"
            failure = failure_of(error, self._host, self._deadlines, "first_byte")
        # Raised here, outside of `except`, so that no traceback leads to an exception that quotes a header.
        raise failure

    def silence_ends(self, since: float) -> float | None:
        """When a read that has waited since `since` times out; None: never."""
        return self._earliest(since, self._deadlines.idle)

    def is_over(self, now: float) -> bool:
        """Whether the whole call has taken too long at `now`."""
        return self._end is not None and now >= self._end

    def silent(self) -> AdapterError:
        """The error for a read, or the whole call, that has taken too long."""
        silence = "stopped in the middle of its answer and sent nothing for"
        return self._timed_out(silence, self._deadlines.idle, "stream_timeout", "idle")

    def compressed(self, coding: str) -> AdapterError:
        """The error for an answer with a content coding that was not requested."""
        message = (
            f"{self._host} compressed its answer ({coding[:20]!r}), which was not requested; if a gateway in "
            "between does this, turn it off there"
        )
        return AdapterError("malformed_response", message=message)

    def failure(self, error: Exception) -> AdapterError:
        """The error, with text that may be shown, for an exception of a body."""
        return failure_of(error, self._host, self._deadlines, "idle")

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
    # It imports h2, which may not be installed.
    from allm_actors.engine.http.http2_connection import Http2Connection

    return Http2Connection


def _trust(stack: _Stack, verify: bool | ssl.SSLContext) -> ssl.SSLContext:
    """A stack's SSL context. Reading certificates takes tens of milliseconds, so it is done once for each state of
    their file, not per loop.

    Each kind of stack has its own, because the HTTP versions to offer (ALPN) are set on it.
    """
    with _lock:
        context = _trusting(stack, verify) if isinstance(verify, bool) else verify
        if stack in _OFFERS:
            context.set_alpn_protocols(_OFFERS[stack])
        return context


def _trusting(stack: _Stack, verify: bool) -> ssl.SSLContext:
    import httpx

    origin = _authorities()
    known, context = _trusted.get((stack, verify), (None, None))
    if context is None or known != origin:
        try:
            context = httpx.create_ssl_context(verify=verify)
        except OSError as error:
            raise SettingsError(f"{_NO_AUTHORITIES} ({error.strerror or type(error).__name__})") from None
        _trusted[stack, verify] = origin, context
    return context


def _authorities() -> object:
    """What the authorities are read from, as httpx does: a bundle that was renewed is another one."""
    path = os.environ.get("SSL_CERT_FILE")
    if not path:
        return os.environ.get("SSL_CERT_DIR")  # OpenSSL looks into a folder at each handshake
    try:
        file = Path(path).stat()
    except OSError:
        return path
    return path, file.st_ino, file.st_mtime_ns, file.st_size


def _host(url: str) -> str:
    """Host and port, the parts of a URL that may be shown. User names, paths and queries may hold secrets."""
    try:
        parts = urlsplit(url)
        return (
            f"{parts.hostname or '(no host)'}:{parts.port}" if parts.port else parts.hostname or "(no host)"
        )
    except ValueError:
        return "(no host)"
