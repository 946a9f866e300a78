"""The rules of one run, fixed before it begins.

Rule of this file: plain frozen values. User functions (a predicate, a policy, an encoder) appear only as
flags; the performer of the effects holds the functions themselves. What can never work is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import msgspec

from allm_actors.data import Tool
from allm_actors.data.predicates import is_count, is_number, is_positive

__all__ = [
    "DEFAULT_MAX_RETRIES",
    "DEFAULT_MAX_TURNS",
    "DEFAULT_NUDGE",
    "DEFAULT_TOOL_TIMEOUT",
    "Kind",
    "Mode",
    "OnToolError",
    "Options",
]

Kind = Literal["generate", "step", "chat"]
Mode = Literal["auto", "manual"]
OnToolError = Literal["continue", "halt", "function"]

DEFAULT_MAX_TURNS: Final = 8
DEFAULT_MAX_RETRIES: Final = 2
DEFAULT_TOOL_TIMEOUT: Final = 30.0
DEFAULT_NUDGE: Final = "Now provide your final structured response."


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one run.

    `generate` is one answer, `step` an answer and its tools, `chat` steps until something halts. None means 8
    for `max_turns`, no limit for `max_concurrency`, and the default text for `nudge`; `""` sends no nudge.
    `on_tool_error="function"` and `custom_encoder` say that user code takes part in settling a tool's error.
    `structured_finalize` asks for two passes: the loop without a response format, then one answer without tools.
    `parses` says that an answer must fit a type; if it does not, the model is asked again, at most
    `max_retries` times in a run; these model calls do not count as turns. `pricing` is the price of a million
    tokens: see `costs`.

    Units: `tool_timeout` in seconds from the tool's start; None is no limit.
    Raises: ValueError for an invalid kind, mode, policy or bound.
    """

    kind: Kind
    request_id: str | None = None
    mode: Mode = "auto"
    max_turns: int | None = None
    max_concurrency: int | None = None
    tool_timeout: float | None = DEFAULT_TOOL_TIMEOUT
    on_tool_error: OnToolError = "continue"
    custom_encoder: bool = False
    halt_when: bool = False
    tools: Mapping[str, Tool] = {}
    structured_finalize: bool = False
    nudge: str | None = None
    parses: bool = False
    max_retries: int = DEFAULT_MAX_RETRIES
    pricing: Mapping[str, Any] = {}

    def __post_init__(self) -> None:
        _positive("max_turns", self.max_turns)
        _one_of("kind", self.kind, get_args(Kind))
        _one_of("mode", self.mode, get_args(Mode))
        _one_of("on_tool_error", self.on_tool_error, get_args(OnToolError))
        _positive("max_concurrency", self.max_concurrency)
        retries: object = self.max_retries
        if not is_count(retries):
            raise ValueError(f"max_retries must be 0 or a positive integer; got: {retries!r}")
        timeout: object = self.tool_timeout
        if timeout is None:
            return
        if not (is_number(timeout) and timeout > 0):
            raise ValueError(f"tool_timeout must be a positive number of seconds or None; got: {timeout!r}")

    @property
    def turn_limit(self) -> int:
        """How many model calls a chat may make."""
        return DEFAULT_MAX_TURNS if self.max_turns is None else self.max_turns

    @property
    def two_passes(self) -> bool:
        """Whether a chat answers freely first, and then in the requested format."""
        return self.kind == "chat" and self.structured_finalize

    @property
    def errors_need_user_code(self) -> bool:
        """Whether an error that did not come from a worker must be settled in one, because user code takes part."""
        return self.custom_encoder or self.on_tool_error == "function"


def _positive(name: str, value: object) -> None:
    if value is not None and not is_positive(value):
        raise ValueError(f"{name} must be a positive integer; got: {value!r}")


def _one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}; got: {value!r}")
