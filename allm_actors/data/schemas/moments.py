"""The format of a datetime or a time in a JSON Schema.

Rule of this file: pure. msgspec tells the format only of those that must have a time zone, but one that may have it
needs telling, too; only what must not have any has no format. So what msgspec knows of a type, its `info`, is walked
beside the schema that it has made of it. A format that is there stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from msgspec.inspect import (
    CollectionType,
    DataclassType,
    DateTimeType,
    DictType,
    Metadata,
    NamedTupleType,
    NoneType,
    StructType,
    TimeType,
    TupleType,
    Type,
    TypedDictType,
    UnionType,
)

from .walking import Schema

__all__ = ["CLASSES", "MOMENTS", "formatted", "with_formatted_fields"]

MOMENTS: Final = (DateTimeType, TimeType)
CLASSES: Final = (DataclassType, NamedTupleType, StructType, TypedDictType)
"""What has fields, and a definition of its own."""


def formatted(schema: Schema, info: Type) -> Schema:
    """The schema with the format of each moment in it; a class in it is only referred to."""
    match info:
        case Metadata(type=inner):
            return formatted(schema, inner)
        case DateTimeType(tz=None) if schema.get("type") == "string":
            return {"format": "date-time", **schema}
        case TimeType(tz=None) if schema.get("type") == "string":
            return {"format": "time", **schema}
        case CollectionType(item_type=item) if "items" in schema:
            return {**schema, "items": formatted(schema["items"], item)}
        case DictType(value_type=value) if "additionalProperties" in schema:
            return {**schema, "additionalProperties": formatted(schema["additionalProperties"], value)}
        case TupleType(item_types=items) if "prefixItems" in schema:
            return {**schema, "prefixItems": _each(schema["prefixItems"], items)}
        case UnionType(types=kinds) if "anyOf" in schema:
            return {**schema, "anyOf": _each(schema["anyOf"], (kind for kind in kinds if not _is_last(kind)))}
        case _:
            return schema


def with_formatted_fields(definition: Schema, info: Any) -> Schema:
    """The definition of a class with the format of each moment in its fields."""
    if "prefixItems" in definition:
        items = definition["prefixItems"]
        tag = items[: len(items) - len(info.fields)]
        made = _each(items[len(tag) :], (field.type for field in info.fields))
        return {**definition, "prefixItems": [*tag, *made]}
    properties = definition.get("properties", {})
    fields = {
        field.encode_name: formatted(properties[field.encode_name], field.type) for field in info.fields
    }
    return {**definition, "properties": {**properties, **fields}}


def _each(schemas: list[Schema], infos: Iterable[Type]) -> list[Schema]:
    """The first schemas formatted, as far as there are infos."""
    made = [formatted(schema, info) for schema, info in zip(schemas, infos, strict=False)]
    return [*made, *schemas[len(made) :]]


def _is_last(info: Type) -> bool:
    """Whether msgspec moves this member of a union behind the others."""
    while isinstance(info, Metadata):
        info = info.type
    return isinstance(info, NoneType) or (isinstance(info, StructType) and not info.array_like)
