"""Why processes end, and what errors say."""

import copy
import pickle
import sys

import pykka
import pytest

from supervisors import DEFER_START, EOF, errors
from supervisors.reasons import KILLED, NOPROC, NORMAL, SHUTDOWN, Crash, Exit, Named, Shutdown, is_clean


@pytest.mark.parametrize(
    ("reason", "clean"),
    [
        (NORMAL, True),
        (SHUTDOWN, True),
        (Shutdown("x"), True),
        (KILLED, False),
        (NOPROC, False),
        (Crash(ValueError()), False),
        ("normal", False),
        (None, False),
    ],
)
def test_three_reasons_are_clean(reason, clean):
    assert is_clean(reason) is clean


NAMED = {
    f"{module}.{name}": value
    for module in [name for name in sys.modules if name.partition(".")[0] == "supervisors"]
    for name, value in vars(sys.modules[module]).items()
    if isinstance(value, Named)
}


@pytest.mark.parametrize("named", NAMED.values(), ids=NAMED)
def test_there_is_one_object_per_name(named):
    assert pickle.loads(pickle.dumps(named)) is named
    assert copy.deepcopy(named) is copy.copy(named) is named


def test_what_is_only_a_name_is_shown_as_that():
    assert [*map(repr, (NORMAL, KILLED, DEFER_START, EOF))] == ["NORMAL", "KILLED", "DEFER_START", "EOF"]


def test_crashes_are_equal_when_the_exception_is_the_same_object():
    exc = ValueError("x")
    assert Crash(exc) == Crash.of(exc)
    assert hash(Crash(exc)) == hash(Crash.of(exc))
    assert Crash(exc) != Crash(ValueError("x"))


def test_a_crash_carries_its_traceback_as_text():
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError as exc:
        crash = Crash.of(exc)
    assert "1 / 0" in crash.traceback
    assert "1 / 0" not in repr(crash)


def test_exit_means_normal_unless_it_says_otherwise():
    assert Exit().reason is NORMAL
    assert Exit("x").reason == "x"


def test_shutdowns_compare_by_term():
    assert Shutdown("x") == Shutdown("x") != Shutdown("y")


def test_every_error_is_a_supervisor_error_but_being_killed():
    for name in errors.__all__:
        value = getattr(errors, name)
        if name not in {"FailedToStart", "ProcessKilled"}:
            assert issubclass(value, errors.SupervisorError)
    assert not issubclass(errors.ProcessKilled, Exception)


def test_a_process_that_is_down_is_a_dead_actor_to_pykka_code():
    assert issubclass(errors.ProcessDown, pykka.ActorDeadError)
    assert errors.ProcessDown("boom").reason == "boom"


def test_a_start_error_is_caused_by_the_crash_that_it_tells_of():
    exc = ValueError("x")
    assert errors.StartError(Crash(exc)).__cause__ is exc
    assert errors.StartError("reason").__cause__ is None
