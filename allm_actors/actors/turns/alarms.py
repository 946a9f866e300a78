"""Many deadlines behind one timer.

Rule of this file: most deadlines are cancelled, and a timer for each would cost more than what it watches. So
there is one timer, for the earliest; it is set again for an earlier deadline, or when it has fired.
Cancelling a deadline leaves it running, because the next deadline is seldom far; `rest` stops it. When it
fires the owner is told, and asks `over` which deadlines have passed: often none. If the timer fires late, the process
may have been stopped or its machine asleep: then each deadline that has passed gets a moment more, once, for the
answer that may have come meanwhile. Units: seconds.

Thread: the owner's, but for `call_off` and `rest`, which may also be its killer's.
"""

from __future__ import annotations

from collections.abc import Callable

from supervisors import TimerRef
from supervisors.runtime.timers import Timers

__all__ = ["Alarms"]

_LATE = 0.5  # seconds: a timer that fires later than this was delayed by more than other work
_DOUBT = 0.25  # seconds of grace for an answer that came meanwhile


class Alarms:
    """The deadlines of one actor, each by its token; `ring` is called, on any thread, when one may be over."""

    __slots__ = ("_at", "_due", "_ring", "_timer", "_timers")

    def __init__(self, timers: Timers, ring: Callable[[], object]) -> None:
        self._timers, self._ring = timers, ring
        self._due: dict[int, tuple[float, bool]] = {}  # when, and whether that is with the moment more
        self._timer: TimerRef | None = None
        self._at = 0.0

    def set(self, seconds: float, token: int) -> None:
        """Give `token` a deadline `seconds` from now, in place of the one it may have."""
        due = self._timers.clock.monotonic() + seconds
        self._due[token] = due, False
        if self._timer is None or due < self._at:
            self._set_timer(due)

    def call_off(self, token: int) -> None:
        """Cancel the deadline of `token`; harmless if it has none."""
        self._due.pop(token, None)

    def has(self, token: int) -> bool:
        """Whether `token` has a deadline."""
        return token in self._due

    def rest(self) -> None:
        """The owner is idle, so no deadline is to be expected soon: stop the timer if no token has one."""
        if not self._due:
            self._stop()

    def over(self) -> list[int]:
        """The tokens whose deadlines have passed, the earliest first; those are removed, the others stay."""
        self._stop()
        now = self._timers.clock.monotonic()
        over = sorted((due, token) for token, (due, _) in self._due.items() if due <= now)
        if now > self._at + _LATE:
            over = [each for each in over if not self._in_doubt(each[1], now)]
        for _, token in over:
            self.call_off(token)
        if self._due:
            self._set_timer(min(due for due, _ in self._due.values()))
        return [token for _, token in over]

    def _in_doubt(self, token: int, now: float) -> bool:
        _, doubted = self._due.get(token, (now, False))
        if token in self._due and not doubted:  # else it was called off just now
            self._due[token] = now + _DOUBT, True
        return not doubted

    def _set_timer(self, due: float) -> None:
        self._stop()
        self._at = due
        self._timer = self._timers.set(self._timers.make(due, absolute=True), self._ring)

    def _stop(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
