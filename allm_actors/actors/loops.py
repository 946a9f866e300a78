"""Calling onto an event loop from wherever one is.

Rule of this file: a call that finds its loop closed is dropped: what it would have touched is gone with the loop. Who
waits for what the call would bring must look at the answer.
"""

from __future__ import annotations

import asyncio
import errno
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from allm_actors.data import EngineError

__all__ = [
    "call_on",
    "current_loop",
    "finished",
    "no_loop",
    "refuse_green_threads",
    "refuse_the_end",
    "refuse_waiting_on",
]

T = TypeVar("T")


def call_on(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> bool:
    """Run `call` on `loop`: now when this is its thread, soon otherwise. Never blocks. False: the loop is closed."""
    if current_loop() is loop:
        call()
        return True
    try:
        loop.call_soon_threadsafe(call)
    except RecursionError:
        raise
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


def refuse_green_threads() -> None:
    """Raises RuntimeError where gevent stands in for the threads and selectors that an event loop needs."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and any(map(monkey.is_module_patched, ("threading", "select"))):
        raise RuntimeError(
            "gevent has patched the threads or selectors of this process, on which no event loop can live; run "
            "allm_actors in a process that is not patched, or patch with thread=False, select=False"
        )


def refuse_the_end() -> None:
    """Raises RuntimeError in a finalizer at the very end of the interpreter, when no thread runs any more."""
    if sys.is_finalizing():
        raise RuntimeError(
            "the interpreter exits, and its threads have stopped; make this call before it does"
        )


def no_loop(error: OSError) -> EngineError:
    """What to say when the system has no files for an event loop."""
    why = str(error.strerror or error)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        why = (
            "as many files are open as the process or the machine may have; close some, or allow more: `ulimit -n`, "
            "LimitNOFILE of systemd, resource.setrlimit"
        )
    return EngineError("invalid_engine", message=f"there can be no event loop for this call now: {why}")


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
