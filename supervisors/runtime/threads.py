"""Threads for handlers that may block: any number of cached ones, or one of its own for each process.

The rule of this file: a process that has work has a thread, at once.
"""

from __future__ import annotations

from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from supervisors.runtime.dispatch import Worker, WorkerDispatcher

if TYPE_CHECKING:
    from supervisors.runtime.mailbox import Mailbox

__all__ = ["PinnedDispatcher", "ThreadDispatcher"]

_NO_LIMIT = -1


class ThreadDispatcher(WorkerDispatcher):
    """A process borrows a thread while it has messages; idle threads are kept for `linger` seconds."""

    def __init__(self, *, linger: float = 10.0) -> None:
        super().__init__("thread")
        self._linger = linger
        self._queue: SimpleQueue[Mailbox | None] = SimpleQueue()
        self._idle = 0  # idle threads, minus the mailboxes that wait for one

    def schedule(self, box: Mailbox) -> None:
        """See `Dispatcher.schedule`."""
        with self._lock:
            self._idle -= 1
            short = self._idle < 0
        self._queue.put(box)
        if short:
            self._serve()

    def _work(self, worker: Worker) -> None:
        while True:
            box = self._next()
            if box is None:
                return
            self._run(worker, box, _NO_LIMIT)
            if self._is_zombie(worker):
                return
            with self._lock:
                self._idle += 1

    def _serve(self) -> None:
        begun = True
        while begun:
            with self._lock:
                worker = self._hire(self._work) if self._idle < 0 else None
                if worker is None:
                    return
                self._idle += 1
            begun = self._begin(worker, self._one_less)

    def _one_less(self) -> None:
        self._idle -= 1

    def _next(self) -> Mailbox | None:
        try:
            return self._queue.get(timeout=self._linger)
        except Empty:
            with self._lock:
                if self._idle > 0:
                    self._idle -= 1
                    return None
        return self._queue.get()  # claimed just now: the work is on its way

    def _dismiss(self, count: int) -> None:
        for _ in range(count):
            self._queue.put(None)


class PinnedDispatcher(WorkerDispatcher):
    """Each process has a thread of its own, from its first work until its death: for thread-bound libraries."""

    def __init__(self) -> None:
        super().__init__("pinned")
        self._queues: dict[Mailbox, SimpleQueue[Mailbox | None]] = {}
        self._waiting: dict[Mailbox, SimpleQueue[Mailbox | None]] = {}  # those that have no thread yet

    def schedule(self, box: Mailbox) -> None:
        """See `Dispatcher.schedule`."""
        with self._lock:
            queue = self._queues.get(box)
            if queue is None:
                queue = self._queues[box] = self._waiting[box] = SimpleQueue()
            waiting = box in self._waiting
        queue.put(box)
        if waiting:
            self._serve()

    def retire(self, box: Mailbox) -> None:
        """See `Dispatcher.retire`: its thread ends."""
        with self._lock:
            queue = self._queues.pop(box, None)
            self._waiting.pop(box, None)
        if queue is not None:
            queue.put(None)

    def _serve(self) -> None:
        begun = True
        while begun:
            with self._lock:
                box = next(iter(self._waiting), None)
                if box is None:
                    return
                queue = self._waiting[box]
                worker = self._hire(partial(self._work, box=box, queue=queue))
                if worker is None:
                    return
                del self._waiting[box]
            begun = self._begin(worker, partial(self._return, box, queue))

    def _work(self, worker: Worker, box: Mailbox, queue: SimpleQueue[Mailbox | None]) -> None:
        try:
            while not box.closed and queue.get() is not None:
                self._run(worker, box, _NO_LIMIT)
        except BaseException:
            self._return(box, queue)
            raise
        with self._lock:
            if self._queues.get(box) is queue:  # and not a new one, made for a message to the dead
                del self._queues[box]

    def _return(self, box: Mailbox, queue: SimpleQueue[Mailbox | None]) -> None:
        """Let `box` wait for another thread, unless its process has died."""
        with self._lock:
            if self._queues.get(box) is queue:
                self._waiting[box] = queue

    def _dismiss(self, count: int) -> None:  # noqa: ARG002
        with self._lock:
            queues = list(self._queues.values())
        for queue in queues:
            queue.put(None)
