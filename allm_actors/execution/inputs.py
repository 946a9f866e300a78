"""What happened, told to the machine.

Rule of this file: one frozen class per kind of news. News of another turn, of a call that was answered already, or news
that comes twice changes nothing, so nobody has to guard against telling too much.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from allm_actors.data import AllmError, Event

from .tools import ToolOutcome

__all__ = [
    "AnswerParsed",
    "Cancelled",
    "HaltAnswered",
    "HandlerEnded",
    "Input",
    "ModelEnded",
    "ModelEvents",
    "ModelFailed",
    "ToolCrashed",
    "ToolReturned",
    "ToolTimedOut",
]


class ModelEvents(msgspec.Struct, frozen=True):
    """The model said something; a batch is whatever one read of the network brought."""

    turn: int
    events: Sequence[Event]


class ModelEnded(msgspec.Struct, frozen=True):
    """The model's stream is exhausted: nothing more will come."""

    turn: int


class ModelFailed(msgspec.Struct, frozen=True):
    """The call was refused before its first event (`preflight`), or whoever held the stream died."""

    turn: int
    error: AllmError
    preflight: bool = False


class HandlerEnded(msgspec.Struct, frozen=True):
    """A call's handler is over, and code of the user's is asked what that means: a policy, an encoder, or both.

    `error` is what the handler failed with, if it did. Told only where there is such code. `ToolReturned` follows, or
    `ToolCrashed` or `ToolTimedOut`, where that code comes to no end.
    """

    call_id: str
    error: Any = None
    turn: int | None = None


class ToolReturned(msgspec.Struct, frozen=True):
    """A call has its outcome: from the tool's worker, or from the one that was asked to settle an error.

    Without a `turn` it is about the current one. Whoever cancelled a worker drops what that worker says later.
    """

    call_id: str
    outcome: ToolOutcome
    turn: int | None = None


class ToolCrashed(msgspec.Struct, frozen=True):
    """A call's worker died without an outcome, or never `begun`; `reason` is text for people."""

    call_id: str
    reason: str
    turn: int | None = None
    begun: bool = True


class ToolTimedOut(msgspec.Struct, frozen=True):
    """The time of a call's handler is over, or of the code that settles it; its worker may still be running."""

    call_id: str
    turn: int | None = None


class HaltAnswered(msgspec.Struct, frozen=True):
    """What `halt_when` said: anything true halts, and an exception it raised ends the chat with an error."""

    turn: int
    answer: object


class AnswerParsed(msgspec.Struct, frozen=True):
    """What became of an answer's text: a `value`, a `problem` that the model can mend, or an `error` that it cannot."""

    turn: int
    value: object = None
    problem: str | None = None
    error: AllmError | None = None


class Cancelled(msgspec.Struct, frozen=True):
    """Stop now: the caller wants to (`cancelled`), the house closes (`interrupted`), or the run broke (`error`).

    `unbegun` are the ids of the calls whose `RunTool` had still to wait: nothing of them was done, and nothing shown.
    """

    reason: Literal["cancelled", "interrupted", "error"] = "cancelled"
    error: AllmError | None = None
    unbegun: frozenset[str] = frozenset()


Input = (
    ModelEvents
    | ModelEnded
    | ModelFailed
    | HandlerEnded
    | ToolReturned
    | ToolCrashed
    | ToolTimedOut
    | HaltAnswered
    | AnswerParsed
    | Cancelled
)
