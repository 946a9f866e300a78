"""Timers: one heap per system, and the clock that drives it.

The rule of this file: the heap decides what is due, the clock decides when to look. Nothing else in the runtime reads
the time, so a virtual clock that looks when it likes is a complete simulation of time.

Units: seconds, monotonic.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from supervisors.errors import BadSpec
from supervisors.runtime.birth import DaemonThread
from supervisors.runtime.log import log
from supervisors.runtime.running import contained
from supervisors.spec import is_number

__all__ = ["Clock", "Deadline", "RealClock", "TimerRef", "Timers", "check_timeout"]


class Clock(Protocol):
    """Time, injected. A virtual clock's `drive` does nothing: whoever moves it calls `Timers.fire_due`."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def drive(self, timers: Timers) -> None:
        """The earliest deadline changed: see that `timers.fire_due()` is called then."""
        ...

    def stop(self) -> None:
        """Stop driving; end the threads that did."""
        ...


def check_timeout(timeout: float | None) -> float | None:
    """The timeout in seconds, clamped to what locks accept; None for no limit, as for infinity.

    Raises: `BadSpec("invalid_timeout")`.
    """
    if timeout is None or timeout == math.inf:
        return None
    if not is_number(timeout):
        raise BadSpec(
            "invalid_timeout",
            timeout,
            f"a timeout must be a number of seconds, or None for no limit, not {timeout!r}",
        )
    return min(max(0.0, timeout), threading.TIMEOUT_MAX)


class Deadline:
    """How much of a timeout is left."""

    __slots__ = ("_clock", "_end")

    def __init__(self, clock: Clock, timeout: float | None) -> None:
        self._clock = clock
        left = check_timeout(timeout)
        self._end = math.inf if left is None else clock.monotonic() + left

    def remaining(self) -> float | None:
        """Seconds left, at least 0; None if there is no limit."""
        return None if self._end == math.inf else max(0.0, self._end - self._clock.monotonic())


class TimerRef:
    """One timer, which can be cancelled and read. Thread: any."""

    __slots__ = ("_action", "_timers", "due", "owned", "period", "seq")

    def __init__(self, timers: Timers, due: float, period: float | None = None) -> None:
        self._timers = timers
        self._action: Callable[[], object] | None = None
        self.due: float = due
        self.period: float | None = period
        self.seq: int = 0
        self.owned: dict[TimerRef, None] | None = None

    def __lt__(self, other: TimerRef) -> bool:
        return (self.due, self.seq) < (other.due, other.seq)

    def cancel(self) -> float | None:
        """Cancel the timer; returns the seconds left, or None if it has fired or was cancelled before."""
        left = self._timers.cancel(self)
        self.disown()
        return left

    def read(self) -> float | None:
        """Seconds left, or None as for `cancel`."""
        return None if self._action is None else max(0.0, self.due - self._timers.clock.monotonic())

    def disown(self) -> None:
        """Remove it from the timers that end with their process."""
        if self.owned is not None:
            self.owned.pop(self, None)

    def arm(self, seq: int, action: Callable[[], object]) -> None:
        """Set the action, and the order among timers due together. Thread: the heap's lock is held."""
        self.seq = seq
        self._action = action

    def take(self) -> Callable[[], object] | None:
        """Take the action out, or None if there is none. Thread: the heap's lock is held."""
        action, self._action = self._action, None
        return action

    def skip_to(self, now: float) -> None:
        """Move a periodic timer to its next due time after `now`: ticks that were missed are skipped."""
        if self.period is not None:
            self.due += self.period * max(1, math.floor((now - self.due) / self.period) + 1)

    @property
    def pending(self) -> bool:
        """Whether it is set, and neither fired nor cancelled."""
        return self._action is not None


class Timers:
    """The heap of all timers still to fire; those due at the same time fire in the order they were set."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._lock = threading.RLock()  # reentrant: a finalizer or a signal handler may run while it is held
        self._heap: list[TimerRef] = []
        self._numbers = itertools.count()
        self._dead = 0

    def ready(self) -> None:
        """Start what fires timers now: when the interpreter exits, a timer could not start a thread any more.

        Source: https://docs.python.org/3/library/atexit.html, changed in 3.12.
        """
        with contextlib.suppress(RuntimeError):  # too many threads: the first timer tries again
            self.clock.drive(self)

    def after(self, delay: float, action: Callable[[], object]) -> TimerRef:
        """Call `action()` in `delay` seconds; never at once, not even for 0.

        Raises: `ValueError` for a negative or undefined delay.
        """
        return self.set(self.make(delay), action)

    def make(self, delay: float, *, absolute: bool = False, period: float | None = None) -> TimerRef:
        """A timer that is due in `delay` seconds (`absolute`: at that time of the clock) and is not set yet.

        With a `period` it is set again each time, until cancelled or until its action returns False.
        Raises: `ValueError`.
        """
        if not (is_number(delay) and (absolute or delay >= 0)):
            raise ValueError(f"a delay must be at least 0 seconds, not {delay!r}")
        if period is not None and not period > 0:
            raise ValueError(f"a period must be more than 0 seconds, not {period!r}")
        return TimerRef(self, delay if absolute else self.clock.monotonic() + delay, period)

    def set(self, timer: TimerRef, action: Callable[[], object]) -> TimerRef:
        """Call `action()` when `timer` is due."""
        with self._lock:
            timer.arm(next(self._numbers), action)
            heapq.heappush(self._heap, timer)
            first = self._heap[0] is timer
        if first:
            self._drive(timer)
        return timer

    def cancel(self, timer: TimerRef) -> float | None:
        """See `TimerRef.cancel`."""
        with self._lock:
            if timer.take() is None:
                return None
            self._dead += 1
            if self._dead > 64 and self._dead > len(self._heap) // 2:
                self._sweep()
        return max(0.0, timer.due - self.clock.monotonic())

    def next_due(self) -> float | None:
        """When the next timer is due, or None."""
        with self._lock:
            while self._heap and not self._heap[0].pending:
                heapq.heappop(self._heap)
                self._dead -= 1
            return self._heap[0].due if self._heap else None

    def fire_due(self) -> None:
        """Do everything that is due by now, in order. Thread: one at a time."""
        now = self.clock.monotonic()
        while (timer := self.pop_due(now)) is not None:
            self.fire(timer, now)

    def pop_due(self, now: float) -> TimerRef | None:
        """Take the first timer that is due off the heap, or None; give it to `fire`, or put it back."""
        with self._lock:
            while self._heap and self._heap[0].due <= now:
                timer = heapq.heappop(self._heap)
                if timer.pending:
                    return timer
                self._dead -= 1
            return None

    def fire(self, timer: TimerRef, now: float) -> None:
        """Do the action of a timer that is due, unless it was cancelled; set a periodic one again."""
        with self._lock:
            action = timer.take()
            if action is None:
                return
            if timer.period is not None:
                timer.skip_to(now)
                timer.arm(next(self._numbers), action)
                heapq.heappush(self._heap, timer)
        if timer.period is None:
            timer.disown()
        if contained("a timer failed", action) is False and timer.period is not None:
            timer.cancel()

    def _drive(self, first: TimerRef) -> None:
        try:
            self.clock.drive(self)
        except RuntimeError:  # there is no thread: this timer will not fire, and the next one tries again
            with self._lock:
                first.take()
                self._heap = [timer for timer in self._heap if timer is not first]
                heapq.heapify(self._heap)
            raise

    def _sweep(self) -> None:
        self._heap = [timer for timer in self._heap if timer.pending]
        heapq.heapify(self._heap)
        self._dead = 0


class RealClock:
    """The machine's monotonic clock, and one daemon thread that fires timers, started by the first of them."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False

    monotonic: staticmethod[[], float] = staticmethod(time.monotonic)
    """Seconds since some moment in the past."""

    def drive(self, timers: Timers) -> None:
        """Look at `timers` again; start the thread if there is none."""
        with self._wake:
            if self._stopped:
                return
            if self._thread is None:
                thread = DaemonThread(partial(self._run, timers), "supervisors-timers")
                thread.start()  # may fail when there are too many threads; then the next timer tries again
                self._thread = thread
            self._wake.notify()

    def stop(self) -> None:
        """End the thread; timers that are not due yet never fire."""
        with self._wake:
            self._stopped = True
            thread = self._thread
            self._wake.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self, timers: Timers) -> None:
        while True:
            try:
                while self._sleep(timers):
                    timers.fire_due()
                return
            except BaseException:  # noqa: BLE001 - out of memory, or by a debugger: all timers depend on us
                log.exception("an exception was raised in the timer thread, which goes on")

    def _sleep(self, timers: Timers) -> bool:
        with self._wake:
            while not self._stopped:
                due = timers.next_due()
                if due is not None and due <= self.monotonic():
                    return True
                # `drive` notifies under this lock, so a timer set after `next_due` cannot be missed.
                self._wake.wait(_bounded(due, self.monotonic()))
        return False


def _bounded(due: float | None, now: float) -> Any:
    # Python refuses waits beyond some centuries; a timer at infinity is legal, and is looked at once a day.
    return None if due is None else min(due - now, 86_400.0)
