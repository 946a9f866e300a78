"""Translates bounds that other libraries put into `Annotated` to msgspec's.

Rule of this file: duck-typed, without importing those libraries: `annotated_types.Ge(3)` has a `ge`,
`pydantic.Field(ge=3)` has such objects in its `metadata`. A rule of those two libraries that msgspec does not have is
refused, because nothing would check it; objects of other classes count as far as they have such a form.
A step of fractions is only told to the model: msgspec would compare exactly, and hardly a float is an exact multiple of
0.01.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from math import ceil, floor, inf, isfinite
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import msgspec

from .aliases import CONTAINERS, UNIONS, rebuilt

__all__ = ["bounded"]

_NUMBERS = ("gt", "ge", "lt", "le", "multiple_of")
_LENGTHS = ("min_length", "max_length")
_BOUNDS: Final[Mapping[Any, tuple[str, ...]]] = {
    int: _NUMBERS,
    float: _NUMBERS,
    str: (*_LENGTHS, "pattern"),
    **dict.fromkeys((bytes, bytearray, *CONTAINERS), _LENGTHS),
}
# How a fractional bound of an integer is rounded.
_WHOLE = {"gt": floor, "ge": ceil, "lt": ceil, "le": floor}
# Of two bounds of one name, the one that says more.
_TIGHTER: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    **dict.fromkeys(("gt", "ge", "min_length"), max),
    **dict.fromkeys(("lt", "le", "max_length"), min),
}
# Those that hold of every number.
_ALWAYS: Final[Mapping[str, float]] = {"gt": -inf, "ge": -inf, "lt": inf, "le": inf}
_LIBRARIES = frozenset({"annotated_types", "pydantic"})
_BASES = frozenset({"BaseMetadata", "GroupedMetadata", "PydanticMetadata", "Representation"})
# What their other rules have: validators and predicates a function, all else the name of an option of pydantic's.
_OTHER_RULES = (
    "func",
    "instantiation_hook",
    "get_pydantic_core_schema",
    "encoder",
    "max_digits",
    "decimal_places",
    "strip_whitespace",
    "to_upper",
    "to_lower",
    "ascii_only",
    "uuid_version",
    "path_type",
    "regex",
    "min_items",
    "max_items",
    "unique_items",
)

# Whether a bound is in force, by its name; without those that do not concern a type, such as a length a number.
_Held = Mapping[str, bool]


def bounded(annotation: Any) -> Any:
    """The annotation, with a `msgspec.Meta` for each foreign bound, also inside unions and containers.

    Raises: TypeError for a rule of pydantic's or `annotated_types` that would be lost.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        told = arguments[1:]
        theirs = tuple(each for each in told if isinstance(each, msgspec.Meta))
        bounds, strict = _found(told)
        made, held = _with(bounded(arguments[0]), bounds, theirs)
        for name in bounds:
            if name in strict and not held.get(name):
                raise _lost(strict[name])
        return Annotated[(made, *told)]
    if origin in (*UNIONS, *CONTAINERS):
        return rebuilt(annotation, tuple(map(bounded, arguments)))
    if origin is not Literal:
        for rule in _rules_in(arguments):
            raise _lost(rule)
    return annotation


def _lost(rule: Any) -> TypeError:
    return TypeError(
        f"{rule!r} would not be checked, because there is no such rule for the arguments of a tool; put the check into "
        "the function, or take a pydantic model that has it"
    )


def _rules_in(arguments: tuple[Any, ...]) -> Iterator[Any]:
    """The rules in annotations that cannot be made anew with others, such as the parameters of a user's class."""
    for each in arguments:
        if get_origin(each) is Annotated:
            yield from filter(_is_rule, _pieces(each.__metadata__))
        if get_origin(each) is not Literal:
            yield from _rules_in(get_args(each))


def _with(annotation: Any, bounds: Mapping[str, Any], theirs: tuple[msgspec.Meta, ...]) -> tuple[Any, _Held]:
    """The annotation with those of the bounds that apply to it; in a union, to each of its parts.

    Metadata that is msgspec's already, in `theirs`, is not changed.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    held: dict[str, bool] = {}
    if origin in UNIONS:
        made, each_held = zip(*(_with(part, bounds, ()) for part in arguments), strict=True)
        for each in each_held:
            held |= {name: held.get(name, True) and holds for name, holds in each.items()}
        return rebuilt(annotation, made), held
    kind = _kind(annotation)
    if _is_closed(kind, arguments):
        return annotation, dict.fromkeys(bounds, True)
    known = _BOUNDS.get(kind) if isinstance(kind, type) else None
    if known is None:
        return annotation, dict.fromkeys(bounds, False)
    for name in known:
        if name not in bounds:
            continue
        value = _whole(name, bounds[name]) if kind is int else bounds[name]
        held[name] = False
        # A bound that msgspec cannot hold, such as 2**70, or a pattern in another dialect, is left out by itself.
        with suppress(TypeError, ValueError, re.error):
            tried = Annotated[annotation, _meta(kind, name, value)]
            msgspec.json.schema(Annotated[(tried, *theirs)] if theirs else tried)
            annotation, held[name] = tried, True
    return annotation, held


def _is_closed(kind: Any, arguments: tuple[Any, ...]) -> bool:
    """Whether the values of a type are told one by one, or their number is: a bound says nothing more."""
    if kind is tuple:
        return bool(arguments) and arguments[-1] is not Ellipsis
    return kind in (type(None), bool, Literal) or (isinstance(kind, type) and issubclass(kind, Enum))


def _kind(annotation: Any) -> Any:
    plain = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    while hasattr(plain, "__supertype__"):  # a NewType
        plain = plain.__supertype__
    return get_origin(plain) or plain


def _meta(kind: Any, name: str, value: Any) -> msgspec.Meta:
    if name == "multiple_of" and kind is float and not float(value).is_integer():
        return msgspec.Meta(extra_json_schema={"multipleOf": value})
    return msgspec.Meta(**{name: value})


def _whole(name: str, value: float) -> int | float:
    if name == "multiple_of" and float(value).is_integer():
        return int(value)
    return _WHOLE[name](value) if name in _WHOLE and isfinite(value) else value


def _found(extras: tuple[Any, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The bounds by name, and of those the ones that must not be lost, each with the object that has it.

    Raises: TypeError for a rule that is no bound.
    """
    found: dict[str, Any] = {}
    strict: dict[str, Any] = {}
    for each in _pieces(extras):
        said, is_rule = _said(each), _is_rule(each)
        if is_rule and (_has_another_rule(each) or set(_names_of(each)) - set(said)):
            raise _lost(each)
        for name, value in said.items():
            if _ALWAYS.get(name) == value:
                continue
            if is_rule and name not in _TIGHTER and found.get(name, value) != value:
                raise _lost(each)
            found[name] = _TIGHTER.get(name, _last)(found.get(name, value), value)
            if is_rule:
                strict[name] = each
    return _tightest(found), strict


def _pieces(extras: tuple[Any, ...]) -> Iterator[Any]:
    """What may be a bound: the objects themselves, and what a `Field` or a group of rules consists of."""
    for extra in extras:
        if isinstance(extra, msgspec.Meta | str | type):
            continue
        nested = getattr(extra, "metadata", ())
        if getattr(extra, "__is_annotated_types_grouped_metadata__", False):
            nested = list(extra)
        else:
            yield extra
        for each in nested if isinstance(nested, list | tuple) else ():
            if not isinstance(each, msgspec.Meta | str | type):
                yield each


def _said(bound: Any) -> dict[str, Any]:
    said = {name: getattr(bound, name, None) for name in (*_NUMBERS, *_LENGTHS)}
    numbers = {name: number for name, value in said.items() if (number := _number(value)) is not None}
    pattern = getattr(bound, "pattern", None)
    if isinstance(pattern, re.Pattern) and pattern.flags == re.UNICODE:
        pattern = pattern.pattern
    return numbers | ({"pattern": pattern} if isinstance(pattern, str) else {})


def _number(value: Any) -> int | float | None:
    if isinstance(value, Decimal) and Decimal(float(value)) == value:
        return float(value)
    return value if type(value) in (int, float) else None


def _is_rule(piece: Any) -> bool:
    """Whether it is an object of a library whose rules are known, and has one."""
    known = any(
        cls.__module__.partition(".")[0] in _LIBRARIES and cls.__name__ not in _BASES
        for cls in type(piece).__mro__
    )
    return known and (bool(_names_of(piece)) or _has_another_rule(piece))


def _names_of(piece: Any) -> list[str]:
    """The bounds that it has, in whatever form; a length of at least 0 is none."""
    said = {name: getattr(piece, name, None) for name in (*_NUMBERS, *_LENGTHS, "pattern")}
    return [
        name
        for name, value in said.items()
        if value is not None and not (name == "min_length" and value == 0)
    ]


def _has_another_rule(piece: Any) -> bool:
    # `allow_inf_nan=False` is none: arguments are JSON, which has no such numbers.
    if hasattr(piece, "tz"):
        return True
    if type(piece).__name__.endswith("Serializer"):
        return False
    return any(getattr(piece, name, None) not in (None, False) for name in _OTHER_RULES)


def _last(_one: Any, other: Any) -> Any:
    return other


def _tightest(bounds: dict[str, Any]) -> dict[str, Any]:
    """The bounds with only one lower and one upper bound, as msgspec requires."""
    if "gt" in bounds and "ge" in bounds:
        bounds.pop("ge" if bounds["gt"] >= bounds["ge"] else "gt")
    if "lt" in bounds and "le" in bounds:
        bounds.pop("le" if bounds["lt"] <= bounds["le"] else "lt")
    return bounds
