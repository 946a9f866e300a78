"""One request to a model, independent of any provider's wire format.

Rule of this file: plain frozen values; provider-specific options travel verbatim in `options`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .messages import Message
from .tools import Tool

__all__ = ["ModelRef", "Request"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One model call. `tool_choice` is `auto`, `none`, `required`, a tool's name, or a provider's own shape;
    `response_format` is None, `text`, `{"type": "json_object"}`, what `json_schema()` returns, or OpenAI's shape.
    """

    messages: list[Message]
    model: str | None = None
    tools: list[Tool] = []
    tool_choice: str | dict[str, Any] | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    response_format: str | dict[str, Any] | None = None
    stream: bool = False
    structured_finalize: bool = False
    prompt_cache: dict[str, Any] | None = None
    options: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class ModelRef(msgspec.Struct, frozen=True, kw_only=True):
    """A catalogue's entry for a model.

    `pricing` is USD per million tokens, `{"input": …, "output": …}`. Tokens that the provider read from its cache or
    wrote to it cost what other input does, unless there is a `cached_input` or a `cache_write_input`.
    """

    id: str
    provider: str | None = None
    capabilities: dict[str, Any] | None = None
    limits: dict[str, Any] | None = None
    pricing: dict[str, Any] | None = None
    metadata: dict[str, Any] = {}
