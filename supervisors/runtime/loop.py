"""Processes on an asyncio event loop, beside the loop's own I/O.

The rule of this file: everything runs on the loop's one thread, in slices short enough that the loop's I/O is served. A
handler here starts asyncio work and returns; it must not wait.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import threading
import time
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any

from supervisors.errors import WouldBlock
from supervisors.runtime.birth import PAUSE, DaemonThread
from supervisors.runtime.dispatch import Dispatcher
from supervisors.runtime.log import log
from supervisors.runtime.running import runs_here, uninterrupted

if TYPE_CHECKING:
    from supervisors.runtime.mailbox import Mailbox
    from supervisors.runtime.timers import Timers
    from supervisors.runtime.zombies import Zombie

__all__ = ["LoopDispatcher"]


# How many seconds a busy loop sleeps after each slice. CPython takes the GIL away from a thread only when another has
# waited a whole switch interval without seeing it free. The loop frees it at every look at its I/O, for an instant in
# which nobody else can wake up; so without a real sleep the threads of the program could wait for minutes. The kernel
# makes it about 60 microseconds, a hundredth of a slice. Source: CPython `ceval_gil.c`, `take_gil`.
_GIVE_WAY = 1e-6
_FAREWELL = 1.0  # seconds that coroutines of a loop that ends get to end, before somebody is told of them


class LoopDispatcher(Dispatcher):
    """Runs processes on `loop`, or on a loop and daemon thread of its own, started by the first work.

    A process handles up to `throughput` messages before the next has its turn.
    Units: `time_slice` is how many seconds processes run before the loop looks at its I/O again.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        throughput: int = 32,
        time_slice: float = 0.005,
    ) -> None:
        self.throughput = throughput
        self._time_slice = time_slice
        self._given = loop
        self._own: _OwnLoop | None = None
        self._ident = threading.get_ident() if loop is not None and runs_here(loop) else None
        self._ready: deque[Mailbox] = deque()
        self._armed = allocate_lock()
        self._making = threading.RLock()  # reentrant: a finalizer or a signal handler may run meanwhile
        self._box: Mailbox | None = None
        self._zombie: Zombie | None = None
        self._stopped = False
        self._timers: Timers | None = None
        self._looked: float | None = None  # when `lag` looked, until the loop has answered
        self._lag = 0.0

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop. Starts the thread if the loop is its own."""
        if self._given is not None:
            return self._given
        with self._making:
            if self._own is None:
                self._own = _OwnLoop(self._mend)
                self._ident = self._own.ident
            return self._own.loop

    @property
    def begun(self) -> asyncio.AbstractEventLoop | None:
        """The event loop, unless it is one of its own that nothing has started yet."""
        return self._given if self._own is None else self._own.loop

    @property
    def ident(self) -> int | None:
        """The identifier of the loop's thread (`threading.get_ident`), once something has run there."""
        return self._ident

    def join(self, timers: Timers) -> None:
        """See `Dispatcher.join`."""
        self._timers = timers

    def prepare(self) -> None:
        """See `Dispatcher.prepare`. Raises: RuntimeError, OSError: there is no thread or file for a loop of its own."""
        _ = self.loop

    def schedule(self, box: Mailbox) -> None:
        """See `Dispatcher.schedule`."""
        self._ready.append(box)
        if self._armed.acquire(False):
            try:
                self._arm()
            except Exception as error:  # no thread or file for a loop of its own, or no room on the stack
                try:  # not `suppress`, for which there may be no room
                    self._armed.release()
                except RuntimeError:
                    pass
                if isinstance(error, RecursionError) or not self._will_wake():
                    raise

    def again(self, box: Mailbox) -> None:
        """See `Dispatcher.again`."""
        self.doubtful: bool = True
        with suppress(RuntimeError):
            self._armed.release()  # an exception may have struck between taking it and waking the loop
        with suppress(RuntimeError, OSError):
            self.schedule(box)

    def blocking(self) -> AbstractContextManager[None]:
        """Refuse: raises `WouldBlock`."""
        raise WouldBlock(
            "a handler on an event loop must not wait: send and handle the answer later, await in a task, or "
            'give the process dispatcher = "blocking"'
        )

    def wait_outside(self, lock: Any, timeout: float | None) -> bool:
        """See `Dispatcher.wait_outside`. Raises: `WouldBlock` on the loop's own thread."""
        if self._ident == threading.get_ident():
            raise WouldBlock(
                "waiting here would block the event loop that has to answer; await the future instead"
            )
        return super().wait_outside(lock, timeout)

    def runs_here(self) -> bool:
        """See `Dispatcher.runs_here`."""
        return self._ident == threading.get_ident()

    def abandon(self, box: Mailbox, zombie: Zombie) -> bool:
        """See `Dispatcher.abandon`. A loop cannot be replaced: what else runs on it waits for the zombie."""
        with self._making:
            # Write, then read, as `_run_one` clears `_box` and then looks at `_zombie`: one sees the other. The thread
            # may be a zombie already, of another process, and then stays the zombie of that one.
            before, self._zombie = self._zombie, zombie
            if self._box is not box or self._ident == threading.get_ident():
                self._zombie = before
                return False
            zombie.begin(_thread(self._ident))
            return True

    def lag(self) -> float:
        """See `Dispatcher.lag`. A loop of its own that has not begun is not started for that."""
        loop = self.begun
        looked, lag, now = self._looked, self._lag, time.monotonic()
        if looked is not None:
            return max(lag, now - looked)
        if loop is not None:
            self._looked = now
            with suppress(RuntimeError):  # it is closed, and never answers
                loop.call_soon_threadsafe(self._answer, context=Context())
        return lag

    def stop(self, timeout: float | None = None) -> list[Mailbox]:
        """See `Dispatcher.stop`. A loop that was given is left alone."""
        self._stopped = True
        with self._making:
            own = self._own
        if own is None or own.stop(timeout) or self._box is None:
            return []
        return [self._box]

    def _answer(self) -> None:
        looked = self._looked
        if looked is not None:  # two threads may have looked at once
            self._lag, self._looked = time.monotonic() - looked, None

    def _will_wake(self) -> bool:
        """Arrange that what is ready runs later; False if there is no thread for timers either."""
        if self._timers is None:
            return False
        with suppress(RuntimeError):
            self._timers.after(PAUSE, self._wake)
            return True
        return False

    def _wake(self) -> None:
        self.doubtful = True
        with suppress(IndexError):  # nothing waits any more
            self.schedule(self._ready[0])

    def _arm(self) -> None:
        # In an empty context: what runs then is not only on behalf of whoever woke the loop.
        loop = self.loop
        try:
            if self._ident == threading.get_ident():
                loop.call_soon(self._run, context=Context())
            else:
                loop.call_soon_threadsafe(self._run, context=Context())
        except RecursionError:
            raise
        except RuntimeError:
            pass  # the loop is closed; its processes can still be killed

    def _run(self) -> None:
        with uninterrupted:  # on the main thread Ctrl-C ends the loop, but not in the middle of a turn
            try:
                self._run_slice()
            except BaseException:  # between two steps of ours: nobody knows what was done
                self._resume()
                raise

    def _resume(self) -> None:
        box, self._box = self._box, None
        if box is not None:
            box.interrupted()
        else:
            self.doubtful = True
            self._armed.acquire(False)
            self._arm()

    def _mend(self) -> None:
        """An exception ended a run of the loop, perhaps before our turn: schedule again. Thread: its own."""
        self.doubtful = True
        with suppress(RuntimeError):
            self._armed.release()
        with suppress(IndexError):  # nothing waits
            self.schedule(self._ready[0])

    def _run_slice(self) -> None:
        # What becomes ready meanwhile runs in the same pass: a message between processes costs no I/O look.
        loop = self.loop
        self._ident = threading.get_ident()
        now = time.monotonic
        until = now() + self._time_slice
        while self._ready and now() < until:
            self._run_one(self._ready[0])
            self._ready.popleft()
        if not self._ready:
            try:
                self._armed.release()
            except RuntimeError:
                pass  # released already: by `again`, or by a second callback that `again` armed
            if not self._ready or not self._armed.acquire(False):
                return
        if not loop.is_closed():
            loop.call_soon(self._run, context=Context())
            time.sleep(_GIVE_WAY)

    def _run_one(self, box: Mailbox) -> None:
        if self.doubtful and not box.scheduled:
            return
        self._box = box
        box.run(self.throughput)
        self._box = None
        if self._zombie is not None:
            with self._making:
                zombie, self._zombie = self._zombie, None
            if zombie is not None:
                zombie.end()


class _OwnLoop:
    def __init__(self, struck: Callable[[], object]) -> None:
        self.loop = _new_loop()
        self._struck = struck
        self._stopping = False
        self._thread = DaemonThread(self._main, "supervisors-loop")
        try:
            self._thread.start()
        except RuntimeError:
            self.loop.close()
            raise
        self.ident = self._thread.ident

    def stop(self, timeout: float | None) -> bool:
        """Whether the loop has ended."""
        asked, self._stopping = self._stopping, True
        if not (asked or self.loop.is_closed()):  # asked twice, it would not let its coroutines clean up
            try:
                self.loop.call_soon_threadsafe(self.loop.stop)
            except RuntimeError:
                pass  # it was closed just now
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            while not self._stopping:
                self._serve()
        finally:
            _close(self.loop)

    def _serve(self) -> None:
        # asyncio lets two exceptions through to end the program. From a thread they cannot: they would only
        # end the loop, and everything on it would wait for ever. The task itself has failed with them, and
        # says so. Others are raised between two callbacks: out of memory, or raised by a debugger.
        try:
            self.loop.run_forever()
        except BaseException:  # noqa: BLE001 - as above
            log.exception("an exception tried to end the event loop, which goes on")
            self._struck()


def _new_loop() -> asyncio.AbstractEventLoop:
    # One that gets only some of its files complains on stderr when it is collected: whether there are enough is tried
    # first. Source: CPython `asyncio/selector_events.py`, `_make_self_pipe`.
    with selectors.DefaultSelector():
        for each in socket.socketpair():
            each.close()
    return asyncio.new_event_loop()


def _close(loop: asyncio.AbstractEventLoop) -> None:
    # As asyncio.run does it: cancel what is left, let it clean up, close. What does not end keeps its loop and thread.
    tasks = asyncio.all_tasks(loop)
    cleaning = {task for task in tasks if task.cancelling()}  # cancelled again at once, it would be cut off
    for task in tasks - cleaning:
        task.cancel()
    loop.run_until_complete(_last(tasks, cleaning))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


async def _last(tasks: set[asyncio.Task[Any]], cleaning: set[asyncio.Task[Any]]) -> None:
    left = await _left_of(tasks)
    for task in left & cleaning:
        task.cancel()  # it has had its time, and may have overlooked the first one
    for task in left - cleaning | await _left_of(left & cleaning):
        log.error("an event loop cannot end: %r goes on after it was cancelled", task.get_coro())
    await asyncio.gather(*tasks, return_exceptions=True)


async def _left_of(tasks: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    return (await asyncio.wait(tasks, timeout=_FAREWELL))[1] if tasks else set()


def _thread(ident: int | None) -> threading.Thread:
    return next((each for each in threading.enumerate() if each.ident == ident), threading.main_thread())
