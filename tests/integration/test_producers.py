"""Every reason of every error can be come by: what there is, is read from the code, and a new one needs a producer."""

import ast
import os
from pathlib import Path

import pytest

import allm_actors as allm
from allm_actors.data import AllmError
from allm_actors.engine import keys

from .producers import PRODUCERS, RESERVED
from .validations import UNREACHED, failures, listed_in_the_code

PACKAGE = Path(allm.__file__).parent
ERRORS = sorted(
    {
        value
        for name in allm.__all__
        if isinstance(value := getattr(allm, name), type)
        and issubclass(value, AllmError)
        and value is not AllmError
    },
    key=lambda error: error.__name__,
)
REASONS = [(error, reason) for error in ERRORS for reason in sorted(error.reasons)]


def name_of(pair):
    error, reason = pair
    return f"{error.__name__}-{reason}"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    keys.clear()
    for name in [name for name in os.environ if name.endswith("_API_KEY")]:
        monkeypatch.delenv(name)


def test_every_error_has_reasons():
    assert [error for error in ERRORS if not error.reasons] == []


def test_every_reason_has_a_producer_or_a_word_on_why_it_has_none():
    known = {*PRODUCERS, *RESERVED}
    assert [name_of(pair) for pair in REASONS if pair not in known] == []
    assert [name_of(pair) for pair in known if pair not in REASONS] == []
    assert [name_of(pair) for pair in PRODUCERS if pair in RESERVED] == []


@pytest.mark.parametrize("pair", sorted(PRODUCERS, key=name_of), ids=name_of)
def test_a_reason_is_come_by(pair):
    error = PRODUCERS[pair]()
    assert (type(error), error.reason) == pair
    assert str(error)
    assert allm.from_msgpack(allm.to_msgpack(error)) == error
    assert allm.from_json(allm.to_json(error)) == error


def test_what_is_reserved_is_given_by_nothing():
    """Whoever makes one of these moves it among the producers."""
    made = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                made.add((name, node.args[0].value))
    assert [name_of((error, reason)) for error, reason in RESERVED if (error.__name__, reason) in made] == []


def test_every_failure_that_the_code_can_list_is_listed_for_something():
    found = {(field.rpartition(".")[2], code) for _, field, code in failures()}
    codes = {code for _, code in found}
    known = listed_in_the_code() - set(UNREACHED)
    assert [(field, code) for field, code in known if field != "*" and (field, code) not in found] == []
    assert [code for field, code in known if field == "*" and code not in codes] == []
    assert len(known) > 40, "the reading of the code finds nothing any more"


def test_nothing_is_listed_that_the_code_does_not_name():
    codes = {code for _, code in listed_in_the_code()}
    assert [failure for failure in failures() if failure[2] not in codes] == []
