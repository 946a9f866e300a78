"""DynamicSupervisor: children that come and go, started one by one and known by their refs.

The rule of this file: as in `static.py`, only the interface; what the calls mean is in `core/dynamic.py`.

    agents = DynamicSupervisor.start_link(max_children=1000)
    alice = agents.start_child(child(Agent, "alice").replace(restart="transient"))
    agents.terminate_child(alice)
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from typing import Any, ClassVar, cast, overload

from supervisors.core.dynamic import DynamicChildren
from supervisors.core.steps import Report
from supervisors.errors import BadSpec, ForeignProcess, ProcessDown
from supervisors.process import Future, Process
from supervisors.reasons import NOPROC, SHUTDOWN, Reason, shown
from supervisors.runtime.launch import launch
from supervisors.runtime.names import Name
from supervisors.runtime.ref import Ref
from supervisors.runtime.running import guard
from supervisors.runtime.signals import Ignore, Outcome, Started, StartFailed
from supervisors.runtime.system import System
from supervisors.runtime.ties import adopt, watch
from supervisors.spec import (
    EMPTY,
    ChildLike,
    ChildSpec,
    DynamicFlags,
    check_child,
    check_dynamic_flags,
    check_option_names,
    child_spec,
)
from supervisors.supervisor.supervision import Request, Supervision, SupervisionRef

__all__ = ["DynamicSupervisor", "DynamicSupervisorRef"]


class DynamicSupervisorRef(SupervisionRef):
    """The handle of a dynamic supervisor; see `SupervisionRef` for what all its calls have in common."""

    __slots__ = ()

    def start_child(self, spec: ChildLike) -> Ref[Any] | tuple[Ref[Any], Any] | None:
        """Start one more child, whatever its id; returns its ref, `(ref, info)`, or None if it said `IGNORE`.

        Raises: `BadSpec`, without asking the supervisor; `MaxChildren`, `AlreadyStarted`, `StartError`.
        """
        checked = check_child(child_spec(spec), "never")
        return cast("Ref[Any] | tuple[Ref[Any], Any] | None", self._call("start_child", checked))

    def start_child_soon(self, spec: ChildLike) -> Future[Any]:
        """`start_child` for callers that may not wait: the future has what it would return or raise.

        Raises: `BadSpec`, at once.
        """
        checked = check_child(child_spec(spec), "never")
        return self.ask(Request("start_child", (checked,)), block=False)

    def spawn_child(
        self, cls: type[Process], *args: Any, on_exit: Callable[[Reason], object] | None = None
    ) -> Ref[Any]:
        """Start a temporary child without waiting: constructed in this thread, begun on its own dispatcher.

        It is a child like any other from its first moment on, but the caller does not wait for `init` (a
        start that fails, or says `IGNORE`, is an end like any other), and the supervisor handles no message
        for it. `on_exit(reason)` is called on the thread it dies on, and must not block.

        Thread: any. Raises: `ProcessDown` if the supervisor is dead or stopping; `MaxChildren`; `BadSpec`,
        also if `cls` is no `Process` class; what the constructor raises.
        """
        guard()
        owner = cast("DynamicSupervisor | None", self.actor_inbox.owner)
        if owner is None:
            raise ProcessDown(NOPROC, self)
        return owner.spawn_child(cls, args, on_exit)

    def terminate_child(self, ref: Ref[Any]) -> None:
        """Stop a child and forget it. While a child is restarting, its last ref is still the one to use.

        Raises: `NotFound`.
        """
        self._call("terminate_child", ref)

    def update(self, flags: DynamicFlags) -> None:
        """Change the flags. Children beyond a lower limit stay, and no new ones are let in.

        Raises: `BadSpec`, without asking the supervisor.
        """
        self._call("update", check_dynamic_flags(flags))


class DynamicSupervisor(Supervision):
    """A process that starts children on demand, each on its own, and stops them all at once at its end."""

    ref_type: ClassVar[type[Ref[Any]]] = DynamicSupervisorRef

    @overload
    @classmethod
    def start_link(
        cls,
        *,
        max_children: int | None = ...,
        max_restarts: int = ...,
        max_seconds: float = ...,
        extra_args: tuple[object, ...] = ...,
        name: Name | None = ...,
        on_exit: Callable[[Reason], object] | None = ...,
    ) -> DynamicSupervisorRef: ...

    @overload
    @classmethod
    def start_link(cls, *args: Any, **kwargs: Any) -> DynamicSupervisorRef: ...

    @classmethod
    def start_link(cls, *args: Any, **kwargs: Any) -> DynamicSupervisorRef:
        """Start a dynamic supervisor, without children, as a child of the calling process.

        `start_link(*, max_children=None, max_restarts=3, max_seconds=5.0, extra_args=(), name=None)`; `extra_args` go
        before the arguments of every child. A class with an `init` of its own takes the arguments of that.
        Raises: `BadSpec`; `AlreadyStarted` if the name is taken.
        """
        return cast("DynamicSupervisorRef", super().start_link(*args, **kwargs))

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> DynamicSupervisorRef:
        """`start_link`, but without a parent."""
        return cast("DynamicSupervisorRef", super().start(*args, **kwargs))

    def init(self, *args: Any, **kwargs: Any) -> DynamicFlags | Ignore:
        """Return the flags, or `IGNORE`. Override it in a class that has flags of its own."""
        if args:
            message = "a DynamicSupervisor begins without children; start them later, with start_child"
            raise BadSpec("badarg", len(args), message)
        check_option_names("DynamicSupervisor", kwargs, DynamicFlags)
        return DynamicFlags(**kwargs)

    def spawn_child(
        self, cls: type[Process], args: tuple[Any, ...], on_exit: Callable[[Reason], object] | None
    ) -> Ref[Any]:
        """See `DynamicSupervisorRef.spawn_child`. Thread: any."""
        me, spec = self._actor_ref, _passing(_a_process_class(cls))
        children = getattr(self, "_children", None)
        if me.system.foreign:
            raise ForeignProcess(me)
        if children is None or self._ending:
            raise ProcessDown(NOPROC, me)

        admitted: list[Ref[Any]] = []

        def admit(ref: Ref[Any]) -> None:
            with me.system.lock:  # `_end` takes it too: either it sees the child, or we see that it ends
                if self._ending:
                    raise ProcessDown(NOPROC, me)
                # First: it may refuse the child, which then has no parent.
                children.take_in(spec, ref)
                admitted.append(ref)
                if not adopt(me, ref):
                    children.forgets(ref, SHUTDOWN)
                    raise ProcessDown(NOPROC, me)
                if on_exit is not None:
                    watch(ref, on_exit)
            self._report(Report("child_started", None, ref))

        def stillborn(outcome: Outcome) -> None:
            if not isinstance(outcome, Started):
                children.forgets(outcome.ref, SHUTDOWN)
            if isinstance(outcome, StartFailed):
                self._report(Report("start_error", None, outcome.ref, outcome.reason))

        args = children.extra_args + args
        try:
            with nullcontext() if System.current() is me.system else me.system.activated():
                return launch(cls, args, EMPTY, starter=stillborn, admit=admit)
        except BaseException:
            for ref in admitted:  # it is dead, and has told nobody
                children.forgets(ref, SHUTDOWN)
            raise

    def _actor_forgets(self, child: Ref[Any], reason: Reason) -> bool:
        children = cast("DynamicChildren", self._children)
        return children.forgets(child, reason)

    def _configure(self, result: Any) -> DynamicChildren:
        if not isinstance(result, DynamicFlags):
            raise TypeError
        return DynamicChildren(result)


def _a_process_class(given: object) -> type[Process]:
    if isinstance(given, type) and issubclass(given, Process):
        return given
    raise BadSpec("invalid_start", given, f"expected a Process class, not {shown(given)}")


@lru_cache(256)
def _passing(cls: type[Process]) -> ChildSpec:
    spec = ChildSpec(id=None, start=cls, restart="temporary", shutdown=cls.shutdown)
    return check_child(spec, "never")
