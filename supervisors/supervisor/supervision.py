"""What every supervisor does: start, take requests, hear of deaths, stop.

The rule of this file: everything that arrives becomes an operation of the core (`core/operations.py`) and waits its
turn; `performer.py` performs the steps that the operation then yields.

Source: Erlang/OTP `supervisor`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self, cast, final

from supervisors.core.entry import Child, Counts, View
from supervisors.core.operations import at_once
from supervisors.core.steps import Stop
from supervisors.errors import BadSpec, ReplyError, StartError
from supervisors.process import DEFER_START, IGNORE, NO_REPLY, ExitMsg, From, Future
from supervisors.reasons import Exit, Named, Reason
from supervisors.runtime.names import Name
from supervisors.runtime.ref import Ref
from supervisors.runtime.signals import DownNotice
from supervisors.spec import ChildType, Restart, ShutdownRule
from supervisors.supervisor.performer import Again, Children, Performer

__all__ = ["Request", "Supervision", "SupervisionRef"]

_BEGIN: Final = Named("_BEGIN", __name__)
_TAKE_TIME: Final = frozenset({"start_child", "restart_child", "terminate_child"})


@final
@dataclass(frozen=True, slots=True)
class Request:
    """A request to a supervisor for an operation on its children; answered when that operation is done."""

    operation: str
    args: tuple[Any, ...] = ()


class SupervisionRef(Ref[Any]):
    """What every supervisor can be asked. Each call waits until earlier operations are done. Thread: any.

    Raises: `ProcessDown`, from every call, if the supervisor is dead or dies meanwhile.
    """

    __slots__ = ()

    def which_children(self) -> list[Child]:
        """All children in start order; in a `DynamicSupervisor` they have no ids."""
        return cast("list[Child]", self._call("which_children"))

    def count_children(self) -> Counts:
        """How many children there are, and how many are alive."""
        return cast("Counts", self._call("count_children"))

    def count_children_soon(self) -> Future[Counts]:
        """`count_children` for callers that may not wait; answered when the operation that runs is over."""
        return self.ask(Request("count_children"), block=False)

    def views(self) -> list[View]:
        """All children, with their state and the number of their restarts."""
        return cast("list[View]", self._call("views"))

    def _call(self, operation: str, *args: object) -> object:
        return self.ask(Request(operation, args))


class Supervision(Performer):
    """The process around the children; `_actor_init` is where `init` with its arguments becomes children."""

    child_type: ClassVar[ChildType] = "supervisor"
    restart: ClassVar[Restart] = "permanent"
    shutdown: ClassVar[ShutdownRule] = math.inf
    trap_exit = True
    _actor_hands_on = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self._arguments = args, kwargs
        self._ending = False

    @classmethod
    def start(
        cls,
        *args: Any,
        name: Name | None = None,
        on_exit: Callable[[Reason], object] | None = None,
        **kwargs: Any,
    ) -> Ref[Self]:
        """As `Process.start`; invalid flags and specs raise their `BadSpec`, and not a `StartError`."""
        with _bad_spec_as_it_is():
            return super().start(*args, name=name, on_exit=on_exit, **kwargs)

    @classmethod
    def start_link(
        cls,
        *args: Any,
        name: Name | None = None,
        on_exit: Callable[[Reason], object] | None = None,
        **kwargs: Any,
    ) -> Ref[Self]:
        """As `Process.start_link`; invalid flags and specs raise their `BadSpec`, and not a `StartError`."""
        with _bad_spec_as_it_is():
            return super().start_link(*args, name=name, on_exit=on_exit, **kwargs)

    @abstractmethod
    def _configure(self, result: Any) -> Children:
        """The children that `init` asked for.

        Raises: BadSpec; TypeError when that is not what it may return.
        """

    def _actor_views(self) -> list[View]:
        # As `ref.views()` tells. Thread: the process's own.
        children = getattr(self, "_children", None)
        return [] if children is None else children.views()

    # --- the start ----------------------------------------------------------------------------------------------------

    def _actor_init(self) -> object:
        args, kwargs = self._arguments
        self._arguments = (), {}
        try:
            result: object = self.init(*args, **kwargs)
        except BadSpec as bad:
            raise Exit(bad) from None
        if result is IGNORE:
            return IGNORE
        try:
            self._children = self._configure(result)
        except BadSpec as bad:
            raise Exit(bad) from None
        except TypeError:
            raise Exit(("bad_return_value", result)) from None
        self.system.timers.ready()  # so that stops can time out, even at interpreter exit
        self.continue_(_BEGIN)
        return DEFER_START

    def handle_continue(self, arg: Any) -> None:
        """Start the children; the supervisor has started when they have."""
        if arg is _BEGIN:
            self._operations.run(self._children.start_all(), self._begun)

    def _begun(self, stop: Stop | None, _refusal: Exception | None) -> None:
        if stop is None:
            self.start_succeeded()
        else:
            self._ending = True
            self.start_failed(stop.reason)

    def _actor_passes(self, item: object) -> bool:
        # While the children start, a death waits like the requests, and in turn with them.
        return type(item) is DownNotice

    # --- what arrives -------------------------------------------------------------------------------------------------

    def on_receive(self, message: Any) -> object:
        """Queue a request; it is answered when its operation is done."""
        match message:
            case Request(operation, args):
                self._request(operation, args, self.current_request)
            case Again(retry):
                self._operations.run(self._children.retry(retry, self._now()), self._decided)
            case _:
                raise ReplyError(f"{self} is a supervisor and does not understand a {type(message).__name__}")
        return NO_REPLY

    def handle_exit(self, exit: ExitMsg) -> None:
        """A linked process has ended: a child, or another one, which is ignored."""
        if exit.ref is not None:
            self._operations.run(self._children.exited(exit.ref, exit.reason, self._now()), self._decided)

    def handle_shutdown(self, reason: Reason) -> None:
        """Stop all children, then end. The running operation is finished first, pending retries are not."""
        parent = self.ref.parent
        # If the parent is dead, we end with its reason.
        stop = Stop(reason if parent is None or parent.is_alive() else parent.exit_reason)
        if self.drain_on_shutdown:
            # What arrived before is an operation by now, and still comes first.
            self._operations.run(at_once(lambda: stop), self._decided)
        else:
            self._end(stop.reason)

    def _request(self, operation: str, args: tuple[Any, ...], request: From | None) -> None:
        method = getattr(self._children, operation)
        if operation == "count_children":
            args = (_is_alive,)

        def done(result: object, refusal: Exception | None) -> None:
            if request is None:
                return
            if refusal is None:
                request.reply(result)
            else:
                request.fail(refusal)

        turn = method(*args) if operation in _TAKE_TIME else at_once(lambda: method(*args))
        self._operations.run(turn, done, asked=True)

    def _decided(self, stop: Stop | None, _refusal: Exception | None) -> None:
        if stop is not None:
            self._end(stop.reason)

    def _end(self, reason: Reason) -> None:
        if not self._ending:
            with self.ref.system.lock:  # a `spawn_child` at this moment is either seen, or sees that we end
                self._ending = True
            self._operations.run_last(
                self._children.stop_all(), lambda _result, _refusal: self.finish(reason)
            )


@contextmanager
def _bad_spec_as_it_is() -> Iterator[None]:
    try:
        yield
    except StartError as error:
        if isinstance(error.reason, BadSpec):
            raise error.reason from None
        raise


def _is_alive(ref: object) -> bool:
    return isinstance(ref, Ref) and ref.is_alive()
