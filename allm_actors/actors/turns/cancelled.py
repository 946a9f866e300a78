"""The flag that tells a handler to stop.

Rule of this file: set once, by whoever cancels; read by the handler, which nobody else can stop. Waiting for it is
waiting in the runtime, so that a simulation knows of it.
"""

from __future__ import annotations

from _thread import allocate_lock

import pykka

from supervisors import Future, ProcessKilled

__all__ = ["Cancelled"]

_making = allocate_lock()


class Cancelled:
    """Whether the call a handler works for was cancelled: true once, true for ever.

    Thread: safe. Shape: `if context.cancelled: …`, `context.cancelled()`, or `context.cancelled.wait(1.0)`.
    """

    __slots__ = ("_awaited", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        # Few wait, and a future costs more than all else of a call's flag.
        self._awaited: Future[None] | None = None

    def set(self) -> None:
        """Say that the call was cancelled."""
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
        if self._is_set:  # looked at after the future is there to be set, as `set` looks for it afterwards
            awaited.set()
        try:
            awaited.get(timeout=timeout)
        except pykka.Timeout:
            return self.is_set()
        except ProcessKilled:  # a kill sets the flag, and the handler may still clean up what is its own
            return True
        return True

    __bool__ = is_set
    __call__ = is_set

    def __repr__(self) -> str:
        return f"Cancelled({self.is_set()})"
