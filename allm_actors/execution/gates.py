"""Why a chat stops after a step: the gates, in order; the first that is true decides.

Rule of this file: a new reason is a new row, in the docstring and in `GATES`. `index` is the step's index in
the result, `limit` how many steps are allowed, not counting the `retries` for rejected answers. Gate 8 is
evaluated outside, where the user's function is; `verdict` is None until it has answered.

    gate  the step                             halted_reason      metadata
    ----  -----------------------------------  -----------------  ---------------------------------------------------
    1     a tool asked the user                ask_user           pending_question, pending_tool_call_id, ask_user_opts
    2     a tool failed, and the policy halts  tool_error         halt_tool_call_id [, on_tool_error_exception]
    3     a tool halted                        the tool's reason  halt_tool_call_id, halt_result
    4     left calls to the caller             manual_tool_calls  manual_turn_index, manual_tool_calls
    5     ran in manual mode and has calls     manual_tool_calls  manual_turn_index
    6     is a whole answer, and not rejected  completed
    7     failed                               error              error
    8     the user's halt_when says so         halt_when          halt_when_step_index
    9     was the last that is allowed         max_turns          max_turns

A rejected answer (see `answers`) passes gate 9: the number of rejected answers is limited by `max_retries`.
After gates 1 to 3, calls that a step left to the caller stay pending: they are in the metadata as `manual_tool_calls`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from allm_actors.data import StepResult

from .answers import REJECTED

__all__ = ["GATES", "Gate", "Halted", "Standing", "decide"]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The situation of a chat after a step, for the gates."""

    step: StepResult
    index: int
    limit: int
    retries: int = 0
    verdict: object = None

    @property
    def halt(self) -> str | None:
        """The reason that a tool gave to halt, or None."""
        reason: str | None = self.step.metadata.get("halted_reason")
        return reason

    @property
    def finish_reason(self) -> str | None:
        """How the model's answer ended."""
        return self.step.response.finish_reason if self.step.response is not None else None

    @property
    def rejected(self) -> bool:
        """Whether the model's answer did not fit the `response_model`, and the model will be asked again."""
        return self.step.response is not None and REJECTED in self.step.response.metadata


class Halted(msgspec.Struct, frozen=True):
    """A chat is over: the reason, and the metadata for its result."""

    reason: str
    metadata: dict[str, Any] = {}


class Gate(msgspec.Struct, frozen=True):
    """One row of the table; a `reason` of None means the tool's reason."""

    number: int
    reason: str | None
    stops: Callable[[Standing], bool]
    metadata: Callable[[Standing], dict[str, Any]]

    def halted(self, standing: Standing) -> Halted:
        """The reason and metadata with which this gate stops the chat."""
        return Halted(self.reason or standing.halt or "", self.metadata(standing))


def decide(standing: Standing, gates: tuple[Gate, ...]) -> Halted | None:
    """The verdict of the first of these gates that stops the chat; None if it passes all of them."""
    for gate in gates:
        if gate.stops(standing):
            return gate.halted(standing)
    return None


def _tool_halt(standing: Standing) -> dict[str, Any]:
    return {key: value for key, value in standing.step.metadata.items() if key != "halted_reason"}


def _left_open(standing: Standing) -> dict[str, Any]:
    calls = standing.step.metadata["manual_tool_calls"]
    return {"manual_turn_index": standing.index, "manual_tool_calls": calls}


def _failed(standing: Standing) -> dict[str, Any]:
    response = standing.step.response
    return {"error": response.metadata.get("error") if response is not None else None}


GATES: Final = (
    Gate(1, "ask_user", lambda s: s.halt == "ask_user", _tool_halt),
    Gate(2, "tool_error", lambda s: s.halt == "tool_error", _tool_halt),
    Gate(3, None, lambda s: s.halt is not None, _tool_halt),
    Gate(4, "manual_tool_calls", lambda s: bool(s.step.metadata.get("manual_tool_calls")), _left_open),
    Gate(
        5,
        "manual_tool_calls",
        lambda s: s.step.metadata.get("mode") == "manual",
        lambda s: {"manual_turn_index": s.index},
    ),
    Gate(
        6,
        "completed",
        lambda s: s.finish_reason in {"stop", "length", "content_filter"} and not s.rejected,
        lambda _: {},
    ),
    Gate(7, "error", lambda s: s.finish_reason == "error", _failed),
    Gate(8, "halt_when", lambda s: bool(s.verdict), lambda s: {"halt_when_step_index": s.index}),
    Gate(
        9,
        "max_turns",
        lambda s: s.index + 1 - s.retries >= s.limit and not s.rejected,
        lambda s: {"max_turns": s.limit},
    ),
)
