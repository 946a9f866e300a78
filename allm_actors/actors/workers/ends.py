"""Which exceptions end a worker from outside, and are no failure of the user's code that it runs.

Rule of this file: an exit in the user's code (`SystemExit`, a cancellation, an exception of an extension that is no
`Exception`) is a failure of that code like any other. So it passes through what removes the key from errors.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from supervisors import ProcessKilled

__all__ = ["ends_worker"]


def ends_worker(raised: BaseException, task: asyncio.Task[Any] | None = None) -> bool:
    """Whether this comes from outside: a kill, Ctrl-C on the main thread, or the cancellation of `task`, if it runs
    in one.
    """
    if isinstance(raised, asyncio.CancelledError):
        return task is not None and task.cancelling() > 0
    if isinstance(raised, KeyboardInterrupt):
        return not raised.args and threading.current_thread() is threading.main_thread()
    return isinstance(raised, ProcessKilled)
