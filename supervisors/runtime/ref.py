"""The handle of one incarnation of a process: send to it, ask it, stop it, learn how it ended.

The rule of this file: a ref outlives its process and never comes back to life. It holds what others need to know of a
process; the process's own state is only reachable through the mailbox, which lets go of it at death.

Source: Erlang's pid; `pykka.ActorRef` for the interface.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast, overload

import pykka
from pykka import messages

from supervisors.errors import BadSpec, ForeignProcess, MailboxFull, ProcessDown
from supervisors.reasons import NOPROC, NORMAL, Reason, shown
from supervisors.runtime.future import Future
from supervisors.runtime.limit import MailboxLoad
from supervisors.runtime.running import (
    check_callback,
    fenced,
    guard,
    label_of,
    run_exit_callback,
    running,
)
from supervisors.runtime.signals import ALIVE, ExitNotice, From, Signal, StopRequest, Terminate
from supervisors.runtime.ties import Ties, accept, unwatch, watch

if TYPE_CHECKING:
    from supervisors.runtime.dispatch import Dispatcher
    from supervisors.runtime.future import Wait
    from supervisors.runtime.mailbox import Mailbox
    from supervisors.runtime.signals import Starter
    from supervisors.runtime.system import System

__all__ = ["Ref", "Stopped", "a_ref", "exit"]

A = TypeVar("A", bound=pykka.Actor)

_DEAD: Final = "process is dead"
_MANY: Final = 10_000  # leftover messages that are disposed of at once; more would delay the killer


class Ref(pykka.ActorRef[A]):
    """A process, as others see it. Equality is identity.

    Thread: any thread may call anything.
    """

    __slots__ = (
        "actor_class",
        "actor_inbox",
        "buried",
        "heir",
        "holdings",
        "killed",
        "label",
        "linked",
        "name",
        "number",
        "parent",
        "reason",
        "starter",
        "system",
        "ties",
        "waiting",
    )

    actor_inbox: Mailbox  # type: ignore[assignment]

    def __init__(self, actor_class: type[A], inbox: Any, system: System) -> None:
        self.actor_class: type[A] = actor_class
        self.actor_inbox = inbox
        self.system: System = system
        self.number: int = system.next_number()
        self.name: Hashable = None
        self.label: str | None = None  # the last one, of a process that did not end cleanly
        self.parent: Ref[Any] | None = None
        self.linked: bool = False
        self.killed: bool = False
        self.buried: bool = False
        self.heir: Callable[[object], object] | None = None
        self.holdings: list[Callable[[Ref[Any]], object]] | None = None
        self.reason: Reason = ALIVE
        self.starter: Starter | None = None
        self.ties: Ties | None = None
        self.waiting: Wait | None = None

    def __str__(self) -> str:
        name = "" if self.name is None else f" {shown(self.name)}"
        owner = self.actor_inbox.owner
        label = self.label if owner is None else label_of(owner)
        return f"{self.actor_class.__name__}#{self.number}{name}" + (f" ({label})" if label else "")

    def __repr__(self) -> str:
        return f"<ActorRef {self}>"

    @property
    def actor_urn(self) -> str:  # type: ignore[override]
        """Pykka's id of the process, unique in its system; not random, so that runs can be repeated."""
        return f"#{self.number}"

    @property
    def actor_stopped(self) -> Stopped:  # type: ignore[override]
        """Pykka's stop flag, which can be asked and waited for."""
        return Stopped(self)

    @property
    def dispatcher(self) -> Dispatcher:
        """The dispatcher that runs the process."""
        return cast("Dispatcher", self.actor_inbox.dispatcher)

    @property
    def exit_reason(self) -> Reason:
        """Why the process ended; None while it has not."""
        return None if self.reason is ALIVE else self.reason

    def is_alive(self) -> bool:
        """Whether the process still takes messages."""
        return not self.actor_inbox.closed

    def tell(self, message: Any) -> None:
        """Send without waiting.

        Raises: `ProcessDown` if the process is dead (`ForeignProcess` in a forked child), `MailboxFull`.
        """
        if fenced:
            guard()
        box = self.actor_inbox
        if box.closed:
            raise self._down()
        if box.limit is not None and not box.limit.admit(self, message):
            return
        if not box.put(message):
            self.drain()

    def send(self, message: Any) -> bool:
        """Send, and never raise for the receiver's state: what cannot be delivered becomes a dead letter (False)."""
        try:
            self.tell(message)
        except (ProcessDown, MailboxFull) as exc:
            self.refuse(message, type(exc).__name__, exc)
            return False
        return True

    @overload
    def ask(self, message: Any, *, block: Literal[False], timeout: float | None = None) -> Future[Any]: ...

    @overload
    def ask(self, message: Any, *, block: Literal[True], timeout: float | None = None) -> Any: ...

    @overload
    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any: ...

    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any:
        """Send and wait for the answer, or with `block=False` get a `Future` of it.

        Units: seconds. Raises: what the handler raised; `ProcessDown` with the reason as soon as the process
        dies; `pykka.Timeout`, after which a late answer is dropped; `MailboxFull`; `CallingSelf`; `Deadlock`;
        `WouldBlock` on an event loop.
        """
        if fenced:
            guard()
        box = self.actor_inbox
        future: Future[Any] = Future(self, box.dispatcher)
        if box.closed:
            future.fail(self._down())
        else:
            request = From(message, future)
            if (box.limit is None or box.limit.admit(self, request)) and not box.put(request):
                self.drain()
        return future.get(timeout=timeout) if block else future

    async def aask(self, message: Any, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        """`ask`, for a coroutine: the event loop goes on while the answer is awaited.

        Units: seconds. Raises: as `ask`. Cancelling it leaves the request where it is, and drops the answer.
        """
        answer = self.ask(message, block=False)
        scope = asyncio.timeout(timeout)
        try:
            async with scope:
                return await answer
        except TimeoutError:
            if scope.expired():
                raise pykka.Timeout(f"{timeout} seconds") from None
            raise  # the handler's own

    @overload
    def stop(
        self, *, block: Literal[True] = True, timeout: float | None = None, reason: Reason = NORMAL
    ) -> bool: ...

    @overload
    def stop(
        self, *, block: Literal[False], timeout: float | None = None, reason: Reason = NORMAL
    ) -> Future[bool]: ...

    @overload
    def stop(
        self, *, block: bool = True, timeout: float | None = None, reason: Reason = NORMAL
    ) -> bool | Future[bool]: ...

    def stop(
        self, *, block: bool = True, timeout: float | None = None, reason: Reason = NORMAL
    ) -> bool | Future[bool]:
        """End the process with `reason` once it has handled what it already has.

        Waits, and returns True when it is dead and its name free, or False if it was dead already; with
        `block=False` returns a `Future` of that. Units: seconds. Raises: `pykka.Timeout`; the process still
        stops later.
        """
        guard()
        stopped: Future[bool] = Future(self, self.dispatcher)
        if self.actor_inbox.closed and self.reason is not ALIVE:
            stopped.set(False)
        else:
            self.add_exit_callback(lambda _: stopped.set(True))
            self._ask_to_end(StopRequest(reason), control=False)
        return bool(stopped.get(timeout=timeout)) if block else stopped

    def load(self) -> MailboxLoad:
        """How many messages wait, and for how long. Thread: any; it looks at the mailbox and asks nobody."""
        box = self.actor_inbox
        limit = box.limit
        age = limit.age() if limit is not None else None if len(box) else 0.0
        return MailboxLoad(len(box), box.high_water, age)

    def add_exit_callback(self, callback: Callable[[Reason], object]) -> None:
        """Call `callback(reason)` when the process has died, after its links and monitors were told.

        Thread: the one it dies on, or, if it is dead already, the calling one, at once. It must not block.
        """
        check_callback(callback)
        if not watch(self, callback):
            run_exit_callback(callback, self.reason)

    def remove_exit_callback(self, callback: Callable[[Reason], object]) -> None:
        """Take back `add_exit_callback`, once; nothing happens if it was called already."""
        unwatch(self, callback)

    def hold(self, give_up: Callable[[Ref[Any]], object]) -> bool:
        """Call `give_up(ref)` when the process dies, before anyone hears of it. False: it is too late.

        Thread: the one the process dies on. It must not block.
        """
        with self.system.lock:
            if self.buried:
                return False
            if self.holdings is None:
                self.holdings = []
            self.holdings.append(give_up)
            return True

    def inform(self, item: Any) -> None:
        """Append a signal, or a message that no limit stops, to the user lane; the dead drop signals."""
        if not self.actor_inbox.put(item):
            self.drain()

    def signal(self, item: Signal) -> None:
        """Append a signal to the control lane, which overtakes messages; the dead drop it."""
        if not self.actor_inbox.put_control(item):
            self.drain()

    def terminate(self, reason: Reason) -> None:
        """Shut down, for the parent or the system, after the current handler (see `drain_on_shutdown`)."""
        owner = self.actor_inbox.owner
        if owner is None:
            return
        owner._actor_ask_to_stop(reason)  # noqa: SLF001
        if owner.drain_on_shutdown:
            self._ask_to_end(StopRequest(reason), control=False)
        else:
            self._ask_to_end(Terminate(reason), control=True)

    def receive_exit(self, notice: ExitNotice) -> None:
        """Take an exit signal: a message if the process traps exits, nothing if `NORMAL`, else the end.

        From the parent, or for a process without one from outside any process, it is a shutdown.
        """
        owner = self.actor_inbox.owner
        if owner is None:
            return
        if notice.sender is self.parent and notice.link is None and not notice.child:
            if owner.trap_exit or notice.reason is not NORMAL:
                self.terminate(notice.reason)
        elif owner.trap_exit:
            self.inform(notice)
        elif notice.reason is not NORMAL or notice.sender is self:
            owner._actor_ask_to_stop(notice.reason)  # noqa: SLF001
            self.signal(notice)
        else:
            accept(self, notice)  # ignored, but the link is gone

    def kill(self) -> None:
        """End the process now, on this thread, whatever it is doing. See `Process` for what that can and cannot do."""
        owner = self.actor_inbox.owner
        if owner is not None:
            owner._actor_kill()  # noqa: SLF001

    def stay_behind(self) -> None:
        """In a forked child: mark the process as dead and do nothing else, for it lives on in the parent."""
        self.actor_inbox.closed = self.actor_inbox.drained = self.buried = True
        self.reason = NOPROC

    def drain(self, reason: Reason = NOPROC) -> None:
        """Dispose of everything still queued at a dead process; if there is much, on another thread."""
        box = self.actor_inbox
        if len(box) <= _MANY:
            for item in box.drain():
                self._bury(item, reason)
            return
        box.drained = True
        if not box.emptying:  # else the thread that does it will see the item, which was put before we looked
            box.emptying = True
            self.system.apart(lambda: self._empty(reason))

    def refuse(self, item: object, why: str, exc: BaseException | None) -> None:
        """Dispose of one undeliverable item: a request fails, a message becomes a dead letter, a signal is dropped."""
        if isinstance(item, From):
            item.settle_exception(ProcessDown(NOPROC, self) if exc is None else exc)
        elif not isinstance(item, Signal | messages._ActorStop):  # noqa: SLF001
            process = running.process
            self.system.dead_letters.add(item, self, None if process is None else process.ref, why)

    def _down(self) -> ProcessDown:
        return ForeignProcess(self) if self.system.foreign else ProcessDown(NOPROC, self)

    def _empty(self, reason: Reason) -> None:
        box = self.actor_inbox
        for request in box.requests() if self.heir is None else ():  # somebody waits for these
            request.settle_exception(ProcessDown(reason, self))
        while box.emptying:
            for item in box.leftovers():
                self._bury(item, reason)
            box.emptying = False
            if len(box):  # put just after the last look
                box.emptying = True

    def _bury(self, item: object, reason: Reason) -> None:
        if self.heir is not None and (isinstance(item, From) or not isinstance(item, Signal)):
            self.heir(item)
        elif not isinstance(item, From):
            self.refuse(item, _DEAD, None)
        elif not item.done:
            item.settle_exception(ProcessDown(reason, self))

    def _ask_to_end(self, item: Signal, *, control: bool) -> None:
        box = self.actor_inbox
        owner = box.owner
        if owner is not None and owner._actor_ends_quietly:  # noqa: SLF001
            delivered = box.put_quiet(item, control=control)
        else:
            delivered = box.put_control(item) if control else box.put(item)
        if not delivered:
            self.drain()

    def _actor_weakref(self) -> A | None:  # type: ignore[override]
        # Pykka's proxies look at the actor through this. The mailbox holds it exactly as long as it lives.
        return cast("A | None", self.actor_inbox.owner)


class Stopped:
    """Pykka's `actor_stopped`, made when somebody asks for it: processes need not carry an event each."""

    __slots__ = ("_ref",)

    def __init__(self, ref: Ref[Any]) -> None:
        self._ref = ref

    def is_set(self) -> bool:
        """Whether the process takes no messages any more."""
        return not self._ref.is_alive()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is dead and its links and monitors were told. Units: seconds. False: it timed out."""
        stopped: Future[bool] = Future(self._ref, self._ref.dispatcher)

        def tell(_reason: Reason) -> None:
            stopped.set(True)

        self._ref.add_exit_callback(tell)
        try:
            return bool(stopped.get(timeout=timeout))
        except pykka.Timeout:
            return False
        finally:  # repeated waits leave nothing behind
            self._ref.remove_exit_callback(tell)


def exit(ref: Ref[Any], reason: Reason | Literal["kill"]) -> None:
    """Send an exit signal, from the calling process if there is one.

    `"kill"` cannot be trapped or delayed: the process is dead, with reason `KILLED`, when this returns. The
    kill is *logical*: a Python thread cannot be killed, so a handler that was running goes on, fenced off,
    until it returns or makes its next call into the runtime. `NORMAL` is ignored by a process that does not
    trap exits, unless it is its own sender. From the parent (for a process without a parent: from outside any
    process) the signal is a shutdown.

    Thread: any. Raises: `ProcessKilled` in a killed handler, or if the caller killed itself; `BadSpec` if it is no ref.
    """
    guard()
    a_ref(ref)
    if reason == "kill":
        ref.kill()
        return
    process = running.process
    ref.receive_exit(ExitNotice(None if process is None else process.ref, reason))


def a_ref(ref: object) -> None:
    """Refuse what is no ref of a process.

    Raises: `BadSpec("invalid_ref")`.
    """
    if not isinstance(ref, Ref):
        kind = type(ref).__name__
        raise BadSpec(
            "invalid_ref", kind, f"expected a ref, not a {kind}; `whereis(name)` returns the ref of a name"
        )
