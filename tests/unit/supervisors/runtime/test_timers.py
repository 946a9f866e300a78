"""Timers over a clock that stands still until it is moved."""

import math
import threading

import pytest

from supervisors.runtime.timers import Deadline, RealClock, Timers


class Clock:
    """Time that a test moves."""

    def __init__(self):
        self.now = 100.0
        self.driven = 0

    def monotonic(self):
        return self.now

    def drive(self, timers):
        self.driven += 1

    def stop(self):
        pass


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def timers(clock):
    return Timers(clock)


def test_timers_fire_in_deadline_order_and_equal_ones_as_they_were_set(timers, clock):
    fired = []
    for delay, name in ((2, "c"), (1, "a"), (1, "b"), (9, "never")):
        timers.after(delay, lambda name=name: fired.append(name))
    clock.now += 5
    timers.fire_due()
    assert fired == ["a", "b", "c"]
    assert timers.next_due() == 109.0


def test_only_a_new_earliest_deadline_drives_the_clock(timers, clock):
    timers.after(5, print)
    timers.after(9, print)
    assert clock.driven == 1
    timers.after(1, print)
    assert clock.driven == 2


def test_cancel_and_read_tell_what_was_left(timers, clock):
    timer = timers.after(5, print)
    clock.now += 2
    assert timer.read() == 3.0
    assert timer.cancel() == 3.0
    assert timer.cancel() is None
    assert timer.read() is None
    assert timers.next_due() is None


def test_a_cancelled_timer_does_not_fire_and_thousands_leave_no_heap(timers, clock):
    fired = []
    many = [timers.after(n, lambda: fired.append(1)) for n in range(1000)]
    for timer in many[1:]:
        timer.cancel()
    assert len(timers._heap) < 200
    clock.now += 2000
    timers.fire_due()
    assert fired == [1]


def test_zero_is_later_and_negative_or_undefined_is_an_error(timers, clock):
    fired = []
    timers.after(0, lambda: fired.append(1))
    assert fired == []
    timers.fire_due()
    assert fired == [1]
    for bad in (-1, math.nan):
        with pytest.raises(ValueError, match="delay"):
            timers.after(bad, print)


def test_a_timer_may_set_the_next_and_a_failing_one_stops_nobody(timers, clock, caplog):
    caplog.set_level("CRITICAL", logger="supervisors")
    fired = []
    timers.after(0, lambda: 1 / 0)
    timers.after(0, lambda: timers.after(0, lambda: fired.append("next")))
    timers.fire_due()
    assert fired == ["next"]


def test_a_periodic_timer_keeps_its_rate_skips_what_it_missed_and_ends_when_told(timers, clock):
    fired = []
    timer = timers.set(timers.make(1, period=1), lambda: fired.append(clock.now))
    for now in (101, 102, 105.5, 106):
        clock.now = now
        timers.fire_due()
    assert fired == [101, 102, 105.5, 106]
    assert timer.cancel() == 1.0
    useless = timers.set(timers.make(1, period=1), lambda: False)
    clock.now += 1
    timers.fire_due()
    assert not useless.pending
    with pytest.raises(ValueError, match="period"):
        timers.make(0, period=0)


def test_a_deadline_counts_down_to_zero_or_never(clock):
    deadline = Deadline(clock, 3)
    clock.now += 2
    assert deadline.remaining() == 1.0
    clock.now += 2
    assert deadline.remaining() == 0.0
    assert Deadline(clock, None).remaining() is None


def test_a_clock_that_got_no_thread_asks_for_one_again(monkeypatch):
    clock, fired = RealClock(), threading.Event()
    timers = Timers(clock)

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as exhausted:
        exhausted.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            timers.after(0, lambda: pytest.fail("it was said that this would not happen"))
    timers.after(0, fired.set)
    assert fired.wait(10)
    clock.stop()
