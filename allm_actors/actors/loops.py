"""Scheduling calls on an event loop from any thread, and refusing waits that would never end.

Rule of this file: a call onto a closed loop is dropped, because what it would have touched is gone with the
loop. A caller that waits for the call's effect must check what `call_on` returns.
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
    """Raises RuntimeError if this thread runs `loop`, on which what is about to be waited for has to happen."""
    if loop is not None and current_loop() is loop:
        raise RuntimeError(
            "waiting here would block the event loop that this call runs on; use `await` or `async for`, "
            "`allm.aio` for a call in an asynchronous adapter, and `asyncio.to_thread` for what cannot be "
            "awaited"
        )


def refuse_green_threads() -> None:
    """Raises RuntimeError where gevent has patched the threads and selectors that an event loop needs."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and any(map(monkey.is_module_patched, ("threading", "select"))):
        raise RuntimeError(
            "gevent has patched the threads or selectors of this process, so no event loop can run in it; run "
            "allm_actors in a process that is not patched, or patch with thread=False, select=False"
        )


def refuse_the_end() -> None:
    """Raises RuntimeError in a finalizer during interpreter shutdown, when no other thread runs any more."""
    if sys.is_finalizing():
        raise RuntimeError("the interpreter is exiting and its threads have stopped; make this call earlier")


def no_loop(error: OSError) -> EngineError:
    """The error when no file descriptors are left to create an event loop."""
    why = str(error.strerror or error)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        why = (
            "too many files are open; close some, or raise the limit (`ulimit -n`, LimitNOFILE in systemd, "
            "resource.setrlimit)"
        )
    return EngineError("invalid_engine", message=f"no event loop can be created for this call: {why}")


async def finished(work: asyncio.Future[T]) -> T:
    """Wait for `work` and return its result. A wait that is cancelled raises only when the work is done."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError as error:
            cancelled = error
        except BaseException:
            if not work.done():  # not a cancellation of the work: the loop itself is ending
                raise
    if cancelled is not None:
        raise cancelled
    return work.result()
