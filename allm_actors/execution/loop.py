"""One answer, one step or one chat, as a machine: what happened goes in, what to do comes out.

Rule of this file: `step` is a function of frozen values and the only place where the loop decides. An input
that no row below handles leaves the state unchanged, the same object, without effects.

    phase     input                      what follows
    --------  -------------------------  ---------------------------------------------------------------------------
    Asking    ModelEvents                Emit them
    Asking    ModelEnded                 generate: Finish; else the step runs its calls (see `batch`) or is complete
    Asking    ModelEnded, has to fit     ParseAnswer
    Parsing   AnswerParsed               as above, with the value; or, as often as allowed, CallModel with what is wrong
    Asking    ModelFailed, preflight     Finish with Refused; on a later turn the chat halts with `error`
    Asking    ModelFailed                Emit an ErrorEvent, and go on as if the model had ended
    Batch     HandlerEnded               (no effects; the handler's error is kept)
    Batch     ToolReturned               Checkpoint, Emit the answer, and RunTool for a call that waits
    Batch     ToolCrashed, ToolTimedOut  the same with an error as the answer, or SettleError
    Batch     (the last call answered)   Emit StepCompleted; the gates (see `gates`) halt the chat, or CallModel
    Judging   HaltAnswered               the chat halts with `halt_when`, or CallModel
    any       Cancelled                  CancelModel, CancelTool; every open call is answered; the run is over
    Finished  anything                   nothing

A chat with `structured_finalize` has two passes: the loop itself, as a draft; then, if that completed, one
more answer, asked for with a nudge and without tools. The first pass's ChatCompleted is never emitted; its
turns do not count.

An error that ends a step or a chat is shown, once: by the model's own ErrorEvent, or by one from here, before the last
events.

A run whose answer must fit a type asks again for one that does not. In a chat each answer is a step of its
own; for a step, or a single answer, the last one counts, with the usage of all. A single answer then ends
with StepCompleted, because no other event has a field for the value.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from allm_actors.data import (
    AdapterError,
    AllmError,
    ChatCompleted,
    ChatResult,
    ErrorEvent,
    Event,
    Message,
    MessageStarted,
    RawChunk,
    Response,
    StepCompleted,
    StreamError,
    Thread,
)
from allm_actors.data.schemas.structured import misfit

from . import batch as batches
from .answers import (
    REJECTED,
    as_error,
    calling,
    correction,
    partial,
    question,
    rejected,
    spoken,
    stopped,
    whole,
)
from .batch import Batch
from .costs import missing_costs
from .effects import (
    AskHalt,
    CallModel,
    CancelModel,
    Checkpoint,
    Effect,
    Emit,
    Finish,
    ParseAnswer,
    Purpose,
    Refused,
)
from .fold import Fold, step_of
from .gates import GATES, Halted, Standing, decide
from .inputs import (
    AnswerParsed,
    Cancelled,
    HaltAnswered,
    HandlerEnded,
    Input,
    ModelEnded,
    ModelEvents,
    ModelFailed,
    ToolCrashed,
    ToolReturned,
    ToolTimedOut,
)
from .options import DEFAULT_NUDGE, Options
from .phases import Asking, Finished, Judging, LoopState, Parsing
from .receiving import Receiving, error_in
from .tool_errors import predicate_raised
from .tools import AnswerEvent

__all__ = ["Asking", "Finished", "Judging", "LoopState", "Options", "Parsing", "start", "step"]

_MODEL_EVENTS: Final = frozenset({MessageStarted, *Receiving.rules})
_BEFORE_ASKING = GATES[:7]


Transition: TypeAlias = tuple[LoopState, tuple[Effect, ...]]


def start(options: Options, thread: Thread) -> Transition:
    """The state of a new run, and its first effects."""
    return _ask(LoopState(options=options, thread=thread, phase=Asking()))


def step(state: LoopState, input: Input) -> Transition:
    """The next state, and what to do, in order."""
    phase = state.phase
    match input:
        case ToolReturned() if isinstance(phase, Batch) and input.turn in (None, state.turn):
            return _batch(state, batches.returned(phase, input.call_id, input.outcome))
        case ModelEvents() if isinstance(phase, Asking) and input.turn == state.turn:
            return _heard(state, phase, input)
        case ModelEnded() if isinstance(phase, Asking) and input.turn == state.turn:
            return _ended(state, phase)
        case ModelFailed() if isinstance(phase, Asking) and input.turn == state.turn:
            return _failed(state, phase, input)
        case AnswerParsed() if isinstance(phase, Parsing) and input.turn == state.turn:
            return _parsed(state, phase.response, input)
        case HandlerEnded() if isinstance(phase, Batch) and input.turn in (None, state.turn):
            return _batch(state, batches.handled(phase, input.call_id, input.error))
        case ToolCrashed() if isinstance(phase, Batch) and input.turn in (None, state.turn):
            return _batch(state, batches.crashed(phase, input.call_id, input.reason, begun=input.begun))
        case ToolTimedOut() if isinstance(phase, Batch) and input.turn in (None, state.turn):
            return _batch(state, batches.took_too_long(phase, input.call_id))
        case HaltAnswered() if isinstance(phase, Judging) and input.turn == state.turn:
            return _judged(state, input)
        case Cancelled() if not isinstance(phase, Finished):
            return _cancelled(state, input)
        case _:
            return state, ()


# --- asking -------------------------------------------------------------------------------------------------------


def _ask(state: LoopState, effects: tuple[Effect, ...] = ()) -> Transition:
    state = msgspec.structs.replace(state, phase=Asking())
    return state, (*effects, CallModel(state.turn, state.thread, _purpose(state)))


def _purpose(state: LoopState) -> Purpose:
    if not state.options.two_passes:
        return "answer"
    return "draft" if state.draft is None else "finalize"


def _heard(state: LoopState, phase: Asking, news: ModelEvents) -> Transition:
    events = tuple(news.events)
    if not _MODEL_EVENTS.issuperset(map(type, events)):
        # Events that an adapter may not send, above all ChatCompleted, are dropped.
        events = tuple(event for event in events if type(event) in _MODEL_EVENTS)
    if ErrorEvent in map(type, events):
        events = _with_one_error(state, phase, events)
    if not events:
        return state, ()
    return msgspec.structs.replace(state, phase=phase.heard(events)), (Emit(events),)


def _with_one_error(state: LoopState, phase: Asking, events: tuple[Event, ...]) -> tuple[Event, ...]:
    """The events with only the first error of the answer, which gets this run's request id."""
    broken = _is_broken(phase)
    kept: list[Event] = []
    for event in events:
        if not isinstance(event, ErrorEvent):
            kept.append(event)
        elif not broken:
            broken = True
            kept.append(_of_call(state, event))
    return tuple(kept)


def _failed(state: LoopState, phase: Asking, news: ModelFailed) -> Transition:
    begun = phase.count or (state.retries and state.options.kind != "chat")
    error = news.error
    if isinstance(error, AdapterError):
        error = error.of_call(state.options.request_id)
    if news.preflight and not begun:
        return _refused(state, error)
    phase, shown = _with_error(phase, error)
    state, effects = _ended(state, phase)
    return state, (*shown, *effects)


def _refused(state: LoopState, error: AllmError) -> Transition:
    if state.draft is not None and not state.retries:
        return _finish(state, state.draft, pass_2_error=error)
    if state.steps:
        return _fail(state, error)
    return _over(state, Finish(Refused(error)))


def _ended(state: LoopState, phase: Asking) -> Transition:
    answer = Fold().apply_all(phase.events)
    priced = _priced(state, answer)
    state, effects = _received(state, phase, answer)
    return state, (*priced, *effects)


def _priced(state: LoopState, answer: Fold) -> tuple[Effect, ...]:
    """Add the missing costs of the answer, to the fold and, as an event, for the stream's reader."""
    if not state.options.pricing:
        return ()
    costs = missing_costs(answer.response().usage, state.options.pricing)
    if not costs:
        return ()
    event = RawChunk(("usage", costs))
    answer.apply(event)
    return (Emit((event,)),)


def _received(state: LoopState, phase: Asking, answer: Fold) -> Transition:
    response = _told(state, answer.response())
    if state.options.kind != "generate":
        response = _signed(state, whole(response, answer.unfinished_calls, answer.repeated_call))
    if response.finish_reason == "stop" and state.options.parses and _purpose(state) != "draft":
        # Stored first: the reader has seen it, and parsing runs user code, which may be slow.
        said = Checkpoint(state.thread.add(spoken(response)))
        state = msgspec.structs.replace(state, phase=Parsing(response))
        return state, (said, ParseAnswer(state.turn, response.text() or ""))
    if state.options.kind == "generate":
        return _answered(state, response)
    if response.finish_reason != "tool_calls":
        unshown = response.finish_reason == "error" and not _is_broken(phase)
        return _answered(state, response, _shown(response.metadata["error"]) if unshown else ())
    thread = state.thread.add(calling(response))
    if state.options.mode == "manual":
        event = StepCompleted(response=response, thread=thread, mode="manual")
        return _close(state, event, {}, (Checkpoint(thread, response.tool_calls),))
    return _batch(state, batches.begin(state.options, state.turn, thread, response))


def _told(state: LoopState, response: Response) -> Response:
    """The response with the run's total usage and request id, and without `REJECTED`, which only this file may set."""
    if REJECTED in response.metadata:
        metadata = {name: value for name, value in response.metadata.items() if name != REJECTED}
        response = msgspec.structs.replace(response, metadata=metadata)
    if state.retries and state.options.kind != "chat":
        response = msgspec.structs.replace(response, usage=state.spent.plus(response.usage))
    if response.request_id is not None or state.options.request_id is None:
        return response
    return msgspec.structs.replace(response, request_id=state.options.request_id)


def _signed(state: LoopState, response: Response) -> Response:
    """The response; its error, if it is an AdapterError without a request id, gets this run's."""
    error = response.metadata.get("error")
    if not isinstance(error, AdapterError) or error.request_id is not None:
        return response
    return as_error(response, error.of_call(state.options.request_id))


def _of_call(state: LoopState, event: ErrorEvent) -> ErrorEvent:
    error = error_in(event)
    if isinstance(error, AdapterError):
        error = error.of_call(state.options.request_id)
    return ErrorEvent(error)


def _answered(state: LoopState, response: Response, effects: tuple[Effect, ...] = ()) -> Transition:
    """The model has answered, and calls no tool."""
    if state.options.kind != "generate":
        state, stepped = _plain_step(state, response, spoken(response))
        return state, (*effects, *stepped)
    if not state.options.parses:
        return _over(state, *effects, Finish(response))
    event = StepCompleted(response=response, thread=state.thread.add(spoken(response)))
    return _over(state, *effects, Checkpoint(event.thread), Emit((event,)), Finish(response))


def _with_error(phase: Asking, error: AllmError) -> tuple[Asking, tuple[Effect, ...]]:
    """The phase after the stream broke, and an ErrorEvent, unless the stream itself had one."""
    if _is_broken(phase):
        return phase, ()
    event = ErrorEvent(error)
    return phase.heard((event,)), (Emit((event,)),)


def _is_broken(phase: Asking) -> bool:
    return any(isinstance(event, ErrorEvent) for event in phase.events)


def _shown(error: AllmError) -> tuple[Effect, ...]:
    return (Emit((ErrorEvent(error),)),)


# --- answers that must fit a type ---------------------------------------------------------------------------------


def _parsed(state: LoopState, response: Response, news: AnswerParsed) -> Transition:
    if news.error is not None:
        return _unusable(state, response, news.error)
    if news.problem is None:
        return _answered(state, msgspec.structs.replace(response, parsed=news.value))
    if state.retries == state.options.max_retries:
        return _unusable(state, response, misfit(news.problem, state.retries))
    return _ask_again(state, response, news.problem)


def _unusable(state: LoopState, response: Response, error: AllmError) -> Transition:
    """The answer is complete, and there is an error instead of its value."""
    return _answered(state, as_error(response, error), _shown(error))


def _ask_again(state: LoopState, response: Response, problem: str) -> Transition:
    state = msgspec.structs.replace(state, retries=state.retries + 1)
    messages = (spoken(response), correction(problem, state.retries))
    if state.options.kind == "chat":
        return _plain_step(state, rejected(response, problem), *messages)
    state = msgspec.structs.replace(
        state,
        thread=state.thread.add(*messages),
        turn=state.turn + 1,
        spent=response.usage,
    )
    return _ask(state, (Checkpoint(state.thread),))


# --- the step -----------------------------------------------------------------------------------------------------


def _plain_step(state: LoopState, response: Response, *messages: Message) -> Transition:
    thread = state.thread.add(*messages)
    return _close(state, StepCompleted(response=response, thread=thread), {}, (Checkpoint(thread),))


def _batch(state: LoopState, change: batches.Change | None) -> Transition:
    if change is None:
        return state, ()
    batch, effects = change
    if not batch.over:
        return msgspec.structs.replace(state, phase=batch), effects
    return _close(state, _completed(batch), batch.answered, effects)


def _completed(batch: Batch) -> StepCompleted:
    return StepCompleted(
        response=batch.response, thread=batch.answered_thread(), manual_tool_calls=list(batch.manual)
    )


def _close(
    state: LoopState, event: StepCompleted, answers: dict[str, AnswerEvent], effects: tuple[Effect, ...]
) -> Transition:
    """The step is complete: have it stored, emit it, and decide what follows."""
    result = step_of(event, answers)
    state = msgspec.structs.replace(state, thread=event.thread, steps=(*state.steps, result))
    effects = (*effects, Emit((event,)))
    if state.options.kind == "step":
        return _over(state, *effects, Finish(result))
    if state.options.halt_when and decide(_standing(state), _BEFORE_ASKING) is None:
        state = msgspec.structs.replace(state, phase=Judging())
        return state, (*effects, AskHalt(state.turn, result))
    return _go_on(state, None, effects)


def _judged(state: LoopState, news: HaltAnswered) -> Transition:
    if isinstance(news.answer, Exception):
        return _fail(state, predicate_raised(news.answer))
    return _go_on(state, news.answer)


def _go_on(state: LoopState, verdict: object, effects: tuple[Effect, ...] = ()) -> Transition:
    halted = decide(_standing(state, verdict), GATES)
    if halted is not None:
        return _halt(state, halted, effects)
    return _ask(msgspec.structs.replace(state, turn=state.turn + 1), effects)


def _standing(state: LoopState, verdict: object = None) -> Standing:
    return Standing(
        step=state.steps[-1],
        index=len(state.steps) - 1,
        limit=state.options.turn_limit if state.draft is None else 1,
        retries=state.retries,
        verdict=verdict,
    )


# --- the end ------------------------------------------------------------------------------------------------------


def _halt(
    state: LoopState,
    halted: Halted,
    effects: tuple[Effect, ...] = (),
    final_response: Response | None = None,
) -> Transition:
    thread, metadata = state.thread, halted.metadata
    if final_response is None and state.steps:
        final_response = state.steps[-1].response
    if halted.reason == "ask_user" and "manual_tool_calls" not in metadata:
        thread = thread.add(question(metadata["pending_question"], metadata["pending_tool_call_id"]))
        effects = (*effects, Checkpoint(thread))
    result = ChatResult(
        thread=thread,
        final_response=final_response,
        halted_reason=halted.reason,
        pending_question=metadata.get("pending_question"),
        pending_tool_call_id=metadata.get("pending_tool_call_id"),
        steps=list(state.steps),
        metadata=metadata,
    )
    drafted = state.options.two_passes and state.draft is None
    if drafted and halted.reason in ("completed", "max_turns", "halt_when"):
        return _finalize(state, result, effects)
    return _finish(state, result, effects)


def _fail(
    state: LoopState,
    error: AllmError,
    effects: tuple[Effect, ...] = (),
    final_response: Response | None = None,
) -> Transition:
    """The chat ends with an error that has not been shown."""
    return _halt(state, Halted("error", {"error": error}), (*effects, *_shown(error)), final_response)


def _finalize(state: LoopState, draft: ChatResult, effects: tuple[Effect, ...]) -> Transition:
    """The second pass: one answer in the requested format, to the thread of the first pass, without tools."""
    nudge = DEFAULT_NUDGE if state.options.nudge is None else state.options.nudge
    state = msgspec.structs.replace(
        state,
        options=msgspec.structs.replace(state.options, tools={}),
        thread=state.thread.add_user(nudge) if nudge else state.thread,
        turn=state.turn + 1,
        draft=draft,
    )
    return _ask(state, effects)


def _finish(
    state: LoopState, result: ChatResult, effects: tuple[Effect, ...] = (), **passes: AllmError
) -> Transition:
    if state.options.two_passes:
        first = result if state.draft is None else state.draft
        passed = {"pass_1_halted": first.halted_reason, **passes}
        result = msgspec.structs.replace(result, metadata={**result.metadata, "structured_finalize": passed})
    return _over(state, *effects, Emit((ChatCompleted(result),)), Finish(result))


def _over(state: LoopState, *effects: Effect) -> Transition:
    return msgspec.structs.replace(state, phase=Finished()), effects


# --- cancelling ---------------------------------------------------------------------------------------------------


def _cancelled(state: LoopState, news: Cancelled) -> Transition:
    match state.phase:
        case Asking() as phase:
            stop = CancelModel(state.turn)
            if state.options.kind == "chat":
                return _cut_chat(state, phase, news, stop)
            return _cut_answer(state, phase, news, stop)
        case Parsing(response):
            return _cut_parsing(state, response, news)
        case Batch() as batch:
            return _cut_batch(state, batch, news)
        case Judging() | Finished():
            return _stop(state, news)


def _cut_answer(state: LoopState, phase: Asking, news: Cancelled, stop: Effect) -> Transition:
    """A single answer, or a step's, was cut off: its error says so, unless it had broken off with one of its own."""
    error, broken = _reason(news), _is_broken(phase)
    phase, shown = _with_error(phase, error)
    response = _told(state, Fold().apply_all(phase.events).response())
    if state.options.kind == "generate":
        return _answered(state, response, (stop, *shown))
    response = response if broken else as_error(response, error)
    state, effects = _plain_step(state, response, *partial(response))
    return state, (stop, *shown, *effects)


def _cut_chat(state: LoopState, phase: Asking, news: Cancelled, stop: Effect) -> Transition:
    """A chat was cut off in the middle of an answer: the text so far stays in the thread, marked as partial."""
    if not phase.count:
        return _stop(_unasked(state), news, (stop,))
    response = _told(state, Fold().apply_all(phase.events).response())
    messages = partial(response)
    if not messages:
        return _stop(_unasked(state), news, (stop,), response)
    state = msgspec.structs.replace(state, thread=state.thread.add(*messages))
    return _stop(state, news, (stop, Checkpoint(state.thread)), response)


def _unasked(state: LoopState) -> LoopState:
    """The state without the nudge of the second pass, if that has no answer yet: no user has written the nudge."""
    draft = state.draft
    if draft is None or draft.thread is None or len(draft.steps) < len(state.steps):
        return state
    return msgspec.structs.replace(state, thread=draft.thread)


def _cut_parsing(state: LoopState, response: Response, news: Cancelled) -> Transition:
    """Cancelled after a complete answer, before it was known whether it fits: the answer stays, without a value."""
    if state.options.kind != "chat":
        return _unusable(state, response, _reason(news))
    state = msgspec.structs.replace(state, thread=state.thread.add(spoken(response)))
    return _stop(state, news, (Checkpoint(state.thread),), response)


def _cut_batch(state: LoopState, batch: Batch, news: Cancelled) -> Transition:
    """A step was cut off while its tools ran: each call gets an answer, so that the thread can be sent again."""
    why = "interrupted" if news.reason == "interrupted" else "cancelled"
    batch, effects = batches.close(batch, why, news.unbegun)
    event = _completed(batch)
    if state.options.kind == "step":
        error = _reason(news)
        event = msgspec.structs.replace(event, response=as_error(event.response, error))
        return _close(state, event, batch.answered, (*effects, *_shown(error)))
    steps = (*state.steps, step_of(event, batch.answered))
    state = msgspec.structs.replace(state, thread=event.thread, steps=steps)
    return _stop(state, news, (*effects, Emit((event,))))


def _stop(
    state: LoopState,
    news: Cancelled,
    effects: tuple[Effect, ...] = (),
    final_response: Response | None = None,
) -> Transition:
    """The chat is cut off."""
    if news.reason == "error":
        return _fail(state, _reason(news), effects, final_response)
    return _halt(state, Halted(news.reason), effects, final_response)


def _reason(news: Cancelled) -> AllmError:
    if news.error is not None:
        return news.error
    if news.reason == "error":
        return StreamError("unknown")
    return stopped(news.reason, f"stream error: {news.reason}")
