"""The parts of OpenAI's chat completion JSON that are read.

Rule of this file: nearly every chunk fits the typed structs and is decoded into them in about a microsecond.
A chunk that does not fit is read leniently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

import msgspec

from allm_actors.engine.dialects.lenient import count_of, dicts_of

__all__ = [
    "CHUNK",
    "FOUND",
    "Call",
    "Choice",
    "Chunk",
    "Delta",
    "Function",
    "Groq",
    "merge_content",
    "merge_details",
    "usage_fields",
]


class Function(msgspec.Struct, gc=False):
    """The function of a call."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class Call(msgspec.Struct, gc=False):
    """A fragment of a call; `index` says which call."""

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
    reasoning_details: list[Any] | None = None
    annotations: list[Any] | None = None


class Choice(msgspec.Struct, gc=False):
    """One of the answers; `message` takes the place of `delta` in an answer that is not streamed. Some
    servers put usage here.
    """

    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None


class Groq(msgspec.Struct, gc=False):
    """Groq's additions to the format."""

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
    citations: Any = None
    search_results: Any = None
    images: Any = None
    related_questions: Any = None


CHUNK = msgspec.json.Decoder(Chunk)

FOUND = ("citations", "search_results", "images", "related_questions")
"""Fields that a server with web search adds: names in a chunk, and in the response's metadata."""


def merge_details(pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Reasoning details from their pieces: texts of the same detail are joined, and later fields are added."""
    whole: list[dict[str, Any]] = []
    texts: list[dict[str, list[str]]] = []
    for piece in pieces:
        same = whole and all(whole[-1].get(name) == piece.get(name) for name in ("type", "index"))
        if not same:
            whole.append({})
            texts.append({})
        for name, value in piece.items():
            if name in _TEXTS and isinstance(value, str):
                texts[-1].setdefault(name, []).append(value)
            elif value is not None or name not in whole[-1]:
                whole[-1][name] = value
    return [
        detail | {name: "".join(said) for name, said in text.items()}
        for detail, text in zip(whole, texts, strict=True)
    ]


_TEXTS = ("text", "summary", "data")


def merge_content(pieces: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parts of a message from their pieces: texts in a row are joined, and so are thoughts, up to a closed one."""
    whole: list[dict[str, Any]] = []
    for piece in pieces:
        last = whole[-1] if whole else {}
        if piece.get("type") != "thinking":
            whole.append(piece)
        elif last.get("type") != "thinking" or last.get("closed") is True:
            whole.append({**piece, "thinking": [*dicts_of(piece.get("thinking"))]})
        else:
            last["thinking"] += dicts_of(piece.get("thinking"))
            last |= {name: piece[name] for name in piece if name != "thinking" and piece[name] is not None}
    return [
        {**part, "thinking": _joined(part["thinking"])} if part.get("type") == "thinking" else part
        for part in _joined(whole)
    ]


def _joined(parts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The parts, in which texts in a row are one."""
    joined: list[dict[str, Any]] = []
    for is_text, group in groupby(parts, key=_is_text):
        same = list(group)
        joined += [{**same[0], "text": "".join(part["text"] for part in same)}] if is_text else same
    return joined


def _is_text(part: Mapping[str, Any]) -> bool:
    return part.get("type") == "text" and isinstance(part.get("text"), str)


def usage_fields(wire: Mapping[str, Any]) -> dict[str, Any]:
    """`Usage` fields of a wire's usage object; what has no field of its own is kept in `extra`."""
    extra = dict(wire)
    inputs, outputs = extra.pop("prompt_tokens_details", None), extra.pop("completion_tokens_details", None)
    inputs = dict(inputs) if isinstance(inputs, dict) else {}
    outputs = outputs if isinstance(outputs, dict) else {}
    cached = count_of(inputs.pop("cached_tokens", None))
    hit = count_of(extra.get("prompt_cache_hit_tokens")) or count_of(extra.get("cached_tokens"))
    cost = extra.get("cost")
    if not isinstance(cost, dict):
        extra.pop("cost", None)
    fields: dict[str, Any] = {
        "input_tokens": count_of(extra.pop("prompt_tokens", None)),
        "output_tokens": count_of(extra.pop("completion_tokens", None)),
        "total_tokens": count_of(extra.pop("total_tokens", None)),
        "cached_input_tokens": hit if cached is None else cached,
        "cache_write_input_tokens": count_of(inputs.pop("cache_write_tokens", None)),
        "reasoning_tokens": count_of(outputs.get("reasoning_tokens")),
        "total_cost": _cost(cost.get("total_cost") if isinstance(cost, dict) else cost),
    }
    if inputs:
        extra["prompt_tokens_details"] = inputs
    fields["extra"] = extra
    return fields


def _cost(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e12 else None
