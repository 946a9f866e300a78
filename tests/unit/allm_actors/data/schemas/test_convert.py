"""What is made of JSON is what its constructor would have made."""

from dataclasses import dataclass, field
from typing import Annotated

import msgspec
import pytest

from allm_actors import encode_tool_result, tool
from allm_actors.data.schemas.convert import convert
from allm_actors.data.schemas.structured import parse


@dataclass
class Seat:
    row: int
    side: str = "window"
    deck: int = 1
    extras: list["Seat"] = field(default_factory=list)
    free: bool = field(default=True, init=False)


@dataclass(frozen=True)
class Frozen:
    seat: Seat
    note: str = ""


@dataclass(slots=True)
class Slots:
    seat: Seat
    note: str = ""


@dataclass(frozen=True, slots=True)
class Key:
    row: int = 1


class Whole(msgspec.Struct):
    seats: list[Seat]
    by_name: dict[str, Seat] = {}
    pair: tuple[Seat, int] | None = None


@dataclass
class Node:
    """It knows who holds it."""

    name: str = "root"
    children: list["Node"] = field(default_factory=list)
    parent: "Node | None" = None

    def __post_init__(self) -> None:
        for each in self.children:
            each.parent = self


@dataclass
class Counting:
    """It has more in it than its fields."""

    row: int
    side: str = "window"

    def __post_init__(self) -> None:
        self.seen = [self.row]


@dataclass
class Animal:
    name: str


@dataclass(slots=True)
class Cat(Animal):
    """Only its own fields are in slots."""

    lives: int = 9


SEAT = {"deck": 2, "row": 4}


@pytest.mark.parametrize(
    ("given", "annotation", "made"),
    [
        ({"row": 4}, Seat, Seat(4)),
        (SEAT, Seat, Seat(4, deck=2)),
        ({"extras": [SEAT], "row": 1}, Seat, Seat(1, extras=[Seat(4, deck=2)])),
        ({"seat": SEAT}, Frozen, Frozen(Seat(4, deck=2))),
        ({"seat": SEAT}, Slots, Slots(Seat(4, deck=2))),
        ({}, Key, Key()),
        ([SEAT], list[Seat], [Seat(4, deck=2)]),
        ({"a": SEAT}, Annotated[dict[str, Seat], "by name"], {"a": Seat(4, deck=2)}),
        (
            {"pair": [SEAT, 1], "by_name": {"a": {"row": 4}}, "seats": [SEAT]},
            Whole,
            Whole([Seat(4, deck=2)], {"a": Seat(4)}, (Seat(4, deck=2), 1)),
        ),
        ({"row": 4}, Counting, Counting(4)),
        ({"deck": 2.0, "row": 4.0}, Seat, Seat(4, deck=2)),
        ({"lives": 3, "name": "Tom"}, Cat, Cat("Tom", lives=3)),
        ({"name": "Tom"}, Cat, Cat("Tom")),
    ],
)
def test_equal_values_have_equal_texts_whoever_has_made_them(given, annotation, made):
    converted = convert(given, annotation)
    assert converted == made
    assert encode_tool_result(converted) == encode_tool_result(made)
    assert getattr(converted, "__dict__", None) == getattr(made, "__dict__", None)


def test_a_value_that_holds_itself_is_made():
    node = convert({"children": [{"name": "leaf"}]}, Node)
    assert node.children[0].parent is node
    assert list(vars(node)) == list(vars(node.children[0])) == ["name", "children", "parent"]


def test_an_argument_that_is_given_back_has_the_text_of_its_equal():
    @tool
    def book(seat: Seat) -> Seat:
        """Book a seat."""
        return seat

    assert encode_tool_result(book.run({"seat": SEAT}, None)) == encode_tool_result(Seat(4, deck=2))


def test_a_parsed_answer_has_the_text_of_its_equal():
    assert encode_tool_result(parse('{"deck": 2, "row": 4}', Seat)) == encode_tool_result(Seat(4, deck=2))
