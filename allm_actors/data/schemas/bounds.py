"""Translates bounds that other libraries put into `Annotated` to msgspec's.

Rule of this file: duck-typed, without importing those libraries: `annotated_types.Ge(3)` has a `ge`,
`pydantic.Field(ge=3)` has such objects in its `metadata`. Objects of an unknown shape are ignored, and so are
bounds that msgspec does not have for a type. A step of fractions is only told to the model: msgspec would compare
exactly, and hardly a float is an exact multiple of 0.01.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from math import ceil, floor, isfinite
from typing import Annotated, Any, Final, get_args, get_origin

import msgspec

from .aliases import CONTAINERS, UNIONS, rebuilt

__all__ = ["bounded"]

_NUMBERS = ("gt", "ge", "lt", "le", "multiple_of")
_LENGTHS = ("min_length", "max_length")
_BOUNDS: Final[Mapping[Any, tuple[str, ...]]] = {
    int: _NUMBERS,
    float: _NUMBERS,
    str: (*_LENGTHS, "pattern"),
    **dict.fromkeys((bytes, list, set, frozenset, tuple, dict), _LENGTHS),
}
# How a fractional bound of an integer is rounded.
_WHOLE = {"gt": floor, "ge": ceil, "lt": ceil, "le": floor}


def bounded(annotation: Any) -> Any:
    """The annotation, with a `msgspec.Meta` for each foreign bound, also inside unions and containers."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        told = arguments[1:]
        theirs = tuple(each for each in told if isinstance(each, msgspec.Meta))
        return Annotated[(_with(bounded(arguments[0]), _found(told), theirs), *told)]
    if get_origin(annotation) not in (*UNIONS, *CONTAINERS):
        return annotation
    return rebuilt(annotation, tuple(map(bounded, arguments)))


def _with(annotation: Any, bounds: Mapping[str, Any], theirs: tuple[msgspec.Meta, ...]) -> Any:
    """The annotation with those of the bounds that apply to it; in a union, to each of its parts.

    Metadata that is msgspec's already, in `theirs`, is not changed.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in UNIONS:
        return rebuilt(annotation, tuple(_with(part, bounds, ()) for part in arguments))
    plain = arguments[0] if origin is Annotated else annotation
    kind = get_origin(plain) or plain
    known = _BOUNDS.get(kind, ()) if isinstance(kind, type) else ()
    for name in known:
        if name in bounds:
            value = _whole(name, bounds[name]) if kind is int else bounds[name]
            # A bound that msgspec cannot hold, such as 2**70, or a pattern in another dialect, is left out by itself.
            with suppress(TypeError, ValueError, re.error):
                made = Annotated[annotation, _meta(kind, name, value)]
                msgspec.json.schema(Annotated[(made, *theirs)] if theirs else made)
                annotation = made
    return annotation


def _meta(kind: Any, name: str, value: Any) -> msgspec.Meta:
    if name == "multiple_of" and kind is float and not float(value).is_integer():
        return msgspec.Meta(extra_json_schema={"multipleOf": value})
    return msgspec.Meta(**{name: value})


def _whole(name: str, value: float) -> int | float:
    return _WHOLE[name](value) if name in _WHOLE and isfinite(value) else value


def _found(extras: tuple[Any, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for extra in extras:
        nested = getattr(extra, "metadata", ())
        for each in [extra, *(nested if isinstance(nested, list | tuple) else ())]:
            if not isinstance(each, msgspec.Meta | str | type):
                found |= _said(each)
    return _tightest(found)


def _said(bound: Any) -> dict[str, Any]:
    said = {name: getattr(bound, name, None) for name in (*_NUMBERS, *_LENGTHS)}
    numbers = {name: value for name, value in said.items() if type(value) in (int, float)}
    pattern = getattr(bound, "pattern", None)
    return numbers | ({"pattern": pattern} if isinstance(pattern, str) else {})


def _tightest(bounds: dict[str, Any]) -> dict[str, Any]:
    """The bounds with only one lower and one upper bound, as msgspec requires."""
    if "gt" in bounds and "ge" in bounds:
        bounds.pop("ge" if bounds["gt"] >= bounds["ge"] else "gt")
    if "lt" in bounds and "le" in bounds:
        bounds.pop("le" if bounds["lt"] <= bounds["le"] else "lt")
    return bounds
