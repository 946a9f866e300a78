"""JSON Schema from types and signatures."""

import datetime
import enum
import functools
import json
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any, Generic, Literal, NamedTuple, Optional, TypedDict, TypeVar

import msgspec
import pytest

from allm_actors.data import Tool, ToolError, ValidationError
from allm_actors.data.build import tool
from allm_actors.data.codec import from_json, from_msgpack, to_json, to_msgpack
from allm_actors.data.rules.validate import validate
from allm_actors.data.schemas.normal import normalize
from allm_actors.data.schemas.schema import json_schema, of_function, of_type
from allm_actors.data.schemas.walking import walk


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    """A place."""

    x: int
    y: float = 0.0


class Node(msgspec.Struct):
    value: int
    next: "Node | None" = None


class Options(TypedDict, total=False):
    enum: str
    points: list[Point]


class Model:
    """Describes and validates itself the way pydantic's models do."""

    def __init__(self, q):
        self.q = q

    @classmethod
    def model_json_schema(cls):
        inner = {"Q": {"type": "object", "properties": {"n": {"type": "integer"}}}}
        return {
            "$defs": inner,
            "type": "object",
            "properties": {"q": {"$ref": "#/$defs/Q"}},
            "required": ["q"],
        }

    @classmethod
    def model_validate(cls, value):
        return cls(value["q"])


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (None, {"type": "null"}),
        (Any, {}),
        (list, {"type": "array"}),
        (dict, {"type": "object"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (set[int], {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (
            tuple[Literal["a"], int],
            {
                "type": "array",
                "prefixItems": [{"type": "string", "enum": ["a"]}, {"type": "integer"}],
                "items": False,
                "minItems": 2,
                "maxItems": 2,
            },
        ),
        (Literal["a", 1], {"type": ["integer", "string"], "enum": [1, "a"]}),
        (datetime.datetime, {"type": "string", "format": "date-time"}),
        (datetime.date, {"type": "string", "format": "date"}),
        (Annotated[int, msgspec.Meta(ge=1)], {"type": "integer", "minimum": 1}),
    ],
    ids=str,
)
def test_plain_types(annotation, schema):
    assert of_type(annotation) == schema


Moment = datetime.datetime
FORMATTED = {"type": "string", "format": "date-time"}
T = TypeVar("T")


@dataclass
class Trip:
    when: Moment
    stops: dict[str, list[Moment | None]] = field(default_factory=dict)
    next: "Trip | None" = None


class Late(TypedDict, total=False):
    by: Moment


class Span(NamedTuple):
    start: Moment
    end: Moment | None = None


class Log(msgspec.Struct, array_like=True, tag="log"):
    at: Moment
    lines: tuple[str, datetime.time] | Moment | None = None


class Of(msgspec.Struct, Generic[T], rename="upper"):
    it: T
    given: Annotated[Moment, msgspec.Meta(extra_json_schema={"format": "email"})]
    note: str = "2026"


def test_a_moment_in_the_fields_of_a_class_has_its_format():
    trip = of_type(list[Trip] | None)["$defs"]["Trip"]["properties"]
    assert trip["when"] == FORMATTED
    assert trip["stops"]["additionalProperties"]["items"]["anyOf"] == [FORMATTED, {"type": "null"}]
    assert of_type(Late)["properties"] == {"by": FORMATTED}
    assert of_type(Span)["prefixItems"][0] == FORMATTED
    assert of_type(Span)["prefixItems"][1] == {"anyOf": [FORMATTED, {"type": "null"}], "default": None}
    tag, at, lines = of_type(Log)["prefixItems"]
    assert (tag, at) == ({"enum": ["log"], "type": "string"}, FORMATTED)
    pair, moment, _ = lines["anyOf"]
    assert (pair["prefixItems"][1], moment) == ({"type": "string", "format": "time"}, FORMATTED)

    def go(first: Of[Moment], second: Of[str] | Moment): ...

    schema = of_function(go)
    assert schema["properties"]["second"]["anyOf"][0] == FORMATTED
    moments, texts = (each["properties"] for each in schema["$defs"].values())
    assert (moments["IT"], texts["IT"]) == (FORMATTED, {"type": "string"})
    assert moments["GIVEN"] == {"type": "string", "format": "email"}
    assert moments["NOTE"] == {"type": "string", "default": "2026"}


def test_enums_have_the_type_of_their_members():
    assert of_type(Colour) == {"type": "string", "title": "Colour", "enum": ["blue", "red"]}


def test_the_root_is_no_reference():
    schema = of_type(Point)
    assert schema["type"] == "object"
    assert schema["required"] == ["x"]
    assert "$defs" not in schema


def test_a_recursive_type_keeps_its_definition():
    schema = of_type(Node)
    assert schema["type"] == "object"
    assert schema["properties"]["next"]["anyOf"][0] == {"$ref": "#/$defs/Node"}
    assert schema["$defs"]["Node"]["type"] == "object"


def test_a_property_may_be_called_enum():
    assert of_type(Options)["properties"]["enum"] == {"type": "string"}


def test_a_model_that_describes_itself_moves_its_definitions_to_the_root():
    schema = of_type(list[Model])
    assert schema["items"]["properties"] == {"q": {"$ref": "#/$defs/Q"}}
    assert list(schema["$defs"]) == ["Q"]


def test_what_is_said_of_such_a_type_is_for_its_user():
    class Plain: ...

    with pytest.raises(
        TypeError, match=r"no JSON Schema for .*Plain.*: JSON has no form for it; use a dataclass"
    ) as caught:
        of_type(Plain)
    assert "hook" not in str(caught.value)


def test_a_type_json_has_nothing_for():
    with pytest.raises(TypeError, match="no JSON Schema for <class 'object'>"):
        of_type(object)


# --- response formats ---------------------------------------------------------------------------------------------


def test_a_schema_that_comes_as_a_dict_is_kept():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert json_schema("n", schema) == {"type": "json_schema", "name": "n", "schema": schema, "strict": True}


def test_a_strict_schema_of_a_type_leaves_nothing_out():
    schema = json_schema("p", Options)["schema"]
    point = schema["$defs"]["Point"]
    for part in (schema, point):
        assert part["additionalProperties"] is False
        assert part["required"] == list(part["properties"])
    assert "default" not in point["properties"]["y"]


def test_a_schema_that_is_not_strict_keeps_its_defaults():
    schema = json_schema("p", Point, strict=False)
    assert schema["strict"] is False
    assert schema["schema"]["required"] == ["x"]
    assert schema["schema"]["properties"]["y"]["default"] == 0.0


@dataclass
class Loose:
    of: dict[str, int]


@dataclass
class Pair:
    of: tuple[int, str]


@dataclass
class Anything:
    of: Any


@dataclass
class Rows:
    of: list[Any]


@dataclass
class Sized:
    name: Annotated[str, msgspec.Meta(min_length=2)]
    home: Annotated[Point, msgspec.Meta(description="where")]
    price: Decimal
    picture: bytes


@pytest.mark.parametrize("type_", [Loose, Pair, Anything, list[Loose], list[Any], list, set, Rows], ids=repr)
def test_a_type_without_a_strict_form_is_asked_for_all_the_same(type_):
    assert json_schema("n", type_)["strict"] is False


@pytest.mark.parametrize("type_", [Point, Node, Options, Sized, Colour, list[Node], int | str])
def test_a_strict_schema_has_only_what_strict_mode_takes(type_):
    wanted = json_schema("n", type_)
    assert wanted["strict"] is True

    def look(schema):
        assert "$ref" not in schema or len(schema) == 1
        assert not {"default", "oneOf", "minLength", "contentEncoding"} & schema.keys()
        assert schema.get("format") != "decimal"
        return schema

    walk(wanted["schema"], look)


def test_what_strict_mode_has_no_word_for_is_said():
    properties = json_schema("n", Sized)["schema"]["properties"]
    assert properties["name"]["description"] == "minLength: 2"
    assert properties["home"] == {"description": "where", "anyOf": [{"$ref": "#/$defs/Point"}]}
    assert properties["price"]["description"] == "format: decimal"
    assert properties["picture"]["description"] == "contentEncoding: base64"


def test_two_types_of_one_name_have_two_definitions():
    def inner(kind):
        @dataclass
        class Item:
            of: kind

        return Item

    numbers, texts = inner(int), inner(str)

    def move(first: numbers, second: texts): ...

    schema = of_function(move)
    first, second = (schema["properties"][name]["$ref"] for name in ("first", "second"))
    found = [schema["$defs"][ref.removeprefix("#/$defs/")]["properties"]["of"] for ref in (first, second)]
    assert found == [{"type": "integer"}, {"type": "string"}]


def test_a_description_is_told_wherever_it_stands():
    def weather(
        unit: Annotated[str, "c or f"] | None = None,
        tags: list[Annotated[str, "one tag"]] = [],  # noqa: B006 - a default of the schema
    ): ...

    properties = of_function(weather)["properties"]
    assert properties["unit"]["anyOf"][0] == {"type": "string", "description": "c or f"}
    assert properties["tags"]["items"] == {"type": "string", "description": "one tag"}


def test_a_default_of_none_makes_the_argument_optional():
    def weather(city: str, day: int = None, unit: Annotated[str, "c or f"] = None):  # noqa: RUF013
        return city, day, unit

    made = tool(weather)
    optional = {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}
    assert made.schema["properties"]["day"] == optional
    assert made.schema["properties"]["unit"]["description"] == "c or f"
    assert made.run({"city": "Oslo", "day": None, "unit": None}, None) == ("Oslo", None, None)


@pytest.mark.parametrize(
    "annotation",
    [int | None, Annotated[int | None, "n"], Any, None, Literal[1, None]],  # noqa: PYI061
)
def test_a_default_of_none_adds_nothing_to_what_takes_it(annotation):
    def count(n=None): ...

    count.__annotations__["n"] = annotation
    assert of_function(count)["properties"]["n"] == {**of_type(annotation), "default": None}


def test_a_wrong_optional_argument_is_told_in_words():
    @tool
    def move(way: Literal["up", "down"] = None): ...  # noqa: RUF013

    with pytest.raises(ToolError, match="expected one of 'up', 'down' or null"):
        move.run({"way": "left"}, None)


def test_names_inside_an_annotation_may_be_quoted():
    def place(first: Optional["Point"], rest: list["Point"]):
        return first, rest

    made = tool(place)
    assert made.schema["properties"]["rest"]["items"] == {"$ref": "#/$defs/Point"}
    assert made.run({"first": {"x": 1}, "rest": [{"x": 2}]}, None) == (Point(1), [Point(2)])


def test_a_quoted_name_that_is_not_there_is_refused_and_a_context_is_one():
    def place(first: list["Nowhere"]): ...  # noqa: F821

    def asked(city: str, ctx: Optional["ToolContext"] = None):  # noqa: F821
        return city, ctx

    with pytest.raises(TypeError, match=r"cannot evaluate the annotation .*Nowhere.* of first; import it"):
        tool(place)
    assert list(tool(asked).schema["properties"]) == ["city"]
    assert tool(asked).run({"city": "Oslo"}, 7) == ("Oslo", 7)


@pytest.mark.parametrize("default", [msgspec.field(default=1), field(default=1)])
def test_a_field_of_a_class_is_no_default_of_a_parameter(default):
    def count(n: int = default): ...

    with pytest.raises(TypeError, match="count: parameter n: put the field into the annotation"):
        of_function(count)


def test_keys_and_enum_members_become_text():
    raw = {Colour.RED: {1: Colour.BLUE}, "required": (Colour.RED, "a"), "ok": None}
    once = {"red": {"1": "blue"}, "required": ["red", "a"], "ok": None}
    assert normalize(raw) == once
    assert normalize(once) is once


def test_a_tool_has_the_same_schema_however_it_is_built():
    raw = {"type": "object", "properties": {Colour.RED: {"enum": (Colour.RED, Colour.BLUE)}}, 1: None}
    once = {"type": "object", "properties": {"red": {"enum": ["red", "blue"]}}, "1": None}
    plain = Tool(name="t", description="", schema=raw)
    assert plain.schema == once
    assert tool(name="t", description="", schema=raw) == plain
    assert msgspec.structs.replace(Tool(name="t", description="", schema={}), schema=raw) == plain
    assert from_json(to_json(plain)) == from_msgpack(to_msgpack(plain)) == plain
    assert Tool(name="t", description="", schema=MappingProxyType(raw)) == plain
    assert Tool(name="t", description="", schema=once).schema is once
    assert from_json(json.dumps({"__type__": "ALLM.Tool", "data": {"schema": once}})).schema == once


@pytest.mark.parametrize("schema", [None, [], "object", 5], ids=repr)
def test_what_is_no_schema_is_for_validate_to_say(schema):
    with pytest.raises(ValidationError) as refused:
        validate(Tool(name="t", description="", schema=schema))
    assert refused.value.errors == [("schema", "not_a_map")]


def test_a_schema_that_contains_itself_is_refused():
    schema = {"type": "object"}
    schema["properties"] = {"again": schema}
    with pytest.raises(ValueError, match="tool 't': its schema contains itself"):
        Tool(name="t", description="", schema=schema)
    with pytest.raises(ValueError, match="tool 't': its schema contains itself"):
        tool(name="t", description="", schema=schema)
    with pytest.raises(ValueError, match="json_schema 't': its schema contains itself"):
        json_schema("t", schema)


@pytest.mark.parametrize("schema", ['{"type": "object"}', b"{}", [{"type": "object"}]], ids=repr)
def test_a_schema_is_a_dict_or_a_type(schema):
    with pytest.raises(
        TypeError, match=r"json_schema 't': a schema is a dict or a type, got .*; read JSON with"
    ):
        json_schema("t", schema)


# --- functions ----------------------------------------------------------------------------------------------------


def test_a_function_is_an_object_of_its_arguments():
    def weather(city: Annotated[str, "the city"], unit: Literal["c", "f"] = "c", *, at: Point | None = None):
        """Weather.

        Args:
            city: not this, the annotation is nearer.
            unit: the unit
        """

    assert of_function(weather) == {
        "type": "object",
        "properties": {
            "city": {"description": "the city", "type": "string"},
            "unit": {"description": "the unit", "type": "string", "enum": ["c", "f"], "default": "c"},
            "at": {"anyOf": [{"$ref": "#/$defs/Point"}, {"type": "null"}], "default": None},
        },
        "required": ["city"],
        "additionalProperties": False,
        "$defs": {"Point": of_type(Point)},
    }


def test_the_context_is_no_argument():
    class ToolContext:
        pass

    def by_name(a: int, context=None): ...
    def by_type(a: int, ctx: ToolContext): ...
    def by_text(a: int, ctx: "engine.ToolContext | None" = None): ...  # noqa: F821
    def by_forward(a: int, ctx: "ToolContext"): ...

    for function in (by_name, by_type, by_text, by_forward):
        assert list(of_function(function)["properties"]) == ["a"]


def test_partials_methods_and_callable_objects():
    class Adder:
        def __call__(self, a: int) -> int: ...
        def method(self, b: int) -> int: ...

    def both(a: int, b: str): ...

    assert of_function(Adder())["required"] == ["a"]
    assert of_function(Adder().method)["required"] == ["b"]
    assert of_function(functools.partial(both, 1))["required"] == ["b"]


def test_without_annotations_anything_goes():
    missing = object()
    assert of_function(lambda x, y=missing: x)["properties"] == {"x": {}, "y": {}}
    assert of_function(lambda **others: others)["additionalProperties"] is True


def test_what_json_has_nothing_for_is_named():
    def positional(*names: str): ...
    def foreign(on: object): ...
    def missing(x: "Nowhere"): ...  # noqa: F821

    with pytest.raises(TypeError, match=r"positional: \*names has no JSON form"):
        of_function(positional)
    with pytest.raises(TypeError, match="foreign: parameter on: no JSON Schema"):
        of_function(foreign)
    with pytest.raises(TypeError, match="missing: cannot evaluate the annotation 'Nowhere' of x"):
        of_function(missing)
