"""Threads whose start cannot block for ever.

The rule of this file: `start` returns or raises within about a second. A new thread needs memory before it can report
that it runs; without it the thread dies, and `threading.Thread.start` waits for the report for ever. Here the starter
stops waiting and withdraws the work: a thread that begins later all the same ends at once.

Source: https://github.com/python/cpython/issues/140746. A Python in which that is mended has no `_started`.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock
from collections.abc import Callable
from typing import Final

__all__ = ["PAUSE", "DaemonThread"]

PAUSE: Final = 0.1
"""Seconds until starting a thread is tried again after the OS had none to give."""

_PATIENCE = 1.0  # seconds that a thread has to begin
_DOUBT = 0.05  # seconds of grace, in case the process was stopped or the machine asleep meanwhile


class DaemonThread(threading.Thread):
    """A daemon thread that does `work()`; `began` once it does."""

    def __init__(self, work: Callable[[], object], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work: Callable[[], object] | None = work
        # Taken by the thread, which then works, or by its starter, which then gives up.
        self._role = allocate_lock()
        self._word = allocate_lock()  # released by the thread when it begins
        self._word.acquire()
        self.began: bool = False
        if hasattr(self, "_started"):
            self._started = _Unwaited()

    def start(self) -> None:
        """Start it. Raises: RuntimeError if the OS has no thread to give, or the thread does not begin to work."""
        super().start()
        if self._word.acquire(True, _PATIENCE) or self._word.acquire(True, _DOUBT):
            return
        if self._role.acquire(False):
            self._work = None  # `threading` may keep the dead thread, but not what it refers to
            raise RuntimeError(
                f"can't start new thread: {self.name} died while it started, probably out of memory"
            )

    def run(self) -> None:
        """Do the work, unless the starter has given up. Thread: itself."""
        if self._role.acquire(False):
            self.began = True
            self._word.release()
            work, self._work = self._work, None
            if work is not None:
                work()


class _Unwaited(threading.Event):
    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - `start` waits itself
        return self.is_set()
