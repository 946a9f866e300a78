"""Which callers run user code (a tool, a policy, …) inside a session's turn. They must not wait for another
turn of that session: it would begin only when their code has returned, which is a deadlock.

Rule of this file: it knows only the callers themselves, the process of a `def` tool and the task of an
`async def` one. Threads and tasks that a tool has started may wait for anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from allm_actors.data import SessionBusy
from supervisors import current_process

__all__ = ["Inside"]


class Inside:
    """The callers that run user code for one session, each with the id of its turn. Thread: any."""

    __slots__ = ("_callers", "_session", "turn")

    def __init__(self, session: str | None) -> None:
        self._session = session
        self._callers: dict[object, str] = {}
        self.turn: str | None = None  # the id of the running turn; written by the session's actor only

    @contextmanager
    def entered(self, turn: str) -> Iterator[None]:
        """Wraps user code that runs for this turn: a handler, a policy, an encoder, `halt_when`, a response type."""
        caller = _task() or current_process()
        self._callers[caller] = turn
        try:
            yield
        finally:
            self._callers.pop(caller, None)

    def refuse(self) -> None:
        """Raises SessionBusy if the caller is user code of the running turn."""
        running = self.turn
        if running is None or not self._callers:
            return
        if any(self._callers.get(caller) == running for caller in (_task(), current_process()) if caller):
            text = (
                f"this code runs inside a turn of session {self._session!r} and waits for a turn that can "
                "begin only after it, so the new turn was cancelled; begin it after this code has returned, or "
                "use another session"
            )
            raise SessionBusy("busy", message=text)


def _task() -> object:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
