"""Starting: construct in the caller's thread, begin on the process's own dispatcher, one answer to the starter.

The rule of this file: `launch` never blocks. Callers that may block wait for the outcome; others get signals. Who
waits is told when there is no thread to begin on, and none comes; others, such as a restart, go on waiting for one.

Source: Erlang/OTP `proc_lib:start_link` (the handshake).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final

import pykka

from supervisors.errors import AlreadyStarted, ProcessDown, StartError, SupervisorError
from supervisors.reasons import NOPROC, Crash, Reason
from supervisors.runtime.future import Future
from supervisors.runtime.life import Life
from supervisors.runtime.names import check_name
from supervisors.runtime.ref import Ref
from supervisors.runtime.running import guard, running, simulated
from supervisors.runtime.signals import IGNORE, Ignored, Outcome, Started, Starter, StartFailed
from supervisors.runtime.ties import adopt

__all__ = ["launch", "start_and_wait"]

_LOOK: Final = 1.0  # seconds between two looks whether a start still lacks a thread
_LOOKS: Final = 5  # so many in a row, and the start fails


def launch(
    cls: type[pykka.Actor],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    starter: Starter,
    parent: Ref[Any] | None = None,
    name: Hashable = None,
    incarnation: int = 0,
    on_exit: Callable[[Reason], object] | None = None,
    admit: Callable[[Ref[Any]], None] | None = None,
) -> Ref[Any]:
    """Construct and begin; `starter(outcome)` is called once, perhaps before this returns, on any thread.

    `admit(ref)` is called between the two; if it raises, the process does not begin.
    Raises: what the constructor or `admit` raises; `SupervisorError` if the system has stopped; `ProcessDown`
    if `parent` is dead; `BadSpec` for an unknown dispatcher or an impossible name.
    """
    if name is not None:
        check_name(name)
    actor = cls(*args, **kwargs)
    if not hasattr(actor, "_actor_ref"):
        raise SupervisorError(f"{cls.__name__}.__init__ did not call super().__init__(); call it first")
    ref = actor.actor_ref
    if not isinstance(ref, Ref):
        raise SupervisorError(f"{cls.__name__} is not a Process, and was not made one with supervised()")
    system = ref.system
    if system.stopped:
        raise SupervisorError(f"{system} has stopped; start {cls.__name__} in another one")
    ref.starter = starter
    ref.name = name
    if isinstance(actor, Life):
        ref.actor_inbox.dispatcher = system.dispatcher(actor.dispatcher)
    if incarnation:
        actor.incarnation = incarnation  # type: ignore[attr-defined]
    if on_exit is not None:
        ref.add_exit_callback(on_exit)
    if parent is not None and not adopt(parent, ref):
        raise ProcessDown(NOPROC, parent)
    if admit is not None:
        admit(ref)
    actor._start_actor_loop()
    return ref


def start_and_wait(
    cls: type[pykka.Actor],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    parent: Ref[Any] | None = None,
    name: Hashable = None,
    on_exit: Callable[[Reason], object] | None = None,
) -> Any:
    """Start and wait for the outcome: the ref, `(ref, info)` if `init` said so, or `IGNORE`.

    Raises: `AlreadyStarted` if the name is taken, else `StartError`; what the constructor raises; RuntimeError if it
    can have no thread, nor a process that it starts, for some seconds.
    """
    guard()
    outcome: Future[Outcome] = Future()
    ref = launch(cls, args, kwargs, starter=outcome.set, parent=parent, name=name, on_exit=on_exit)
    outcome.target = ref
    outcome.host = ref.dispatcher
    result = _outcome(ref, outcome)
    match result:
        case Started(ref, None):
            return ref
        case Started(ref, info):
            return ref, info
        case Ignored():
            return IGNORE
        case StartFailed(AlreadyStarted() as taken):
            raise taken
        case StartFailed(reason):
            raise StartError(reason)


def _outcome(ref: Ref[Any], outcome: Future[Outcome]) -> Outcome:
    looks = 0
    while True:
        try:
            result: Outcome = outcome.get(timeout=None if simulated() else _LOOK)
        except pykka.Timeout:
            begun = [each for each in ref.system.processes() if _is_within(each, ref)]
            lacking = [each for each in begun if each.actor_inbox.fresh and each.dispatcher.short]
            looks = looks + 1 if lacking else 0
            if looks < _LOOKS:
                continue
            for each in begun:
                each.kill()  # they could not be stopped: a process that has not begun hears nothing
            raise RuntimeError(f"can't start new thread: {lacking[0]} has none to begin on") from None
        return result


def _is_within(ref: Ref[Any] | None, top: Ref[Any]) -> bool:
    while ref is not None and ref is not top:
        ref = ref.parent
    return ref is top


def calling_parent() -> Ref[Any] | None:
    """The parent for `start_link`: the process that runs here, or the supervisor that it starts for."""
    if running.starting_for is not None:
        return running.starting_for
    process = running.process
    return None if process is None else process.ref


def crash_of(exc: BaseException) -> Reason:
    """The reason of a start that failed before there was a process."""
    return exc if isinstance(exc, AlreadyStarted) else Crash.of(exc)
