"""The telemetry of one turn: chat > step > generate > stream, and its tools.

Rule of this file: it observes the machine's inputs and effects and influences neither. Spans that are open
when the turn ends, however it ends, are closed. A turn that begins while nobody listens has no telemetry at
all.
"""

from __future__ import annotations

from typing import Any

import msgspec

from allm_actors.data import ChatResult, Event, MessageStarted, Response, StepCompleted, StepResult, Thread
from allm_actors.engine.resolve import resolve_model
from allm_actors.engine.secret import keys_of, scrub
from allm_actors.execution.costs import missing_costs
from allm_actors.execution.effects import CallModel, CancelModel, Effect, Emit, Finish, Refused
from allm_actors.execution.fold import Fold
from allm_actors.execution.inputs import Input, ModelEnded, ModelFailed
from allm_actors.execution.loop import Asking, LoopState
from allm_actors.execution.receiving import Receiving
from allm_actors.telemetry import Span, listening

from .spec import TurnSpec

__all__ = ["TurnSpans", "refused", "spans_of"]

_OF_ONE_ANSWER = frozenset({MessageStarted, *Receiving.rules})


def spans_of(spec: TurnSpec) -> TurnSpans | None:
    """The spans of a turn that begins now, or None when nobody listens."""
    return TurnSpans(spec) if listening() else None


def refused(spec: TurnSpec, error: Exception) -> None:
    """Record a turn that was refused in its caller, before its model was called."""
    spans = spans_of(spec)
    if spans is not None:
        spans.asks()
        spans.broken(error, "error")


class TurnSpans:
    """The open spans of a turn. Thread: the session actor's, or, after its death, its killer's."""

    __slots__ = ("_about", "_context", "_hide", "_kind", "_open", "_steps", "_tools")

    def __init__(self, spec: TurnSpec) -> None:
        options, self._context = spec.options, spec.context
        self._kind = options.kind
        self._about = {"request_id": options.request_id, "engine": spec.engine, "model": _model_of(spec)}
        session_id = spec.call_options.get("session_id")
        if session_id is not None:
            self._about["session_id"] = session_id
        source = spec.call_options.get("api_key")
        self._hide = None if source is None else lambda value: scrub(value, *keys_of(source))
        self._steps = Fold(Thread())
        self._open: dict[str, Span] = {}
        self._tools: dict[tuple[str, int], Span] = {}
        if self._kind == "chat":
            self._begin("chat")

    def tool(self, call: Any, tool: Any, turn: int) -> Span:
        """The span of one tool run, which its worker starts and stops."""
        about = {**self._about, "tool": tool, "tool_call": call}
        span = self._tools[call.id, turn] = Span("tool", about, self._context, self._hide)
        return span

    def lost(self, call_id: str, turn: int, why: Any) -> None:
        """End a tool's span: nobody waits for that tool any more."""
        span = self._tools.pop((call_id, turn), None)
        if span is not None:
            span.exception("exit", why)

    def heard(self, state: LoopState, news: Input) -> None:
        """The machine is about to receive this input."""
        if isinstance(news, ModelEnded | ModelFailed) and isinstance(state.phase, Asking):
            if isinstance(news, ModelFailed):
                self._end_model(None)
            else:
                self._end_model(_answer(state, state.phase))

    def wants(self, effect: Effect) -> None:
        """This effect is about to be performed."""
        match effect:
            case CallModel():
                self.asks()
            case CancelModel():
                self._end_model(None)
            case Emit(events) if self._kind == "chat":
                self._emitted(events)
            case Finish(result):
                self._finish(result)
            case _:
                pass

    def asks(self) -> None:
        """A model is about to be called."""
        if self._kind != "generate" and "step" not in self._open:  # a step may ask again
            self._begin("step")
        self._begin("generate")
        self._begin("stream")

    def broken(self, why: Any, kind: str = "exit") -> None:
        """The turn ends without a result: its runner died (`exit`), or it was refused (`error`)."""
        self._lose_tools(why)
        for name in ("stream", "generate", "step", "chat"):  # the innermost first
            span = self._open.pop(name, None)
            if span is not None:
                span.exception(kind, why)

    def _emitted(self, events: tuple[Event, ...]) -> None:
        for event in events:
            if type(event) not in _OF_ONE_ANSWER:
                self._steps.apply(event)
            if isinstance(event, StepCompleted):
                self._lose_tools("cancelled")  # tools that a cancellation cut off: inner spans end first
                self._end("step", step_result=self._steps.step_result())

    def _lose_tools(self, why: Any) -> None:
        for call_id, turn in list(self._tools):
            self.lost(call_id, turn, why)

    def _begin(self, name: str) -> None:
        self._open[name] = Span(name, self._about, self._context, self._hide).start()

    def _end(self, name: str, **extras: Any) -> None:
        span = self._open.pop(name, None)
        if span is not None:
            span.stop(**extras)

    def _end_model(self, response: Response | None) -> None:
        self._end("stream")
        self._end("generate", response=response)

    def _finish(self, result: Response | StepResult | ChatResult | Refused) -> None:
        self._lose_tools("cancelled")
        if isinstance(result, Refused):
            self.broken(result.error, "error")
            return
        self._end_model(None)
        self._end("step", step_result=result if isinstance(result, StepResult) else None)
        self._end("chat", chat_result=result)


def _answer(state: LoopState, phase: Asking) -> Response:
    """The answer of one model call, with its usage and metadata."""
    response = Fold().apply_all(phase.events).response()
    usage = msgspec.structs.replace(response.usage, **missing_costs(response.usage, state.options.pricing))
    request_id = response.request_id or state.options.request_id
    return msgspec.structs.replace(response, usage=usage, request_id=request_id)


def _model_of(spec: TurnSpec) -> str | None:
    return resolve_model(spec.engine, spec.call_options, spec.request)
