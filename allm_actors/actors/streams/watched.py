"""Waiting for a result from an event loop that belongs to the caller, who may close it meanwhile.

Rule of this file: closing a loop notifies nobody, so whoever waits elsewhere polls whether it is still open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, TypeVar

import pykka

from allm_actors.actors.loops import current_loop
from allm_actors.data import EngineError
from allm_actors.engine.threads import running_loop
from supervisors import Future

__all__ = ["CLOSED", "Answer", "Watched", "watched"]

T = TypeVar("T")

CLOSED = "the event loop that this host was entered on is closed; enter a separate host on each event loop"
_LOOK = 0.5  # seconds between two polls


class Watched(Future[T]):
    """A future that `loop` has to settle: if the loop is closed first, waiting for it raises EngineError.

    Without a `loop` it is derived from others (`map`, `join`), which poll themselves.
    Thread: any but the loop's own.
    """

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        super().__init__()
        self._loop = loop

    def get(self, *, timeout: float | None = None) -> Any:
        """As `Future.get`."""
        while self._loop is not None and timeout is None and not self.done():
            try:
                return super().get(timeout=_LOOK)
            except pykka.Timeout:
                self._look()
        return super().get(timeout=timeout)

    def __await__(self) -> Generator[Any, None, T]:
        loop = running_loop()

        def look() -> None:
            self._look()
            timers[0] = loop.call_later(_LOOK, look)

        timers = [loop.call_later(_LOOK, look)]
        try:
            return (yield from super().__await__())
        finally:
            timers[0].cancel()

    __iter__ = __await__

    def follow(self, other: Future[T]) -> None:
        """Be settled as `other` was."""
        if other.error is None:
            self.set(other.get())
        else:
            self.fail(other.error)

    def _look(self) -> None:
        if self._loop is not None and self._loop.is_closed():
            self.fail(EngineError("invalid_engine", message=CLOSED))


class Answer(Watched[T]):
    """What somebody was asked on the caller's loop: if it is an error at which nobody has looked when the last
    reference is gone, because an `await` was forgotten, the loop is told, as of a future of asyncio's.
    """

    __slots__ = ("_seen",)

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        super().__init__(loop)
        self._seen = False

    @property
    def error(self) -> BaseException | None:
        """As `Future.error`."""
        self._seen = True
        return super().error

    def get(self, *, timeout: float | None = None) -> Any:
        """As `Watched.get`."""
        self._seen = True
        return super().get(timeout=timeout)

    def __await__(self) -> Generator[Any, None, T]:
        self._seen = True  # also if the wait is given up
        return super().__await__()

    __iter__ = __await__

    def __del__(self) -> None:
        error = None if self._seen else super().error
        if error is not None and self._loop is not None:
            words = "the exception of a host's answer was never retrieved: `await` is missing"
            self._loop.call_exception_handler({"message": words, "exception": error, "future": self})


def watched(future: Future[T], loop: asyncio.AbstractEventLoop | None) -> Future[T]:
    """A future to wait on in place of `future`, which `loop` has to settle (None: a loop that nobody else closes)."""
    if loop is None or current_loop() is loop:
        return future
    watch: Watched[T] = Watched(loop)
    future.add_done_callback(watch.follow)
    return watch
