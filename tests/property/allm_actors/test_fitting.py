"""What is drawn for a schema fits it, and every schema gets something."""

from __future__ import annotations

import enum
import json
import random
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.data.schemas.convert import convert
from allm_actors.data.schemas.schema import of_type
from allm_actors.testing import strategies
from allm_actors.testing.fitting import fitting

_WORDS = [
    "type",
    "properties",
    "required",
    "items",
    "prefixItems",
    "anyOf",
    "oneOf",
    "allOf",
    "$ref",
    "enum",
    "const",
]
_WORDS += [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "pattern",
    "format",
]
_WORDS += ["additionalProperties", "multipleOf", "uniqueItems", "contentEncoding", "$defs"]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(msgspec.Struct, tag="place"):
    name: str
    at: tuple[float, float]
    near: list[Place] = []


class Person(msgspec.Struct, tag="person"):
    name: str
    boss: Person | None = None


@dataclass
class Order:
    id: int
    lines: list[dict[str, int]]
    note: str | None = None


TYPES = [
    *(
        str,
        int,
        float,
        bool,
        None,
        bytes,
        dict,
        list,
        Any,
        datetime,
        date,
        time,
        timedelta,
        Decimal,
        UUID,
        Colour,
    ),
    *(Place, Place | Person, Order, Literal["a", 2] | None, int | str | None, list[Order], dict[str, Place]),
    *(set[int], frozenset[str], tuple[int, ...], tuple[int, str], dict[str, Any]),
    Annotated[int, msgspec.Meta(ge=3, le=4)],
    Annotated[int, msgspec.Meta(gt=3, multiple_of=5)],
    Annotated[float, msgspec.Meta(lt=-100)],
    Annotated[str, msgspec.Meta(min_length=9, max_length=9)],
    Annotated[list[int], msgspec.Meta(min_length=3, max_length=3)],
]


@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_what_is_drawn_is_of_the_type(type_: Any) -> None:
    schema = of_type(type_)
    for seed in range(100):
        value = fitting(schema, random.Random(seed))
        convert(json.loads(json.dumps(value)), type_)
        assert len(json.dumps(value)) < 5000


def schemas() -> st.SearchStrategy[Any]:
    plain = strategies.json_values() | st.sampled_from(
        ["string", "integer", "object", "array", "number", "#", "#/$defs/a"]
    )
    return st.recursive(
        plain, lambda inner: st.dictionaries(st.sampled_from(_WORDS), inner | st.lists(inner), max_size=4)
    )


@given(schemas(), st.integers())
def test_every_schema_gets_a_value(schema: Any, seed: int) -> None:
    json.dumps(fitting(schema, random.Random(seed)))


@given(schemas(), st.integers())
def test_the_same_numbers_give_the_same_value(schema: Any, seed: int) -> None:
    assert fitting(schema, random.Random(seed)) == fitting(schema, random.Random(seed))
