"""The values of an answer that is still being written, event by event."""

from collections import deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, NamedTuple, NotRequired, Required, TypedDict

import msgspec
import pytest
import typing_extensions

from allm_actors.data import (
    ChatCompleted,
    ChatResult,
    Message,
    MessageCompleted,
    MessageStarted,
    Response,
    StepCompleted,
    TextCompleted,
    TextDelta,
)
from allm_actors.execution.partials import partials
from tests.unit.allm_actors.execution.driver import HI


@dataclass
class Cat:
    """Its own code capitalizes the name; a value that is still a guess has what was written."""

    name: str
    age: int | None = None

    def __post_init__(self):
        self.name = self.name.title()


class Sign(TypedDict, total=False):
    words: str
    size: int


@dataclass
class House:
    cats: list[Cat]
    rooms: dict[str, Cat] = field(default_factory=dict)
    guest: Cat | None = None
    owner: Annotated[Cat | None, "pays"] = None
    pair: tuple[int, str] = (0, "")
    many: tuple[int, ...] = ()
    either: Cat | str | None = None
    sign: Sign | None = None


ASH = '{"name": "ash", "age": 3}'


def values(*events):
    return [(type(value), value.name, value.age) for value in partials(events, Cat)]


def done(text, finish="stop"):
    return MessageCompleted(Message(role="assistant", content=text), finish)


def parsed(value):
    return StepCompleted(Response(parsed=value), HI)


def test_each_value_is_told_once():
    pieces = ['{"name": "a', 'sh"', ', "age"', ": 3}"]
    assert values(*map(TextDelta, pieces)) == [(Cat, "a", None), (Cat, "ash", None), (Cat, "ash", 3)]


@pytest.mark.parametrize(
    "events",
    [
        [TextCompleted(ASH)],
        [TextCompleted(ASH), TextCompleted(ASH)],
        [TextDelta(ASH), TextCompleted(ASH)],
        [TextDelta(ASH), done(ASH, "length")],
        [done(ASH, "length")],
    ],
)
def test_a_text_is_read_once_however_it_comes(events):
    assert values(*events) == [(Cat, "ash", 3)]


def test_words_before_the_answer_are_forgotten_once_they_are_no_part_of_it():
    said = [TextDelta("I saw {both}: "), TextDelta(ASH)]
    assert values(*said, TextCompleted(ASH), done(ASH)) == [
        (Cat, None, None),
        (Cat, "ash", 3),
        (Cat, "Ash", 3),
    ]


def test_a_block_of_the_text_that_is_complete_is_no_other_text():
    first, second = '{"name": "ash", ', '"age": 3}'
    deltas = [TextDelta(first, "1"), TextDelta(second, "2")]
    whole = [TextCompleted(first, "1"), TextCompleted(second, "2")]
    assert values(*deltas, *whole) == values(*deltas)
    assert values(*whole) == [(Cat, "ash", None), (Cat, "ash", 3)]
    assert values(*deltas, TextCompleted('"age": 4}', "2"))[-1] == (Cat, "ash", 4)


def test_a_fence_that_ends_in_no_line_hides_nothing():
    assert values(TextDelta("```json " + ASH[:-1] + " " * 40), TextDelta("}```"))[-1] == (Cat, "ash", 3)


def test_half_of_a_character_is_not_shown():
    pieces = ['{"name": "a', "\\ud83d", "\\ude00b", '", "age": 3}']
    names = [name for _, name, _ in values(*map(TextDelta, pieces))]
    assert (set(names), names[-1]) == ({"a", "a😀b"}, "a😀b")


def test_where_the_text_stops_being_json_the_value_stays_what_it_was():
    [value] = partials([TextDelta('{"rooms": {"hall": {"name": "ida", }, "attic": {"name": "bo"}}}')], House)
    assert list(value.rooms) == ["hall"]


def test_what_is_complete_inside_a_value_comes_again():
    pieces = ['{"cats": [{"name": "bo"}, {"na', 'me": "a"}], "rooms": {"hall": {"name": "i', 'da"}', "}"]
    first, second, third = partials(map(TextDelta, pieces), House)
    assert [cat.name for cat in first.cats] == ["bo", None]
    assert [cat.name for cat in second.cats] == ["bo", "a"]
    assert second.cats[0] is first.cats[0]
    assert second.cats[1] is not first.cats[1]
    assert (first.rooms, second.rooms["hall"].name, third.rooms["hall"].name) == ({}, "i", "ida")
    assert third.cats is second.cats


def test_what_may_be_none_is_of_its_type_as_far_as_it_is_written():
    *_, last = partials([TextDelta('{"cats": [], "guest": {"name": "bo"}, "owner": {"name": "i')], House)
    assert (type(last.guest), last.guest.name) == (Cat, "bo")
    assert (type(last.owner), last.owner.name) == (Cat, "i")


def test_what_is_not_written_yet_has_its_default_and_no_key():
    [value] = partials([TextDelta('{"cats": [], "sign": {"words": "beware"}')], House)
    assert (value.rooms, value.pair, value.guest) == ({}, (0, ""), None)
    assert value.sign == {"words": "beware"}


class Menu(TypedDict, total=False):
    title: Required[str]
    cats: Annotated[NotRequired[list[Cat]], "who is served"]


class OtherMenu(typing_extensions.TypedDict):
    title: str
    cats: typing_extensions.NotRequired[list[Cat]]


@pytest.mark.parametrize("menu", [Menu, OtherMenu])
def test_what_a_typed_dict_says_of_a_key_does_not_hide_its_value(menu):
    said = ['{"title": "To', 'day", "cats": [{"name": "a', 'sh"}']
    asked = [(value["title"], value.get("cats")) for value in partials(map(TextDelta, said), menu)]
    assert [title for title, _ in asked] == ["To", "Today", "Today"]
    assert [cats and [cat.name for cat in cats] for _, cats in asked] == [None, ["a"], ["ash"]]


class Toy(msgspec.Struct):
    name: str
    size: int = 3
    tags: list[str] = []


def test_a_struct_has_its_defaults_too():
    assert list(partials([TextDelta('{"name": "ball"')], Toy)) == [Toy("ball", 3, [])]


class PydanticUndefinedType:
    """What pydantic has for the default of a field that has none."""


class Column:
    """One field, as pydantic tells of it."""

    def __init__(self, annotation, default, alias=None):
        self.annotation, self.alias, self.get_default = annotation, alias, lambda: default


class Fish:
    """A model that is read and made as pydantic's are."""

    model_fields: ClassVar = {
        "name": Column(str, PydanticUndefinedType()),
        "weight": Column(float, 1.0, alias="kg"),
    }

    @classmethod
    def model_construct(cls, **values):
        return SimpleNamespace(**values)


def test_a_model_like_pydantics_is_made_without_being_checked_by_the_names_of_its_fields():
    pieces = ["{", '"name": "i', 'da", "kg": 2.5, ']
    assert [vars(value) for value in partials(map(TextDelta, pieces), Fish)] == [
        {"name": None, "weight": 1.0},
        {"name": "i", "weight": 1.0},
        {"name": "ida", "weight": 2.5},
    ]


def test_items_are_of_their_types_and_of_several_the_one_that_fits():
    written = '{"cats": [], "pair": [1, "x"], "many": [1, 2, 3], "either": {"name": "bo"}, '
    *_, last = partials([TextDelta(written)], House)
    assert (last.pair, last.many, type(last.either), last.either.name) == ((1, "x"), (1, 2, 3), Cat, "bo")


@dataclass
class Seats:
    taken: dict[int, str] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)
    any: dict | list | None = None


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('{"taken": {"12": "Ada", "1', Seats({12: "Ada"})),
        ('{"taken": {"12": "Ada", "1": "B', Seats({12: "Ada", 1: "B"})),
        ('{"taken": {"x": "Ada"', Seats({"x": "Ada"})),
        ('{"taken": [1], "rows": {"1": 2}, "any": {"1": 2}', Seats(None, None, {"1": 2})),
    ],
)
def test_keys_are_of_their_type_and_a_container_is_of_its_kind(written, expected):
    *_, last = partials([TextDelta(written)], Seats)
    assert last == expected


@dataclass
class Pen:
    ink: str


class Pair(NamedTuple):
    one: int
    other: str


class Row(msgspec.Struct, array_like=True):
    number: int
    name: str = ""


def one_field(of):
    return msgspec.defstruct("Holder", [("it", of, None)])


@pytest.mark.parametrize(
    ("of", "written", "expected"),
    [
        (Seats | list[int], "[1, 2,", [1, 2]),
        (Seats | list[int], '{"rows": [1,', Seats({}, [1])),
        (list[Seats] | Seats, '[{"rows": [1]}', [Seats({}, [1])]),
        (list[Seats | Pen], '[{"rows": [1]}', [{"rows": [1]}]),
        (Seats | str, '{"rows": [1,', Seats({}, [1])),
        (Seats | None, "[1,", None),
        (str, '{"a": 1,', None),
        (int, "[1,", None),
        (datetime | list[int], '{"a": 1,', None),
        (Any, '{"a": [1,', {"a": [1]}),
        (object, "[1,", [1]),
        (set[int], "[1, 1,", {1}),
        (set[Any], "[[1]", None),
        (frozenset[int], "[1,", frozenset({1})),
        (deque[int], "[1,", deque([1])),
        (Sequence[int], "[1,", [1]),
        (AbstractSet[int], "[1,", {1}),
        (Mapping[str, int], '{"a": 1,', {"a": 1}),
        (Pair, "[1,", Pair(1, None)),
        (Pair, '[1, "x", 2,', Pair(1, "x")),
        (Row, '[1, "x"', Row(1, "x")),
        (Row, "[1,", Row(1)),
        (Row, '{"number": 1,', None),
    ],
    ids=str,
)
def test_a_container_is_of_the_kind_that_its_type_says(of, written, expected):
    *_, last = partials([TextDelta(f'{{"it": {written}')], one_field(of))
    assert last.it == expected
    assert type(last.it) is type(expected)


@pytest.mark.parametrize("written", ["[", '[{"name": "Ash"}]', "[1, 2"])
def test_a_list_where_an_object_is_wanted_is_no_value(written):
    assert list(partials([TextDelta(written)], Seats)) == []


def test_the_value_of_a_whole_answer_is_made_by_the_type_itself():
    assert values(TextDelta(ASH), done(ASH)) == [(Cat, "ash", 3), (Cat, "Ash", 3)]
    assert values(done(ASH)) == [(Cat, "Ash", 3)]
    assert values(TextDelta('{"name": "ash", "age": "x"}'), done("")) == [(Cat, "ash", None)]


def test_an_answer_that_is_asked_for_again_begins_anew():
    first, second = TextDelta('{"name": "bo", "age": 1'), TextDelta('{"name": "ash"}')
    assert values(MessageStarted(), first, MessageStarted(), second) == [
        (Cat, "bo", None),
        (Cat, "ash", None),
    ]


def test_what_a_step_or_a_chat_came_to_is_the_last_value():
    ash, bo = Cat("ash"), Cat("bo")
    over = ChatCompleted(ChatResult(final_response=Response(parsed=bo)))
    assert list(partials([parsed(ash), over], Cat)) == [ash, bo]
    assert list(partials([parsed(ash), parsed(None)], Cat)) == [ash]
    assert list(partials([parsed(None), ChatCompleted(ChatResult())], Cat)) == []


class Odd:
    def __eq__(self, other):
        raise ValueError("no")


class Array:
    """Compares as arrays do: to something that is neither true nor false."""

    def __eq__(self, other):
        return self

    def __bool__(self):
        raise ValueError("ambiguous")


def test_a_value_is_another_if_its_type_is_or_if_it_cannot_be_compared():
    assert list(partials([parsed(1), parsed(True), parsed(True)], int)) == [1, True]
    for odd in (Odd, Array):
        assert len(list(partials([parsed(odd()), parsed(odd())], odd))) == 2
