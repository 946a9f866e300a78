"""The loop machine's effects: what to do next.

Rule of this file: one frozen class per effect, performed in the order given. Those that expect an answer name
the turn they belong to, so that the answer can name it, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from allm_actors.data import (
    AllmError,
    ChatResult,
    Event,
    Message,
    Response,
    StepResult,
    Thread,
    Tool,
    ToolCall,
)

__all__ = [
    "AskHalt",
    "CallModel",
    "CancelModel",
    "CancelTool",
    "Checkpoint",
    "Effect",
    "Emit",
    "Finish",
    "ParseAnswer",
    "Purpose",
    "Refused",
    "RunTool",
    "SettleError",
]

Purpose = Literal["answer", "draft", "finalize"]


class Emit(msgspec.Struct, frozen=True):
    """Publish these events to the stream's reader."""

    events: tuple[Event, ...]


class CallModel(msgspec.Struct, frozen=True):
    """Call the model with this thread.

    A `draft` is requested without the response format and without the finalize flag; `finalize` is requested
    with the response format and without any tool.
    """

    turn: int
    thread: Thread
    purpose: Purpose = "answer"


class CancelModel(msgspec.Struct, frozen=True):
    """Close the model's stream; its further events are dropped."""

    turn: int


class RunTool(msgspec.Struct, frozen=True):
    """Run the handler in a worker of its own, settle its result there, and answer `ToolReturned`.

    If user code takes part in settling, answer `HandlerEnded` before that.
    Units: `timeout` in seconds for the handler, and again for that code, then `ToolTimedOut`; None is no
    limit.
    """

    call: ToolCall
    tool: Tool
    timeout: float | None
    request_id: str | None
    turn: int


class SettleError(msgspec.Struct, frozen=True):
    """Settle an error that did not come from a worker with the user's policy and encoder
    (`tools.settle_error`), in a worker, and answer `ToolReturned`; or `ToolCrashed`, or `ToolTimedOut` after
    `timeout` seconds.
    """

    call: ToolCall
    error: AllmError
    timeout: float | None
    turn: int


class CancelTool(msgspec.Struct, frozen=True):
    """Stop the worker of this call if possible, and drop its further reports."""

    call_id: str
    turn: int


class AskHalt(msgspec.Struct, frozen=True):
    """Ask the user's `halt_when` about this step, and answer `HaltAnswered`."""

    turn: int
    step_result: StepResult


class ParseAnswer(msgspec.Struct, frozen=True):
    """Parse this text into the `response_model`, in a worker, and answer `AnswerParsed`."""

    turn: int
    text: str


class Checkpoint(msgspec.Struct, frozen=True):
    """Have this thread stored before performing later effects.

    The thread is `before` plus the `answers` so far to the `calls` of its last message, by call id. It is
    only built when `thread` is read, because most checkpoints are superseded by a later one before they are
    stored.
    """

    before: Thread
    calls: Sequence[ToolCall] = ()
    answers: Mapping[str, Message] = {}

    @property
    def thread(self) -> Thread:
        """The thread to store, with the answers in the order of the calls."""
        answers = [self.answers[call.id] for call in self.calls if call.id in self.answers]
        return self.before.add(*answers) if answers else self.before


class Refused(msgspec.Struct, frozen=True):
    """The run never began: no event was published, and the error is raised to the caller."""

    error: AllmError


class Finish(msgspec.Struct, frozen=True):
    """The run is over. Always the last effect, exactly once."""

    result: Response | StepResult | ChatResult | Refused


Effect = (
    Emit
    | CallModel
    | CancelModel
    | RunTool
    | SettleError
    | CancelTool
    | AskHalt
    | ParseAnswer
    | Checkpoint
    | Finish
)
