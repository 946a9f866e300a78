"""A provider that answers from a recording on an event loop that never waits, so that it can be simulated.

Rule of this file: the adapter is the real one, with its encoding, its decoder and its attempts. Only its time is not:
where it would wait, whoever reads is told so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from allm_actors.data import EngineError, Event, Request
from allm_actors.engine.adapter import Batches, Call, Delay
from allm_actors.engine.adapters import find_adapter

if TYPE_CHECKING:
    from .player import Player

__all__ = ["PlayedAdapter"]

_T = TypeVar("_T")


class PlayedAdapter:
    """The provider `name`, asked through `player`. Raises `EngineError` for a name that has no wire."""

    def __init__(self, name: str, player: Player) -> None:
        adapter: Any = find_adapter(name)
        if not isinstance(adapter, Batches):
            message = (
                f"{name!r} does not use the network, so no recording can be played to it; use a provider of "
                "the catalogue"
            )
            raise EngineError("invalid_engine", provider=name, message=message)
        self._adapter: Any = adapter
        self._player = player

    @property
    def name(self) -> str:
        """The provider's name."""
        return self._adapter.name  # type: ignore[no-any-return]

    def play(self, request: Request, call: Call) -> Iterator[Event | Delay]:
        """One model call. Refuses what the provider's adapter refuses, before the first event."""
        waits: list[Delay] = []
        options = {**call.options, "transport": self._player.noting(waits)}
        return _played(self._adapter.batches(request, replace(call, options=options)), waits)

    def stream(self, request: Request, call: Call) -> Iterator[Event]:
        """As `play`, without a wait."""
        return (item for item in self.play(request, call) if not isinstance(item, Delay))

    def requires_structured_finalize(self, request: Request) -> bool:
        """What the provider's adapter says."""
        return self._adapter.requires_structured_finalize(request)  # type: ignore[no-any-return]


def _played(batches: AsyncIterator[Sequence[Event]], waits: list[Delay]) -> Iterator[Event | Delay]:
    loop = asyncio.new_event_loop()
    try:
        going = True
        while going:
            batch = _run(loop, _next(batches))
            passed, waits[:] = waits[:], []
            yield from passed
            yield from batch or ()
            going = batch is not None
    finally:
        _run(loop, _close(batches))
        loop.close()


def _run(loop: asyncio.AbstractEventLoop, step: Coroutine[Any, Any, _T]) -> _T:
    """What `step` comes to, on a loop of its own, also on a thread that is running one: it waits for nothing."""
    outer = asyncio._get_running_loop()  # noqa: SLF001 - asyncio exports both, for those who drive loops
    asyncio._set_running_loop(None)  # noqa: SLF001 - see above
    try:
        return loop.run_until_complete(step)
    finally:
        asyncio._set_running_loop(outer)  # noqa: SLF001 - see above


async def _next(batches: AsyncIterator[Sequence[Event]]) -> Sequence[Event] | None:
    return await anext(batches, None)


async def _close(batches: Any) -> None:
    await batches.aclose()
