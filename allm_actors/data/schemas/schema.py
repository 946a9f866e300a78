"""JSON Schema from Python types.

Rule of this file: msgspec knows what a type looks like in JSON; this file adds what a model must be told
besides: the type of an enumeration, the format of a datetime, a description wherever it stands. A schema given
as a dict is the caller's own: only its keys become text and its enum members their values.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Annotated, Any, get_args, get_origin

import msgspec
import msgspec.inspect

from . import docstrings
from .aliases import CONTAINERS, UNIONS, rebuilt, unaliased
from .moments import CLASSES, MOMENTS, formatted, with_formatted_fields
from .normal import normalized
from .signature import Argument, Signature, description_of, signature_of
from .strict import is_strict, strict_form
from .walking import DEFS, Schema, references, renamed, walk

__all__ = ["json_schema", "of_function", "of_type"]

_UNSUPPORTED = (
    "JSON has no form for it; use a dataclass, a TypedDict, a Struct or a pydantic model, or take a type such "
    "as str and build the object yourself"
)
_UNION = (
    "JSON does not say which one it is; tag them (msgspec.Struct with tag=True), or make the union a field of "
    "a pydantic model"
)
_UNVALIDATED = (
    "the rules of a pydantic dataclass would not be checked; make {} a pydantic model, or a plain dataclass"
)
_UNREADABLE = (TypeError, NameError, RecursionError)  # the last two of a text, or an alias, in the type
_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}

Definitions = dict[str, Any]


def json_schema(name: str, schema: Schema | type[Any] | Any, strict: bool = True) -> dict[str, Any]:
    """A `response_format` that asks for JSON: `schema` is a JSON Schema, or a type (Struct, dataclass, TypedDict, …).

    Shape: `{"type": "json_schema", "name": name, "schema": {…}, "strict": strict}`. A type's schema is made strict when
    `strict` is set: every property is required and no other is allowed. A type that has no strict form, because
    there is a map of any keys, a tuple or `Any` in it, gets `"strict": False` all the same: it would be refused.
    Raises TypeError for a type without a schema, and for what is neither, and ValueError for a schema that
    contains itself.
    """
    if isinstance(schema, (str, bytes, list)):
        got = type(schema).__name__
        raise TypeError(
            f"json_schema {name!r}: a schema is a dict or a type, got {got}; read JSON with json.loads first"
        )
    if isinstance(schema, Mapping):
        tree = normalized(schema, f"json_schema {name!r}", anew=True)
    else:
        tree = strict_form(of_type(schema)) if strict else of_type(schema)
        strict = strict and is_strict(tree)
    return {"type": "json_schema", "name": name, "schema": tree, "strict": strict}


def of_type(annotation: Any) -> Schema:
    """The JSON Schema of a type. Raises TypeError for a type that JSON cannot express."""
    (schema,), definitions = _components([annotation])
    root = schema.get("$ref", "").removeprefix(DEFS)
    if root in definitions:  # providers want the root to be an object, not a reference to one
        schema = definitions[root]
        if f"{DEFS}{root}" not in references(list(definitions.values())):
            del definitions[root]
    return schema | ({"$defs": definitions} if definitions else {})


def of_function(function: Callable[..., Any] | Signature) -> Schema:
    """The JSON Schema of a function's arguments: one object, described by annotations and docstring.

    An argument without an annotation may be anything. Raises TypeError for what has no schema, naming the parameter.
    """
    signature = function if isinstance(function, Signature) else signature_of(function)
    try:  # all at once: two types of one name get two definitions
        schemas, definitions = _components([argument.type for argument in signature.arguments])
    except TypeError:
        _refuse_parameter(signature)
        raise
    texts = docstrings.read(signature.docstring)[1]
    schema: Schema = {
        "type": "object",
        "properties": {
            argument.name: _property(argument, described, texts.get(argument.name))
            for argument, described in zip(signature.arguments, schemas, strict=True)
        },
        "required": [argument.name for argument in signature.arguments if argument.required],
        "additionalProperties": signature.open_ended,
    }
    return schema | ({"$defs": definitions} if definitions else {})


def _refuse_parameter(signature: Signature) -> None:
    """Raises TypeError for the first parameter that has no schema, naming it."""
    for argument in signature.arguments:
        try:
            _components([argument.type])
        except TypeError as error:
            raise TypeError(f"{signature.name}: parameter {argument.name}: {error}") from None


def _property(argument: Argument, schema: Schema, text: str | None) -> Schema:
    description = description_of(argument.type) or text
    described = (
        {"description": description} | schema | {"description": description} if description else schema
    )
    return described if argument.required else described | _default(argument.default)


def _default(value: Any) -> Schema:
    try:
        return {"default": msgspec.json.decode(msgspec.json.encode(value))}
    except (TypeError, ValueError):
        return {}  # a sentinel for "not given": the model need only know that the argument is optional


def _components(annotations: Iterable[Any]) -> tuple[list[Schema], Definitions]:
    """The schema of each type, and the definitions that they refer to."""
    types = tuple(annotations)
    theirs: dict[type[Any], Schema] = {}
    schemas, definitions = _components_of(types, lambda cls: theirs.setdefault(cls, _foreign(cls)))
    if theirs:
        moved: Definitions = {}
        known = {cls: _moved(schema, definitions, moved) for cls, schema in theirs.items()}
        schemas, definitions = _components_of(types, known.__getitem__)
        definitions |= moved
    return [walk(schema, _typed) for schema in schemas], {
        name: walk(definition, _typed) for name, definition in definitions.items()
    }


def _components_of(
    annotations: tuple[Any, ...], foreign: Callable[[type[Any]], Schema]
) -> tuple[tuple[Schema, ...], Definitions]:
    try:
        return _schemas(annotations, foreign)
    except _UNREADABLE as error:
        # Of several, `_refuse_parameter` finds out which one it is.
        shown = ", ".join(map(repr, annotations))
        raise TypeError(f"no JSON Schema for {shown}: {_why(annotations[0], error)}") from None


def _schemas(
    annotations: tuple[Any, ...], foreign: Callable[[type[Any]], Schema]
) -> tuple[tuple[Schema, ...], Definitions]:
    told = [_told(unaliased(annotation)) for annotation in annotations]
    infos = msgspec.inspect.multi_type_info(told)
    types = list(_types_in(infos))
    if "pydantic" in sys.modules:
        for each in types:
            if isinstance(each, msgspec.inspect.DataclassType) and hasattr(
                each.cls, "__pydantic_validator__"
            ):
                raise TypeError(_UNVALIDATED.format(each.cls.__name__))
    dated = any(isinstance(each, MOMENTS) for each in types)
    classes = {each.cls: each for each in types if dated and isinstance(each, CLASSES)}
    schemas, definitions = msgspec.json.schema_components(
        [*told, *classes], schema_hook=foreign, ref_template=DEFS + "{name}"
    )
    for reference, info in zip(schemas[len(told) :], classes.values(), strict=True):
        name = reference["$ref"].removeprefix(DEFS)
        definitions[name] = with_formatted_fields(definitions[name], info)
    return tuple(map(formatted, schemas, infos)), definitions


def _types_in(info: Any) -> Iterator[Any]:
    """What msgspec knows of a type and of those in it, at any depth."""
    seen, waiting = set(), [info]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list | tuple):
            waiting.extend(each)
        elif isinstance(each, msgspec.inspect.Field):
            waiting.append(each.type)  # and not its default, which is the user's
        elif isinstance(each, msgspec.inspect.Type) and id(each) not in seen:
            seen.add(id(each))  # a class that refers to itself has one object
            yield each
            waiting.extend(msgspec.structs.astuple(each))


def _why(annotation: Any, error: Exception) -> str:
    said, cls = str(error), type(annotation)
    if is_dataclass(cls) or issubclass(cls, msgspec.Struct) or hasattr(cls, "model_json_schema"):
        return f"it is a value; give its class, {cls.__name__}"
    if said.startswith("Generating JSON schema for custom types"):
        return _UNSUPPORTED
    if said.startswith("Type unions may not contain more than one"):
        return f"{said.partition(' - ')[0]}: {_UNION}"
    return said


def _foreign(cls: type[Any]) -> Schema:
    """The schema of a class that describes itself as pydantic's models do."""
    describe = getattr(cls, "model_json_schema", None)
    if describe is None:
        raise NotImplementedError
    return dict(describe())


def _moved(schema: Schema, taken: Definitions, moved: Definitions) -> Schema:
    """The schema without its definitions, which are now among `moved`, under names that no other definition has."""
    own, number = schema.get("$defs", {}), 1
    names = {name: name for name in own}
    group = dict(own)
    while any(name in taken or moved.get(name, made) != made for name, made in group.items()):
        number += 1
        names = {name: f"{name}_{number}" for name in own}
        group = {names[name]: renamed(definition, names) for name, definition in own.items()}
    moved |= group
    return {key: renamed(value, names) for key, value in schema.items() if key != "$defs"}


def _told(annotation: Any) -> Any:
    """The annotation with what msgspec leaves out: a description that is not its own."""
    if get_origin(annotation) is Annotated:
        text = description_of(annotation)
        described = () if text is None else (msgspec.Meta(description=text),)
        return Annotated[(_told(annotation.__origin__), *annotation.__metadata__, *described)]
    if get_origin(annotation) in (*UNIONS, *CONTAINERS):
        return rebuilt(annotation, tuple(map(_told, get_args(annotation))))
    return annotation


def _typed(schema: Schema) -> Schema:
    """Add to an enumeration the type of its members, which some providers require."""
    if "enum" not in schema or "type" in schema or not all(type(m) in _JSON_TYPES for m in schema["enum"]):
        return schema
    kinds = sorted({_JSON_TYPES[type(member)] for member in schema["enum"]})
    return {"type": kinds[0] if len(kinds) == 1 else kinds, **schema}
