"""Types as the form of an answer: what is asked for, what is made of the text, what is stored of it."""

import datetime
import re
from dataclasses import dataclass, field
from typing import Literal, TypedDict

import msgspec
import pytest

import allm_actors as allm
from allm_actors.data import Response
from allm_actors.data.schemas.structured import broken_model, misfit, parse, response_format_of


@dataclass
class Toy:
    name: str
    since: datetime.date | None = None


@dataclass
class Cat:
    name: str
    mood: Literal["calm", "wild"] = "calm"
    toys: list[Toy] = field(default_factory=list)


class Dog(msgspec.Struct):
    name: str


class Bird(TypedDict):
    name: str
    toy: Toy


TEXT = '{"name": "Ash", "mood": "wild", "toys": [{"name": "ball", "since": "2026-01-02"}]}'
ASH = Cat("Ash", "wild", [Toy("ball", datetime.date(2026, 1, 2))])


def test_a_type_is_asked_for_by_its_name_and_strictly():
    wanted = response_format_of(Cat)
    assert (wanted["type"], wanted["name"], wanted["strict"]) == ("json_schema", "Cat", True)
    assert wanted["schema"]["required"] == ["name", "mood", "toys"]
    assert response_format_of(Dog)["schema"]["type"] == "object"
    assert response_format_of(Bird)["name"] == "Bird"


@pytest.mark.parametrize(
    "wrong", [None, "Cat", {"type": "object"}, [Cat], list[Cat], int, Cat | Dog, object()]
)
def test_what_is_no_type_of_an_object_is_refused(wrong):
    with pytest.raises(TypeError, match=r"response_model|no JSON Schema"):
        response_format_of(wrong)


@pytest.mark.parametrize("wrong", [None, "Cat", b"Cat", {"type": "object"}, [Cat], (Cat,)], ids=repr)
def test_what_is_no_type_at_all_is_told_what_one_is(wrong):
    with pytest.raises(TypeError, match="must be a type"):
        response_format_of(wrong)


def test_the_name_of_a_type_is_cut_where_providers_end_it():
    assert response_format_of(type("Cat" * 40, (Cat,), {}))["name"] == ("Cat" * 40)[:64]


def test_text_becomes_the_value():
    assert parse(TEXT, Cat) == ASH
    assert parse('{"name": "Rex"}', Dog) == Dog("Rex")
    assert parse('{"name": "Pip", "toy": {"name": "bell"}}', Bird) == {"name": "Pip", "toy": Toy("bell")}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must be one JSON object"),
        ("Here: {}", "must be one JSON object"),
        ('{"name": "a"} and more', "must be one JSON object"),
        ("[" * 100_000, "must be one JSON object"),
        ("\ud800", "must be one JSON object"),
        ("7", "Expected `object`, got `int`"),
        ("{}", "missing required field `name`"),
        ('{"name": "a", "mood": "furious"}', "`mood`"),
    ],
)
def test_what_does_not_fit_says_what_to_change(text, problem):
    with pytest.raises(ValueError, match=problem) as caught:
        parse(text, Cat)
    assert "furious" not in str(caught.value)


def test_the_errors_say_whose_fault_it_is():
    assert (
        str(misfit("x", 2)) == "the model's answer does not fit the response_model, even after 2 retries: x"
    )
    broken = broken_model(Cat, "KeyError: 'x'")
    assert "Cat cannot be made" in str(broken)
    assert broken.errors == [("parsed", "raised")]


@pytest.mark.parametrize(
    ("parsed", "data"),
    [
        (ASH, {"name": "Ash", "mood": "wild", "toys": [{"name": "ball", "since": "2026-01-02"}]}),
        (Dog("Rex"), {"name": "Rex"}),
        ({"name": "Pip", "toy": Toy("bell")}, {"name": "Pip", "toy": {"name": "bell", "since": None}}),
        ({"plain": [1, 2.5, None, "x"]}, {"plain": [1, 2.5, None, "x"]}),
        (allm.user("hi"), allm.user("hi")),
        ((1, b"x"), (1, b"x")),
    ],
)
def test_a_parsed_value_is_stored_as_the_data_it_was(parsed, data):
    response = Response(output_text=TEXT, parsed=parsed)
    stored = Response(output_text=TEXT, parsed=data)
    assert allm.from_json(allm.to_json(response)) == stored
    assert allm.from_msgpack(allm.to_msgpack(response)) == stored


def test_a_parsed_value_that_is_no_data_is_refused_by_its_place():
    with pytest.raises(TypeError, match=r"Response\.parsed"):
        allm.to_json(Response(parsed=object()))
    with pytest.raises(TypeError, match=r"Response\.parsed"):
        allm.to_msgpack(Response(parsed={"x": print}))


@pytest.mark.parametrize(
    "text", ["```json\n{TEXT}\n```", "\n```\n{TEXT}```\n", "``` JSON\r\n {TEXT} \r\n```", "{TEXT}"]
)
def test_one_fence_is_taken_off(text):
    if text.startswith("``` "):
        text = text.replace("``` ", "```")
    assert parse(text.replace("{TEXT}", TEXT), Cat) == ASH


@pytest.mark.parametrize(
    "text", ["Here:\n```json\n{TEXT}\n```", "```json\n```\n{TEXT}\n```\n```", "```{TEXT}```"]
)
def test_nothing_else_is_taken_off(text):
    with pytest.raises(ValueError, match="must be one JSON object and nothing else"):
        parse(text.replace("{TEXT}", TEXT), Cat)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("```json\n\n```", "it is empty"),
        (r'{"name": "\ud83d"}', r"the escape \ud83d is half of a surrogate pair"),
        ('{"name": "As', "Input data was truncated"),
    ],
)
def test_what_is_wrong_with_the_text_is_told(text, why):
    with pytest.raises(ValueError, match=rf"\({re.escape(why)}\)$"):
        parse(text, Cat)
