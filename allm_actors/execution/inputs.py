"""The loop machine's inputs: what happened.

Rule of this file: one frozen class per kind of input. An input about another turn, about a call that is
answered already, or one that comes twice changes nothing, so senders need not guard against stale or
duplicate inputs.
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
    """Events of the model: the batch of one network read."""

    turn: int
    events: Sequence[Event]


class ModelEnded(msgspec.Struct, frozen=True):
    """The model's stream is exhausted: nothing more will come."""

    turn: int


class ModelFailed(msgspec.Struct, frozen=True):
    """The call was refused before its first event (`preflight`), or the worker that held the stream died."""

    turn: int
    error: AllmError
    preflight: bool = False


class HandlerEnded(msgspec.Struct, frozen=True):
    """A call's handler has ended, and user code now settles its outcome: a policy, an encoder, or both.

    `error` is the handler's failure, if it failed. Sent only if there is such code. `ToolReturned` follows,
    or, if that code does not complete, `ToolCrashed` or `ToolTimedOut`.
    """

    call_id: str
    error: Any = None
    turn: int | None = None


class ToolReturned(msgspec.Struct, frozen=True):
    """A call has its outcome: from the tool's worker, or from the one that settled its error.

    Without a `turn` it is about the current one. Reports of a cancelled worker must be dropped before they
    get here.
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
    """The time of a call's handler, or of the code that settles it, is up; its worker may still be running."""

    call_id: str
    turn: int | None = None


class HaltAnswered(msgspec.Struct, frozen=True):
    """What `halt_when` returned: anything true halts; an exception that it raised ends the chat with an error."""

    turn: int
    answer: object


class AnswerParsed(msgspec.Struct, frozen=True):
    """The outcome of parsing an answer: a `value`, a `problem` that the model can correct, or an `error` otherwise."""

    turn: int
    value: object = None
    problem: str | None = None
    error: AllmError | None = None


class Cancelled(msgspec.Struct, frozen=True):
    """Stop now: the caller cancels (`cancelled`), the host stops (`interrupted`), or the run broke (`error`).

    `unbegun` are the ids of calls whose `RunTool` was still waiting: they were neither run nor shown.
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
