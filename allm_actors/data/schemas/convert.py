"""Converts JSON values to annotated types.

Rule of this file: exact types, as JSON Schema has them: text is never taken for a number, and 3.0 is an
integer. An error names the place and the expected type, never the value. But a type's own code may quote the
value, so a `Misfit` has a second text without that, for logs.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from enum import Enum
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from .aliases import UNIONS, behind

__all__ = ["Misfit", "convert", "shown"]

_PLAIN = frozenset({str, int, float, bool, type(None)})
_EXACT = 2.0**53  # below it every integer has an exact float
_NAMING = ("Object contains unknown field", "Invalid value")  # they quote what was sent
_QUOTED = re.compile(r"Invalid enum value .*?(?= - at |$)", re.DOTALL)


class Misfit(ValueError):
    """A value that does not fit the type. Its text tells a model what to change.

    `unquoted` is the same text without anything that quotes the value, or comes from the type's own code.
    """

    def __init__(self, text: str, unquoted: str) -> None:
        super().__init__(text)
        self.unquoted = unquoted


def convert(value: Any, annotation: Any) -> Any:
    """The value as an instance of the annotated type: Struct, dataclass, TypedDict, datetime, pydantic model, …

    Raises Misfit, a ValueError.
    """
    try:
        # JSON keys are always text, even where the type wants numbers.
        made = msgspec.convert(value, annotation, str_keys=True, dec_hook=_foreign)
    except msgspec.ValidationError as error:
        whole = _with_integers(value)
        if whole is not value:
            return convert(whole, annotation)
        raise Misfit(_readable(str(error), annotation), _unquoted(error, annotation)) from None
    _complete(made)
    return made


def _complete(made: Any) -> None:
    """Give each dataclass in the value its fields as its constructor would: all of them, in their order.

    msgspec leaves out plain defaults and keeps the order of the JSON, and writes what is there, as it is there.
    """
    seen: set[int] = set()
    rest = [made]
    while rest:
        each = rest.pop()
        if type(each) in _PLAIN or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, dict):
            rest += each.values()
        elif isinstance(each, list | tuple | set | frozenset):
            rest += each
        elif isinstance(each, msgspec.Struct):
            rest += [getattr(each, name, None) for name in each.__struct_fields__]
        elif dataclasses.is_dataclass(each) and not isinstance(each, type):
            rest += _fields(each)


def _fields(made: Any) -> list[Any]:
    """The values of a dataclass, after its `__dict__`, if it has one, was completed and put into order."""
    fields = dataclasses.fields(made)
    own = getattr(made, "__dict__", None)
    if own is not None:
        there = {
            field.name: own.get(field.name, field.default)
            for field in fields
            if field.init and not _is_kept_elsewhere(type(made), field.name)
        }
        whole = {name: value for name, value in there.items() if value is not dataclasses.MISSING} | own
        if list(whole) != list(own):
            object.__setattr__(made, "__dict__", whole)  # it may be frozen
    return [getattr(made, field.name, None) for field in fields]


def _is_kept_elsewhere(cls: type, name: str) -> bool:
    """Whether the field is not in `__dict__`, but in a slot, or where another descriptor keeps it."""
    return hasattr(inspect.getattr_static(cls, name, None), "__set__")


def _with_integers(value: Any) -> Any:
    """The value with an int for each float that has a zero fraction; itself, if there is none.

    Source: JSON Schema, draft 2020-12, validation 6.1.1: a number with a zero fraction is an integer.
    """
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _EXACT else value
    if isinstance(value, dict):
        items = {key: _with_integers(item) for key, item in value.items()}
        return items if any(items[key] is not value[key] for key in value) else value
    if isinstance(value, list):
        made = [_with_integers(item) for item in value]
        return made if any(new is not old for new, old in zip(made, value, strict=True)) else value
    return value


def shown(annotation: Any) -> str:
    """Describes a type in words that a model understands."""
    annotation = behind(annotation)
    if get_origin(annotation) is Annotated:
        return shown(annotation.__origin__)
    if get_origin(annotation) in UNIONS:
        return " or ".join("null" if each is type(None) else shown(each) for each in get_args(annotation))
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(repr, get_args(annotation)))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "one of " + ", ".join(repr(member.value) for member in annotation)
    if annotation is Any:
        return "a value"
    return (
        annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
    )


def _readable(text: str, annotation: Any) -> str:
    text = (
        _QUOTED.sub("Invalid enum value", text)
        .replace("`$[...]`", "an item")
        .replace("`$.", "`")
        .replace("`$", "`")
    )
    return text if text.startswith("Expected") else f"{text}; expected {shown(annotation)}"


def _unquoted(error: msgspec.ValidationError, annotation: Any) -> str:
    text = str(error)
    if error.__cause__ is None and not text.startswith(_NAMING):  # a cause is what the type's own code raised
        return _readable(text, annotation)
    return f"does not fit; expected {shown(annotation)}"


def _foreign(cls: type[Any], value: Any) -> Any:
    """An instance of a class that msgspec does not know: by its `model_validate` (pydantic's), or the value itself."""
    validate = getattr(cls, "model_validate", None)
    if validate is not None:
        return _validated(validate, value)
    if isinstance(value, cls):
        return value
    raise NotImplementedError(f"{cls.__name__} cannot be made from JSON")


def _validated(validate: Any, value: Any) -> Any:
    try:
        return validate(value)
    except ValueError as error:
        problems = getattr(error, "errors", None)
        raise ValueError(_listed(problems()) if callable(problems) else str(error)) from None


def _listed(problems: Any) -> str:
    """Pydantic's list of failures without the input it quotes."""
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'value'}: {problem['msg']}" for problem in problems
    )
