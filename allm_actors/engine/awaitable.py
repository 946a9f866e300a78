"""What a user's function returned on a thread, where it may be an awaitable.

Rule of this file: it imports nothing of ours, because the interpreters that run single tools import it, too.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from typing import Any

__all__ = ["result_of"]


def result_of(returned: Any) -> Any:
    """`returned`; the result of an awaitable, which gets an event loop of its own. Raises what the awaitable does."""
    return asyncio.run(_awaited(returned)) if inspect.isawaitable(returned) else returned


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
