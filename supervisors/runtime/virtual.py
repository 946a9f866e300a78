"""Virtual time, which moves only when somebody moves it, and the timers that go with it.

The rule of this file: nothing here looks at a real clock. Timers that are due are taken off the heap, and
whoever took them decides when they fire; some are late, if the simulation wants that.

Units: seconds since the simulation began.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator

from supervisors.runtime.timers import TimerRef, Timers

__all__ = ["VirtualClock", "VirtualTimers"]


class VirtualClock:
    """A `Clock` that stands still until `move_to`."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        """Seconds since the simulation began."""
        return self._now

    def move_to(self, then: float) -> None:
        """Set the time to `then`; time never goes back."""
        self._now = max(self._now, then)

    def drive(self, timers: Timers) -> None:
        """Does nothing: whoever moves the clock fires the timers too."""

    def stop(self) -> None:
        """Does nothing: the clock does not move by itself."""


class VirtualTimers(Timers):
    """Timers that are fired one by one, each late by `lateness()` seconds, called once per firing."""

    def __init__(self, clock: VirtualClock, lateness: Callable[[], float]) -> None:
        super().__init__(clock)
        self._lateness = lateness
        self._late: dict[TimerRef, None] = {}

    def earliest(self) -> float:
        """When the next timer is due; infinity if none ever is."""
        due = self.next_due()
        return math.inf if due is None else due

    def take_due(self) -> Iterator[TimerRef]:
        """Take what is due by now off the heap, in order."""
        now = self.clock.monotonic()
        while (timer := self.pop_due(now)) is not None:
            if timer in self._late:
                del self._late[timer]
                yield timer
                continue
            late = self._lateness()
            if late <= 0:
                yield timer
                continue
            self._late[timer] = None
            timer.due += late
            with self._lock:
                heapq.heappush(self._heap, timer)
