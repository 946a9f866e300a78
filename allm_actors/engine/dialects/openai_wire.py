"""The parts of OpenAI's chat completion JSON that are read.

Rule of this file: nearly every chunk fits the typed structs and is decoded into them in about a microsecond.
A chunk that does not fit is read leniently, field by field, and a field of an unexpected kind counts as
missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = [
    "UNREADABLE",
    "Call",
    "Choice",
    "Chunk",
    "Delta",
    "Function",
    "Groq",
    "decode",
    "read_leniently",
    "text_of",
    "usage_fields",
]


class Function(msgspec.Struct, gc=False):
    """The function of a call."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class Call(msgspec.Struct, gc=False):
    """A fragment of a call; `index` says of which."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Delta(msgspec.Struct, gc=False):
    """What a chunk adds to the answer."""

    content: str | list[Any] | None = None
    tool_calls: list[Call] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None


class Choice(msgspec.Struct, gc=False):
    """One of the answers; `message` is what a server that does not stream has for `delta`."""

    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None


class Groq(msgspec.Struct, gc=False):
    """What Groq says beside the format."""

    usage: dict[str, Any] | None = None
    error: Any = None


class Chunk(msgspec.Struct, gc=False):
    """One event of the stream. Only what is read is declared: everything else is skipped, not decoded."""

    id: str | None = None
    model: str | None = None
    choices: list[Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None
    x_groq: Groq | None = None


decode = msgspec.json.Decoder(Chunk).decode
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


def usage_fields(wire: Mapping[str, Any]) -> dict[str, Any]:
    """`Usage` fields of a wire's usage object; what has no field of its own is kept in `extra`."""
    extra = dict(wire)
    inputs, outputs = extra.pop("prompt_tokens_details", None), extra.pop("completion_tokens_details", None)
    inputs = dict(inputs) if isinstance(inputs, dict) else {}
    outputs = outputs if isinstance(outputs, dict) else {}
    cached = _count(inputs.pop("cached_tokens", None))
    hit = _count(extra.get("prompt_cache_hit_tokens"))
    fields: dict[str, Any] = {
        "input_tokens": _count(extra.pop("prompt_tokens", None)),
        "output_tokens": _count(extra.pop("completion_tokens", None)),
        "total_tokens": _count(extra.pop("total_tokens", None)),
        "cached_input_tokens": hit if cached is None else cached,
        "cache_write_input_tokens": _count(inputs.pop("cache_write_tokens", None)),
        "reasoning_tokens": _count(outputs.get("reasoning_tokens")),
        "total_cost": _cost(extra.pop("cost", None)),
    }
    if inputs:
        extra["prompt_tokens_details"] = inputs
    if extra:
        fields["extra"] = extra
    return {name: value for name, value in fields.items() if value is not None}


def read_leniently(data: bytes) -> Chunk | None:
    """A chunk out of anything that is a JSON object: fields of an unexpected kind count as missing."""
    try:
        wire = _clean(json.loads(data.decode("utf-8", "replace")))
    except UNREADABLE:
        return None
    if not isinstance(wire, dict):
        return None
    groq = _dict(wire.get("x_groq"))
    return Chunk(
        id=text_of(wire.get("id")),
        model=text_of(wire.get("model")),
        choices=[_read_choice(choice) for choice in _dicts(wire.get("choices"))],
        usage=_dict(wire.get("usage")) or None,
        error=wire.get("error"),
        x_groq=Groq(_dict(groq.get("usage")) or None, groq.get("error")),
    )


def text_of(value: Any) -> str | None:
    """`value` if it is text and not empty."""
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _cost(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e12 else None


def _read_choice(wire: dict[str, Any]) -> Choice:
    delta = _dict(wire.get("delta")) or _dict(wire.get("message"))
    content = delta.get("content")
    return Choice(
        index=_count(wire.get("index")),
        delta=Delta(
            content=content if isinstance(content, list) else text_of(content),
            tool_calls=[_read_call(call) for call in _dicts(delta.get("tool_calls"))],
            reasoning_content=text_of(delta.get("reasoning_content")),
            reasoning=text_of(delta.get("reasoning")),
            refusal=text_of(delta.get("refusal")),
        ),
        finish_reason=text_of(wire.get("finish_reason")),
    )


def _read_call(wire: dict[str, Any]) -> Call:
    function = _dict(wire.get("function"))
    arguments = function.get("arguments")
    return Call(
        index=_count(wire.get("index")),
        id=text_of(wire.get("id")),
        function=Function(
            name=text_of(function.get("name")),
            arguments=arguments if isinstance(arguments, dict) else text_of(arguments),
        ),
    )


def _clean(value: Any) -> Any:
    """`value` with halves of surrogate pairs replaced: they can be neither stored nor sent."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return {_clean(key): _clean(item) for key, item in value.items()} if isinstance(value, dict) else value


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
