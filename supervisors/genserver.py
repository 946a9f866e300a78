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

import logging
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, final

from supervisors import registry
from supervisors.errors import CallingSelf
from supervisors.inspection import Inspected
from supervisors.process import From, Stop, TimerRef
from supervisors.registry import Name
from supervisors.runtime.ref import Ref
from supervisors.runtime.running import guard, running

__all__ = ["CALL_TIMEOUT", "GenServer", "ServerRef", "call", "cast"]

_log = logging.getLogger("supervisors")

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


def call(server: ServerRef, request: Any, timeout: float | None = CALL_TIMEOUT) -> Any:
    """Ask, and wait for what `handle_call` answers.

    Units: seconds; None waits as long as it takes. Raises: what the handler raised; `ProcessDown` with the reason, as
    soon as the server is dead; `pykka.Timeout`, after which a late answer is dropped; `CallingSelf`; `Deadlock`.
    """
    guard()
    ref = registry.resolve(server)
    process = running.process
    if process is not None and process.ref is ref:
        raise CallingSelf(ref)  # before the request is in our own mailbox, where somebody would find it later
    return ref.ask(request, timeout=timeout)


def cast(server: ServerRef, request: Any) -> None:
    """Send an order to `handle_cast`. It never fails: what cannot be delivered becomes a dead letter."""
    registry.send(server, _Cast(request))


class GenServer(Inspected):
    """Override the handlers for what the server understands; all of them run one at a time."""

    _actor_idle: _Idle | None = None

    def handle_call(self, request: Any, from_: From) -> Any:
        """Answer a request, now or later through `from_`.

        Raises: an exception ends the server, and the caller gets it too; a `ReplyError` is only for the caller.
        """
        raise NotImplementedError(f"{self} does not answer calls, and was sent a {type(request).__name__}")

    def handle_cast(self, request: Any) -> Any:
        """Carry out an order."""
        raise NotImplementedError(f"{self} does not take casts, and was sent a {type(request).__name__}")

    def handle_info(self, msg: Any) -> Any:
        """Any other message: of `tell` and `send`, of timers, the results of tasks."""
        _log.info("%s ignores a message of type %s", self, type(msg).__name__)

    def handle_timeout(self) -> Any:
        """Nothing has arrived since `idle_timeout(seconds)`, for so long."""

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
            return _only_stop(self.handle_timeout())
        request = self.current_request
        return (
            _only_stop(self.handle_info(message)) if request is None else self.handle_call(message, request)
        )

    def _actor_on_user(self, item: Any) -> None:
        # Everything passes here, DOWN and exit signals too; all of it ends the idleness but the news of it.
        if type(item) is _Idle:
            if item is not self._actor_idle:
                return
            self._actor_idle = None
        elif self._actor_idle is not None:
            self._actor_forget_idle()
        super()._actor_on_user(item)

    def _actor_forget_idle(self) -> None:
        idle, self._actor_idle = self._actor_idle, None
        if idle is not None and idle.timer is not None:
            idle.timer.cancel()


def _only_stop(answer: Any) -> Stop | None:
    return answer if type(answer) is Stop else None
