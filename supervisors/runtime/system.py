"""One world of processes: dispatchers, clock, timers, names, reports. Two systems know nothing of each other.

The rule of this file: a system holds things, it decides nothing. Everything is made when it is first used;
making a system starts no thread, and stopping it ends every thread it has. A forked child has none of these
threads, and so none of the processes: there the parent's systems are *foreign* and left alone, for locks that
other threads held stay held, and programs belong to the parent. `tell` and `ask` to one of their processes
raise `ForeignProcess`.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import random
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any, Final, Self
from weakref import WeakSet

import pykka

from supervisors.errors import BadSpec, SupervisorError
from supervisors.reasons import SHUTDOWN, Reason, Shutdown
from supervisors.runtime import mailbox
from supervisors.runtime.birth import PAUSE, DaemonThread
from supervisors.runtime.dispatch import Dispatcher
from supervisors.runtime.future import Future
from supervisors.runtime.groups import Groups
from supervisors.runtime.log import log
from supervisors.runtime.loop import LoopDispatcher
from supervisors.runtime.names import Names
from supervisors.runtime.pool import PoolDispatcher
from supervisors.runtime.ref import Ref
from supervisors.runtime.reports import DeadLetters, Report, Reports
from supervisors.runtime.running import forget_everybody, running
from supervisors.runtime.threads import PinnedDispatcher, ThreadDispatcher
from supervisors.runtime.timers import Clock, Deadline, RealClock, Timers
from supervisors.runtime.zombies import Zombies
from supervisors.spec import WORKER_SHUTDOWN, ShutdownRule, class_default, is_count

__all__ = ["System"]


_MAKERS: Final[Mapping[str, type[Dispatcher]]] = {
    "default": PoolDispatcher,
    "blocking": ThreadDispatcher,
    "pinned": PinnedDispatcher,
    "loop": LoopDispatcher,
}
_WAIT_LOG = 10.0  # seconds between two lines about whom a stop waits for
_KILL_GRACE = 1.0  # seconds that threads of killed processes get to end

_entered: ContextVar[System | None] = ContextVar("supervisors_system", default=None)
_making = threading.RLock()  # reentrant: a finalizer or a signal handler may run while it is held
_default: list[System] = []
_all: WeakSet[System] = WeakSet()
_forks = 0  # how many forks lie between the first OS process and this one


class System:
    """What processes live in: dispatchers, a clock and timers, names and groups, reports and dead letters.

    A `dispatcher` given here runs every process, whatever its class says; without one there are `"default"`
    (a pool), `"blocking"` (cached threads), `"pinned"` (a thread each), `"loop"` (an event loop) and those
    that are registered. As a context manager it is the current system inside the block, and leaving the block
    stops it. It also stops when more than `max_zombies` threads are lost to killed processes. Raises:
    `BadSpec("invalid_system")`.
    """

    def __init__(
        self, *, dispatcher: Dispatcher | None = None, clock: Clock | None = None, max_zombies: int = 8
    ) -> None:
        _check(dispatcher, clock, max_zombies)
        # Reentrant: a finalizer may run, and stop something, while it is held.
        self.lock: threading.RLock = threading.RLock()
        self.clock: Clock = clock if clock is not None else RealClock()
        self.timers: Timers = Timers(self.clock)
        self.names: Names = Names()
        self.groups: Groups = Groups()
        self.reports: Reports = Reports()
        self.dead_letters: DeadLetters = DeadLetters(self.clock, self.reports)
        self.zombies: Zombies = Zombies(max_zombies, self.reports, self._escalate)
        self.stopped: bool = False
        self._forks = _forks
        self._forced = dispatcher
        if dispatcher is not None:
            dispatcher.join(self.timers)
        self._dispatchers: dict[str, Dispatcher] = {}
        self._scopes: dict[str, Groups] = {}
        self._processes: dict[int, Ref[Any]] = {}
        self._allowed: dict[int, ShutdownRule] = {}
        self._allowed_meanwhile: ShutdownRule | None = None
        self._there_before: Collection[Ref[Any]] = ()
        self._count = itertools.count(1)
        self._tokens: list[Token[System | None]] = []
        _all.add(self)

    @staticmethod
    def current() -> System:
        """The system of the innermost `with` block, else that of the running process, else the process-wide default."""
        system = _entered.get()
        if system is not None and not system.foreign:
            return system
        process = running.process
        return process.ref.system if process is not None else _default_system()

    def __enter__(self) -> Self:
        self._check_home()
        self._tokens.append(_entered.set(self))
        return self

    def __exit__(self, *_exc: object) -> None:
        self._leave(self._tokens.pop())
        self.stop()

    @contextmanager
    def activated(self) -> Iterator[Self]:
        """Make this the current system inside the block; leaving the block stops nothing."""
        self._check_home()
        token = _entered.set(self)
        try:
            yield self
        finally:
            self._leave(token)

    @property
    def foreign(self) -> bool:
        """Whether this OS process is a forked child, and the system its parent's: nothing of it runs here."""
        return self._forks != _forks

    def __repr__(self) -> str:
        return f"<System with {len(self._processes)} processes>"

    def register_dispatcher(self, name: str, dispatcher: Dispatcher) -> None:
        """Run processes whose class says `dispatcher = name` on this one, which the system stops at its end.

        Raises: `BadSpec` if the name is in use, or if this is no dispatcher.
        """
        given: object = dispatcher  # whatever a caller without a type checker sends
        if not (isinstance(given, Dispatcher) and isinstance(name, str)):
            kinds = f"{type(name).__name__} and {type(given).__name__}"
            raise BadSpec("invalid_dispatcher", kinds, f"expected a name and a Dispatcher, not {kinds}")
        with self.lock:
            if self._dispatchers.get(name, dispatcher) is not dispatcher:
                raise BadSpec(
                    "dispatcher_in_use",
                    name,
                    f"a dispatcher named {name!r} already exists; choose another name",
                )
            dispatcher.join(self.timers)  # first: if that raises, it is not registered
            self._dispatchers[name] = dispatcher

    def dispatcher(self, name: str) -> Dispatcher:
        """The dispatcher of that name, made now if it is one of the standard ones.

        Raises: `BadSpec` for an unknown name.
        """
        if self._forced is not None:
            return self._forced
        found = self._dispatchers.get(name)
        return found if found is not None else self._make(name)

    def apart(self, work: Callable[[], object]) -> None:
        """Run `work()` on a thread of its own, outside any process; does not wait."""
        try:
            DaemonThread(work, "supervisors-stop").start()
        except (RuntimeError, MemoryError):  # the OS has no thread to give now
            self.timers.after(PAUSE, lambda: self.apart(work))

    def random(self) -> float:
        """A number from 0 up to, not including, 1; for jitter."""
        return random.random()  # noqa: S311 - jitter wants to differ between machines, not to be unpredictable

    def processes(self) -> list[Ref[Any]]:
        """All living processes, oldest first."""
        return list(self._processes.values())

    def lag(self) -> float:
        """How many seconds the slowest of its event loops took to react to the previous call, or takes until now.

        For monitoring: call it regularly. 0.0 the first time, and without event loops. Never waits. Thread: any.
        """
        if self.foreign:
            return 0.0
        own = set(self._dispatchers.values())  # one may have several names
        return max((each.lag() for each in (own if self._forced is None else {self._forced})), default=0.0)

    def whereis(self, name: Any) -> Ref[Any] | None:
        """The process of that name, or None."""
        return self.names.whereis(name)

    def scope(self, name: str) -> Groups:
        """The process groups of a scope, separate from `groups` and from every other scope."""
        with self.lock:
            return self._scopes.setdefault(name, Groups())

    def allowed(self, ref: Ref[Any]) -> ShutdownRule:
        """How long a process without a parent gets to stop: seconds, or `"brutal_kill"`."""
        given = self._allowed.get(ref.number)
        if given is None and ref not in self._there_before:
            given = self._allowed_meanwhile
        rule: ShutdownRule = class_default(ref.actor_class, "shutdown", WORKER_SHUTDOWN)
        return rule if given is None else given

    def next_number(self) -> int:
        """The number of the next process: counted, so that runs can be repeated."""
        return next(self._count)

    def add(self, ref: Ref[Any]) -> None:
        """List a process that begins."""
        self._processes[ref.number] = ref

    def remove(self, ref: Ref[Any]) -> None:
        """Forget a process that is dead."""
        self._processes.pop(ref.number, None)
        self._allowed.pop(ref.number, None)

    def allow(self, ref: Ref[Any], shutdown: ShutdownRule) -> None:
        """Give `ref` as long as this when the system stops, whatever its class says. Units: seconds."""
        self._allowed[ref.number] = shutdown
        if ref.number not in self._processes:  # it ended meanwhile
            self._allowed.pop(ref.number, None)

    @contextmanager
    def allowing(self, shutdown: ShutdownRule | None, but: Collection[Ref[Any]]) -> Iterator[None]:
        """Inside the block, `allow` all processes `but` these this long: for a root that has no ref yet.

        None: as long as their classes say.
        """
        self._there_before, self._allowed_meanwhile = but, shutdown
        try:
            yield
        finally:
            self._there_before, self._allowed_meanwhile = (), None

    def stop(self, reason: Reason = SHUTDOWN, timeout: float | None = None) -> None:
        """Stop the processes without a living parent, newest first, with their trees; then end all threads.

        Each gets as long as the `shutdown` of its class says, all together `timeout` seconds (None: no
        limit); one that takes longer is killed. Called by a process, it returns at once, and the stop goes on
        in the background. A foreign system is left alone.
        """
        if self.foreign:
            return
        if running.process is not None:
            self.apart(lambda: self.stop(reason, timeout))
            return
        deadline = Deadline(self.clock, timeout)
        there = self.processes()
        while tops := [ref for ref in reversed(there) if self._is_top(ref)]:
            for ref in tops:
                self._stop_one(ref, reason, deadline)
            done = set(tops)
            there = [ref for ref in there if ref not in done]
        # Before the last look: a process that begins at this moment is either seen, or sees it.
        self.stopped = True
        for ref in reversed(self.processes()):
            ref.kill()
        self.clock.stop()
        with self.lock:
            dispatchers = dict.fromkeys(self._dispatchers.values())  # one may have several names
        for dispatcher in dispatchers if self._forced is None else [self._forced]:
            dispatcher.stop(_KILL_GRACE)

    def kill(self) -> None:
        """Kill all processes now, parents before children, so that none is restarted. None cleans up."""
        if self.foreign:
            return
        while living := [ref for ref in self.processes() if not ref.killed]:
            for ref in living:
                ref.kill()

    async def astop(self, reason: Reason = SHUTDOWN, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """`stop`, from an event loop, which goes on meanwhile (it has to, if processes run on it)."""
        if not self.foreign:
            await asyncio.to_thread(self.stop, reason, timeout)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *_exc: object) -> None:
        self._leave(self._tokens.pop())
        await self.astop()

    def _stay_behind(self) -> None:
        self.lock = threading.RLock()  # a thread that held it does not exist here
        for ref in self.processes():
            ref.stay_behind()

    def _leave(self, token: Token[System | None]) -> None:
        try:
            _entered.reset(token)
        except ValueError:
            # Left in another context than it was entered in, as some test runners do with fixtures.
            if _entered.get() is self:
                _entered.set(None if token.old_value is Token.MISSING else token.old_value)

    def _check_home(self) -> None:
        if self.foreign:
            raise SupervisorError(
                f"{self} belongs to the process that this one was forked from; create a new one"
            )

    def _is_top(self, ref: Ref[Any]) -> bool:
        # Whether it lives, and has no living parent in this system that will stop it.
        if ref.number not in self._processes:
            return False
        parent = ref.parent
        return parent is None or parent.system is not self or parent.number not in self._processes

    def _stop_one(self, ref: Ref[Any], reason: Reason, deadline: Deadline) -> None:
        dead: Future[None] = Future(ref, ref.dispatcher)
        ref.add_exit_callback(lambda _: dead.set(None))
        allowed = self.allowed(ref)
        if allowed == "brutal_kill":
            ref.kill()
            return
        if not (ref.linked and ref.parent is not None and ref.parent.system is self):
            ref.terminate(reason)  # else its parent's death has told it
        left = Deadline(self.clock, None if allowed == math.inf else allowed)
        while not _settled(dead, _least(left.remaining(), deadline.remaining(), _WAIT_LOG)):
            if 0.0 in (left.remaining(), deadline.remaining()):
                self.reports.emit(Report("shutdown_timeout", ref, reason, "killed: it did not stop in time"))
                ref.kill()
                return
            log.warning("stopping waits for %s", ref)

    def _make(self, name: str) -> Dispatcher:
        maker = _MAKERS.get(name)
        if maker is None:
            known = sorted({*_MAKERS, *self._dispatchers})
            raise BadSpec(
                "unknown_dispatcher",
                name,
                f"no dispatcher is named {name!r}; use one of {known}, or add one with register_dispatcher",
            )
        made = maker()
        made.join(self.timers)
        with self.lock:
            return self._dispatchers.setdefault(name, made)

    def _escalate(self) -> None:
        # Each restart of a child that hangs loses a thread. The way out: stop, and be restarted from outside.
        self.reports.emit(
            Report("too_many_zombies", None, Shutdown("zombies"), f"more than {self.zombies.limit}")
        )
        self.apart(lambda: self.stop(Shutdown("zombies"), 25.0))


def _check(dispatcher: object, clock: object, max_zombies: object) -> None:
    if not (dispatcher is None or isinstance(dispatcher, Dispatcher)):
        kind = type(dispatcher).__name__
        raise BadSpec(
            "invalid_system", kind, f"dispatcher must be a Dispatcher such as PoolDispatcher(), not a {kind}"
        )
    if not (clock is None or all(hasattr(clock, each) for each in ("monotonic", "drive", "stop"))):
        kind = type(clock).__name__
        raise BadSpec(
            "invalid_system", kind, f"clock must have the methods of Clock, and a {kind} lacks some of them"
        )
    if not is_count(max_zombies):
        raise BadSpec(
            "invalid_system", max_zombies, f"max_zombies must be a number >= 0, not {max_zombies!r}"
        )


def _default_system() -> System:
    with _making:
        if not _default or _default[-1].stopped:
            made = System()
            if not _default or _default[-1].stopped:  # still
                _default.append(made)
                del _default[:-1]
        return _default[-1]


def _in_a_fork() -> None:
    # Its first process makes a new default system. If a handler forked, the child is outside any process.
    global _forks  # noqa: PLW0603 - one for each OS process
    _forks += 1
    _default.clear()
    forget_everybody()
    _making.release()
    # Locks that each start takes, and that a thread which does not exist here may have held.
    mailbox._making = threading.RLock()  # noqa: SLF001 - same package
    pykka.ActorRegistry._actor_refs_lock = threading.RLock()  # noqa: SLF001 - there is no other way
    for system in list(_all):
        system._stay_behind()  # noqa: SLF001 - same package
    _all.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_making.acquire, after_in_parent=_making.release, after_in_child=_in_a_fork)


def _settled(future: Future[Any], timeout: float) -> bool:
    try:
        future.get(timeout=timeout)
    except pykka.Timeout:
        return False
    return True


def _least(*seconds: float | None) -> float:
    return min(each for each in seconds if each is not None)
