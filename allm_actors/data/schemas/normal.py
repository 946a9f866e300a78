"""The normal form of a JSON Schema: plain dicts with text for keys, lists, and no enum members.

Rule of this file: a schema that is normal is returned as the same object, so that checking costs almost
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from operator import is_
from typing import Any

__all__ = ["normalize", "normalized"]

_PLAIN = frozenset({str, int, float, bool, type(None)})


def normalize(schema: Any, *, anew: bool = False) -> Any:
    """The schema with every key as text and every enum member as its value, at any depth. Idempotent.

    With `anew` the result shares no dict or list with `schema`, which its owner may go on changing.
    """
    kind = type(schema)
    if kind in _PLAIN:
        return schema
    if isinstance(schema, Enum):
        return normalize(schema.value, anew=anew)
    if isinstance(schema, Mapping):
        tree = {_key(key): normalize(value, anew=anew) for key, value in schema.items()}
        return schema if kind is dict and not anew and _is_same(tree, schema) else tree
    if isinstance(schema, (list, tuple)):
        items = [normalize(item, anew=anew) for item in schema]
        return schema if kind is list and not anew and all(map(is_, items, schema)) else items
    return schema


def normalized(schema: Any, owner: str, *, anew: bool = False) -> Any:
    """As `normalize`. Raises ValueError, naming the owner, for a schema that contains itself."""
    try:
        return normalize(schema, anew=anew)
    except RecursionError:
        raise ValueError(
            f"{owner}: its schema contains itself, or is nested too deeply to be sent; refer to a part with $ref"
        ) from None


def _is_same(tree: Mapping[str, Any], schema: Mapping[Any, Any]) -> bool:
    return all(type(key) is str and tree[key] is value for key, value in schema.items())


def _key(key: Any) -> str:
    if isinstance(key, Enum):
        key = key.value
    return key if type(key) is str else str(key)
