"""For operators: read the state of a running server, suspend and resume it, trace its messages.

The rule of this file: an operator's request overtakes all messages, and even a suspended server answers it.
It is handled between two messages, never in the middle of one.

Source: Erlang/OTP `sys`: `get_state`, `suspend`, `resume`, `trace`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from supervisors.errors import ProcessDown, ReplyError, SupervisorError
from supervisors.process import From, Future, Process
from supervisors.reasons import KILLED, Reason
from supervisors.registry import Name, resolve
from supervisors.runtime.ref import Ref
from supervisors.runtime.running import check_callback, contained
from supervisors.runtime.signals import ALIVE, Signal, StopRequest

__all__ = ["Inspected", "get_state", "resume", "suspend", "trace"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Order:
    do: Callable[[Inspected], object]


def get_state(server: Ref[Any] | Name, timeout: float | None = 5.0) -> Any:
    """What `inspect_state` of the server returns: by default its attributes, as a dict.

    Units: seconds. Raises: `ProcessDown`; `pykka.Timeout` if a handler takes longer; `CallingSelf`;
    `SupervisorError` if it is no `GenServer`.
    """
    return _order(server, lambda it: it.inspect_state(), timeout)


def suspend(server: Ref[Any] | Name, timeout: float | None = 5.0) -> None:
    """Let the server handle no messages until `resume`; they wait in its mailbox.

    Operators' requests and its end are still handled: a shutdown never waits, even with `drain_on_shutdown`,
    but a client's `ref.stop()` does. Raises: as `get_state`; `ReplyError` if the server has not started yet.
    """
    _order(server, Inspected._actor_suspend, timeout)  # noqa: SLF001 - the two halves of one thing


def resume(server: Ref[Any] | Name, timeout: float | None = 5.0) -> None:
    """Let a suspended server go on; messages that waited come first. Raises: as `get_state`."""
    _order(server, Inspected._actor_resume, timeout)  # noqa: SLF001


def trace(
    server: Ref[Any] | Name, observer: Callable[[Any], object], timeout: float | None = 5.0
) -> Callable[[], None]:
    """Call `observer(message)` before each message is handled; returns a function that ends this.

    `message` is the request of a call or a cast, or the message itself. Signals (DOWN, EXIT, stops), answers of tasks
    and timeouts are not shown.
    Thread: the server's own; what the observer raises is logged. Raises: as `get_state`.
    """
    check_callback(observer)
    ref = resolve(server)
    _order(ref, lambda it: it._actor_add_tracer(observer), timeout)  # noqa: SLF001

    def end() -> None:
        if ref.is_alive():
            _send(ref, lambda it: it._actor_remove_tracer(observer))  # noqa: SLF001

    return end


class Inspected(Process):
    """A process that operators can look into."""

    _actor_tracers: tuple[Callable[[Any], object], ...] = ()
    _actor_suspended = False
    _actor_order: From | None = None

    def inspect_state(self) -> Any:
        """What `get_state` returns; override it to show less, or more."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_actor_")}

    def _actor_on_control(self, signal: object) -> None:
        if type(signal) is not From or type(signal.message) is not _Order:
            super()._actor_on_control(signal)
            return
        # First the order is published, then `closed` is read: a killer closes, then looks for it.
        self._actor_order = signal
        if self._actor_ref.actor_inbox.closed:
            signal.settle_exception(ProcessDown(KILLED, self._actor_ref))
            self._actor_order = None
            return
        try:
            signal.settle(signal.message.do(self))
        except Exception as exc:  # noqa: BLE001 - goes to the operator, and does not end the server
            signal.settle_exception(exc)
        except BaseException as exc:  # noqa: BLE001 - as in every handler: it ends its process, and only that
            self._actor_failed(exc, signal)
        self._actor_order = None

    def _actor_fail_requests(self, reason: Reason) -> None:
        order = self._actor_order
        if order is not None:
            order.settle_exception(ProcessDown(reason, self._actor_ref))
        super()._actor_fail_requests(reason)

    def _actor_passes(self, item: object) -> bool:
        if self._actor_suspended:
            # The queue does not drain meanwhile: a shutdown that waited for it would end in a kill.
            return type(item) is StopRequest and self._actor_stop_reason is not ALIVE
        return super()._actor_passes(item)

    def _actor_on_user(self, item: Any) -> None:
        if self._actor_tracers:
            self._actor_trace(item.message if type(item) is From else item)
        super()._actor_on_user(item)

    def _actor_trace(self, message: Any) -> None:
        """Show a message to the observers."""
        if isinstance(message, Signal):
            return
        for tracer in self._actor_tracers:
            contained("a tracer failed", tracer, message)

    def _actor_suspend(self) -> None:
        if self._actor_ref.starter is not None:
            raise ReplyError(f"{self} has not started yet; suspend it after it has started")
        self._actor_suspended = True
        self._actor_ref.actor_inbox.hold()

    def _actor_resume(self) -> None:
        if self._actor_suspended:
            self._actor_suspended = False
            if not self._actor_ref.actor_inbox.release():
                self._actor_ref.drain(KILLED)

    def _actor_add_tracer(self, tracer: Callable[[Any], object]) -> None:
        self._actor_tracers = (*self._actor_tracers, tracer)

    def _actor_remove_tracer(self, tracer: Callable[[Any], object]) -> None:
        self._actor_tracers = tuple(each for each in self._actor_tracers if each is not tracer)


def _order(server: Ref[Any] | Name, do: Callable[[Inspected], object], timeout: float | None) -> Any:
    return _send(resolve(server), do).get(timeout=timeout)


def _send(ref: Ref[Any], do: Callable[[Inspected], object]) -> Future[Any]:
    if not issubclass(ref.actor_class, Inspected):
        raise SupervisorError(f"{ref} is not a GenServer, so it cannot be inspected")
    future: Future[Any] = Future(ref, ref.dispatcher)
    if not ref.actor_inbox.put_control(From(_Order(do), future)):
        ref.drain()
    return future
