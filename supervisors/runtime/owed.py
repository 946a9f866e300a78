"""The answers that a process still owes, and that fail when it ends.

The rule of this file: an answer is owed as long as somebody could give or get it. The future is held by the
caller that waits, and by the request, which is held by whoever may answer it. Once both have let go, it is
forgotten: callers that give up neither make a server grow nor keep it from resting. Callbacks that they left
on the future are still called when the process ends.
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
        """Add a future, unless it has been settled by now."""
        self._kept[ref(future, self._forget)] = future.callbacks
        if future.done():
            self.discard(future)

    def discard(self, future: Future[Any]) -> None:
        """Remove a future that has been answered."""
        self._kept.pop(ref(future), None)

    def fail(self, error: Callable[[], BaseException]) -> None:
        """Fail all of them, each with a new `error()`."""
        kept, self._kept = self._kept, {}
        for each, callbacks in kept.copy().items():
            future = each()
            (Future(callbacks=callbacks) if future is None else future).fail(error())

    def _forget(self, kept: ref[Future[Any]]) -> None:
        if not self._kept.get(kept):
            self._kept.pop(kept, None)
