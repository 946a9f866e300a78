"""Bounds that other libraries write into `Annotated`, in msgspec's words.

Rule of this file: by their shape, without importing anyone: `annotated_types.Ge(3)` has a `ge`, `pydantic.Field(ge=3)`
has such objects in its `metadata`. What has no shape that is known here says nothing.
"""

from __future__ import annotations

import types
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

__all__ = ["bounded"]

_UNIONS = (Union, types.UnionType)
_OPENED = (*_UNIONS, list, set, frozenset, tuple, dict)
_NUMBERS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length")


def bounded(annotation: Any) -> Any:
    """The annotation, with a `msgspec.Meta` for the bounds that are said otherwise, also inside unions and containers.

    Raises TypeError, as msgspec does, for bounds that exclude each other.
    """
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        found = _found(arguments[1:])
        inner = bounded(arguments[0])
        return Annotated[(inner, *arguments[1:], *([msgspec.Meta(**found)] if found else []))]
    origin = get_origin(annotation)
    inside = tuple(map(bounded, arguments)) if origin in _OPENED else arguments
    if all(new is old for new, old in zip(inside, arguments, strict=True)):
        return annotation
    return Union[inside] if origin in _UNIONS else origin[inside]  # noqa: UP007 - known at run time only


def _found(extras: tuple[Any, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for extra in extras:
        nested = getattr(extra, "metadata", ())
        for each in [extra, *(nested if isinstance(nested, list | tuple) else ())]:
            if not isinstance(each, msgspec.Meta | str | type):
                found |= _said(each)
    return found


def _said(bound: Any) -> dict[str, Any]:
    said = {name: getattr(bound, name, None) for name in _NUMBERS}
    numbers = {name: value for name, value in said.items() if type(value) in (int, float)}
    pattern = getattr(bound, "pattern", None)
    return numbers | ({"pattern": pattern} if isinstance(pattern, str) else {})
