"""Children that say what happens to them, and the log that tests wait on."""

import queue
import threading
import time

from supervisors import Process

DEADLINE = 10.0


class Log:
    """What happened, in order; tests wait for the next entry, never for time."""

    def __init__(self):
        self._queue = queue.Queue()

    def add(self, *entry):
        self._queue.put(" ".join(str(part) for part in entry))

    def next(self):
        return self._queue.get(timeout=DEADLINE)

    def take(self, count):
        return [self.next() for _ in range(count)]

    def rest(self):
        entries = []
        while not self._queue.empty():
            entries.append(self._queue.get())
        return entries


class Worker(Process):
    """Says when it starts and ends; does what it is told."""

    def __init__(self, log, id, outcome=None):
        super().__init__()
        self.log = log
        self.id = id
        self.outcome = outcome

    def init(self):
        outcome = self.outcome() if callable(self.outcome) else self.outcome
        if isinstance(outcome, BaseException):
            raise outcome
        self.log.add("+", self.id)
        return outcome

    def on_receive(self, message):
        return message(self) if callable(message) else message

    def terminate(self, reason):
        self.log.add("-", self.id)


def crash(process):
    raise RuntimeError("as told")


def gone(ref):
    """An event for the death of a process."""
    event = threading.Event()
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
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if ask() == wanted:
            return True
    return False


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
