"""Who runs a tool of a session, and must not wait for a turn of it: that would begin when the tool is over.

Rule of this file: it knows the callers themselves, the process of a `def` tool and the task of an `async def` one. What
a tool has started, and left behind, may wait for what it likes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from allm_actors.data import SessionBusy
from supervisors import current_process

__all__ = ["Inside"]


class Inside:
    """The callers that are in the tools of one session. Thread: any."""

    __slots__ = ("_callers", "_session")

    def __init__(self, session: str | None) -> None:
        self._session = session
        self._callers: set[object] = set()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Around the user's code."""
        caller = _task() or current_process()
        self._callers.add(caller)
        try:
            yield
        finally:
            self._callers.discard(caller)

    def refuse(self) -> None:
        """Raises SessionBusy for a caller that is inside."""
        if self._callers and not self._callers.isdisjoint({_task(), current_process()} - {None}):
            text = (
                f"this tool runs in a turn of session {self._session!r}, and waits here for a turn that begins when "
                "that one is over, so it was called off; begin it when the tool has returned, or ask another session"
            )
            raise SessionBusy("busy", message=text)


def _task() -> object:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
