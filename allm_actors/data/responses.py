"""What a provider answered.

Rule of this file: None means that the provider did not say; 0 means that it said zero.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from .messages import Message, ToolCall
from .predicates import is_number

__all__ = ["COUNTED", "FinishReason", "Response", "Usage"]

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "error", "other"]


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a call consumed: tokens as counts, costs in USD. `input_tokens` includes tokens read from a cache
    or written to it.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    input_cost: float | None = None
    output_cost: float | None = None
    total_cost: float | None = None
    tool_usage: dict[str, Any] = {}
    extra: dict[str, Any] = {}

    def total(self) -> int | None:
        """All tokens: the provider's total, else input plus output, else None."""
        if isinstance(self.total_tokens, int):
            return self.total_tokens
        if isinstance(self.input_tokens, int) and isinstance(self.output_tokens, int):
            return self.input_tokens + self.output_tokens
        return None

    def plus(self, other: Usage) -> Usage:
        """What both calls consumed together; None where neither said."""
        added = {name: _sum(getattr(self, name), getattr(other, name)) for name in COUNTED}
        if (self.total_tokens is None) != (other.total_tokens is None):
            # The total of one alone would not be the total of both.
            added["total_tokens"] = _sum(self.total(), other.total())
        tools = _together(self.tool_usage, other.tool_usage)
        return Usage(**added, tool_usage=tools, extra={**self.extra, **other.extra})


COUNTED: Final = tuple(name for name in Usage.__struct_fields__ if name not in ("tool_usage", "extra"))
"""The fields of a `Usage` that are numbers."""


def _sum(one: Any, other: Any) -> Any:
    return other if one is None else one if other is None else one + other


def _together(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Both dicts merged; numbers that are in both are added."""
    counted = [name for name in one.keys() & other.keys() if is_number(one[name]) and is_number(other[name])]
    return {**one, **other, **{name: one[name] + other[name] for name in counted}}


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """One finished model call. A failure after the first event is data: `finish_reason` is `error` and
    `metadata["error"]` holds the error; `parsed` is the value of a `response_model`.
    """

    id: str | None = None
    request_id: str | None = None
    model: str | None = None
    message: Message | None = None
    output_text: str | None = None
    tool_calls: list[ToolCall] = []
    finish_reason: FinishReason | None = None
    raw_finish_reason: str | None = None
    usage: Usage = msgspec.field(default_factory=Usage)
    raw: Any = None
    parsed: Any = None
    metadata: dict[str, Any] = {}

    def text(self) -> str | None:
        """The answer's text, or None where there is none (a list content has no single text)."""
        if isinstance(self.output_text, str):
            return self.output_text
        if self.message is not None and isinstance(self.message.content, str):
            return self.message.content
        return None
