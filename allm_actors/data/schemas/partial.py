"""Partial values: instances of a type whose JSON is still being written.

Rule of this file: total, and nothing is validated, because an unfinished value would fail. A field that is
missing, or does not fit yet, has its default, or None; a TypedDict leaves it out. `__init__`, `__post_init__`
and validators do not run, except a Struct's `__post_init__`, which cannot be bypassed: if it raises, there is
no value yet. A part that is complete is built once, and shared by the later values: so is an item of a list behind
which there is another one.
"""

from __future__ import annotations

import dataclasses
import types
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Annotated, Any, Final, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from .aliases import behind, filled
from .convert import convert
from .incremental import NOTHING, JsonSoFar

__all__ = ["PartialValue"]

_FENCE = "```"
_QUALIFIERS = frozenset({"Required", "NotRequired", "ReadOnly"})  # of `typing` and of `typing_extensions`
_GROWING: Final = object()  # in place of a value that is not complete
_LONGEST_FENCE = 40  # characters, with the name of its language


class PartialValue:
    """A value of `model` that is still being written. Thread: not safe to share."""

    __slots__ = ("_beginning", "_entries_of", "_final", "_json", "_kept", "_made", "_model", "_open")

    def __init__(self, model: Any) -> None:
        self._model = model
        self._json = JsonSoFar()
        self._beginning: str | None = ""  # the text so far, while it may be the start of a Markdown fence
        self._made: dict[int, Any] = {}  # by the `id` of a container that is complete
        self._open: set[int] = set()
        self._final: dict[int, list[Any]] = {}  # by the `id` of an open list: its items but the last
        # By the `id` of an open object: by key, a value that is complete, and what was made of the key and of it.
        self._entries_of: dict[int, dict[str, tuple[Any, Any, Any]]] = {}
        # The containers, one of which a repeated key may drop: its `id` stays its own.
        self._kept: dict[int, Any] = {}

    def feed(self, text: str) -> bool:
        """Take more of the text. Returns whether the value has changed."""
        if self._beginning is not None:
            text = self._past_fence(self._beginning + text)
        return self._json.feed(text)

    def _past_fence(self, text: str) -> str:
        """The text after a Markdown fence at its beginning; empty while it is not known whether there is one."""
        head, newline, rest = text.lstrip().partition("\n")
        fenced = head.startswith(_FENCE)
        if len(text) < _LONGEST_FENCE and not newline and (fenced or _FENCE.startswith(head)):
            self._beginning = text
            return ""
        self._beginning = None
        return rest if fenced and newline else text

    def value(self) -> Any:
        """The value so far; None while there is none. Do not change it: later values share its parts."""
        self._json.settle()
        if self._json.root is NOTHING:
            return None
        self._open = {id(container) for container in self._json.open}
        return self._make(self._json.root, self._model)

    def _make(self, value: Any, annotation: Any) -> Any:
        if not isinstance(value, (dict, list)):
            return _leaf(value, annotation)
        if id(value) in self._made:
            return self._made[id(value)]
        self._kept[id(value)] = value
        made = self._container(value, annotation)
        if id(value) not in self._open:
            self._made[id(value)] = made
            self._final.pop(id(value), None)
            self._entries_of.pop(id(value), None)
        return made

    def _container(self, value: dict[str, Any] | list[Any], annotation: Any) -> Any:
        annotation = _bare(annotation, value)
        origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
        if not _holds(origin, value):
            return None
        fields = _fields_of(origin)
        if fields is not None:
            variables = dict(zip(getattr(origin, "__parameters__", ()), arguments, strict=False))
            if variables:
                fields = tuple(field._replace(type=filled(field.type, variables)) for field in fields)
            return _instance(origin, fields, self._known(fields, value))
        if isinstance(value, list):
            return _collected(origin, self._items(value, arguments))
        keyed, of = arguments if len(arguments) == 2 else (Any, Any)
        return dict(self._entries(value, keyed, of))

    def _items(self, value: list[Any], arguments: tuple[Any, ...]) -> list[Any]:
        if not value:
            return []
        final, newest = self._final.setdefault(id(value), []), len(value) - 1
        for place in range(len(final), newest):
            final.append(self._make(value[place], _type_at(arguments, place)))
        return [*final, self._make(value[newest], _type_at(arguments, newest))]

    def _entries(self, value: dict[str, Any], keyed: Any, of: Any) -> Iterator[tuple[Any, Any]]:
        entries = self._entries_of.setdefault(id(value), {})
        for key, item in value.items():
            entry = entries.get(key)
            if entry is None or entry[0] is not item:
                said = _key(key, keyed) if entry is None else entry[1]
                entry = item, said, self._make(item, of)
                entries[key] = (_GROWING, said, None) if id(item) in self._open else entry
            yield entry[1:]

    def _known(self, fields: tuple[_Field, ...], value: dict[str, Any] | list[Any]) -> dict[str, Any]:
        if isinstance(value, list):
            return {
                field.name: self._make(item, field.type) for field, item in zip(fields, value, strict=False)
            }
        return {
            field.name: self._make(value[field.key], field.type) for field in fields if field.key in value
        }


class _Field(NamedTuple):
    name: str
    key: str
    type: Any
    default: Callable[[], Any]


def _bare(annotation: Any, value: dict[str, Any] | list[Any]) -> Any:
    """The type without `Annotated` and without None. Of a union, the one member that can hold such a value;
    Any if several can, because only the complete value decides between them.
    """
    annotation = behind(annotation)
    while get_origin(annotation) is Annotated:
        annotation = behind(annotation.__origin__)
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    others = [_bare(other, value) for other in get_args(annotation) if other is not type(None)]
    able = [other for other in others if _holds(get_origin(other) or other, value)]
    return able[0] if len(able) == 1 else Any if able else others[0]


def _holds(origin: Any, value: dict[str, Any] | list[Any]) -> bool:
    """Whether the container can become one of that type."""
    if origin is Any or not isinstance(origin, type):  # or something unknown
        return True
    if _fields_of(origin) is not None:
        return isinstance(value, list) == _is_array(origin)
    kinds: tuple[type, ...] = (list, tuple, set, frozenset, deque) if isinstance(value, list) else (dict,)
    try:
        return issubclass(origin, kinds) or any(issubclass(kind, origin) for kind in kinds)
    except TypeError:  # a protocol that is not runtime-checkable
        return True


def _is_array(cls: type) -> bool:
    return issubclass(cls, msgspec.Struct) and cls.__struct_config__.array_like


def _collected(origin: Any, items: list[Any]) -> Any:
    """The items in a container of that type, as far as it can hold them."""
    if origin is Any or not isinstance(origin, type) or issubclass(list, origin):
        return items
    names = getattr(origin, "_fields", None)
    if issubclass(origin, tuple) and names is not None:
        return origin._make([*items, *[None] * len(names)][: len(names)])  # type: ignore[attr-defined]
    try:
        return (origin if issubclass(origin, tuple | set | frozenset | deque) else set)(items)
    except TypeError:  # an unhashable item cannot be in a set
        return None


def _key(key: str, annotation: Any) -> Any:
    if annotation in (str, Any):
        return key
    try:
        return next(iter(convert({key: None}, dict[annotation, Any])))
    except Exception:  # noqa: BLE001 - half a number, or a type with code of its own
        return key


def _leaf(value: Any, annotation: Any) -> Any:
    try:
        return convert(value, annotation)
    except Exception:  # noqa: BLE001 - half a date, or a type with code of its own: it does not fit yet
        return None


def _type_at(arguments: tuple[Any, ...], place: int) -> Any:
    if len(arguments) == 1 or (len(arguments) == 2 and arguments[1] is Ellipsis):
        return arguments[0]
    return arguments[place] if place < len(arguments) else Any


def _fields_of(cls: Any) -> tuple[_Field, ...] | None:
    """The fields of a class that has some."""
    if not isinstance(cls, type):
        return None
    try:
        return _read_fields(cls)
    except Exception:  # noqa: BLE001 - annotations are evaluated, which is the user's code
        return None


@lru_cache(256)
def _read_fields(cls: type[Any]) -> tuple[_Field, ...] | None:
    if _is_typed_dict(cls):
        return tuple(_Field(name, name, _unqualified(of), _none) for name, of in _hints(cls).items())
    if issubclass(cls, msgspec.Struct):
        return tuple(
            _Field(f.name, f.encode_name, f.type, _maker(f.default, f.default_factory, msgspec.NODEFAULT))
            for f in msgspec.structs.fields(cls)
        )
    if dataclasses.is_dataclass(cls):
        hints = _hints(cls)
        return tuple(
            _Field(f.name, f.name, hints[f.name], _maker(f.default, f.default_factory, dataclasses.MISSING))
            for f in dataclasses.fields(cls)
        )
    models: dict[str, Any] | None = getattr(cls, "model_fields", None)
    if models is None:
        return None
    return tuple(_Field(name, f.alias or name, f.annotation, f.get_default) for name, f in models.items())


def _is_typed_dict(cls: type[Any]) -> bool:
    return issubclass(cls, dict) and hasattr(cls, "__total__")  # also one of `typing_extensions`


def _hints(cls: type[Any]) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _unqualified(annotation: Any) -> Any:
    """The type in a TypedDict's `Required[…]`, `NotRequired[…]` or `ReadOnly[…]`, also inside `Annotated`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return Annotated[(_unqualified(arguments[0]), *arguments[1:])]
    if getattr(origin, "_name", getattr(origin, "__name__", None)) in _QUALIFIERS:
        return _unqualified(arguments[0])
    return annotation


def _maker(default: Any, factory: Any, missing: Any) -> Callable[[], Any]:
    if factory is not missing:
        return factory  # type: ignore[no-any-return]
    return _none if default is missing else lambda: default


def _none() -> None:
    return None


def _instance(cls: Any, fields: tuple[_Field, ...], known: dict[str, Any]) -> Any:
    if _is_typed_dict(cls):
        return known
    values = {field.name: known[field.name] if field.name in known else _default(field) for field in fields}
    if hasattr(cls, "model_construct"):
        return cls.model_construct(**values)
    if issubclass(cls, msgspec.Struct):
        try:
            return cls(**values)
        except Exception:  # noqa: BLE001 - `__post_init__` is the user's code
            return None
    instance = cls.__new__(cls)
    for name, value in values.items():
        object.__setattr__(instance, name, value)
    return instance


def _default(field: _Field) -> Any:
    try:
        value = field.default()
    except Exception:  # noqa: BLE001 - a default factory is the user's code
        return None
    return None if type(value).__name__ == "PydanticUndefinedType" else value
