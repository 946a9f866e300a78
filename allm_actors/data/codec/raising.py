"""A value of this library from a tree of JSON.

Rule of this file: total. A tree gives a value, or a `Misread` that says where and what; each reader that the
error passes through adds its step to the path.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from functools import partial
from typing import Any

from allm_actors.data.errors import ValidationError
from allm_actors.data.media.audio import Audio
from allm_actors.data.media.documents import Document
from allm_actors.data.media.images import Image, ImageRequest

from .misreading import UNREADABLE, Misread, found, kind_of, unknown_word, why
from .shapes import Field, Shape, shape_of, shape_of_tag

__all__ = ["SOURCES", "is_known", "is_size", "raise_top"]

SOURCES = ("binary", "base64", "url", "file")


def raise_top(tree: Any, as_: type[Any] | str | None) -> Any:
    """The value of a whole tree; `as_` is the type of a tree without a tag. Raises Misread for what is no value."""
    if isinstance(tree, dict) and isinstance(tree.get("__type__"), str):
        return _raise_tagged(tree)
    if as_ is None:
        what = f'is {found(tree)} without a "__type__"; name its type, as in from_json(text, as_=Message)'
        raise _problem("format", "missing_type_tag", what=what)
    wanted: object = as_
    shape = shape_of_tag(wanted) if isinstance(wanted, str) else _shape_of_class(wanted)
    if shape is None:
        name = as_ if isinstance(as_, str) else getattr(as_, "__name__", type(as_).__name__)
        what = (
            f"cannot be read: as_={name!r} is not a class or tag of this library, such as Message or "
            "'ALLM.Message'"
        )
        raise _problem("format", "unknown_type_tag", what=what)
    return _read(shape, tree)


def is_known(tag: Any) -> bool:
    """Whether an object with this tag is decoded, rather than kept as a dict."""
    return isinstance(tag, str) and (tag in _plain_readers or shape_of_tag(tag) is not None)


def is_size(size: Any) -> bool:
    """Whether these items are a width and a height in pixels."""
    return len(size) == 2 and all(type(pixels) is int and pixels > 0 for pixels in size)


def _shape_of_class(cls: object) -> Shape | None:
    return shape_of(cls) if isinstance(cls, type) else None


def _raise(tree: Any) -> Any:
    if type(tree) is dict:
        return _raise_tagged(tree) if "__type__" in tree else _raise_dict(tree)
    return _raise_list(tree) if type(tree) is list else tree


def _raise_dict(tree: dict[str, Any]) -> dict[str, Any]:
    done: dict[str, Any] = {}
    for key, item in tree.items():
        try:
            done[key] = item if type(item) is str else _raise(item)
        except Misread as misread:
            misread.path.append(key)
            raise
    return done


def _raise_list(tree: Any) -> list[Any]:
    return _each(_raise, tree)


def _each(read: Callable[[Any], Any], tree: list[Any]) -> list[Any]:
    done: list[Any] = []
    try:
        for item in tree:
            done.append(read(item))  # noqa: PERF401 - after an error, `len(done)` is the index of the item that failed
    except Misread as misread:
        misread.path.append(len(done))
        raise
    return done


def _raise_tagged(tree: dict[str, Any]) -> Any:
    tag = tree["__type__"]
    if not is_known(tag):
        return _raise_dict(tree)
    if "data" not in tree:
        raise _problem("data", "missing", what=f'is {found(tree)} without "data"')
    reader = _plain_readers.get(tag)
    if reader is None:
        return _read(_known(shape_of_tag(tag)), tree["data"])
    try:
        return reader(tree["data"])
    except (TypeError, ValueError, OverflowError):
        what = f'is tagged {tag!r}, but its "data" ({found(tree["data"])}) does not fit that tag'
        raise _problem("data", "malformed_struct", what=what) from None


def _known(shape: Shape | None) -> Shape:
    if shape is None:
        raise LookupError("no shape behind a name that has one")
    return shape


def _read(shape: Shape, data: Any) -> Any:
    if type(data) is not dict:
        what = f"is {found(data)}, and should be an object with the fields of {shape.tag}"
        raise _problem("data", "malformed_struct", what=what)
    values = _raise_dict(data) if shape.code is None else _read_fields(shape, data)
    try:
        return shape.build(values)
    except ValidationError as refused:
        raise Misread(refused.errors, f"cannot be {shape.tag}: {refused}") from None
    except UNREADABLE as error:
        raise _problem("data", "malformed_struct", what=f"cannot be {shape.tag} ({why(error)})") from None


def _read_fields(shape: Shape, data: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in shape.fields:
        try:
            values[field.name] = _read_field(shape.cls, field, data.get(field.key))
        except Misread as misread:
            misread.path.append(field.key)
            raise
    return values


def _read_field(cls: type[Any], field: Field, tree: Any) -> Any:
    if tree is None or field.kind == "absent":
        return field.make_default()
    special = _FIELDS.get((cls, field.key))
    return special(tree) if special is not None else _field_readers[field.kind](field, tree)


def _read_closed(field: Field, tree: Any) -> Any:
    if isinstance(tree, str) and tree in field.of:
        return tree
    if _is_loose(tree):
        return _raise(tree)
    raise _problem("_unknown", "atom_decode_failed", what=unknown_word(tree, field.of))


def _read_one(field: Field, tree: Any) -> Any:
    if type(tree) is dict and "__type__" not in tree:
        return _read(_known(shape_of(field.of)), tree)
    value = _raise(tree)
    if isinstance(value, (field.of, dict)) or _is_loose(tree):
        return value
    raise _misfit(field, tree, f"be {_known(shape_of(field.of)).tag}")


def _read_many(field: Field, tree: Any) -> Any:
    if type(tree) is list:
        return _each(partial(_read_one, field), tree)
    if type(tree) is dict and tree.get("__type__") == "tuple" and type(tree.get("data")) is list:
        return tuple(_each(partial(_read_one, field), tree["data"]))
    if _is_loose(tree):
        return _raise(tree)
    raise _misfit(field, tree, f"be a list of {_known(shape_of(field.of)).tag}")


def _read_map(field: Field, tree: Any) -> Any:
    value = _raise(tree)
    if isinstance(value, dict) or _is_loose(tree):
        return value
    raise _misfit(field, tree, "be an object")


def _misfit(field: Field, tree: Any, wanted: str) -> Misread:
    return _problem([field.key], "malformed_struct", what=f"is {kind_of(tree)}, and should {wanted}")


_field_readers: dict[str, Callable[[Field, Any], Any]] = {
    "any": lambda _field, tree: _raise(tree),
    "closed": _read_closed,
    "one": _read_one,
    "many": _read_many,
    "map": _read_map,
}


def _read_pairs(data: Any) -> dict[Any, Any]:
    pairs: dict[Any, Any] = {}
    try:
        for key, item in _list(data):
            pairs[_raise(key)] = _raise(item)
    except Misread as misread:
        misread.path.append(len(pairs))
        raise
    return pairs


def _read_text(data: Any) -> str:
    return base64.b64decode(data, validate=True).decode("utf-8", "surrogatepass")


def _list(data: Any) -> list[Any]:
    if type(data) is not list:
        raise TypeError("not a list")
    return data


_plain_readers: dict[str, Callable[[Any], Any]] = {
    "tuple": lambda data: tuple(_raise_list(_list(data))),
    "map": _read_pairs,
    "bytes": lambda data: base64.b64decode(data, validate=True),
    "float": float,
    "text": _read_text,
    "int": lambda data: int(data, 16),
    "value": _raise,
}


def _is_loose(tree: Any) -> bool:
    return type(tree) is dict and tree.get("__type__") == "value"


def _problem(field: Any, code: str, *, what: str, inside: str | None = None) -> Misread:
    return Misread([(field, code)], what, *(() if inside is None else (inside,)))


# --- fields with a shape of their own -------------------------------------------------------------------------------


def _read_source(tree: Any) -> Any:
    if type(tree) is not dict or "__type__" in tree:
        return _raise(tree)
    kind, value = tree.get("type"), tree.get("value")
    if kind not in SOURCES:
        raise _problem("_unknown", "atom_decode_failed", what=unknown_word(kind, SOURCES), inside="type")
    if kind != "binary" or not isinstance(value, str):
        return (kind, _raise(value))
    try:
        return (kind, base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        what = f"is {kind_of(value)} that is not Base64"
        raise _problem(["source"], "invalid_base64", what=what, inside="value") from None


def _read_size(tree: Any) -> Any:
    return tuple(tree) if type(tree) is list and is_size(tree) else _raise(tree)


def _read_errors(tree: Any) -> Any:
    if type(tree) is not list:
        raise _problem("data", "malformed_struct", what=f"is {kind_of(tree)}, and should be a list of pairs")
    return [
        tuple(pair) if type(item) is list and len(item) == 2 else pair
        for item, pair in zip(tree, _raise_list(tree), strict=True)
    ]


_FIELDS: dict[tuple[type[Any], str], Callable[[Any], Any]] = {
    (Image, "source"): _read_source,
    (Document, "source"): _read_source,
    (Audio, "source"): _read_source,
    (ImageRequest, "size"): _read_size,
    (ValidationError, "errors"): _read_errors,
}
