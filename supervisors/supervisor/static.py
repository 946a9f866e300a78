"""Supervisor: a list of children, kept running together.

The rule of this file: only the interface. The ref turns each call into one request, the process performs it
(`supervision.py`), and what it means is in `core/static.py`. What can be is checked in the call, beforehand.

    with System():
        sup = Supervisor.start_link([child(Store, path), child(Gateway, port=8080)], strategy="rest_for_one")

    class Shop(Supervisor):                                     # module style: the class knows its children
        def init(self, path):
            return Flags(strategy="one_for_all"), [child(Store, path), child(Till)]

    child(Shop, "shop.db")                                      # a supervisor is a child like any other
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, ClassVar, cast, overload

from supervisors.core.entry import Child
from supervisors.core.static import StaticChildren
from supervisors.errors import BadSpec
from supervisors.reasons import Reason
from supervisors.runtime.names import Name
from supervisors.runtime.ref import Ref
from supervisors.runtime.signals import Ignore
from supervisors.spec import (
    AutoShutdown,
    ChildLike,
    ChildSpec,
    Flags,
    Strategy,
    check_child,
    check_flags,
    check_option_names,
    child_spec,
    child_specs,
)
from supervisors.supervisor.supervision import Supervision, SupervisionRef

__all__ = ["Supervisor", "SupervisorRef"]


class SupervisorRef(SupervisionRef):
    """The handle of a supervisor; see `SupervisionRef` for what all its calls have in common."""

    __slots__ = ()

    def start_child(self, spec: ChildLike) -> Ref[Any] | tuple[Ref[Any], Any] | None:
        """Add a child at the end and start it; returns its ref, `(ref, info)`, or None if it said `IGNORE`.

        Raises: `BadSpec`, `AlreadyStarted`, `AlreadyPresent`, `StartError`.
        """
        return cast(
            "Ref[Any] | tuple[Ref[Any], Any] | None", self._call("start_child", check_child(child_spec(spec)))
        )

    def terminate_child(self, id: Hashable) -> None:
        """Stop a child, and no other; its spec is kept unless it is temporary.

        Raises: `NotFound`.
        """
        self._call("terminate_child", id)

    def restart_child(self, id: Hashable) -> Ref[Any] | tuple[Ref[Any], Any] | None:
        """Start a child that is not running, in its old place.

        Raises: `NotFound`, `Running`, `Restarting`, `StartError`.
        """
        return cast("Ref[Any] | tuple[Ref[Any], Any] | None", self._call("restart_child", id))

    def delete_child(self, id: Hashable) -> None:
        """Forget a child that is not running.

        Raises: `NotFound`, `Running`, `Restarting`.
        """
        self._call("delete_child", id)

    def which_child(self, id: Hashable) -> Child:
        """One child.

        Raises: `NotFound`.
        """
        return cast("Child", self._call("which_child", id))

    def get_childspec(self, id: Hashable) -> ChildSpec:
        """The spec of a child, its defaults filled in; of a temporary one that started, without arguments.

        Raises: `NotFound`.
        """
        return cast("ChildSpec", self._call("get_childspec", id))

    def update(self, flags: Flags, children: Iterable[ChildLike]) -> None:
        """Change flags and specs; nothing is started or stopped by this.

        Children in both lists keep running under their new spec; new ones are added and not started; those that are
        not mentioned stay. One that is restarting and becomes temporary is not restarted any more: `restart_child`
        starts it.
        Raises: `BadSpec`, and then everything is as before.
        """
        self._call("update", check_flags(flags), child_specs(children))


class Supervisor(Supervision):
    """A process that starts its children in order, restarts them by their specs, and stops them in reverse order."""

    ref_type: ClassVar[type[Ref[Any]]] = SupervisorRef

    @overload
    @classmethod
    def start_link(
        cls,
        children: Iterable[ChildLike] = ...,
        *,
        strategy: Strategy = ...,
        max_restarts: int = ...,
        max_seconds: float = ...,
        auto_shutdown: AutoShutdown = ...,
        name: Name | None = ...,
        on_exit: Callable[[Reason], object] | None = ...,
    ) -> SupervisorRef: ...

    @overload
    @classmethod
    def start_link(cls, *args: Any, **kwargs: Any) -> SupervisorRef: ...

    @classmethod
    def start_link(cls, *args: Any, **kwargs: Any) -> SupervisorRef:
        """Start a supervisor as a child of the calling process, and return when all its children have started.

        `start_link(children=(), *, strategy="one_for_one", max_restarts=3, max_seconds=5.0, auto_shutdown="never",
        name=None)`; a class with an `init` of its own takes the arguments of that.
        Raises: `BadSpec`; `AlreadyStarted` if the name is taken; `StartError`, whose reason is
        `Shutdown(FailedToStart(id, reason))` if a child did not start; the others are stopped again.
        """
        args, kwargs = cls._listed(args, kwargs)
        return cast("SupervisorRef", super().start_link(*args, **kwargs))

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> SupervisorRef:
        """`start_link`, but without a parent."""
        args, kwargs = cls._listed(args, kwargs)
        return cast("SupervisorRef", super().start(*args, **kwargs))

    def init(self, *args: Any, **kwargs: Any) -> tuple[Flags, Sequence[ChildLike]] | Ignore:
        """Return the flags and the children, or `IGNORE`. Override it in a class with children of its own.

        Thread: the supervisor's own; do not wait for anything here.
        """
        if len(args) > 1:
            message = "a Supervisor takes its children in one list, and its options by name"
            raise BadSpec("badarg", len(args), message)
        return _default_init(*args, **kwargs)

    @classmethod
    def _listed(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        # A supervisor that is started directly is never started again, so any iterable will do.
        if cls.init is Supervisor.init:
            if args and isinstance(args[0], Iterable):
                return (list(args[0]), *args[1:]), kwargs
            if isinstance(kwargs.get("children"), Iterable):
                return args, {**kwargs, "children": list(kwargs["children"])}
        return args, kwargs

    def _configure(self, result: Any) -> StaticChildren:
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], Flags)):
            raise TypeError
        flags, children = result
        if not isinstance(children, list | tuple):
            found = (
                type(children).__name__
                if not isinstance(children, type)
                else f"the class {children.__name__}"
            )
            raise BadSpec(
                "badarg", found, f"children must be a list, which a restart can read again, not {found}"
            )
        return StaticChildren(flags, children)


def _default_init(children: Sequence[ChildLike] = (), **options: Any) -> tuple[Flags, Sequence[ChildLike]]:
    check_option_names("Supervisor", options, Flags)
    return Flags(**options), children
