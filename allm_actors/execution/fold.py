"""The one reducer: folds events to a response, a step's or a chat's result.

Rule of this file: a synchronous call is a fold over its stream and nothing else. Folding is total: an invalid
event changes nothing.

    event                                            what it changes
    ---------------------------------------------    ---------------------------------------------------------------
    those of one answer                              see `receiving`
    ToolResultEncoded, AskUserRequested, ToolHalt    a call is answered; the first answer stays
    StepCompleted                                    a step is closed: answers, and the first halt, in order of calls
    ChatCompleted                                    the result, unchanged
    everything else                                  nothing
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final

import msgspec

from allm_actors.data import (
    AskUserRequested,
    ChatCompleted,
    ChatResult,
    Message,
    Response,
    StepCompleted,
    StepResult,
    Thread,
    ToolCall,
    ToolHalt,
    ToolResultEncoded,
)

from .answers import REJECTED, calling, partial, spoken
from .receiving import Receiving
from .tools import AnswerEvent, answer_message, halt_metadata

__all__ = ["FINAL_REASONS", "Fold", "fold", "step_of"]

FINAL_REASONS: Final = frozenset({"stop", "length", "content_filter", "error"})
"""The finish reasons after which a chat has no reason to go on."""


class Fold:
    """An accumulator of events. `thread` is what the events continue; results that hold a thread need one.

    Thread: not safe to share; one reader owns it.
    """

    __slots__ = ("_answers", "_chat_result", "_receiving", "_steps", "_thread")

    def __init__(self, thread: Thread | None = None) -> None:
        self._thread = thread
        self._receiving = Receiving()
        self._answers: dict[str, AnswerEvent] = {}
        self._steps: list[StepResult] = []
        self._chat_result: ChatResult | None = None

    def apply(self, event: object) -> Fold:
        """Take one event. Returns this fold."""
        return self.apply_all((event,))

    def apply_all(self, events: Iterable[object]) -> Fold:
        """Take events, in order. Returns this fold."""
        rules, closings = Receiving.rules, self._rules
        for event in events:
            kind = type(event)
            try:
                if (rule := rules.get(kind)) is not None:
                    rule(self._receiving, event)
                elif (closing := closings.get(kind)) is not None:
                    closing(self, event)
            except Exception:  # noqa: BLE001, S110 - total: an event without sense changes nothing
                pass
        return self

    def response(self) -> Response:
        """The answer so far: the one being received, or, between answers, the last one."""
        if not self._receiving.begun:
            if self._chat_result is not None and self._chat_result.final_response is not None:
                return self._chat_result.final_response
            if self._steps and self._steps[-1].response is not None:
                return self._steps[-1].response
        return self._receiving.response()

    def step_result(self) -> StepResult:
        """The last step, or what there is of an unfinished first one.

        Raises: ValueError when no step is complete and the fold was not given a thread.
        """
        if self._steps:
            return self._steps[-1]
        response = self._receiving.response()
        step = step_of(StepCompleted(response=response, thread=self._known_thread()), self._answers)
        return StepResult(
            thread=step.thread,
            response=response,
            tool_results=step.tool_results,
            done=step.done,
            metadata=self._receiving.metadata | step.metadata,
        )

    def chat_result(self) -> ChatResult:
        """The chat's result; if the stream was left early, one that is `cancelled` or, after an error, `error`.

        Raises: ValueError when no step is complete and the fold was not given a thread.
        """
        if self._chat_result is not None:
            return self._chat_result
        error = self._receiving.error
        last = self._steps[-1] if self._steps else None
        return ChatResult(
            thread=last.thread if last else self._known_thread(),
            final_response=last.response if last else self._receiving.response(),
            halted_reason="cancelled" if error is None else "error",
            steps=list(self._steps),
            metadata=self._receiving.metadata | ({} if error is None else {"error": error}),
        )

    def broken(self) -> StepResult | None:
        """A step for an answer that ended in an error before a `StepCompleted`; else None."""
        thread = self._steps[-1].thread if self._steps else self._thread
        if self._receiving.error is None or not self._receiving.begun or thread is None:
            return None
        response = self._receiving.response()
        asked = getattr(self._receiving.error, "request_id", None)
        if response.request_id is None and isinstance(asked, str):
            response = msgspec.structs.replace(response, request_id=asked)
        return step_of(StepCompleted(response=response, thread=thread.add(spoken(response))), {})

    def left(self) -> tuple[Message, ...]:
        """The messages that an unfinished step adds to the conversation: the calls of its answer with their
        results so far; or the answer's text, marked as partial. A result is left out if its call was in no event.
        """
        response = self._receiving.response()
        if response.finish_reason == "tool_calls" and response.tool_calls:
            made = [call.id for call in response.tool_calls]
            answers = [self._answers[call_id] for call_id in made if call_id in self._answers]
            return (calling(response), *map(answer_message, answers))
        return partial(response)

    @property
    def repeated_call(self) -> str | None:
        """An id that two different calls of the answer share, or None: the first of them was overwritten."""
        return self._receiving.repeated

    @property
    def unfinished_calls(self) -> frozenset[str]:
        """The ids of the calls that began and were never completed."""
        return self._receiving.unfinished_calls

    def _answered(self, event: AnswerEvent) -> None:
        call_id = event.id if isinstance(event, ToolResultEncoded) else event.tool_call_id
        self._answers.setdefault(call_id, event)

    def _step_completed(self, event: StepCompleted) -> None:
        self._steps.append(step_of(event, self._answers))
        error = self._receiving.error
        if error is None and event.response.finish_reason == "error":
            error = event.response.metadata.get("error")
        self._receiving = Receiving(error, self._receiving.metadata)
        self._answers = {}

    def _chat_completed(self, event: ChatCompleted) -> None:
        result: object = event.result
        if isinstance(result, ChatResult):
            self._chat_result = result
            # What has come since the last step is in it: at most a part of an answer, and the chat's error.
            self._receiving = Receiving(self._receiving.error, self._receiving.metadata)

    def _known_thread(self) -> Thread:
        if self._thread is None:
            raise ValueError(
                "these events contain no complete step; give the fold the thread that they continue"
            )
        return self._thread

    _rules: ClassVar[Mapping[type, Callable[[Fold, Any], None]]] = {
        ToolResultEncoded: _answered,
        AskUserRequested: _answered,
        ToolHalt: _answered,
        StepCompleted: _step_completed,
        ChatCompleted: _chat_completed,
    }


def fold(events: Iterable[object], thread: Thread | None = None) -> Fold:
    """A new fold with these events applied."""
    return Fold(thread).apply_all(events)


def step_of(event: StepCompleted, answers: Mapping[str, AnswerEvent]) -> StepResult:
    """The result of the step that an event closes; `answers` are those to its calls, by call id."""
    response = event.response
    in_order = _in_order(response.tool_calls, answers)
    halt: dict[str, Any] = next(filter(None, map(halt_metadata, in_order)), {})
    metadata = dict(halt)
    if event.mode == "manual" and response.finish_reason == "tool_calls":
        metadata["mode"] = "manual"
    if event.manual_tool_calls:
        metadata["manual_tool_calls"] = list(event.manual_tool_calls)
    return StepResult(
        thread=event.thread,
        response=response,
        tool_results=[answer_message(answer) for answer in in_order],
        done=bool(halt) or (response.finish_reason in FINAL_REASONS and REJECTED not in response.metadata),
        metadata=metadata,
    )


def _in_order(calls: list[ToolCall], answers: Mapping[str, AnswerEvent]) -> list[AnswerEvent]:
    """The answers in the order of the calls, then those that match no call."""
    asked = dict.fromkeys(call.id for call in calls)
    known = [answers[call_id] for call_id in asked if call_id in answers]
    if len(known) == len(answers):
        return known
    return known + [answer for call_id, answer in answers.items() if call_id not in asked]
