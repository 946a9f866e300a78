"""Leaf by leaf: what can be stored of a value stays, and the rest becomes data or text."""

import dataclasses
import datetime
import enum
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.data import (
    AskUser,
    ChatResult,
    Halt,
    Message,
    Ok,
    Response,
    Session,
    Thread,
    Tool,
    ToolCall,
    ToolError,
)
from allm_actors.data.codec import from_json, from_msgpack, to_json, to_msgpack
from allm_actors.engine.secret import Secret
from allm_actors.execution.sessions import apply
from allm_actors.execution.storable import storable
from allm_actors.testing import strategies

LOCK = threading.Lock()


class Colour(enum.Enum):
    RED = "red"
    ODD = LOCK


@dataclasses.dataclass
class Order:
    number: int
    lock: object = None


class Mute:
    def __repr__(self):
        raise RuntimeError("no")


class Model:
    def model_dump(self, mode):
        return {"mode": mode, "lock": LOCK}


def looped():
    value: list = [1, LOCK]
    value.append(value)
    return value


def deep(levels, around):
    value: object = LOCK
    for _ in range(levels):
        value = around(value)
    return value


LEAVES = {
    "a leaf": (LOCK, repr(LOCK)),
    "in a dict": ({"order": 7, "lock": LOCK}, {"order": 7, "lock": repr(LOCK)}),
    "in a tuple": ([1, (2.5, LOCK), b"x"], [1, (2.5, repr(LOCK)), b"x"]),
    "a key": ({1: LOCK, LOCK: 1}, {1: repr(LOCK), repr(LOCK): 1}),
    "has a form": ({"at": datetime.date(2026, 5, 4), "set": {1}}, {"at": "2026-05-04", "set": [1]}),
    "a dataclass": (Order(7), {"number": 7, "lock": None}),
    "in a dataclass": (Order(7, LOCK), {"number": 7, "lock": repr(LOCK)}),
    "in a model": (Model(), {"mode": "json", "lock": repr(LOCK)}),
    "in an enum": ([Colour.RED, Colour.ODD], [Colour.RED, repr(LOCK)]),
    "an exception": (ValueError("no such order"), "ValueError: no such order"),
    "has no text": (Mute(), "<Mute>"),
    "a key of a provider": ({"key": Secret("sk-canary")}, {"key": "Secret(***)"}),
    "in a value of ours": (Halt("done", {"lock": LOCK}), Halt("done", {"lock": repr(LOCK)})),
    "in a question": (AskUser("which?", of=LOCK), AskUser("which?", of=repr(LOCK))),
    "in a call": (
        ToolCall(id="c", name="t", arguments={"a": LOCK}),
        ToolCall(id="c", name="t", arguments={"a": repr(LOCK)}),
    ),
    "a handler": (
        Tool(name="t", description="d", schema={}, handler=print),
        Tool(name="t", description="d", schema={}),
    ),
}


@pytest.mark.parametrize(("value", "stored"), LEAVES.values(), ids=LEAVES)
def test_only_the_leaf_becomes_text(value, stored):
    assert storable(value) == stored
    assert from_msgpack(to_msgpack({"it": storable(value)})) is not None


def test_an_error_stays_an_error_without_what_cannot_be_stored_of_it():
    error = storable(ToolError("handler_raised", cause=LOCK, tool_name="t", metadata={"n": 1}))
    assert (type(error), error.reason, error.cause, error.metadata) == (
        ToolError,
        "handler_raised",
        repr(LOCK),
        {"n": 1},
    )


def test_what_contains_itself_or_is_nested_too_deeply_ends_in_text():
    assert storable(looped())[:2] == [1, repr(LOCK)]
    assert isinstance(storable(looped())[2], str)
    twice = [LOCK]
    assert storable([twice, twice]) == [[repr(LOCK)], [repr(LOCK)]]


@pytest.mark.parametrize(
    "around",
    [lambda it: [it], lambda it: (it,), lambda it: {1: it}, lambda it: {"__type__": "map", "a": it}, Ok],
    ids=["list", "tuple", "map", "tag", "value"],
)
@pytest.mark.parametrize("levels", [50, 64, 65, 150, 100_000])
def test_what_is_nested_ends_where_both_codecs_and_a_session_around_it_can_hold_it(levels, around):
    session = Session(id="s", metadata=storable({"it": deep(levels, around)}))
    assert from_msgpack(to_msgpack(session)) == session
    assert from_json(to_json(session)) == session


@given(st.one_of(strategies.messages(), strategies.sessions(), strategies.events(), strategies.errors()))
def test_what_can_be_stored_is_the_very_object(value):
    assert storable(value) is value
    holding = {"it": [value, (value,)]}
    assert storable(holding) is holding


def test_a_parsed_answer_stays_what_it_is():
    response = Response(parsed=Order(7))
    assert storable(response) is response


@pytest.mark.parametrize("reason", ["sold_out", "ask_user", "error"])
def test_a_session_value_can_be_stored_whatever_a_tool_said(reason):
    said = {"halt_result": {"order": 7, "lock": LOCK}, "ask_user_opts": {"of": [LOCK, "b"]}}
    thread = Thread(messages=[Message(role="user", content="hi")])
    result = ChatResult(thread=thread, halted_reason=reason, metadata=said, pending_question="which?")
    session = apply(Session(id="s"), result)
    assert session.metadata["halt_result"] == {"order": 7, "lock": repr(LOCK)}
    assert session.metadata["ask_user_opts"] == {"of": [repr(LOCK), "b"]}
    assert from_json(to_json(session)) == session
    assert result.metadata["halt_result"]["lock"] is LOCK
