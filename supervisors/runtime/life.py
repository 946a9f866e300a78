"""The life of a process: one way to begin, one turn per message, one way to die.

The rule of this file: whatever ends a process, a return value, an exception, an exit signal, a failed start or a kill,
goes through `_actor_end` or `_actor_kill` into `_actor_bury`, and nothing else ends one. Nothing here raises into the
dispatcher. Names begin with `_actor_`, as Pykka's do, to leave the others to subclasses.

The death sequence: (1) close the mailbox; (2) `terminate`, unless killed or never started; (3) fail what was asked;
(4) cancel timers, free the name; (5) record the reason, tell links, monitors, observers and the starter; (6) give the
thread back. So whoever hears of the death can use the name at once.

Source: Erlang/OTP `gen_server:terminate`, `proc_lib:init_ack`; `pykka.Actor`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Event
from typing import Any, ClassVar

import pykka
from pykka import messages

from supervisors.errors import AlreadyStarted, ProcessDown, ProcessKilled, ReplyError, SupervisorError
from supervisors.reasons import KILLED, NORMAL, Crash, Exit, Reason, is_clean
from supervisors.runtime.death import UNSETTLED, abandon, claim, conclude, condemn, release, tell_starter
from supervisors.runtime.hooks import DEFER_START, check_attributes
from supervisors.runtime.limit import Limit, check_mailbox
from supervisors.runtime.log import log
from supervisors.runtime.mailbox import Mailbox
from supervisors.runtime.owed import Owed
from supervisors.runtime.pykka_base import PykkaBase
from supervisors.runtime.ref import Ref
from supervisors.runtime.running import contained, label_of, put_off, running, uninterrupted
from supervisors.runtime.signals import (
    ALIVE,
    IGNORE,
    NO_REPLY,
    OK,
    Down,
    DownNotice,
    ExitMsg,
    ExitNotice,
    From,
    Ignored,
    Letter,
    Outcome,
    Started,
    StartFailed,
    Stop,
    StopRequest,
    Terminate,
)
from supervisors.runtime.stash import Stash
from supervisors.runtime.system import System
from supervisors.runtime.ties import accept
from supervisors.runtime.timers import TimerRef
from supervisors.runtime.watchdog import Watch

__all__ = ["Life"]


class Life(PykkaBase):
    """How every process starts, takes its turns and dies. What its handlers may call is in `Process`."""

    # Whether start and shutdown run no code of the user's; then no other thread has to be woken for them.
    _actor_begins_quietly: ClassVar[bool] = True
    _actor_ends_quietly: bool = True
    _actor_hands_on: ClassVar[bool] = True  # an answer that is left for later may come from anybody

    # An idle process carries only what it has used: these are defaults of the class, not of each instance.
    _actor_request: From | None = None
    _actor_owed: Owed | None = None
    _actor_timers: dict[TimerRef, None] | None = None
    _actor_continues: deque[Any] | None = None
    _actor_stash: Stash | None = None
    _actor_kill_callbacks: dict[Callable[[], object], None] | None = None
    _actor_stop_reason: Reason = ALIVE
    _actor_stop_event: Event | None = None
    _actor_verdict: Outcome | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_attributes(cls)
        cls._actor_begins_quietly = _inherits(cls, "init", "on_start", "_actor_init")
        cls._actor_ends_quietly = _inherits(
            cls, "handle_shutdown", "terminate", "on_stop", "on_failure", "finish", "handle_system"
        )

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        box, system = Mailbox(), System.current()
        check_mailbox(self.mailbox)
        if self.mailbox.maxlen is not None or self.mailbox.ages:
            box.limit = Limit(self.mailbox, system.clock)
        self._actor_ref = self.ref_type(type(self), box, system)
        # It does not run before its start, but it may make a proxy of itself, and be told to end.
        box.owner = self

    # --- start --------------------------------------------------------------------------------------------------------

    def _actor_begin(self) -> None:
        ref = self._actor_ref
        try:
            if ref.name is not None and not ref.system.names.register(ref.name, ref):
                self._actor_taken(ref)
                return
            if ref.buried:
                # Killed just now, by another thread, which may have freed the name before it was registered.
                if ref.name is not None:
                    ref.system.names.unregister(ref.name, ref)
                return
            result = self._actor_init()
            self._actor_has_no_message()
            self._actor_begun(result)
            if self._actor_continues:
                self._actor_run_continues()
        except BaseException as exc:  # noqa: BLE001 - whatever a handler raises ends its process, and only that
            self._actor_failed(exc, None)
            self._actor_catch_up()

    def _actor_init(self) -> object:
        return self.init()

    def _actor_taken(self, ref: Ref[Any]) -> None:
        owner = ref.system.names.owner(ref.name)
        self._actor_end(AlreadyStarted(owner))

    def _actor_begun(self, result: object) -> None:
        if result is None:
            self._actor_started(None)
        elif result is DEFER_START:
            self._actor_ref.actor_inbox.hold()
        elif result is IGNORE:
            self._actor_ignored()
        elif isinstance(result, tuple) and len(result) == 2 and result[0] is OK:
            self._actor_started(result[1])
        else:
            self._actor_end(("bad_return_value", result))

    def _actor_started(self, info: Any) -> None:
        ref = self._actor_ref
        with ref.system.lock:
            if ref.buried:
                return  # whoever buries it tells the starter
            starter, ref.starter = ref.starter, None
            ref.linked = ref.parent is not None
        if not ref.actor_inbox.release():
            ref.drain(KILLED)
        if starter is not None:
            starter(Started(ref, info))

    def _actor_ignored(self) -> None:
        self._actor_verdict = Ignored(self._actor_ref)
        self._actor_end(NORMAL)

    # --- turns --------------------------------------------------------------------------------------------------------

    def _actor_passes(self, item: object) -> bool:
        # While the start is deferred, only exits and DOWNs are handled.
        return type(item) is ExitNotice or type(item) is DownNotice

    def _actor_on_control(self, signal: object) -> None:
        try:
            if type(signal) is Terminate:
                self.handle_shutdown(signal.reason)
            elif type(signal) is ExitNotice:
                if accept(self._actor_ref, signal):
                    self._actor_end(signal.reason)
            else:
                self.handle_system(signal)
            self._actor_has_no_message()
            if self._actor_continues:
                self._actor_run_continues()
        except BaseException as exc:  # noqa: BLE001 - as in _actor_begin
            self._actor_failed(exc, None)
            self._actor_catch_up()

    def _actor_on_user(self, item: Any) -> None:
        request: From | None = None
        try:
            if type(item) is From:
                # First the request is published, then `closed` is read: a killer closes, then looks for it.
                self._actor_request = request = item
                if self._actor_ref.actor_inbox.closed:
                    request.settle_exception(ProcessDown(KILLED, self._actor_ref))
                    return
                item = item.message
            internal = _INTERNAL.get(type(item))
            answer = self.on_receive(item) if internal is None else internal(self, item)
            stash = self._actor_stash
            if stash is not None and stash.wanted:
                stash.keep(self._actor_ref, item if request is None else request)
                self._actor_request = None
                if type(answer) is Stop:
                    self._actor_end(answer.reason)
            elif request is not None:
                self._actor_answer(request, answer)
                self._actor_request = None
            elif type(answer) is Stop:
                self._actor_end(answer.reason)
            if self._actor_continues:
                self._actor_run_continues()
        except BaseException as exc:  # noqa: BLE001 - as in _actor_begin
            self._actor_failed(exc, request)
            self._actor_catch_up()

    def _actor_answer(self, request: From, answer: Any) -> None:
        if answer is NO_REPLY:
            if self._actor_owed is None:
                self._actor_owed = Owed()
            request.future.handed_on = self._actor_hands_on and self._actor_ref.waiting is None
            request.keep_in(self._actor_owed)
            if self._actor_ref.actor_inbox.drained:
                request.settle_exception(ProcessDown(KILLED, self._actor_ref))
        elif type(answer) is Stop:
            self._actor_end(answer.reason, lambda: request.settle(answer.reply))
        else:
            request.settle(answer)

    def _actor_run_continues(self) -> None:
        while self._actor_continues and not self._actor_ref.actor_inbox.closed:
            answer = self.handle_continue(self._actor_continues.popleft())
            self._actor_has_no_message()
            if type(answer) is Stop:
                self._actor_end(answer.reason)

    def _actor_catch_up(self) -> None:
        # After a refusal the process lives on: its continuations still come before any other message.
        while self._actor_continues and not self._actor_ref.actor_inbox.closed:
            try:
                self._actor_run_continues()
            except BaseException as exc:  # noqa: BLE001 - as in _actor_begin
                self._actor_failed(exc, None)

    def _actor_has_no_message(self) -> None:
        # What just ran handled no message. If it called `stash`, that would put aside the next message.
        if self._actor_stash is not None and self._actor_stash.wanted:
            raise SupervisorError(
                f"{self._actor_ref} can stash only a message that it handles, and it was handling none"
            )

    def _actor_on_exit(self, notice: ExitNotice) -> Any:
        if not accept(self._actor_ref, notice):
            return None
        return self.handle_exit(ExitMsg(notice.sender, notice.reason))

    def _actor_on_down(self, notice: DownNotice) -> Any:
        if not notice.mref.active:
            return None
        notice.mref.active = False
        return self.handle_down(Down(notice.mref, notice.mref.target, notice.reason))

    def _actor_on_letter(self, letter: Letter) -> Any:
        if not letter.active:
            return None
        letter.active = False
        return self.on_receive(letter.message)

    def _actor_on_stop(self, request: StopRequest) -> None:
        self.handle_shutdown(request.reason)

    def _actor_on_pykka_stop(self, _message: Any) -> None:
        self.handle_shutdown(NORMAL)

    # --- death --------------------------------------------------------------------------------------------------------

    def handle_shutdown(self, reason: Reason) -> None:
        """The parent, the system or `ref.stop()` wants the process to end: call `finish(reason)` in time."""
        self.finish(reason)

    def finish(self, reason: Reason) -> None:
        """End now, through the death sequence. The handler should then return. Thread: the process's own."""
        self._actor_end(reason)

    def _actor_failed(self, exc: BaseException, request: From | None) -> None:
        put_off(exc)  # Ctrl-C in a turn on the main thread: the process ends, and it is raised again later
        if self._actor_ref.killed:
            return  # a zombie: it was buried long ago
        if self._actor_stash is not None:
            self._actor_stash.wanted = False
        if isinstance(exc, Exit):
            self._actor_end(exc.reason)
        elif isinstance(exc, (ReplyError, *self.reply_errors)) and self._actor_ref.starter is None:
            self._actor_refused(exc, request)
        else:
            crash = Crash.of(exc)
            told = exc if isinstance(exc, Exception) else ProcessDown(crash, self._actor_ref)
            self._actor_end(crash, None if request is None else lambda: request.settle_exception(told))

    def _actor_refused(self, exc: BaseException, request: From | None) -> None:
        self._actor_request = None
        if request is not None:
            request.settle_exception(exc)
            log.info("Exception returned from %s to caller:", self._actor_ref, exc_info=exc)  # Pykka's words
        else:
            log.info("%s refused a message whose sender does not wait for an answer: %r", self, exc)

    def _actor_end(self, reason: Reason, farewell: Callable[[], object] | None = None) -> None:
        ref = self._actor_ref
        with ref.system.lock:
            if ref.actor_inbox.closed:
                return
            ref.actor_inbox.closed = True
        if ref.starter is None:
            self._actor_clean_up(reason)
        if claim(ref):  # else a killer buries it, and says what it ended with
            self._actor_bury(reason, farewell)

    def _actor_clean_up(self, reason: Reason) -> None:
        try:
            self.terminate(reason)
        except ProcessKilled:
            pass  # killed while it cleaned up
        except BaseException:  # noqa: BLE001 - the process is ending as it is, and for its own reason
            log.exception("Unhandled exception in %s:", self._actor_ref)

    def _actor_bury(self, reason: Reason, farewell: Callable[[], object] | None = None) -> None:
        ref = self._actor_ref
        with uninterrupted:
            contained(UNSETTLED, self._actor_settle, reason, farewell)
            release(ref)
            conclude(ref, reason, self._actor_verdict)

    def _actor_settle(self, reason: Reason, farewell: Callable[[], object] | None) -> None:
        ref = self._actor_ref
        if not is_clean(reason):
            ref.label = label_of(self)
        if farewell is not None:
            farewell()
        self._actor_kill_callbacks = None  # they may refer to what refers to them: no garbage cycles
        self._actor_fail_requests(reason)
        for timer in list(self._actor_timers or ()):
            timer.cancel()
        if self.register_in_pykka:
            pykka.ActorRegistry.unregister(ref)

    def _actor_fail_requests(self, reason: Reason) -> None:
        ref = self._actor_ref
        request = self._actor_request
        if request is not None:
            request.settle_exception(ProcessDown(reason, ref))
        ref.drain(reason)
        if self._actor_stash is not None:
            self._actor_stash.bury(ref, reason)
        if self._actor_owed is not None:
            self._actor_owed.fail(lambda: ProcessDown(reason, ref))

    # --- kill ---------------------------------------------------------------------------------------------------------

    def _actor_kill(self) -> None:
        ref = self._actor_ref
        if not condemn(ref):
            return
        self._actor_ask_to_stop(KILLED)
        itself = running.process is self
        with uninterrupted:
            for callback in list(self._actor_kill_callbacks or ()):
                contained("an on_kill callback failed", callback)
            zombie = None if itself else abandon(ref)
            self._actor_bury(KILLED)
            if zombie is not None:
                ref.system.zombies.report(zombie)
        if itself:
            raise ProcessKilled(f"{ref} killed itself")

    def _actor_ask_to_stop(self, reason: Reason) -> None:
        # The reason first, then the event; `stopping` makes the event first and then looks for the reason.
        if self._actor_stop_reason is ALIVE:
            self._actor_stop_reason = reason
        if self._actor_stop_event is not None:
            self._actor_stop_event.set()

    def _actor_label(self) -> str | None:
        return None

    def _actor_forgets(self, child: Ref[Any], reason: Reason) -> bool:  # noqa: ARG002
        """Whether the end of this child needs no reaction, and so no signal. Thread: the one it died on."""
        return False

    # --- the beginning, as Pykka calls it -----------------------------------------------------------------------------

    def _start_actor_loop(self) -> None:
        ref = self._actor_ref
        box = ref.actor_inbox
        ref.system.add(ref)
        if ref.system.stopped:
            self._actor_kill()  # it was stopped just now: nobody would run us
        if ref.buried:
            self._actor_stillborn(ref)
            return
        try:
            self._actor_set_out(ref, box)
        except BaseException as failure:
            # No thread or file for its event loop, a mistake in its class, or Ctrl-C: the starter gets it.
            ref.starter = None
            self._actor_kill()
            if not isinstance(failure, Exception) and box.dispatcher is not None:
                box.dispatcher.again(box)
            raise

    def _actor_set_out(self, ref: Ref[Any], box: Mailbox) -> None:
        if self.register_in_pykka:
            pykka.ActorRegistry.register(ref)
        if self.max_handler_seconds is not None:
            self._actor_watch(self.max_handler_seconds)
        if self._actor_begins_quietly and not box.user:
            box.fresh = False
            with uninterrupted:
                self._actor_begin()
                box.wake()
            return
        dispatcher: Any = box.dispatcher
        dispatcher.prepare()
        dispatcher.schedule(box)

    def _actor_watch(self, limit: float) -> None:
        # On the instance, so that nobody else's turns become slower.
        watch = Watch(self._actor_ref, limit, kill=self.kill_overdue)
        for turn in ("_actor_begin", "_actor_on_control", "_actor_on_user"):
            setattr(self, turn, watch.over(getattr(self, turn)))

    def _actor_stillborn(self, ref: Ref[Any]) -> None:
        # Killed before there was a starter to tell.
        ref.system.remove(ref)
        tell_starter(ref, StartFailed(KILLED, ref))


_INTERNAL: dict[type, Callable[[Any, Any], Any]] = {
    ExitNotice: Life._actor_on_exit,  # noqa: SLF001
    DownNotice: Life._actor_on_down,  # noqa: SLF001
    Letter: Life._actor_on_letter,  # noqa: SLF001
    StopRequest: Life._actor_on_stop,  # noqa: SLF001
    messages._ActorStop: Life._actor_on_pykka_stop,  # noqa: SLF001
    messages.ProxyCall: pykka.Actor._handle_receive,  # noqa: SLF001
    messages.ProxyGetAttr: pykka.Actor._handle_receive,  # noqa: SLF001
    messages.ProxySetAttr: pykka.Actor._handle_receive,  # noqa: SLF001
}


def _inherits(cls: type[Life], *names: str) -> bool:
    return all(getattr(cls, name) is getattr(Life, name) for name in names)
