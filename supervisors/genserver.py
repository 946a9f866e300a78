"""GenServer: a process with separate handlers for calls, casts and other messages.

The rule of this file: `ask` and `call` make calls, `cast` makes casts, every other message is info. What a
handler returns or raises decides what happens next:

    handle_call   a value: the answer · NO_REPLY: `from_.reply(value)` comes later · Stop(reason, reply=value)
    the others    anything: go on · Stop(reason)
    all of them   raise Exit(reason): end, a caller gets ProcessDown · raise ReplyError: refuse, and live on

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
from supervisors.runtime.ties import taken_back

__all__ = ["CALL_TIMEOUT", "GenServer", "ServerRef", "call", "cast"]


ServerRef: TypeAlias = Ref[Any] | Name
"""How a process can be addressed: by its ref, its name, or a `Via`."""

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
    """The rest timer fired: check for how long the server has been idle."""


@final
@dataclass(slots=True, eq=False)
class _Rest:
    """Since when (clock seconds) a server has been idle, and whether `on_hibernate` was called since then."""

    since: float
    hibernating: bool = False
    timer: TimerRef | None = None


def call(server: ServerRef, request: Any, timeout: float | None = CALL_TIMEOUT) -> Any:
    """Send a request to `handle_call` and wait for the answer.

    Units: seconds; None waits as long as it takes. Raises: what the handler raised; `ProcessDown` with the reason, as
    soon as the server is dead; `pykka.Timeout`, and a late answer is dropped; `MailboxFull`; `CallingSelf`;
    `Deadlock`; `WouldBlock` on an event loop.
    """
    guard()

    def put(ref: Ref[Any]) -> Any:
        process = running.process
        if process is not None and process.ref is ref:
            raise CallingSelf(
                ref
            )  # checked first: the request would stay in our own mailbox and be handled later
        return ref.ask(request, timeout=timeout)

    return registry.deliver(server, put)


def cast(server: ServerRef, request: Any) -> None:
    """Send a request to `handle_cast` without waiting; what cannot be delivered becomes a dead letter.

    Raises: `BadSpec` for an impossible name.
    """
    registry.send(server, _Cast(request))


class GenServer(Inspected):
    """A server: override the handlers of the messages it understands. They run one at a time."""

    hibernate_after: ClassVar[float | None] = None
    """Seconds without a message after which `on_hibernate` is called; None: never."""

    passivate_after: ClassVar[float | None] = None
    """Seconds without a message after which the server ends with `Shutdown(PASSIVATED)`; see `OnDemand`."""

    _actor_idle: _Idle | None = None
    _actor_rest: _Rest | None = None

    def handle_call(self, request: Any, from_: From) -> Any:
        """Answer a request: return the answer, or `NO_REPLY` and call `from_.reply(value)` later.

        An exception ends the server, and the caller gets it too; a `ReplyError` only goes to the caller.
        """
        raise NotImplementedError(
            f"{self} received a call with a {type(request).__name__}, which its handle_call does not handle"
        )

    def handle_cast(self, request: Any) -> Any:
        """Handle a cast, to which there is no answer."""
        raise NotImplementedError(
            f"{self} received a cast of a {type(request).__name__}, which its handle_cast does not handle"
        )

    def handle_info(self, msg: Any) -> Any:
        """Handle any other message: of `tell`, `send`, a timer or a task. The default logs its type."""
        log.info("%s ignores a message of type %s", self, type(msg).__name__)

    def handle_timeout(self) -> Any:
        """Called when nothing has arrived within the seconds given to `idle_timeout`."""

    def on_hibernate(self) -> None:
        """Called when the server has long been idle: drop caches, close connections, save what must be kept.

        Called once per idle period, before a passivation at the latest. An exception ends the server.
        """

    def idle_timeout(self, seconds: float | None) -> None:
        """Call `handle_timeout` if nothing arrives within `seconds` from now; None cancels this.

        Any message cancels it, also one that is already waiting. For a fixed time use `send_after`.
        """
        self._actor_forget_idle()
        if seconds is not None:
            idle = _Idle()
            idle.timer = self.send_after(seconds, self.ref, idle)
            self._actor_idle = idle

    def on_receive(self, message: Any) -> Any:
        """Call the handler for this kind of message."""
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
        # Everything passes here, DOWN and exit signals too. All but `_Lull`, an old `_Idle` and what was taken back end
        # idleness.
        if type(item) is _Lull:
            self._actor_on_lull()
            return
        if taken_back(self._actor_ref, item):
            super()._actor_on_user(item)
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

    def _actor_trace(self, message: Any) -> None:
        if type(message) is not _Idle:  # a timeout has no message
            super()._actor_trace(message.request if type(message) is _Cast else message)

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
                rest.timer.cancel()  # it was set for the end of a longer rest
            self._actor_wait_for_lull(rest)

    def _actor_wait_for_lull(self, rest: _Rest) -> None:
        # One timer, not reset by each message: when due, it checks for how long the server has been idle.
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
