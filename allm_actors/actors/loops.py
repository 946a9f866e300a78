"""Calling onto an event loop from wherever one is.

Rule of this file: a call that finds its loop closed is dropped: what it would have touched is gone with the loop. Who
waits for what the call would bring must look at the answer.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["begun_on_thread", "call_on", "current_loop", "finished", "on_thread", "refuse_waiting_on"]

T = TypeVar("T")


def call_on(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> bool:
    """Run `call` on `loop`: now when this is its thread, soon otherwise. Never blocks. False: the loop is closed."""
    if current_loop() is loop:
        call()
        return True
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        return False
    return True


def current_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs on this thread, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def refuse_waiting_on(loop: asyncio.AbstractEventLoop | None) -> None:
    """Raises RuntimeError on the event loop that has to bring what is about to be waited for."""
    if loop is not None and current_loop() is loop:
        raise RuntimeError(
            "waiting here would stop the event loop that this call runs on; use `await` or `async for`, `allm.aio` for "
            "a call in an asynchronous adapter, and `asyncio.to_thread` for what cannot be awaited"
        )


async def on_thread(work: Callable[[], T]) -> T:
    """What `work` gives, on a daemon thread of its own.

    Not one of the loop's: those are few, whoever hangs on one lets the next wait, and the loop's end waits for all.
    """
    return await begun_on_thread(work)


def begun_on_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """As `on_thread`, begun here and now. It is no task, so that whoever cancels all tasks does not cancel it."""
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
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
        call_on(loop, lambda: tell(result, error))

    threading.Thread(target=run, name="allm-work", daemon=True).start()
    return done


async def finished(work: asyncio.Future[T]) -> T:
    """What `work` comes to. A wait that is cancelled, however often, ends as such when the work is over."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError as error:
            cancelled = error
        except BaseException:
            if not work.done():  # it is not the work's: the loop itself ends
                raise
    if cancelled is not None:
        raise cancelled
    return work.result()


def _carried(stop: StopIteration) -> RuntimeError:
    error = RuntimeError("the function raised StopIteration")
    error.__cause__ = stop
    return error
