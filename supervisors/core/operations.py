"""One operation at a time; what arrives meanwhile waits its turn, in order.

The rule of this file: no thread and no clock. `perform` does a step of the running operation and returns the
answer, or it returns `WAIT`, and whoever learns of the answer later calls `answer`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from supervisors.core.steps import Operation, Step
from supervisors.errors import SupervisorError
from supervisors.reasons import Named

__all__ = ["WAIT", "Done", "Operations", "at_once"]


WAIT: Final = Named("WAIT", __name__)
"""Returned by `perform`: the answer comes later, with `answer`."""

Done: TypeAlias = Callable[[Any, Exception | None], None]
"""Called with the result of the operation and None, or with None and its refusal; see `Operations.run`."""


class Operations:
    """The queue of a supervisor's operations.

    Thread: that of the supervisor; every call runs operations until one waits or none is left.
    """

    __slots__ = (
        "_answer",
        "_asked",
        "_busy",
        "_closed",
        "_done",
        "_operation",
        "_perform",
        "_queue",
        "waiting",
    )

    def __init__(self, perform: Callable[[Step], object]) -> None:
        self._perform = perform
        self._queue: deque[tuple[Operation[Any], Done, bool]] = deque()
        self._operation: Operation[Any] | None = None
        self._done: Done = _drop
        self._asked = False
        self._answer: object = None
        self._busy = False
        self._closed = False
        self.waiting: Step | None = None

    def run(self, operation: Operation[Any], done: Done, *, asked: bool = False) -> None:
        """Run this operation once all earlier ones are done; after `run_last` it is dropped.

        If it raises a `SupervisorError`, that is a refusal, given to `done`. Any other exception is passed
        on, unless a client has `asked` for this: then it is a refusal too, as a client's ids may raise.
        """
        if not self._closed:
            self._queue.append((operation, done, asked))
            self._go_on()

    def run_last(self, operation: Operation[Any], done: Done) -> None:
        """Run this operation after the running one; drop all that wait, and all that come later."""
        self._queue.clear()
        self._closed = True
        self._queue.append((operation, done, False))
        self._go_on()

    def answer(self, step: Step, answer: object) -> bool:
        """Resume the running operation if it waits for this step; if not, change nothing and return False."""
        if self.waiting is not step:
            return False
        self.waiting, self._answer = None, answer
        self._go_on()
        return True

    def _go_on(self) -> None:
        if self._busy:
            return  # `done` and `perform` may call us: the loop below sees what they changed
        self._busy = True
        try:
            while self.waiting is None and (self._operation is not None or self._queue):
                self._advance()
        finally:
            self._busy = False

    def _advance(self) -> None:
        if self._operation is None:
            self._operation, self._done, self._asked = self._queue.popleft()
            self._answer = None
        try:
            step = self._operation.send(self._answer)
        except StopIteration as stop:
            self._finish(stop.value, None)
        except Exception as refusal:
            if not (self._asked or isinstance(refusal, SupervisorError)):
                raise
            self._finish(None, refusal)
        else:
            self._answer = self._perform(step)
            if self._answer is WAIT:
                self.waiting = step

    def _finish(self, result: object, refusal: Exception | None) -> None:
        done, self._operation, self._done = self._done, None, _drop
        done(result, refusal)


def at_once(decide: Callable[[], object]) -> Operation[object]:
    """An operation that waits for nothing."""
    yield from ()
    return decide()


def _drop(result: object, refusal: Exception | None) -> None:
    pass
