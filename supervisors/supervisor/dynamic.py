"""DynamicSupervisor: children that come and go, started one by one and known by their refs.

The rule of this file: as in `static.py`, only doors; what the calls mean is in `core/dynamic.py`.

    agents = DynamicSupervisor.start_link(max_children=1000)
    alice = agents.start_child(child(Agent, "alice").replace(restart="transient"))
    agents.terminate_child(alice)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast, overload

from supervisors.core.dynamic import DynamicChildren
from supervisors.core.entry import Child, Counts, View
from supervisors.process import Future
from supervisors.reasons import Reason
from supervisors.runtime.names import Name
from supervisors.runtime.ref import Ref
from supervisors.runtime.signals import Ignore
from supervisors.spec import ChildLike, DynamicFlags, check_child, check_dynamic_flags, child_spec
from supervisors.supervisor.supervision import Request, Supervision

__all__ = ["DynamicSupervisor", "DynamicSupervisorRef"]


class DynamicSupervisorRef(Ref[Any]):
    """The handle of a dynamic supervisor; see `SupervisorRef` for what all its calls have in common."""

    __slots__ = ()

    def start_child(self, spec: ChildLike) -> Ref[Any] | tuple[Ref[Any], Any] | None:
        """Start one more child: its ref, `(ref, info)`, or None if it said `IGNORE`. The id does not matter.

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

    def terminate_child(self, ref: Ref[Any]) -> None:
        """Stop a child and forget it. While a child is restarting, its last ref is still the one to use.

        Raises: `NotFound`.
        """
        self._call("terminate_child", ref)

    def which_children(self) -> list[Child]:
        """All children; their ids are None."""
        return cast("list[Child]", self._call("which_children"))

    def count_children(self) -> Counts:
        """How many children there are, and how many are alive."""
        return cast("Counts", self._call("count_children"))

    def update(self, flags: DynamicFlags) -> None:
        """Change the flags. Children beyond a lower limit stay, and no new ones are let in.

        Raises: `BadSpec`, without asking the supervisor.
        """
        self._call("update", check_dynamic_flags(flags))

    def views(self) -> list[View]:
        """All children, with their state and the number of their restarts."""
        return cast("list[View]", self._call("views"))

    def _call(self, operation: str, *args: object) -> object:
        return self.ask(Request(operation, args))


class DynamicSupervisor(Supervision):
    """A process that starts children on demand, each on its own, and stops them all at once at its end."""

    ref_type = DynamicSupervisorRef

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
        """`start_link`, but nobody's child."""
        return cast("DynamicSupervisorRef", super().start(*args, **kwargs))

    def init(self, *args: Any, **kwargs: Any) -> DynamicFlags | Ignore:
        """Say how to supervise. Override it for a supervisor that knows its flags."""
        return DynamicFlags(*args, **kwargs)

    def _configure(self, result: Any) -> DynamicChildren:
        if not isinstance(result, DynamicFlags):
            raise TypeError
        return DynamicChildren(result)
