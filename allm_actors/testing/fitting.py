"""A value that fits a JSON Schema, drawn from random numbers: what a model that has read the schema would send.

Rule of this file: total. Every schema gets a value, small enough to be read; of what cannot be drawn (a pattern of the
user's, a condition) the type is kept and the rest is left out, so that the value may not fit.
Source: JSON Schema, draft 2020-12, https://json-schema.org/draft/2020-12/json-schema-validation
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from typing import Any

from allm_actors.data.predicates import is_number

__all__ = ["fitting"]

_DEEPEST = 4
_TYPES = ("string", "integer", "number", "boolean", "null", "array", "object")
_BY_KEYWORD = {
    "properties": "object",
    "required": "object",
    "additionalProperties": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "minimum": "number",
    "maximum": "number",
    "minLength": "string",
    "maxLength": "string",
    "pattern": "string",
    "format": "string",
}
_TEXTS = ["", "a", "Paris", "two words", "ü\n", "42", "ORD-7", "2024-01-02"]
_FORMATS = {
    "date-time": ["2024-01-02T03:04:05Z", "1999-12-31T23:59:59+02:00"],
    "date": ["2024-01-02", "1999-12-31"],
    "time": ["03:04:05Z", "23:59:59Z"],
    "duration": ["PT5M", "P1D"],
    "uuid": ["00000000-0000-4000-8000-000000000000"],
    "decimal": ["0", "1.5", "-3"],
    "email": ["ada@example.com"],
    "uri": ["https://example.com/a"],
    "ipv4": ["192.0.2.1"],
    "ipv6": ["2001:db8::1"],
    "hostname": ["example.com"],
}


def fitting(schema: Any, dice: random.Random) -> Any:
    """A JSON value for the schema; anything for one that says nothing."""
    return _draw(schema, schema, dice, 0)


def _draw(schema: Any, root: Any, dice: random.Random, depth: int) -> Any:
    schema = _resolved(schema, root)
    if not schema:
        return dice.choice([None, True, 1, 0.5, "a", [], {}])
    if "const" in schema:
        return schema["const"]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return dice.choice(schema["enum"])
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), list) and schema[word]:
            rest = {key: value for key, value in schema.items() if key != word}
            return _draw(_both(rest, _one_of(schema[word], root, dice, depth)), root, dice, depth)
    return _DRAWN[_type_of(schema, dice, depth)](schema, root, dice, depth)


def _resolved(schema: Any, root: Any) -> dict[str, Any]:
    """The schema with what it refers to, and with all of `allOf`, in one; `{}` for one that is none."""
    merged: dict[str, Any] = dict(schema) if isinstance(schema, Mapping) else {}
    for _ in range(_DEEPEST):
        reference, parts = merged.pop("$ref", None), merged.pop("allOf", None)
        if reference is None and not isinstance(parts, list):
            return merged
        for part in [_at(reference, root), *(parts if isinstance(parts, list) else [])]:
            merged = _both(merged, part)
    return {key: value for key, value in merged.items() if key not in ("$ref", "allOf")}


def _at(reference: Any, root: Any) -> Any:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return {}
    for name in reference.removeprefix("#").removeprefix("/").split("/"):
        if name:
            root = root.get(_unescaped(name), {}) if isinstance(root, Mapping) else {}
    return root


def _unescaped(name: str) -> str:
    return name.replace("~1", "/").replace("~0", "~")


def _both(one: dict[str, Any], other: Any) -> dict[str, Any]:
    if not isinstance(other, Mapping):
        return one
    merged = {**other, **one}
    for word in ("properties", "$defs"):
        if isinstance(one.get(word), Mapping) and isinstance(other.get(word), Mapping):
            merged[word] = {**other[word], **one[word]}
    if isinstance(one.get("required"), list) and isinstance(other.get("required"), list):
        merged["required"] = [*one["required"], *other["required"]]
    return merged


def _one_of(choices: list[Any], root: Any, dice: random.Random, depth: int) -> Any:
    if depth < _DEEPEST:
        return dice.choice(choices)
    return min(
        choices, key=lambda each: _cost(_resolved(each, root))
    )  # so that a type of itself comes to an end


def _cost(schema: Mapping[str, Any]) -> int:
    kinds = schema.get("type")
    nested = kinds in ("object", "array") or "anyOf" in schema or "oneOf" in schema
    return 0 if kinds == "null" else 2 if nested else 1


def _type_of(schema: Mapping[str, Any], dice: random.Random, depth: int) -> str:
    kinds = schema.get("type")
    known = [kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if kind in _TYPES]
    if known:
        return str(dice.choice(known)) if depth < _DEEPEST else min(known, key=_TYPES.index)
    return next((kind for word, kind in _BY_KEYWORD.items() if word in schema), "string")


def _object(schema: Mapping[str, Any], root: Any, dice: random.Random, depth: int) -> dict[str, Any]:
    properties = schema.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    required = [name for name in _list(schema, "required") if isinstance(name, str)]
    chosen = [name for name in properties if name in required or (depth < _DEEPEST and dice.random() < 0.5)]
    drawn = {name: _draw(properties.get(name), root, dice, depth + 1) for name in [*chosen, *required]}
    others = schema.get("additionalProperties")
    if isinstance(others, Mapping) and others and depth < _DEEPEST:
        drawn |= {name: _draw(others, root, dice, depth + 1) for name in ["a", "b"][: dice.randint(0, 2)]}
    return drawn


def _array(schema: Mapping[str, Any], root: Any, dice: random.Random, depth: int) -> list[Any]:
    first = _list(schema, "prefixItems")
    least = max(int(_number(schema, "minItems", 0)), 0)
    most = int(min(_number(schema, "maxItems", least + 2), least + 2)) if depth < _DEEPEST else least
    length = dice.randint(least, max(least, most))
    if first and schema.get("items") is False:
        length = len(first)
    items = [
        _draw(first[at] if at < len(first) else schema.get("items"), root, dice, depth + 1)
        for at in range(min(length, 50))
    ]
    if schema.get("uniqueItems"):
        return [item for at, item in enumerate(items) if item not in items[:at]]
    return items


def _string(schema: Mapping[str, Any], _root: Any, dice: random.Random, _depth: int) -> str:
    if schema.get("contentEncoding") == "base64":
        return dice.choice(["", "YQ==", "YWJj"])
    texts = _FORMATS.get(str(schema.get("format")), _TEXTS)
    texts = [text for text in texts if _matches(schema.get("pattern"), text)] or texts
    text = dice.choice(texts)
    least = min(max(int(_number(schema, "minLength", 0)), 0), 1000)
    return text.ljust(least, "x")[: max(int(_number(schema, "maxLength", 1000)), 0)]


def _matches(pattern: Any, text: str) -> bool:
    try:
        return not isinstance(pattern, str) or re.search(pattern, text) is not None
    except (re.error, RecursionError):
        return True


def _integer(schema: Mapping[str, Any], _root: Any, dice: random.Random, _depth: int) -> int:
    least, most = _bounds(schema)
    low, high = math.ceil(least), math.floor(most)
    low += low == schema.get("exclusiveMinimum")
    high -= high == schema.get("exclusiveMaximum")
    step = max(int(_number(schema, "multipleOf", 1)), 1)
    low, high = -(-low // step), high // step
    return dice.choice([low, min(low + 1, high), high, dice.randint(low, max(low, high))]) * step


def _floating(schema: Mapping[str, Any], root: Any, dice: random.Random, depth: int) -> float:
    if "multipleOf" in schema or dice.random() < 0.3:
        return _integer(schema, root, dice, depth)
    least, most = _bounds(schema)
    return least + (most - least) * dice.choice([0.25, 0.5, 0.75])


def _bounds(schema: Mapping[str, Any]) -> tuple[float, float]:
    """Both ends; ten from the one that is said, if only one is."""
    least = max(_number(schema, "minimum", -math.inf), _number(schema, "exclusiveMinimum", -math.inf))
    most = min(_number(schema, "maximum", math.inf), _number(schema, "exclusiveMaximum", math.inf))
    least = least if math.isfinite(least) else min(-1.0, most - 10) if math.isfinite(most) else -1.0
    most = most if math.isfinite(most) else max(9.0, least + 10)
    return least, max(least, most)


def _number(schema: Mapping[str, Any], word: str, default: float) -> float:
    value = schema.get(word)
    if is_number(value) and math.isfinite(value):
        return value
    return default


def _list(schema: Mapping[str, Any], word: str) -> list[Any]:
    value = schema.get(word)
    return value if isinstance(value, list) else []


_DRAWN: dict[str, Any] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _integer,
    "number": _floating,
    "boolean": lambda _schema, _root, dice, _depth: dice.random() < 0.5,
    "null": lambda *_: None,
}
