"""GenServer: a process whose requests, orders and other messages go to three different handlers.

The rule of this file: `ask` is a call, `cast` is an order, everything else is information. What a handler returns says
how it goes on:

    handle_call   a value: the answer · NO_REPLY: `from_.reply(value)` comes later · Stop(reason, reply=value)
    the others    anything: go on · Stop(reason)
    all of them   raise Exit(reason): end, whoever waits gets ProcessDown · raise ReplyError: refuse, and live on

    class Counter(GenServer):
        n = 0

        def handle_call(self, request, from_):
            return self.n

        def handle_cast(self, request):
            self.n += request

    ref = Counter.start()
    cast(ref, 2)
    call(ref, "how much?")      # 2

Source: Erlang/OTP `gen_server`; Elixir `GenServer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final, NoReturn, TypeAlias, final

from supervisors import registry
from supervisors.errors import CallingSelf
from supervisors.inspection import Inspected
from supervisors.process import From, Stop, TimerRef
from supervisors.reasons import PASSIVATED, Exit, Shutdown
from supervisors.registry import Name, Via
from supervisors.runtime.log import log
from supervisors.runtime.ref import Ref
from supervisors.runtime.running import guard, running
from supervisors.runtime.signals import Signal

__all__ = ["CALL_TIMEOUT", "GenServer", "ServerRef", "call", "cast"]


ServerRef: TypeAlias = Ref[Any] | Name
"""Whatever stands for a process: its ref, its name, or a `Via`."""

CALL_TIMEOUT: Final = 5.0


@final
@dataclass(frozen=True, slots=True)
class _Cast:
    request: Any


@final
@dataclass(slots=True, eq=False)
class _Idle:
    timer: TimerRef | None = None


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Lull(Signal):
    """Time to look whether nothing has happened for so long."""


@final
@dataclass(slots=True, eq=False)
class _Rest:
    """Since when a server that may rest has done nothing, and whether it rests already."""

    since: float
    hibernating: bool = False
    timer: TimerRef | None = None


def call(server: ServerRef, request: Any, timeout: float | None = CALL_TIMEOUT) -> Any:
    """Ask, and wait for what `handle_call` answers.

    Units: seconds; None waits as long as it takes. Raises: what the handler raised; `ProcessDown` with the reason, as
    soon as the server is dead; `pykka.Timeout`, after which a late answer is dropped; `CallingSelf`; `Deadlock`.
    """
    guard()

    def put(ref: Ref[Any]) -> Any:
        process = running.process
        if process is not None and process.ref is ref:
            raise CallingSelf(
                ref
            )  # before the request is in our own mailbox, where somebody would find it later
        return ref.ask(request, timeout=timeout)

    return registry.deliver(server, put)


def cast(server: ServerRef, request: Any) -> None:
    """Send an order to `handle_cast`. It never fails: what cannot be delivered becomes a dead letter."""
    registry.send(server, _Cast(request))


class GenServer(Inspected):
    """Override the handlers for what the server understands; all of them run one at a time."""

    hibernate_after: ClassVar[float | None] = None
    """Seconds without a message after which `on_hibernate` is called."""

    passivate_after: ClassVar[float | None] = None
    """Seconds without a message after which the server ends with `Shutdown(PASSIVATED)`; see `OnDemand`."""

    _actor_idle: _Idle | None = None
    _actor_rest: _Rest | None = None

    def handle_call(self, request: Any, from_: From) -> Any:
        """Answer a request, now or later through `from_`.

        Raises: an exception ends the server, and the caller gets it too; a `ReplyError` is only for the caller.
        """
        raise NotImplementedError(
            f"{self} received a call with a {type(request).__name__}, which its handle_call does not handle"
        )

    def handle_cast(self, request: Any) -> Any:
        """Carry out an order."""
        raise NotImplementedError(
            f"{self} received a cast of a {type(request).__name__}, which its handle_cast does not handle"
        )

    def handle_info(self, msg: Any) -> Any:
        """Any other message: of `tell` and `send`, of timers, the results of tasks."""
        log.info("%s ignores a message of type %s", self, type(msg).__name__)

    def handle_timeout(self) -> Any:
        """Nothing has arrived since `idle_timeout(seconds)`, for so long."""

    def on_hibernate(self) -> None:
        """Nothing has happened for long: drop caches, close connections. Before a passivation: save what must be kept.

        Called once for each rest. A crash here is a crash.
        """

    def idle_timeout(self, seconds: float | None) -> None:
        """Have `handle_timeout` called if nothing arrives for so long from now; None: not any more.

        Whatever arrives first, or is waiting already, cancels it. For a point in time use `send_after`.
        """
        self._actor_forget_idle()
        if seconds is not None:
            idle = _Idle()
            idle.timer = self.send_after(seconds, self.ref, idle)
            self._actor_idle = idle

    def on_receive(self, message: Any) -> Any:
        """Choose the handler."""
        if type(message) is _Cast:
            return _only_stop(self.handle_cast(message.request))
        if type(message) is _Idle:
            stop = _only_stop(self.handle_timeout())
            self._actor_has_no_message()
            return stop
        request = self.current_request
        return (
            _only_stop(self.handle_info(message)) if request is None else self.handle_call(message, request)
        )

    def _actor_on_user(self, item: Any) -> None:
        # Everything passes here, DOWN and exit signals too; all of it ends the idleness but the news of it.
        if type(item) is _Lull:
            self._actor_on_lull()
            return
        if type(item) is _Idle:
            if item is not self._actor_idle:
                return
            self._actor_idle = None
        elif self._actor_idle is not None:
            self._actor_forget_idle()
        super()._actor_on_user(item)
        if self._actor_rest is not None:
            self._actor_end_rest(self._actor_rest)

    def _actor_forget_idle(self) -> None:
        idle, self._actor_idle = self._actor_idle, None
        if idle is not None and idle.timer is not None:
            idle.timer.cancel()

    # --- rest ---------------------------------------------------------------------------------------------------------

    def _actor_started(self, info: Any) -> None:
        if self.hibernate_after is not None or self.passivate_after is not None:
            self._actor_rest = _Rest(self.system.clock.monotonic())
            self._actor_wait_for_lull(self._actor_rest)
        super()._actor_started(info)

    def _actor_end_rest(self, rest: _Rest) -> None:
        rest.since = self.system.clock.monotonic()
        if rest.hibernating and not self._actor_ref.actor_inbox.closed:
            rest.hibernating = False
            if rest.timer is not None:
                rest.timer.cancel()  # it was to come only at the end of a longer rest
            self._actor_wait_for_lull(rest)

    def _actor_wait_for_lull(self, rest: _Rest) -> None:
        # One timer, which is not set anew by each message: when it is due it looks for how long nothing has happened.
        idle = self.system.clock.monotonic() - rest.since
        limits = (None if rest.hibernating else self.hibernate_after, self.passivate_after)
        left = [max(0.0, limit - idle) for limit in limits if limit is not None]
        rest.timer = None
        if left:
            ref = self._actor_ref
            timer = self._actor_timer(min(left), ref)
            rest.timer = self.system.timers.set(timer, lambda: ref.inform(_Lull()))

    def _actor_on_lull(self) -> None:
        rest = self._actor_rest
        if rest is None:
            return
        try:
            self._actor_look(rest)
            self._actor_run_continues()
        except BaseException as exc:  # noqa: BLE001 - as in every handler: it ends its process, and only that
            self._actor_failed(exc, None)
            self._actor_catch_up()

    def _actor_look(self, rest: _Rest) -> None:
        now = self.system.clock.monotonic()
        if self._actor_owes():
            rest.since = now
        idle = now - rest.since
        passivates = self.passivate_after is not None and idle >= self.passivate_after
        hibernates = self.hibernate_after is not None and idle >= self.hibernate_after
        if (passivates or hibernates) and not rest.hibernating:
            rest.hibernating = True
            self.on_hibernate()
            self._actor_has_no_message()
        if passivates:
            self._actor_passivate()
        self._actor_wait_for_lull(rest)

    def _actor_owes(self) -> bool:
        return bool(len(self._actor_ref.actor_inbox) or self._actor_owed or self._actor_stash)

    def _actor_passivate(self) -> NoReturn:
        ref = self._actor_ref
        name = ref.name
        if isinstance(name, Via) and hasattr(name.registry, "inherit"):
            ref.heir = partial(name.registry.inherit, name.key, ref)
        raise Exit(Shutdown(PASSIVATED))


def _only_stop(answer: Any) -> Stop | None:
    return answer if type(answer) is Stop else None
