"""A value of this library as a tree of plain JSON data.

Rule of this file: a tree reads back as the value that it was made from, or nothing is written. A value of a
type that its field does not expect is put into an envelope, which every field accepts.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from allm_actors.data.errors import ValidationError
from allm_actors.data.media.audio import Audio
from allm_actors.data.media.documents import Document
from allm_actors.data.media.images import Image, ImageRequest
from allm_actors.data.responses import Response, Usage
from allm_actors.data.tools import Tool
from allm_actors.data.utf8 import is_utf8

from .foreign import Unencodable, getter, plain
from .raising import SOURCES, is_known, is_size
from .shapes import Field, Shape, shape_of

__all__ = ["lower", "sayable"]

_AS_IT_IS = frozenset({str, int, bool, type(None)})
_GREAT = 2**2048  # fewer digits than the least that Python can be told to read
_QUIET: dict[type[Any], tuple[str, ...]] = {
    Tool: ("summary", "timeout", "isolation", "effect"),
    Usage: ("cache_write_input_tokens",),
    Response: ("parsed",),
}


def lower(value: Any) -> Any:
    """The value, or plain data with such values inside, as a tree. Raises Unencodable for what JSON cannot express."""
    cls = type(value)
    if cls in _AS_IT_IS:
        return value
    return (_writers.get(cls) or _writer_for(value))(value)


def _lower_list(value: list[Any]) -> list[Any]:
    return [
        item if (cls := type(item)) in _AS_IT_IS else (_writers.get(cls) or _writer_for(item))(item)
        for item in value
    ]


def _lower_dict(value: dict[Any, Any]) -> dict[str, Any]:
    if not value:
        return value
    tree = {key: item if type(item) in _AS_IT_IS else lower(item) for key, item in value.items()}
    for key in tree:
        if type(key) is not str:
            return _envelope("map", [[lower(key), item] for key, item in tree.items()])
    if "__type__" in tree and is_known(value["__type__"]):
        return _envelope("map", [[key, item] for key, item in tree.items()])
    return tree


def _lower_float(value: float) -> Any:
    return value if math.isfinite(value) else _envelope("float", repr(value))


def _lower_bytes(value: bytes) -> dict[str, Any]:
    return _envelope("bytes", base64.b64encode(value).decode())


def _lower_tuple(value: tuple[Any, ...]) -> dict[str, Any]:
    return _envelope("tuple", _lower_list(list(value)))


def _envelope(tag: str, data: Any) -> dict[str, Any]:
    return {"__type__": tag, "data": data}


Writer = Callable[[Any], Any]
_writers: dict[type[Any], Writer] = {
    list: _lower_list,
    dict: _lower_dict,
    float: _lower_float,
    bytes: _lower_bytes,
    tuple: _lower_tuple,
}


def _writer_for(value: Any) -> Writer:
    shape = shape_of(type(value))
    if shape is not None:
        writer = _writers[shape.cls] = _shape_writer(shape)
        return writer
    return lambda other: lower(plain(other))


def _shape_writer(shape: Shape) -> Writer:
    tag, get = shape.tag, getter(shape)
    if shape.code is None:
        return lambda value: {"__type__": tag, "data": {k: lower(v) for k, v in get(value)[0].items()}}
    keys = [field.key for field in shape.fields]
    usual, careful = _usual_writers(shape), [_careful_writer(shape.cls, field) for field in shape.fields]
    are_usual = _usual_fields(shape.fields)
    quiet = [(f.key, f.make_default()) for f in shape.fields if f.name in _QUIET.get(shape.cls, ())]

    def write(value: Any) -> dict[str, Any]:
        items = get(value)
        if not are_usual(items):
            data = {key: put(item) for key, put, item in zip(keys, careful, items, strict=True)}
        elif usual is None:
            data = {
                key: item if type(item) in _AS_IT_IS else lower(item)
                for key, item in zip(keys, items, strict=True)
            }
        else:
            data = {key: put(item) for key, put, item in zip(keys, usual, items, strict=True)}
        for key, default in quiet:
            if data[key] == default:
                del data[key]
        return {"__type__": tag, "data": data}

    return write


def _usual_fields(fields: tuple[Field, ...]) -> Callable[[tuple[Any, ...]], bool]:
    """A test whether every field has an expected type, so that the value can be written without further checks."""
    types = [
        (at, _types_of(field)) for at, field in enumerate(fields) if field.kind in ("map", "one", "many")
    ]
    words = [(at, _words_of(field)) for at, field in enumerate(fields) if field.kind == "closed"]
    given = [
        at for at, f in enumerate(fields) if f.kind in ("any", "absent") and f.make_default() is not None
    ]

    def are_usual(items: tuple[Any, ...]) -> bool:
        for at, known in types:
            if type(items[at]) not in known:
                return False
        try:
            for at, known in words:
                if items[at] not in known:
                    return False
        except TypeError:  # unhashable, so it is none of the expected words
            return False
        return not given or not any(items[at] is None for at in given)

    return are_usual


def _types_of(field: Field) -> frozenset[Any]:
    kind = {"map": dict, "many": list}.get(field.kind, field.of)
    return frozenset({kind, type(None)} if field.make_default() is None else {kind})


def _words_of(field: Field) -> frozenset[Any]:
    return frozenset(field.of | {None} if field.make_default() is None else field.of)


def _usual_writers(shape: Shape) -> list[Writer] | None:
    """A writer for each of its fields; None if all of them are written like any other value."""
    special = [_FIELDS.get((shape.cls, field.key)) for field in shape.fields]
    if not any(special) and all(field.kind != "many" for field in shape.fields):
        return None
    return [
        own if own is not None else partial(_write_many, field) if field.kind == "many" else lower
        for field, own in zip(shape.fields, special, strict=True)
    ]


def _careful_writer(cls: type[Any], field: Field) -> Writer:
    special = _FIELDS.get((cls, field.key))
    put: Callable[[Field, Any], Any] = _field_writers.get(field.kind, lambda _field, item: lower(item))
    has_default = field.make_default() is not None

    def write(item: Any) -> Any:
        if item is None:
            if has_default:
                raise Unencodable
            return None
        return special(item) if special is not None else put(field, item)

    return write


def _write_closed(field: Field, item: Any) -> Any:
    return lower(item) if isinstance(item, str) and item in field.of else _loose(item)


def _write_map(_field: Field, item: Any) -> Any:
    return lower(item) if isinstance(item, dict) else _loose(item)


def _write_one(field: Field, item: Any) -> Any:
    if type(item) is field.of:
        return lower(item)
    return _untagged(item) if isinstance(item, dict) else _loose(item)


def _write_many(field: Field, items: Any) -> Any:
    if items is None:
        return None
    if not isinstance(items, (list, tuple)):
        return _loose(items)
    cls = field.of
    put = _writers.get(cls, lower)  # messages are written often
    trees = [put(item) if type(item) is cls else _write_one(field, item) for item in items]
    return trees if isinstance(items, list) else _envelope("tuple", trees)


def _untagged(item: dict[Any, Any]) -> dict[str, Any]:
    """A dict in a field whose reader would take an untagged one for a value of the field's class."""
    tree: dict[str, Any] = lower(item)
    return tree if "__type__" in tree else _envelope("map", [[key, item] for key, item in tree.items()])


def _loose(item: Any) -> dict[str, Any]:
    return _envelope("value", lower(item))


_field_writers: dict[str, Callable[[Field, Any], Any]] = {
    "closed": _write_closed,
    "map": _write_map,
    "one": _write_one,
    "many": _write_many,
}


# --- fields with a shape of their own -------------------------------------------------------------------------------


def _write_source(source: Any) -> Any:
    if type(source) is tuple and len(source) == 2:
        kind, value = source
        if kind == "binary" and type(value) is bytes:
            return {"type": kind, "value": base64.b64encode(value).decode()}
        if kind != "binary" and kind in SOURCES:
            return {"type": kind, "value": lower(value)}
    return _untagged(source) if isinstance(source, dict) else lower(source)


def _write_size(size: Any) -> Any:
    if isinstance(size, list) and is_size(size):
        return _loose(size)
    return list(size) if type(size) is tuple and is_size(size) else lower(size)


def _write_errors(errors: Any) -> Any:
    return [_write_pair(pair) for pair in errors]


def _write_pair(pair: Any) -> Any:
    if isinstance(pair, (list, tuple)) and len(pair) == 2:
        return _lower_list(list(pair)) if type(pair) is tuple else _loose(pair)
    return lower(pair)


_FIELDS: dict[tuple[type[Any], str], Writer] = {
    (Image, "source"): _write_source,
    (Document, "source"): _write_source,
    (Audio, "source"): _write_source,
    (ImageRequest, "size"): _write_size,
    (ValidationError, "errors"): _write_errors,
}


# --- what the encoder refuses ----------------------------------------------------------------------------------------


def sayable(tree: Any) -> Any:
    """The tree with an envelope around what the encoder has refused."""
    if type(tree) is str:
        return tree if is_utf8(tree) else _envelope("text", _base64_of(tree))
    if type(tree) is int:
        return tree if abs(tree) < _GREAT else _envelope("int", hex(tree))
    if type(tree) is list:
        return [sayable(item) for item in tree]
    if type(tree) is not dict:
        return tree
    if all(map(is_utf8, tree)):
        return {key: sayable(item) for key, item in tree.items()}
    return _envelope("map", [[sayable(key), sayable(item)] for key, item in tree.items()])


def _base64_of(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()
