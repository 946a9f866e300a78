"""The pool of a turn's idle workers, which wait for its next job.

Rule of this file: a process does one job at a time, so that a crash affects only that job. A process is
started when none of its class is idle, and ends with the turn: a turn starts only as many as ever ran at the
same time.

Thread: the session actor's; a slot's `token` is also read on the thread that its worker dies on.
"""

from __future__ import annotations

from typing import Any, Protocol

from allm_actors.actors.protocol import ModelJob, ToolJob
from supervisors import Process, ProcessDown, ProcessRef

__all__ = ["IdleWorkers", "WorkerSlot"]


class WorkerSlot:
    """A worker's process, once it has begun, and the token of the job that it does; 0 while it has none."""

    __slots__ = ("ref", "token")

    def __init__(self, token: int) -> None:
        self.token = token
        self.ref: ProcessRef[Any] | None = None

    def give(self, job: ModelJob | ToolJob) -> bool:
        """Send it the next job; False if it is dead.

        Its death may already have been reported with this job's token: after False, use a new token.
        """
        assert self.ref is not None
        self.token = job.token
        try:
            self.ref.tell(job)
        except ProcessDown:
            return False
        return True


class HasWorker(Protocol):
    """What can hold a worker: an `Assignment`."""

    slot: WorkerSlot | None


class IdleWorkers:
    """The idle workers, by the class of their process."""

    __slots__ = ("_free",)

    def __init__(self) -> None:
        self._free: dict[type[Process], list[WorkerSlot]] = {}

    def add(self, slot: WorkerSlot, kind: type[Process]) -> None:
        """Add a worker that has answered."""
        slot.token = 0
        self._free.setdefault(kind, []).append(slot)

    def take(self, kind: type[Process], for_: HasWorker) -> WorkerSlot | None:
        """Take an idle worker of this class and make it the `slot` of `for_`; None if there is none. It may be dead."""
        free = self._free.get(kind)
        if not free:
            return None
        slot = for_.slot = free[-1]  # assigned before it is removed: whoever kills us looks in both places
        free.pop()
        return slot

    def all(self) -> list[WorkerSlot]:
        """All idle workers."""
        return [slot for slots in list(self._free.values()) for slot in slots]

    def clear(self) -> None:
        """Remove all workers."""
        self._free = {}
