"""One turn being performed: the loop machine decides, workers act, and their reports are fed back to the machine.

Rule of this file: effects are performed in order, and three kinds may have to wait: one that acts on the
world, until the reader has read everything before it; a checkpoint, for the store; and the end, for both.
Nothing here blocks, and nothing here knows what an effect means for the conversation.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, ClassVar, Protocol

from allm_actors.actors.protocol import ModelBatch, ModelJob, ToolJob
from allm_actors.actors.streams.window import Window
from allm_actors.actors.workers.adapter import close
from allm_actors.data import (
    AllmError,
    ChatCompleted,
    Event,
    Message,
    StepCompleted,
    StoreError,
    StreamError,
    Thread,
    ToolExecutionStarted,
)
from allm_actors.engine.secret import let_go_of_frames
from allm_actors.execution import loop
from allm_actors.execution.answers import to_send
from allm_actors.execution.effects import (
    AskHalt,
    CallModel,
    CancelModel,
    CancelTool,
    Checkpoint,
    Effect,
    Emit,
    Finish,
    ParseAnswer,
    Refused,
    RunTool,
    SettleError,
)
from allm_actors.execution.inherited import with_way_out
from allm_actors.execution.inputs import (
    Cancelled,
    HandlerEnded,
    Input,
    ModelEvents,
    ModelFailed,
)
from allm_actors.execution.tool_errors import describe

from .assignment import Assignment, patience_with
from .crew import Crew
from .ending import unstored
from .spans import spans_of
from .spec import TurnSpec
from .work import halt_job, parse_job, settle_job, tool_job

__all__ = ["TurnRun"]

# Effects that start a worker; they wait until the reader has caught up.
_DEEDS = frozenset({CallModel, RunTool, SettleError, AskHalt, ParseAnswer})
MODEL_LEAD = 8  # network reads that an adapter may be ahead of its session


class Owner(Protocol):
    """The owner of a turn: the session actor, which keeps and stores its results."""

    def keep(self, checkpoint: Checkpoint, done: Callable[[], None]) -> bool:
        """Keep the checkpoint's thread. False if it is being stored: then `done()` is called later."""

    def over(self, result: Any, then: Callable[[StoreError | None], object]) -> None:
        """The turn has this result (None: it was refused and changes nothing): store it, then call `then(error)`."""


class TurnRun:
    """Performs one turn of a thread, of which the session had some messages `earlier`. Thread: the session actor's."""

    __slots__ = (
        "_acting",
        "_asked",
        "_earlier",
        "_last",
        "_opened",
        "_owner",
        "_performing",
        "_spans",
        "_terminal",
        "_waiting",
        "crew",
        "spec",
        "state",
        "todo",
    )

    def __init__(
        self, owner: Owner, crew: Crew, spec: TurnSpec, thread: Thread, earlier: Sequence[Message]
    ) -> None:
        self._earlier = earlier
        self._owner, self.crew, self.spec = owner, crew, spec
        self._asked: Assignment | None = None  # the last model call
        self._last: tuple[Event, ...] = ()
        self._terminal = ChatCompleted if spec.options.kind == "chat" else StepCompleted
        self._opened = spec.opened
        self._waiting = spec.operation is not None  # a session's turn is stored first
        self._performing = False
        self._acting = -1
        self._spans = spans_of(spec)
        self.state, effects = loop.start(spec.options, thread)
        self.todo: deque[Effect] = deque(effects)

    @property
    def model(self) -> Assignment | None:
        """The running model call, or None. Thread: any."""
        asked = self._asked
        return asked if asked is not None and asked.token in self.crew.assigned else None

    @property
    def tools(self) -> int:
        """How many tools and user functions run for it. Thread: any."""
        return max(0, len(self.crew.assigned) - (self.model is not None))

    # Called by the session actor.

    def advance(self) -> None:
        """Perform the effects that need not wait. Called again whenever a wait is over."""
        if self._performing:  # called from within an effect: the loop below goes on
            return
        self._performing = True
        try:
            while self.todo and not self._waiting:
                effect = self.todo.popleft()
                kind = type(effect)
                if kind in _DEEDS and not self._may_act(effect):
                    self.todo.appendleft(effect)
                    return
                if self._spans is not None:
                    self._spans.wants(effect)
                self._performers[kind](self, effect)
        finally:
            self._performing = False

    def demand(self) -> None:
        """The reader wants more: let the adapter read on, and perform the effects that waited for the reader."""
        worker = self.model
        if worker is not None and worker.owed:
            worker.caught_up()
            if worker.patience is not None:
                worker.patience.begin()
        self.advance()

    def cancel(self, reason: str, error: AllmError | None = None) -> None:
        """End the turn; effects that would start a worker are dropped. It is over when its end is stored."""
        unbegun = frozenset(effect.call.id for effect in self.todo if isinstance(effect, RunTool))
        left = (effect for effect in self.todo if type(effect) not in _DEEDS)
        self.todo = deque(_unstarted(effect, unbegun) for effect in left)
        self._close_opened()
        self._feed(Cancelled(reason, error, unbegun))  # type: ignore[arg-type]

    def batch(self, message: ModelBatch) -> None:
        """The events of one network read have come."""
        worker = self.crew.assigned.get(message.token)
        if worker is None:
            return
        patience = worker.patience
        if patience is not None:
            patience.end()
        if message.events:
            self._feed(ModelEvents(worker.turn, message.events))
        if message.last:
            self.returned(message.token, None)
        elif message.token in self.crew.assigned:  # else these events have ended the call
            worker.published(self.spec.channel)
            if patience is not None and not worker.owed:
                patience.begin()

    def model_refused(self, token: int, error: Exception) -> None:
        """The adapter refused the call before its first event."""
        worker = self.crew.forget(token)
        if worker is not None:
            self._feed(ModelFailed(worker.turn, _as_error(error), preflight=True))

    def handled(self, token: int, error: Any) -> None:
        """A tool's handler has ended: the user's policy and encoder get the same time again."""
        worker = self.crew.assigned.get(token)
        if worker is not None:
            worker.claim = None
            self._set_alarm(worker)
            self._feed(HandlerEnded(worker.call_id, error, worker.turn))

    def returned(self, token: int, outcome: Any) -> None:
        """A tool, or a function of the user's, has answered; or a model has sent all its events."""
        worker = self.crew.forget(token)
        if worker is not None:
            self.crew.free(worker)
            self._feed(worker.returned(outcome))

    def expired(self, token: int) -> None:
        """A deadline has passed: of a tool, a user function or a model; a model's silence has the negative token."""
        worker = self.crew.assigned.get(abs(token))
        if worker is None:
            return
        if worker.patience is not None:
            news = worker.patience.over(worker.turn, silent=token < 0)
            if news is None:
                return
        elif worker.take_over():
            news = worker.timed_out()
        else:
            self._set_alarm(worker)
            return
        if self._spans is not None:
            self._spans.lost(worker.call_id, worker.turn, "timeout")
        self.crew.drop(abs(token))
        self._feed(news)

    def died(self, token: int, why: str, *, begun: bool = True) -> None:
        """A worker ended without an answer, or could not be started."""
        worker = self.crew.forget(token)
        if worker is not None:
            if self._spans is not None:
                self._spans.lost(worker.call_id, worker.turn, why)
            if not worker.take_over():
                # Killed after its claim and before it could report it: the handler's outcome is lost; it does not run
                # again.
                self._feed(HandlerEnded(worker.call_id, None, worker.turn))
            self._feed(worker.died(why, begun=begun))
        self.crew.gone(token)

    def abandon(self, why: object = "the session that ran this turn ended", kind: str = "exit") -> None:
        """Dismiss every worker without telling the machine. `why` and `kind` go to telemetry."""
        self._close_opened()
        self.crew.let_all_go()
        if self._spans is not None:
            self._spans.broken(why, kind)

    # Performing.

    def _feed(self, news: Input) -> None:
        if self._spans is not None:
            self._spans.heard(self.state, news)
        state, effects = loop.step(self.state, news)
        self.state = state
        self.todo.extend(effects)
        self.advance()

    def _may_act(self, effect: Any) -> bool:
        # The tools of one step start together: once the reader has let one through, the others follow.
        asks = type(effect) is CallModel
        if effect.turn == self._acting and not asks:
            return True
        if not self.spec.channel.may_act():
            self.spec.channel.cancel_again()
            return False
        self._acting = -1 if asks else effect.turn
        return True

    def _emit(self, effect: Emit) -> None:
        events = effect.events
        # The last event of a turn is published with its end, so that the reader sees it exactly once.
        if events and isinstance(events[-1], self._terminal):
            self._last, events = events[-1:], events[:-1]
        if events:
            if type(events[-1]) is StepCompleted:
                done = len(self.spec.channel.steps) + 1
                self.spec.channel.steps = self.state.steps[:done]  # the machine may be ahead of what is shown
            self.spec.channel.publish(events)

    def _checkpoint(self, effect: Checkpoint) -> None:
        checkpoint = effect if self.spec.operation is None else self._latest(effect)
        self._waiting = not self._owner.keep(checkpoint, self.stored)

    def _latest(self, checkpoint: Checkpoint) -> Checkpoint:
        """The last of the checkpoints that queued up meanwhile: one save covers them, and the events between
        them are emitted after it.
        """
        last = 0
        if Checkpoint not in map(type, self.todo):
            return checkpoint
        for place, effect in enumerate(self.todo, 1):
            if isinstance(effect, Checkpoint):
                last, checkpoint = place, effect
            elif not isinstance(effect, Emit):
                break
        if last:
            shown = [effect for effect in islice(self.todo, last) if isinstance(effect, Emit)]
            self.todo = deque([*shown, *islice(self.todo, last, None)])
        return checkpoint

    def _cancel_model(self, _effect: CancelModel) -> None:
        worker = self.model
        if worker is not None:
            self.crew.drop(worker.token)

    def _cancel_tool(self, effect: CancelTool) -> None:
        for token, worker in list(self.crew.assigned.items()):
            if worker.call_id == effect.call_id and worker.turn == effect.turn:
                self.crew.drop(token)

    def _finish(self, effect: Finish) -> None:
        self.crew.let_all_go()
        result, channel = effect.result, self.spec.channel
        if isinstance(result, Refused):
            refusal = with_way_out(result.error, to_send(self.state.thread.messages), self._earlier)
            self._owner.over(None, lambda _error: channel.end(error=refusal))
            return

        def end(error: StoreError | None) -> None:
            final, last = (result, self._last) if error is None else unstored(result, self._last, error)
            channel.end(final, last=last)

        self._owner.over(result, end)

    def stored(self) -> None:
        """The pending save is done: go on."""
        self._waiting = False
        self.advance()

    # Workers.

    def _call_model(self, effect: CallModel) -> None:
        self.spec.channel.drafting(effect.purpose == "draft")
        turn, adapter, opened, self._opened = effect.turn, self.spec.adapter, self._opened, None
        try:
            request, call = self.spec.model_calls.call(adapter, effect, self.crew.ports.transport)
        except (AllmError, TypeError, ValueError) as error:
            close(opened, self.spec.context)
            self._feed(ModelFailed(turn, _as_error(error), preflight=True))
            return
        window = Window(MODEL_LEAD)
        job = ModelJob(
            token=self.crew.next_token(),
            session=self.crew.ref,
            adapter=adapter,
            request=request,
            call=call,
            window=window,
            opened=opened,
            loop=self.crew.ports.io_loop(),
            context=self.spec.context,
            stays=True,
        )
        worker = self._asked = Assignment("model", turn, window=window)
        self.crew.employ(worker, job)
        worker.patience = patience_with(adapter, call, worker.token, self.crew.alarms)

    def _close_opened(self) -> None:
        opened, self._opened = self._opened, None
        close(opened, self.spec.context)

    def _run_tool(self, effect: RunTool) -> None:
        call, turn = effect.call, effect.turn
        span = None if self._spans is None else self._spans.tool(call, effect.tool, turn)
        job = tool_job(self.spec, self.crew, call, effect.tool, effect.request_id, span)
        self._hire("tool", turn, job, effect.timeout)

    def _settle_error(self, effect: SettleError) -> None:
        job = settle_job(self.spec, self.crew, effect.call, effect.error)
        self._hire("tool", effect.turn, job, effect.timeout)

    def _ask_halt(self, effect: AskHalt) -> None:
        job = halt_job(self.spec, self.crew, effect.step_result)
        self._hire("halt", effect.turn, job, self.spec.options.tool_timeout)

    def _parse_answer(self, effect: ParseAnswer) -> None:
        job = parse_job(self.spec, self.crew, effect.text)
        self._hire("parse", effect.turn, job, self.spec.options.tool_timeout)

    def _hire(self, kind: str, turn: int, job: ToolJob, timeout: float | None) -> None:
        worker = Assignment(kind, turn, job.call_id, timeout=timeout, cancel=job.cancel, claim=job.claim)
        self.crew.employ(worker, job)
        self._set_alarm(worker)

    def _set_alarm(self, worker: Assignment) -> None:
        timeout = worker.timeout
        if timeout is not None and timeout != math.inf:
            self.crew.alarms.set(timeout, worker.token)

    _performers: ClassVar[dict[type, Callable[[TurnRun, Any], None]]] = {
        Emit: _emit,
        Checkpoint: _checkpoint,
        CallModel: _call_model,
        RunTool: _run_tool,
        SettleError: _settle_error,
        AskHalt: _ask_halt,
        ParseAnswer: _parse_answer,
        CancelModel: _cancel_model,
        CancelTool: _cancel_tool,
        Finish: _finish,
    }


def _unstarted(effect: Effect, unbegun: frozenset[str]) -> Effect:
    """The effect without the `ToolExecutionStarted` events of these calls."""
    if not (unbegun and isinstance(effect, Emit)):
        return effect
    shown = [e for e in effect.events if not (isinstance(e, ToolExecutionStarted) and e.id in unbegun)]
    return Emit(tuple(shown))


def _as_error(error: Exception) -> AllmError:
    if isinstance(error, AllmError):
        return error
    said = describe(error)
    failure = StreamError("adapter_error", message=f"the adapter failed before it began: {said}", cause=said)
    failure.__cause__ = let_go_of_frames(error)
    return failure
