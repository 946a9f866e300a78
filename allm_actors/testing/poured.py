"""A response's body, in each of the ways in which it can be asked for, over one stream of chunks.

Rule of this file: `chunks` is all that a response must have; whoever opened the response closes what was begun.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from allm_actors.engine.http.inflow import beginning_of

__all__ = ["Poured"]


class Poured:
    """`body` and `pour` for a response that has `chunks`."""

    def __init__(self) -> None:
        self._flow: AsyncGenerator[bytes, None] | None = None

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, to be closed."""
        raise NotImplementedError

    async def body(self, limit: int, seconds: float | None = None) -> bytes:
        """As over a network: see `beginning_of`."""
        return await beginning_of(self.chunks(), limit, seconds)

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
