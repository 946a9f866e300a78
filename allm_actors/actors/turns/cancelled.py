"""The flag that tells a tool's handler to stop.

Rule of this file: set once, by whoever cancels; read by the handler, because a thread can only stop itself.
Waiting for it goes through the runtime, so that a simulation knows of it.
"""

from __future__ import annotations

from _thread import allocate_lock

import msgspec
import pykka

from supervisors import Future, ProcessKilled

__all__ = ["Cancelled"]

_making = allocate_lock()


class Cancelled(msgspec.Struct, eq=False):
    """Whether the tool call that a handler works for was cancelled; once true, it stays true.

    Thread: safe. Shape: `if context.cancelled: …`, `context.cancelled()`, or `context.cancelled.wait(1.0)`.
    """

    _is_set: bool = False
    # Made by the first `wait`: few handlers wait, and a future is the costliest part of this flag.
    _awaited: Future[None] | None = None

    def set(self) -> None:
        """Mark the call as cancelled."""
        self._is_set = True
        if self._awaited is not None:
            self._awaited.set()

    def is_set(self) -> bool:
        """Whether the call was cancelled."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds for the cancellation; whether it came."""
        with _making:
            awaited = self._awaited = self._awaited or Future()
        if self._is_set:  # after the future is made, for which `set` looks after the flag
            awaited.set()
        try:
            awaited.get(timeout=timeout)
        except pykka.Timeout:
            return self.is_set()
        except ProcessKilled:  # a kill counts as cancellation: the handler may still clean up
            return True
        return True

    __bool__ = is_set
    __call__ = is_set

    def __repr__(self) -> str:
        return f"Cancelled({self.is_set()})"
