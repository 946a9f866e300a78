"""What to do next, told by the machine.

Rule of this file: one frozen class per deed, performed in the order given. Each names the turn it belongs to, so
that an answer can say what it answers.
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
    """Show these events to whoever reads the stream."""

    events: tuple[Event, ...]


class CallModel(msgspec.Struct, frozen=True):
    """Ask the model with this thread.

    A `draft` is asked without the response format and without the finalize flag; `finalize` is asked with the response
    format and without any tool.
    """

    turn: int
    thread: Thread
    purpose: Purpose = "answer"


class CancelModel(msgspec.Struct, frozen=True):
    """Close the model's stream; nothing it says is wanted any more."""

    turn: int


class RunTool(msgspec.Struct, frozen=True):
    """Run the handler in a worker of its own, settle its result there, and answer `ToolReturned`.

    Where code of the user's has a part in the settling, say `HandlerEnded` before it.
    Units: `timeout` in seconds for the handler, and as many for that code, then `ToolTimedOut`; None is no limit.
    """

    call: ToolCall
    tool: Tool
    timeout: float | None
    request_id: str | None
    turn: int


class SettleError(msgspec.Struct, frozen=True):
    """Take an error that never had a worker to the user's policy and encoder (`tools.settle_error`), in a worker, and
    answer `ToolReturned`. If that worker crashes or takes longer than `timeout` seconds, say so.
    """

    call: ToolCall
    error: AllmError
    timeout: float | None
    turn: int


class CancelTool(msgspec.Struct, frozen=True):
    """Stop the worker of this call if it can be stopped, and drop whatever it says from now on."""

    call_id: str
    turn: int


class AskHalt(msgspec.Struct, frozen=True):
    """Ask the user's `halt_when` about this step, and answer `HaltAnswered`."""

    turn: int
    step_result: StepResult


class ParseAnswer(msgspec.Struct, frozen=True):
    """Make a value of the asked-for type out of this text, in a worker, and answer `AnswerParsed`."""

    turn: int
    text: str


class Checkpoint(msgspec.Struct, frozen=True):
    """Have this thread stored before doing what follows.

    It is made of what it was `before`, and the `answers` there are to the `calls` of its last message, by call id: many
    are told of and few are looked at, for what is stored together is stored once.
    """

    before: Thread
    calls: Sequence[ToolCall] = ()
    answers: Mapping[str, Message] = {}

    @property
    def thread(self) -> Thread:
        """What is to be stored; its answers in the order of the calls."""
        answers = [self.answers[call.id] for call in self.calls if call.id in self.answers]
        return self.before.add(*answers) if answers else self.before

    @property
    def pending_calls(self) -> tuple[ToolCall, ...]:
        """The calls that it leaves open."""
        return tuple(call for call in self.calls if call.id not in self.answers)


class Refused(msgspec.Struct, frozen=True):
    """The run never began: no event was shown, and the error is for the caller to see raised."""

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
