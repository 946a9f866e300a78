"""The answers that a process owes, and that fail when it ends.

The rule of this file: an answer is owed as long as somebody could get it. Whoever waits holds its future; so does the
request, which somebody holds who may answer it. Once both have let go, it is forgotten: a server whose askers give up
does not grow by them, and may rest. Callbacks that they left on the future are still told of the end of the process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

from supervisors.runtime.future import Callbacks, Future

__all__ = ["Owed"]


class Owed:
    """The futures of the requests that a process is to answer later. Thread: any."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[ref[Future[Any]], Callbacks] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, future: Future[Any]) -> None:
        """This one, too, unless it has been settled by now."""
        self._kept[ref(future, self._forget)] = future.callbacks
        if future.done():
            self.discard(future)

    def discard(self, future: Future[Any]) -> None:
        """This one is owed no more."""
        self._kept.pop(ref(future), None)

    def fail(self, error: Callable[[], BaseException]) -> None:
        """None of them will come."""
        kept, self._kept = self._kept, {}
        for each, callbacks in kept.copy().items():
            future = each()
            (Future(callbacks=callbacks) if future is None else future).fail(error())

    def _forget(self, kept: ref[Future[Any]]) -> None:
        if not self._kept.get(kept):
            self._kept.pop(kept, None)
