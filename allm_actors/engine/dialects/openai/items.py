"""The parts of OpenAI's responses that are read: events, items, usage.

Rule of this file: nearly every event fits the typed struct and is decoded into it in about a microsecond. One that does
not fit is read leniently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from allm_actors.engine.dialects.lenient import count_of, dict_of, dicts_of, text_of

__all__ = [
    "WIRE",
    "Wire",
    "citations",
    "is_plain",
    "refusal",
    "spoken",
    "summaries",
    "thoughts",
    "usage_fields",
]


class Wire(msgspec.Struct, gc=False):
    """One event of the stream. Only what is read is declared."""

    type: str | None = None
    delta: str | None = None
    item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    item: dict[str, Any] | None = None
    annotation: dict[str, Any] | None = None
    response: dict[str, Any] | None = None
    error: Any = None
    code: Any = None
    message: Any = None


WIRE = msgspec.json.Decoder(Wire)


# --- items --------------------------------------------------------------------------------------------------------


def spoken(item: Mapping[str, Any]) -> str:
    """The text of a message."""
    return "".join(_texts(item.get("content"), "output_text", "text"))


def refusal(item: Mapping[str, Any]) -> str:
    """The refusal in a message."""
    return "".join(_texts(item.get("content"), "refusal", "refusal"))


def thoughts(item: Mapping[str, Any]) -> list[str]:
    """The thoughts in a reasoning item: the parts of the summary, then the thoughts themselves."""
    return [*summaries(item), *_texts(item.get("content"), "reasoning_text", "text")]


def summaries(item: Mapping[str, Any]) -> list[str]:
    """The parts of the summary in a reasoning item."""
    return list(_texts(item.get("summary"), "summary_text", "text"))


def citations(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The citations in a message, unchanged."""
    parts = dicts_of(item.get("content")) if item.get("type") == "message" else []
    return [note for part in parts for note in dicts_of(part.get("annotations"))]


def is_plain(item: Mapping[str, Any]) -> bool:
    """Whether a `Message` can hold everything that is in the item."""
    if item.get("type") == "function_call":
        return not item.get("namespace") and not item.get("caller")
    parts = dicts_of(item.get("content"))
    spoken_only = all(part.get("type") == "output_text" for part in parts)
    return item.get("type") == "message" and not item.get("phase") and spoken_only


def _texts(parts: Any, kind: str, name: str) -> Iterable[str]:
    found = (text_of(part.get(name)) for part in dicts_of(parts) if part.get("type") == kind)
    return (text for text in found if text)


# --- usage --------------------------------------------------------------------------------------------------------


def usage_fields(wire: Mapping[str, Any]) -> dict[str, Any]:
    """`Usage` fields of a wire's usage object; what has no field of its own is kept in `extra`."""
    extra = dict(wire)
    inputs = dict(dict_of(extra.pop("input_tokens_details", None)))
    outputs = dict_of(extra.pop("output_tokens_details", None))
    fields: dict[str, Any] = {
        "input_tokens": count_of(extra.pop("input_tokens", None)),
        "output_tokens": count_of(extra.pop("output_tokens", None)),
        "total_tokens": count_of(extra.pop("total_tokens", None)),
        "cached_input_tokens": count_of(inputs.pop("cached_tokens", None)),
        "cache_write_input_tokens": count_of(inputs.pop("cache_write_tokens", None)),
        "reasoning_tokens": count_of(outputs.get("reasoning_tokens")),
    }
    if inputs:
        extra["input_tokens_details"] = inputs
    fields["extra"] = extra
    return fields
