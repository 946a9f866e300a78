"""`type X = …` and `class Box[T]` (PEP 695, Python 3.12) are what they stand for, and so are type variables."""

import datetime
import sys
import textwrap
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import pytest

import allm_actors as allm
from allm_actors.data.schemas.aliases import behind
from allm_actors.data.schemas.handlers import context_of
from allm_actors.data.schemas.partial import PartialValue
from allm_actors.data.schemas.schema import of_type

T = TypeVar("T")


@dataclass(frozen=True)
class Ge:
    """As annotated_types has it."""

    ge: int


@dataclass(frozen=True)
class Le:
    """As annotated_types has it."""

    le: int


@dataclass
class Inner:
    z: int


pep_695 = pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 has the `type` statement")


def partial_of(text, model):
    value = PartialValue(model)
    value.feed(text)
    return value.value()


def defined(source):
    module = {"__name__": __name__, "allm": allm, "Annotated": Annotated, "Ge": Ge, "Le": Le, "Any": Any}
    module |= {"msgspec": msgspec, "datetime": datetime, "dataclass": dataclass}
    exec(compile(textwrap.dedent(source), "somewhere.py", "exec", dont_inherit=True), module)
    return module


@pep_695
def test_what_is_said_in_an_alias_is_part_of_the_schema():
    module = defined("""
        type Percent = Annotated[int, Ge(0), Le(100)]
        type Name = Annotated[str, "who it is"]
        type Pair[T] = tuple[T, T]
        type When = datetime.datetime

        @allm.tool
        def dim(a: Percent, b: Name, c: list[Percent], d: Pair[Percent], e: When, f: Percent | None = None) -> str:
            return "dimmed"
    """)
    percent = {"type": "integer", "minimum": 0, "maximum": 100}
    properties = module["dim"].schema["properties"]
    assert properties["a"] == percent
    assert properties["b"] == {"type": "string", "description": "who it is"}
    assert properties["c"]["items"] == percent
    assert properties["d"]["prefixItems"] == [percent, percent]
    assert properties["e"] == {"type": "string", "format": "date-time"}
    assert percent in properties["f"]["anyOf"]
    with pytest.raises(allm.ToolError, match="argument a: Expected `int` <= 100"):
        module["dim"].handler({"a": 900, "b": "x", "c": [], "d": [1, 2], "e": "2026-01-01T00:00:00"}, None)


@pep_695
def test_an_alias_within_itself_is_refused_with_its_name_and_the_parameters():
    with pytest.raises(TypeError, match=r"keep: parameter value: Json refers to itself, .* make it a class"):
        defined("""
            type Json = dict[str, Json] | list[Json] | str | None

            @allm.tool
            def keep(value: Json) -> str:
                return ""
        """)
    itself = defined("type Itself = Itself")["Itself"]
    assert behind(itself) is itself
    with pytest.raises(TypeError, match="Itself refers to itself"):
        of_type(itself)
    held = defined("""
        type Json = dict[str, Json] | list[Json] | str | None

        class Held(msgspec.Struct):
            value: Json
    """)
    with pytest.raises(TypeError, match="no JSON Schema for "):
        of_type(held["Held"])


@pep_695
def test_a_context_may_have_an_alias():
    module = defined("""
        type Context = allm.ToolContext

        @allm.tool
        def look(city: str, about: Context) -> str:
            return city
    """)
    assert list(module["look"].schema["properties"]) == ["city"]


@pep_695
def test_partial_values_are_of_the_types_that_stand_behind_their_names():
    module = defined("""
        @dataclass
        class Inner:
            z: int | None = None

        @dataclass
        class Box[T]:
            item: T | None = None
            items: list[T] | None = None

        type OfInner = Box[Inner]
    """)
    inner, of_inner = module["Inner"], module["OfInner"]
    box = partial_of('{"item": {"z": 1}, "items": [{"z": 2}', of_inner)
    assert box == module["Box"](item=inner(1), items=[inner(2)])


def test_the_variables_of_a_class_are_what_it_is_made_with():
    @dataclass
    class Box(Generic[T]):
        item: Annotated[T, "what is in it"]
        more: dict[str, T]

    box = partial_of('{"item": {"z": 1}, "more": {"a": {"z": 2}', Box[Inner])
    assert box == Box(item=Inner(1), more={"a": Inner(2)})


@pep_695
def test_a_function_may_have_type_variables_of_its_own():
    module = defined("""
        from __future__ import annotations

        @allm.tool
        def first[N: int](of: list[N]) -> N:
            return of[0]
    """)
    assert module["first"].handler({"of": [1, 2]}, None) == 1


def test_a_moment_has_its_format_wherever_it_stands():
    formatted = {"type": "string", "format": "date-time"}
    assert of_type(list[datetime.datetime])["items"] == formatted
    assert of_type(Annotated[datetime.datetime, "when"]) == formatted | {"description": "when"}
    assert of_type(dict[str, datetime.datetime | None])["additionalProperties"]["anyOf"][0] == formatted
    for naive in (datetime.datetime, datetime.time):  # "date-time" and "time" have a time zone
        assert of_type(Annotated[naive, msgspec.Meta(tz=False)]).get("format") in (None, "partial-time")


def test_only_what_may_be_the_context_is_it():
    @allm.tool
    def look(contexts: list[str], about: Annotated[allm.ToolContext | None, "whose"]) -> str:
        return ""

    assert list(look.schema["properties"]) == ["contexts"]

    def handler(arguments, *, about: allm.ToolContext | None = None):
        return about

    assert context_of(handler) == "about"
    with pytest.raises(TypeError, match="several"):

        @allm.tool
        def odd(several: list[allm.ToolContext]) -> str:
            return ""
