"""Values as bytes: compact and exact, for storage.

Rule of this file: the bytes are one MessagePack array `[version, tree]`. In a tree, plain data is itself, and
everything else is a dict with the single key nil: `{nil: [code, *fields]}`. Fields go by position, trailing
defaults are left out, and a missing field gets its default: so newer code reads old bytes. `SCHEMA_VERSION`
grows when that is not enough, and bytes of a version that is not known yet are refused, naming it.
Source: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from allm_actors.data.depth import DEEPEST_WRITTEN, is_deeper
from allm_actors.data.encoding import msgpack_bytes
from allm_actors.data.errors import StoreError
from allm_actors.data.utf8 import is_utf8

from .files import check_no_files
from .foreign import Unencodable, getter, plain, refusal
from .misreading import UNREADABLE, found, place, why
from .shapes import Shape, shape_of, shape_of_code

__all__ = ["SCHEMA_VERSION", "from_msgpack", "to_msgpack"]

SCHEMA_VERSION = 1
_TUPLE, _MAP, _GREAT_INT, _LONE_SURROGATES = 0, 1, 2, 3
_LEAST_INT, _GREATEST_INT = -(2**63), 2**64 - 1
_AS_IT_IS = frozenset({str, bool, float, bytes, type(None)})


def to_msgpack(value: Any) -> bytes:
    """A value of this library, or plain data with such values inside, as bytes.

    Raises TypeError for a handler, a function or a foreign object anywhere inside, naming its place, and for
    a tree nested more than 256 levels deep, which not every reader can read.
    """
    try:
        return _bytes(_pack(value, DEEPEST_WRITTEN))
    except (Unencodable, RecursionError):
        raise refusal(value) from None


def from_msgpack(data: bytes, *, files: bool = True) -> Any:
    """The value that `to_msgpack` wrote; equal to it in every type.

    Raises TypeError for what is no bytes, and StoreError: `newer_schema` for what a later version wrote, or a program
    that has registered more types; `corrupt` for anything else that cannot be read. The message says where and what,
    as in `$.messages[2]`. With `files=False`, ValidationError for a file as a source, as from `from_json`.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"from_msgpack takes bytes, got {type(data).__name__}")
    try:
        head = msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise _corrupt(f"{len(data)} bytes that are not MessagePack ({why(error)})") from None
    if not (type(head) is list and len(head) == 2 and type(head[0]) is int and head[0] > 0):
        raise _corrupt(f"they begin with {found(head)}, not with a schema version")
    if head[0] > SCHEMA_VERSION:
        raise _newer(f"they have schema version {head[0]}, this version reads up to {SCHEMA_VERSION}")
    try:
        value = _unpack(head[1])
    except RecursionError:
        raise _corrupt("they are nested too deeply") from None
    except UNREADABLE as error:
        raise _located(head[1], error) from None
    if not files:
        check_no_files(value)
    return value


def _located(tree: Any, error: Exception) -> StoreError:
    """The error with its place, which is found by reading the tree once more, from the inside."""
    path: list[str | int] = []
    inside: Any = tree
    while True:
        step = next((step for step in _steps(inside) if not _is_readable(step[1])), None)
        if step is None:
            break
        path.append(step[0])
        inside = step[1]
    where = place(path)
    if isinstance(error, StoreError) and error.reason == "newer_schema":
        unregistered = isinstance(_code_of(inside), str)
        return (_foreign if unregistered else _newer)(f"{error.message} ({where})")
    return _corrupt(f"{where} is {_described(inside)} that cannot be rebuilt ({why(error)})")


def _is_readable(tree: Any) -> bool:
    try:
        _unpack(tree)
    except (*UNREADABLE, RecursionError):
        return False
    return True


def _steps(tree: Any) -> Iterable[tuple[str | int, Any]]:
    if type(tree) is list:
        return enumerate(tree)
    if type(tree) is not dict:
        return ()
    if None not in tree:
        return tree.items()
    content = tree[None]
    if type(content) is not list or not content:
        return ()
    shape = shape_of_code(content[0]) if isinstance(content[0], (int, str)) else None
    if shape is None:
        return enumerate(content[1:])
    if shape.code is None:
        return content[1].items() if len(content) > 1 and type(content[1]) is dict else ()
    return zip((field.key for field in shape.fields), content[1:], strict=False)


def _code_of(tree: Any) -> Any:
    content = tree.get(None) if type(tree) is dict else None
    return content[0] if type(content) is list and content else None


def _described(tree: Any) -> str:
    code = _code_of(tree)
    shape = shape_of_code(code) if isinstance(code, (int, str)) else None
    return found(tree) if shape is None else f"a {shape.cls.__name__}"


def _newer(why: str) -> StoreError:
    return StoreError(
        "newer_schema", message=f"a later version of allm-actors wrote these bytes: {why}; upgrade"
    )


def _foreign(why: str) -> StoreError:
    advice = (
        "register it first, as the program did that wrote them (allm_actors.data.codec.register), or upgrade"
    )
    return StoreError("newer_schema", message=f"these bytes cannot be read in this process: {why}; {advice}")


def _corrupt(why: str) -> StoreError:
    return StoreError(
        "corrupt", message=f"these bytes were not written by to_msgpack, or were damaged: {why}"
    )


# --- writing ------------------------------------------------------------------------------------------------------


def _bytes(tree: Any) -> bytes:
    try:
        return msgpack_bytes([SCHEMA_VERSION, tree])
    except UnicodeEncodeError:  # a lone surrogate, as a cut stream may leave it, which UTF-8 cannot encode
        tree = _without_surrogates(tree)
        if is_deeper(tree, DEEPEST_WRITTEN):
            raise Unencodable from None
        return msgpack_bytes([SCHEMA_VERSION, tree])


def _pack(value: Any, room: int) -> Any:
    """The value as a tree of at most `room` levels. Raises Unencodable."""
    cls = type(value)
    if cls in _AS_IT_IS:
        return value
    return (_packers.get(cls) or _packer_for(value))(value, room)


def _pack_int(value: int, _room: int) -> Any:
    return value if _LEAST_INT <= value <= _GREATEST_INT else {None: [_GREAT_INT, hex(value)]}


def _pack_list(value: list[Any], room: int) -> list[Any]:
    if room < 1:
        raise Unencodable
    room -= 1
    return [item if type(item) in _AS_IT_IS else _pack(item, room) for item in value]


def _pack_tuple(value: tuple[Any, ...], room: int) -> dict[None, Any]:
    return {None: [_TUPLE, *_pack_list(list(value), room - 1)]}


def _pack_dict(value: dict[Any, Any], room: int) -> dict[Any, Any]:
    if room < 1:
        raise Unencodable
    for key in value:
        if type(key) is not str:
            return {None: [_MAP, *_pack_list([part for item in value.items() for part in item], room - 1)]}
    room -= 1
    return {key: item if type(item) in _AS_IT_IS else _pack(item, room) for key, item in value.items()}


Packer = Callable[[Any, int], Any]
_packers: dict[type[Any], Packer] = {int: _pack_int, list: _pack_list, tuple: _pack_tuple, dict: _pack_dict}


def _packer_for(value: Any) -> Packer:
    shape = shape_of(type(value))
    if shape is not None:
        packer = _packers[shape.cls] = _shape_packer(shape)
        return packer
    return lambda other, room: _pack(plain(other), room)


def _shape_packer(shape: Shape) -> Packer:
    get, code, tag = getter(shape), shape.code, shape.tag
    if code is None:
        return lambda value, room: {None: [tag, _pack_dict(get(value)[0], room - 2)]}
    defaults = [field.make_default() for field in shape.fields]

    def pack(value: Any, room: int) -> dict[None, Any]:
        if room < 2:
            raise Unencodable
        room -= 2
        fields = get(value)
        count = len(fields)
        while count and _is_default(fields[count - 1], defaults[count - 1]):
            count -= 1
        return {None: [code, *[f if type(f) in _AS_IT_IS else _pack(f, room) for f in fields[:count]]]}

    return pack


def _is_default(value: Any, default: Any) -> bool:
    """Whether they are equal and of the same type: `==` alone takes False for 0, and compares whole threads."""
    if value is default:
        return True
    cls = type(value)
    return cls is type(default) and (
        value == default if cls is str else cls in (dict, list) and not value and not default
    )


def _without_surrogates(tree: Any) -> Any:
    if type(tree) is str:
        return tree if is_utf8(tree) else {None: [_LONE_SURROGATES, tree.encode("utf-8", "surrogatepass")]}
    if type(tree) is list:
        return [_without_surrogates(item) for item in tree]
    if type(tree) is not dict:
        return tree
    if all(key is None or is_utf8(key) for key in tree):
        return {key: _without_surrogates(item) for key, item in tree.items()}
    return {None: [_MAP, *(_without_surrogates(part) for item in tree.items() for part in item)]}


# --- reading ------------------------------------------------------------------------------------------------------


def _unpack(tree: Any) -> Any:
    cls = type(tree)
    if cls is list:
        return [item if type(item) is str else _unpack(item) for item in tree]
    if cls is dict:
        if None in tree:
            return _unpack_special(tree[None])
        return {key: item if type(item) is str else _unpack(item) for key, item in tree.items()}
    return tree


def _unpack_special(content: list[Any]) -> Any:
    code = content[0]
    unpacker = _unpackers.get(code)
    if unpacker is None:
        unpacker = _unpackers[code] = _shape_unpacker(code)
    return unpacker(content)


def _unpack_tuple(content: list[Any]) -> tuple[Any, ...]:
    return tuple(map(_unpack, content[1:]))


def _unpack_map(content: list[Any]) -> dict[Any, Any]:
    parts = list(map(_unpack, content[1:]))
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _unpack_text(content: list[Any]) -> str:
    return bytes.decode(content[1], "utf-8", "surrogatepass")


Unpacker = Callable[[list[Any]], Any]
_unpackers: dict[int | str, Unpacker] = {
    _TUPLE: _unpack_tuple,
    _MAP: _unpack_map,
    _GREAT_INT: lambda content: int(content[1], 16),
    _LONE_SURROGATES: _unpack_text,
}


def _shape_unpacker(code: int | str) -> Unpacker:
    shape = shape_of_code(code)
    if shape is None:
        raise StoreError(
            "newer_schema",
            message=f"a value in them has the type {found(code)}, which is not registered here",
        )
    build = shape.build
    if shape.code is None:
        return lambda content: build(_unpack(content[1]))
    names = [field.name for field in shape.fields]
    required = {field.name: field.make_default for field in shape.fields}

    def unpack(content: list[Any]) -> Any:
        fields = {
            name: item if type(item) is str else _unpack(item)
            for name, item in zip(names, content[1:], strict=False)
        }
        if len(fields) < len(content) - 1:
            raise StoreError(
                "newer_schema",
                message=f"a {shape.cls.__name__} in them has more fields than this version knows",
            )
        for name in names[len(fields) :]:
            fields[name] = required[name]()
        return build(fields)

    return unpack
