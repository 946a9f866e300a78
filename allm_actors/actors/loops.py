"""Calling onto an event loop from wherever one is.

Rule of this file: a call that finds its loop closed is dropped: what it would have touched is gone with the loop. Who
waits for what the call would bring must look at the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["call_on", "current_loop"]


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
