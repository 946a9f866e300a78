"""A body on its way to one reader, with its timeouts.

Rule of this file: the source of the bytes calls `put` and `end`, the reader calls `pour`. Bytes reach the
reader in the call that brings them; while nobody reads, their source holds them.

A wait only notes when it began. One timer per body checks whether that is too long ago, and is set again if
not: setting and cancelling a timer for each read would cost more than decoding what was read.
Thread: the event loop's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Protocol, Self

from allm_actors.data import AdapterError

from .doubt import DOUBT as _DOUBT

__all__ = ["Inflow", "Limits", "ReadSource", "Source", "beginning_of"]

_AHEAD_BYTES = 64 * 1024


class Limits(Protocol):
    """How long a read may wait, and the errors for what goes wrong."""

    def silence_ends(self, since: float) -> float | None:
        """When a read that has waited since `since` times out, on the loop's clock; None: never."""
        ...

    def is_over(self, now: float) -> bool:
        """Whether the whole call has taken too long at `now`, including time in which the reader was waited for."""
        ...

    def silent(self) -> AdapterError:
        """The error for a read, or the whole call, that has taken too long."""
        ...

    def failure(self, error: Exception) -> AdapterError:
        """The error, with text that may be shown, for an exception of the source."""
        ...


class Source(Protocol):
    """Brings the bytes, or holds them while it is told to."""

    def pour(self, sink: Inflow) -> None:
        """From now on everything goes to `sink`; data that was held goes first."""
        ...

    def hold(self) -> None:
        """From now on everything is held. May be called from within `Inflow.put`."""
        ...


class Inflow:
    """The reader's end of one body."""

    __slots__ = (
        "_ended",
        "_failure",
        "_feed",
        "_in_doubt",
        "_limits",
        "_loop",
        "_since",
        "_source",
        "_timer",
        "_waiting",
    )

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source, self._limits = source, limits
        self._loop = asyncio.get_running_loop()
        self._feed: Callable[[bytes], bool] | None = None
        self._waiting: asyncio.Future[bool] | None = None
        self._ended = False
        self._failure: BaseException | None = None
        self._since = 0.0
        self._in_doubt = False
        self._timer: asyncio.TimerHandle | None = None

    async def pour(self, feed: Callable[[bytes], bool]) -> bool:
        """Call `feed` with all data, in the call that brings it, until it returns False. False at the end of the body.

        Raises `AdapterError` when the body breaks off or comes too late, and what `feed` raises.
        """
        if self._ended:
            return self._over()
        now = self._loop.time()
        if self._limits.is_over(now - _DOUBT):  # no timer runs while nobody reads
            self.end(self._limits.silent())
            return self._over()
        self._feed, self._since = feed, now
        self._waiting = waiting = self._loop.create_future()
        self._source.pour(self)
        if self._timer is None and not waiting.done():
            self._set_timer()
        try:
            more = await waiting
        finally:
            self._stop()
            self._waiting = None
        return more or self._over()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes; each item has everything that is there. Raises as `pour`."""
        held: list[bytes] = []

        def keep(data: bytes) -> bool:
            held.append(data)
            return False

        while await self.pour(keep):
            yield held.pop()

    def close(self) -> None:
        """The reader is done with the body."""
        self._stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Called by the source.

    def put(self, data: bytes) -> None:
        """Take the bytes of one read."""
        feed = self._feed
        if feed is None:
            return
        self._since = self._loop.time()
        try:
            if feed(data):
                return
        except BaseException as error:  # noqa: BLE001 - it belongs to the reader, not to the event loop that we are in
            self._failure, self._ended = error, True
        self._stop()
        self._wake(more=not self._ended)

    def end(self, error: Exception | None) -> None:
        """The body is complete, or broke off with `error`."""
        if not self._ended:
            self._ended = True
            self._failure = None if error is None else self._limits.failure(error)
            self._wake(more=False)

    # Private: in order of use.

    def _over(self) -> bool:
        if self._failure is not None:
            raise self._failure
        return False

    def _set_timer(self) -> None:
        self._in_doubt = False
        end = self._limits.silence_ends(self._since)
        self._timer = self._loop.call_at(end, self._look) if end is not None else None

    def _look(self) -> None:
        """The timer has fired: check whether the current wait has timed out."""
        self._timer = None
        if self._feed is None:
            return  # the next reader sets it again
        end = self._limits.silence_ends(self._since)
        if end is not None and self._loop.time() < end:
            self._set_timer()
        elif not self._in_doubt:
            self._in_doubt = True
            self._timer = self._loop.call_later(_DOUBT, self._look)
        else:
            self._stop()
            self.end(self._limits.silent())

    def _stop(self) -> None:
        if self._feed is not None:
            self._feed = None
            self._source.hold()

    def _wake(self, *, more: bool) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(more)


async def beginning_of(
    chunks: AsyncGenerator[bytes, None], limit: int, seconds: float | None = None
) -> bytes:
    """At most `limit` bytes of a body, read for at most `seconds`; if it breaks off, what came before.

    The beginning of an error response tells more than the failure to read the rest.
    """
    held = bytearray()
    try:
        async with asyncio.timeout(seconds), aclosing(chunks):
            async for chunk in chunks:
                held += chunk
                if len(held) >= limit:
                    break
    except (AdapterError, TimeoutError):
        pass
    return bytes(held[:limit])


class ReadSource:
    """A source that reads an iterator of bytes in a task, ahead of its reader within a bound.

    For httpx's own stack, which yields one chunk per HTTP chunk, of which one read of the socket may bring
    many. Those that come without waiting are passed on together, so that everything above works once per
    read.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._held: list[bytes] = []
        self._size = 0
        self._ended = self._giving = False
        self._error: Exception | None = None
        self._sink: Inflow | None = None
        self._room = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sink = None
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    def pour(self, sink: Inflow) -> None:
        """See `Source.pour`."""
        self._sink = sink
        if self._held or self._ended:
            self._give()

    def hold(self) -> None:
        """See `Source.hold`."""
        self._sink = None

    async def _read(self) -> None:
        try:
            async for chunk in self._chunks:
                self._held.append(chunk)
                self._size += len(chunk)
                self._give_soon()
                if self._size >= _AHEAD_BYTES:
                    self._room.clear()
                    await self._room.wait()
        except Exception as error:  # noqa: BLE001 - httpx, its transports and TLS raise many kinds; all mean "it failed"
            self._error = error
        finally:
            self._ended = True
            self._give_soon()

    def _give_soon(self) -> None:
        if self._sink is not None and not self._giving:
            self._giving = True
            self._loop.call_soon(self._give)

    def _give(self) -> None:
        self._giving = False
        if self._sink is not None and self._held:
            data, self._held, self._size = b"".join(self._held), [], 0
            self._room.set()
            self._sink.put(data)
        if self._sink is not None and self._ended and not self._held:
            self._sink.end(self._error)
