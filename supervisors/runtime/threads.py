"""Threads for handlers that may block: any number of cached ones, or one of its own for each process.

The rule of this file: a process that has work has a thread, or one is on its way.
"""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

from supervisors.runtime.dispatch import Worker, WorkerDispatcher

if TYPE_CHECKING:
    from supervisors.runtime.mailbox import Mailbox

__all__ = ["PinnedDispatcher", "ThreadDispatcher"]

_NO_LIMIT = -1


class ThreadDispatcher(WorkerDispatcher):
    """A process borrows a thread while it has messages; a thread that is idle for `linger` seconds ends.

    One idle or new thread at a time is on its way to the work. As soon as it is there it calls the next one, if more
    waits: so whoever schedules wakes or starts one thread at most, and work that is soon done is done by few. Of
    idle threads the one that has worked last is woken first, so that those which a busy moment needed end after it,
    however much there is to do for the others.

    Source: Go's scheduler, which wakes no more threads than it must (`runtime/proc.go`, "Worker thread parking").
    """

    def __init__(self, *, linger: float = 10.0) -> None:
        super().__init__("thread")
        self._linger = linger
        self._queue: deque[Mailbox] = deque()
        self._idle: list[Worker] = []
        self._coming: Worker | None = None  # it was called, and has yet to look at the queue

    def schedule(self, box: Mailbox) -> None:
        """See `Dispatcher.schedule`."""
        self._queue.append(box)
        if self._coming is None:
            self._serve()

    def again(self, box: Mailbox) -> None:
        """See `Dispatcher.again`. Perhaps whoever is said to come was never woken; one too many does no harm."""
        self._coming = None
        super().again(box)

    def _work(self, worker: Worker) -> None:
        queue = self._queue
        while True:
            if self._coming is worker:
                self._coming = None
            while queue:
                if len(queue) > 1 and self._coming is None:
                    self._serve_or_ask_again(threading.current_thread().name)
                try:
                    box = queue.popleft()
                except IndexError:
                    break  # another thread took the last one
                self._run(worker, box, _NO_LIMIT)
                if self._is_zombie(worker):
                    return
            if not self._rest(worker):
                return

    def _rest(self, worker: Worker) -> bool:
        """Be idle until there is work. False: there was none for so long that the thread may end."""
        with self._lock:
            if self._queue:
                return True
            if self._stopped:
                return False
            self._idle.append(worker)
        woken = worker.wake.acquire(True, self._linger)
        with self._lock:
            if worker in self._idle:  # nobody called; or an exception struck who did
                self._idle.remove(worker)
                return woken
            if not woken:
                worker.wake.acquire(False)  # called just now
            return True

    def _serve(self) -> None:
        with self._lock:
            if self._coming is not None or not self._queue:
                return
            if self._idle:
                self._coming = self._idle[-1]
                _wake(self._coming)
                self._idle.pop()
                return
            worker = self._coming = self._hire(self._work)
        if worker is not None:
            self._begin(worker, self._none_comes)

    def _none_comes(self) -> None:
        self._coming = None

    def _broken(self, worker: Worker) -> None:
        with self._lock:
            if self._coming is worker:
                self._coming = None
            if worker in self._idle:
                self._idle.remove(worker)
        super()._broken(worker)

    def _dismiss(self, count: int) -> None:  # noqa: ARG002
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            _wake(worker)


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


def _wake(worker: Worker) -> None:
    if worker.wake.locked():  # else it was woken before
        worker.wake.release()
