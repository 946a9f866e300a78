"""Waiting until a deadline, with a moment of grace at its end.

Rule of this file: a deadline that has passed does not count at once. While the process was stopped, or the machine
asleep, nobody read the sockets; the data that waits in them is read first.
Thread: the event loop's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

__all__ = ["DOUBT", "within"]

T = TypeVar("T")
DOUBT = 0.05  # seconds of grace for data that came while the process was stopped or the machine asleep


async def within(end: float | None, awaited: Awaitable[T]) -> T:
    """The result of `awaited`, if it comes by `end`, in the loop's time; None: no limit. Raises TimeoutError, and what
    `awaited` raises.
    """
    if end is None:
        return await awaited
    loop = asyncio.get_running_loop()
    if end <= loop.time():  # the time was up before the wait began
        async with asyncio.timeout_at(end):
            return await awaited
    async with asyncio.timeout(None) as limit:
        timer = loop.call_at(end, lambda: limit.reschedule(loop.time() + DOUBT))
        try:
            return await awaited
        finally:
            timer.cancel()
