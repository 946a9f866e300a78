"""Threads that are started without waiting for ever for one that dies as it is born.

The rule of this file: who starts a thread learns whether it runs what it was made for, within a second. A new thread
needs memory before it can say that it lives; without any it dies, and `threading.Thread.start` waits for its word for
ever. Here whoever waits in vain takes the role away: a thread that comes all the same, later, ends at once.

Source: https://github.com/python/cpython/issues/140746. A Python in which that is mended has no `_started`.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock
from collections.abc import Callable

__all__ = ["DaemonThread"]

_PATIENCE = 1.0  # seconds that a thread has to begin
_DOUBT = 0.05  # seconds more, in which nobody else was held up: the process may have been stopped, or asleep


class DaemonThread(threading.Thread):
    """A daemon thread that does `work()`; `began` once it does."""

    def __init__(self, work: Callable[[], object], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work: Callable[[], object] | None = work
        self._role = (
            allocate_lock()
        )  # whoever takes it decides: the thread that it works, its starter that it does not
        self._word = allocate_lock()  # released by the thread: it works
        self._word.acquire()
        self.began = False
        if hasattr(self, "_started"):
            self._started = _Unwaited()

    def start(self) -> None:
        """Start it. Raises: RuntimeError if the OS has no thread to give, or the thread does not begin to work."""
        super().start()
        if self._word.acquire(True, _PATIENCE) or self._word.acquire(True, _DOUBT):
            return
        if self._role.acquire(False):
            self._work = None  # what `threading` still knows of it shall hold nothing
            raise RuntimeError(
                f"can't start new thread: {self.name} died as it began, most likely for want of memory"
            )

    def run(self) -> None:
        """Work, unless nobody waits for that any more. Thread: itself."""
        if self._role.acquire(False):
            self.began = True
            self._word.release()
            work, self._work = self._work, None
            if work is not None:
                work()


class _Unwaited(threading.Event):
    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - we wait in our own way
        return self.is_set()
