"""The crew of a turn, or of a call that is not chat: its workers, by the jobs that they do, and their deadlines.

Rule of this file: nothing here knows what the jobs are. A process does one job at a time, so that a crash affects only
that job. A process is started, by the host's supervisors, when none of its class is idle, and ends with the turn: a
turn starts only as many as ever ran at the same time. Workers and deadlines report to their actor by message.

Thread: the actor's. `let_all_go` may also be called on its killer's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import msgspec

from allm_actors.actors.ports import Ports, actor_for
from allm_actors.actors.protocol import (
    ANSWERED,
    AlarmRang,
    HireAgain,
    ModelJob,
    ToolJob,
    WorkerLost,
)
from allm_actors.actors.workers.adapter import close
from allm_actors.actors.workers.cancellation import LoopWatch
from allm_actors.actors.workers.tools import AsyncToolActor
from supervisors import SHUTDOWN, Process, ProcessRef

from .alarms import Alarms
from .assignment import Assignment, WorkerSlot

__all__ = ["Crew", "alarms_for"]


class Crew:
    """The workers of one turn. `ref` is its actor, to whom they report; `assigned` has what they do, by the tokens of
    their jobs, and `alarms` their deadlines. The `tokens` are those that no job of this actor has had.
    """

    __slots__ = ("_idle", "_leaving", "_then", "_tokens", "_unhired", "alarms", "assigned", "ports", "ref")

    def __init__(self, ports: Ports, ref: ProcessRef[Any], tokens: Iterator[int] | None = None) -> None:
        self.ports, self.ref, self._tokens = ports, ref, tokens or count(1)
        self.alarms = alarms_for(ports, ref)
        self.assigned: dict[int, Assignment] = {}
        self._idle: dict[type[Process], list[WorkerSlot]] = {}
        self._unhired: dict[int, ModelJob | ToolJob] = {}  # they wait for the restart of a supervisor
        self._leaving: set[int] = set()  # the jobs of dismissed coroutines, which may be cleaning up
        self._then: Callable[[], object] | None = None

    def next_token(self) -> int:
        """A number that no job of this actor has had."""
        return next(self._tokens)

    def employ(self, assignment: Assignment, job: ModelJob | ToolJob) -> None:
        """Give the job to an idle worker, or to a new one. Its token may change."""
        process = actor_for(job)
        self._assign(assignment, job.token)  # before it starts: whoever kills us meanwhile looks here
        while (slot := self._take(process, assignment)) is not None:
            if slot.give(job):
                break
            self.assigned.pop(job.token, None)
            job = msgspec.structs.replace(job, token=self.next_token())
            self._assign(assignment, job.token)
        else:
            assignment.slot = self.hire(job)
        self._if_killed_dismiss(assignment)

    def hire(self, job: ModelJob | ToolJob) -> WorkerSlot:
        """Start a worker under its supervisor; while that is restarted, `HireAgain` or `WorkerLost` comes later."""
        slot, token, ref = WorkerSlot(job.token), job.token, self.ref
        slot.ref = self.ports.hire(
            job,
            lambda why, begun: ref.inform(WorkerLost(slot.token, why, begun)),
            lambda: ref.send(HireAgain(token)),
        )
        if slot.ref is None:
            self._unhired[token] = job
        return slot

    def hire_again(self, token: int) -> None:
        """Start the worker that could not be started for that job, unless nobody wants it any more."""
        assignment, job = self.assigned.get(token), self._unhired.pop(token, None)
        if assignment is not None and job is not None:
            assignment.slot = self.hire(job)
            self._if_killed_dismiss(assignment)

    def free(self, assignment: Assignment) -> None:
        """The worker of a forgotten job has answered, and can take another one."""
        slot = assignment.slot
        assert slot is not None
        assert slot.ref is not None
        slot.token = 0
        self._idle.setdefault(slot.ref.actor_class, []).append(slot)
        if not self.ref.is_alive():  # its killer has dismissed those that were idle
            slot.ref.terminate(ANSWERED)

    def forget(self, token: int) -> Assignment | None:
        """That job is done, or nobody wants it any more; returns it, or None if it was forgotten already."""
        self.alarms.call_off(token)
        self.alarms.call_off(-token)
        unhired = self._unhired.pop(token, None) if self._unhired else None
        if isinstance(unhired, ModelJob):
            close(unhired.opened, unhired.context)  # no worker will
        return self.assigned.pop(token, None)

    # A worker is dismissed first and forgotten after: if we are killed in between, our killer still finds it.

    def drop(self, token: int) -> None:
        """Nobody wants that job any more: dismiss its worker.

        Never a kill: it cannot stop a handler that blocks, only disown it. The handler is asked to stop, and its
        process ends when it has.
        """
        assignment = self.assigned.get(token)
        if assignment is None:
            return
        assignment.take_over()
        if assignment.cancel is not None:
            assignment.cancel()
        if assignment.ref is not None:
            if issubclass(assignment.ref.actor_class, AsyncToolActor) and assignment.ref.is_alive():
                self._leaving.add(token)
            self.dismiss(assignment.ref, SHUTDOWN)
        self.forget(token)

    def gone(self, token: int) -> None:
        """The worker with that job has ended."""
        self._leaving.discard(token)
        if not self._leaving and self._then is not None:
            then, self._then = self._then, None
            then()

    def when_gone(self, then: Callable[[], object]) -> None:
        """Call this once no dismissed coroutine cleans up any more: now, or at most a second from now."""
        if self._leaving:
            self._then = then
        else:
            then()

    def let_all_go(self) -> None:
        """The turn is over: dismiss every worker, those of open jobs (such as a `halt_when`) and the idle ones."""
        for token in list(self.assigned):
            self.drop(token)
        for slot in [slot for slots in list(self._idle.values()) for slot in slots]:
            if slot.ref is not None:
                self.dismiss(slot.ref, ANSWERED)
        self._idle = {}
        self.alarms.rest()

    def dismiss(self, worker: ProcessRef[Any], reason: Any) -> None:
        """Stop a worker; its later messages are stale."""
        self.ports.dismiss(worker, reason)

    def _if_killed_dismiss(self, assignment: Assignment) -> None:
        if self.ref.is_alive():
            return
        # We were killed meanwhile, and our workers were dismissed before this one had a process.
        if assignment.cancel is not None:
            assignment.cancel()
        if assignment.ref is not None:
            assignment.ref.terminate(SHUTDOWN)

    def _assign(self, assignment: Assignment, token: int) -> None:
        assignment.token = token
        self.assigned[token] = assignment

    def _take(self, process: type[Process], assignment: Assignment) -> WorkerSlot | None:
        """Make an idle worker the assignment's `slot`; None if there is none. It may be dead."""
        idle = self._idle.get(process)
        if not idle:
            return None
        # Assigned before it is removed: whoever kills us looks in both places.
        slot = assignment.slot = idle[-1]
        idle.pop()
        return slot


def alarms_for(ports: Ports, ref: ProcessRef[Any]) -> Alarms:
    """Deadlines of which that actor hears by `AlarmRang`."""
    # Timers of the system's, not the actor's: they can be cancelled even after the actor was killed.
    return Alarms(ports.system.timers, partial(_ring, ref, ports.watch))


def _ring(ref: ProcessRef[Any], watch: LoopWatch) -> None:
    if ref.is_alive():
        ref.inform(AlarmRang())
        watch.look()  # a blocked event loop keeps it from being heard
