"""A response's body, in each of the ways in which it can be asked for, over one stream of chunks.

Rule of this file: `chunks` is all that a response must have; whoever opened the response closes what was begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from allm_actors.data import AdapterError

__all__ = ["Poured"]


class Poured:
    """`body` and `pour` for a response that has `chunks`."""

    def __init__(self) -> None:
        self._flow: AsyncGenerator[bytes, None] | None = None

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, to be closed."""
        raise NotImplementedError

    async def body(self, limit: int, seconds: float | None = None) -> bytes:
        """At most `limit` bytes of the body, read for at most `seconds`; what came, if the rest does not."""
        held = bytearray()
        try:
            async with asyncio.timeout(seconds), aclosing(self.chunks()) as chunks:
                async for chunk in chunks:
                    held += chunk
                    if len(held) >= limit:
                        break
        except (AdapterError, TimeoutError):
            pass  # as over a network: the beginning says more than the failure to read the rest
        return bytes(held[:limit])

    async def pour(self, feed: Callable[[bytes], bool]) -> bool:
        """Call `feed` with each chunk until it says False; False at the end of the body. Again, for more."""
        if self._flow is None:
            self._flow = self.chunks()
        async for chunk in self._flow:
            if not feed(chunk):
                return True
        return False

    async def close(self) -> None:
        """Nobody will pour any more."""
        if self._flow is not None:
            await self._flow.aclose()
