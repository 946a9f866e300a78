"""Makes any value storable, by replacing the leaves that have no encoding.

Rule of this file: leaf by leaf. What a codec can write stays the same object; any other leaf is replaced by
its plain data, as a model would read it, or, if it has none, by text.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Final

import msgspec

from allm_actors.data.codec.foreign import getter
from allm_actors.data.codec.shapes import shape_of
from allm_actors.data.depth import DEEPEST

from .tool_errors import describe

__all__ = ["storable"]

_PLAIN: Final = (str, int, float, bytes, type(None))


def storable(value: Any) -> Any:
    """The value as both codecs can write it; the value itself when they can already. Never raises.

    A part that contains itself, or is nested more than 64 levels deep, becomes text.
    """
    return _stored(value, set())


def _stored(value: Any, above: set[int]) -> Any:
    if isinstance(value, _PLAIN) and not isinstance(value, Enum):
        return value
    if id(value) in above or len(above) >= DEEPEST:
        return describe(value)
    above.add(id(value))
    try:
        return _inside(value, above)
    except Exception:  # noqa: BLE001 - taking a value apart and rebuilding it runs user code
        return describe(value)
    finally:
        above.discard(id(value))


def _inside(value: Any, above: set[int]) -> Any:
    if isinstance(value, Enum):
        inner = _stored(value.value, above)
        return value if inner is value.value else inner
    if isinstance(value, dict):
        parts = {_stored(key, above): _stored(item, above) for key, item in value.items()}
        same = len(parts) == len(value) and _same([*parts, *parts.values()], [*value, *value.values()])
        return value if same else parts
    if isinstance(value, (list, tuple)):
        items = [_stored(item, above) for item in value]
        if _same(items, value):
            return value
        return tuple(items) if isinstance(value, tuple) else items
    return _fields(value, above)


def _fields(value: Any, above: set[int]) -> Any:
    shape = shape_of(type(value))
    if shape is None:
        data = msgspec.to_builtins(value, builtin_types=(bytes,), str_keys=True, enc_hook=_leaf)
        return _stored(data, above)
    before = getter(shape)(value)
    after = [_stored(field, above) for field in before]
    if _same(after, before):
        return value
    if shape.code is None:
        return shape.build(after[0])
    for place, field in enumerate(shape.fields):
        if field.kind == "absent":  # a handler is never read back, so its text is of no use
            after[place] = None
    return shape.build({field.name: item for field, item in zip(shape.fields, after, strict=True)})


def _leaf(value: Any) -> Any:
    """A leaf without an encoding: a pydantic model as its data, anything else as text."""
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if callable(dump) else describe(value)


def _same(after: Sequence[Any], before: Sequence[Any]) -> bool:
    return all(one is other for one, other in zip(after, before, strict=True))
