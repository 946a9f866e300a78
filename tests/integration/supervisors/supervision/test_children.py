"""What clients ask of supervisors, one at a time."""

import math

import pykka
import pytest

from supervisors import (
    AlreadyStarted,
    BadSpec,
    Deadlock,
    DynamicSupervisor,
    Flags,
    NotFound,
    Process,
    Running,
    StartError,
    Supervisor,
    SupervisorError,
    child,
    tree,
)
from supervisors.supervisor import Request
from tests.integration.supervisors.conftest import Worker
from tests.integration.supervisors.supervision.family import DEADLINE, Event, Slow, crash, gone, ref_of


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


class TestOneAtATime:
    def test_requests_wait_for_the_running_start_and_are_answered_in_order(self, worker):
        may, entered = Event(), Event()
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

    def test_while_the_children_start_requests_and_deaths_wait_in_one_line(self, system, log, worker):
        may, entered = Event(), Event()
        top = Supervisor.start_link([])
        shop = child(Supervisor, [worker("a"), child(Slow, may, entered)], name="shop")
        start = top.ask(Request("start_child", (shop,)), block=False)
        assert entered.wait(DEADLINE)
        sup = system.whereis("shop")
        late = sup.ask(Request("start_child", (worker("late"),)), block=False)
        first = sup.actor_inbox.owner._children.running("a")
        ended = gone(first)
        first.tell(crash)
        assert ended.wait(DEADLINE)
        may.set()
        assert start.get(timeout=DEADLINE) is sup
        assert late.get(timeout=DEADLINE).is_alive()
        assert ref_of(sup, "a").is_alive()
        assert log.rest() == ["+ a", "- a", "+ late", "+ a"]

    def test_many_supervisors_wait_at_once_without_threads_of_their_own(self, worker):
        may = Event()
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


def test_the_tree_can_be_drawn_while_somebody_is_busy(system, log, worker):
    may, entered = Event(), Event()
    inner = child(Supervisor, [worker("a")], name="inner")
    sup = Supervisor.start_link([inner, worker("b"), child(DynamicSupervisor, name="dyn")], name="top")
    system.whereis("inner").ask(Request("start_child", (child(Slow, may, entered),)), block=False)
    assert entered.wait(DEADLINE)
    sup.terminate_child("b")
    for patience in (0.05, 0.5, DEADLINE):  # on a busy machine others may be late
        drawn = tree(sup, timeout=patience)
        if len(drawn.splitlines()) == 5:
            break
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
