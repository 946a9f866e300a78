"""Work that may block, for whoever is on an event loop and must not.

Rule of this file: a thread of its own for each piece of work, a daemon. Not one of the loop's: those are few, whoever
hangs on one lets the next wait, and the end of the loop and of the interpreter waits for all. A machine that has no
thread to give is asked again, for some seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable
from typing import Any, TypeVar

from supervisors.runtime.birth import DaemonThread

__all__ = ["begun_on_thread", "on_thread", "running_loop"]

T = TypeVar("T")
_PATIENCE = 5.0  # seconds for which a machine that has no thread to give is asked again
_PAUSE = 0.05


def running_loop() -> asyncio.AbstractEventLoop:
    """The event loop that runs here. Raises RuntimeError where there is none, also under trio, which has others."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        advice = (
            "this needs an event loop of asyncio, and none runs here; use asyncio.run, or the synchronous functions: "
            "under trio by trio.to_thread.run_sync"
        )
        raise RuntimeError(advice) from None


async def on_thread(work: Callable[[], T]) -> T:
    """What `work` gives. Raises what it raises. It goes on when the wait for it is cancelled."""
    return await begun_on_thread(work)


def begun_on_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """As `on_thread`, begun here and now. It is no task, so that whoever cancels all tasks does not cancel it."""
    loop, context = running_loop(), contextvars.copy_context()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)  # type: ignore[arg-type]
        else:
            done.set_exception(error)

    def run() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = context.run(work)
        except StopIteration as raised:  # which no future takes, and whoever waits would never hear of it
            error = _carried(raised)
        except BaseException as raised:  # noqa: BLE001 - it is the task's
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, result, error)

    _start(run, loop, done, loop.time() + _PATIENCE)
    return done


def _start(
    run: Callable[[], None], loop: asyncio.AbstractEventLoop, done: asyncio.Future[Any], until: float
) -> None:
    try:
        DaemonThread(run, "allm-work").start()
    except (RuntimeError, MemoryError) as error:
        if loop.time() < until:
            loop.call_later(_PAUSE, _start, run, loop, done, until)
        elif not done.done():
            done.set_exception(error)


def _carried(stop: StopIteration) -> RuntimeError:
    error = RuntimeError("the function raised StopIteration")
    error.__cause__ = stop
    return error
