"""An error can always be made, copied and pickled, whatever it is about."""

import copy
import pickle
from dataclasses import dataclass
from functools import partial
from threading import Lock

import pytest

from supervisors import errors
from supervisors.errors import AlreadyStarted, BadSpec, FailedToStart, StartError
from supervisors.port import framing
from supervisors.port import process as ports
from supervisors.process import Process
from supervisors.reasons import KILLED, NORMAL, Crash, Shutdown, shown
from supervisors.runtime import faults
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


class Refused(errors.ReplyError):
    """A subclass of the commonest form."""

    def __init__(self, code):
        super().__init__(f"code {code}")
        self.code = code


@dataclass(slots=True)
class Slotted(errors.ReplyError):
    code: int


class TwoNeeded(Exception):
    """Pickle can write it, and not read it."""

    def __init__(self, first, second):
        super().__init__(f"{first} {second}")


ERRORS = [
    errors.SupervisorError("said"),
    BadSpec("badarg", [1], "no list"),
    BadSpec("badarg", 3),
    AlreadyStarted("as if a ref"),
    errors.AlreadyPresent("a"),
    errors.NotFound("a"),
    errors.Running(("a", 1)),
    errors.Restarting("a"),
    errors.MaxChildren(3),
    StartError(KILLED),
    StartError(Shutdown(FailedToStart("a", KILLED)), "as if a spec"),
    errors.ReplyError("no", 3),
    Refused(7),
    Slotted(7),
    errors.ProcessDown(),
    errors.ProcessDown(ref="nobody"),
    errors.ProcessDown(NORMAL, "nobody"),
    errors.ForeignProcess(),
    errors.MailboxFull(None, 3),
    errors.CallingSelf(),
    errors.Deadlock(["a", "b"]),
    errors.Stuck([("a", "b"), ("b", "c")]),
    errors.SimulationError("stuck"),
    errors.OutsideSimulation("outside"),
    errors.WouldBlock("would"),
    framing.FrameTooLong(3),
    ports.CommandFailed("sed", OSError(2, "No such file")),
    ports.PortRefused("input full", "it does not read"),
    faults.InjectedFault("injected"),
]


def test_every_error_is_among_these():
    seen, left = set(), [errors.SupervisorError]
    while left:
        seen.add(kind := left.pop())
        left += kind.__subclasses__()
    ours = {kind for kind in seen if kind.__module__.startswith("supervisors")}
    assert ours <= {type(error) for error in ERRORS}


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"protocol {number}": lambda error, number=number: pickle.loads(pickle.dumps(error, number))
        for number in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("error", ERRORS, ids=[f"{type(e).__name__} {n}" for n, e in enumerate(ERRORS)])
def test_a_copy_is_the_same(error, copied):
    vars(error)["__notes__"] = ["a note"]
    again = copied(error)
    assert again is not error
    assert (type(again), str(again), repr(again)) == (type(error), str(error), repr(error))
    assert (again.args, again._fields()) == (error.args, error._fields())


def test_a_process_in_an_error_is_sent_as_its_text_and_copied_as_itself():
    with System():
        ref = Process.start(name="a")
        for error in (
            AlreadyStarted(ref),
            errors.ProcessDown(KILLED, ref),
            errors.Deadlock([ref, ref]),
            errors.Stuck([(ref, "b")]),
            errors.ReplyError(ref),
        ):
            again = pickle.loads(pickle.dumps(error))
            assert (type(again), str(again)) == (type(error), str(error))
            assert pickle.loads(pickle.dumps(again))._fields() == again._fields()
            assert copy.deepcopy(error)._fields() == error._fields()
        assert pickle.loads(pickle.dumps(errors.Stuck([(ref, "b")]))).waits == ((str(ref), "b"),)
        assert copy.copy(AlreadyStarted(ref)).ref is ref


@pytest.mark.parametrize(
    "value", [Crash(TwoNeeded(1, 2)), Lock(), lambda: None], ids=["read", "lock", "lambda"]
)
def test_so_is_what_cannot_be_pickled_or_read_again(value):
    error = StartError(value, ChildSpec(id="a", start=lambda: value))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.reason, again.__cause__) == (str(error), shown(value), None)
    assert again.spec == str(error.spec)


def test_what_can_be_keeps_its_cause():
    error = StartError(Shutdown(FailedToStart("a", Crash(ValueError("no")))))
    again = pickle.loads(pickle.dumps(error))
    assert again.__cause__ is again.reason.term.reason.exc
    assert repr(again.__cause__) == "ValueError('no')"


class Counted:
    """Counts how often it is pickled."""

    times = 0

    def __reduce__(self):
        Counted.times += 1
        return Counted, ()


def test_each_link_of_a_chain_of_errors_is_written_once():
    error = errors.ReplyError(Counted())
    for _ in range(8):
        error = errors.ProcessDown(Crash(error))
    Counted.times = 0
    assert isinstance(pickle.loads(pickle.dumps(error)).reason.exc, errors.ProcessDown)
    assert Counted.times == 1
