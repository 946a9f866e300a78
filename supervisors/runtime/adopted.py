"""Plain Pykka actors under supervision: with their own thread and registry entry, our start and our death.

The rule of this file: a class is changed only where its end, or the outcome of its start, would otherwise be
lost. It is derived from, not patched. Pykka's own rule stays: an exception in an `ask` goes to the caller and
does not end the actor, unless the class, or its child spec, says `crash_on_ask_error = True`.

Source: `pykka.Actor._actor_loop` (4.5).
"""

from __future__ import annotations

import inspect
import os
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

import pykka
from pykka import messages
from pykka._envelope import Envelope

from supervisors.errors import AlreadyStarted, ProcessDown, ProcessKilled, SupervisorError
from supervisors.reasons import KILLED, NORMAL, Crash, Reason
from supervisors.runtime.death import UNSETTLED, abandon, claim, conclude, condemn, release, tell_starter
from supervisors.runtime.dispatch import Dispatcher
from supervisors.runtime.future import Future
from supervisors.runtime.launch import calling_parent, start_and_wait
from supervisors.runtime.life import Life
from supervisors.runtime.mailbox import Mailbox
from supervisors.runtime.ref import Ref
from supervisors.runtime.running import Mortal, contained, running, uninterrupted
from supervisors.runtime.signals import (
    ALIVE,
    ExitNotice,
    From,
    Signal,
    Started,
    StartFailed,
    StopRequest,
    Terminate,
)
from supervisors.runtime.system import System
from supervisors.runtime.zombies import Zombie

__all__ = ["names_the_process", "supervised"]

A = TypeVar("A", bound=pykka.Actor)

# By the id of the plain class, which its derived class keeps alive. Weak: both can be freed when nobody uses them.
_derived: WeakValueDictionary[tuple[int, bool | None], type[pykka.Actor]] = WeakValueDictionary()
_deriving = threading.RLock()  # reentrant: `__init_subclass__` is the user's, and may derive another
_IDLE, _STARTING = object(), object()
# How to read signatures whose annotations name what only type checkers see (PEP 649).
_AS_TEXT: dict[str, Any] = {}
if sys.version_info >= (3, 14):
    from annotationlib import Format

    _AS_TEXT["annotation_format"] = Format.STRING
_OURS = ("ref", "start_link", "trap_exit", "drain_on_shutdown")


def supervised(cls: type[A], *, crash_on_ask_error: bool | None = None) -> type[A]:
    """A subclass of a plain `pykka.ThreadingActor` whose processes can be started, linked and restarted like any other.

    `crash_on_ask_error`: whether an exception raised by an `ask` also ends the actor; None: as the class
    says. A `Process` is returned as it is. Raises: `SupervisorError` for another kind of actor, and for a
    class that has a `ref`, `start_link`, `trap_exit` or `drain_on_shutdown` of its own.
    """
    if issubclass(cls, Life | _Adopted):
        return cls
    if not issubclass(cls, pykka.ThreadingActor):
        raise SupervisorError(f"{cls.__name__} is neither a Process nor a pykka.ThreadingActor")
    taken = [name for name in _OURS if hasattr(cls, name)]
    if taken:
        raise SupervisorError(
            f"{cls.__name__} has a {taken[0]!r} of its own, which supervision would hide: rename it"
        )
    with _deriving:
        key = id(cls), crash_on_ask_error
        derived = _derived.get(key)
        if derived is None:
            body: dict[str, object] = {
                "__module__": cls.__module__,
                "__qualname__": cls.__qualname__,
                "__doc__": cls.__doc__,
            }
            if crash_on_ask_error is not None:
                body["crash_on_ask_error"] = crash_on_ask_error
            derived = _derived[key] = types.new_class(
                cls.__name__, (_Adopted, cls), exec_body=lambda ns: ns.update(body)
            )
        return cast("type[A]", derived)


def _in_a_fork() -> None:
    # A thread that does not exist here may have held it.
    global _deriving  # noqa: PLW0603 - there is one for all classes
    _deriving = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_fork)


def names_the_process(cls: type[pykka.Actor]) -> bool:
    """Whether `name=` at a start names the process; no, if a plain actor's own constructor takes it."""
    if issubclass(cls, Life) or cls.__init__ is pykka.Actor.__init__:
        return True
    try:
        signature = inspect.signature(cls)
    except Exception:  # whatever an annotation raises; its text will do
        if not _AS_TEXT:
            raise
        signature = inspect.signature(cls, **_AS_TEXT)
    parameters = signature.parameters.values()
    return not any(each.name == "name" or each.kind is each.VAR_KEYWORD for each in parameters)


class _OwnThread(Dispatcher):
    """The dispatcher of an actor that runs itself."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self._zombie: Zombie | None = None
        self._over = False
        self._lock = threading.RLock()  # reentrant: a finalizer may run while it is held

    def schedule(self, box: Mailbox) -> None:
        """The actor's loop waits on its inbox by itself."""

    def abandon(self, box: Mailbox, zombie: Zombie) -> bool:
        """See `Dispatcher.abandon`: its thread has no other role."""
        with self._lock:
            if self.thread is None or self._over or cast("_Inbox", box).busy is _IDLE:
                return False
            self._zombie = zombie
            zombie.begin(self.thread)
            return True

    def leave(self) -> None:
        """The thread ends."""
        with self._lock:
            self._over = True
        if self._zombie is not None:
            self._zombie.end()

    def stop(self, timeout: float | None = None) -> list[Mailbox]:  # noqa: ARG002
        """The thread ends with the actor."""
        return []


class _Inbox:
    """Pykka's queue and our mailbox in one: whatever is put comes out of `get` as a Pykka envelope."""

    limit = None
    drained = False
    emptying = False

    def __init__(self) -> None:
        self._ready = threading.Condition()
        self._items: deque[Any] = deque()
        self.closed = False
        self.high_water = 0
        self.busy: Any = _STARTING  # a kill during `on_start` leaves a zombie, too
        self.owner: Mortal | None = None
        self.dispatcher = _OwnThread()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Any) -> bool:
        with self._ready:
            self._items.append(item)
            self.high_water = max(self.high_water, len(self._items))
            self._ready.notify()
            return not self.drained  # False: whoever put it drains again, and so disposes of it

    def put_control(self, signal: Any) -> bool:
        with self._ready:
            self._items.appendleft(signal)
            self._ready.notify()
            return not self.drained  # False: whoever put it drains again, and so disposes of it

    def put_back(self, items: Iterable[Any]) -> None:
        with self._ready:
            self._items.extendleft(reversed([*items]))
            self._ready.notify()

    def get(self) -> Envelope[Any]:
        self.busy = _IDLE
        with self._ready:
            while not self._items and not self.drained:
                self._ready.wait()
            if self.drained:
                return Envelope(messages._ActorStop())  # noqa: SLF001 - killed while idle
            item = self.busy = self._items.popleft()
        if isinstance(item, From):
            return Envelope(item.message, reply_to=item.future)
        return Envelope(item)

    def empty(self) -> bool:
        return True  # Pykka's own teardown has nothing to do: `drain` answers what is left

    def is_set(self) -> bool:
        return self.closed

    def requests(self) -> list[From]:
        with self._ready:
            return [item for item in self._items if isinstance(item, From)]

    def leftovers(self) -> list[Any]:
        return self.drain()

    def drain(self) -> list[Any]:
        with self._ready:
            self.drained = True
            rest = list(self._items)
            self._items.clear()
            self._ready.notify()
        return rest


class _Adopted(pykka.ThreadingActor):
    use_daemon_thread = True
    trap_exit = False
    drain_on_shutdown = False
    _actor_ends_quietly = False
    _actor_reason: Reason = ALIVE
    _actor_made: Ref[Any]

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> Any:
        name = kwargs.pop("name", None) if names_the_process(cls) else None
        return start_and_wait(cls, args, kwargs, name=name)

    @classmethod
    def start_link(cls, *args: Any, **kwargs: Any) -> Any:
        name = kwargs.pop("name", None) if names_the_process(cls) else None
        return start_and_wait(cls, args, kwargs, parent=calling_parent(), name=name)

    @property
    def _actor_ref(self) -> Ref[Any]:
        return self._actor_made

    @_actor_ref.setter
    def _actor_ref(self, _stock: object) -> None:
        # Pykka's constructor sets a ref of its own kind; ours takes its place from the first moment on.
        self._actor_box.owner = self
        self._actor_made = Ref(type(self), self._actor_box, System.current())

    @property
    def ref(self) -> Ref[Any]:
        return self._actor_made

    @ref.setter
    def ref(self, _value: object) -> None:
        raise SupervisorError(
            f"{type(self).__name__} sets self.ref, which supervision uses to identify it; rename yours"
        )

    def _actor_label(self) -> str | None:
        return None

    @property
    def _actor_box(self) -> _Inbox:
        return cast("_Inbox", self.actor_inbox)

    @staticmethod
    def _create_actor_inbox() -> Any:
        return _Inbox()

    @staticmethod
    def _create_future() -> Future[Any]:
        return Future()

    def _start_actor_loop(self) -> None:
        self._actor_ref.system.add(self._actor_ref)
        pykka.ActorRegistry.register(self._actor_ref)
        super()._start_actor_loop()

    # --- the loop, with its end seen ----------------------------------------------------------------------------------

    def _actor_loop(self) -> None:
        ref = self._actor_ref
        own = cast("_OwnThread", ref.dispatcher)
        own.thread = threading.current_thread()
        running.process = self
        try:
            self._actor_claim_name()
            if ref.buried:
                self._actor_stillborn()
            elif self._actor_box.closed:
                pykka.ActorRegistry.unregister(ref)
            else:
                super()._actor_loop()
        finally:
            self._actor_close(NORMAL)
            if claim(ref):
                self._actor_bury(self._actor_reason)
            running.process = None
            own.leave()

    def _actor_claim_name(self) -> None:
        ref = self._actor_ref
        try:
            if ref.name is not None and not ref.system.names.register(ref.name, ref):
                self._actor_close(AlreadyStarted(ref.system.names.owner(ref.name)))
        except BaseException as exc:  # noqa: BLE001 - the registry may be the user's, and wait until this is killed
            self._actor_close(Crash.of(exc))

    def _actor_stillborn(self) -> None:
        # Killed before there was a starter to tell, or while the name was claimed: its burial may have come too early.
        ref = self._actor_ref
        if ref.name is not None:
            ref.system.names.unregister(ref.name, ref)
        pykka.ActorRegistry.unregister(ref)
        ref.system.remove(ref)
        tell_starter(ref, StartFailed(KILLED, ref))

    def _actor_loop_setup(self) -> None:
        ref = self._actor_ref
        try:
            super()._actor_loop_setup()
        except BaseException:  # noqa: BLE001 - such as `sys.exit`: only this one has failed
            self._handle_failure(*sys.exc_info())
        if self.actor_stopped.is_set():
            return
        with ref.system.lock:
            if ref.buried:
                return  # whoever buries it tells the starter
            starter, ref.starter = ref.starter, None
            ref.linked = ref.parent is not None
        if starter is not None:
            starter(Started(ref))

    def _handle_receive(self, message: Any) -> Any:
        # As in `Life`: first `busy` is written, then `killed` is read; a killer writes `killed`, then reads `busy`.
        if self._actor_ref.killed:
            return self._actor_turn_away()
        if isinstance(message, Signal):
            return self._actor_on_signal(message)
        try:
            return super()._handle_receive(message)
        except BaseException as exc:  # noqa: BLE001 - some of these would make Pykka stop every actor there is
            return self._actor_failed(exc)

    def _actor_failed(self, exc: BaseException) -> None:
        # What this raises is the answer.
        ref = self._actor_ref
        if ref.killed:
            return  # a zombie: it was buried long ago
        asked, fatal = isinstance(self._actor_box.busy, From), not isinstance(exc, Exception)
        if fatal or not asked or getattr(self, "crash_on_ask_error", False):
            self._handle_failure(type(exc), exc, exc.__traceback__)
            self._actor_clean_up(self.on_failure, type(exc), exc, exc.__traceback__)
        if asked and fatal:
            raise ProcessDown(Crash.of(exc), ref) from exc
        if asked:
            raise exc

    def _handle_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        if self._actor_reason is not ALIVE:
            # It is ending already, for another reason: nothing else would log this exception.
            super()._handle_failure(exception_type, exception_value, traceback)
            return
        self._actor_close(Crash.of(exception_value))
        pykka.ActorRegistry.unregister(self._actor_ref)
        self.actor_stopped.set()

    def _stop(self) -> None:
        self._actor_close(NORMAL)
        self.actor_stopped.set()
        if not self._actor_ref.killed:
            self._actor_clean_up(super()._stop)

    def _actor_clean_up(self, step: Callable[..., object], *args: object) -> None:
        try:
            step(*args)
        except ProcessKilled:
            pass  # killed while it cleaned up
        except BaseException:  # noqa: BLE001 - it is ending as it is, and for its own reason
            self._handle_failure(*sys.exc_info())

    # --- signals and the end ------------------------------------------------------------------------------------------

    def _actor_on_signal(self, signal: Signal) -> None:
        if isinstance(signal, Terminate | StopRequest | ExitNotice):
            self._actor_close(signal.reason)
            self._stop()

    def _actor_close(self, reason: Reason) -> None:
        with self._actor_ref.system.lock:
            self._actor_box.closed = True
            if self._actor_reason is ALIVE:
                self._actor_reason = reason

    def _actor_turn_away(self) -> None:
        # It was killed as its thread took this.
        ref, taken = self._actor_ref, self._actor_box.busy
        self._stop()
        if taken is not _IDLE:
            ref.refuse(taken, "process is dead", ProcessDown(KILLED, ref))

    def _actor_bury(self, reason: Reason) -> None:
        ref = self._actor_ref
        with uninterrupted:
            contained(UNSETTLED, self._actor_settle, reason)
            release(ref)
            conclude(ref, reason, None)

    def _actor_settle(self, reason: Reason) -> None:
        ref, busy = self._actor_ref, self._actor_box.busy
        if isinstance(busy, From):
            busy.settle_exception(ProcessDown(reason, ref))
        ref.drain(reason)

    def _actor_ask_to_stop(self, reason: Reason) -> None:
        """Does nothing: a plain actor has no way to check."""

    def _actor_forgets(self, child: Ref[Any], reason: Reason) -> bool:  # noqa: ARG002
        return False

    def _actor_kill(self) -> None:
        ref = self._actor_ref
        if not condemn(ref):
            return
        pykka.ActorRegistry.unregister(ref)
        with uninterrupted:
            zombie = None if running.process is self else abandon(ref)
            self._actor_bury(KILLED)
            if zombie is not None:
                ref.system.zombies.report(zombie)
