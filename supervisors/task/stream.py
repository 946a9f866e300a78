"""One task for each of many items, a limited number at a time, with their results as an iterator.

The rule of this file: tasks run on demand only. An iterator that is not advanced starts no more of them, and
one that is closed, or whose consumer has ended, stops those that run. A result that is ready is yielded
before another item is taken. The consumer is sent no messages.

Source: Elixir `Task.Supervisor.async_stream_nolink/4`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import pykka

from supervisors.process import Future, TimerRef
from supervisors.reasons import KILLED, SHUTDOWN
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
    timer: TimerRef | None = None
    killed: bool = False

    def overdue(self) -> bool:
        """Whether its time is over; the timer may be about to say so."""
        return self.timer is not None and self.timer.due <= self.task.ref.system.clock.monotonic()


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
        self._timeout = timeout
        self._on_timeout = on_timeout
        self._zip = zip_input_on_exit
        self._running: list[_Running] = []
        self._expired: _Running | None = None
        self._bell: Future[None] = Future()

    def results(self) -> Iterator[Returned | Ended]:
        """Run the tasks; yields one result for each item."""
        consumer = None if running.process is None else running.process.ref
        if consumer is not None:
            # Not only in `finally`: a crash's traceback may keep this generator, a zombie never resume it.
            consumer.add_exit_callback(self._give_up)
        try:
            while True:
                # The new bell first, then a look: a task that is done after the look rings this one.
                self._bell = Future()
                self._fill()
                ready = self._ready()
                if ready is not None:
                    result = self._result(ready)
                    self._running.remove(ready)
                    yield result
                elif self._running:
                    self._wait()
                else:
                    return
        finally:
            if consumer is not None and consumer.is_alive():
                consumer.remove_exit_callback(self._give_up)
            self._give_up()

    def _give_up(self, _reason: object = None) -> None:
        # Thread: the consumer's, or the one it dies on.
        for each in self._busy():
            _stop(each.task.ref)

    def _fill(self) -> None:
        # Items may be endless, or depend on earlier results.
        while self._ready() is None and self._has_room():
            try:
                item = next(self._items)
            except StopIteration:
                return
            self._begin(item)
            guard()  # killed meanwhile: this one was not there when the others were stopped

    def _has_room(self) -> bool:
        busy = self._busy()
        return not busy or (len(busy) < self._most and not busy[0].overdue())  # the first has begun first

    def _begin(self, item: Any) -> None:
        each = _Running(item, self._start(item))
        self._running.append(each)
        if self._timeout is not None:
            timers = each.task.ref.system.timers
            each.timer = timers.after(self._timeout, lambda: self._too_late(each))
        each.task.add_done_callback(lambda _task: self._done(each))

    def _ready(self) -> _Running | None:
        done = (each for each in self._awaited() if each.task.done() and each is not self._expired)
        return next(done, self._expired)

    def _awaited(self) -> list[_Running]:
        return self._running[:1] if self._ordered else self._running

    def _wait(self) -> None:
        awaited = [each.task.ref for each in self._awaited() if not each.task.done()]
        bounded = self._timeout is not None and self._on_timeout == "kill_task"
        if len(awaited) == 1 and not bounded:
            # If any of several will do, or the task is killed in time, a circle through one of them is none.
            self._bell.target = awaited[0]
        self._bell.host = self._running[0].task.ref.dispatcher
        self._bell.get()

    def _done(self, each: _Running) -> None:
        # Thread: the task's.
        if each.timer is not None:
            each.timer.cancel()
        self._bell.set()

    def _too_late(self, late: _Running) -> None:
        # Thread: the timer's.
        if late.task.done():
            return
        if self._on_timeout == "exit":
            self._expired = self._expired or late
            self._bell.set()
        else:
            late.killed = True
            late.task.ref.kill()

    def _result(self, ready: _Running) -> Returned | Ended:
        if ready is self._expired:
            raise pykka.Timeout(f"{ready.task} took longer than {self._timeout} seconds")
        outcome = ready.task.outcome()
        if isinstance(outcome, Returned):
            return outcome
        reason = TIMEOUT if ready.killed and outcome.reason is KILLED else outcome.reason
        return Ended((ready.item, reason) if self._zip else reason)

    def _busy(self) -> list[_Running]:
        return [each for each in self._running if not each.task.done()]


def _stop(ref: Ref[Any]) -> None:
    # Asked first, killed later, never waited for. Not with `exit`, which raises in a killed caller.
    ref.receive_exit(ExitNotice(None, SHUTDOWN))
    alarm = ref.system.timers.after(_PATIENCE, ref.kill)
    ref.add_exit_callback(lambda _reason: alarm.cancel())
