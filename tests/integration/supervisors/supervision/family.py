"""Children that say what happens to them, and the log that tests wait on, on real threads as in a simulation."""

import time

from supervisors import Process, ProcessKilled
from supervisors.testing import Event
from tests.integration.supervisors.conftest import SOON as DEADLINE
from tests.integration.supervisors.conftest import simulated


def crash(process):
    raise RuntimeError("as told")


def gone(ref):
    """An event for the death of a process."""
    event = Event()
    ref.add_exit_callback(lambda reason: event.set())
    return event


def failing_after(first, times):
    """Starts once, or `first` times, then fails `times` times, then starts again."""
    outcomes = [None] * first + [ValueError("not now")] * times
    return lambda: outcomes.pop(0) if outcomes else None


def always_failing_after(first):
    count = [0]

    def outcome():
        count[0] += 1
        return ValueError("never again") if count[0] > first else None

    return outcome


def eventually(ask, wanted):
    """Ask until the answer is this one; each question should be a turn of whoever has to do something first."""
    for _ in turns():
        if ask() == wanted:
            return True
        Event().wait(0)
    return False


def turns():
    """As many as there is time for; in a simulation, where no time passes, as many as should be enough."""
    if simulated():
        yield from range(1000)
        return
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        yield


def deaf(event):
    """Wait as code does that knows nothing of kills."""
    while not event.is_set():
        try:
            event.wait(DEADLINE)
        except ProcessKilled:
            pass


class Party:
    """Waits until so many are there."""

    def __init__(self, count):
        self._missing = [None] * count
        self._complete = Event()

    def wait(self):
        self._missing.pop()
        if not self._missing:
            self._complete.set()
        return self._complete.wait(DEADLINE)

    @property
    def complete(self):
        return not self._missing

    def end(self):
        self._complete.set()


def ref_of(sup, id):
    return sup.which_child(id).ref


class Slow(Process):
    """Starts when it may."""

    def __init__(self, may, entered=None):
        super().__init__()
        self.may = may
        self.entered = entered

    def init(self):
        if self.entered is not None:
            self.entered.set()
        with self.blocking():
            assert self.may.wait(DEADLINE)


def lines(sup):
    """A question for `eventually`: the children's ids and refs."""
    return lambda: [(child.id, child.ref) for child in sup.which_children()]
