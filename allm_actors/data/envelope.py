"""Values as JSON: `{"__type__": "ALLM.Message", "data": {…}}`, nested everywhere.

Rule of this file: the shape is the Elixir library's, and reading is total: any text gives a value or a
`ValidationError`. What JSON cannot say travels in an envelope of its own (`tuple`, `bytes`, `float`, `map` for dicts
with other than text keys or with a key `__type__`, `text` for what UTF-8 has no form for, `int` for more digits than
Python reads), so that a round trip is identity; what would come back as something else is refused. Fields that the
Elixir library does not have are written only when they say something. A type nobody knows stays a dict.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from .audio import Audio
from .documents import Document
from .errors import ValidationError
from .foreign import Unencodable, getter, plain, refusal
from .images import Image, ImageRequest
from .misreading import UNREADABLE, Misread, found, kind_of, unknown_word, why
from .predicates import is_utf8
from .responses import Response, Usage
from .shapes import Field, Shape, shape_of, shape_of_tag
from .tools import Tool

__all__ = ["from_json", "to_json"]

_AS_IT_IS = frozenset({str, int, bool, type(None)})
_GREAT = 2**2048  # fewer digits than the least that Python can be told to read
_QUIET: dict[type[Any], tuple[str, ...]] = {
    Tool: ("summary", "timeout", "isolation", "effect"),
    Usage: ("cache_write_input_tokens",),
    Response: ("parsed",),
}


def to_json(value: Any) -> str:
    """One of this library's values as JSON text.

    Shape: `{"__type__": "ALLM.Message", "data": {"role": "user", "content": "hi", …}}`.
    Raises TypeError for anything else, and for what has no form in JSON anywhere inside, naming its place: a handler, a
    function, a foreign object, and None in a field with another default, since `null` is read as that default.
    """
    if shape_of(type(value)) is None:
        raise TypeError(
            f"to_json takes a value of this library, such as a Message or a Session, got {type(value).__name__}"
        )
    try:
        tree = _lower(value)
        return _text(tree)
    except (Unencodable, RecursionError):
        raise refusal(value, null_is_default=True) from None


def from_json(text: str | bytes, as_: type[Any] | str | None = None) -> Any:
    """The value in JSON text; `as_` (a class or a tag) is for an object without a tag, a tag always wins.

    A tagged object of an unknown type comes back as a dict, so that newer data can be passed on.
    Raises TypeError for what is no text, and ValidationError (`invalid_request`), whose message says where and what, as
    in `$.messages[2].role is 'robot'`, and whose `errors` is one of `("json", "malformed")`, `("data", "missing")`,
    `("data", "malformed_struct")`, `("format", "missing_type_tag")`, `("format", "unknown_type_tag")`,
    `("_unknown", "atom_decode_failed")`, `(["source"], "invalid_base64")`, `([field], "malformed_struct")`.
    """
    if not isinstance(text, (str, bytes, bytearray)):
        raise TypeError(f"from_json takes JSON text, got {type(text).__name__}")
    try:
        return _top(_tree(text), as_)
    except Misread as misread:
        message = f"invalid JSON for from_json: {misread}"
        raise ValidationError("invalid_request", misread.failures, message=message) from None
    except RecursionError:
        raise _malformed("it is nested too deeply") from None


def _text(tree: Any) -> str:
    try:
        return msgspec.json.encode(tree).decode()
    except (
        ValueError
    ):  # half of a surrogate pair, as a cut stream may leave it, or a number of thousands of digits
        return msgspec.json.encode(_sayable(tree)).decode()


def _tree(text: str | bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        pass
    try:  # reads the surrogates and the great numbers that the fast reader refuses
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        why_not = f"it is not JSON at line {error.lineno}, column {error.colno} ({error.msg})"
        raise _malformed(why_not) from None
    except UnicodeError:
        raise _malformed("it is not UTF-8") from None
    except ValueError as error:  # NaN and the like, or more digits than Python reads
        raise _malformed(str(error) if "not JSON" in str(error) else "a number in it is too long") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _malformed(what: str) -> ValidationError:
    return ValidationError(
        "invalid_request", [("json", "malformed")], message=f"invalid JSON for from_json: {what}"
    )


def _problem(field: Any, code: str, *, what: str, inside: str | None = None) -> Misread:
    return Misread([(field, code)], what, *(() if inside is None else (inside,)))


# --- writing ------------------------------------------------------------------------------------------------------


def _lower(value: Any) -> Any:
    cls = type(value)
    if cls in _AS_IT_IS:
        return value
    return (_writers.get(cls) or _writer_for(value))(value)


def _lower_list(value: list[Any]) -> list[Any]:
    return [item if type(item) in _AS_IT_IS else _lower(item) for item in value]


def _lower_dict(value: dict[Any, Any]) -> dict[str, Any]:
    if not value:
        return value
    tree = {key: item if type(item) in _AS_IT_IS else _lower(item) for key, item in value.items()}
    for key in tree:
        if type(key) is not str:
            return _envelope("map", [[_lower(key), item] for key, item in tree.items()])
    if "__type__" in tree and _is_known(value["__type__"]):
        return _envelope("map", [[key, item] for key, item in tree.items()])
    return tree


def _lower_float(value: float) -> Any:
    return value if math.isfinite(value) else _envelope("float", repr(value))


def _lower_bytes(value: bytes) -> dict[str, Any]:
    return _envelope("bytes", base64.b64encode(value).decode())


def _lower_tuple(value: tuple[Any, ...]) -> dict[str, Any]:
    return _envelope("tuple", _lower_list(list(value)))


def _sayable(tree: Any) -> Any:
    """The tree with an envelope around what the encoder has refused."""
    if type(tree) is str:
        return tree if is_utf8(tree) else _envelope("text", _base64_of(tree))
    if type(tree) is int:
        return tree if abs(tree) < _GREAT else _envelope("int", hex(tree))
    if type(tree) is list:
        return [_sayable(item) for item in tree]
    if type(tree) is not dict:
        return tree
    if all(map(is_utf8, tree)):
        return {key: _sayable(item) for key, item in tree.items()}
    return _envelope("map", [[_sayable(key), _sayable(item)] for key, item in tree.items()])


def _base64_of(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


def _envelope(tag: str, data: Any) -> dict[str, Any]:
    return {"__type__": tag, "data": data}


def _is_known(tag: Any) -> bool:
    return isinstance(tag, str) and (tag in _plain_readers or shape_of_tag(tag) is not None)


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
    return lambda other: _lower(plain(other))


def _shape_writer(shape: Shape) -> Writer:
    tag, get = shape.tag, getter(shape)
    if shape.code is None:
        return lambda value: {"__type__": tag, "data": {k: _lower(v) for k, v in get(value)[0].items()}}
    keys = [field.key for field in shape.fields]
    special = {key: write for (cls, key), (write, _) in _FIELDS.items() if cls is shape.cls}
    quiet = {f.key: f.make_default() for f in shape.fields if f.name in _QUIET.get(shape.cls, ())}
    never_none = [at for at, field in enumerate(shape.fields) if field.make_default() is not None]

    def fields(value: Any) -> tuple[Any, ...]:
        items = get(value)
        for at in never_none:
            if items[at] is None:
                raise Unencodable
        return items

    def write(value: Any) -> dict[str, Any]:
        data = {
            key: item if type(item) in _AS_IT_IS else _lower(item)
            for key, item in zip(keys, fields(value), strict=True)
        }
        for key, default in quiet.items():
            if data[key] == default:
                del data[key]
        return {"__type__": tag, "data": data}

    def write_special(value: Any) -> dict[str, Any]:
        data = {key: special.get(key, _lower)(item) for key, item in zip(keys, fields(value), strict=True)}
        return {"__type__": tag, "data": data}

    return write_special if special else write


# --- reading ------------------------------------------------------------------------------------------------------


def _top(tree: Any, as_: type[Any] | str | None) -> Any:
    if isinstance(tree, dict) and isinstance(tree.get("__type__"), str):
        return _raise_tagged(tree)
    if as_ is None:
        what = f'is {found(tree)} without a "__type__"; say what it is, as in from_json(text, as_=Message)'
        raise _problem("format", "missing_type_tag", what=what)
    wanted: object = as_
    shape = shape_of_tag(wanted) if isinstance(wanted, str) else _shape_of_class(wanted)
    if shape is None:
        name = as_ if isinstance(as_, str) else getattr(as_, "__name__", type(as_).__name__)
        what = f"cannot be read: as_={name!r} is no class or tag of this library, such as Message or 'ALLM.Message'"
        raise _problem("format", "unknown_type_tag", what=what)
    return _read(shape, tree)


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
            done.append(read(item))  # noqa: PERF401 - how many are done says which one was not
    except Misread as misread:
        misread.path.append(len(done))
        raise
    return done


def _raise_tagged(tree: dict[str, Any]) -> Any:
    tag = tree["__type__"]
    if not _is_known(tag):
        return _raise_dict(tree)
    if "data" not in tree:
        raise _problem("data", "missing", what=f'is {found(tree)} without "data"')
    reader = _plain_readers.get(tag)
    if reader is None:
        return _read(_known(shape_of_tag(tag)), tree["data"])
    try:
        return reader(tree["data"])
    except (TypeError, ValueError, OverflowError):
        what = f'is tagged {tag!r}, and its "data" ({found(tree["data"])}) is not that'
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
    return special[1](tree) if special is not None else _field_readers[field.kind](field, tree)


def _read_closed(field: Field, tree: Any) -> Any:
    if isinstance(tree, str) and tree in field.of:
        return tree
    raise _problem("_unknown", "atom_decode_failed", what=unknown_word(tree, field.of))


def _read_one(field: Field, tree: Any) -> Any:
    if type(tree) is dict and "__type__" not in tree:
        return _read(_known(shape_of(field.of)), tree)
    value = _raise(tree)
    if isinstance(value, (field.of, dict)):
        return value
    raise _misfit(field, tree, f"be {_known(shape_of(field.of)).tag}")


def _read_many(field: Field, tree: Any) -> Any:
    if type(tree) is list:
        return _each(partial(_read_one, field), tree)
    if type(tree) is dict and tree.get("__type__") == "tuple" and type(tree.get("data")) is list:
        return tuple(_each(partial(_read_one, field), tree["data"]))
    raise _misfit(field, tree, f"be a list of {_known(shape_of(field.of)).tag}")


def _read_map(field: Field, tree: Any) -> Any:
    value = _raise(tree)
    if isinstance(value, dict):
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
}


# --- fields with a shape of their own -----------------------------------------------------------------------------


_SOURCES = ("binary", "base64", "url", "file")


def _write_source(source: Any) -> Any:
    if type(source) is not tuple or len(source) != 2:
        return _lower(source)
    kind, value = source
    if kind == "binary" and isinstance(value, bytes):
        return {"type": kind, "value": base64.b64encode(value).decode()}
    return {"type": kind, "value": _lower(value)}


def _read_source(tree: Any) -> Any:
    if type(tree) is not dict or "__type__" in tree:
        return _raise(tree)
    kind, value = tree.get("type"), tree.get("value")
    if kind not in _SOURCES:
        raise _problem("_unknown", "atom_decode_failed", what=unknown_word(kind, _SOURCES), inside="type")
    if kind != "binary" or not isinstance(value, str):
        return (kind, _raise(value))
    try:
        return (kind, base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        what = f"is {kind_of(value)} that is not Base64"
        raise _problem(["source"], "invalid_base64", what=what, inside="value") from None


def _is_size(size: Any) -> bool:
    return len(size) == 2 and all(type(pixels) is int and pixels > 0 for pixels in size)


def _write_size(size: Any) -> Any:
    return list(size) if type(size) is tuple and _is_size(size) else _lower(size)


def _read_size(tree: Any) -> Any:
    return tuple(tree) if type(tree) is list and _is_size(tree) else _raise(tree)


def _write_errors(errors: Any) -> Any:
    return [
        [_lower(field) for field in pair] if type(pair) is tuple and len(pair) == 2 else _lower(pair)
        for pair in errors
    ]


def _read_errors(tree: Any) -> Any:
    if type(tree) is not list:
        raise _problem("data", "malformed_struct", what=f"is {kind_of(tree)}, and should be a list of pairs")
    pairs = _raise_list(tree)
    return [tuple(pair) if type(pair) is list and len(pair) == 2 else pair for pair in pairs]


_FIELDS: dict[tuple[type[Any], str], tuple[Writer, Callable[[Any], Any]]] = {
    (Image, "source"): (_write_source, _read_source),
    (Document, "source"): (_write_source, _read_source),
    (Audio, "source"): (_write_source, _read_source),
    (ImageRequest, "size"): (_write_size, _read_size),
    (ValidationError, "errors"): (_write_errors, _read_errors),
}
