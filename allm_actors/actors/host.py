"""Host: starts and stops a supervision tree (see `tree`) that runs sessions, and answers its callers.

Rule of this file: readable top to bottom. A tree is stopped once, by whoever has taken it out of the host.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Self, cast
from weakref import WeakValueDictionary

from allm_actors.data import EngineError, Session, StoreError
from allm_actors.data.predicates import is_count, one_of
from allm_actors.engine.engine import Engine
from allm_actors.engine.http.transport import HttpxTransport
from allm_actors.engine.kinds import check_source, is_seconds
from allm_actors.engine.secret import Secret
from allm_actors.engine.threads import begun_on_thread, on_thread, running_loop
from supervisors import SHUTDOWN, Future, ProcessRef, System

from .calls.call import CallSpec
from .loops import current_loop, finished, no_loop, refuse_green_threads, refuse_the_end, refuse_waiting_on
from .ports import Ports
from .sessions.forgetting import forget
from .sessions.handle import SessionHandle, check_id
from .sessions.ledger import store_error
from .sessions.reaching import ours_in
from .sessions.setup import Cell, SessionSetup
from .starting import start_call, start_turn
from .stats import HostStats, stats_of
from .store import Store, StoredSession, store_for
from .store.actor import ListIds, ListStored
from .streams.watched import CLOSED, Answer, watched
from .tree import DISPATCHERS, DispatcherName, loop_of, make_system, start_tree
from .turns.spec import TurnSpec, WhenBusy
from .turns.turn import new_id

if TYPE_CHECKING:
    from .awaited import AsyncHost

__all__ = ["Host"]

_MOMENT = 0.1  # seconds that connections have to close, even when nothing is left of `shutdown_timeout`
_AT_REST = "this host is not running: call start(), or use it in a `with` block"


class _Running(NamedTuple):
    """A tree that runs, in `system`, and on `loop`, if that was given when it started."""

    root: ProcessRef[Any]
    system: System
    ports: Ports
    loop: asyncio.AbstractEventLoop | None


class Host:
    """A supervision tree that runs many sessions.

    `store` is a path for an SQLite file, None for memory, or a `Store`. `dispatcher` says what runs sessions, adapters
    and supervisors: `loop` (the default: an event loop's thread), `pool`, or `threads`. A session that has
    been idle for `idle_timeout` seconds stops, and is started again from the store at its next use; None
    keeps it in memory. While more than `max_zombies` killed calls still hang on their threads, a new call
    that needs a thread fails at once; calls that need none go on. `shutdown_timeout` limits `stop()`, in
    seconds. Use it with `with` (an event loop of its own, on a daemon thread) or `async with` (the running
    event loop).

    Raises: StoreError at the start, when the store cannot be used.
    Thread: any thread may use it.
    """

    def __init__(
        self,
        store: str | Path | Store | None = None,
        *,
        dispatcher: DispatcherName = "loop",
        idle_timeout: float | None = None,
        max_zombies: int = 64,
        shutdown_timeout: float = 10.0,
    ) -> None:
        if not one_of(dispatcher, DISPATCHERS):
            known = ", ".join(map(repr, DISPATCHERS))
            raise ValueError(f"dispatcher must be one of {known}; got: {dispatcher!r}")
        if idle_timeout is not None and not is_seconds(idle_timeout):
            raise ValueError(
                f"idle_timeout must be a positive number of seconds, or None; got: {idle_timeout!r}"
            )
        if not (is_seconds(shutdown_timeout) or shutdown_timeout == 0):
            raise ValueError(f"shutdown_timeout must be seconds >= 0; got: {shutdown_timeout!r}")
        if not is_count(max_zombies):
            raise ValueError(f"max_zombies must be a whole number >= 0; got: {max_zombies!r}")
        self._store = store_for(store)
        self._idle_timeout = idle_timeout
        self._dispatcher = dispatcher
        self._max_zombies, self._shutdown_timeout = max_zombies, shutdown_timeout
        self._lock = threading.RLock()  # a signal handler may call stop() while its thread is in start()
        self._starting = self._unwanted = False
        self._running: _Running | None = None
        self._given_loop: asyncio.AbstractEventLoop | None = None
        self._cells: WeakValueDictionary[str, Cell] = WeakValueDictionary()  # alive while anyone holds one
        self._looking = threading.RLock()
        self._pid = os.getpid()
        self.transport: HttpxTransport = HttpxTransport()

    # Life.

    def start(self) -> Self:
        """Start the tree; harmless when it runs. A tree that has died, alone or with its event loop, is
        replaced, but session handles made before stay with the dead one.

        Raises EngineError in a forked child, for a tree that the parent has started.
        """
        if self._running is not None:
            self._refuse_elsewhere()
        with self._lock:
            running = self._running
            # Its own loop: `_given_loop` is already the new one when the host is entered on another loop.
            if running is not None and running.loop is not None and running.loop.is_closed():
                self._bury(self._taken())
            elif running is not None and self._pid == os.getpid() and not running.root.is_alive():
                self._refuse_at_home()
                self._stop(self._taken())
            if self._running is None:
                self._starting, self._unwanted = True, False
                try:
                    self._start()
                finally:
                    self._starting = False
                if self._unwanted:
                    self._unwanted = False
                    self.stop()
        return self

    def stop(self) -> None:
        """Interrupt what runs, stop every process in reverse order, close connections and the store.

        Raises RuntimeError on the event loop that the host lives on: leave the `async with` block instead, or stop the
        host on another thread.
        """
        self._refuse_at_home()
        with self._lock:
            if self._starting:
                # Called by a signal handler in the middle of start(), which stops again when it is done.
                self._unwanted = True
                return
            running = self._taken()
        if self._is_stranded():
            self._bury(running)
        elif self._pid == os.getpid():  # a forked child has none of the threads to stop
            self._stop(running)

    def __reduce__(self) -> NoReturn:
        """A host lives in its process. Raises TypeError."""
        raise TypeError("a host cannot be sent to another process; open a host there, on the same store file")

    def __del__(self) -> None:
        running = getattr(self, "_running", None)
        if running is not None and running.root.is_alive() and self._pid == os.getpid():
            text = (
                f"{self!r} was garbage-collected while it ran, with its threads and files open; call stop(), "
                "or use `with`"
            )
            warnings.warn(text, ResourceWarning, source=self, stacklevel=1)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    async def __aenter__(self) -> AsyncHost:
        self._given_loop = running_loop()
        try:
            # A thread cannot be cancelled: on cancellation wait until start() is done, then undo it below.
            await finished(begun_on_thread(self.start))
        except BaseException:  # the next one to enter may have another loop, or none
            await self.__aexit__()
            raise
        return cast("AsyncHost", self)

    async def __aexit__(self, *exc: object) -> None:
        with self._lock:
            running = self._taken()
        if running is None or self._pid != os.getpid():
            self._given_loop = None
            return
        if self._is_stranded():
            self._bury(running)
            return
        system, left = running.system, _countdown(self._shutdown_timeout)
        try:
            await on_thread(partial(self._stop_tree, running.root, left()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.transport.aclose(), max(_MOMENT, left()))
        finally:  # also when the waiting task is cancelled once more
            self._given_loop = None
            try:
                await finished(begun_on_thread(partial(system.stop, SHUTDOWN, left())))
            except RuntimeError:  # no thread can be started, so no one can wait for an orderly stop
                system.kill()
                raise

    @property
    def running(self) -> bool:
        """Whether the tree runs. False in a forked child, and when its event loop is closed."""
        if self._running is None or self._pid != os.getpid():
            return False
        return self._running.root.is_alive() and not self._is_stranded()

    @property
    def attached(self) -> bool:
        """Whether it lives on an event loop that belongs to the caller, where nothing may block."""
        return self._given_loop is not None

    @property
    def given_loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of the caller's that it lives on, if it does."""
        return self._given_loop

    # Use.

    def session(
        self,
        id: str,
        engine: Engine,
        *,
        when_busy: WhenBusy = "queue",
        queue_limit: int = 16,
        system: str | None = None,
        api_key: Any = None,
    ) -> SessionHandle:
        """The session of that name: new, or with its stored state.

        A new one begins with `system` as its first message; a session that has messages ignores it.
        A second turn while one runs is queued (at most `queue_limit`), rejected, or interrupts the first. `api_key` is
        a key or a function that returns one, called for each model call; it is never stored.

        Raises TypeError and ValueError for arguments of the wrong kind, EngineError when the host does not run,
        StoreError when what is stored cannot be loaded, SessionError when the host stops meanwhile.

        On the event loop of a host entered with `async with` it returns at once; `await host.session(…)` gives the
        handle when the session is loaded, and raises the errors above if it cannot be.
        """
        api_key = Secret(api_key) if isinstance(api_key, str) else api_key  # as `sealed`
        check_id(id)
        _check_session(engine, when_busy, queue_limit, system, api_key)
        with self._looking:  # two cells for one session would show different values
            cell = self._cells.setdefault(id, Cell(Session(id=id)))
        setup = SessionSetup(
            ports=self._ports(),
            cell=cell,
            id=id,
            when_busy=when_busy,
            queue_limit=queue_limit,
            idle_timeout=self._idle_timeout,
            system=system,
        )
        handle = SessionHandle(self, setup, engine, api_key)
        may_wait = self.may_wait()
        if may_wait:
            self.check_waiting()
        ensured = handle.ensure()
        if may_wait:
            watched(ensured, self._given_loop).get()
        return handle

    def session_ids(self) -> list[str]:
        """The names of all stored sessions, sorted (here and below an awaitable on the event loop of `async with`)."""
        return self._ask_store(ListIds())  # type: ignore[no-any-return]

    def stored_sessions(self) -> list[StoredSession]:
        """What the store knows of each session, the one that was saved longest ago first.

        Raises StoreError, also for a store of your own that does not tell, and EngineError when the host does
        not run.
        """
        return self._ask_store(ListStored())  # type: ignore[no-any-return]

    def delete_session(self, id: str) -> None:
        """Delete the session of that name: its running turn is interrupted, and its stored state removed.

        Harmless when there is no such session. Whoever uses the name meanwhile, or later, begins a new conversation.
        Raises StoreError, EngineError when the host does not run, and SessionError when it stops meanwhile.
        """
        check_id(id)

        def ask() -> Future[Any]:
            return forget(self._ports(), id, self._cells.get(id) or Cell(Session(id=id)))

        return self.asked(ask)  # type: ignore[no-any-return]

    def tree(self) -> str:
        """The living supervision tree, drawn."""
        from supervisors import tree

        return tree(self._alive().root)

    def stats(self) -> HostStats:
        """How busy it is: see `HostStats`. Asks no process and never waits; a host that does not run has zeros."""
        running = self._running
        return HostStats() if running is None or self._pid != os.getpid() else stats_of(running.system)

    @property
    def system(self) -> System:
        """The system the tree runs in, for introspection and reports."""
        if self._running is None:
            raise EngineError("invalid_engine", message=_AT_REST)
        return self._running.system

    def run(self, spec: TurnSpec) -> None:
        """Run a stateless turn in a session of its own. Returns at once; a failure ends the turn's channel.

        Raises EngineError when the host does not run.
        """
        start_turn(self._ports(), spec)

    def call(self, spec: CallSpec) -> None:
        """Run a call that is not chat in a process of its own. Returns at once; a failure ends its channel.

        Raises EngineError when the host does not run.
        """
        start_call(self._ports(), spec)

    def tool_loop(self) -> asyncio.AbstractEventLoop | None:
        """Where asynchronous tools run: the caller's event loop if it has one, else one for tools alone.

        Raises EngineError when no file descriptors are left to create one.
        """
        return self._given_loop if self._given_loop is not None else loop_of(self.system, "tools")

    def new_id(self) -> str:
        """The id of the next turn and of its requests."""
        return new_id()

    def check_turn(self, spec: TurnSpec) -> None:
        """Raise to the caller for a turn that cannot run on this host. A real host can run every turn."""

    def check_waiting(self) -> None:
        """Raises RuntimeError on the host's own event loop: blocking it would block the answer that is waited for.

        Raises EngineError as `check_home`.
        """
        self.check_home()
        running = self._running
        if running is not None and current_loop() is not None:
            refuse_waiting_on(running.ports.io_loop())

    def check_asking(self) -> None:
        """Raises what `check_waiting` does; on an event loop of the caller's, where nothing blocks, what `check_home`
        does.
        """
        if self.attached:
            self.check_home()
        else:
            self.check_waiting()

    def asked(self, ask: Callable[[], Future[Any]]) -> Any:
        """The answer that the future of `ask()` gets; an awaitable of it where this thread may not wait.

        Raises as `check_asking`, before `ask` is called.
        """
        self.check_asking()
        if self.may_wait():
            return watched(ask(), self._given_loop).get()
        answer: Answer[Any] = Answer(self._given_loop)
        ask().add_done_callback(answer.follow)
        return answer

    def may_wait(self) -> bool:
        """Whether this thread may wait for an answer: not in a host that was entered with `async with`, if it runs an
        event loop, or if that of the host stands still.
        """
        loop = self._given_loop
        return loop is None or (loop.is_running() and current_loop() is None)

    # Private: in order of use.

    def _ask_store(self, message: Any) -> Any:
        def ask() -> Future[Any]:
            answer: Future[Any] = Future()
            self._ports().ask_store(message, partial(_answer, answer))
            return answer

        return self.asked(ask)

    def _is_stranded(self) -> bool:
        return self._given_loop is not None and self._given_loop.is_closed()

    def _start(self) -> None:
        refuse_green_threads()
        refuse_the_end()
        self._pid = os.getpid()
        self._store.open()  # a bad store is raised here, to the caller; the store's actor opens it for use
        self._store.close()
        system = self._make_system()
        try:
            # No reference to this host: running processes must not keep alive a host that its users have dropped.
            ports = Ports(system, self.transport, partial(self._io_loop, system), self._max_zombies)
            self._running = _Running(start_tree(system, self._store), system, ports, self._given_loop)
        except BaseException as error:
            self._running = None
            if not isinstance(error, Exception):
                # Ctrl-C: a process that it struck while starting cannot stop by itself.
                system.kill()
            system.stop(SHUTDOWN, self._shutdown_timeout)
            ours = ours_in(error)
            if ours is not None:
                raise ours from None
            if isinstance(error, OSError):
                raise no_loop(error) from error
            raise

    def _make_system(self) -> System:
        return make_system(self._dispatcher, self._given_loop)

    def _taken(self) -> _Running | None:
        # Taken out of the host, so that it is stopped only once, by the caller.
        running, self._running = self._running, None
        return running

    def _stop(self, running: _Running | None) -> None:
        if running is None:
            return
        system, left = running.system, _countdown(self._shutdown_timeout)
        try:
            self._stop_tree(running.root, left())
            self._close_transport(system, max(_MOMENT, left()))
        finally:  # also when a tool of this host calls stop(), and is killed with it
            system.stop(SHUTDOWN, left())

    def _bury(self, running: _Running | None) -> None:
        """Clean up after an event loop that was closed: its processes died with it, but threads and store did not."""
        if self._is_stranded():
            self._given_loop = None
        if running is not None and self._pid == os.getpid():
            running.system.kill()
            running.system.stop()
            with contextlib.suppress(StoreError):
                self._store.close()

    def _refuse_at_home(self) -> None:
        loop = current_loop()
        if loop is None or self._pid != os.getpid():
            return
        if loop is self._given_loop:
            raise RuntimeError(
                "this would block the event loop that has to do it; leave the `async with` block and enter a "
                "new one instead"
            )
        if self._running is not None and loop is self._running.ports.io_loop():
            raise RuntimeError(
                "this would block the event loop that has to do it; stop the host on another thread, for "
                "example with `asyncio.to_thread(host.stop)`"
            )

    def _close_transport(self, system: System, seconds: float) -> None:
        closing = self.transport.aclose()
        try:
            closed = asyncio.run_coroutine_threadsafe(closing, loop_of(system))
        except RuntimeError:  # the loop is closed, and its connections with it
            closing.close()
            return
        with contextlib.suppress(Exception):  # what does not close in time is closed with its loop
            closed.result(seconds)

    def _stop_tree(self, root: Any, seconds: float) -> None:
        with contextlib.suppress(Exception):  # what does not stop in time, the system kills
            root.stop(reason=SHUTDOWN, timeout=seconds)

    def _ports(self) -> Ports:
        return self._alive().ports

    @staticmethod
    def _io_loop(system: System) -> asyncio.AbstractEventLoop | None:
        return loop_of(system)

    def _alive(self) -> _Running:
        running = self._running
        if running is None:
            raise EngineError("invalid_engine", message=_AT_REST)
        self.check_home()
        if not running.root.is_alive():
            way = (
                "leave the `async with` block and enter a new one"
                if self.attached
                else "call start() to begin a new one"
            )
            text = (
                f"this host's tree has died ({running.root.exit_reason}); {way}, which goes on from the store"
            )
            raise EngineError("invalid_engine", message=text)
        return running

    def check_home(self) -> None:
        """Raises EngineError where no answer can come: in a forked child, or when the caller's event loop is closed."""
        self._refuse_elsewhere()
        if self._is_stranded():
            raise EngineError("invalid_engine", message=CLOSED)

    def _refuse_elsewhere(self) -> None:
        if self._pid != os.getpid():
            text = (
                "this host was started by another process, and a forked process does not have its threads; "
                "start a new host here"
            )
            raise EngineError("invalid_engine", message=text)


def _countdown(seconds: float) -> Callable[[], float]:
    """A function that says how many of these seconds are left."""
    end = time.monotonic() + seconds
    return lambda: max(0.0, end - time.monotonic())


def _check_session(engine: Any, when_busy: Any, queue_limit: Any, system: Any, api_key: Any) -> None:
    if when_busy not in ("queue", "reject", "interrupt"):
        raise ValueError(f"when_busy must be 'queue', 'reject' or 'interrupt'; got: {when_busy!r}")
    if not is_count(queue_limit):
        raise ValueError(f"queue_limit must be a whole number >= 0; got: {queue_limit!r}")
    if not (system is None or isinstance(system, str)):
        raise TypeError(f"system must be a text, got {type(system).__name__}")
    if not isinstance(engine, Engine):
        raise TypeError(f"expected an Engine, got {type(engine).__name__}; see allm.Engine(adapter=…)")
    check_source(api_key)


def _answer(future: Future[Any], answer: Any, error: BaseException | None) -> None:
    if error is None:
        future.set(answer)
    else:
        future.fail(store_error(error))
