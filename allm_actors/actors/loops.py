"""Calling onto an event loop from wherever one is.

Rule of this file: a call that finds its loop closed is dropped: what it would have touched is gone with the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

__all__ = ["call_on", "current_loop"]


def call_on(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """Run `call` on `loop`: now when this is its thread, soon otherwise. Never blocks."""
    if current_loop() is loop:
        call()
        return
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call)


def current_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs on this thread, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
