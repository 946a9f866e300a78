"""One task for each of many items, a limited number at a time, with their results as an iterator.

The rule of this file: tasks run on demand only. An iterator that is not advanced starts no more of them, and
one that is closed, or whose consumer has ended, stops those that run. A result that is ready is yielded
before another item is taken. The consumer is sent no messages.

Source: Elixir `Task.Supervisor.async_stream_nolink/4`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import pykka

from supervisors.process import Future, exit
from supervisors.reasons import SHUTDOWN
from supervisors.runtime.ref import Ref
from supervisors.runtime.running import guard, running
from supervisors.runtime.signals import ExitNotice
from supervisors.task.handle import Task
from supervisors.task.work import Ended, Returned

__all__ = ["TIMEOUT", "OnTimeout", "Stream"]

OnTimeout: TypeAlias = Literal["exit", "kill_task"]

TIMEOUT = "timeout"
"""The reason of a task that was killed because it took too long."""

_PATIENCE: Final = 5.0  # seconds for the tasks of a stream that was given up


@dataclass(slots=True, eq=False)
class _Running:
    item: Any
    task: Task
    deadline: float
    late: bool = False


class Stream:
    """The running tasks of one `async_stream`, in the order of their items."""

    def __init__(
        self,
        start: Callable[[Any], Task],
        items: Iterable[Any],
        *,
        max_concurrency: int,
        ordered: bool,
        timeout: float | None,
        on_timeout: OnTimeout,
        zip_input_on_exit: bool,
    ) -> None:
        self._start = start
        self._items = iter(items)
        self._most = max_concurrency
        self._ordered = ordered
        self._timeout = math.inf if timeout is None else timeout
        self._on_timeout = on_timeout
        self._zip = zip_input_on_exit
        self._running: list[_Running] = []
        self._finished: deque[Task] = deque()
        self._alarm: Future[None] = Future()

    def results(self) -> Iterator[Returned | Ended]:
        """Run the tasks; yields one result for each item."""
        consumer = None if running.process is None else running.process.ref
        if consumer is not None:
            # Not only in `finally`: a crash's traceback may keep this generator, a zombie never resume it.
            consumer.add_exit_callback(self._give_up)
        try:
            while self._fill():
                ready = self._ready()
                if ready is None:
                    self._wait()
                else:
                    self._running.remove(ready)
                    yield self._result(ready)
        finally:
            if consumer is not None and consumer.is_alive():
                consumer.remove_exit_callback(self._give_up)
            self._give_up()

    def _give_up(self, _reason: object = None) -> None:
        # Thread: the consumer's, or the one it dies on.
        for each in self._busy():
            _stop(each.task.ref)

    def _fill(self) -> bool:
        # Whether anything is left to wait for or yield. Items may be endless, or depend on earlier results.
        while self._ready() is None and len(busy := self._busy()) < self._most and not _overdue(busy):
            try:
                item = next(self._items)
            except StopIteration:
                break
            task = self._start(item)
            self._running.append(_Running(item, task, _now(task.ref) + self._timeout))
            task.add_done_callback(self._ring)
            guard()  # killed meanwhile: this one was not there when the others were stopped
        return bool(self._running)

    def _ready(self) -> _Running | None:
        candidates = self._running[:1] if self._ordered else self._running
        return next((each for each in candidates if each.task.done()), None)

    def _wait(self) -> None:
        busy = self._busy()
        if not busy:
            return
        first = min(busy, key=lambda each: each.deadline)
        ref = first.task.ref
        # The new alarm first, then a look: a task that finishes after the look rings this one.
        self._alarm = Future(None, ref.dispatcher)
        if self._finished:
            self._finished.clear()
            return
        left = None if first.deadline == math.inf else max(0.0, first.deadline - _now(ref))
        try:
            self._alarm.get(timeout=left)
        except pykka.Timeout:
            self._too_late(first)

    def _ring(self, task: Task) -> None:
        # Thread: the task's.
        self._finished.append(task)
        self._alarm.set()

    def _too_late(self, late: _Running) -> None:
        if self._on_timeout == "exit":
            raise pykka.Timeout(f"{late.task} took longer than {self._timeout} seconds")
        late.late = True
        exit(late.task.ref, "kill")

    def _result(self, ready: _Running) -> Returned | Ended:
        outcome = ready.task.outcome()
        if isinstance(outcome, Returned):
            return outcome
        reason = TIMEOUT if ready.late else outcome.reason
        return Ended((ready.item, reason) if self._zip else reason)

    def _busy(self) -> list[_Running]:
        return [each for each in self._running if not each.task.done()]


def _overdue(busy: list[_Running]) -> bool:
    first = min((each.deadline for each in busy), default=math.inf)
    return first < math.inf and first <= _now(busy[0].task.ref)


def _stop(ref: Ref[Any]) -> None:
    # Asked first, killed later, never waited for. Not with `exit`, which raises in a killed caller.
    ref.receive_exit(ExitNotice(None, SHUTDOWN))
    alarm = ref.system.timers.after(_PATIENCE, ref.kill)
    ref.add_exit_callback(lambda _reason: alarm.cancel())


def _now(ref: Ref[Any]) -> float:
    return ref.system.clock.monotonic()
