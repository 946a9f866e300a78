"""JSON that is still being written: any text is taken, cut anywhere, and the last value is the whole one."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import allm_actors as allm
from allm_actors.data import Message, MessageCompleted, MessageStarted, TextCompleted, TextDelta
from allm_actors.data.schemas import partial
from allm_actors.data.schemas.convert import convert
from allm_actors.data.schemas.incremental import NOTHING, JsonSoFar
from allm_actors.data.schemas.partial import PartialValue
from allm_actors.data.schemas.structured import parse


class Tag(TypedDict, total=False):
    word: str
    weight: float


class Toy(msgspec.Struct, frozen=True):
    name: str
    tags: list[Tag] = []


@dataclass(frozen=True, slots=True)
class Cat:
    name: str
    mood: Literal["calm", "wild"]
    age: int | None = None
    toys: list[Toy] = field(default_factory=list)
    pair: tuple[int, str] = (0, "")
    notes: dict[str, Toy] = field(default_factory=dict)
    rest: Any = None


texts = st.text(max_size=8)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)
tags = st.fixed_dictionaries({}, optional={"word": texts, "weight": st.floats(0, 1)})
toys = st.fixed_dictionaries({"name": texts}, optional={"tags": st.lists(tags, max_size=3)})
cats = st.fixed_dictionaries(
    {"name": texts, "mood": st.sampled_from(["calm", "wild"])},
    optional={
        "age": st.none() | st.integers(0, 30),
        "toys": st.lists(toys, max_size=3),
        "pair": st.tuples(st.integers(), texts).map(list),
        "notes": st.dictionaries(texts, toys, max_size=2),
        "rest": plain,
        "unknown": plain,
    },
)


@st.composite
def cut(draw, written):
    """Text in pieces, as a network brings it."""
    text = draw(written)
    pieces = []
    while text:
        length = draw(st.integers(1, len(text)))
        pieces.append(text[:length])
        text = text[length:]
    return pieces


def written(values):
    """Values as JSON: compact or with blanks, with or without escapes."""
    layouts = st.sampled_from([{}, {"indent": 2}, {"separators": (",", ":")}, {"ensure_ascii": False}])
    return st.builds(lambda value, layout: json.dumps(value, **layout), values, layouts)


def said(pieces, finish="stop"):
    """The events of an answer."""
    text = "".join(pieces)
    done = MessageCompleted(Message(role="assistant", content=text), finish)
    return [MessageStarted(), *map(TextDelta, pieces), TextCompleted(text), done]


@given(cut(written(st.dictionaries(texts, plain) | st.lists(plain))))
def test_the_json_so_far_ends_as_the_whole_value(pieces):
    reader = JsonSoFar()
    for piece in pieces:
        reader.feed(piece)
        reader.settle()
    whole = json.loads("".join(pieces))
    assert not reader.feed(', "more": ["]}')
    assert reader.root == whole
    assert not reader.open


@given(st.lists(st.text('{}[]",:\\u0dt1-. \n' + "aé😀\ud800", max_size=12), max_size=6))
def test_any_text_is_taken(pieces):
    reader, value = JsonSoFar(), PartialValue(Cat)
    for piece in pieces:
        before = reader.changes
        assert reader.feed(piece) == (reader.changes > before)
        reader.settle()
        value.feed(piece)
        assert isinstance(value.value(), Cat | list | None)
        assert (reader.root is NOTHING) == (not reader.changes)


@given(cut(written(cats)), st.lists(st.text('{}[]",:1 a', max_size=9), max_size=2))
def test_the_last_partial_is_the_answer_itself(pieces, before):
    """Also where the model said something before the answer that is no part of it."""
    started, *told, done = said(pieces)
    values = list(allm.partials([started, *map(TextDelta, before), *told, done], Cat))
    assert values[-1] == parse("".join(pieces), Cat)
    assert before or all(isinstance(value, Cat) for value in values)
    assert list(allm.partials([started, done], Cat)) == values[-1:]


@given(cut(written(cats)), st.data())
def test_a_partial_only_says_what_has_been_said(pieces, data):
    whole = parse("".join(pieces), Cat)
    some = data.draw(st.integers(0, len(pieces)))
    for value in allm.partials(said(pieces)[: 1 + some], Cat):
        assert value.mood in (None, whole.mood)
        assert value.age in (None, whole.age)
        assert len(value.toys) <= len(whole.toys)
        for toy, finished in zip(value.toys, whole.toys, strict=False):
            assert toy.name is None or finished.name.startswith(toy.name)


@given(st.lists(st.text(max_size=9), max_size=5), st.sampled_from(["stop", "length", None]))
def test_an_answer_that_does_not_fit_raises_nothing(pieces, finish):
    for value in allm.partials(said(pieces, finish), Cat):
        assert value is not None


@given(st.lists(st.text('{}[]",:\\u0dt1-. \n' + "aé😀", max_size=12), max_size=9))
def test_every_character_is_looked_at_once(pieces):
    looks = []

    class Counting(JsonSoFar):
        __slots__ = ()
        _rules = {name: _counted(rule, looks) for name, rule in JsonSoFar._rules.items()}  # noqa: RUF012

    reader = Counting()
    for piece in ['{"a": ', *pieces]:
        reader.feed(piece)
    assert all(after >= at for at, after in looks)
    assert len(looks) <= 2 * (6 + sum(map(len, pieces))), (
        "a bare word is looked at twice: to begin and to end it"
    )


def _counted(rule, looks):
    def counted(reader, text, at):
        after = rule(reader, text, at)
        looks.append((at, after))
        return after

    return counted


@given(st.sampled_from([list[int], tuple[int, ...], dict[str, int], Any]), st.integers(2, 40), st.booleans())
def test_a_part_is_converted_once_and_not_for_each_value_that_shows_it(model, count, nested):
    converted = []
    numbers = {str(n): n for n in range(count)} if model == dict[str, int] else list(range(count))
    text = json.dumps([numbers] if nested else numbers)
    value = PartialValue(list[model] if nested else model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partial, "convert", lambda *args: converted.append(args) or convert(*args))
        values = [value.value() for character in text if value.feed(character)]
    assert len(values) >= count
    assert len(converted) <= 3 * count
    assert values[-1] == convert(json.loads(text), list[model] if nested else model)


@given(cut(written(st.lists(st.tuples(texts, plain), max_size=6))), st.sampled_from([Any, dict[str, Any]]))
def test_a_key_that_is_repeated_has_its_last_value(pieces, model):
    pairs = json.loads("".join(pieces))
    text = "{" + ", ".join(f"{json.dumps(key)}: {json.dumps(item)}" for key, item in pairs * 2) + "}"
    value = PartialValue(model)
    for character in text:
        value.feed(character)
        value.value()
    assert value.value() == json.loads(text)
