"""Between a session actor and the one reader of its turn: events out, demand back.

Rule of this file: the writer never waits and the reader never spins. Nothing that acts on the world (a model call, a
tool) is performed before the reader has taken everything that was published and asks for more, so an unread stream does
nothing; inside one model call the writer runs ahead by a bounded window. A turn ends exactly once; later ends
are ignored.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from allm_actors.actors.inside import Inside
from allm_actors.actors.loops import call_on, current_loop, refuse_the_end, refuse_waiting_on
from allm_actors.data import EngineError, Event, SessionBusy, StepResult
from allm_actors.engine.threads import running_loop
from supervisors import Future, simulated

from .watched import CLOSED, Watched
from .window import Window

__all__ = ["Channel"]

_Wake = Callable[[], None]


class Channel:
    """One turn's events on their way to one reader, a thread or an asyncio task.

    Thread: the writer's methods are called by the session actor, the reader's by one reader at a time.
    """

    __slots__ = (
        "__weakref__",
        "_accepted",
        "_begun",
        "_buffer",
        "_cancelled",
        "_draining",
        "_ended",
        "_error",
        "_gated",
        "_hungry",
        "_hurried",
        "_left",
        "_lock",
        "_pid",
        "_result",
        "_traceback",
        "_wakes",
        "_window",
        "_withdrawn",
        "drafts",
        "home",
        "inside",
        "io_loop",
        "on_cancel",
        "on_demand",
        "steps",
    )

    def __init__(self, limit: int = 256) -> None:
        # Reentrant: a stream may be garbage-collected, and cancel its turn, while this thread holds the lock.
        self._lock = threading.RLock()
        self._buffer: deque[Event] = deque()
        self._window = Window(limit)
        self._wakes: list[_Wake] = []  # of the reader, and of anyone who closes the stream meanwhile
        self._accepted = self._ended = self._cancelled = self._left = False
        self._draining = self._hungry = self._hurried = self._gated = False
        self._result: Any = None
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None
        self.on_demand: Callable[[], object] | None = None
        self.on_cancel: Callable[[], object] | None = None
        self.home: asyncio.AbstractEventLoop | None = None  # where the reader must not block
        # The loop that has to deliver what is waited for.
        self.io_loop: Callable[[], asyncio.AbstractEventLoop | None] = _no_loop
        self.inside: Inside | None = None  # callers that the turn itself waits for
        self._withdrawn = False  # `refuse_inside` has refused it while it was queued: it must not begin
        self._begun = False
        self._pid = os.getpid()
        # How many of the first events are drafts, which an answer in the requested form will replace; None while the
        # model is still writing a draft.
        self.drafts: int | None = 0
        self.steps: tuple[StepResult, ...] = ()  # of a chat: those whose end was published

    # The writer's side.

    def accept(self, on_demand: Callable[[], object], on_cancel: Callable[[], object]) -> None:
        """The turn was admitted. `on_demand` is called, from the reader's thread, when a closed gate or
        window opens, and `on_cancel` when the reader cancels the turn.
        """
        with self._lock:
            self.on_demand, self.on_cancel, self._accepted = on_demand, on_cancel, True
            cancelled = self._cancelled
            wakes, self._wakes = self._wakes, []
        _call(wakes)
        if cancelled:
            on_cancel()

    def begin(self) -> bool:
        """Begin the turn. False if it was withdrawn while it was queued."""
        with self._lock:
            self._begun = not self._withdrawn
            return self._begun

    def publish(self, events: Sequence[Event]) -> None:
        """Give the reader more events; dropped if it waits only for the result, or the turn has ended."""
        with self._lock:
            if self._draining or self._ended:
                return
            self._buffer.extend(events)
            self._window.send(len(events))
            self._hungry = False
            wakes, self._wakes = self._wakes, []
        for wake in wakes:
            wake()

    def drafting(self, drafting: bool) -> None:
        """Whether what is published from now on is a draft."""
        self.drafts = None if drafting else self.drafts if self.drafts is not None else self._window.sent

    def end(self, result: Any = None, error: BaseException | None = None, last: Sequence[Event] = ()) -> bool:
        """End the turn with the `last` events and then `result`, or `error` to raise. False if it was over already."""
        with self._lock:
            if self._ended:
                return False
            self._ended = self._accepted = True
            self._result, self._error = result, error
            failure = result if error is None else error
            self._traceback = getattr(failure, "__traceback__", None)
            if not self._draining:
                self._buffer.extend(last)
            wakes, self._wakes = self._wakes, []
        _call(wakes)
        return True

    def may_act(self) -> bool:
        """Whether the reader has taken everything and waits for more. After False, `on_demand` tells when it does."""
        with self._lock:
            if self._cancelled and not self._ended:
                return False
            if self._draining or self._ended or self._hungry or self._hurried:
                return True
            self._gated = True
            return False

    def has_room(self) -> bool:
        """Whether the window has room for more events. After False, `on_demand` is called when the reader caught up."""
        return self._draining or self._ended or self._hurried or self._window.is_open()

    def cancel_again(self) -> None:
        """If the reader has cancelled, tell the writer once more: memory may have run out the first time."""
        if self._cancelled:
            self.cancel()

    def hurry(self) -> None:
        """Let the turn go on without its reader from now on: somebody waits for its end."""
        self._hurried = True

    @property
    def accepted(self) -> bool:
        """Whether it is decided that the turn is admitted or refused."""
        return self._accepted

    @property
    def ended(self) -> bool:
        """Whether the end has come (the reader may still have events to take)."""
        return self._ended

    @property
    def given_up(self) -> bool:
        """Whether it has ended, or is about to, because its reader has left it or was refused the wait for it."""
        return self._ended or self._left or self._withdrawn

    @property
    def is_over_here(self) -> bool:
        """Whether nothing more comes of the turn in this process: it has ended, or runs in the parent of a fork."""
        return self._ended or self._pid != os.getpid()

    # The reader's side.

    def wait_accepted(self) -> None:
        """Block until the turn was admitted. Raises what refused it."""
        while not self._accepted:
            self._block(lambda: self._accepted)
        if self._error is not None and not self._buffer:
            raise self.fresh(self._error)

    async def await_accepted(self) -> None:
        """As `wait_accepted`, without blocking the event loop."""
        while not self._accepted:
            await self._suspend(lambda: self._accepted)
        if self._error is not None and not self._buffer:
            raise self.fresh(self._error)

    def refuse_at_home(self) -> None:
        """Raises RuntimeError on the reader's event loop, `home`, where blocking would hold up the turn."""
        refuse_waiting_on(self.home)

    def refuse_inside(self) -> None:
        """Raises SessionBusy in a tool whose turn this queued one has to wait for, and withdraws this one."""
        if self.inside is None or self._ended:
            return
        try:
            self.inside.refuse()
        except SessionBusy:
            with self._lock:
                self._withdrawn = not self._begun
                if self._withdrawn:
                    raise

    def take(self) -> deque[Event]:
        """Block until there are events and take them all; empty when the turn is over. Raises what refused the turn."""
        self.refuse_at_home()
        while not self._has_news():
            self.refuse_inside()
            self._ask()
            self._block(self._has_news)
        return self._swap()

    async def atake(self) -> deque[Event]:
        """As `take`, without blocking the event loop."""
        while not self._has_news():
            self.refuse_inside()
            self._ask()
            await self._suspend(self._has_news)
        return self._swap()

    def drain(self) -> None:
        """The reader wants only the result from now on: events are dropped, and nothing waits for the reader."""
        with self._lock:
            self._draining = True
            self._buffer.clear()
            on_demand = self.on_demand
        if on_demand is not None:
            on_demand()

    def cancel(self) -> None:
        """The reader cancels the turn. Never blocks; harmless when it is over; callable from any thread."""
        with self._lock:
            if self._ended:
                return
            # Wanted, not yet told: a signal may strike first, and a second call must tell.
            self._cancelled = True
            on_cancel = self.on_cancel
        if on_cancel is not None:
            on_cancel()

    def leave(self) -> None:
        """The reader cancels the turn, and takes no more of it."""
        self._left = True
        self.cancel()

    def wait_end(self) -> None:
        """Block until the turn is over. Raises what refuses the wait; not what refused the turn: somebody may be
        raising that already, and a second `raise` would cut off its traceback.
        """
        while not self._ended:
            self.refuse_inside()
            self._block(lambda: self._ended)

    async def await_end(self) -> None:
        """As `wait_end`, without blocking the event loop."""
        while not self._ended:
            self.refuse_inside()
            await self._suspend(lambda: self._ended)

    def wait_result(self) -> Any:
        """Block until the turn is over and return its result. Raises what refused the turn, or the wait for it."""
        self.wait_end()
        return self._outcome()

    async def await_result(self) -> Any:
        """As `wait_result`, without blocking the event loop."""
        await self.await_end()
        return self._outcome()

    def fresh(self, error: BaseException) -> BaseException:
        """The error of this turn with its original traceback: each `raise` adds to an error's traceback,
        which keeps the callers' frames alive.
        """
        return error.with_traceback(self._traceback)

    # Private: in order of use.

    def _has_news(self) -> bool:
        return bool(self._buffer) or self._ended

    def _ask(self) -> None:
        """The reader has taken everything: call `on_demand` if the writer found the gate closed."""
        with self._lock:
            if self._buffer or self._ended:
                return
            self._hungry, gated, self._gated = True, self._gated, False
            on_demand = self.on_demand if gated else None
        if on_demand is not None:
            on_demand()

    def _swap(self) -> deque[Event]:
        with self._lock:
            taken, self._buffer = self._buffer, deque()
            wake_writer = self._window.take(len(taken))
            on_demand = self.on_demand
        if wake_writer and on_demand is not None:
            on_demand()
        if not taken and self._error is not None:
            raise self.fresh(self._error)
        return taken

    def _block(self, ready: Callable[[], bool]) -> None:
        if self._pid != os.getpid():
            text = (
                "this turn runs in the parent of this forked process, which does not have its threads; begin "
                "another turn here"
            )
            raise EngineError("invalid_engine", message=text)
        refuse_the_end()
        if current_loop() is not None:  # perhaps the host's I/O loop, which all its calls need
            refuse_waiting_on(self.io_loop())
        # A Future of ours, so that the runtime knows of this wait: a pool replaces the thread, a simulation goes on.
        gate = self._gate()
        with self._lock:
            if ready():
                return
            self._refuse_in_vain()
            self._wakes.append(gate.set)
        if not ready():
            # Again: a signal handler on this thread may have ended the turn before `gate.set` was registered.
            gate.get()  # Ctrl-C gets through: waiting without a timeout is interruptible

    async def _suspend(self, ready: Callable[[], bool]) -> None:
        loop = running_loop()
        gate: Any
        if self.home is loop or (self.home is None and not simulated()):
            gate = loop.create_future()
            wake: _Wake = partial(_wake, loop, gate, threading.get_ident())
        else:  # in a simulation our Future refuses the wait
            gate = self._gate()
            wake = gate.set
        with self._lock:
            if ready():
                return
            self._refuse_in_vain()
            self._wakes.append(wake)
        try:
            if not ready():  # again, as above
                await gate
        except BaseException:
            with self._lock, contextlib.suppress(ValueError):  # it has been called already
                self._wakes.remove(wake)
            raise

    def _gate(self) -> Future[None]:
        home = self.home
        return Watched(home) if home is not None and self.io_loop() is home else Future()

    def _refuse_in_vain(self) -> None:
        """Raises EngineError where nothing can come any more: the host's event loop is closed, and the turn with it."""
        if self.home is not None and self.home.is_closed() and self.io_loop() is self.home:
            raise EngineError("invalid_engine", message=CLOSED)

    def _outcome(self) -> Any:
        if self._error is not None:
            raise self.fresh(self._error)
        return self._result


def _wake(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None], thread: int) -> None:
    if threading.get_ident() == thread:  # the writer runs on the reader's own loop: no hop, no system call
        if not future.done():
            future.set_result(None)
    else:
        call_on(loop, partial(_resolve, future))  # on a closed loop no one is left to wake


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _no_loop() -> None:
    """The default of `io_loop`: no event loop is involved."""


def _call(wakes: list[_Wake]) -> None:
    for wake in wakes:
        wake()
