"""Pydantic's models and fields, where one would use a dataclass or `msgspec.Meta`."""

import dataclasses
import enum
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, Optional

import msgspec
import pytest
import typing_extensions

import allm_actors as allm
from allm_actors.data.schemas.schema import json_schema, of_type
from allm_actors.data.schemas.structured import parse, response_format_of

pydantic = pytest.importorskip("pydantic", reason="there is no pydantic for this Python yet")
annotated_types = pytest.importorskip("annotated_types", reason="it comes with pydantic")


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Address(pydantic.BaseModel):
    street: str


class Person(pydantic.BaseModel):
    home: Address = pydantic.Field(description="Where she lives")
    mood: Mood = pydantic.Field(Mood.GOOD, description="How she is")
    name: str = pydantic.Field(min_length=2, description="As she is called")
    code: str = pydantic.Field(max_length=3)


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


class Owner(pydantic.BaseModel):
    pet: Cat | Dog = pydantic.Field(discriminator="kind")


def test_a_reference_stands_alone_in_a_strict_schema():
    properties = json_schema("p", Person)["schema"]["properties"]
    assert properties["home"] == {
        "anyOf": [{"$ref": "#/$defs/Address"}],
        "description": "Where she lives",
    }
    assert properties["mood"] == {"anyOf": [{"$ref": "#/$defs/Mood"}], "description": "How she is"}
    as_it_is = json_schema("p", Person, strict=False)["schema"]["properties"]
    assert as_it_is["home"] == {"$ref": "#/$defs/Address", "description": "Where she lives"}


def test_bounds_that_strict_mode_does_not_know_are_said():
    properties = json_schema("p", Person)["schema"]["properties"]
    assert properties["name"] == {
        "type": "string",
        "title": "Name",
        "description": "As she is called (minLength: 2)",
    }
    assert properties["code"] == {"type": "string", "title": "Code", "description": "maxLength: 3"}


def test_alternatives_of_which_one_holds_are_alternatives_in_a_strict_schema():
    choice = json_schema("o", Owner)["schema"]["properties"]["pet"]
    assert choice == {"anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}], "title": "Pet"}
    assert of_type(Owner)["properties"]["pet"]["discriminator"]["propertyName"] == "kind"


def _order(named: str, **fields: object):
    """Two models whose parts have one name."""
    return pydantic.create_model(named, item=(pydantic.create_model("Item", **fields), ...))


def test_two_parts_of_one_name_have_two_definitions():
    order, parcel = _order("Order", sku=(str, ...)), _order("Parcel", weight=(float, ...))

    def ship(order: order, parcel: parcel, again: list[order]): ...

    schema = allm.tool(ship).schema
    definitions = schema["$defs"]
    assert list(definitions) == ["Item", "Item_2"]
    assert [list(each["properties"]) for each in definitions.values()] == [["sku"], ["weight"]]
    properties = schema["properties"]
    assert properties["order"]["properties"]["item"] == {"$ref": "#/$defs/Item"}
    assert properties["parcel"]["properties"]["item"] == {"$ref": "#/$defs/Item_2"}
    assert properties["again"]["items"] == properties["order"]


def test_a_model_and_a_dataclass_whose_parts_have_one_name():
    @dataclasses.dataclass
    class Item:
        title: str

    both = dataclasses.make_dataclass("Both", [("mine", Item), ("order", _order("Order", sku=(str, ...)))])
    schema = of_type(both)
    assert list(schema["$defs"]["Item"]["properties"]) == ["title"]
    assert schema["properties"]["order"]["properties"]["item"] == {"$ref": "#/$defs/Item_2"}
    assert list(schema["$defs"]["Item_2"]["properties"]) == ["sku"]


def test_what_refers_to_a_renamed_part_follows_it():
    class Item(pydantic.BaseModel):
        next: Optional["Item"] = None
        pet: Cat | Dog = pydantic.Field(discriminator="kind")

    own = dataclasses.make_dataclass("Item", [("x", int)])
    schema = of_type(dataclasses.make_dataclass("Both", [("own", own), ("theirs", Item)]))
    renamed = schema["$defs"]["Item_2"]["properties"]
    assert renamed["next"]["anyOf"][0] == {"$ref": "#/$defs/Item_2"}
    mapping = renamed["pet"]["discriminator"]["mapping"]
    assert {ref.removeprefix("#/$defs/") for ref in mapping.values()} <= schema["$defs"].keys()


def test_fractions_of_which_a_number_is_a_multiple_are_told_and_not_checked():
    @allm.tool
    def pay(amount: Annotated[float, pydantic.Field(multiple_of=0.01, ge=0)]):
        return amount

    assert pay.schema["properties"]["amount"] == {"type": "number", "multipleOf": 0.01, "minimum": 0}
    assert [pay.run({"amount": each}, None) for each in (19.99, 0.07, 5)] == [19.99, 0.07, 5.0]


def test_a_field_as_a_default_is_refused_with_the_form_that_works():
    def weather(city: str = pydantic.Field(description="The city")): ...

    with pytest.raises(TypeError, match=r"weather: parameter city: put the field into the annotation"):
        allm.tool(weather)


def test_a_pydantic_dataclass_is_refused_because_its_rules_would_not_be_checked():
    @pydantic.dataclasses.dataclass
    class Point:
        x: Annotated[int, pydantic.Field(ge=0)]

    line = dataclasses.make_dataclass("Line", [("points", list[Point])])

    def draw(line: line): ...

    with pytest.raises(TypeError, match=r"parameter line: .* make Point a pydantic model"):
        allm.tool(draw)


def test_the_words_for_a_parameter_are_its_own_not_those_of_its_class():
    class Order(pydantic.BaseModel):
        """An order as the shop stores it."""

    @allm.tool
    def ship(first: Annotated[Order, "The one to ship"], second: Order, third: Order):
        """Ship.

        Args:
            second: The one after it.
        """

    told = {name: each["description"] for name, each in ship.schema["properties"].items()}
    assert told == {
        "first": "The one to ship",
        "second": "The one after it.",
        "third": "An order as the shop stores it.",
    }


def test_a_model_is_asked_for_parsed_and_stored():
    class Fish(pydantic.BaseModel):
        name: str
        age: int = pydantic.Field(gt=0)

    assert response_format_of(Fish)["schema"]["required"] == ["name", "age"]
    assert parse('{"name": "Nemo", "age": 3}', Fish) == Fish(name="Nemo", age=3)
    with pytest.raises(ValueError, match="age: Input should be greater than 0"):
        parse('{"name": "Nemo", "age": 0}', Fish)
    stored = allm.from_json(allm.to_json(allm.Response(parsed=Fish(name="Nemo", age=3))))
    assert stored.parsed == {"name": "Nemo", "age": 3}


# --- rules in `Annotated` -----------------------------------------------------------------------------------------


def _of(annotation):
    def f(a): ...

    f.__annotations__["a"] = annotation
    return allm.tool(f)


class Small(annotated_types.Le):
    """A rule of the library's, under another name."""


class Unknown(annotated_types.BaseMetadata):
    """An object of the user's own, which says something else by these names."""

    func, tz, ge = len, None, "1"


class From1To9(annotated_types.GroupedMetadata):
    """A group of rules of the user's own."""

    def __iter__(self):
        yield from (annotated_types.Ge(1), annotated_types.Le(9))


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@pytest.mark.parametrize(
    "annotation",
    [
        Annotated[Decimal, pydantic.Field(gt=0, le=100)],
        Annotated[Decimal, pydantic.Field(max_digits=3)],
        Annotated[Decimal | int, annotated_types.Ge(0)],
        Annotated[date, annotated_types.Ge(date(2026, 1, 1))],
        Annotated[date | None, annotated_types.Ge(date(2026, 1, 1))],
        Annotated[datetime, annotated_types.Timezone(None)],
        Annotated[str, pydantic.AfterValidator(str.strip)],
        Annotated[str, pydantic.BeforeValidator(str.strip)],
        Annotated[str, pydantic.WrapValidator(pow)],
        Annotated[str, pydantic.StringConstraints(strip_whitespace=True, min_length=1)],
        Annotated[str, pydantic.Field(pattern=r"^\p{L}+$")],
        Annotated[str, pydantic.Field(pattern=re.compile("a", re.IGNORECASE))],
        Annotated[str, pydantic.Field(pattern="a"), pydantic.Field(pattern="b")],
        Annotated[str, annotated_types.Ge("a")],
        Annotated[str, annotated_types.Ge(1)],
        Annotated[int, pydantic.Field(le=2**70)],
        Annotated[int, pydantic.Field(multiple_of=2.5)],
        Annotated[int, msgspec.Meta(ge=0), annotated_types.Ge(3)],
        Annotated[Decimal, Small(3)],
        Annotated[Any, annotated_types.Len(1, 3)],
        annotated_types.LowerCase[str],
        pydantic.FilePath,
        pydantic.UUID4,
        pydantic.Base64Str,
        dict[str, list[annotated_types.LowerCase[str]]],
        Sequence[annotated_types.LowerCase[str]],
        Iterable[annotated_types.LowerCase[str]],
    ],
    ids=itertools.count(),
)
def test_a_rule_that_nothing_would_check_is_refused(annotation):
    with pytest.raises(TypeError, match=r"f: parameter a: .* would not be checked"):
        _of(annotation)


@pytest.mark.parametrize(
    ("annotation", "plain"),
    [
        (pydantic.FiniteFloat, float),
        (Annotated[int, pydantic.Field(allow_inf_nan=False)], int),
        (Annotated[float, pydantic.Field(gt=-math.inf, le=math.inf)], float),
        (Annotated[Literal["a", "b"], pydantic.Field(min_length=1)], Literal["a", "b"]),
        (Annotated[Level, pydantic.Field(ge=1)], Level),
        (Annotated[bool, annotated_types.Ge(0)], bool),
        (Annotated[tuple[float, float], pydantic.Field(min_length=2, max_length=2)], tuple[float, float]),
        (Annotated[int, annotated_types.MultipleOf(2.0)], Annotated[int, msgspec.Meta(multiple_of=2)]),
        (Annotated[float, annotated_types.Ge(Decimal("0.5"))], Annotated[float, msgspec.Meta(ge=0.5)]),
        (
            Annotated[str | Literal[7], pydantic.Field(min_length=1)],
            Annotated[str, msgspec.Meta(min_length=1)] | Literal[7],
        ),
    ],
    ids=itertools.count(),
)
def test_a_rule_that_always_holds_says_nothing(annotation, plain):
    assert _of(annotation).schema == _of(plain).schema


UserId = NewType("UserId", int)


@pytest.mark.parametrize(
    ("annotation", "told"),
    [
        (Annotated[int, pydantic.Field(description="how many", examples=[1])], {"description": "how many"}),
        (Annotated[int, annotated_types.Unit("s"), annotated_types.doc("d"), Unknown()], {}),
        (Annotated[int, typing_extensions.Doc("d"), pydantic.Strict(), pydantic.PlainSerializer(str)], {}),
        (pydantic.conint(), {}),
        (pydantic.conint(ge=1), {"minimum": 1}),
        (Annotated[int, From1To9()], {"minimum": 1, "maximum": 9}),
        (Annotated[int, annotated_types.Ge(5), annotated_types.Ge(3)], {"minimum": 5}),
        (Annotated[int, annotated_types.Le(3), Small(5)], {"maximum": 3}),
        (Annotated[UserId, annotated_types.Interval(gt=0, le=9)], {"exclusiveMinimum": 0, "maximum": 9}),
    ],
    ids=itertools.count(),
)
def test_a_rule_that_msgspec_has_is_told_and_what_is_no_rule_changes_nothing(annotation, told):
    assert _of(annotation).schema["properties"]["a"] == {"type": "integer", **told}


@pytest.mark.parametrize(
    ("annotation", "told"),
    [
        (Annotated[Sequence[int], annotated_types.MinLen(1)], {"minItems": 1, "items": {"type": "integer"}}),
        (Sequence[Annotated[int, annotated_types.Ge(1)]], {"items": {"type": "integer", "minimum": 1}}),
        (pydantic.conlist(int), {"items": {"type": "integer"}}),
        (pydantic.conlist(int, max_length=2), {"maxItems": 2, "items": {"type": "integer"}}),
    ],
    ids=itertools.count(),
)
def test_a_rule_of_a_sequence_or_its_items_is_told(annotation, told):
    assert _of(annotation).schema["properties"]["a"] == {"type": "array", **told}


def test_a_pattern_may_be_compiled():
    f = _of(Annotated[str, pydantic.Field(pattern=re.compile("^a$"))])
    assert f.schema["properties"]["a"] == {"type": "string", "pattern": "^a$"}
