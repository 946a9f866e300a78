"""Plain data: what JSON can say, and the words and numbers that values are made of.

Rule of this file: small, because a failing example is read by a person.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from allm_actors.data import Ok, Usage

__all__ = [
    "BROKEN",
    "COSTS",
    "COUNTS",
    "IDS",
    "TEXTS",
    "WORDS",
    "arguments",
    "json_objects",
    "json_values",
    "maybe",
    "notes",
    "with_details",
]

TEXTS = st.text(max_size=20)
WORDS = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8)
IDS = st.from_regex(r"[a-z]{1,4}_[0-9]{1,3}", fullmatch=True)
BROKEN = st.text(max_size=10).map("{{{}".format)  # arguments of a call that are no JSON
COUNTS = st.integers(0, 10**6)
COSTS = st.floats(0, 100, allow_nan=False)


def maybe(values: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """One of these, or None."""
    return st.none() | values


@cache
def json_values() -> SearchStrategy[Any]:
    """What JSON can say."""
    numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    return st.recursive(st.none() | st.booleans() | numbers | TEXTS, _containers, max_leaves=5)


def _containers(inner: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3)


@cache
def json_objects() -> SearchStrategy[dict[str, Any]]:
    """A JSON object: metadata, options, a context."""
    return st.dictionaries(WORDS, json_values(), max_size=3)


@cache
def notes() -> SearchStrategy[dict[str, Any]]:
    """What a caller keeps in metadata, or in a context: JSON, bytes, tuples and values of this library."""
    counted = st.builds(Usage, input_tokens=COUNTS)
    kept = st.binary(max_size=5) | st.tuples(TEXTS) | st.builds(Ok, TEXTS) | counted
    return st.dictionaries(WORDS, json_values() | kept, max_size=3)


def with_details(values: SearchStrategy[Any], **fields: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """These structs, with other values of some fields."""
    return st.builds(msgspec.structs.replace, values, **fields)


@cache
def arguments() -> SearchStrategy[dict[str, Any]]:
    """The arguments of a tool call."""
    return json_objects()
