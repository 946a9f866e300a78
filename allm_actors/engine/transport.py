"""Requests over the network: the only file that knows httpx.

Rule of this file: whatever goes wrong leaves here as an `AdapterError` that names the host and what to do,
and never a header, a key or a body. Four clocks run, each with its own message: until there is a connection,
until the answer begins, between two reads, and over all. A response is closed however its context is left; a
cancelled task closes its socket.

Thread: one `HttpxTransport` serves any number of event loops, each with its own pool of connections.
Importing this file is cheap: httpx is imported by the first request.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from allm_actors.data import AdapterError
from allm_actors.engine.wire import Deadlines, HttpRequest

if TYPE_CHECKING:
    import ssl

    import httpx

__all__ = ["HttpxTransport", "default_transport"]

_KEEP_ALIVE_CONNECTIONS = 100
_READ_AHEAD_BYTES = 64 * 1024
_lock = threading.Lock()
_default: HttpxTransport | None = None
_trusted: ssl.SSLContext | None = None


class HttpxTransport:
    """Connections to providers, a pool per event loop. `httpx_transport` replaces the network, for tests and gateways.

    Proxies and certificates are taken from the environment (`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`). The number of
    connections is not limited: a stream never waits for another one to end. Redirects are not followed.
    """

    def __init__(self, httpx_transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._httpx_transport = httpx_transport
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()

    @asynccontextmanager
    async def open(self, request: HttpRequest, deadlines: Deadlines) -> AsyncIterator[_Response]:
        """Send `request`. Raises `AdapterError` and nothing else."""
        clock = _Clock(deadlines, _host(request.url))
        response = await clock.until_answer(self._send(request, deadlines))
        try:
            yield _Response(response, clock)
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def _send(self, request: HttpRequest, deadlines: Deadlines) -> httpx.Response:
        client = self._client()
        built = client.build_request(
            request.method,
            request.url,
            content=request.body,
            headers={"accept-encoding": "identity", **request.headers},
            timeout=_timeouts(deadlines),
        )
        return await client.send(built, stream=True)

    def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = _make_client(self._httpx_transport)
        return client


def default_transport() -> HttpxTransport:
    """The transport that calls use when they are given no other. Thread: safe."""
    global _default  # noqa: PLW0603 - connections are shared by the process, as they are with every HTTP client
    with _lock:
        if _default is None:
            _default = HttpxTransport()
        return _default


class _Response:
    """A response whose body was not read yet."""

    def __init__(self, response: httpx.Response, clock: _Clock) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._inflow = _Inflow(_bytes_of(response), clock)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes: all that is there at once. Raises `AdapterError` and nothing else."""
        async with self._inflow as inflow:
            while chunk := await inflow.take():
                yield chunk

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
        return bytes(held[:limit])


async def _bytes_of(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    if (
        response.is_stream_consumed
    ):  # a transport without a network, httpx.MockTransport say, gave the body whole
        yield response.content
        return
    async for chunk in response.aiter_raw():
        yield chunk


class _Inflow:
    """Reads a body ahead of its reader, within a bound.

    httpx yields one chunk per HTTP chunk, and a busy process finds many of them in one read of the socket. The task
    here collects those for as long as they come without waiting, so that everything above it works once per read.

    A read that waits only notes since when. One timer per body looks whether that is too long ago, and is set anew when
    it is not: setting and cancelling a timer for each read would cost more than decoding what was read.
    """

    def __init__(self, chunks: AsyncIterator[bytes], clock: _Clock) -> None:
        self._chunks = chunks
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._held: list[bytes] = []
        self._size = 0
        self._ended = False
        self._failure: AdapterError | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def take(self) -> bytes:
        """All that has come; waits for the first of it. Empty at the end."""
        if not self._held and not self._ended:
            await self._wait()
        taken, self._held, self._size = b"".join(self._held), [], 0
        self._room.set()
        if not taken and self._failure is not None:
            raise self._failure
        return taken

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _wait(self) -> None:
        self._waiting, self._since = self._loop.create_future(), self._loop.time()
        if self._timer is None:
            self._set_timer()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _set_timer(self) -> None:
        end = self._clock.silence_ends(self._since)
        self._timer = self._loop.call_at(end, self._look) if end is not None else None

    def _look(self) -> None:
        """The timer has run out: was it for the read that waits now?"""
        self._timer = None
        if self._waiting is None:
            return  # whoever reads next sets it anew
        end = self._clock.silence_ends(self._since)
        if end is not None and self._loop.time() < end:
            self._set_timer()
        else:
            self._end(self._clock.silent())

    async def _read(self) -> None:
        failure: AdapterError | None = None
        try:
            async for chunk in self._chunks:
                self._held.append(chunk)
                self._size += len(chunk)
                self._wake()
                if self._size >= _READ_AHEAD_BYTES:
                    self._room.clear()
                    await self._room.wait()
        except Exception as error:  # noqa: BLE001 - httpx, its transports and TLS raise many kinds; all mean "it failed"
            failure = self._clock.failure(error)
        finally:
            self._end(failure)

    def _end(self, failure: AdapterError | None) -> None:
        if not self._ended:
            self._ended, self._failure = True, failure
            self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


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
            async with asyncio.timeout_at(self._earliest(self._loop.time(), limit)):
                response: httpx.Response = await sent
                return response
        except TimeoutError:
            silence, option = "did not begin to answer within", "first_byte_timeout or stream_timeout"
            failure = self._timed_out(silence, limit, option)
        except Exception as error:  # noqa: BLE001 - httpx, its transports and TLS raise many kinds; all mean "it failed"
            failure = self.failure(error)
        # Raised here, outside of `except`, so that no traceback leads to an exception that quotes a header.
        raise failure

    def silence_ends(self, since: float) -> float | None:
        """When a read that has waited `since` has waited too long; None: never."""
        return self._earliest(since, self._deadlines.idle)

    def silent(self) -> AdapterError:
        """A read has waited too long."""
        silence = "stopped in the middle of its answer and sent nothing for"
        return self._timed_out(silence, self._deadlines.idle, "stream_timeout")

    def failure(self, error: Exception) -> AdapterError:
        """What went wrong, in words that may be shown."""
        return _failure(error, self._host, self._deadlines)

    def _earliest(self, since: float, limit: float | None) -> float | None:
        if limit is None:
            return self._end
        return since + limit if self._end is None else min(since + limit, self._end)

    def _timed_out(self, silence: str, limit: float | None, option: str) -> AdapterError:
        if self._end is not None and self._loop.time() >= self._end:
            total = self._deadlines.total or 0.0
            return AdapterError(
                "timeout",
                message=f"the call to {self._host} took longer than {total:g} s in all; "
                "request_timeout allows more, in seconds",
                metadata={"phase": "total"},
            )
        message = f"{self._host} {silence} {limit or 0.0:g} s; {option} allows more, in seconds"
        return AdapterError("timeout", message=message, metadata={"phase": "silence"})


def _failure(error: Exception, host: str, deadlines: Deadlines) -> AdapterError:
    import httpx

    kind = type(error).__name__
    if isinstance(error, AdapterError):
        return error
    if isinstance(error, httpx.ConnectTimeout):
        limit = deadlines.connect or 0.0
        message = (
            f"no connection to {host} within {limit:g} s; check the network, base_url and proxy settings"
        )
        return AdapterError("timeout", message=message, cause=kind, metadata={"phase": "connect"})
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL):
        return AdapterError(
            "invalid_request", message="base_url must begin with http:// or https://", cause=kind
        )
    if isinstance(error, httpx.ConnectError | httpx.ProxyError):
        why = str(error) or kind
        message = f"cannot connect to {host} ({why}); check the network, base_url and proxy settings"
        return AdapterError("network_error", message=message, cause=kind, metadata={"phase": "connect"})
    if isinstance(error, httpx.LocalProtocolError | UnicodeError | ValueError):
        message = f"the request to {host} cannot be written: a header, or the key, has a character that is not allowed"
        return AdapterError("invalid_request", message=message, cause=kind)
    message = f"the connection to {host} broke ({kind}); the answer is not complete"
    return AdapterError("network_error", message=message, cause=kind, metadata={"partial": True})


def _make_client(httpx_transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=_KEEP_ALIVE_CONNECTIONS)
    return httpx.AsyncClient(
        transport=httpx_transport,
        verify=True if httpx_transport is not None else _trust(httpx.create_ssl_context),
        http2=False,
        follow_redirects=False,
        trust_env=True,
        limits=limits,
        headers={"user-agent": "allm-actors"},
    )


def _trust(make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """The certificates to trust: reading them takes tens of milliseconds, so it is done once and not once per loop."""
    global _trusted  # noqa: PLW0603 - see above
    with _lock:
        if _trusted is None:
            _trusted = make()
        return _trusted


def _timeouts(deadlines: Deadlines) -> httpx.Timeout:
    import httpx

    return httpx.Timeout(None, connect=deadlines.connect)


def _host(url: str) -> str:
    """Host and port: what of a URL may be shown. User names, paths and queries may hold secrets."""
    try:
        parts = urlsplit(url)
        return (
            f"{parts.hostname or '(no host)'}:{parts.port}" if parts.port else parts.hostname or "(no host)"
        )
    except ValueError:
        return "(no host)"
