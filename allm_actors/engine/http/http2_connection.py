"""One connection that speaks HTTP/2, on the event loop that made it: many exchanges at once.

Rule of this file: an exchange that ends before its answer does resets its stream, in the call that ends it, and the
connection goes on with the others. No frame is written across an `await`, so that a cancelled task cannot
leave half a frame behind. Bytes go from the socket to the reader in the call in which they came.

While nobody reads an answer it is held here, up to `WINDOW_BYTES` of it: the window is opened again as it is
read. A connection on which a request timed out must answer a PING before it gets another request.

h2 makes and reads the frames. Source: RFC 9113 sections 5.1.2 (limits), 5.2 (flow control), 6.7 and 6.8 (PING, GOAWAY),
8.7 (what may be sent again).
Thread: the event loop's.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import H2Error, StreamClosedError
from h2.settings import SettingCodes, Settings

from .http1_connection import AT_ONCE_SECONDS, Sink
from .http1_errors import ClosedError, MalformedError, RefusedError, StreamResetError
from .http1_message import Outgoing
from .http2_frames import Goaway, Sieve

__all__ = ["WINDOW_BYTES", "Http2Connection", "Http2Exchange"]

WINDOW_BYTES = 1024 * 1024
_OF_ALL = 2**31 - 1  # the connection's own window: a reader who is behind must not hold the others up
_SETTINGS = {
    SettingCodes.ENABLE_PUSH: 0,
    SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
    SettingCodes.MAX_HEADER_LIST_SIZE: 64 * 1024,
}
_OF_HTTP1 = frozenset(
    {b"host", b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"}
)
_LAST = 2**31 - 1  # the highest stream id; ids are never reused
_FRESH_SECONDS = 1.0  # no PING is needed if data came within this time
_PING_SECONDS = 5.0


class Http2Connection(asyncio.Protocol):
    """A socket. `freed` is called when another request may be sent, `lost` when the socket is closed."""

    def __init__(
        self, freed: Callable[[Http2Connection], object], lost: Callable[[Http2Connection], object]
    ) -> None:
        self._freed, self._lost = freed, lost
        self._loop = asyncio.get_running_loop()
        self._h2 = H2Connection(H2Configuration(client_side=True, validate_inbound_headers=False))
        self._sieve = Sieve()
        self._transport: asyncio.Transport | None = None
        self._exchanges: dict[int, Http2Exchange] = {}
        self._settled: asyncio.Future[None] = self._loop.create_future()
        self._leaving = False
        self._doubt: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._roused_at = -math.inf  # when it was last used after it had been idle
        self._heard = False  # since then
        self.idle_since = 0.0  # on the loop's clock

    @property
    def alive(self) -> bool:
        """Whether the socket is open, or about to be closed."""
        return self._transport is not None

    @property
    def busy(self) -> bool:
        """Whether an exchange is going on."""
        return bool(self._exchanges)

    @property
    def usable(self) -> bool:
        """Whether a request can be sent now: the peer limits concurrent streams, and may send GOAWAY."""
        return (
            self._transport is not None
            and not self._transport.is_closing()
            and not self._leaving
            and self._doubt is None
            and self._settled.done()
            and self._h2.highest_outbound_stream_id < _LAST
            and len(self._exchanges) < self._h2.remote_settings.max_concurrent_streams
        )

    async def settled(self) -> None:
        """Wait until the peer has sent its settings, and by them accepts requests. Raises OSError and
        `MalformedError`.
        """
        await self._settled

    async def send(self, request: Outgoing) -> Http2Exchange:
        """Send, and return the answer once its head is here. Raises OSError and `MalformedError`."""
        if not self.usable:
            raise RefusedError("the connection was closed before the request was sent")
        if not self._exchanges and self._h2.highest_outbound_stream_id:
            self._roused_at, self._heard = self._loop.time(), False
        exchange = self._begin(request)
        try:
            await exchange.headed()
        except BaseException as error:
            exchange.close()
            at_once = self._loop.time() - self._roused_at < AT_ONCE_SECONDS
            if isinstance(error, ConnectionError) and at_once and not self._heard:
                # The peer closed the idle connection while we wrote: it has most likely not read the request.
                raise ClosedError(str(error)) from None
            raise
        return exchange

    def close(self) -> None:
        """Close the socket now, whatever is going on. Harmless when it is closed."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()

    # Called by an exchange.

    def leave(self, exchange: Http2Exchange, held: int) -> None:
        """Give up the rest of an exchange's answer, of which `held` bytes are held. Harmless when it is over."""
        if self._exchanges.get(exchange.id) is not exchange or self._is_closing():
            return
        self._h2.acknowledge_received_data(held, exchange.id)
        self._h2.reset_stream(exchange.id, ErrorCodes.CANCEL)
        if self._loop.time() - self._heard_at > _FRESH_SECONDS:
            self._ask()
        self._flush()
        self._over(exchange)

    def taken(self, exchange: Http2Exchange, size: int) -> None:
        """`size` bytes were read: open the window by as much."""
        if size and not self._is_closing():
            self._h2.acknowledge_received_data(size, exchange.id)
            self._flush()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there, and both sides have chosen HTTP/2."""
        self._transport = cast(asyncio.Transport, transport)
        self._h2.local_settings = Settings(client=True, initial_values=_SETTINGS)
        del self._h2.local_settings[SettingCodes.ENABLE_CONNECT_PROTOCOL]  # a setting that only servers send
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_OF_ALL - self._h2.inbound_flow_control_window)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """A read has come."""
        self._heard, self._heard_at = True, self._loop.time()
        self._believe()
        try:
            frames, leaving = self._sieve.feed(data)
            events = self._h2.receive_data(frames)
        except (H2Error, MalformedError) as error:
            self._fail(error)
            return
        touched = [exchange for event in events if (exchange := self._take(event)) is not None]
        if any(isinstance(event, WindowUpdated | RemoteSettingsChanged) for event in events):
            # Only after all events: h2 already knows of a stream that was reset in the same read.
            for exchange in self._exchanges.values():
                self._push_out(exchange)
        self._flush()
        for exchange in dict.fromkeys(touched):
            exchange.pass_on()
        for each in leaving:
            self._goes_away(each)

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        self._transport = None
        self._believe()
        self._break(error or ConnectionAbortedError("the connection was closed"))
        self._lost(self)

    # Private: in order of use.

    def _is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def _begin(self, request: Outgoing) -> Http2Exchange:
        number = self._h2.get_next_available_stream_id()
        self._h2.send_headers(number, _fields(request), end_stream=not request.body)
        self._sieve.sent(0)
        self._exchanges[number] = exchange = Http2Exchange(self, number, request.body)
        self._push_out(exchange)
        self._flush()
        return exchange

    def _push_out(self, exchange: Http2Exchange) -> None:
        """Send as much of the request's body as the peer's window allows."""
        while exchange.unsent:
            room = min(self._h2.local_flow_control_window(exchange.id), self._h2.max_outbound_frame_size)
            if room <= 0:
                return
            piece, exchange.unsent = exchange.unsent[:room], exchange.unsent[room:]
            self._h2.send_data(exchange.id, bytes(piece), end_stream=not exchange.unsent)
            self._sieve.sent(room)

    def _flush(self) -> None:
        if self._transport is not None and (data := self._h2.data_to_send()):
            self._transport.write(data)

    def _ask(self) -> None:
        """Send a PING. Until something comes, the connection gets no more requests."""
        if self._doubt is None:
            self._h2.ping(b"anybody?")
            self._doubt = self._loop.call_later(_PING_SECONDS, self.close)

    def _believe(self) -> None:
        if self._doubt is not None:
            self._doubt.cancel()
            self._doubt = None
            self._freed(self)

    def _take(self, event: Event) -> Http2Exchange | None:
        """Handle one event of h2. Returns the exchange whose reader has to be told, or None."""
        if isinstance(event, RemoteSettingsChanged):
            self._settle()
            return None
        exchange = self._exchanges.get(getattr(event, "stream_id", None) or 0)
        if exchange is None:
            return None
        match event:
            case ResponseReceived():
                exchange.begin(event.headers)
            case DataReceived():
                exchange.keep(event.data, event.flow_controlled_length)
            case StreamEnded():
                exchange.ended = True
                self._over(exchange)
            case StreamReset():
                exchange.broke(_reset(event, begun=exchange.is_headed))
                self._over(exchange)
            case _:  # trailers, early hints, answers to PING: not needed
                pass
        return exchange

    def _settle(self) -> None:
        """The peer has sent its settings, for the first time or again. They may accept no requests yet."""
        if self._settled.done():
            self._freed(self)
        elif self._h2.remote_settings.max_concurrent_streams:
            self._settled.set_result(None)

    def _over(self, exchange: Http2Exchange) -> None:
        """Remove an exchange that has ended."""
        del self._exchanges[exchange.id]
        if exchange.unsent and exchange.ended:  # the answer came before the request was out
            with suppress(StreamClosedError):  # its reset may have come with it
                self._h2.reset_stream(exchange.id, ErrorCodes.CANCEL)
        if self._leaving and not self._exchanges:
            self.close()
        else:
            self._freed(self)

    def _goes_away(self, said: Goaway) -> None:
        """The peer takes no more requests. Those it has not processed may be sent on another connection."""
        self._leaving = True
        for exchange in [each for each in self._exchanges.values() if each.id > said.last]:
            exchange.broke(_reset(None, begun=exchange.is_headed))
            del self._exchanges[exchange.id]
            exchange.pass_on()
        if not self._exchanges:
            self.close()

    def _fail(self, error: H2Error | MalformedError) -> None:
        """The peer violated HTTP/2; the error names the violation as h2 does."""
        told = (
            error if isinstance(error, MalformedError) else MalformedError(f"HTTP/2: {type(error).__name__}")
        )
        self._flush()  # sends the GOAWAY that h2 has made
        self._break(told)
        self.close()

    def _break(self, error: Exception) -> None:
        if not self._settled.done():
            self._settled.set_exception(error)
            self._settled.exception()  # marks it as retrieved: the waiting task may be gone
        exchanges, self._exchanges = list(self._exchanges.values()), {}
        for exchange in exchanges:
            exchange.broke(error)
            exchange.pass_on()


class Http2Exchange:
    """A request that was sent, and its answer. `unsent` is the rest of its body, which waits for the peer's window."""

    __slots__ = (
        "_behind",
        "_connection",
        "_error",
        "_held",
        "_sink",
        "_waiting",
        "ended",
        "headers",
        "id",
        "status",
        "unsent",
    )

    def __init__(self, connection: Http2Connection, number: int, body: bytes) -> None:
        self._connection, self.id, self.unsent = connection, number, memoryview(body)
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.ended = False
        self._waiting: asyncio.Future[None] | None = None  # for the head
        self._sink: Sink | None = None
        self._error: Exception | None = None
        self._held: list[bytes] = []
        self._behind = 0  # bytes of the peer's window that are not given back yet

    @property
    def is_headed(self) -> bool:
        """Whether the answer has begun."""
        return bool(self.status)

    async def headed(self) -> None:
        """Wait for the head. Raises the error that comes instead of it."""
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def pour(self, sink: Sink) -> None:
        """From now on the body goes to `sink`; data that was held goes first."""
        self._sink = sink
        self.pass_on()

    def hold(self) -> None:
        """From now on the body is held here. May be called from within `Sink.put`."""
        self._sink = None

    def close(self) -> None:
        """Reset the stream, unless the answer is complete. Harmless when it is over."""
        self._sink = None
        held, self._behind = self._behind, 0
        self._connection.leave(self, held)

    # Called by the connection.

    def begin(self, headers: list[tuple[bytes, bytes]]) -> None:
        """The head has come."""
        status = next((value for name, value in headers if name == b":status"), b"")
        if not (len(status) == 3 and status.isdigit()):
            self.broke(MalformedError("HTTP/2: an answer without a status"))
            return
        self.status = int(status)
        self.headers = [(name, value) for name, value in headers if not name.startswith(b":")]
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def keep(self, data: bytes, size: int) -> None:
        """Take a piece of the body, which used `size` bytes of the window."""
        self._held.append(data)
        self._behind += size

    def broke(self, error: Exception) -> None:
        """The exchange has failed, unless it is complete."""
        if self._error is None and not self.ended:
            self._error = error
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_exception(error)

    def pass_on(self) -> None:
        """Give held data to the reader."""
        sink = self._sink
        if sink is None:
            return
        if self._held:
            data, self._held = b"".join(self._held), []
            size, self._behind = self._behind, 0
            self._connection.taken(self, size)
            if data:
                sink.put(data)
        if self._sink is sink and (self._error is not None or self.ended):
            self._sink = None
            sink.end(self._error)


def _fields(request: Outgoing) -> list[tuple[bytes, bytes]]:
    """The headers as HTTP/2 has them. Source: RFC 9113 sections 8.2.2 and 8.3.1."""
    host = next((value for name, value in request.headers if name.lower() == b"host"), b"")
    lowered = [(name.lower(), value) for name, value in request.headers]
    return [
        (b":method", request.method),
        (b":authority", host),
        (b":scheme", b"https"),
        (b":path", request.target),
        *((name, value) for name, value in lowered if name not in _OF_HTTP1),
    ]


def _reset(event: StreamReset | None, *, begun: bool) -> ConnectionError:
    """The error for a stream that was reset, or, without an event, ended by GOAWAY."""
    if not begun and (event is None or event.error_code == ErrorCodes.REFUSED_STREAM):
        return RefusedError("the server took no more requests")
    return StreamResetError("the server ended the answer before it was complete")
