"""Reading JSON of unknown shape.

Rule of this file: total. A value of an unexpected kind counts as missing, and no text returned from here has
a lone surrogate in it, which could be neither stored nor sent.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from allm_actors.data.utf8 import utf8_of

__all__ = [
    "UNREADABLE",
    "count_of",
    "dict_of",
    "dicts_of",
    "number_of",
    "read_frame",
    "read_object",
    "text_of",
]

UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def read_frame(data: bytes) -> dict[str, Any] | None:
    """As `read_object`, and faster: most of a stream's frames need no leniency."""
    try:
        return _decode(data)
    except UNREADABLE:
        return read_object(data)


def read_object(data: bytes) -> dict[str, Any] | None:
    """The JSON object in `data`, or None."""
    try:
        wire = utf8_of(json.loads(data.decode("utf-8", "replace")))
    except UNREADABLE:
        return None
    return wire if isinstance(wire, dict) else None


def text_of(value: Any) -> str | None:
    """`value` if it is text and not empty, else None."""
    return value if isinstance(value, str) and value else None


def count_of(value: Any) -> int | None:
    """`value` if it is a whole number that is not negative, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def number_of(value: Any) -> float | None:
    """`value` if it is a finite number that is not negative, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        return None
    return float(value)


def dict_of(value: Any) -> dict[str, Any]:
    """`value` if it is an object, else an empty dict."""
    return value if isinstance(value, dict) else {}


def dicts_of(value: Any) -> list[dict[str, Any]]:
    """The objects in `value` if it is an array, else an empty list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
