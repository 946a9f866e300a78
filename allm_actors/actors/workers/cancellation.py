"""Coroutines that go on after they were cancelled, and event loops that are blocked: counted, and logged for
operators with where they are.

Rule of this file: nothing here can end one. A coroutine that catches its cancellation just goes on; one that
blocks holds up its whole event loop, so that the others on it do not even receive their cancellation.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary, ref

from allm_actors.actors.log import log
from supervisors import System
from supervisors.runtime.stacks import calls_of

__all__ = ["Cancellation", "LoopWatch", "strays_of"]

GRACE = 1.0  # seconds that a coroutine has to end, as a thread has
_FRAMES = 5  # the innermost calls, which are the user's

Task = asyncio.Task[Any]

_lock = threading.Lock()
# By system and task: the id of the blocked thread, or None for a coroutine that was cancelled and goes on.
_strays: WeakKeyDictionary[System, WeakKeyDictionary[Task, int | None]] = WeakKeyDictionary()


class Cancellation:
    """The cancellation of one coroutine. `task` returns its task once it has begun; `who` names its work in the log."""

    __slots__ = ("_heard", "_ident", "_system", "_task", "_who")

    def __init__(
        self, system: System, who: str | None, task: Callable[[], Task | None], ident: int | None
    ) -> None:
        self._system, self._who, self._task, self._ident = system, who, task, ident
        self._heard = False

    def say(self) -> None:
        """Cancel it. Thread: its event loop's."""
        self._heard = True
        task = self._task()
        if task is not None:
            task.cancel()

    def look_later(self) -> None:
        """Check after `GRACE` seconds whether it has ended, and log it if not. Thread: any."""
        task = self._task()
        if task is not None and not task.done():
            one = ref(task)  # once it has ended, nothing here keeps its frames, and what they were reading
            self._system.timers.after(GRACE, lambda: self._look(one()))

    def _look(self, task: Task | None) -> None:
        if task is None or task.done():
            return
        ident = None if self._heard else self._ident
        with _lock:
            strays = _strays.setdefault(self._system, WeakKeyDictionary())
            known = ident is not None and any(ident == each for each in _going_on(strays).values())
            strays[task] = ident
        if ident is None:
            _tell(self._system, "a coroutine continues after it was cancelled", self._who, _awaiting(task))
        elif not known:  # otherwise this thread has been logged already
            _tell(self._system, "an event loop is blocked", self._who, _running(ident))


class LoopWatch:
    """Looks whether the event loop that a host's sessions live on is blocked, as by a coroutine of the user's.

    Whoever waits for that loop asks for a look; a blocked loop is logged once. Thread: any.
    """

    __slots__ = ("_asked", "_system")

    def __init__(self, system: System) -> None:
        self._system = system
        self._asked: float | None = None  # when the loop was asked to answer, until it has

    def look(self) -> None:
        """Check after `GRACE` seconds whether the loop has answered, and log it if not."""
        loop: asyncio.AbstractEventLoop | None = getattr(self._system.dispatcher("loop"), "begun", None)
        if loop is None or self._asked is not None:
            return
        self._asked = time.monotonic()
        with suppress(RuntimeError):  # it is closed
            loop.call_soon_threadsafe(self._answer, context=Context())
        self._system.timers.after(GRACE, lambda: self._check(loop))

    def _answer(self) -> None:
        self._asked = None

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        asked, now = self._asked, time.monotonic()
        if asked is None or not loop.is_running():
            return
        if now - asked > 2 * GRACE:  # this check is late itself: the whole process was paused
            self._asked = None
            self.look()
        elif now - asked >= GRACE:
            ident = getattr(self._system.dispatcher("loop"), "ident", None)
            _tell(self._system, "an event loop is blocked", None, "" if ident is None else _running(ident))


def _tell(system: System, what: str, who: str | None, where: str) -> None:
    # Not on the timers' thread: what blocks may be a handler of the log, and all deadlines wait for that thread.
    about = {"where": where} if who is None else {"who": who, "where": where}
    system.apart(lambda: log.error(what, **about))


def strays_of(system: System) -> int:
    """How many such coroutines there are now. Thread: any."""
    with _lock:
        strays = _strays.get(system)
        return 0 if strays is None else len(_going_on(strays))


def _going_on(strays: WeakKeyDictionary[Task, int | None]) -> dict[Task, int | None]:
    return {task: ident for task, ident in list(strays.items()) if not task.done()}


def _awaiting(task: Task) -> str:
    """Where a coroutine waits: its frames, the outermost first."""
    frames: list[tuple[FrameType, int]] = []
    awaited: Any = task.get_coro()
    while (frame := _part(awaited, "frame")) is not None:
        frames.append((frame, frame.f_lineno))
        awaited = _part(awaited, "await")
        if type(awaited).__name__.startswith("async_generator_"):  # it does not say of which generator
            awaited = next(filter(inspect.isasyncgen, gc.get_referents(awaited)), None)
    return _shown(frames)


def _part(awaited: Any, what: str) -> Any:
    """The frame of a coroutine or an asynchronous generator, or what it awaits."""
    return getattr(awaited, f"cr_{what}", None) or getattr(awaited, f"ag_{what}", None)


def _running(ident: int) -> str:
    """Where a thread is: its frames, the outermost first."""
    return _shown(calls_of(ident))


def _shown(frames: list[tuple[FrameType, int]]) -> str:
    lines = (f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}" for frame, line in frames)
    return " > ".join(list(lines)[-_FRAMES:])
