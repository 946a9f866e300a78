"""The strict form of a schema: what OpenAI guarantees to be followed exactly.

Rule of this file: a schema means the same before and after, except that nothing is optional. What strict mode has no
keyword for is said in the description, and checked when the answer is read.

    strict mode                                     here
    --------------------------------------------    ------------------------------------------------------------
    every property is required, no other allowed    so it becomes
    `default`                                       is left out
    a `$ref` stands alone                           with anything beside it, it moves into an `anyOf`
    no `oneOf`                                      `anyOf`, and no `discriminator`
    some keywords, such as `minLength`              move into the description
    no map of any keys, tuple or `Any`              has no strict form: see `is_strict`

Source: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas; what the API answers otherwise:
https://github.com/openai/openai-python/pull/1637 (`$ref`),
https://github.com/openai/openai-agents-python/pull/1884 (`oneOf`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .walking import Schema, walk

__all__ = ["is_strict", "said_in_words", "strict_form"]

_UNKNOWN = (
    *("minLength", "maxLength", "uniqueItems", "contains", "minContains", "maxContains", "contentEncoding"),
    *("patternProperties", "propertyNames", "minProperties", "maxProperties"),
)
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_KINDS = frozenset({"type", "anyOf", "$ref", "const", "enum"})


def strict_form(schema: Schema) -> Schema:
    """The schema in its strict form, as far as it has one."""
    return walk(schema, _strict)  # type: ignore[no-any-return]


def is_strict(schema: Schema) -> bool:
    """Whether a schema in its strict form is one that strict mode takes."""
    allowed = True

    def look(inner: Schema) -> Schema:
        nonlocal allowed
        open_map = inner.get("type") == "object" and inner.get("additionalProperties") is not False
        of_anything = inner.get("type") == "array" and not isinstance(inner.get("items"), dict)
        allowed = allowed and not (open_map or of_anything) and bool(_KINDS & inner.keys())
        return inner

    walk(schema, look)
    return allowed


def _strict(schema: Schema) -> Schema:
    tree = {key: value for key, value in schema.items() if key not in ("default", "discriminator")}
    if "oneOf" in tree:
        tree["anyOf"] = tree.pop("oneOf")
    if "$ref" in tree and len(tree) > 1:
        tree["anyOf"] = [{"$ref": tree.pop("$ref")}]
    if "properties" in tree:
        tree |= {"required": list(tree["properties"]), "additionalProperties": False}
    return _told(tree)


def _told(schema: Schema) -> Schema:
    """The schema with what strict mode does not know in its description."""
    told: dict[str, Any] = {key: schema[key] for key in _UNKNOWN if key in schema}
    if schema.get("format", "time") not in _FORMATS:
        told["format"] = schema["format"]
    return said_in_words(schema, told)


def said_in_words(schema: Schema, told: Mapping[str, Any]) -> Schema:
    """The schema with some of its keywords in its description instead."""
    if not told:
        return schema
    words = ", ".join(f"{key}: {value}" for key, value in told.items())
    description = f"{schema['description']} ({words})" if "description" in schema else words
    return {key: value for key, value in schema.items() if key not in told} | {"description": description}
