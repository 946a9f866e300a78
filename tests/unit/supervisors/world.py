"""Plays the runtime for the operations of `supervisors.core`: starts and deaths are scripted, everything is recorded.

The rule of this file: no thread and no time. A child's ref is its id and a number: the second `b` is `b2`.
"""

from collections import Counter, defaultdict, deque

from supervisors.core.operations import WAIT, Operations
from supervisors.core.steps import (
    KILL,
    TIMED_OUT,
    Exited,
    Ignored,
    Later,
    Report,
    Signal,
    Start,
    Started,
    StartFailed,
)
from supervisors.reasons import KILLED
from supervisors.spec import ChildSpec

FAIL = StartFailed("boom")
IGNORE = Ignored()


def spec(id, **fields):
    return ChildSpec(id=id, start=print, **fields)


class World:
    def __init__(self):
        self.turns = Operations(self._perform)
        self.trace = []
        self.reports = []
        self.retries = []
        self.delays = []
        self.specs = []
        self.incarnations = []
        self.held = None  # the step that waits, once `hold` is set
        self.hold = False
        self.scripts = defaultdict(deque)  # what the next starts of an id come to; then they succeed
        self.stubborn = set()  # refs that only a kill ends
        self.deaths = {}  # what a ref ends with, if not with what it was told
        self.now = 0.0
        self._born = Counter()

    def run(self, operation):
        """Run the operation to its end; its result, or its refusal raised."""
        answers = []
        self.turns.run(operation, lambda result, refusal: answers.append((result, refusal)))
        ((result, refusal),) = answers
        if refusal is not None:
            raise refusal
        return result

    def take(self):
        """What was started and stopped since the last look."""
        trace, self.trace = self.trace, []
        return " ".join(trace)

    def take_reports(self):
        reports, self.reports = self.reports, []
        return reports

    def start_outcome(self, spec):
        if self.scripts[spec.id]:
            return self.scripts[spec.id].popleft()
        self._born[spec.id] += 1
        return Started(f"{spec.id}{self._born[spec.id]}", at=self.now)

    def _perform(self, step):
        match step:
            case Start(spec, incarnation):
                self.specs.append(spec)
                self.incarnations.append((spec.id, incarnation))
                if self.hold:
                    self.held = step
                    return WAIT
                outcome = self.start_outcome(spec)
                self.trace.append(f"+{outcome.ref if isinstance(outcome, Started) else spec.id + '!'}")
                return outcome
            case Signal(ref, reason, within):
                if reason == KILL:
                    self.trace.append(f"kill:{ref}")
                elif within == 0 or ref in self.stubborn:
                    self.stubborn.add(ref)
                    self.trace.append(f"ask:{ref}")
                else:
                    self.trace.append(f"-{ref}")
                self.deaths.setdefault(ref, KILLED if reason == KILL else reason)
                if reason == KILL:
                    self.stubborn.discard(ref)
            case Exited(ref):
                if ref in self.stubborn:
                    self.deaths[ref] = KILLED
                    return TIMED_OUT
                return self.deaths[ref]
            case Later(retry, backoff, attempt):
                self.retries.append(retry)
                self.delays.append(None if backoff is None else backoff.delay(attempt, 0.0))
            case Report(kind, id, _, reason):
                if kind != "child_started":
                    self.reports.append((kind, id, reason))
        return None
