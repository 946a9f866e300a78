"""What a session actor reaches of its host: supervisors, store, transport and loops.

Rule of this file: everything here returns at once and may be called on any thread. Processes are looked up by
name at each use, so that a restarted one is found in place of its predecessor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Any

from allm_actors.data import StoreError
from allm_actors.engine.isolated import ChildDied
from allm_actors.engine.secret import AdapterFailed
from allm_actors.engine.wire import Transport
from allm_actors.execution.tool_errors import describe
from supervisors import NOPROC, Crash, Future, Process, ProcessDown, ProcessRef, Reason, System

from .log import log
from .protocol import ANSWERED, CallJob, ModelJob, ToolJob
from .workers.adapter import adapter_actor_for
from .workers.cancellation import LoopWatch
from .workers.tools import tool_actor_for

__all__ = ["ADAPTERS", "HOST", "SESSIONS", "STORE", "TOOLS", "WORK", "Ports", "actor_for"]

HOST, STORE, WORK = "host", "store", "work"
ADAPTERS, TOOLS, SESSIONS = "adapters", "tools", "sessions"


class TooManyHang(Exception):
    """More killed calls than `max_zombies` still hang on their threads."""


class Ports:
    """What a host gives to its sessions; shared by all of them."""

    def __init__(
        self,
        system: System,
        transport: Transport,
        io_loop: Callable[[], asyncio.AbstractEventLoop | None],
        max_zombies: int,
    ) -> None:
        self.system: System = system
        self.transport: Transport = transport
        self.io_loop: Callable[[], asyncio.AbstractEventLoop | None] = io_loop
        self.watch: LoopWatch = LoopWatch(system)
        self._max_zombies = max_zombies

    def whereis(self, name: Hashable) -> ProcessRef[Any] | None:
        """The process of that name in this host, or None."""
        return self.system.whereis(name)

    def claim(self, id: str, ref: ProcessRef[Any]) -> bool:
        """Register `ref` as the actor of the session of that name; False if another living one holds the name."""
        names, name = self.system.names, (SESSIONS, id)
        owner = names.whereis(name)
        if owner is not None and not owner.is_alive():
            names.unregister(name, owner)  # it is about to do so itself
        if not names.register(name, ref):
            return False
        ref.name = name  # from now on the death of `ref` frees it
        return True

    def when_whole(self, done: Callable[[BaseException | None], object]) -> None:
        """Call `done(None)` when the restarts that are under way are over; `done(why)` if the whole tree is gone."""
        host: Any = self.whereis(HOST)
        if host is None:
            done(ProcessDown(NOPROC))
            return

        def answered(_counts: Any, error: BaseException | None) -> None:
            # A supervisor answers when the restart it is doing is over: ask the upper one first, then the lower one.
            work: Any = self.whereis(WORK)
            if error is not None or work is None:
                done(error or ProcessDown(NOPROC))
            else:
                _when_done(work.count_children_soon(), lambda _counts, _error: done(None))

        _when_done(host.count_children_soon(), answered)

    def ask_store(self, message: Any, done: Callable[[Any, BaseException | None], object]) -> None:
        """Ask the store; `done(answer, error)` is called once, possibly at once, on whatever thread has the answer."""
        store = self.whereis(STORE)
        if store is None:
            done(None, StoreError("unavailable", message="the session store is being restarted; try again"))
            return
        _when_done(store.ask(message, block=False), done)

    def tell_store(self, message: Any) -> None:
        """Tell the store, if there is one."""
        store = self.whereis(STORE)
        if store is not None:
            store.send(message)

    def hire(
        self,
        job: ModelJob | ToolJob,
        lost: Callable[[str, bool], object],
        again: Callable[[], object],
    ) -> ProcessRef[Any] | None:
        """Start a worker for `job` under its supervisor, and return its ref.

        Returns None while the supervisor is being restarted: then `again()` is called when the restart is over, on
        any thread. `lost(why, begun)` is called once if the worker ends without an answer or cannot be started.
        """
        try:
            return self._spawn(job, lost)
        except Exception as error:  # noqa: BLE001 - handed on as a reason
            # Only a job that never reached a supervisor is offered to the next one: a tool must not run twice.
            if not (isinstance(error, ProcessDown) and error.reason is NOPROC):
                lost(str(error), False)
                return None

        def whole(gone: BaseException | None) -> None:
            if gone is None and self.whereis(_crowd_of(job)) is None:
                gone = ProcessDown(NOPROC)  # it is not restarted: somebody has stopped it
            if gone is None:
                again()
            else:
                lost(str(gone), False)

        self.when_whole(whole)
        return None

    def _spawn(self, job: ModelJob | ToolJob, lost: Callable[[str, bool], object]) -> ProcessRef[Any]:
        def ended(reason: Reason) -> None:
            if reason is not ANSWERED:
                lost(_why(reason), True)

        name, worker = _crowd_of(job), actor_for(job)
        supervisor: Any = self.whereis(name)
        if supervisor is None:
            raise ProcessDown(NOPROC)
        hanging = self._hanging(name) if worker.dispatcher == "blocking" else 0
        if hanging > self._max_zombies:
            log.error("a call was refused because too many earlier calls hang", role=name, hanging=hanging)
            raise TooManyHang(
                f"{hanging} killed calls still block their threads; no new call can begin until some of them end"
            )
        ref: ProcessRef[Any] = supervisor.spawn_child(worker, job, on_exit=ended)
        return ref

    def _hanging(self, name: str) -> int:
        """How many killed workers of this supervisor still hang; those of the other one do not count."""
        zombies = self.system.zombies
        if len(zombies) <= self._max_zombies:
            return 0
        parents = (zombie.ref.parent for zombie in zombies.list())
        return sum(parent is not None and parent.name == name for parent in parents)

    def dismiss(self, worker: ProcessRef[Any], reason: Any) -> None:
        """Stop a worker; one whose handler has not ended after the worker's `shutdown` seconds is killed."""
        worker.terminate(reason)
        if reason is ANSWERED or not worker.is_alive():
            return
        timers, patience = self.system.timers, worker.actor_class.shutdown
        due = timers.make(timers.clock.monotonic() + patience, absolute=True)
        timer = timers.set(due, worker.kill)
        worker.add_exit_callback(lambda _reason: timer.cancel())


def actor_for(job: ModelJob | ToolJob) -> type[Process]:
    """The class of the actor that does this job."""
    return adapter_actor_for(job) if isinstance(job, ModelJob) else tool_actor_for(job)


def _crowd_of(job: ModelJob | ToolJob) -> str:
    return ADAPTERS if isinstance(job, ModelJob | CallJob) else TOOLS


def _why(reason: Reason) -> str:
    if not isinstance(reason, Crash):
        return str(reason)
    # These wrap somebody else's failure, so their own text says everything.
    return str(reason.exc) if isinstance(reason.exc, ChildDied | AdapterFailed) else describe(reason.exc)


def _when_done(future: Future[Any], done: Callable[[Any, BaseException | None], object]) -> None:
    future.add_done_callback(lambda over: done(over.get() if over.error is None else None, over.error))
