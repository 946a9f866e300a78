"""Deadlines behind one timer: who is told late is not told at once that a time is up."""

from __future__ import annotations

from allm_actors.actors.turns.alarms import Alarms
from supervisors.runtime.timers import Timers
from supervisors.runtime.virtual import VirtualClock


class Watched:
    """Alarms on a clock that moves by hand."""

    def __init__(self) -> None:
        self.clock, self.rung = VirtualClock(), 0
        self.timers = Timers(self.clock)
        self.alarms = Alarms(self.timers, self._ring)

    def _ring(self) -> None:
        self.rung += 1

    def over_at(self, then: float) -> list[int]:
        """What is over when the timers are looked at then."""
        self.clock.move_to(then)
        self.rung = 0
        self.timers.fire_due()
        return self.alarms.over() if self.rung else []


def test_what_is_over_in_time_is_told_at_once() -> None:
    watched = Watched()
    watched.alarms.set(2.0, 2)
    watched.alarms.set(1.0, 1)
    assert watched.over_at(0.9) == []
    assert watched.over_at(1.1) == [1]
    assert watched.over_at(2.0) == [2]
    assert watched.timers.next_due() is None


def test_after_a_pause_each_that_is_over_has_a_moment_once() -> None:
    watched = Watched()
    for token in (1, 2, 3):
        watched.alarms.set(float(token), token)
    watched.alarms.set(100.0, 4)
    assert watched.over_at(60.0) == []
    assert watched.alarms.has(1)
    watched.alarms.call_off(2)  # its answer lay there
    assert watched.over_at(60.3) == [1, 3]
    assert not watched.alarms.has(1)
    assert watched.over_at(99.9) == []
    assert watched.over_at(100.0) == [4]


def test_a_second_pause_does_not_help() -> None:
    watched = Watched()
    watched.alarms.set(1.0, 1)
    assert watched.over_at(60.0) == []
    assert watched.over_at(120.0) == [1]
    watched.alarms.set(1.0, 1)  # counted anew
    assert watched.over_at(180.0) == []
    assert watched.over_at(180.3) == [1]


def test_what_was_called_off_meanwhile_is_no_deadline_again() -> None:
    watched = Watched()
    watched.alarms.set(1.0, 1)
    assert watched.over_at(60.0) == []
    watched.alarms.call_off(1)
    assert watched.over_at(120.0) == []
    assert not watched.alarms.has(1)
    watched.alarms.rest()
    assert watched.timers.next_due() is None
