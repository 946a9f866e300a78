"""The crew of a session: the workers of its turns, and their deadlines.

Rule of this file: nothing here knows what the jobs are. Workers are started by the host's supervisors; they
and the deadlines report to the session's actor by message.

Thread: the session actor's. `dismiss`, `rest`, `call_off` and what `alarm` returns may also be called on its
killer's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from allm_actors.actors.ports import Ports
from allm_actors.actors.protocol import AlarmRang, ModelJob, ToolJob, WorkerLost, WorkerReady
from allm_actors.actors.workers.cancellation import LoopWatch
from allm_actors.engine.wire import Transport
from supervisors import ProcessRef

from .alarms import Alarms
from .idle_workers import WorkerSlot

__all__ = ["Crew"]


class Crew:
    """The workers of one session actor. `ref` is that actor, to whom they report."""

    __slots__ = ("_alarms", "_ports", "_tokens", "ref")

    def __init__(self, ports: Ports, ref: ProcessRef[Any]) -> None:
        self._ports, self.ref = ports, ref
        self._alarms: Alarms | None = None
        self._tokens = 0

    @property
    def transport(self) -> Transport:
        """The host's HTTP transport."""
        return self._ports.transport

    def next_token(self) -> int:
        """A number that no job of this actor has had; the first is 1."""
        self._tokens += 1
        return self._tokens

    def hire(self, job: ModelJob | ToolJob) -> WorkerSlot:
        """Start a worker under its supervisor; while that is restarted, `WorkerReady` or `WorkerLost` comes later."""
        slot, token, ref = WorkerSlot(job.token), job.token, self.ref
        slot.ref = self._ports.hire(
            job,
            lambda why, begun: ref.inform(WorkerLost(slot.token, why, begun)),
            lambda worker: ref.send(WorkerReady(token, worker)),
        )
        return slot

    def dismiss(self, worker: ProcessRef[Any], reason: Any) -> None:
        """Stop a worker; its later messages are stale."""
        self._ports.dismiss(worker, reason)

    def alarm(self, seconds: float, token: int) -> Callable[[], object]:
        """Send the actor `AlarmRang` when this token's time is up; returns a function that cancels that."""
        if self._alarms is None:
            # A timer of the system's, not the actor's: it can be cancelled even after the actor was killed.
            self._alarms = Alarms(self.ref.system.timers, partial(_ring, self.ref, self._ports.watch))
        self._alarms.set(seconds, token)
        return partial(self._alarms.call_off, token)

    def call_off(self, token: int) -> None:
        """This token has no deadline any more."""
        if self._alarms is not None:
            self._alarms.call_off(token)

    def awaits(self, token: int) -> bool:
        """Whether this token has a deadline."""
        return self._alarms is not None and self._alarms.has(token)

    def late(self) -> list[int]:
        """The tokens whose time is up, the earliest first; each is returned once."""
        return [] if self._alarms is None else self._alarms.over()

    def rest(self) -> None:
        """No worker is busy: stop the timer if no token has a deadline."""
        if self._alarms is not None:
            self._alarms.rest()


def _ring(ref: ProcessRef[Any], watch: LoopWatch) -> None:
    if ref.is_alive():
        ref.inform(AlarmRang())
        watch.look()  # a blocked event loop keeps it from being heard
