"""An error can always be made, whatever it is about."""

from functools import partial

import pytest

from supervisors import errors
from supervisors.errors import AlreadyStarted, BadSpec, StartError
from supervisors.process import Process
from supervisors.reasons import Crash, shown
from supervisors.runtime.system import System
from supervisors.spec import ChildSpec, check_child, check_childspecs


class HalfMade(ValueError):
    def __repr__(self):
        return f"<HalfMade {self.name}>"


def test_what_can_be_shown_is_shown():
    assert shown({"a": [1]}) == "{'a': [1]}"


def test_what_cannot_be_shown_is_named():
    assert shown(HalfMade()) == "<a HalfMade that cannot be shown>"


@pytest.mark.parametrize(
    "make",
    [
        partial(BadSpec, "badarg"),
        errors.AlreadyPresent,
        errors.NotFound,
        errors.Running,
        errors.Restarting,
        StartError,
        errors.ProcessDown,
    ],
    ids=["BadSpec", "AlreadyPresent", "NotFound", "Running", "Restarting", "StartError", "ProcessDown"],
)
def test_an_error_about_what_cannot_be_shown_can_be_made(make):
    assert "HalfMade that cannot be shown" in str(make(HalfMade()))


def test_so_can_one_about_a_child_and_a_crash_that_cannot_be_shown():
    error = StartError(Crash(HalfMade()), ChildSpec(id=HalfMade(), start=print))
    assert (
        str(error)
        == "child <a HalfMade that cannot be shown> did not start: Crash(exc=<a HalfMade that cannot be shown>)"
    )


class Failure:
    """A reason of somebody's own that says `exc`, and is no crash."""

    exc = "timeout"


@pytest.mark.parametrize("reason", [Failure(), Crash("timeout")])
def test_the_cause_of_a_start_error_is_an_exception_or_none(reason):
    error = StartError(reason)
    assert (error.reason, error.__cause__) == (reason, None)
    exc = ValueError("as told")
    assert StartError(Crash(exc)).__cause__ is exc


def test_a_process_whose_name_cannot_be_shown_can():
    with System():
        ref = Process.start(name=HalfMade())
        assert "HalfMade that cannot be shown" in str(AlreadyStarted(ref))


def test_a_bad_child_whose_id_cannot_be_shown_is_refused_as_any_other():
    spec = ChildSpec(id=HalfMade(), start=print, restart="transient", significant=True)
    with pytest.raises(BadSpec):
        check_child(spec, "never")
    with pytest.raises(BadSpec):
        check_child(spec.replace(restart="permanent"))
    with pytest.raises(BadSpec):
        check_childspecs([spec, spec], "any_significant")
