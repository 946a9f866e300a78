"""Many processes on few threads.

The rule of this file: while there is work, as many workers are *active* (neither blocked in a handler, nor
parked, nor a zombie) as the pool is large. A worker that is about to block gives its place away and takes it
back afterwards; the surplus then parks. No process ever runs on top of another one's stack. Even a pool that
is at its maximum keeps one worker active: what its blocked workers wait for may be in its own queue.

Source: Akka dispatchers ("throughput"); `ForkJoinPool.ManagedBlocker` (compensation).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from supervisors.errors import BadSpec
from supervisors.runtime.dispatch import Worker, WorkerDispatcher
from supervisors.runtime.log import log
from supervisors.runtime.running import running
from supervisors.spec import is_count

if TYPE_CHECKING:
    from supervisors.runtime.mailbox import Mailbox

__all__ = ["PoolDispatcher"]


_OUTGROWN: Final = (
    "all %d threads of a pool are blocked in handlers, and from here on it adds only one thread at a time; ask "
    'less at once, set dispatcher = "blocking" on processes that wait for long, or raise max_extra of the pool'
)


class PoolDispatcher(WorkerDispatcher):
    """`size` workers share all mailboxes; each takes up to `throughput` messages of one, then the next.

    Up to `max_extra` more threads stand in for workers that block. Beyond that, one more is started only when
    all are blocked and a mailbox waits for a thread, which is logged once. Units: `linger` is how many
    seconds a surplus thread waits for work before it ends. Under the GIL a small pool has the better latency,
    so the default is 2.
    Raises: `BadSpec("invalid_pool")`.
    """

    def __init__(
        self, size: int = 2, *, throughput: int = 32, max_extra: int = 256, linger: float = 10.0
    ) -> None:
        if not (is_count(size) and size and is_count(throughput) and throughput and is_count(max_extra)):
            found = {"size": size, "throughput": throughput, "max_extra": max_extra}
            raise BadSpec(
                "invalid_pool",
                found,
                f"a pool needs size >= 1, throughput >= 1 and max_extra >= 0, not {found}",
            )
        super().__init__("pool")
        self.size = size
        self.throughput = throughput
        self.max_extra = max_extra
        self._linger = linger
        self._queue: SimpleQueue[Mailbox | None] = SimpleQueue()
        self._spares: list[Worker] = []
        self._active = 0
        self._outgrown = False

    def schedule(self, box: Mailbox) -> None:
        """See `Dispatcher.schedule`."""
        self._queue.put(box)
        if self._active < self.size:
            self._fill()

    def again(self, box: Mailbox) -> None:
        """See `Dispatcher.again`. A worker that never started may have been counted: count again."""
        with self._lock:
            working = (worker for worker in self._workers if worker not in self._spares)
            self._active = sum(1 for each in working if not each.blocked and each.zombie is None)
        super().again(box)

    def blocking(self) -> AbstractContextManager[None]:
        """See `Dispatcher.blocking`."""
        worker = running.worker
        if worker is None or worker.blocked or worker.box is None:
            return nullcontext()
        return _Blocking(self, worker)

    def step_aside(self, worker: Worker) -> None:
        """`worker` is about to block: another one takes its place."""
        with self._lock:
            worker.blocked = True
            if worker.zombie is None:
                self._active -= 1
        self._serve()

    def step_back(self, worker: Worker) -> None:
        """`worker` has stopped blocking, and finishes its activation, even as one active worker too many."""
        with self._lock:
            worker.blocked = False
            if worker.zombie is None:
                self._active += 1

    def _fill(self) -> None:
        with self._lock:
            if self._active >= self.size or self._stopped:
                return
            if self._spares:
                self._active += 1
                self._spares.pop().wake.release()
                return
            full = len(self._workers) >= self.size + self.max_extra
            if full and (self._active > 0 or self._queue.empty()):
                return
            worker = self._hire(self._work)
            if worker is None:
                return
            self._active += 1
            untold, self._outgrown = full and not self._outgrown, full or self._outgrown
        self._begin(worker, self._one_less)
        if untold:  # not under the lock: a log handler may send to a process
            log.warning(_OUTGROWN, self.size + self.max_extra)

    def _one_less(self) -> None:
        self._active -= 1

    def _work(self, worker: Worker) -> None:
        get = self._queue.get
        while True:
            box = get()
            if box is None:
                return
            self._run(worker, box, self.throughput)
            if self._is_zombie(worker):
                return
            if self._active > self.size and not self._park(worker):
                return

    def _park(self, worker: Worker) -> bool:
        with self._lock:
            if self._active <= self.size or self._stopped:
                return True
            self._active -= 1
            self._spares.append(worker)
        if worker.wake.acquire(True, self._linger):
            return True
        with self._lock:
            if worker in self._spares:
                self._spares.remove(worker)
                del self._workers[worker]
                return False
        return worker.wake.acquire()

    def _broken(self, worker: Worker) -> None:
        with self._lock:
            if worker in self._spares:
                self._spares.remove(worker)
            elif not worker.blocked and worker.zombie is None:
                self._active -= 1
        super()._broken(worker)

    def _lost(self, worker: Worker) -> None:
        if not worker.blocked:
            self._active -= 1

    def _serve(self) -> None:
        if not self._queue.empty():
            self._fill()

    def _dismiss(self, count: int) -> None:
        with self._lock:
            spares, self._spares = self._spares, []
        for worker in spares:
            worker.wake.release()
        for _ in range(count):
            self._queue.put(None)


class _Blocking:
    __slots__ = ("_pool", "_worker")

    def __init__(self, pool: PoolDispatcher, worker: Worker) -> None:
        self._pool = pool
        self._worker = worker

    def __enter__(self) -> None:
        self._pool.step_aside(self._worker)

    def __exit__(self, *_exc: object) -> None:
        self._pool.step_back(self._worker)
