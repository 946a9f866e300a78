"""Supervisors over real dispatchers: what the core decides is what happens."""

import pytest

from supervisors import (
    IGNORE,
    NORMAL,
    OK,
    SHUTDOWN,
    AlreadyPresent,
    AlreadyStarted,
    Backoff,
    BadSpec,
    FailedToStart,
    Flags,
    Restarting,
    Shutdown,
    StartError,
    Supervisor,
    child,
)
from tests.integration.supervisors.conftest import Worker
from tests.integration.supervisors.supervision.family import (
    DEADLINE,
    Event,
    always_failing_after,
    crash,
    eventually,
    failing_after,
    gone,
    lines,
    ref_of,
)


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
        with pytest.raises(StartError, match="must be a list"):
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
        assert eventually(lines(sup), [("a", None)])

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
        assert log.next() == "+ a"
        for _ in range(3):
            old = system.whereis("me")
            old.tell(crash)
            assert log.take(2) == ["- a", "+ a"]
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
        broken = Event()
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


@pytest.mark.real("a simulation is silent")
def test_giving_up_is_logged_as_what_it_is(log, worker, caplog):
    caplog.set_level("ERROR", logger="supervisors")
    sup = Supervisor.start([worker("a")], max_restarts=0)
    ref_of(sup, "a").tell(crash)
    assert sup.actor_stopped.wait(DEADLINE)
    said = [record.getMessage() for record in caplog.records]
    assert sum(line.startswith("reached_max_restart_intensity: ") for line in said) == 1
