"""Process: a Pykka actor whose start is acknowledged and whose end is announced; links, monitors, timers.

The rule of this file: it has what a process may do, to itself and to others, from inside its handlers. How it
starts, runs and dies is in `runtime/life.py`.

    class Counter(Process):
        def __init__(self, start: int) -> None:
            super().__init__()
            self.n = start

        def on_receive(self, message):
            self.n += message
            return self.n

    ref = Counter.start(40)
    ref.ask(2)          # 42
    ref.stop()

Source: Erlang/OTP `gen_server`, `erlang:link/monitor/send_after`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Event
from typing import Any, ClassVar, NoReturn, Self, cast, final

import pykka

from supervisors.errors import ProcessKilled
from supervisors.reasons import NORMAL, Exit, Reason
from supervisors.runtime import ties
from supervisors.runtime.adopted import supervised
from supervisors.runtime.delivery import Delivery
from supervisors.runtime.future import Future, declare_wait
from supervisors.runtime.hooks import DEFER_START
from supervisors.runtime.launch import calling_parent, crash_of, launch, start_and_wait
from supervisors.runtime.life import Life
from supervisors.runtime.limit import UNBOUNDED, MailboxConfig, MailboxLoad
from supervisors.runtime.names import Name, check_name
from supervisors.runtime.ref import Ref, a_ref, exit
from supervisors.runtime.running import check_callback, guard
from supervisors.runtime.signals import (
    ALIVE,
    IGNORE,
    NO_REPLY,
    OK,
    ChildIgnored,
    ChildStarted,
    ChildStartFailed,
    Down,
    ExitMsg,
    From,
    Ignored,
    MonitorRef,
    Outcome,
    Started,
    StartFailed,
    Stop,
)
from supervisors.runtime.stash import Stash
from supervisors.runtime.system import System
from supervisors.runtime.timers import TimerRef
from supervisors.spec import EMPTY, Restart, ShutdownRule

__all__ = [
    "DEFER_START",
    "IGNORE",
    "NO_REPLY",
    "OK",
    "UNBOUNDED",
    "ChildIgnored",
    "ChildStartFailed",
    "ChildStarted",
    "Down",
    "ExitMsg",
    "From",
    "Future",
    "MailboxConfig",
    "MailboxLoad",
    "MonitorRef",
    "Process",
    "ProcessRef",
    "Stop",
    "Timeout",
    "TimerRef",
    "exit",
    "supervised",
]

ProcessRef = Ref


@final
@dataclass(frozen=True, slots=True)
class Timeout:
    """What a timer that was set with `start_timer` sends: the timer, and the message it was set with."""

    timer: TimerRef
    message: Any


class Process(Life):
    """One incarnation of an actor. Handlers run one at a time; call the methods below on their thread only.

    A kill is logical: `exit(ref, "kill")` ends the *process* at once, but a Python thread cannot be killed. A
    running handler goes on, as a *zombie*, until it returns; an `on_kill` callback can make it return soon.
    """

    restart: ClassVar[Restart] = "permanent"
    """The `restart` of a child spec that `child` makes of the class."""

    shutdown: ClassVar[ShutdownRule] = 5.0
    """The `shutdown` of such a spec, and of a process without a parent: seconds, or `"brutal_kill"`."""

    @classmethod
    def start(
        cls,
        *args: Any,
        name: Name | None = None,
        on_exit: Callable[[Reason], object] | None = None,
        **kwargs: Any,
    ) -> Ref[Self]:
        """Start a process without a parent, wait until it has started, and return its ref.

        Returns `IGNORE` instead if `init` returns `IGNORE`, and `(ref, info)` if it returns `(OK, info)`.
        `on_exit` is an exit callback; see `Ref.add_exit_callback`.
        Raises: `AlreadyStarted(owner)` if the name is taken; `StartError(reason)`; what `__init__` raises;
        RuntimeError if it can have no thread.
        """
        return cast("Ref[Self]", start_and_wait(cls, args, kwargs, name=name, on_exit=on_exit))

    @classmethod
    def start_link(
        cls,
        *args: Any,
        name: Name | None = None,
        on_exit: Callable[[Reason], object] | None = None,
        **kwargs: Any,
    ) -> Ref[Self]:
        """`start`, as a child of the calling process: linked to it, and stopped when it dies.

        Outside any process it is the same as `start`.
        """
        parent = calling_parent()
        return cast("Ref[Self]", start_and_wait(cls, args, kwargs, parent=parent, name=name, on_exit=on_exit))

    @property
    def system(self) -> System:
        """The system the process lives in."""
        return self._actor_ref.system

    @property
    def current_request(self) -> From | None:
        """The request being handled, or None if nobody waits for an answer.

        To answer later, keep it, return `NO_REPLY`, and call its `reply` on any thread.
        """
        return self._actor_request

    def label(self) -> str | None:
        """A description of the process, shown after class and name in the tree, in reports and in the log.

        Called each time the process is shown, and when it ends uncleanly. Thread: any, at any moment.
        Source: Erlang's `proc_lib:set_label`.
        """
        return None

    def _actor_label(self) -> str | None:
        return self.label()

    # --- the end ------------------------------------------------------------------------------------------------------

    def exit(self, reason: Reason = NORMAL) -> NoReturn:
        """End the process with `reason`, by raising `Exit`."""
        raise Exit(reason)

    @property
    def stopping(self) -> Event:
        """An event for handlers that take long: set by a shutdown, a fatal exit signal or a kill.

        Not by `ref.stop()`, which waits its turn behind the messages.
        """
        event = self._actor_stop_event
        if event is None:
            event = self._actor_stop_event = Event()
            if self._actor_stop_reason is not ALIVE:
                event.set()
        return event

    def check_stop(self) -> None:
        """End the process here if `stopping` is set.

        Raises: `Exit` with the reason; `ProcessKilled` in a killed handler.
        """
        self._actor_guard()
        if self._actor_stop_reason is not ALIVE:
            raise Exit(self._actor_stop_reason)

    def on_kill(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call `callback()`, on the killer's thread, if the process is killed; returns a way to cancel it.

        Use it to make a blocking handler return: close the socket, kill the subprocess. It must not block:
        the killer, which may be a supervisor, waits for it.
        """
        self._actor_guard()
        check_callback(callback)
        if self._actor_kill_callbacks is None:
            self._actor_kill_callbacks = {}
        callbacks = self._actor_kill_callbacks

        def once() -> None:
            callback()

        callbacks[once] = None
        return lambda: callbacks.pop(once, None)

    # --- starting -----------------------------------------------------------------------------------------------------

    def start_succeeded(self, info: Any = None) -> None:
        """After `DEFER_START`: complete the start; `info` is for the starter. Waiting messages come next."""
        self._actor_guard()
        self._actor_started(info)

    def start_failed(self, reason: Reason) -> None:
        """After `DEFER_START`: fail the start. The process ends with `reason`, which its starter gets."""
        self._actor_guard()
        self._actor_end(reason)

    def start_ignored(self) -> None:
        """After `DEFER_START`: as if `init` had returned `IGNORE`."""
        self._actor_guard()
        self._actor_ignored()

    def spawn(
        self,
        cls: type[pykka.Actor],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] = EMPTY,
        *,
        name: Name | None = None,
        tag: Any = None,
        link: bool = True,
        incarnation: int = 0,
    ) -> Ref[Any] | None:
        """Start a child without waiting; returns its ref, or None if it could not even be constructed.

        Exactly one of `ChildStarted`, `ChildIgnored` and `ChildStartFailed`, with `tag`, reaches
        `handle_system`, before any exit of the child. Without `link` it has no parent. `incarnation` becomes
        its `self.incarnation`.
        """
        self._actor_guard()
        me = self._actor_ref

        def starter(outcome: Outcome) -> None:
            me.signal(_as_signal(tag, outcome))

        try:
            return launch(
                cls if issubclass(cls, Life) else supervised(cls),
                args,
                kwargs,
                starter=starter,
                parent=me if link else None,
                name=name,
                incarnation=incarnation,
            )
        except BaseException as exc:  # noqa: BLE001 - also `sys.exit`: told to whoever wanted the child
            me.signal(ChildStartFailed(tag, None, crash_of(exc)))
            return None

    def continue_(self, arg: Any = None) -> None:
        """Run `handle_continue(arg)` right after the current callback, before any other message.

        So it does even if the callback then raises a `ReplyError`.
        """
        self._actor_guard()
        if self._actor_continues is None:
            self._actor_continues = deque()
        self._actor_continues.append(arg)

    def stash(self) -> None:
        """Put the current message aside; after `unstash_all` it is handled again.

        A caller goes on waiting: what the handler returns is dropped, unless it is a `Stop`. Stashed messages
        do not count toward the `maxlen` of the mailbox. Called where no message is handled, as in `init`,
        `handle_continue`, `handle_timeout` or `handle_down`, it ends the process with a crash.
        """
        self._actor_guard()
        if self._actor_stash is None:
            self._actor_stash = Stash()
        self._actor_stash.wanted = True

    def unstash_all(self) -> None:
        """Put all stashed messages back, in their order, in front of those that wait in the mailbox."""
        self._actor_guard()
        if self._actor_stash is not None:
            self._actor_stash.give_back(self._actor_ref)

    # --- others -------------------------------------------------------------------------------------------------------

    def link(self, ref: Ref[Any]) -> None:
        """Link this process to another: when one dies, the other gets an exit signal.

        If `ref` is dead already, that is at once, with `NOPROC`.
        """
        self._actor_guard()
        a_ref(ref)
        ties.link(self._actor_ref, ref)

    def unlink(self, ref: Ref[Any]) -> None:
        """Remove the link: no exit signal from `ref` arrives afterwards, not even one already queued."""
        self._actor_guard()
        a_ref(ref)
        ties.unlink(self._actor_ref, ref)

    def monitor(self, target: Ref[Any] | Name) -> MonitorRef:
        """Get one `Down`, in `handle_down`, when `target` ends; now, with `NOPROC`, if it is not there."""
        self._actor_guard()
        found = target if isinstance(target, Ref) else self.system.names.whereis(target)
        return ties.monitor(self._actor_ref, found)

    def demonitor(self, m: MonitorRef, *, flush: bool = True) -> None:
        """End a monitor; with `flush` a `Down` that is already queued is dropped as well."""
        self._actor_guard()
        ties.demonitor(m, flush=flush)

    def blocking(self) -> AbstractContextManager[None]:
        """A context manager for code that blocks (`sleep`, a socket): the pool runs others meanwhile.

        Raises: `WouldBlock` on an event loop.
        """
        self._actor_guard()
        return self._actor_ref.dispatcher.blocking()

    def waits_for(self, ref: Ref[Any] | None) -> None:
        """Declare that this process waits for `ref` (None: nobody) without a thread, to detect deadlocks."""
        if ref is None:
            self._actor_ref.waiting = None
        else:
            declare_wait(self._actor_ref, ref)

    # --- time ---------------------------------------------------------------------------------------------------------

    def send_after(
        self, delay: float, dest: Ref[Any] | Hashable, msg: Any, *, absolute: bool = False
    ) -> TimerRef:
        """Send `msg` to `dest` in `delay` seconds; a name is looked up when the timer fires.

        The timer ends with this process. With `absolute`, `delay` is a time of the system's clock.
        Raises: `ValueError` for a negative delay; `BadSpec`, a `ValueError` too, for an impossible name.
        """
        timer = self._actor_timer(delay, dest, absolute=absolute)
        return self.system.timers.set(timer, Delivery(self.system, dest, msg))

    def start_timer(
        self, delay: float, dest: Ref[Any] | Hashable, msg: Any, *, absolute: bool = False
    ) -> TimerRef:
        """`send_after`, but what arrives is `Timeout(timer, msg)`, so that timers can be told apart."""
        timer = self._actor_timer(delay, dest, absolute=absolute)
        return self.system.timers.set(timer, Delivery(self.system, dest, Timeout(timer, msg)))

    def send_interval(self, period: float, dest: Ref[Any] | Hashable, msg: Any) -> TimerRef:
        """Send `msg` every `period` seconds, at a fixed rate, skipping missed ticks.

        It ends with this process, or with `dest` if that is a ref.
        """
        timer = self._actor_timer(period, dest, period=period)
        return self.system.timers.set(timer, Delivery(self.system, dest, msg))

    def _actor_timer(
        self, delay: float, dest: object, *, absolute: bool = False, period: float | None = None
    ) -> TimerRef:
        self._actor_guard()
        if not isinstance(dest, Ref):
            check_name(dest)
        timer = self.system.timers.make(delay, absolute=absolute, period=period)
        if self._actor_timers is None:
            self._actor_timers = {}
        self._actor_timers[timer] = None
        timer.owned = self._actor_timers
        return timer

    def _actor_guard(self) -> None:
        # What a handler left running elsewhere (a task on an event loop) may not act for a killed process.
        guard()
        if self._actor_ref.killed:
            raise ProcessKilled(f"{self._actor_ref} was killed and may not call the runtime any more")


def _as_signal(tag: Any, outcome: Outcome) -> ChildStarted | ChildIgnored | ChildStartFailed:
    match outcome:
        case Started(ref, info):
            return ChildStarted(tag, ref, info)
        case Ignored(ref):
            return ChildIgnored(tag, ref)
        case StartFailed(reason, failed):
            return ChildStartFailed(tag, failed, reason)
