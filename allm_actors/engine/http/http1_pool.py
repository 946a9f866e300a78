"""Connections of one event loop, kept apart by host and by credential.

Rule of this file: a connection is in use, idle, or gone, and `open` counts the first two. The one used last
is reused first, so that surplus ones stay idle; one that is idle for too long is closed.

An HTTP/2 connection is shared by as many exchanges as its server allows; until the first connection to a host
has shown which version the host speaks, later callers wait for it.

Thread: the event loop's. A pool belongs to the loop that first asks it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from .http1_connection import BufferedConnection, Connection
from .http1_dial import connected_socket

if TYPE_CHECKING:
    from .http2_connection import Http2Connection  # needs h2, which may not be installed

__all__ = ["Origin", "Pool"]

_BUFFER_BYTES = 64 * 1024


AnyConnection: TypeAlias = "Connection | Http2Connection"


class Origin(NamedTuple):
    """Where a connection goes, and for which key: `credential` is a digest, never the secret. For `public`
    see `connected_socket`.
    """

    scheme: str
    host: str
    port: int
    credential: bytes = b""
    public: bool = False


class Pool:
    """Connections, opened when there is no idle one. Units: seconds; None is no limit.

    At most `most` are open to one origin, and further callers wait in line; of all idle ones, the `most_idle` that
    were used last are kept. `http2` is the class for HTTP/2, if a server chooses that; without it HTTP/2 is not
    offered.
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
        self._context, self._http2 = context, http2
        self._most, self._most_idle, self._idle_seconds = most, most_idle, idle_seconds
        self._loop = asyncio.get_running_loop()
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._places: dict[Origin, _Place] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._one_less: asyncio.Future[None] | None = None

    @property
    def open(self) -> int:
        """How many connections there are, in use or idle."""
        return sum(len(place.connections) for place in self._places.values())

    async def connection(self, origin: Origin) -> AnyConnection:
        """A connection that can be used now. Raises OSError (including `ssl.SSLError`) if none can be opened."""
        place = self._places.get(origin)
        if place is None:
            place = self._places[origin] = _Place(origin)
        place.askers += 1
        waited = False
        try:
            while True:
                found = place.take() if waited or not place.line else None
                if found is None and (waited or not place.line) and self._may_dial(place):
                    found = await self._connect(place)
                if found is not None:
                    if place.shared or place.idle or self._may_dial(place):
                        place.wake()  # there is a connection for the next in line, too
                    return found
                await place.wait(first=waited)
                waited = True
        finally:
            place.askers -= 1
            self._tidy(place)

    def is_full(self, origin: Origin) -> bool:
        """Whether `most` connections are open to this origin."""
        place = self._places.get(origin)
        return place is not None and not self._has_room(place)

    def let_go_of_idle(self, origin: Origin) -> None:
        """Close the idle connections to this origin: one of them was dead, so the others probably are, too."""
        place = self._places.get(origin)
        for connection in list(place.idle) if place is not None else ():
            place.close(connection)  # type: ignore[union-attr]

    async def aclose(self) -> None:
        """Close every connection; returns when their sockets are closed."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        connections = [each for place in self._places.values() for each in place.connections]
        for connection in connections:
            connection.close()
        while any(connection.alive for connection in connections):
            self._one_less = self._loop.create_future()
            await self._one_less

    def _may_dial(self, place: _Place) -> bool:
        if not self._has_room(place):
            return False
        return self._http2 is None or place.only_http1 or not place.dialling or place.origin.scheme != "https"

    def _has_room(self, place: _Place) -> bool:
        return self._most is None or len(place.connections) + place.dialling < self._most

    async def _connect(self, place: _Place) -> AnyConnection:
        def freed(made: Connection) -> None:
            self._freed(place, made)

        def lost(made: Connection) -> None:
            self._lost(place, made)

        secure = place.origin.scheme == "https"
        http1 = Connection(freed, lost) if secure else BufferedConnection(self._buffer, freed, lost)
        if self._http2 is not None and secure:
            return await self._choose(place, http1, self._http2)
        place.connections.add(http1)
        try:
            await self._dial(place.origin, http1)
        except BaseException:
            http1.close()
            self._lost(place, http1)
            raise
        return http1

    async def _choose(self, place: _Place, http1: Connection, http2: type[Http2Connection]) -> AnyConnection:
        """A connection of the version that the server chooses; one of HTTP/2 is shared with the others in line."""
        shared = http2(lambda made: self._freed_of_one(place, made), lambda made: self._lost(place, made))
        either = _Either(http1, shared)
        place.dialling += 1
        if place.only_http1:
            place.wake()  # a caller that waited to learn the host's version may open another connection
        try:
            await self._dial(place.origin, either)
            place.connections.add(either.chosen)
            if either.chosen is shared:
                await shared.settled()
                place.shared.append(shared)
            place.only_http1 = either.chosen is http1
            return either.chosen
        except BaseException:
            either.chosen.close()
            self._lost(place, either.chosen)
            raise
        finally:
            place.dialling -= 1
            place.wake()

    async def _dial(self, origin: Origin, protocol: asyncio.BaseProtocol) -> None:
        secure = origin.scheme == "https"
        # Before a socket is opened: if this fails, none is left open.
        context = self._context() if secure else None
        await self._loop.create_connection(
            lambda: protocol,
            sock=await connected_socket(origin.host, origin.port, public=origin.public),
            ssl=context,
            server_hostname=origin.host if secure else None,
        )

    def _freed(self, place: _Place, connection: Connection) -> None:
        place.idle.append(connection)
        self._rests(place, connection)

    def _freed_of_one(self, place: _Place, connection: Http2Connection) -> None:
        """A shared connection has room for one more exchange; without any it becomes idle."""
        if connection.busy or not connection.alive:
            place.wake()
        else:
            self._rests(place, connection)

    def _rests(self, place: _Place, connection: AnyConnection) -> None:
        """A connection has become idle. If that is one too many, the one that has been idle longest is closed: those
        who are busy keep theirs.
        """
        connection.idle_since = self._loop.time()
        idle = [(each.idle_since, there, each) for there in self._places.values() for each in there.resting()]
        if len(idle) > self._most_idle:
            _, there, oldest = min(idle, key=lambda each: each[0])
            there.close(oldest)
        place.wake()
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(self._idle_seconds, self._sweep)

    def _lost(self, place: _Place, connection: AnyConnection) -> None:
        place.connections.discard(connection)
        place.forget(connection)
        place.wake()
        self._tidy(place)
        if self._one_less is not None and not self._one_less.done():
            self._one_less.set_result(None)

    def _tidy(self, place: _Place) -> None:
        if not place.connections and not place.askers and self._places.get(place.origin) is place:
            del self._places[place.origin]

    def _sweep(self) -> None:
        self._sweeping = None
        now, oldest = self._loop.time(), None
        for place in self._places.values():
            for connection in place.resting():
                if now - connection.idle_since >= self._idle_seconds:
                    place.close(connection)
                elif oldest is None or connection.idle_since < oldest:
                    oldest = connection.idle_since
        if oldest is not None:
            self._sweeping = self._loop.call_at(oldest + self._idle_seconds, self._sweep)


class _Either(asyncio.Protocol):
    """Becomes the protocol that the server has chosen, before the first byte is read."""

    def __init__(self, http1: Connection, http2: Http2Connection) -> None:
        self._http2 = http2
        self.chosen: AnyConnection = http1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is done."""
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
            self.chosen = self._http2
        transport.set_protocol(self.chosen)
        self.chosen.connection_made(transport)


class _Place:
    """The connections to one origin, and the line of those who wait for one. `idle` has only HTTP/1.1 connections."""

    __slots__ = (
        "askers",
        "called",
        "connections",
        "dialling",
        "idle",
        "only_http1",
        "origin",
        "shared",
        "waiting",
    )

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.connections: set[AnyConnection] = set()
        self.idle: list[Connection] = []
        self.shared: list[Http2Connection] = []
        self.dialling = 0  # connections whose HTTP version is not known yet
        self.only_http1 = False  # the last connection turned out to be HTTP/1.1
        self.askers = 0
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.called = 0  # waiters that were woken and have not run yet

    @property
    def line(self) -> bool:
        """Whether others wait already, so that a new caller has to wait behind them."""
        return bool(self.waiting) or self.called > 0

    def take(self) -> AnyConnection | None:
        """A shared connection with room for another exchange, or the idle one that was used last, or None."""
        for shared in self.shared:
            if shared.usable:
                return shared
        while self.idle:
            connection = self.idle.pop()
            if connection.usable and connection.quiet:
                return connection
            connection.close()
        return None

    def resting(self) -> list[AnyConnection]:
        """The idle connections, shared ones included."""
        return [*self.idle, *(each for each in self.shared if not each.busy)]

    def close(self, connection: AnyConnection) -> None:
        """Close an idle connection."""
        self.forget(connection)
        connection.close()

    def forget(self, connection: AnyConnection) -> None:
        """It gets no more requests."""
        if connection in self.idle:
            self.idle.remove(connection)
        if connection in self.shared:
            self.shared.remove(connection)

    async def wait(self, *, first: bool) -> None:
        """Wait until a connection is idle or may be opened. The longest wait is over first; `first`: join the
        line at its head, because this caller has waited before.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self.waiting.appendleft if first else self.waiting.append)(turn)
        try:
            await turn
        except BaseException:
            if turn in self.waiting:
                self.waiting.remove(turn)
            elif not turn.cancelled():  # we had been woken: pass the turn on
                self.called -= 1
                self.wake()
            raise
        self.called -= 1

    def wake(self) -> None:
        """Wake the first in line."""
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                self.called += 1
                turn.set_result(None)
                return
