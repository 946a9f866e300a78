"""The flag that tells a handler to stop.

Rule of this file: set once, by whoever cancels; read by the handler, which nobody else can stop.
"""

from __future__ import annotations

import threading

__all__ = ["Cancelled"]


class Cancelled:
    """Whether the call a handler works for was cancelled: true once, true for ever.

    Thread: safe. Shape: `if context.cancelled: …`, `context.cancelled()`, or `context.cancelled.wait(1.0)`.
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Say that the call was cancelled."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether the call was cancelled."""
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds for the cancellation; whether it came."""
        return self._event.wait(timeout)

    __bool__ = is_set
    __call__ = is_set

    def __repr__(self) -> str:
        return f"Cancelled({self.is_set()})"
