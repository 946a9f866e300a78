"""Children that say what happens to them, and the log that tests wait on."""

import queue
import threading

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
