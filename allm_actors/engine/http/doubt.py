"""How long to wait for what comes only once, with a doubt at the end.

Rule of this file: a deadline that is over is not believed at once. While the process was stopped, or its machine
asleep, nobody looked at the sockets, and what lies in them is read first.
Thread: the event loop's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

__all__ = ["DOUBT", "within"]

T = TypeVar("T")
DOUBT = 0.05  # seconds to look for what came while nobody could look: the process may have been stopped, or asleep


async def within(end: float | None, awaited: Awaitable[T]) -> T:
    """What `awaited` gives by `end`, on the loop's clock; None: no limit. Raises TimeoutError, and what it raises."""
    if end is None:
        return await awaited
    loop = asyncio.get_running_loop()
    if end <= loop.time():  # there was no time to begin with
        async with asyncio.timeout_at(end):
            return await awaited
    async with asyncio.timeout(None) as limit:
        timer = loop.call_at(end, lambda: limit.reschedule(loop.time() + DOUBT))
        try:
            return await awaited
        finally:
            timer.cancel()
