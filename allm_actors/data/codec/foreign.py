"""Values of classes that the codecs do not know: their plain value, or why they have no encoding.

Rule of this file: it runs off the fast path. A refusal names the place and the type, never the value, which
may be a secret.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import msgspec

from allm_actors.data.depth import DEEPEST_WRITTEN
from allm_actors.data.responses import Response

from .shapes import CODES, Field, Shape, shape_of

__all__ = ["Unencodable", "getter", "plain", "refusal"]

_BASES: tuple[tuple[type[Any], Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (bytes, bytes),
    (tuple, tuple),
    (list, list),
    (dict, dict),
)
_PLAIN = (str, int, float, bytes, type(None))
_REQUESTS = frozenset(cls for cls in CODES if cls.__name__.endswith("Request"))
_HANDLER = (
    "encode the tool without its handler (handler=None), and give the tool with its handler to the engine that "
    "runs it"
)


class Unencodable(Exception):
    """Something inside the value has no encoding; `refusal` says what."""


def plain(value: Any) -> Any:
    """The plain value of an enum member or of an instance of a subclass. Raises Unencodable."""
    if isinstance(value, Enum):
        return value.value
    for base, convert in _BASES:
        if isinstance(value, base):
            return convert(value)
    raise Unencodable


def getter(shape: Shape) -> Callable[[Any], tuple[Any, ...]]:
    """A function that takes a value of this shape apart for a codec.

    A response's `parsed` value may be of any type of the user's; it is written as the plain data that the
    answer's text was, unless its type was registered. A request with a key among its options is not taken
    apart: it raises Unencodable.
    """
    if shape.cls in _REQUESTS:
        return _without_key(shape)
    if shape.cls is not Response:
        return shape.get
    at, get = [field.name for field in shape.fields].index("parsed"), shape.get

    def fields(response: Any) -> tuple[Any, ...]:
        values = get(response)
        return values if values[at] is None else (*values[:at], _data(values[at]), *values[at + 1 :])

    return fields


def _without_key(shape: Shape) -> Callable[[Any], tuple[Any, ...]]:
    at, get = [field.name for field in shape.fields].index("options"), shape.get

    def fields(request: Any) -> tuple[Any, ...]:
        values = get(request)
        if _has_key(values[at]):
            raise Unencodable
        return values

    return fields


def _has_key(options: Any) -> bool:
    return isinstance(options, dict) and "api_key" in options


def refusal(value: Any, *, null_is_default: bool = False) -> TypeError:
    """The error for a value that could not be encoded.

    With `null_is_default`, a None that a reader would take for "not given" is one reason.
    """
    try:
        found = _find(value, type(value).__name__, (), null_is_default)
    except RecursionError:
        found = None
    if found is None:
        why = f"it is nested too deeply; at most {DEEPEST_WRITTEN} levels are written"
        return TypeError(f"{type(value).__name__} cannot be encoded: {why}")
    path, advice = found
    return TypeError(f"{path} cannot be encoded: {advice}")


def _data(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _data(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_data, value)) if type(value) in (list, tuple) else value
    if isinstance(value, _PLAIN) or shape_of(type(value)) is not None:
        return value
    try:
        return msgspec.to_builtins(value, enc_hook=_dumped, str_keys=True)
    except (TypeError, ValueError):
        return value  # `refusal` says where and why


def _dumped(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if not callable(dump):
        raise TypeError(type(value).__name__)
    return dump(mode="json")


def _find(value: Any, path: str, above: tuple[int, ...], nulls: bool) -> tuple[str, str] | None:
    if isinstance(value, _PLAIN):
        return None
    if nulls and (lost := _lost(value)) is not None:
        return (
            f"{path}.{lost.name}",
            f"it is None, which would be read back as {_default(lost)}; leave it out",
        )
    if type(value) in _REQUESTS and _has_key(value.options):
        return f"{path}.options['api_key']", "a key is never written; pass api_key= with the call"
    if id(value) in above:
        return path, "it contains itself"
    places = _places(value, path)
    if places is None:
        return path, _advice(value)
    inside = (*above, id(value))
    return next((found for p, v in places if (found := _find(v, p, inside, nulls)) is not None), None)


def _lost(value: Any) -> Field | None:
    """The first field whose None would come back as something else."""
    shape = shape_of(type(value))
    if shape is None or shape.code is None:
        return None
    pairs = zip(shape.fields, shape.get(value), strict=True)
    return next((field for field, v in pairs if v is None and field.make_default() is not None), None)


def _default(field: Field) -> str:
    default = field.make_default()
    return f"{type(default).__name__}()" if field.kind == "one" else repr(default)


def _places(value: Any, path: str) -> list[tuple[str, Any]] | None:
    if isinstance(value, (list, tuple)):
        return [(f"{path}[{i}]", item) for i, item in enumerate(value)]
    if isinstance(value, dict):
        keys = [(f"a key of {path}", key) for key in value]
        return keys + [(f"{path}[{_shown(key)}]", item) for key, item in value.items()]
    shape = shape_of(type(value))
    if shape is None:
        return [(path, value.value)] if isinstance(value, Enum) else None
    if shape.code is None:
        return _places(shape.get(value)[0], path)
    return [(f"{path}.{f.name}", v) for f, v in zip(shape.fields, getter(shape)(value), strict=True)]


def _shown(key: Any) -> str:
    return repr(key) if isinstance(key, (str, int)) else f"a {type(key).__name__}"


def _advice(value: Any) -> str:
    if callable(value):
        return f"it is a function or another callable; {_HANDLER}"
    if isinstance(value, BaseException):
        return f"it is a {type(value).__name__}; use str(error), or one of this library's errors"
    return (
        f"its type is {type(value).__name__}; use plain data (text, numbers, bytes, lists, tuples, dicts), or "
        "give the type an encoding with allm_actors.data.codec.register"
    )
