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

__all__ = ["call_on", "current_loop", "on_thread"]

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


async def on_thread(work: Callable[[], T]) -> T:
    """What `work` gives, on a daemon thread of its own.

    Not one of the loop's: those are few, whoever hangs on one lets the next wait, and the loop's end waits for all.
    """
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
        try:
            result, error = context.run(work), None
        except BaseException as raised:  # noqa: BLE001 - it is the task's
            result, error = None, raised
        call_on(loop, lambda: tell(result, error))

    threading.Thread(target=run, name="settling", daemon=True).start()
    return await done
