"""The steps of the running operation, performed by a process that never blocks a thread.

The rule of this file: a step that takes time is answered by a later message: a start by `handle_system`, a
death by `handle_down`, a timeout by a timer. So a supervisor of ten thousand children occupies no thread, and
can be told to stop between any two attempts to restart one. In OTP the process itself blocks, with the same
visible behaviour.

Source: Erlang/OTP `supervisor`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, assert_never, cast, final

import pykka

from supervisors.core.dynamic import DynamicChildren
from supervisors.core.operations import WAIT, Operations
from supervisors.core.static import StaticChildren
from supervisors.core.steps import (
    KILL,
    TIMED_OUT,
    Exited,
    Ignored,
    Later,
    Outcome,
    Report,
    Retry,
    Signal,
    Start,
    Started,
    StartFailed,
    Step,
)
from supervisors.errors import AlreadyStarted
from supervisors.process import (
    ChildIgnored,
    ChildStarted,
    ChildStartFailed,
    Down,
    MonitorRef,
    Process,
    exit,
    supervised,
)
from supervisors.reasons import Crash, Reason, shown
from supervisors.runtime import reports
from supervisors.runtime.adopted import names_the_process
from supervisors.runtime.log import log
from supervisors.runtime.ref import Ref
from supervisors.runtime.signals import ALIVE
from supervisors.runtime.signals import Signal as ControlSignal
from supervisors.runtime.timers import TimerRef
from supervisors.spec import ChildSpec, class_default
from supervisors.supervisor.starter import Brought, Nothing, Refused, Starter, plain_reason

__all__ = ["START_TIMEOUT", "Again", "Children", "Performer"]


Children: TypeAlias = StaticChildren | DynamicChildren

START_TIMEOUT: Final = "start_timeout"
"""The reason of a start that took longer than the `start_timeout` of the spec."""

_WAIT_LOG: Final = 10.0  # seconds between two lines about whom a stop waits for


@final
@dataclass(frozen=True, slots=True)
class Again:
    """A message to ourselves: one more attempt."""

    retry: Retry


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Elapsed(ControlSignal):
    step: Step


@dataclass(slots=True, eq=False)
class _Dying:
    """A child that was told to end: its deadline, in seconds of the clock, and what it ended with."""

    deadline: float
    reason: Reason = ALIVE


class Performer(Process):
    """Runs the operations of its children in turn."""

    def __init__(self) -> None:
        super().__init__()
        self._operations = Operations(self._perform)
        self._dying: dict[Ref[Any], _Dying] = {}
        self._heirs: dict[MonitorRef, Start] = {}
        self._timer: TimerRef | None = None

    _children: Children

    def handle_system(self, signal: Any) -> None:
        """Handle the outcome of a start, or a timeout."""
        match signal:
            case ChildStarted(step, starter, Refused(reason)):
                self._sweep(starter)
                self._failed(step, None, reason)
            case ChildStarted(step, ref, info):
                self._answer(step, self._started(ref, info))
            case ChildIgnored(step, _):
                self._answer(step, Ignored())
            case ChildStartFailed(step, ref, reason):
                self._failed(step, ref, plain_reason(reason))
            case _Elapsed(step) if step is self._operations.waiting:
                self._elapsed(step)

    def handle_down(self, down: Down) -> None:
        """A child that was told to end is dead, or an orphan whose name a start waits for.

        The real reason is on the ref: a monitor of the dead only says `NOPROC`.
        """
        heir, ref = self._heirs.pop(down.mref, None), down.ref
        if heir is not None and heir is self._operations.waiting:
            self._start(heir)
        if ref is None or ref not in self._dying:
            return
        waiting = self._operations.waiting
        if isinstance(waiting, Exited) and waiting.ref is ref:
            self._answer(waiting, self._bury(ref))
        else:
            self._dying[ref].reason = ref.exit_reason

    def _perform(self, step: Step) -> object:
        match step:
            case Start():
                return self._start(step)
            case Exited(ref):
                return self._wait_for_death(step, _as_ref(ref))
            case Signal(ref, reason, within):
                self._signal(_as_ref(ref), reason, within)
            case Later(retry, backoff, attempt):
                self._again(retry, 0.0 if backoff is None else backoff.delay(attempt, self.system.random()))
            case Report():
                self._report(step)
            case unknown:
                assert_never(unknown)
        return None

    def _report(self, step: Report) -> None:
        heard = self._actor_ref.system.reports
        if heard.wanted(step.kind, step.reason):
            ref = step.ref if isinstance(step.ref, Ref) else None
            heard.emit(reports.Report(step.kind, ref, step.reason, f"child {shown(step.id)} of {self}"))

    def _start(self, step: Start) -> object:
        spec = step.spec
        cls = spec.start
        if isinstance(cls, type) and issubclass(cls, pykka.Actor):
            try:
                cls, name, kwargs = _prepared(spec, cls)
            except Exception as exc:  # noqa: BLE001 - told to whoever wanted the child
                self.ref.signal(ChildStartFailed(step, None, Crash.of(exc)))
                return WAIT
            ref = self.spawn(cls, spec.args, kwargs, name=name, tag=step, incarnation=step.incarnation)
        else:
            ref = self.spawn(Starter, (self.ref, spec.start, spec.args, spec.kwargs), tag=step)
        if spec.start_timeout < math.inf:
            self._arm(step, spec.start_timeout)
        self.waits_for(ref)
        return WAIT

    def _started(self, ref: Ref[Any], info: object) -> Outcome:
        match info:
            case None:
                return Started(ref, None, self._now())
            case Brought(brought, more):
                return Started(brought, more, self._now())
            case Nothing():
                return Ignored()
            case _:
                return Started(ref, info, self._now())

    def _failed(self, step: Start, ref: Ref[Any] | None, reason: Reason) -> None:
        match reason:
            case AlreadyStarted(ref=owner) if step is self._operations.waiting and _is_orphan(owner):
                self._inherit(step, owner)
            case _:
                self._answer(step, StartFailed(reason, ref))

    def _inherit(self, step: Start, owner: Ref[Any]) -> None:
        # A supervisor was killed, and its child still holds the name: it was told to end, which may take a while, and
        # we are the only ones left to make sure that it does.
        self._heirs[self.monitor(owner)] = step
        self.waits_for(owner)
        patience = class_default(owner.actor_class, "shutdown", math.inf)
        if patience == "brutal_kill":
            owner.kill()
        elif patience < math.inf:
            self.system.timers.after(patience, owner.kill)

    def _signal(self, ref: Ref[Any], reason: Reason, within: float) -> None:
        deadline = self._now() + within
        known = self._dying.get(ref)
        if known is None:
            self._dying[ref] = _Dying(deadline)
            self.monitor(ref)
        else:
            known.deadline = deadline
        exit(ref, reason)

    def _wait_for_death(self, step: Exited, ref: Ref[Any]) -> object:
        dying = self._dying[ref]
        if dying.reason is not ALIVE or ref.actor_inbox.owner is None:  # its DOWN may still be on the way
            return self._bury(ref)
        self._arm(step, dying.deadline - self._now())
        self.waits_for(ref)
        return WAIT

    def _bury(self, ref: Ref[Any]) -> Reason:
        del self._dying[ref]
        return ref.exit_reason

    def _again(self, retry: Retry, delay: float) -> None:
        # Through the mailbox even when there is no delay: what is queued already comes first.
        if delay > 0:
            self.send_after(delay, self.ref, Again(retry))
        else:
            self.ref.tell(Again(retry))

    # --- patience -----------------------------------------------------------------------------------------------------

    def _arm(self, step: Step, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        ref = self.ref
        patience = max(0.0, min(seconds, _WAIT_LOG) if isinstance(step, Exited) else seconds)
        self._timer = self.system.timers.after(patience, lambda: ref.signal(_Elapsed(step)))

    def _elapsed(self, step: Step) -> None:
        match step:
            case Start():
                self._give_up_starting(step)
            case Exited(ref):
                self._still_alive(step, _as_ref(ref))
            case _:
                pass

    def _give_up_starting(self, step: Start) -> None:
        wait = self.ref.waiting
        if wait is not None and wait.target is not None:
            exit(wait.target, KILL)
            self._sweep(wait.target)
        self._answer(step, StartFailed(START_TIMEOUT))

    def _sweep(self, starter: Ref[Any]) -> None:
        # What a start function started but did not return is our child already, and nobody looks after it.
        ties = self.ref.ties
        known = set(self._children.refs())
        for ref in list(ties.children) if ties is not None else ():
            if ref.number > starter.number and ref not in known:
                exit(ref, KILL)

    def _still_alive(self, step: Exited, ref: Ref[Any]) -> None:
        if not ref.is_alive() and ref.exit_reason is not None:
            self._answer(step, self._bury(ref))
        elif self._dying[ref].deadline > self._now():
            log.warning("%s waits for %s to end", self, ref)
            self._arm(step, self._dying[ref].deadline - self._now())
        else:
            self._answer(step, TIMED_OUT)

    def _answer(self, step: Step, answer: object) -> None:
        if self._operations.waiting is not step:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.waits_for(None)
        self._operations.answer(step, answer)

    def _now(self) -> float:
        return self._actor_ref.system.clock.monotonic()


def _prepared(
    spec: ChildSpec, cls: type[pykka.Actor]
) -> tuple[type[pykka.Actor], Hashable, Mapping[str, object]]:
    # The class that is started, the name of its process, and the keywords of its constructor.
    if spec.crash_on_ask_error is not None:
        cls = supervised(cls, crash_on_ask_error=spec.crash_on_ask_error)
    if "name" not in spec.kwargs or not names_the_process(cls):
        return cls, None, spec.kwargs
    kwargs = dict(spec.kwargs)
    return cls, kwargs.pop("name"), kwargs


def _is_orphan(ref: object) -> bool:
    return isinstance(ref, Ref) and ref.parent is not None and ref.parent.reason is not ALIVE


def _as_ref(ref: object) -> Ref[Any]:
    return cast("Ref[Any]", ref)  # to the core it is only a key
