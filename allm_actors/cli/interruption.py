"""What Ctrl-C means while a turn runs.

Rule of this file: the first Ctrl-C cancels the turn, which ends in order, with its last events; the second
one exits. A signal may arrive while this very thread holds a lock that `cancel` needs, so another thread
calls it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

__all__ = ["Interruption"]


class Interruption:
    """A block in which Ctrl-C calls `cancel()`. Thread: the main one; on others the block changes nothing."""

    def __init__(self, cancel: Callable[[], object]) -> None:
        self._cancel = cancel
        self._before: Any = None
        self._heard = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _interrupted(self, _number: int, _frame: FrameType | None) -> None:
        if self._heard:
            raise KeyboardInterrupt
        self._heard = True
        threading.Thread(target=self._cancel, name="allm-cancel", daemon=True).start()
