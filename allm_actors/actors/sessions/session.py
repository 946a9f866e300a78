"""SessionActor: owns one conversation.

Rule of this file: it decides nothing about the conversation (the tables in `allm_actors.execution` do) and never
blocks: models, tools and the store are other processes. One turn at a time; another turn waits, is refused,
or interrupts, as `when_busy` says. Whoever waits for a turn gets its end exactly once, even if this actor
dies.

Source: gen_server for the shape; the statuses and transitions are `execution.sessions`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec

from allm_actors.actors.log import log
from allm_actors.actors.protocol import (
    AlarmRang,
    Cancel,
    Demand,
    Forget,
    Fork,
    HandlerDone,
    HireAgain,
    ModelBatch,
    ModelRefused,
    Ready,
    Recover,
    ReplaceMessages,
    StoreAnswered,
    SubmitToolResults,
    ToolDone,
    WorkerLost,
)
from allm_actors.actors.store.actor import Delete, Load, Release
from allm_actors.actors.turns.alarms import Alarms
from allm_actors.actors.turns.crew import Crew, alarms_for
from allm_actors.actors.turns.ending import ending, unstored
from allm_actors.actors.turns.run import TurnRun
from allm_actors.actors.turns.spec import Begin, TurnSpec
from allm_actors.actors.turns.turn import check_thread
from allm_actors.data import (
    AllmError,
    Session,
    SessionBusy,
    SessionError,
    SessionStatusError,
    StoreError,
)
from allm_actors.data.rules.validate import are_whole
from allm_actors.execution import sessions
from allm_actors.execution.effects import Checkpoint
from supervisors import (
    DEFER_START,
    IGNORE,
    NO_REPLY,
    NORMAL,
    From,
    Process,
)
from supervisors.runtime.signals import Signal

from .changes import Changes
from .ledger import Ledger
from .setup import OpenTurns, SessionSetup

__all__ = ["SessionActor"]

_IDLE = 0  # the token of the idle timeout


class Loaded(Signal):
    """What the store `found` under the session's name (see `Load`), or why it could not say."""

    __slots__ = ("error", "found")

    def __init__(self, found: Any, error: BaseException | None) -> None:
        self.found, self.error = found, error


class SessionActor(Process):
    """One conversation, running or idle. Thread: the I/O loop's; it never blocks."""

    restart = "transient"
    shutdown = 5.0
    dispatcher = "io"
    reply_errors = (AllmError,)

    def __init__(self, setup: SessionSetup) -> None:
        super().__init__()
        self._setup = setup
        self._tokens = count(1)  # of the jobs of all its turns: what comes of an earlier one is stale
        self._idle: Alarms | None = None  # for the idle timeout, if there is one
        self._ledger = Ledger(setup.cell, setup.ports, self.ref)
        self._changes = Changes(self._ledger)
        self._run: TurnRun | None = None
        self._beginning = False  # the running turn's message is being stored, and may be rolled back
        self._queue: tuple[TurnSpec, ...] = ()
        self._outlets: OpenTurns | None = None
        self._closing: object = None
        self._forgetting: From | None = None
        self._leaving = False
        self._prompt_kept = False  # whether it was logged that a new system prompt is not taken

    # Read by `stats`, on any thread.

    @property
    def named(self) -> bool:
        """Whether it has a name; the session of a stateless call has none."""
        return self._setup.id is not None

    @property
    def turn(self) -> TurnRun | None:
        """The running turn, or None."""
        return self._run

    @property
    def waiting(self) -> int:
        """How many turns are queued."""
        return len(self._queue)

    def label(self) -> str | None:
        """The call, where it is the session of a stateless one."""
        first = self._setup.first
        return None if first is None else f"call {first.id}"

    # Life.

    def init(self) -> Any:
        """Take the name, then load what is stored under it."""
        if self._setup.first is not None:
            self._owe(self._setup.first)  # before the start is confirmed: now its end is certain
            self.continue_(None)
            return None
        assert self._setup.id is not None
        if not self._setup.ports.claim(self._setup.id, self.ref):
            return IGNORE  # another incarnation was quicker
        self.ref.add_exit_callback(self._release)
        self._setup.ports.ask_store(self._stored(), self._loaded)
        return DEFER_START

    def handle_continue(self, _arg: Any) -> None:
        """A stateless call is its only turn."""
        assert self._setup.first is not None
        if not self._start(self._setup.first):
            self._next()

    def handle_system(self, signal: Signal) -> None:
        """The store has answered."""
        match signal:
            case Loaded(error=None, found=found):
                self._ledger.revive(*found)
                self.start_succeeded()
                self._rest()
            case Loaded(error=error) if self.incarnation:
                # Not restarted again: too many restarts would end the supervisor and the other sessions with it. The
                # next caller starts it, and is told why that fails.
                log.error("a session was not restarted", session_id=self._setup.id, error=str(error))
                self.start_ignored()
            case Loaded(error=error):
                self.start_failed(error)
            case _:
                super().handle_system(signal)

    def handle_shutdown(self, reason: Any) -> None:
        """Interrupt what runs, refuse what waits, and die when the interruption is stored."""
        self._close(reason)

    def _close(self, reason: object) -> None:
        self._closing = reason
        for spec in self._queue:
            self._end(spec, reason)
        self._queue = ()
        self._in_use()
        if self._run is None:
            self._leave()
        else:
            self._run.cancel("interrupted")

    def _leave(self) -> None:
        """Nothing runs any more: exit when the pending save is done. A save that failed is tried once more.

        A session that is being deleted exits only when the deletion is done, because it holds the name.
        """
        if self._changes.under_way or self._leaving:
            return
        self._leaving = True
        if self._forgetting is not None and self._setup.id is not None:
            self._ledger.ask(Delete(self._setup.id), self._deleted)
        elif self._ledger.unsaved and not self._ledger.stale:
            self._ledger.save(lambda _error: self.finish(self._closing))
        else:
            self.finish(self._closing)

    def _deleted(self, _answer: Any, error: BaseException | None) -> None:
        assert self._forgetting is not None
        if error is None:
            self._setup.cell.value = Session(id=self._ledger.value.id)
            self._forgetting.reply(None)
        else:
            self._forgetting.fail(error)
        self.finish(self._closing)

    # Messages.

    def on_receive(self, message: Any) -> Any:
        """Handle requests of handles and reports of workers. Stale reports, of a turn that is over, are ignored."""
        run = self._run
        match message:
            case ToolDone(token, outcome) if run is not None:
                run.returned(token, outcome)
            case HandlerDone(token, error) if run is not None:
                run.handled(token, error)
            case StoreAnswered():
                self._store_answered(message)
            case ModelBatch() if run is not None:
                run.batch(message)
            case Demand() if run is not None:
                self._hurry(run)
                run.demand()
            case HireAgain(token) if run is not None:
                run.crew.hire_again(token)
            case ModelRefused(token, error) if run is not None:
                run.model_refused(token, error)
            case AlarmRang():
                self._rang(run)
            case WorkerLost(token, why, begun) if run is not None:
                run.died(token, why, begun=begun)
            case Cancel(turn_id):
                self._cancel(turn_id)
            case Begin() | SubmitToolResults() | Recover() | ReplaceMessages() | Fork() | Forget() | Ready():
                return self._asked_for(message)
            case _:
                pass
        return None

    def _rang(self, run: TurnRun | None) -> None:
        if run is not None:
            for token in run.crew.alarms.over():
                run.expired(token)
        elif self._idle is not None and self._idle.over() and not self._changes.under_way:
            self._doze()

    def _asked_for(self, message: Any) -> Any:
        if self._closing is not None:
            return NO_REPLY  # our death makes the caller ask our successor
        if self._changes.under_way:
            self.stash()  # the change that is being stored may be rolled back
            return None
        match message:
            case Begin(spec):
                self._admit(spec)
            case SubmitToolResults():
                return self._submit(self._asker("submit_tool_results"), message)
            case Recover():
                self._in_use()
                return self._changes.recover(self._asker("recover"))
            case ReplaceMessages(messages):
                asked = self._asker("replace_messages")
                message.begun = True
                answer = self._changes.replace_messages(asked, messages)
                self._prompt_kept = True  # whatever the prompt is now, it is meant
                self._in_use()
                return answer
            case Fork() if self._beginning:
                self.stash()
            case Fork(id):
                message.begun = True
                answer = self._changes.fork(self._asker(), id, self._will_save)
                self._in_use()
                return answer
            case Forget():
                self._forgetting = self._asker()
                self._close(NORMAL)
                return NO_REPLY
            case _:  # Ready: only whether we are loaded
                pass
        return None

    def _submit(self, asked: From, message: SubmitToolResults) -> Any:
        message.begun = True
        try:
            answer = self._changes.submit(asked, message.results)
        except (SessionError, SessionStatusError) as refusal:
            message.begun = False  # nothing was done: the request may go to our successor
            self._changes.doubt(refusal, asked.fail)
            return NO_REPLY
        self._in_use()
        return answer

    # Turns.

    def _admit(self, spec: TurnSpec) -> None:
        if spec.channel.accepted:
            return  # repeated by a caller who saw our predecessor die before it could answer
        if self._run is None and not self._queue:
            if not self._start(spec):
                self._next()
        elif spec.when_busy == "reject":
            spec.channel.end(
                error=SessionBusy("busy", message=f"session {self._setup.id!r} is busy with another turn")
            )
        elif len(self._queue) >= spec.queue_limit:
            text = (
                f"session {self._setup.id!r} has {spec.queue_limit} turns waiting; wait until some of them have "
                "ended"
            )
            spec.channel.end(error=SessionBusy("queue_full", message=text))
        else:
            self._queue += (spec,)
            self._accept(spec)
            if self._run is not None and spec.when_busy == "interrupt":
                self._run.cancel("cancelled")
            elif self._run is not None:
                self._hurry(self._run)
                self._run.advance()

    def _will_save(self) -> bool:
        """Whether a turn runs whose end is not stored yet."""
        run, outlets = self._run, self._outlets
        return run is not None and outlets is not None and run.spec.id not in outlets.settled

    def _hurry(self, run: TurnRun) -> None:
        # If a queued turn is being waited for, the running one must not wait for its reader: they may be one thread.
        if any(spec.channel.may_act() for spec in self._queue):
            run.spec.channel.hurry()

    def _start(self, spec: TurnSpec) -> bool:
        """Start a turn. True if it runs now, False if it is over already."""
        if not spec.channel.begin():
            self._end(spec, None)
            return False
        session, earlier = self._ledger.value, spec.earlier
        try:
            if spec.operation is not None:
                earlier = session.thread.messages
                spec.call_options["context"] = {
                    **session.context,
                    **(spec.call_options.get("context") or {}),
                }
                instructed = self._instructed(session, spec.system)
                session = sessions.begin(instructed, spec.operation, spec.messages)
                if not are_whole(list(spec.messages)):
                    check_thread(spec, session.thread, earlier)
            crew = Crew(self._setup.ports, self.ref, self._tokens)
            run = TurnRun(self, crew, spec, session.thread, earlier)
        except (SessionError, SessionStatusError) as refusal:
            self._owe(spec)
            self._changes.doubt(refusal, lambda error: self._refuse(spec, error))
            return False
        except (AllmError, ValueError) as error:
            self._refuse(spec, error)
            return False
        self._run = run
        self._setup.cell.inside.turn = spec.id
        self._in_use()
        self._owe(spec)
        if spec.operation is None:
            self._accept(spec)
            run.advance()
        else:
            unsaved, self._beginning = self._ledger.unsaved, True
            self._ledger.begin(session)
            self._ledger.save(lambda error: self._begun(run, error, unsaved=unsaved))
        return True

    def _instructed(self, session: Session, system: str | None) -> Session:
        """The session, with this system prompt if it has no messages yet."""
        if system is None:
            return session
        first = session.thread.messages[0] if session.thread.messages else None
        if first is None:
            return msgspec.structs.replace(session, thread=session.thread.add_system(system))
        if not self._prompt_kept and (first.role, first.content) != ("system", system):
            self._prompt_kept = True
            text = (
                "a conversation keeps the system prompt that it began with, and was given another one; "
                "replace_messages can change it"
            )
            log.warning(text, session_id=self._setup.id)
        return session

    def _begun(self, run: TurnRun, error: StoreError | None, *, unsaved: bool) -> None:
        """The user's message is stored: only now is the turn admitted. If it could not be, nothing has happened."""
        self._beginning = False
        self.unstash_all()
        if self._run is not run:
            return
        if error is None:
            self._accept(run.spec)
            self._hurry(run)
            run.stored()
            return
        run.abandon(error, "error")
        self._ledger.roll_back()
        self._ledger.unsaved = unsaved
        self._over(run)
        self._changes.tell(lambda: self._refuse(run.spec, error))
        self._next()

    def _refuse(self, spec: TurnSpec, error: Exception) -> None:
        spec.channel.end(error=error)
        self._forget(spec)

    def _accept(self, spec: TurnSpec) -> None:
        self._owe(spec)
        # Not the spec itself: that would make a reference cycle with its channel.
        ref, turn_id = self.ref, spec.id
        # `inform`: a killed process may still cancel the turn that it had open.
        spec.channel.accept(lambda: ref.send(Demand()), lambda: ref.inform(Cancel(turn_id)))

    def _owe(self, spec: TurnSpec) -> None:
        if self._outlets is None:
            self._outlets = OpenTurns(self._setup.cell)
            self.ref.add_exit_callback(self._outlets.abandon)
            self.ref.add_exit_callback(self._let_go)
        self._outlets.open[spec.id] = spec

    def _release(self, _reason: object) -> None:
        if self._setup.id is not None:
            self._setup.cell.release(self.ref.number)
            self._setup.ports.tell_store(Release(self._setup.id, self.ref.number))

    def _let_go(self, _reason: object) -> None:
        # Runs however we died, because a kill skips `terminate`. The thread is then the killer's.
        if self._run is not None:
            self._run.abandon()

    def _cancel(self, turn_id: str | None) -> None:
        if self._run is not None and turn_id in (None, self._run.spec.id):
            self._run.cancel("cancelled")
            return
        cancelled = [spec for spec in self._queue if spec.id == turn_id]
        self._queue = tuple(spec for spec in self._queue if spec.id != turn_id)
        for spec in cancelled:
            self._end(spec, None)

    def _end(self, spec: TurnSpec, reason: object) -> None:
        # A turn that never began results in the conversation as it was before the running turn.
        session = self._ledger.before
        result, last = ending(spec, session.thread, reason, session.pending_tool_calls)
        spec.channel.end(result, last=last)
        self._forget(spec)

    def _forget(self, spec: TurnSpec) -> None:
        if self._outlets is not None:
            self._outlets.forget(spec.id)

    def _over(self, run: TurnRun) -> None:
        self._run = None
        self._ledger.commit()
        inside = self._setup.cell.inside
        if inside.turn == run.spec.id:
            inside.turn = None  # a tool that still runs may wait for the session from now on

    def _next(self) -> None:
        """Nothing runs: begin the next queued turn, exit, or become idle."""
        if self._closing is not None:
            self._changes.told()
            self._leave()
            return
        if self._setup.id is None:
            self.exit()
        while not self._changes.under_way:
            if self._ledger.stale:
                # Requests wait for the reload, and are handled with what the store has.
                self._changes.under_way = True
                self._ledger.ask(self._stored(), self._reloaded)
            elif not self._queue:
                self._rest()
                return
            else:
                first, self._queue = self._queue[0], self._queue[1:]
                if self._start(first):
                    if self._run is not None and any(spec.when_busy == "interrupt" for spec in self._queue):
                        self._run.cancel("cancelled")  # a later turn came before this one could begin
                    return

    def _doze(self) -> None:
        """The idle timeout is over: exit, but only if the session is in the store, where its next user will find it."""
        if not self._ledger.unsaved:
            self.exit()
        self._changes.save()

    def _rest(self) -> None:
        # A refused request does not count as use: a timer that runs already is kept.
        timeout = self._setup.idle_timeout
        if timeout is None:
            return
        if self._idle is None:
            self._idle = alarms_for(self._setup.ports, self.ref)
        if not self._idle.has(_IDLE):
            self._idle.set(timeout, _IDLE)

    def _in_use(self) -> None:
        if self._idle is not None:
            self._idle.call_off(_IDLE)
            self._idle.rest()

    # For the turn that runs.

    def keep(self, checkpoint: Checkpoint, done: Callable[[], None]) -> bool:
        """Keep the running turn's thread and have it stored."""
        if self._setup.id is None:
            self._setup.cell.note(checkpoint)
            return True
        self._ledger.put_thread(checkpoint.thread)
        run = self._run

        def stored(error: StoreError | None) -> None:
            if error is not None and run is not None:
                run.cancel("error", error)
            done()

        self._ledger.save(stored)
        return False

    def over(self, result: Any, then: Callable[[StoreError | None], object]) -> None:
        """Take over the turn's result, have it stored, and go on."""
        run = self._run
        assert run is not None

        running = self._ledger.value

        def done(error: StoreError | None = None) -> None:
            # The turn is over when its coroutines are: until then they may hold what the next one needs.
            if self._outlets is not None:
                self._outlets.settled[run.spec.id] = lambda: then(error)
            run.crew.when_gone(lambda: end(error))

        def end(error: StoreError | None) -> None:
            self._over(run)
            if error is not None and result is not None:
                final = unstored(result, (), error)[0]
                self._ledger.put(sessions.apply(running, final), sessions.halted_reason_of(final))
            then(error)
            self._forget(run.spec)
            self._next()

        if run.spec.operation is None:
            done()
            return
        if result is None:
            self._ledger.roll_back()
        else:
            self._ledger.put(sessions.apply(self._ledger.value, result), sessions.halted_reason_of(result))
        self._ledger.save(done)

    # State.

    def _stored(self) -> Load:
        assert self._setup.id is not None
        return Load(self._setup.id, self.ref.number)

    def _loaded(self, found: Any, error: BaseException | None) -> None:
        self.ref.signal(Loaded(found, error))

    def _reloaded(self, found: Any, error: BaseException | None) -> None:
        self._changes.under_way = False
        if error is None:
            self._ledger.revive(*found)
        else:  # the next save will report it to the requests that wait
            log.error("a session could not be reloaded", session_id=self._setup.id, error=str(error))
            self._ledger.stale = False
        self._changes.told()

    def _store_answered(self, message: StoreAnswered) -> None:
        """The store has answered. If a change is stored then, or not, go on with what waited for that."""
        changing = self._changes.under_way
        message.then(message.answer, message.error)
        if changing and not self._changes.under_way:
            self.unstash_all()
            if self._run is None:
                self._next()

    def _asker(self, operation: str | None = None) -> From:
        """The caller of the current request. Raises SessionBusy for an operation that is not allowed during a turn."""
        if operation is not None and self._run is not None:
            raise SessionBusy("busy", message=f"{operation}: session {self._setup.id!r} is busy with a turn")
        request = self.current_request
        assert request is not None, "this message is asked, not told"
        return request
