"""Dispatchers, which run mailboxes: the interface, and what all those with threads of their own share.

The rule of this file: a dispatcher decides *when* and *on which thread* `Mailbox.run` is called, and nothing
else. Threads are daemon threads, are started by the first work and are gone after `stop`. A worker whose
process was killed while it ran is a *zombie*: it has no role any more, and ends when the handler returns. If
the OS has no thread to give, or one that dies as it begins, it is asked again later; the work waits meanwhile, and
none is lost.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from supervisors.runtime.birth import PAUSE, DaemonThread
from supervisors.runtime.log import log
from supervisors.runtime.running import running
from supervisors.runtime.timers import Deadline, RealClock

if TYPE_CHECKING:
    from supervisors.runtime.mailbox import Mailbox
    from supervisors.runtime.timers import Timers
    from supervisors.runtime.zombies import Zombie

__all__ = ["Dispatcher", "Worker", "WorkerDispatcher"]


class Dispatcher(ABC):
    """Runs the mailboxes of processes. Subclass it for a dispatcher of your own."""

    doubtful = False
    """Whether a mailbox may have been scheduled twice, or not at all: an exception has struck `schedule`."""

    short = False
    """Whether work may wait because the last attempt to start a thread failed."""

    def join(self, timers: Timers) -> None:  # noqa: B027 - most do nothing later
        """Called when a system begins to use the dispatcher; `timers` are those of the system."""

    def prepare(self) -> None:  # noqa: B027 - most need nothing for that
        """Get ready to run a process that is about to begin. Raises: whatever prevents that."""

    @abstractmethod
    def schedule(self, box: Mailbox) -> None:
        """Have `box.run` called soon. Called once per idle -> scheduled transition; must not block.

        Raises: RuntimeError or OSError without a thread, file or stack for it; only if `box` will not run.
        """

    def again(self, box: Mailbox) -> None:  # noqa: B027 - where nobody is interrupted
        """An exception struck somewhere around `schedule(box)`: have `box` run soon unless it will be.

        Must not raise.
        """

    def blocking(self) -> AbstractContextManager[None]:
        """A context manager around code that blocks in a handler, so that other processes can run meanwhile.

        Raises: `WouldBlock` where blocking is not possible.
        """
        return nullcontext()

    def wait(self, lock: Any, timeout: float | None) -> bool:
        """Wait, inside a handler, until `lock` is released; False if that takes longer than `timeout` seconds."""
        with self.blocking():
            return _acquire(lock, timeout)

    def wait_outside(self, lock: Any, timeout: float | None) -> bool:
        """The same, for a thread outside any process that waits for a process of this dispatcher."""
        return _acquire(lock, timeout)

    @abstractmethod
    def abandon(self, box: Mailbox, zombie: Zombie) -> bool:
        """Called when the process of `box` was killed. False if no thread runs it now.

        Else call `zombie.begin(thread)`, have another thread take its place, and return True.
        """

    def runs_here(self) -> bool:
        """Whether processes here run on the calling thread, and so only after the caller has returned."""
        return False

    def lag(self) -> float:
        """How many seconds its event loop took to react to the previous call, or takes until now.

        0.0 the first time, and for a dispatcher without an event loop. Must not wait. Thread: any.
        """
        return 0.0

    def retire(self, box: Mailbox) -> None:  # noqa: B027 - most keep nothing
        """Called when the process of `box` is dead: release what is kept for it alone."""

    @abstractmethod
    def stop(self, timeout: float | None = None) -> list[Mailbox]:
        """End all threads; returns the mailboxes of those that did not end within `timeout` seconds."""


class Worker:
    """One thread of a dispatcher, and what it is doing."""

    __slots__ = ("blocked", "box", "thread", "wake", "zombie")

    def __init__(self) -> None:
        self.box: Mailbox | None = None
        self.zombie: Zombie | None = None
        self.thread: DaemonThread | None = None
        self.wake: threading.Lock = allocate_lock()
        self.wake.acquire()
        self.blocked: bool = False

    def run(self, box: Mailbox, budget: int) -> None:
        """Run `box` for up to `budget` messages: one activation."""
        self.box = box
        box.run(budget)
        self.box = None


class WorkerDispatcher(Dispatcher):
    """A dispatcher with threads of its own."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._lock = threading.RLock()  # reentrant: a finalizer or a signal handler may run while it is held
        self._workers: dict[Worker, None] = {}
        self._hires = 0
        self._stopped = False
        self._timers: Timers | None = None
        self._untold = False  # it is short of threads, and that was not logged yet
        self._asking = False  # another attempt is scheduled
        self._refused = False  # an attempt has failed since the last one that was scheduled
        self._turned_away: set[Mailbox] = set()  # scheduled again while another worker ran them

    def join(self, timers: Timers) -> None:
        """See `Dispatcher.join`."""
        self._timers = timers

    def again(self, box: Mailbox) -> None:
        """See `Dispatcher.again`. After a pause: a worker that has taken `box` is known by then."""
        self.doubtful = True
        with self._lock:
            # Perhaps it struck before a thread was started. One that begins all the same registers itself.
            unborn = [each for each in self._workers if each.thread is None or not each.thread.began]
            for worker in unborn:
                del self._workers[worker]
        try:
            if self._timers is not None:
                self._timers.after(PAUSE, lambda: self.schedule(box))
                return
        except RuntimeError:
            pass  # no thread for timers
        self.schedule(box)

    def abandon(self, box: Mailbox, zombie: Zombie) -> bool:
        """See `Dispatcher.abandon`."""
        with self._lock:
            for worker in self._workers:
                if worker.box is box:
                    break
            else:
                return False
            if worker.thread is None:
                return False
            worker.zombie = zombie
            # Write, then read, as the worker clears `box` and then looks at `zombie`: one sees the other.
            if worker.box is not box:
                worker.zombie = None
                return False
            zombie.begin(worker.thread)
            self._lost(worker)
        self._serve()
        return True

    def stop(self, timeout: float | None = None) -> list[Mailbox]:
        """See `Dispatcher.stop`."""
        with self._lock:
            self._stopped = True
            workers = list(self._workers)
        self._dismiss(len(workers))
        deadline = Deadline(RealClock(), timeout)
        for worker in workers:
            thread = worker.thread
            if thread is not None and thread.began and thread is not threading.current_thread():
                thread.join(deadline.remaining())
        return [worker.box for worker in workers if worker.box is not None]

    def _run(self, worker: Worker, box: Mailbox, budget: int) -> None:
        """One activation, unless it is one too many."""
        if self.doubtful and not self._takes(worker, box):
            return
        worker.run(box, budget)
        if self.doubtful:
            self._look_back(box)

    def _takes(self, worker: Worker, box: Mailbox) -> bool:
        with self._lock:
            if box.closed or not box.scheduled:
                return False
            if all(other.box is not box for other in self._workers):
                worker.box = box
                return True
            # The other one may be about to finish, and miss what this activation was for.
            self._turned_away.add(box)
            return False

    def _look_back(self, box: Mailbox) -> None:
        with self._lock:
            if box not in self._turned_away:
                return
            self._turned_away.remove(box)
        self.schedule(box)

    def _hire(self, work: Callable[[Worker], None]) -> Worker | None:
        """A new worker for `_begin`, or None if stopped. Registered here: Ctrl-C in `_begin` cannot lose it.

        Thread: the lock is held.
        """
        if self._stopped:
            return None
        self._hires += 1
        name = f"supervisors-{self._label}-{self._hires}"
        worker = Worker()
        worker.thread = DaemonThread(partial(self._employ, worker, work), name)
        self._workers[worker] = None
        return worker

    def _begin(self, worker: Worker, take_back: Callable[[], None]) -> bool:
        """Start the thread of `worker`. False if that fails: `take_back()`, under the lock, corrects counts.

        Thread: the lock is not held: `start` may collect garbage, and a finalizer may need the lock.
        """
        thread = cast(DaemonThread, worker.thread)
        begun = False
        try:
            thread.start()
            begun, self.short = True, False
        except (RuntimeError, MemoryError) as error:
            with self._lock:
                self._workers.pop(worker, None)
                if "interpreter shutdown" not in str(error):  # expected from Python 3.12 on
                    self._ask_again(thread.name)
        finally:
            if not begun:
                with self._lock:
                    take_back()
        return begun

    def _ask_again(self, name: str) -> None:
        """The OS had no thread to give: try again later. Thread: the lock is held."""
        self._refused = True
        if not self.short:
            self.short = self._untold = True
        if self._timers is not None and not self._asking:
            with suppress(RuntimeError, MemoryError):
                # None for timers either: the next `schedule` tries again.
                self._timers.after(PAUSE, lambda: self._served_late(name))
                self._asking = True

    def _served_late(self, name: str) -> None:
        with self._lock:
            self._asking, untold, self._untold = False, self._untold, False
            self._refused = False
        if untold:  # not under the lock: a log handler may send to a process
            log.error("no thread could be started for %s; its work waits until one can", name)
        self._serve_or_ask_again(name)
        with self._lock:
            if not self._refused:  # nor perhaps begun: other threads have done the work
                self.short = False

    def _serve_or_ask_again(self, name: str) -> None:
        try:
            self._serve()
        except MemoryError:  # before there was a thread to start
            with self._lock:
                self._ask_again(name)

    def _employ(self, worker: Worker, work: Callable[[Worker], None]) -> None:
        with self._lock:
            if self._stopped:
                self._workers.pop(worker, None)
                return
            self._workers[worker] = None  # there already, unless Ctrl-C struck the thread that started it
        try:
            running.worker = worker
            work(worker)
        except BaseException:  # between two turns: out of memory, or raised by a debugger
            self._broken(worker)
            if worker.box is not None:
                worker.box.interrupted()
            raise
        finally:
            self._leave(worker)

    def _is_zombie(self, worker: Worker) -> bool:
        if worker.zombie is None:
            return False
        with self._lock:  # `abandon` may be about to see that it came too late
            return worker.zombie is not None

    def _leave(self, worker: Worker) -> None:
        with self._lock:
            self._workers.pop(worker, None)
            zombie = worker.zombie
        if zombie is not None:
            zombie.end()

    def _broken(self, worker: Worker) -> None:
        """`worker` ends with an exception, and another has to take its place."""
        with self._lock:
            self._workers.pop(worker, None)
        self._serve()

    def _lost(self, worker: Worker) -> None:
        """`worker` has become a zombie. Thread: the lock is held."""

    @abstractmethod
    def _serve(self) -> None:
        """Give threads to the work that waits for one, as far as the OS has any to give."""

    @abstractmethod
    def _dismiss(self, count: int) -> None:
        """Make `count` workers see that the dispatcher has stopped."""


def _acquire(lock: Any, timeout: float | None) -> bool:
    return bool(lock.acquire(True, -1 if timeout is None else max(0.0, timeout)))
