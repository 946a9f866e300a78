"""Application: runs a supervision tree as a program, stops it in order, and returns an exit code.

The rule of this file: the main thread only waits, to be free for signals; all else is on other threads.

    SIGTERM, SIGINT, stop()   before_stop -> drain -> the tree, in reverse order -> after_stop
    a second one              whatever is left is killed
    the deadline passes       what is stuck is logged, with stacks, and the OS process exits at once

    exit code 0    stopped as asked, or the root had nothing left to do
              1    the root did not start, gave up, or had to be killed
              70   the deadline passed, or too many threads were lost to killed processes

    if __name__ == "__main__":
        sys.exit(Application(child(Shop, "shop.db"), phases={"drain": [finish_orders]}).run())

Source: Erlang/OTP `application` (`prep_stop`, `stop`), `init:stop`; Akka `CoordinatedShutdown` (phases).
"""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, NoReturn, final

import pykka

from supervisors.errors import BadSpec, StartError, SupervisorError
from supervisors.process import IGNORE, supervised
from supervisors.reasons import KILLED, NORMAL, SHUTDOWN, Crash, Reason, Shutdown
from supervisors.runtime.birth import DaemonThread
from supervisors.runtime.log import log
from supervisors.runtime.ref import Ref
from supervisors.runtime.reports import Report
from supervisors.runtime.stacks import stack_of
from supervisors.runtime.system import System
from supervisors.runtime.timers import Deadline, RealClock
from supervisors.spec import (
    WORKER_SHUTDOWN,
    ChildLike,
    ChildSpec,
    ShutdownRule,
    check_child,
    child_spec,
    class_default,
    is_number,
)

__all__ = ["EXIT_FAILED", "EXIT_OK", "EXIT_STUCK", "Application", "Phase"]


EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_STUCK: Final = 70

_BEFORE: Final = ("before_stop", "drain")
_AFTER: Final = ("after_stop",)
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_LISTEN: Final = 0.2  # seconds the main thread sleeps at most, so that signals are handled soon
_FLUSH: Final = 1.0  # seconds that log handlers get before the process ends without them


@final
@dataclass(frozen=True, slots=True)
class Phase:
    """The tasks of one stage of a stop: run in parallel, and waited for `timeout` seconds at most.

    A task that fails is only logged. None: only the application's deadline is a limit. Raises: `BadSpec`.
    """

    tasks: Iterable[Callable[[], object]] = ()
    timeout: float | None = 5.0

    def __post_init__(self) -> None:
        tasks: object = self.tasks  # whatever a caller without a type checker sends
        if not isinstance(tasks, Iterable):
            kind = type(tasks).__name__
            raise BadSpec("invalid_phase", kind, f"the tasks of a phase must be a list, not {kind}")
        listed = tuple(tasks)  # read once: it may be a generator
        object.__setattr__(self, "tasks", listed)
        if not all(callable(task) for task in listed):
            kinds = [type(task).__name__ for task in listed]
            raise BadSpec("invalid_phase", kinds, f"the tasks of a phase must be callable, not {kinds}")
        if not (self.timeout is None or (is_number(self.timeout) and self.timeout >= 0)):
            words = f"the timeout of a phase must be seconds >= 0, or None for no limit, not {self.timeout!r}"
            raise BadSpec("invalid_phase", self.timeout, words)


@final
@dataclass(frozen=True, slots=True)
class _StopAsked:
    """By a signal, or by `stop`."""

    by: str


@final
@dataclass(frozen=True, slots=True)
class _RootEnded:
    reason: Reason


@final
@dataclass(frozen=True, slots=True)
class _TooManyZombies:
    pass


@final
@dataclass(frozen=True, slots=True)
class _Stopped:
    failed: bool = False


_Event = _StopAsked | _RootEnded | _TooManyZombies | _Stopped


class Application:
    """A program with one root process, which runs once; afterwards `reason` is why it stopped.

    `phases` has tasks for `"before_stop"` (take no new work), `"drain"` (finish what was begun) and `"after_stop"`
    (close stores), each a list of callables or a `Phase`. `system` (default: a new one) is stopped with the
    application; the root gets as long as the `shutdown` of its spec says.

    Units: `deadline` is how many seconds a stop may take in all; keep it below the grace period of whoever
    sends the signal (Kubernetes: 30). Raises: `BadSpec`.
    """

    def __init__(
        self,
        root: ChildLike,
        *,
        phases: Mapping[str, Sequence[Callable[[], object]] | Phase] | None = None,
        deadline: float = 25.0,
        system: System | None = None,
    ) -> None:
        given = child_spec(root)
        self._spec = check_child(given)
        self._shutdown: ShutdownRule | None = given.shutdown  # None: what the class of the process will say
        self._phases = {name: _phase(name, phase) for name, phase in (phases or {}).items()}
        if not (is_number(deadline) and deadline >= 0):
            raise BadSpec("invalid_deadline", deadline, f"deadline must be seconds >= 0, not {deadline!r}")
        self._deadline = deadline
        self.system: System = System() if system is None else system
        self.reason: Reason = None
        # The `put` of a SimpleQueue is reentrant: signal handlers call it.
        self._events: SimpleQueue[_Event] = SimpleQueue()
        self._phase_ends: SimpleQueue[None] = SimpleQueue()
        self._killing = threading.Event()
        self._started = threading.Event()
        self._there_before: frozenset[Ref[Any]] = frozenset()
        self._ran = False

    def run(self) -> int:
        """Start the root, run until the end, stop everything; returns the exit code.

        If the deadline passes, it does not return: the OS process exits with 70. SIGTERM and SIGINT are
        handled only if this is the main thread. Raises: `SupervisorError` the second time.
        """
        if self._ran:
            raise SupervisorError("an application can run only once; create a new one")
        self._ran = True
        self._there_before = frozenset(self.system.processes())
        handlers = self._handle_signals()
        unsubscribe = self.system.reports.subscribe(self._on_report)
        try:
            self._beside(self._start_root)
            code = self._judge(self._next_event())
            self._beside(self._stop_everything)
            return self._until_stopped(code)
        finally:
            unsubscribe()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """Ask for an orderly stop; the second call kills what is left. Thread: any, also in a process."""
        self._events.put(_StopAsked("stop()"))

    # --- beginning ----------------------------------------------------------------------------------------------------

    def _handle_signals(self) -> dict[int, Any]:
        if threading.current_thread() is not threading.main_thread():
            return {}
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return {number: handler for number, handler in before.items() if handler is not None}

    def _on_signal(self, number: int, _frame: object) -> None:
        self._events.put(_StopAsked(signal.Signals(number).name))

    def _on_report(self, report: Report) -> None:
        if report.kind == "too_many_zombies":
            self._events.put(_TooManyZombies())
        elif report.kind == "shutdown_timeout" and self._is_starting(report.ref):
            self._events.put(_RootEnded(KILLED))  # its starter hears of it too, but perhaps too late

    def _is_starting(self, ref: Ref[Any] | None) -> bool:
        return not self._started.is_set() and ref not in self._there_before

    def _start_root(self) -> None:
        # A stop may come before there is a ref.
        with self.system.allowing(self._shutdown, but=self._there_before):
            try:
                result = _start(self._spec)
            except BaseException as exc:  # noqa: BLE001 - also `sys.exit`: the end of the application is an orderly one
                log.exception("the root of the application did not start")
                self._events.put(_RootEnded(Crash.of(exc)))
            else:
                self._watch(result)
            finally:
                self._started.set()

    def _watch(self, result: Any) -> None:
        ref = result[0] if isinstance(result, tuple) else result
        if isinstance(ref, Ref):
            if self._shutdown is None:
                self._shutdown = class_default(ref.actor_class, "shutdown", WORKER_SHUTDOWN)
            self.system.allow(ref, self._shutdown)
            ref.add_exit_callback(lambda reason: self._events.put(_RootEnded(reason)))
        else:
            self._events.put(_RootEnded(NORMAL if ref is IGNORE else ("bad_return_value", result)))

    # --- the end ------------------------------------------------------------------------------------------------------

    def _judge(self, event: _Event) -> int:
        match event:
            case _StopAsked(by):
                self.reason = SHUTDOWN
                log.info("stopping: %s", by)
                return EXIT_OK
            case _TooManyZombies():
                self.reason = Shutdown("zombies")
                return EXIT_STUCK
            case _RootEnded(reason):
                self.reason = reason
                log.log(logging.INFO if reason is NORMAL else logging.ERROR, "the root has ended: %r", reason)
                return EXIT_OK if reason is NORMAL else EXIT_FAILED
            case _Stopped():
                return EXIT_OK

    def _next_event(self, end: float = math.inf) -> _Event:
        """The next event. Raises: `Empty` when it is `end`, a time of `time.monotonic()`.

        The kernel may deliver a signal to another thread; Python then handles it when the main thread runs
        again, which must therefore not sleep for long.
        """
        while True:
            left = max(0.0, end - time.monotonic())
            try:
                return self._events.get(timeout=min(left, _LISTEN))
            except Empty:
                if left <= _LISTEN:
                    raise

    def _until_stopped(self, code: int) -> int:
        end = time.monotonic() + self._deadline
        while True:
            try:
                event = self._next_event(end)
            except Empty:
                self._give_up()
            match event:
                case _Stopped(failed):
                    return max(code, EXIT_FAILED) if failed else code
                case _TooManyZombies():
                    code = EXIT_STUCK
                case _RootEnded(reason) if _was_killed(reason) and self._shutdown != "brutal_kill":
                    code = max(code, EXIT_FAILED)
                case _StopAsked(by) if not self._killing.is_set():
                    log.warning("killing the processes that are left: %s was asked for again", by)
                    code = max(code, EXIT_FAILED)
                    self._killing.set()
                    self._phase_ends.put(None)
                    self._beside(self.system.kill)
                case _:
                    pass

    def _stop_everything(self) -> None:
        # Each on its own: if one fails, those after it still run.
        stages: list[Callable[[], object]] = [
            *(partial(self._run_phase, name) for name in _BEFORE),
            self._stop_system,
            *(partial(self._run_phase, name) for name in _AFTER),
        ]
        passed = [self._passed(stage) for stage in stages]
        self._events.put(_Stopped(failed=not all(passed)))

    def _passed(self, stage: Callable[[], object]) -> bool:
        try:
            stage()
        except BaseException:  # noqa: BLE001 - the main thread must hear that it is over
            log.exception("a step of stopping the application failed")
            return False
        return True

    def _stop_system(self) -> None:
        try:
            self.system.stop(SHUTDOWN)
        finally:
            self._killing.clear()  # `after_stop` runs even after a kill

    def _run_phase(self, name: str) -> None:
        phase = self._phases.get(name, Phase())
        tasks = tuple(phase.tasks)
        ends = self._phase_ends = SimpleQueue()
        if self._killing.is_set():
            return
        for task in tasks:
            self._beside(partial(self._run_task, name, task, ends))
        deadline = Deadline(RealClock(), phase.timeout)
        for _ in tasks:
            try:
                ends.get(timeout=deadline.remaining())
            except Empty:
                log.warning(
                    "the phase %s took longer than %s seconds; continuing without it", name, phase.timeout
                )
                return
            if self._killing.is_set():
                return

    def _run_task(self, name: str, task: Callable[[], object], ends: SimpleQueue[None]) -> None:
        try:
            task()
        except BaseException:  # noqa: BLE001 - the other tasks and phases must still have their turn
            log.exception("a task of the phase %s failed", name)
        finally:
            ends.put(None)

    def _give_up(self) -> NoReturn:
        for line in _stuck(self.system):
            log.critical("the stop took longer than %s seconds: %s", self._deadline, line)
        with suppress(RuntimeError):  # there is no thread
            flush = DaemonThread(logging.shutdown, "supervisors-flush")
            flush.start()
            flush.join(_FLUSH)
        os._exit(EXIT_STUCK)

    def _beside(self, work: Callable[[], object]) -> None:
        def run() -> None:
            with self.system.activated():
                work()

        DaemonThread(run, "supervisors-app").start()


def _phase(name: str, phase: Sequence[Callable[[], object]] | Phase) -> Phase:
    if name not in (*_BEFORE, *_AFTER):
        raise BadSpec("unknown_phase", name, f"phase {name!r} must be one of {(*_BEFORE, *_AFTER)}")
    given: object = phase  # whatever a caller without a type checker sends
    if not isinstance(given, Phase | Sequence):
        kind = type(given).__name__
        raise BadSpec(
            "invalid_phase", kind, f"phase {name!r} must be a list of functions, or a Phase, not a {kind}"
        )
    return phase if isinstance(phase, Phase) else Phase(phase)


def _was_killed(reason: Reason) -> bool:
    # Perhaps while it was starting.
    match reason:
        case Crash(exc=StartError(reason=inner)):
            return inner is KILLED
        case _:
            return reason is KILLED


def _start(spec: ChildSpec) -> Any:
    start = spec.start
    if isinstance(start, type) and issubclass(start, pykka.Actor):
        start = supervised(start, crash_on_ask_error=spec.crash_on_ask_error).start
    return start(*spec.args, **spec.kwargs)


def _stuck(system: System) -> list[str]:
    living = [f"{ref} has not ended" for ref in system.processes()]
    stacks = [
        f"thread {thread.name}:\n{stack}"
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and (stack := stack_of(thread.ident))
    ]
    return living + stacks
