"""Threads that still run the handler of a process that was killed.

The rule of this file: a zombie is counted from the kill until its handler returns, and is fenced off that long. A
Python thread cannot be killed; this makes visible which ones go on.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from threading import Thread
from typing import TYPE_CHECKING, Any

from supervisors.reasons import KILLED
from supervisors.runtime.reports import Report
from supervisors.runtime.running import fenced
from supervisors.runtime.stacks import calls_of

if TYPE_CHECKING:
    from supervisors.runtime.ref import Ref
    from supervisors.runtime.reports import Reports

__all__ = ["Zombie", "Zombies"]


class Zombie:
    """One thread that still runs a handler of the killed process `ref`."""

    __slots__ = ("_calls", "_zombies", "ref", "thread")

    def __init__(self, zombies: Zombies, ref: Ref[Any]) -> None:
        self._zombies = zombies
        self.ref: Ref[Any] = ref
        self.thread: Thread | None = None
        self._calls: list[tuple[str, int, str, None]] = []

    def begin(self, thread: Thread) -> None:
        """Count `thread`, which runs the killed process. The caller may hold a lock, so no source is read."""
        self.thread = thread
        self._calls = [
            (frame.f_code.co_filename, line, frame.f_code.co_name, None)
            for frame, line in calls_of(thread.ident)
        ]
        fenced[self.ref] = None
        self._zombies.add(self)

    @property
    def stack(self) -> str:
        """What the thread was doing when its process was killed, as text."""
        return "".join(traceback.format_list(self._calls))

    def end(self) -> None:
        """The handler has returned."""
        fenced.pop(self.ref, None)
        self._zombies.discard(self)


class Zombies:
    """The zombies of one system; `too_many()` is called, once, when there are more than `limit`."""

    def __init__(self, limit: int, reports: Reports, too_many: Callable[[], object]) -> None:
        self.limit = limit
        self._reports = reports
        self._too_many: Callable[[], object] | None = too_many
        self._all: dict[Zombie, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def list(self) -> list[Zombie]:
        """The zombies there are now, oldest first."""
        return list(self._all)

    def add(self, zombie: Zombie) -> None:
        """Count it."""
        self._all[zombie] = None

    def discard(self, zombie: Zombie) -> None:
        """Stop counting it."""
        self._all.pop(zombie, None)

    def report(self, zombie: Zombie) -> None:
        """Tell the operators; past the limit, escalate."""
        self._reports.emit(Report("zombie", zombie.ref, KILLED, zombie.stack))
        if len(self._all) > self.limit and self._too_many is not None:
            escalate, self._too_many = self._too_many, None
            escalate()
