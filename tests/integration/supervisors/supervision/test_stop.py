"""How trees end: in order, in time, and without orphans."""

import math

import pytest

from supervisors import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    Flags,
    Process,
    ProcessDown,
    Supervisor,
    child,
    exit,
)
from supervisors.supervisor import Request
from tests.integration.supervisors.conftest import Worker
from tests.integration.supervisors.supervision.family import (
    DEADLINE,
    Event,
    Slow,
    crash,
    eventually,
    gone,
    lines,
    ref_of,
)


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
    entered, let_go = Event(), Event()

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
        entered, may = Event(), Event()

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
        assert eventually(lambda: bool(ref.actor_inbox.control), True)
        may.set()
        assert stopped.get(timeout=DEADLINE)
        assert log.rest() == ["+ a", "- a"]

    @pytest.mark.parametrize("drains", [True, False])
    def test_what_a_supervisor_was_asked_before_it_was_told_to_end_is_done_if_it_drains(self, drains):
        may, entered = Event(), Event()

        class Shop(Supervisor):
            drain_on_shutdown = drains

        top = Supervisor.start_link([child(Shop, name="shop")])
        shop = ref_of(top, "shop")
        start = shop.ask(Request("start_child", (child(Slow, may, entered),)), block=False)
        assert entered.wait(DEADLINE)
        count = shop.ask(Request("count_children"), block=False)
        stopped = top.ask(Request("terminate_child", ("shop",)), block=False)
        stopping = shop.actor_inbox.owner.stopping
        assert eventually(stopping.is_set, True)
        assert eventually(lambda: len(shop.actor_inbox) + len(shop.actor_inbox.control or ()), 0)
        may.set()
        assert stopped.get(timeout=DEADLINE) is None
        assert start.get(timeout=DEADLINE).exit_reason is SHUTDOWN
        if drains:
            assert count.get(timeout=DEADLINE).active == 1
        else:
            with pytest.raises(ProcessDown):
                count.get(timeout=DEADLINE)

    def test_a_real_reason_is_reported_when_the_child_died_meanwhile(self, system, worker):
        seen = []
        sup = Supervisor.start_link([worker("a", restart="temporary")])
        system.reports.subscribe(seen.append)
        ended = gone(ref_of(sup, "a"))
        ref_of(sup, "a").tell(crash)
        assert ended.wait(DEADLINE)
        sup.stop()
        kinds = {report.kind for report in seen}
        assert kinds & {"child_terminated", "shutdown_error"}

    def test_what_is_asked_of_a_supervisor_that_stops_is_refused_once_and_not_done(self, system, log, worker):
        stopping, may = Event(), Event()

        class SlowToEnd(Worker):
            def terminate(self, reason):
                stopping.set()
                with self.blocking():
                    assert may.wait(DEADLINE)

        sup = Supervisor.start_link([child(SlowToEnd, log, "slow").replace(id="slow", shutdown=math.inf)])
        children = sup.actor_inbox.owner._children
        stopped = sup.stop(block=False)
        assert stopping.wait(DEADLINE)
        requests = [("start_child", (worker("a"),)), ("update", (Flags(), [worker("b")])), ("views", ())]
        answers = [sup.ask(Request(*request), block=False) for request in requests]
        may.set()
        assert stopped.get(timeout=DEADLINE)
        for answer in answers:
            with pytest.raises(ProcessDown):
                answer.get(timeout=DEADLINE)
        assert [answer.late for answer in answers] == [0, 0, 0]
        assert log.rest() == ["+ slow"]
        assert [line.id for line in children.which_children()] == ["slow"]
        assert system.processes() == []

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
        assert eventually(lines(outer), [("inner", None)])

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
