"""Blocking work, run on a thread for code on an event loop.

Rule of this file: a new daemon thread for each piece of work. Not one of the loop's executor: those are few,
a hanging one makes others wait, and the end of the loop and of the interpreter waits for all of them. If the
machine cannot start a thread, it is tried again for some seconds.
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
_PATIENCE = 5.0  # seconds for which starting a thread is tried again
_PAUSE = 0.05


def running_loop() -> asyncio.AbstractEventLoop:
    """The asyncio loop that runs here. Raises RuntimeError where there is none, as under trio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        advice = (
            "this needs a running asyncio event loop, and there is none here; use asyncio.run, or the "
            "synchronous functions (under trio, through trio.to_thread.run_sync)"
        )
        raise RuntimeError(advice) from None


async def on_thread(work: Callable[[], T]) -> T:
    """Run `work` on a thread and return its result. Raises what it raises. If the wait is cancelled, `work` goes on."""
    return await begun_on_thread(work)


def begun_on_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """As `on_thread`, but started at once. Returns a plain future, which is not cancelled when all tasks are."""
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
        except StopIteration as raised:  # cannot be set on a future, and the wait would never end
            error = _carried(raised)
        except BaseException as raised:  # noqa: BLE001 - raised to the waiting task
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, result, error)
        del error  # it has this frame in its traceback, and with this it would be a reference cycle

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
