"""Dynamic supervisors over real dispatchers."""

import pykka
import pytest

from supervisors import (
    IGNORE,
    KILLED,
    SHUTDOWN,
    AlreadyStarted,
    BadSpec,
    ChildSpec,
    DynamicFlags,
    DynamicSupervisor,
    Exit,
    MaxChildren,
    NotFound,
    Process,
    ProcessDown,
    StartError,
    Supervisor,
    System,
    ThreadDispatcher,
    child,
    exit,
)
from tests.integration.supervisors.conftest import Worker
from tests.integration.supervisors.supervision.family import DEADLINE, Event, Party, crash, eventually, gone


def test_children_come_and_go(log):
    sup = DynamicSupervisor.start_link()
    a, b = (sup.start_child(child(Worker, log, id)) for id in "ab")
    assert [c.ref for c in sup.which_children()] == [a, b]
    assert sup.count_children() == (2, 2, 0, 2)
    sup.terminate_child(a)
    assert not a.is_alive()
    with pytest.raises(NotFound):
        sup.terminate_child(a)
    assert [c.ref for c in sup.which_children()] == [b]


def test_crashed_children_are_restarted_each_for_itself(log):
    sup = DynamicSupervisor.start_link()
    a, b = (sup.start_child(child(Worker, log, id)) for id in "ab")
    a.tell(crash)
    assert log.take(4) == ["+ a", "+ b", "- a", "+ a"]
    refs = [c.ref for c in sup.which_children()]
    assert b in refs
    assert a not in refs


@pytest.fixture
def heard(caplog):
    caplog.set_level("ERROR", logger="supervisors")
    return caplog


def told(caplog):
    """The errors of the log: the first word of each, and whether a traceback is with it."""
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    return [(record.getMessage().partition(" ")[0], record.exc_info is not None) for record in errors]


def test_a_crash_is_two_errors_in_the_log_with_one_traceback(log, system, heard):
    heard.clear()  # a simulation is many runs
    sup = DynamicSupervisor.start_link()
    ref = sup.start_child(child(Worker, log, "a").replace(id="a", restart="temporary"))
    ref.tell(crash)
    assert eventually(lambda: len(told(heard)), 2)
    assert told(heard) == [("Unhandled", True), ("child_terminated:", False)]
    assert f"{ref} Crash(exc=RuntimeError('as told')) child 'a' of {sup}" in heard.text


@pytest.mark.parametrize(
    ("outcome", "errors"),
    [
        (lambda: ValueError("not now"), [("Unhandled", True), ("start_error:", False)]),
        (lambda: Exit("not today"), [("start_error:", False)]),
    ],
    ids=["crashed", "refused"],
)
@pytest.mark.parametrize("stillborn", [False, True], ids=["asked for", "on its own"])
def test_a_failed_start_is_told_once_with_who_and_why_and_whose_child(
    log, system, heard, outcome, errors, stillborn
):
    heard.clear()
    reports = []
    system.reports.subscribe(reports.append)
    sup = DynamicSupervisor.start_link()
    if stillborn:
        sup.spawn_child(Worker, log, "a", outcome())
        assert eventually(lambda: len(told(heard)), len(errors))
    else:
        with pytest.raises(StartError):
            sup.start_child(child(Worker, log, "a", outcome()))
    assert told(heard) == errors
    ended, failed = [report for report in reports if report.kind in ("process_ended", "start_error")]
    assert (ended.ref, ended.reason) == (failed.ref, failed.reason)
    assert ended.ref is not None
    assert f"start_error: {failed.ref} {failed.reason!r} child " in heard.text
    assert f" of {sup}" in heard.text


def test_a_process_of_nobodys_that_refuses_its_start_is_an_error_of_its_own(log, system, heard):
    heard.clear()
    with pytest.raises(StartError):
        Worker.start(log, "a", Exit("not today"))
    assert told(heard) == [("process_ended:", False)]


def test_a_start_function_that_fails_is_told_with_its_traceback(log, system, heard):
    def start():
        raise ValueError("not now")

    heard.clear()
    sup = DynamicSupervisor.start_link()
    with pytest.raises(StartError):
        sup.start_child(ChildSpec(id="a", start=start))
    assert told(heard) == [("start_error:", True)]


class Unwritten:
    """An id that nobody may write down."""

    def __repr__(self):
        raise AssertionError("this was written for nobody")


def test_what_cannot_be_shown_is_no_harm_to_a_supervisor(log, system):
    reports = []
    system.reports.subscribe(reports.append)
    sup = DynamicSupervisor.start_link()
    ref = sup.start_child(child(Worker, log, "a").replace(id=Unwritten()))
    with pytest.raises(StartError, match="cannot be shown"):
        sup.start_child(child(Worker, log, "b", Unwritable()))
    with pytest.raises(NotFound):
        sup.terminate_child(Unwritten())
    assert [c.ref for c in sup.which_children()] == [ref]
    assert {report.kind for report in reports} >= {"child_started", "start_error", "process_ended"}


class Unwritable(Exception):
    __repr__ = Unwritten.__repr__


def test_a_report_that_nobody_gets_is_not_written(log, system):
    sup = DynamicSupervisor.start_link()
    ref = sup.start_child(child(Worker, log, "a").replace(id=Unwritten()))
    ref.tell(crash)
    assert log.take(3) == ["+ a", "- a", "+ a"]
    assert sup.count_children() == (1, 1, 0, 1)
    got = []
    system.reports.subscribe(got.append)
    sup.start_child(child(Worker, log, "b").replace(id="the id"))
    assert [(report.kind, report.detail) for report in got] == [("child_started", f"child 'the id' of {sup}")]


def test_a_temporary_child_is_forgotten_and_makes_room(log):
    sup = DynamicSupervisor.start_link(max_children=1)
    ref = sup.start_child(child(Worker, log, "a").replace(restart="temporary"))
    with pytest.raises(MaxChildren):
        sup.start_child(child(Worker, log, "b"))
    ref.tell(crash)
    assert eventually(sup.which_children, [])
    sup.start_child(child(Worker, log, "b"))


def test_a_child_that_is_spawned_is_a_child_like_any_other(log):
    sup = DynamicSupervisor.start_link(extra_args=(log,))
    reasons, ended = [], Event()
    ref = sup.spawn_child(Worker, "a", on_exit=lambda reason: (reasons.append(reason), ended.set()))
    assert log.take(1) == ["+ a"]
    assert [(c.ref, c.type) for c in sup.which_children()] == [(ref, "worker")]
    sup.terminate_child(ref)
    assert log.take(1) == ["- a"]
    assert ended.wait(DEADLINE)
    assert reasons == [SHUTDOWN]
    assert sup.which_children() == []


def test_a_spawned_child_ends_with_its_supervisor(log):
    sup = DynamicSupervisor.start_link()
    ref = sup.spawn_child(Worker, log, "a")
    assert log.take(1) == ["+ a"]
    sup.stop()
    assert not ref.is_alive()  # stopped as the others are: before the supervisor is dead
    assert ref.exit_reason is SHUTDOWN
    with pytest.raises(ProcessDown):
        sup.spawn_child(Worker, log, "b")


def test_a_spawned_child_ends_with_a_supervisor_that_is_killed(log):
    sup = DynamicSupervisor.start_link()
    ref = sup.spawn_child(Worker, log, "a")
    assert log.take(1) == ["+ a"]
    dead = gone(ref)
    exit(sup, "kill")
    assert dead.wait(DEADLINE)


def test_a_spawned_child_is_never_started_again_and_its_crash_is_told(log, system):
    told, heard = [], Event()

    def hear(report):
        told.append((report.kind, report.ref))
        if report.kind == "child_terminated":
            heard.set()

    system.reports.subscribe(hear)
    sup = DynamicSupervisor.start_link(max_restarts=0)
    ref = sup.spawn_child(Worker, log, "a")
    ref.tell(crash)
    assert log.take(2) == ["+ a", "- a"]
    assert heard.wait(DEADLINE)
    assert told == [("child_started", ref), ("process_ended", ref), ("child_terminated", ref)]
    assert eventually(sup.which_children, [])
    assert sup.is_alive()


def test_a_spawned_child_that_ends_cleanly_makes_room(log):
    sup = DynamicSupervisor.start_link(max_children=1)
    ref = sup.spawn_child(Worker, log, "a")
    with pytest.raises(MaxChildren):
        sup.spawn_child(Worker, log, "b")
    ref.stop()
    sup.spawn_child(Worker, log, "c")  # without a turn of the supervisor's
    assert log.take(3) == ["+ a", "- a", "+ c"]


@pytest.mark.parametrize("outcome", [IGNORE, ValueError("not now")])
def test_a_spawned_child_that_does_not_start_leaves_nothing(log, outcome):
    sup = DynamicSupervisor.start_link(max_children=1)
    ended = Event()
    ref = sup.spawn_child(Worker, log, "a", outcome, on_exit=lambda _: ended.set())
    assert ended.wait(DEADLINE)
    assert not ref.is_alive()
    assert eventually(sup.which_children, [])
    sup.spawn_child(Worker, log, "b")


@pytest.mark.real("the dispatchers of a simulation always have a thread")
def test_a_spawned_child_whose_dispatcher_has_no_thread_for_it_leaves_nothing():
    class Nowhere(ThreadDispatcher):
        def prepare(self):
            raise OSError("too many open files")

    class Stranded(Process):
        dispatcher = "nowhere"

        def init(self):
            """What takes a thread."""

    with System() as system:
        system.register_dispatcher("nowhere", Nowhere())
        sup = DynamicSupervisor.start(max_children=1)
        for _ in range(2):
            with pytest.raises(OSError, match="too many open files"):
                sup.spawn_child(Stranded)
        assert sup.which_children() == []
        assert sup.spawn_child(Process).is_alive()


def test_what_is_no_class_of_processes_cannot_be_spawned(log):
    sup = DynamicSupervisor.start_link()
    for wrong in (pykka.ThreadingActor, lambda: None, 5, []):
        with pytest.raises(BadSpec) as error:
            sup.spawn_child(wrong)
        assert error.value.why == "invalid_start"
    assert sup.which_children() == []


def test_limits_can_be_changed(log):
    sup = DynamicSupervisor.start_link()
    sup.start_child(child(Worker, log, "a"))
    sup.update(DynamicFlags(max_children=1))
    with pytest.raises(MaxChildren):
        sup.start_child(child(Worker, log, "b"))


def test_extra_arguments_come_first(log):
    sup = DynamicSupervisor.start_link(extra_args=(log,))
    sup.start_child(child(Worker, "a")).tell(crash)
    assert log.take(3) == ["+ a", "- a", "+ a"]


def test_ignore_failures_and_taken_names(log):
    sup = DynamicSupervisor.start_link()
    assert sup.start_child(child(Worker, log, "a", IGNORE)) is None
    with pytest.raises(StartError) as caught:
        sup.start_child(child(Worker, log, "a", ValueError("no")))
    assert caught.value.spec is None
    me = sup.start_child(child(Worker, log, "a", name="me"))
    with pytest.raises(AlreadyStarted) as taken:
        sup.start_child(child(Worker, log, "a", name="me"))
    assert taken.value.ref is me
    assert sup.count_children().specs == 1


def test_a_bad_spec_never_reaches_the_supervisor(log):
    sup = DynamicSupervisor.start_link()
    sup.stop()
    with pytest.raises(BadSpec):
        sup.start_child(child(Worker).replace(shutdown=True))
    with pytest.raises(ProcessDown):
        sup.start_child(child(Worker, log, "a"))
    with pytest.raises(BadSpec):
        DynamicSupervisor.start_link(max_children=-1)


def test_too_many_restarts_end_it(log):
    sup = DynamicSupervisor.start_link(max_restarts=0)
    ended = gone(sup)
    sup.start_child(child(Worker, log, "a")).tell(crash)
    assert ended.wait(DEADLINE)
    assert sup.exit_reason is SHUTDOWN


def test_a_restarting_child_can_be_stopped_by_its_old_ref(log):
    broken = Event()
    flaky = lambda: ValueError("broken") if broken.is_set() else None  # noqa: E731
    sup = DynamicSupervisor.start_link(max_restarts=10**9)
    ref = sup.start_child(child(Worker, log, "a", flaky))
    broken.set()
    ref.tell(crash)
    assert eventually(lambda: sup.which_children()[0].ref, "restarting")
    sup.terminate_child(ref)
    assert sup.which_children() == []


class Together(Process):
    """Ends only when all others end too."""

    dispatcher = "blocking"

    def __init__(self, party):
        super().__init__()
        self.party = party

    def terminate(self, reason):
        self.party.wait()


def test_all_children_are_stopped_at_once():
    party = Party(8)
    sup = DynamicSupervisor.start_link()
    refs = [sup.start_child(child(Together, party)) for _ in range(8)]
    sup.stop()
    assert [ref.exit_reason for ref in refs] == [SHUTDOWN] * 8
    assert party.complete


def test_those_who_do_not_stop_are_killed_each_in_its_own_time():
    party = Party(5)
    sup = DynamicSupervisor.start_link()
    refs = [sup.start_child(child(Together, party).replace(shutdown=0.01 * (4 - n))) for n in range(4)]
    sup.stop()
    assert [ref.exit_reason for ref in refs] == [KILLED] * 4
    party.end()


def test_it_is_a_child_like_any_other_and_starts_empty_again(system, log):
    top = Supervisor.start_link([child(DynamicSupervisor, name="dyn", max_children=7)])
    first = system.whereis("dyn")
    ref = first.start_child(child(Worker, log, "a"))
    ended = gone(ref)
    exit(first, "kill")
    assert ended.wait(DEADLINE)
    assert eventually(lambda: top.which_child("dyn").ref is first, False)
    assert system.whereis("dyn").which_children() == []


def test_module_style(log):
    class Agents(DynamicSupervisor):
        def init(self, limit):
            return DynamicFlags(max_children=limit)

    sup = Agents.start_link(0)
    with pytest.raises(MaxChildren):
        sup.start_child(child(Worker, log, "a"))


class Idle(Process):
    """Does nothing."""


@pytest.mark.real("thousands, once, are enough")
def test_thousands_come_and_go(system):
    sup = DynamicSupervisor.start_link()
    refs = [sup.start_child(child(Idle)) for _ in range(2000)]
    assert sup.count_children().active == 2000
    for ref in refs[::2]:
        sup.terminate_child(ref)
    assert sup.count_children() == (1000, 1000, 0, 1000)
    sup.stop()
    assert system.processes() == []


def test_who_is_one_too_many_is_nobodys_child(log):
    supervisor = DynamicSupervisor.start(max_children=1)
    only = supervisor.spawn_child(Worker, log, "a")
    for _ in range(5):
        with pytest.raises(MaxChildren):
            supervisor.spawn_child(Worker, log, "b")
    ties = supervisor.ties
    assert ties is not None
    assert list(ties.children) == [only]
