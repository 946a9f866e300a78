"""Supervisors over real dispatchers: what the core decides is what happens."""

import math
import threading

import pykka
import pytest

from supervisors import (
    IGNORE,
    KILLED,
    NORMAL,
    OK,
    SHUTDOWN,
    AlreadyPresent,
    AlreadyStarted,
    Backoff,
    BadSpec,
    ChildSpec,
    Deadlock,
    DynamicSupervisor,
    FailedToStart,
    Flags,
    NotFound,
    PoolDispatcher,
    Process,
    Restarting,
    Running,
    Shutdown,
    StartError,
    Supervisor,
    SupervisorError,
    System,
    ThreadDispatcher,
    child,
    exit,
    tree,
)
from supervisors.supervisor import START_TIMEOUT, Request
from tests.integration.supervisors.family import DEADLINE, Log, Worker, crash, gone

pytestmark = pytest.mark.usefixtures("system")


@pytest.fixture(params=[ThreadDispatcher, PoolDispatcher], ids=lambda each: each.__name__)
def system(request):
    with System(dispatcher=request.param()) as system:
        yield system


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def worker(log):
    def make(id, outcome=None, **fields):
        return child(Worker, log, id, outcome).replace(id=id, **fields)

    return make


def failing_after(first, times):
    """Starts once, or `first` times, then fails `times` times, then starts again."""
    outcomes = [None] * first + [ValueError("not now")] * times
    return lambda: outcomes.pop(0) if outcomes else None


def always_failing_after(first):
    count = [0]

    def outcome():
        count[0] += 1
        return ValueError("never again") if count[0] > first else None

    return outcome


def eventually(sup, lines):
    """Ask until the exits that are on their way have been handled; each question is a turn of the supervisor."""
    return any([(c.id, c.ref) for c in sup.which_children()] == lines for _ in range(10_000))


def ref_of(sup, id):
    return sup.which_child(id).ref


class TestStart:
    def test_children_start_in_order_and_stop_in_reverse(self, log, worker):
        sup = Supervisor.start_link([worker("a"), worker("b"), worker("c")])
        assert log.rest() == ["+ a", "+ b", "+ c"]
        assert sup.stop()
        assert log.rest() == ["- c", "- b", "- a"]
        assert sup.exit_reason is NORMAL

    def test_a_failed_start_rolls_back_and_frees_the_name(self, system, log, worker):
        with pytest.raises(StartError) as caught:
            Supervisor.start_link([worker("a"), worker("b", ValueError("no")), worker("c")], name="sup")
        reason = caught.value.reason
        assert isinstance(reason, Shutdown)
        assert isinstance(reason.term, FailedToStart)
        assert (reason.term.id, repr(reason.term.reason.exc)) == ("b", "ValueError('no')")
        assert log.rest() == ["+ a", "- a"]
        assert system.whereis("sup") is None
        assert system.processes() == []

    def test_a_taken_name_is_refused(self):
        first = Supervisor.start_link(name="sup")
        with pytest.raises(AlreadyStarted) as caught:
            Supervisor.start_link(name="sup")
        assert caught.value.ref is first

    def test_invalid_specs_and_flags_are_refused_before_anything_starts(self, log, worker):
        with pytest.raises(BadSpec):
            Supervisor.start_link([worker("a"), worker("a")])
        with pytest.raises(BadSpec, match="supervisor_data"):
            Supervisor.start_link([worker("a")], max_seconds=0)
        assert log.rest() == []

    def test_any_iterable_will_do_at_the_top(self, log, worker):
        sup = Supervisor.start_link(worker(id) for id in "ab")
        assert [c.id for c in sup.which_children()] == ["a", "b"]

    def test_a_generator_in_a_child_spec_is_refused_for_it_is_empty_the_second_time(self, worker):
        with pytest.raises(StartError, match="come as a list"):
            Supervisor.start_link([child(Supervisor, (worker(id) for id in "ab"))])

    def test_ignore_and_info(self, log, worker):
        sup = Supervisor.start_link([worker("a", IGNORE), worker("t", IGNORE, restart="temporary")])
        assert [(c.id, c.ref) for c in sup.which_children()] == [("a", None)]
        ref, info = sup.start_child(worker("b", (OK, "info")))
        assert (ref, info) == (ref_of(sup, "b"), "info")
        assert sup.start_child(worker("c", IGNORE)) is None

    def test_children_know_which_incarnation_they_are(self, log, worker):
        sup = Supervisor.start_link([worker("a")])
        assert ref_of(sup, "a").ask(lambda self: self.incarnation) == 0
        ref_of(sup, "a").tell(crash)
        log.take(3)
        assert ref_of(sup, "a").ask(lambda self: self.incarnation) == 1


class TestModuleStyle:
    class Shop(Supervisor):
        def init(self, log, answer=None):
            if isinstance(answer, BaseException):
                raise answer
            specs = [child(Worker, log, id).replace(id=id) for id in "ab"]
            return answer or (Flags(strategy="one_for_all"), specs)

    def test_init_knows_the_children(self, log):
        sup = self.Shop.start_link(log)
        ref_of(sup, "b").tell(crash)
        assert log.take(6) == ["+ a", "+ b", "- b", "- a", "+ a", "+ b"]

    def test_ignore_is_no_error(self, log, system):
        assert self.Shop.start_link(log, IGNORE) is IGNORE
        assert system.processes() == []

    def test_garbage_and_exceptions_are(self, log, system):
        with pytest.raises(StartError, match="bad_return_value"):
            self.Shop.start_link(log, "garbage")
        with pytest.raises(StartError, match="no shop"):
            self.Shop.start_link(log, ValueError("no shop"))
        assert system.processes() == []


class TestRestart:
    def test_a_crashed_child_is_started_again_alone(self, log, worker):
        sup = Supervisor.start_link([worker("a"), worker("b")])
        old = ref_of(sup, "a")
        old.tell(crash)
        assert log.take(4) == ["+ a", "+ b", "- a", "+ a"]
        assert ref_of(sup, "a") is not old
        assert ref_of(sup, "a").ask("alive") == "alive"

    def test_a_clean_transient_child_stays_down_and_a_temporary_one_is_forgotten(self, log, worker):
        sup = Supervisor.start_link([worker("a", restart="transient"), worker("t", restart="temporary")])
        ref_of(sup, "a").stop()
        ref_of(sup, "t").tell(crash)
        assert log.take(4) == ["+ a", "+ t", "- a", "- t"]
        assert eventually(sup, [("a", None)])

    def test_one_for_all(self, log, worker):
        sup = Supervisor.start_link([worker(id) for id in "abc"], strategy="one_for_all")
        log.take(3)
        ref_of(sup, "b").tell(crash)
        assert log.take(6) == ["- b", "- c", "- a", "+ a", "+ b", "+ c"]

    def test_rest_for_one(self, log, worker):
        sup = Supervisor.start_link([worker(id) for id in "abcd"], strategy="rest_for_one")
        log.take(4)
        ref_of(sup, "b").tell(crash)
        assert log.take(6) == ["- b", "- d", "- c", "+ b", "+ c", "+ d"]

    def test_a_named_child_has_its_name_again_at_once(self, system, log):
        sup = Supervisor.start_link([child(Worker, log, "a", name="me")])
        for _ in range(3):
            old = system.whereis("me")
            old.tell(crash)
            log.take(2)
            assert sup.which_children()[0].ref is system.whereis("me") is not old

    def test_too_many_restarts_end_the_supervisor_and_all_its_children(self, system, log, worker):
        sup = Supervisor.start_link([worker("a"), worker("b")], max_restarts=1)
        ended = gone(sup)
        ref_of(sup, "a").tell(crash)
        assert log.take(4)[2:] == ["- a", "+ a"]
        ref_of(sup, "a").tell(crash)
        assert ended.wait(DEADLINE)
        assert sup.exit_reason is SHUTDOWN
        assert log.rest() == ["- a", "- b"]
        assert system.processes() == []

    def test_backoff_waits_between_attempts(self, log, worker):
        sup = Supervisor.start_link([worker("a", failing_after(1, 2), backoff=Backoff(min=0.01))])
        ref_of(sup, "a").tell(crash)
        assert log.take(3) == ["+ a", "- a", "+ a"]
        assert sup.views()[0].restarts == 1


class TestRestarting:
    def test_a_failed_restart_is_tried_again_until_it_works(self, log, worker):
        sup = Supervisor.start_link([worker("a", failing_after(1, 2))])
        ref_of(sup, "a").tell(crash)
        assert log.take(3) == ["+ a", "- a", "+ a"]

    def test_retries_count_and_end_the_supervisor(self, worker):
        sup = Supervisor.start_link([worker("a", always_failing_after(1))], max_restarts=5)
        ended = gone(sup)
        ref_of(sup, "a").tell(crash)
        assert ended.wait(DEADLINE)
        assert sup.exit_reason is SHUTDOWN

    def test_a_supervisor_that_retries_without_end_can_be_stopped(self, worker):
        sup = Supervisor.start_link([worker("a", always_failing_after(1))], max_restarts=10**9)
        ref_of(sup, "a").tell(crash)
        assert sup.stop(timeout=DEADLINE)

    def test_and_its_child_can_be_terminated(self, worker):
        broken = threading.Event()
        flaky = lambda: ValueError("broken") if broken.is_set() else None  # noqa: E731
        sup = Supervisor.start_link([worker("a", flaky)], max_restarts=10**9)
        broken.set()
        ref_of(sup, "a").tell(crash)
        while ref_of(sup, "a") != "restarting":
            pass  # each look is a turn of the supervisor, so this ends
        with pytest.raises(Restarting):
            sup.restart_child("a")
        with pytest.raises(Restarting):
            sup.delete_child("a")
        with pytest.raises(AlreadyPresent):
            sup.start_child(worker("a"))
        sup.terminate_child("a")
        assert ref_of(sup, "a") is None
        broken.clear()
        assert sup.restart_child("a").ask("alive") == "alive"


class TestChildApi:
    def test_the_life_of_a_child(self, log, worker):
        sup = Supervisor.start_link([])
        ref = sup.start_child(worker("a"))
        with pytest.raises(AlreadyStarted) as caught:
            sup.start_child(worker("a"))
        assert caught.value.ref is ref
        with pytest.raises(Running):
            sup.delete_child("a")
        sup.terminate_child("a")
        sup.terminate_child("a")
        assert not ref.is_alive()
        assert sup.restart_child("a") is not ref
        sup.terminate_child("a")
        sup.delete_child("a")
        with pytest.raises(NotFound):
            sup.get_childspec("a")
        with pytest.raises(NotFound):
            sup.terminate_child(ref)

    def test_counts_and_specs(self, worker):
        sup = Supervisor.start_link([worker("a"), child(Supervisor), child(DynamicSupervisor, name="d")])
        assert sup.count_children() == (3, 3, 2, 1)
        assert sup.get_childspec("d").shutdown == math.inf
        assert sup.get_childspec("a").shutdown == 5.0

    def test_a_name_taken_elsewhere_comes_unwrapped(self, log):
        other = Worker.start(log, "x", name="me")
        sup = Supervisor.start_link([])
        with pytest.raises(AlreadyStarted) as caught:
            sup.start_child(child(Worker, log, "y", name="me"))
        assert caught.value.ref is other
        assert sup.which_children() == []

    def test_a_failed_start_tells_why(self, worker):
        sup = Supervisor.start_link([])
        with pytest.raises(StartError) as caught:
            sup.start_child(worker("a", ValueError("no")))
        assert caught.value.spec.id == "a"
        assert isinstance(caught.value.__cause__, ValueError)

    def test_a_dead_supervisor_answers_nobody(self):
        sup = Supervisor.start_link([])
        sup.stop()
        with pytest.raises(pykka.ActorDeadError):
            sup.which_children()

    def test_what_a_supervisor_does_not_understand_does_not_hurt_it(self):
        sup = Supervisor.start_link([])
        with pytest.raises(SupervisorError, match="does not understand"):
            sup.ask("hello")
        sup.tell("hello")
        assert sup.which_children() == []

    def test_update_keeps_children_running(self, log, worker):
        sup = Supervisor.start_link([worker("a"), worker("b")])
        a = ref_of(sup, "a")
        sup.update(Flags(strategy="one_for_all"), [worker("c"), worker("a")])
        assert [(x.id, x.ref is not None) for x in sup.which_children()] == [
            ("c", False),
            ("a", True),
            ("b", True),
        ]
        assert ref_of(sup, "a") is a
        log.take(2)
        a.tell(crash)
        assert log.take(5) == ["- a", "- b", "+ c", "+ a", "+ b"]
        with pytest.raises(BadSpec):
            sup.update(Flags(max_restarts=-1), [])


class Slow(Process):
    """Starts when it may."""

    def __init__(self, may, entered=None):
        super().__init__()
        self.may = may
        self.entered = entered

    def init(self):
        if self.entered is not None:
            self.entered.set()
        with self.blocking():
            assert self.may.wait(DEADLINE)


class TestOneAtATime:
    def test_requests_wait_for_the_running_start_and_are_answered_in_order(self, worker):
        may, entered = threading.Event(), threading.Event()
        sup = Supervisor.start_link([])
        answers = []
        start = sup.ask(Request("start_child", (child(Slow, may, entered),)), block=False)
        assert entered.wait(DEADLINE)
        count = sup.ask(Request("count_children"), block=False)
        start.add_done_callback(lambda _: answers.append("start"))
        count.add_done_callback(lambda _: answers.append("count"))
        assert answers == []
        may.set()
        assert count.get(timeout=DEADLINE).active == 1
        assert answers == ["start", "count"]

    def test_many_supervisors_wait_at_once_without_threads_of_their_own(self, worker):
        may = threading.Event()
        sups = [Supervisor.start_link([]) for _ in range(20)]
        starts = [sup.ask(Request("start_child", (child(Slow, may),)), block=False) for sup in sups]
        may.set()
        assert all(start.get(timeout=DEADLINE).is_alive() for start in starts)

    def test_a_child_that_calls_its_waiting_supervisor_gets_deadlock(self, system, log):
        sup = Supervisor.start_link([], name="sup")
        with pytest.raises(StartError) as caught:
            sup.start_child(child(Worker, log, "a", lambda: system.whereis("sup").which_children()))
        assert isinstance(caught.value.reason.exc, Deadlock)

    def test_also_when_it_is_being_stopped(self, system, log):
        found = []

        class Nosy(Process):
            def terminate(self, reason):
                try:
                    system.whereis("sup").which_children()
                except Deadlock as deadlock:
                    found.append(deadlock)

        sup = Supervisor.start_link([child(Nosy)], name="sup")
        sup.terminate_child(Nosy)
        assert len(found) == 1


class Hung(Process):
    """Does not listen until `let_go`."""

    def __init__(self, entered, let_go):
        super().__init__()
        self.entered = entered
        self.let_go = let_go
        self.on_kill(let_go.set)

    def on_receive(self, message):
        self.entered.set()
        with self.blocking():
            self.let_go.wait(DEADLINE)


@pytest.fixture
def hung():
    """A spec of a child, and a way to see it hang."""
    entered, let_go = threading.Event(), threading.Event()

    def make(**fields):
        return child(Hung, entered, let_go).replace(id="hung", **fields)

    make.entered = entered
    yield make
    let_go.set()


class TestStop:
    @pytest.mark.parametrize("rule", [0, 0.05, "brutal_kill"])
    def test_who_does_not_stop_in_time_is_killed(self, hung, rule):
        sup = Supervisor.start_link([hung(shutdown=rule)])
        ref = ref_of(sup, "hung")
        ref.tell("hang")
        assert hung.entered.wait(DEADLINE)
        sup.terminate_child("hung")
        assert ref.exit_reason is KILLED
        assert ref_of(sup, "hung") is None

    def test_a_child_that_unlinked_itself_keeps_nobody_waiting(self, worker):
        sup = Supervisor.start_link([worker("a")])
        ref = ref_of(sup, "a")
        ref.ask(lambda self: self.unlink(sup))
        sup.terminate_child("a")
        assert not ref.is_alive()

    def test_shutdown_overtakes_queued_messages(self, log, worker):
        entered, may = threading.Event(), threading.Event()

        def hold(self):
            entered.set()
            with self.blocking():
                may.wait(DEADLINE)

        sup = Supervisor.start_link([worker("a")])
        ref = ref_of(sup, "a")
        ref.tell(hold)
        assert entered.wait(DEADLINE)
        ref.tell(lambda self: log.add("too late"))
        stopped = sup.stop(block=False)
        ref_stop_seen = ref.actor_inbox
        while not ref_stop_seen.control:
            pass  # until the shutdown has arrived
        may.set()
        assert stopped.get(timeout=DEADLINE)
        assert log.rest() == ["+ a", "- a"]

    def test_a_real_reason_is_reported_when_the_child_died_meanwhile(self, system, worker):
        seen = []
        sup = Supervisor.start_link([worker("a", restart="temporary")])
        system.reports.subscribe(seen.append)
        ref_of(sup, "a").tell(crash)
        sup.stop()
        kinds = {report.kind for report in seen}
        assert kinds & {"child_terminated", "shutdown_error"}

    def test_system_stop_stops_the_tree(self, system, log, worker):
        Supervisor.start_link([worker("a"), child(Supervisor, [worker("b"), worker("c")])])
        log.take(3)
        system.stop()
        assert log.rest() == ["- c", "- b", "- a"]


class TestNesting:
    def test_a_permanent_supervisor_comes_back_with_its_first_children(self, system, log, worker):
        inner = child(Supervisor, [worker("a"), worker("b")], max_restarts=0, name="inner")
        Supervisor.start_link([inner])
        first = system.whereis("inner")
        first.start_child(worker("late"))
        first.terminate_child("b")
        first.delete_child("b")
        assert log.take(4) == ["+ a", "+ b", "+ late", "- b"]
        ref_of(first, "a").tell(crash)
        assert log.take(4) == ["- a", "- late", "+ a", "+ b"]
        second = system.whereis("inner")
        assert second is not first
        assert [c.id for c in second.which_children()] == ["a", "b"]

    def test_a_transient_supervisor_that_gave_up_is_left_alone(self, system, log, worker):
        inner = child(Supervisor, [worker("a")], max_restarts=0, name="inner").replace(restart="transient")
        outer = Supervisor.start_link([inner])
        ended = gone(system.whereis("inner"))
        ref_of(system.whereis("inner"), "a").tell(crash)
        assert ended.wait(DEADLINE)
        assert eventually(outer, [("inner", None)])

    def test_giving_up_travels_up(self, system, log, worker):
        inner = child(Supervisor, [worker("a")], max_restarts=1, name="inner")
        outer = Supervisor.start_link([inner], max_restarts=1)
        ended = gone(outer)
        starts = 1
        while not ended.is_set() and starts < 4:
            assert log.take(1) == ["+ a"]
            system.whereis("inner").which_child("a").ref.tell(crash)
            assert log.take(1) == ["- a"]
            starts += 1
        log.next()
        system.whereis("inner").which_child("a").ref.tell(crash)
        assert ended.wait(DEADLINE)
        assert (starts, outer.exit_reason) == (4, SHUTDOWN)

    def test_killing_a_supervisor_leaves_no_orphans(self, system, log, worker):
        inner = child(Supervisor, [worker("b"), worker("c")])
        outer = Supervisor.start_link([worker("a"), inner])
        processes = system.processes()
        assert len(processes) == 5
        ends = [gone(ref) for ref in processes]
        exit(outer, "kill")
        assert all(end.wait(DEADLINE) for end in ends)
        assert sorted(log.rest()) == ["+ a", "+ b", "+ c", "- a", "- b", "- c"]

    @pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, "tired"])
    def test_a_supervisor_dies_of_what_its_parent_died_of(self, log, worker, reason):
        parent = Worker.start(log, "p")
        sup = parent.ask(lambda self: Supervisor.start_link([worker("a")]))
        ended = gone(sup)
        parent.stop(reason=reason)
        assert ended.wait(DEADLINE)
        assert log.rest() == ["+ p", "+ a", "- p", "- a"]
        assert sup.exit_reason == reason

    def test_strangers_do_not_disturb_a_supervisor(self, log, worker):
        sup = Supervisor.start_link([worker("a")])
        stranger = Worker.start(log, "s")
        stranger.ask(lambda self: self.link(sup))
        ended = gone(stranger)
        stranger.tell(crash)
        assert ended.wait(DEADLINE)
        assert sup.count_children().active == 1


class TestAutoShutdown:
    def test_the_last_significant_child_takes_the_supervisor_along(self, log, worker):
        job = {"restart": "transient", "significant": True}
        sup = Supervisor.start_link(
            [worker("a"), worker("j", **job), worker("k", **job)], auto_shutdown="all_significant"
        )
        ended = gone(sup)
        refs = [ref_of(sup, id) for id in "jk"]
        refs[0].stop()
        assert sup.count_children().active == 2
        refs[1].stop()
        assert ended.wait(DEADLINE)
        assert sup.exit_reason is SHUTDOWN
        assert log.rest() == ["+ a", "+ j", "+ k", "- j", "- k", "- a"]

    def test_a_significant_supervisor_passes_it_on(self, system, worker):
        job = worker("j", restart="temporary", significant=True)
        inner = child(Supervisor, [job], auto_shutdown="any_significant", name="inner")
        outer = Supervisor.start_link(
            [inner.replace(restart="transient", significant=True)], auto_shutdown="any_significant"
        )
        ended = gone(outer)
        ref_of(system.whereis("inner"), "j").stop()
        assert ended.wait(DEADLINE)


class TestStartFunctions:
    def start(self, function, **fields):
        return Supervisor.start_link([]).start_child(ChildSpec(id="f", start=function, **fields))

    def test_may_return_a_ref_or_a_ref_and_info_or_ignore(self, log):
        assert self.start(lambda: Worker.start_link(log, "a")).ask(1) == 1
        ref, info = self.start(lambda: (Worker.start_link(log, "a"), "info"))
        assert (ref.ask(2), info) == (2, "info")
        assert self.start(lambda: IGNORE) is None

    def test_get_their_arguments(self, log):
        ref = self.start(
            lambda *args, **kwargs: Worker.start_link(log, (args, kwargs)), args=(1,), kwargs={"b": 2}
        )
        assert ref.ask(lambda self: self.id) == ((1,), {"b": 2})

    def test_the_child_is_the_supervisors_own_from_the_start(self, log):
        sup = Supervisor.start_link([ChildSpec(id="f", start=lambda: Worker.start_link(log, "a"))])
        old = ref_of(sup, "f")
        assert old.parent is sup
        old.tell(crash)
        assert log.take(3) == ["+ a", "- a", "+ a"]
        sup.stop()
        assert log.take(1) == ["- a"]

    def test_a_child_that_was_not_linked_is_taken_over(self, log):
        sup = Supervisor.start_link([ChildSpec(id="f", start=lambda: Worker.start(log, "a"))])
        ref_of(sup, "f").tell(crash)
        assert log.take(3) == ["+ a", "- a", "+ a"]
        sup.stop()
        assert log.take(1) == ["- a"]

    def test_whatever_else_they_return_is_an_error_and_the_reason(self):
        with pytest.raises(StartError) as caught:
            self.start(lambda: 42)
        assert caught.value.reason == 42

    def test_what_they_raise_is_the_reason(self, log):
        with pytest.raises(StartError) as caught:
            self.start(lambda: 1 / 0)
        assert isinstance(caught.value.reason.exc, ZeroDivisionError)
        with pytest.raises(StartError) as caught:
            self.start(lambda: Worker.start_link(log, "a", ValueError("no")))
        assert isinstance(caught.value.reason.exc, ValueError)

    def test_a_taken_name_comes_unwrapped(self, log):
        other = Worker.start(log, "x", name="me")
        with pytest.raises(AlreadyStarted) as caught:
            self.start(lambda: Worker.start_link(log, "y", name="me"))
        assert caught.value.ref is other

    def test_a_child_that_died_before_it_was_handed_over_is_restarted(self, log):
        def start():
            ref = Worker.start_link(log, "a")
            if started:
                return ref
            started.append(1)
            exit(ref, "kill")
            return ref

        started = []
        sup = Supervisor.start_link([ChildSpec(id="f", start=start)])
        assert log.take(2) == ["+ a", "+ a"]
        assert ref_of(sup, "f").is_alive()

    def test_a_start_that_takes_too_long_fails(self, system):
        may = threading.Event()
        sup = Supervisor.start_link([])
        with pytest.raises(StartError) as caught:
            sup.start_child(child(Slow, may).replace(start_timeout=0.02))
        assert caught.value.reason == START_TIMEOUT
        with pytest.raises(StartError) as caught:
            sup.start_child(ChildSpec(id="f", start=lambda: Slow.start_link(may), start_timeout=0.02))
        assert caught.value.reason == START_TIMEOUT
        assert system.processes() == [sup]
        may.set()

    def test_what_a_failing_function_has_started_is_not_left_behind(self, system, log):
        def start():
            Worker.start_link(log, "half", name="half")
            raise ValueError("no")

        sup = Supervisor.start_link([])
        with pytest.raises(StartError, match="no"):
            sup.start_child(ChildSpec(id="f", start=start))
        assert system.whereis("half") is None
        assert sup.count_children().specs == 0

    def test_a_function_that_was_given_up_cannot_start_anything_any_more(self, system, log):
        may, over = threading.Event(), threading.Event()

        def start():
            may.wait(DEADLINE)
            try:
                return Worker.start_link(log, "late")
            finally:
                over.set()

        sup = Supervisor.start_link([])
        with pytest.raises(StartError):
            sup.start_child(ChildSpec(id="f", start=start, start_timeout=0.02))
        may.set()
        assert over.wait(DEADLINE)
        assert (log.rest(), system.processes()) == ([], [sup])

    def test_a_slow_function_does_not_keep_the_supervisor_from_being_looked_after(self, log):
        may = threading.Event()
        sup = Supervisor.start_link([])
        spec = ChildSpec(id="f", start=lambda: may.wait(DEADLINE) and Worker.start_link(log, "a"))
        start = sup.ask(Request("start_child", (spec,)), block=False)
        stopped = sup.stop(block=False)
        may.set()
        assert start.get(timeout=DEADLINE) is not None
        assert stopped.get(timeout=DEADLINE)
        assert log.rest() == ["+ a", "- a"]


class Plain(pykka.ThreadingActor):
    """Knows nothing of supervision."""

    def __init__(self, log, fails=False):
        super().__init__()
        self.log = log
        self.fails = fails

    def on_start(self):
        if self.fails:
            raise ValueError("no")
        self.log.add("+ plain")

    def on_stop(self):
        self.log.add("- plain")

    def on_receive(self, message):
        if message == "crash":
            raise RuntimeError("as told")
        return message


class TestPlainActors:
    def test_are_restarted_and_stopped_like_any_child(self, log):
        sup = Supervisor.start_link([child(Plain, log)])
        old = ref_of(sup, Plain)
        assert old.ask("alive") == "alive"
        old.tell("crash")
        assert log.take(2) == ["+ plain", "+ plain"]
        assert ref_of(sup, Plain) is not old
        sup.stop()
        assert log.take(1) == ["- plain"]

    def test_a_failed_on_start_is_a_failed_start(self, log):
        with pytest.raises(StartError):
            Supervisor.start_link([]).start_child(child(Plain, log, fails=True))


def test_the_tree_can_be_drawn_while_somebody_is_busy(system, log, worker):
    may, entered = threading.Event(), threading.Event()
    inner = child(Supervisor, [worker("a")], name="inner")
    sup = Supervisor.start_link([inner, worker("b"), child(DynamicSupervisor, name="dyn")], name="top")
    system.whereis("inner").ask(Request("start_child", (child(Slow, may, entered),)), block=False)
    assert entered.wait(DEADLINE)
    sup.terminate_child("b")
    drawn = tree(sup, timeout=0.05)
    may.set()
    number = sup.number
    assert drawn.splitlines() == [
        f"Supervisor#{number} 'top' supervisor running",
        f"├─ 'inner': Supervisor#{number + 1} 'inner' supervisor running",
        "│  └─ (busy: no answer in time)",
        "├─ 'b': Worker worker stopped",
        f"└─ 'dyn': DynamicSupervisor#{number + 4} 'dyn' supervisor running",
    ]
    assert "a" in tree(system)
