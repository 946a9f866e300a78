"""One connection that speaks HTTP/1.1, on the event loop that made it.

Rule of this file: one exchange at a time, and a connection is used again only after a complete answer to its
request. Whatever else ends an exchange (an error, a cancelled task, a reader who leaves early) closes the
socket, once. Bytes go from the socket to the reader without a task in between: socket, parser, sink, in the
call in which they came.

While nobody reads, data is held; above `HOLD_BYTES` reading from the socket is paused.
Thread: the event loop's.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable
from typing import Protocol, cast

from .http1_errors import ClosedError, MalformedError, RefusedError
from .http1_message import Outgoing, ResponseReader

__all__ = ["AT_ONCE_SECONDS", "HOLD_BYTES", "BufferedConnection", "Connection", "Exchange", "Sink"]

HOLD_BYTES = 64 * 1024
AT_ONCE_SECONDS = 0.5
"""If an idle connection breaks within this many seconds of a request, the request was most likely not read: a
server that was just closing it says so within one round trip. If it breaks later, the server may have worked
on the request.
"""


class Sink(Protocol):
    """Receives a body. Neither method may raise."""

    def put(self, data: bytes) -> None:
        """Take the bytes of one read."""
        ...

    def end(self, error: Exception | None) -> None:
        """The body is complete, or broke off with `error`. Called once, last."""
        ...


class Connection(asyncio.BaseProtocol):  # of an `asyncio.Protocol`, uvloop would not use the buffer below
    """A socket. `freed` is called when it can be used again, `lost` when it is closed.

    `used` says that it has carried an exchange, `heard` that data came since the last request.
    """

    def __init__(self, freed: Callable[[Connection], object], lost: Callable[[Connection], object]) -> None:
        self._freed, self._lost = freed, lost
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self.idle_since = 0.0  # on the loop's clock
        self.used = self.heard = False

    @property
    def alive(self) -> bool:
        """Whether the socket is open, or about to be closed."""
        return self._transport is not None

    @property
    def usable(self) -> bool:
        """Whether a request can be sent now."""
        return self._transport is not None and self._exchange is None and not self._transport.is_closing()

    @property
    def quiet(self) -> bool:
        """Whether the socket has nothing to read, neither data nor an end, as must be so before a request."""
        return self._transport is not None and not _is_readable(self._transport)

    async def send(self, request: Outgoing) -> Exchange:
        """Send, and return the answer once its head is here.

        Raises OSError and `MalformedError`; `ClosedError` if the peer closed the idle connection while we
        wrote.
        """
        if self._transport is None or not self.usable:
            raise RefusedError("the connection was closed before the request was sent")
        self.heard = False
        self._exchange = exchange = Exchange(self, ResponseReader(bodiless=request.method == b"HEAD"))
        began = time.monotonic()
        try:
            self._transport.write(request.head + request.body)
            await exchange.headed()
        except BaseException as error:
            self.close()
            unread = self.used and not self.heard and time.monotonic() - began < AT_ONCE_SECONDS
            if unread and isinstance(error, ConnectionError):
                raise ClosedError(str(error)) from None
            raise
        return exchange

    def close(self) -> None:
        """Close the socket now, whatever is going on. Harmless when it is closed."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()

    def is_for(self, exchange: Exchange) -> bool:
        """Whether this exchange is the current one."""
        return self._exchange is exchange

    def let_in(self, *, more: bool) -> None:
        """Resume reading from the socket if `more`, else pause it."""
        if self._transport is not None and not self._transport.is_closing():
            (self._transport.resume_reading if more else self._transport.pause_reading)()

    def finished(self, *, reusable: bool) -> None:
        """The exchange is over: the connection goes back to the pool, or is closed."""
        self._exchange, transport = None, self._transport
        self.used = True
        if transport is None or transport.is_closing():
            return
        if reusable and not _unsent(transport):
            self._freed(self)
        else:  # the answer came before the request was out, or is the last one
            self.close()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes | memoryview) -> None:
        """A read has come. `data` is only valid during the call."""
        self.heard = True
        if self._exchange is not None:
            self._exchange.arrived(data)
        else:
            self.close()  # data without a request: it must not be taken for the next answer

    def eof_received(self) -> None:
        """The peer will send nothing more; the event loop closes the socket when this returns."""
        if self._exchange is not None:
            self._exchange.arrived(None)

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        self._transport = None
        if self._exchange is not None:
            self._exchange.broke(error or ConnectionAbortedError("the connection was closed"))
        self._lost(self)


class BufferedConnection(Connection, asyncio.BufferedProtocol):
    """A socket without TLS. Reads go into `buffer`, which all connections of a loop share: each read is consumed
    before the next one is made.

    Not for TLS: when the peer ends the connection, asyncio's TLS fills such a buffer once more and drops what else
    it has decrypted. A protocol without a buffer gets everything.
    """

    def __init__(
        self, buffer: memoryview, freed: Callable[[Connection], object], lost: Callable[[Connection], object]
    ) -> None:
        super().__init__(freed, lost)
        self._buffer = buffer

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where the next read goes."""
        return self._buffer

    def buffer_updated(self, size: int) -> None:
        """A read has come."""
        self.data_received(self._buffer[:size])


class Exchange:
    """A request that was sent, and its answer."""

    __slots__ = ("_behind", "_connection", "_error", "_held_back", "_reader", "_sink", "_waiting")

    def __init__(self, connection: Connection, reader: ResponseReader) -> None:
        self._connection, self._reader = connection, reader
        self._waiting: asyncio.Future[None] | None = None  # for the head
        self._sink: Sink | None = None
        self._error: Exception | None = None
        self._behind = 0  # bytes held while nobody reads
        self._held_back = False

    @property
    def status(self) -> int:
        """The answer's."""
        return self._reader.status

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The answer's, as they came."""
        return self._reader.headers

    async def headed(self) -> None:
        """Wait for the head. Raises the error that comes instead of it."""
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def pour(self, sink: Sink) -> None:
        """From now on the body goes to `sink`; data that was held goes first."""
        self._sink, self._behind = sink, 0
        self._pass_on(sink)
        if self._held_back and self._sink is sink:
            self._held_back = False
            self._connection.let_in(more=True)

    def hold(self) -> None:
        """From now on the body is held here. May be called from within `Sink.put`."""
        self._sink = None

    def close(self) -> None:
        """Close the socket, unless the answer is complete. Harmless when it is over."""
        self._sink = None
        if self._connection.is_for(self):
            self._connection.close()

    # Called by the connection.

    def arrived(self, data: bytes | memoryview | None) -> None:
        """A read has come, or, with None, the end of the peer's data."""
        reader, sink = self._reader, self._sink
        try:
            if data is None:
                reader.eof()
            else:
                reader.feed(data)
        except (MalformedError, ConnectionError) as error:
            self.broke(error)
            return
        if sink is not None:
            self._pass_on(sink)
        elif reader.headed:
            self._keep(0 if data is None else len(data))

    def broke(self, error: Exception) -> None:
        """The exchange has failed, unless it is complete: tell the reader now, or when it asks."""
        if self._error is not None or self._reader.ended:
            return
        self._error = error
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
        if self._sink is not None:
            self._pass_on(self._sink)
        self._connection.close()

    # Private: in order of use.

    def _pass_on(self, sink: Sink) -> None:
        reader = self._reader
        if data := reader.take():
            sink.put(data)
            if self._sink is not sink:
                return  # it has enough for now
        if self._error is not None:
            self._sink = None
            sink.end(self._error)
        elif reader.ended:
            self._sink = None
            if self._connection.is_for(self):
                if self._held_back:
                    self._connection.let_in(more=True)
                self._connection.finished(reusable=reader.reusable)
            sink.end(None)

    def _keep(self, size: int) -> None:
        self._behind += size
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        if not self._held_back and not self._reader.ended and self._behind > HOLD_BYTES:
            self._held_back = True
            self._connection.let_in(more=False)


def _is_readable(transport: asyncio.BaseTransport) -> bool:
    number = transport.get_extra_info("socket").fileno()
    if not hasattr(select, "poll"):
        return bool(select.select([number], [], [], 0)[0])
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))


def _unsent(transport: asyncio.Transport) -> int:
    """Bytes of the request that are not sent yet: also those that TLS has passed on and no longer counts."""
    below = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    waiting = 0 if below is None else below.get_write_buffer_size()
    return transport.get_write_buffer_size() + int(waiting)
