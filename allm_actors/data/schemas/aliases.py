"""Resolves aliases made with `type X = …` (PEP 695), and type variables.

Rule of this file: pure, and duck-typed, because such aliases do not exist before Python 3.12. It looks into
an annotation, at any depth, but not into the fields of a class.
"""

from __future__ import annotations

import types
from collections.abc import (
    Collection,
    Mapping,
    MutableMapping,
    MutableSequence,
    MutableSet,
    Sequence,
)
from collections.abc import (
    Set as AbstractSet,
)
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin

__all__ = ["CONTAINERS", "UNIONS", "behind", "filled", "rebuilt", "unaliased"]

UNIONS: Final = (Union, types.UnionType)
CONTAINERS: Final = (
    *(list, set, frozenset, tuple, dict),
    *(Collection, Sequence, MutableSequence, AbstractSet, MutableSet, Mapping, MutableMapping),
)


def behind(annotation: Any) -> Any:
    """The value of an alias, with its arguments filled in; anything else, and an alias of itself, unchanged."""
    seen = []
    while (alias := _alias(annotation)) is not None and alias not in seen:
        seen.append(alias)
        annotation = _value(alias, annotation)
    return annotation


def unaliased(annotation: Any, _seen: tuple[Any, ...] = ()) -> Any:
    """The annotation without aliases, also inside unions and containers. Raises TypeError for a recursive alias."""
    alias = _alias(annotation)
    if alias in _seen:
        raise TypeError(
            f"{alias.__name__} refers to itself, and JSON Schema has no form for that; make it a class"
        )
    if alias is not None:
        return unaliased(_value(alias, annotation), (*_seen, alias))
    if get_origin(annotation) is Annotated:
        return Annotated[(unaliased(annotation.__origin__, _seen), *annotation.__metadata__)]
    if get_origin(annotation) in (*UNIONS, *CONTAINERS):
        return rebuilt(annotation, tuple(unaliased(each, _seen) for each in get_args(annotation)))
    return annotation


def rebuilt(annotation: Any, arguments: tuple[Any, ...]) -> Any:
    """A union or a container with other arguments; itself, if they are the same."""
    if all(new is old for new, old in zip(arguments, get_args(annotation), strict=True)):
        return annotation
    origin: Any = get_origin(annotation)
    return Union[arguments] if origin in UNIONS else origin[arguments]  # noqa: UP007 - known at run time only


def filled(annotation: Any, variables: Mapping[Any, Any]) -> Any:
    """The annotation with types in the places of its type variables."""
    if isinstance(annotation, TypeVar):
        return variables.get(annotation, Any)
    open_here = getattr(annotation, "__parameters__", ())
    if not variables or not open_here or isinstance(annotation, type):
        return annotation
    return annotation[tuple(variables.get(each, Any) for each in open_here)]


def _value(alias: Any, annotation: Any) -> Any:
    arguments = get_args(annotation)
    return alias.__value__[arguments] if arguments else alias.__value__


def _alias(annotation: Any) -> Any:
    of = get_origin(annotation) or annotation
    return of if type(of).__name__ == "TypeAliasType" and hasattr(of, "__value__") else None
