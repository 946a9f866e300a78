"""The restart intensity: how many restarts in how many seconds are too many.

The rule of this file: time is passed in. A restart exactly `max_seconds` ago still counts.

Source: Erlang/OTP `supervisor`, "Maximum Restart Intensity". OTP counts whole seconds; these are floats.
"""

from __future__ import annotations

from collections import deque

__all__ = ["RestartWindow"]


class RestartWindow:
    """The restarts of the last `max_seconds` seconds. Times are monotonic seconds."""

    __slots__ = ("_times", "max_restarts", "max_seconds")

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        self.max_restarts: int = max_restarts
        self.max_seconds: float = max_seconds
        self._times: deque[float] = deque()

    def __len__(self) -> int:
        return len(self._times)

    def add(self, now: float) -> bool:
        """Count one attempt to restart, at the time `now`; False if that is one too many."""
        oldest = now - self.max_seconds
        while self._times and self._times[0] < oldest:
            self._times.popleft()
        self._times.append(now)
        return len(self._times) <= self.max_restarts
