"""Why processes end, and what errors say."""

import copy
import pickle

import pykka
import pytest

from supervisors import errors
from supervisors.reasons import KILLED, NOPROC, NORMAL, SHUTDOWN, Crash, Exit, Shutdown, is_clean


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


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, KILLED, NOPROC])
def test_there_is_one_object_per_named_reason(reason):
    assert pickle.loads(pickle.dumps(reason)) is reason
    assert copy.deepcopy(reason) is reason
    assert repr(reason) in {"NORMAL", "SHUTDOWN", "KILLED", "NOPROC"}


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
