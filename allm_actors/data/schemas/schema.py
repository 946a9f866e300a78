"""JSON Schema from Python types.

Rule of this file: msgspec knows what a type looks like in JSON; this file adds what a model must be told
besides: the type of an enumeration, the format of a datetime, and, for a strict answer, that nothing is
optional. A schema given as a dict is the caller's own: only its keys become text and its enum members their
values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Annotated, Any, get_args, get_origin

import msgspec

from . import docstrings
from .aliases import CONTAINERS, UNIONS, rebuilt, unaliased
from .normal import normalized
from .signature import Argument, Signature, signature_of

__all__ = ["json_schema", "of_function", "of_type"]

_DEFS = "#/$defs/"
_UNSUPPORTED = (
    "JSON has no form for it; use a dataclass, a TypedDict, a Struct or a pydantic model, or take a type such "
    "as str and build the object yourself"
)
_UNION = (
    "JSON does not say which one it is; tag them (msgspec.Struct with tag=True), or make the union a field of "
    "a pydantic model"
)
_UNREADABLE = (TypeError, NameError, RecursionError)  # the last two of a text, or an alias, in the type
_FORMATS = {"datetime": "date-time", "time": "time"}
_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}

Schema = dict[str, Any]


def json_schema(name: str, schema: Schema | type[Any] | Any, strict: bool = True) -> dict[str, Any]:
    """A `response_format` that asks for JSON: `schema` is a JSON Schema, or a type (Struct, dataclass, TypedDict, …).

    Shape: `{"type": "json_schema", "name": name, "schema": {…}, "strict": strict}`. A type's schema is made strict when
    `strict` is set: every property is required and no other is allowed. Raises TypeError for a type without a schema,
    and for what is neither, and ValueError for a schema that contains itself.
    """
    if isinstance(schema, (str, bytes, list)):
        got = type(schema).__name__
        raise TypeError(
            f"json_schema {name!r}: a schema is a dict or a type, got {got}; read JSON with json.loads first"
        )
    if isinstance(schema, Mapping):
        tree = normalized(schema, f"json_schema {name!r}", anew=True)
    else:
        tree = _walk(of_type(schema), _strict) if strict else of_type(schema)
    return {"type": "json_schema", "name": name, "schema": tree, "strict": strict}


def of_type(annotation: Any) -> Schema:
    """The JSON Schema of a type. Raises TypeError for a type that JSON cannot express."""
    schema, definitions = _components(annotation)
    root = schema.get("$ref", "").removeprefix(_DEFS)
    if root in definitions:  # providers want the root to be an object, not a reference to one
        schema = definitions[root]
        if f"{_DEFS}{root}" not in _references(list(definitions.values())):
            del definitions[root]
    return schema | ({"$defs": definitions} if definitions else {})


def of_function(function: Callable[..., Any] | Signature) -> Schema:
    """The JSON Schema of a function's arguments: one object, described by annotations and docstring.

    An argument without an annotation may be anything. Raises TypeError for what has no schema, naming the parameter.
    """
    signature = function if isinstance(function, Signature) else signature_of(function)
    definitions: dict[str, Any] = {}
    texts = docstrings.read(signature.docstring)[1]
    properties = {
        a.name: _property(signature, a, texts.get(a.name), definitions) for a in signature.arguments
    }
    schema: Schema = {
        "type": "object",
        "properties": properties,
        "required": [argument.name for argument in signature.arguments if argument.required],
        "additionalProperties": signature.open_ended,
    }
    return schema | ({"$defs": definitions} if definitions else {})


def _property(
    signature: Signature, argument: Argument, text: str | None, definitions: dict[str, Any]
) -> Schema:
    try:
        schema, found = _components(argument.type)
    except TypeError as error:
        raise TypeError(f"{signature.name}: parameter {argument.name}: {error}") from None
    definitions |= found
    description = _description(argument.type) or text
    described = {"description": description, **schema} if description else schema
    return described if argument.required else described | _default(argument.default)


def _description(annotation: Any) -> str | None:
    """The text in `Annotated[str, "the city"]`, or in an object with a `description` such as pydantic's `Field`."""
    for extra in getattr(annotation, "__metadata__", ()):
        text = extra if isinstance(extra, str) else getattr(extra, "description", None)
        if isinstance(text, str):
            return text
    return None


def _default(value: Any) -> Schema:
    try:
        return {"default": msgspec.json.decode(msgspec.json.encode(value))}
    except (TypeError, ValueError):
        return {}  # a sentinel for "not given": the model need only know that the argument is optional


def _components(annotation: Any) -> tuple[Schema, dict[str, Any]]:
    foreign: dict[str, Any] = {}
    try:
        (schema,), definitions = msgspec.json.schema_components(
            (_dated(unaliased(annotation)),),
            schema_hook=lambda cls: _foreign(cls, foreign),
            ref_template=_DEFS + "{name}",
        )
    except _UNREADABLE as error:
        raise TypeError(f"no JSON Schema for {annotation!r}: {_why(annotation, error)}") from None
    definitions = {**definitions, **foreign}
    return _walk(schema, _typed), {
        name: _walk(definition, _typed) for name, definition in definitions.items()
    }


def _why(annotation: Any, error: Exception) -> str:
    said, cls = str(error), type(annotation)
    if is_dataclass(cls) or issubclass(cls, msgspec.Struct) or hasattr(cls, "model_json_schema"):
        return f"it is a value; give its class, {cls.__name__}"
    if said.startswith("Generating JSON schema for custom types"):
        return _UNSUPPORTED
    if said.startswith("Type unions may not contain more than one"):
        return f"{said.partition(' - ')[0]}: {_UNION}"
    return said


def _foreign(cls: type[Any], definitions: dict[str, Any]) -> Schema:
    """The schema of a class that describes itself as pydantic's models do; its definitions move to the root."""
    describe = getattr(cls, "model_json_schema", None)
    if describe is None:
        raise NotImplementedError
    schema = dict(describe())
    definitions |= schema.pop("$defs", {})
    return schema


def _dated(annotation: Any) -> Any:
    """A datetime, or a time, with its format, which msgspec leaves out because the value may have no time zone."""
    if getattr(annotation, "__module__", "") == "datetime" and annotation.__name__ in _FORMATS:
        return Annotated[
            annotation, msgspec.Meta(extra_json_schema={"format": _FORMATS[annotation.__name__]})
        ]
    if get_origin(annotation) is Annotated:
        return Annotated[(_dated(annotation.__origin__), *annotation.__metadata__)]
    if get_origin(annotation) in (*UNIONS, *CONTAINERS):
        return rebuilt(annotation, tuple(map(_dated, get_args(annotation))))
    return annotation


# --- edits of every schema inside a schema ------------------------------------------------------------------------

_BY_NAME = frozenset({"properties", "patternProperties", "$defs", "dependentSchemas"})
_NESTED = frozenset(
    {"items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"}
)
_LISTED = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})


def _walk(schema: Any, edit: Callable[[Schema], Schema]) -> Any:
    """The schema, edited from the inside out. A property may be called `enum`: names are not keywords."""
    if not isinstance(schema, dict):
        return schema
    tree: Schema = {}
    for key, value in schema.items():
        if key in _BY_NAME:
            tree[key] = {name: _walk(inner, edit) for name, inner in value.items()}
        elif key in _LISTED:
            tree[key] = [_walk(inner, edit) for inner in value]
        else:
            tree[key] = _walk(value, edit) if key in _NESTED else value
    return edit(tree)


def _typed(schema: Schema) -> Schema:
    """Add to an enumeration the type of its members, which some providers require."""
    if "enum" not in schema or "type" in schema or not all(type(m) in _JSON_TYPES for m in schema["enum"]):
        return schema
    kinds = sorted({_JSON_TYPES[type(member)] for member in schema["enum"]})
    return {"type": kinds[0] if len(kinds) == 1 else kinds, **schema}


def _strict(schema: Schema) -> Schema:
    """Make every property of an object required: OpenAI's strict mode, the strictest there is.

    Source: https://platform.openai.com/docs/guides/structured-outputs (all fields must be required)
    """
    if "properties" not in schema:
        return schema
    properties = {name: _without_default(inner) for name, inner in schema["properties"].items()}
    return schema | {"properties": properties, "required": list(properties), "additionalProperties": False}


def _without_default(schema: Any) -> Any:
    return (
        {key: value for key, value in schema.items() if key != "default"}
        if isinstance(schema, dict)
        else schema
    )


def _references(tree: Any) -> set[str]:
    if isinstance(tree, list):
        return set().union(*map(_references, tree))
    if not isinstance(tree, dict):
        return set()
    own = {tree["$ref"]} if isinstance(tree.get("$ref"), str) else set()
    return own.union(*map(_references, tree.values()))
