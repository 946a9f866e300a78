"""Connections of one event loop, kept apart by host and by credential.

Rule of this file: a connection is in use, or idle here, or gone, and `open` counts the first two. The last one used is
used first, so that those too many grow old; what is idle for too long is closed.

Thread: the event loop's. A pool belongs to the loop that first asks it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from .http1_connection import Connection
from .http1_dial import connected_socket

__all__ = ["Origin", "Pool"]

_BUFFER_BYTES = 64 * 1024


class Origin(NamedTuple):
    """Where a connection goes, and for whom: `credential` is a digest, never the secret. See `connected_socket`."""

    scheme: str
    host: str
    port: int
    credential: bytes = b""
    public: bool = False


class Pool:
    """Connections, opened when there is no idle one. Units: seconds; None is no limit.

    At most `most` are open to one origin, and who comes then waits in line; at most `most_idle` are kept of all.
    """

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        *,
        most: int | None = None,
        most_idle: int = 100,
        idle_seconds: float = 30.0,
    ) -> None:
        self._context = context
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

    async def connection(self, origin: Origin) -> Connection:
        """One that can be used now. Raises OSError (`ssl.SSLError` among them) when there can be none."""
        place = self._places.get(origin)
        if place is None:
            place = self._places[origin] = _Place(origin)
        place.askers += 1
        try:
            while True:
                idle = place.take()
                if idle is not None:
                    return idle
                if self._most is None or len(place.connections) < self._most:
                    return await self._connect(place)
                await place.wait()
        finally:
            place.askers -= 1
            self._tidy(place)

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

    async def _connect(self, place: _Place) -> Connection:
        origin = place.origin
        connection = Connection(
            self._buffer, lambda made: self._freed(place, made), lambda made: self._lost(place, made)
        )
        place.connections.add(connection)
        try:
            secure = origin.scheme == "https"
            await self._loop.create_connection(
                lambda: connection,
                sock=await connected_socket(origin.host, origin.port, public=origin.public),
                ssl=self._context() if secure else None,
                server_hostname=origin.host if secure else None,
            )
        except BaseException:
            connection.close()
            self._lost(place, connection)
            raise
        return connection

    def _freed(self, place: _Place, connection: Connection) -> None:
        if sum(len(each.idle) for each in self._places.values()) >= self._most_idle:
            connection.close()
            return
        connection.idle_since = self._loop.time()
        place.idle.append(connection)
        place.wake()
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(self._idle_seconds, self._sweep)

    def _lost(self, place: _Place, connection: Connection) -> None:
        place.connections.discard(connection)
        if connection in place.idle:
            place.idle.remove(connection)
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
            for connection in tuple(place.idle):
                if now - connection.idle_since >= self._idle_seconds:
                    place.idle.remove(connection)
                    connection.close()
                elif oldest is None or connection.idle_since < oldest:
                    oldest = connection.idle_since
        if oldest is not None:
            self._sweeping = self._loop.call_at(oldest + self._idle_seconds, self._sweep)


class _Place:
    """The connections to one origin, and who waits for one."""

    __slots__ = ("askers", "connections", "idle", "origin", "waiting")

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.connections: set[Connection] = set()
        self.idle: list[Connection] = []
        self.askers = 0
        self.waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> Connection | None:
        """The idle one that was used last."""
        while self.idle:
            connection = self.idle.pop()
            if connection.usable:
                return connection
        return None

    async def wait(self) -> None:
        """Until one is idle or may be opened; who waits longest is told first."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn in self.waiting:
                self.waiting.remove(turn)
            else:
                self.wake()  # the turn was ours, and nobody would know
            raise

    def wake(self) -> None:
        """One of those who wait may look again."""
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
