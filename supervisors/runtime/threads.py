"""Threads for handlers that may block: any number of cached ones, or one of its own for each process.

The rule of this file: a process that has work has a thread, at once.
"""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from supervisors.runtime.dispatch import Crew, Worker

if TYPE_CHECKING:
    from supervisors.runtime.mailbox import Mailbox

__all__ = ["PinnedDispatcher", "ThreadDispatcher"]

_NO_LIMIT = -1


class ThreadDispatcher(Crew):
    """A process borrows a thread while it has messages; idle threads are kept for `linger` seconds."""

    def __init__(self, *, linger: float = 10.0) -> None:
        super().__init__("thread")
        self._linger = linger
        self._queue: SimpleQueue[Mailbox | None] = SimpleQueue()
        self._idle = 0  # waiting threads that nobody has claimed yet

    def schedule(self, box: Mailbox) -> None:
        """See `Dispatcher.schedule`."""
        with self._lock:
            claimed = self._idle > 0
            if claimed:
                self._idle -= 1
            stopped = self._stopped
        self._queue.put(box)
        if not claimed and not stopped:
            self._hire(self._work)

    def _work(self, worker: Worker) -> None:
        while True:
            box = self._next()
            if box is None:
                return
            worker.run(box, _NO_LIMIT)
            if self._is_zombie(worker):
                return
            with self._lock:
                self._idle += 1

    def _next(self) -> Mailbox | None:
        try:
            return self._queue.get(timeout=self._linger)
        except Empty:
            with self._lock:
                if self._idle > 0:
                    self._idle -= 1
                    return None
        return self._queue.get()  # claimed in this instant: the work is on its way

    def _dismiss(self, count: int) -> None:
        for _ in range(count):
            self._queue.put(None)


class PinnedDispatcher(Crew):
    """Each process has a thread of its own, from its first work until its death: for thread-bound libraries."""

    def __init__(self) -> None:
        super().__init__("pinned")
        self._queues: dict[Mailbox, SimpleQueue[Mailbox | None]] = {}

    def schedule(self, box: Mailbox) -> None:
        """See `Dispatcher.schedule`."""
        with self._lock:
            queue = self._queues.get(box)
            fresh = queue is None
            if queue is None:
                queue = self._queues[box] = SimpleQueue()
            stopped = self._stopped
        queue.put(box)
        if fresh and not stopped:
            self._hire(lambda worker: self._work(worker, box, queue))

    def retire(self, box: Mailbox) -> None:
        """See `Dispatcher.retire`: its thread ends."""
        with self._lock:
            queue = self._queues.pop(box, None)
        if queue is not None:
            queue.put(None)

    def _work(self, worker: Worker, box: Mailbox, queue: SimpleQueue[Mailbox | None]) -> None:
        while not box.closed and queue.get() is not None:
            worker.run(box, _NO_LIMIT)
        with self._lock:
            self._queues.pop(box, None)

    def _dismiss(self, count: int) -> None:  # noqa: ARG002
        with self._lock:
            queues = list(self._queues.values())
        for queue in queues:
            queue.put(None)
