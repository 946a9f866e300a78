"""Reading JSON of unknown shape.

Rule of this file: total. A value of an unexpected kind counts as missing, and no text returned from here has
a lone surrogate in it, which could be neither stored nor sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any

import msgspec
from msgspec.inspect import (
    AnyType,
    DictType,
    IntType,
    ListType,
    StrType,
    StructType,
    Type,
    UnionType,
    type_info,
)

from allm_actors.data.utf8 import utf8_of

__all__ = [
    "OBJECTS",
    "UNREADABLE",
    "count_of",
    "dict_of",
    "dicts_of",
    "ends_in_half",
    "halves_joined",
    "number_of",
    "read_leniently",
    "read_object",
    "text_of",
]

UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


OBJECTS = msgspec.json.Decoder(dict[str, Any])


def read_object(data: bytes) -> dict[str, Any] | None:
    """The JSON object in `data`, or None. Most are read by C; what JSON forbids, and others write, is read by hand."""
    with suppress(*UNREADABLE):
        return OBJECTS.decode(data)
    try:
        wire = utf8_of(json.loads(data.decode("utf-8", "replace")))
    except UNREADABLE:
        return None
    return wire if isinstance(wire, dict) else None


def read_leniently(data: bytes, kind: Any) -> Any:
    """The JSON object in `data` as a `kind`, which is a Struct, or a dict. None if it is no object.

    It is for what decoding refuses. A field of an unexpected kind counts as missing, and so does an empty text, a
    negative number and an empty object for a Struct.
    """
    return _fitted(read_object(data), _type_of(kind))


# In JSON: a whole text; a high surrogate at the end of one; and the beginning of one that begins with a low one.
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+"')
_FIRST_HALF = re.compile(rb'\\u[dD][89abAB][0-9a-fA-F]{2}"')
_SECOND_HALF = re.compile(rb'(?<!\\)"(\\u[dD][c-fC-F][0-9a-fA-F]{2})')
_HALF = 6  # bytes of a half, and of what stands for one that stays alone
# What is another one in each frame: OpenAI's numbers of the events of a response, Ollama's times.
_VARIES = re.compile(rb'"(?:sequence_number|created_at)":\s*(?:[0-9]+|"[^"]*")')


def ends_in_half(data: bytes) -> bool:
    """Whether a text in this JSON ends with half a character, whose other half the next frame may bring.

    A provider whose strings are UTF-16, as JavaScript's are, may send a character outside the basic plane in two
    deltas.
    """
    return next(_first_halves(data), None) is not None


def halves_joined(data: bytes, following: bytes) -> tuple[bytes, bytes]:
    """The JSON of two frames, of which the first `ends_in_half`, with the whole character in the first one.

    They belong together if the same stands before them: two calls may arrive at the same time. A half that stays alone
    is U+FFFD in the first.
    """
    first, second = next(_first_halves(data), None), _SECOND_HALF.search(following)
    if first and second and _before(data, first[0]) == _before(following, second.start()):
        end = first[1] + _HALF
        data = data[:end] + second[1] + data[end:]
        following = following[: second.start(1)] + following[second.end(1) :]
    whole = bytearray(data)
    for _, at in _first_halves(data):
        whole[at : at + _HALF] = rb"\ufffd"
    return bytes(whole), following


def _first_halves(data: bytes) -> Iterator[tuple[int, int]]:
    """Where a text begins that ends in half a character, and where the half is. Linear: a frame may be hostile."""
    if _FIRST_HALF.search(data) is None:
        return
    for text in _TEXT.finditer(data):
        at = text.end() - 1 - _HALF
        if at > text.start() and _FIRST_HALF.match(data, at):
            before = data[text.start() + 1 : at]
            if (len(before) - len(before.rstrip(b"\\"))) % 2 == 0:  # else its backslash is an escaped one
                yield text.start(), at


def _before(data: bytes, end: int) -> bytes:
    return _VARIES.sub(b"", data[:end])


_type_of = cache(type_info)


def _fitted(value: Any, kind: Type) -> Any:
    """What of the value fits the type; None if nothing does."""
    match kind:
        case AnyType():
            return value
        case StrType():
            return text_of(value)
        case IntType():
            return count_of(value)
        case DictType():
            return value if isinstance(value, dict) else None
        case ListType(item_type=StructType() as item):
            return [_struct(each, item) for each in dicts_of(value)]
        case ListType():
            return value if isinstance(value, list) else None
        case StructType():
            return _struct(value, kind) if dict_of(value) else None
        case UnionType(types=kinds):
            return next((fit for each in kinds if (fit := _fitted(value, each)) is not None), None)
        case _:
            return None


def _struct(value: dict[str, Any], kind: StructType) -> Any:
    return kind.cls(**{field.name: _fitted(value.get(field.name), field.type) for field in kind.fields})


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
