"""Children that come and go, keyed by ref."""

import contextlib
import math

import pytest

from supervisors.core.dynamic import DynamicChildren
from supervisors.core.entry import RESTARTING, Entry
from supervisors.core.steps import Report, Start, Started, StartFailed, Stop
from supervisors.errors import AlreadyStarted, BadSpec, MaxChildren, NotFound, StartError
from supervisors.reasons import KILLED, NORMAL, SHUTDOWN, Crash, Shutdown
from supervisors.spec import Backoff, DynamicFlags
from tests.unit.supervisors.world import FAIL, IGNORE, World, spec


@pytest.fixture
def world():
    return World()


def dynamic(**flags):
    return DynamicChildren(DynamicFlags(**{"max_restarts": 100} | flags))


def refs(children):
    return [child.ref for child in children.which_children()]


def start(world, children, id="a", **fields):
    return world.run(children.start_child(spec(id, **fields)))


class TestStarting:
    def test_there_are_no_children_at_first(self, world):
        children = dynamic()
        assert world.run(children.start_all()) is None
        assert children.which_children() == []

    def test_ids_do_not_matter(self, world):
        children = dynamic()
        assert [start(world, children), start(world, children)] == ["a1", "a2"]
        assert children.which_children() == [(None, "a1", "worker"), (None, "a2", "worker")]

    def test_info_comes_with_the_ref(self, world):
        world.scripts["a"].append(Started("a1", "info"))
        assert start(world, dynamic()) == ("a1", "info")

    def test_ignore_keeps_nothing(self, world):
        children = dynamic()
        world.scripts["a"].append(IGNORE)
        assert (start(world, children), refs(children)) == (None, [])

    def test_a_failed_start_keeps_nothing_and_tells_no_spec(self, world):
        children = dynamic()
        world.scripts["a"].append(FAIL)
        with pytest.raises(StartError) as caught:
            start(world, children)
        assert (caught.value.reason, caught.value.spec, refs(children)) == ("boom", None, [])
        assert world.take_reports() == [("start_error", "a", "boom")]

    @pytest.mark.parametrize("wrap", [lambda error: error, Crash])
    def test_a_taken_name_is_passed_on_as_it_is(self, world, wrap):
        taken = AlreadyStarted("elsewhere")
        world.scripts["a"].append(StartFailed(wrap(taken)))
        with pytest.raises(AlreadyStarted) as caught:
            start(world, dynamic())
        assert caught.value is taken

    def test_bad_and_significant_specs_are_refused(self, world):
        for fields in ({"shutdown": -1}, {"restart": "transient", "significant": True}):
            with pytest.raises(BadSpec):
                start(world, dynamic(), **fields)

    def test_extra_arguments_come_first_also_at_a_restart(self, world):
        children = dynamic(extra_args=("x", "y"))
        start(world, children, args=("z",))
        world.run(children.exited("a1", "crash", 0.0))
        assert [s.args for s in world.specs] == [("x", "y", "z")] * 2

    def test_a_child_is_told_how_often_it_was_started_before(self, world):
        children = dynamic()
        for _ in range(2):
            start(world, children)
        world.run(children.exited("a1", "crash", 0.0))
        world.run(children.exited("a3", "crash", 0.0))
        assert world.incarnations == [("a", 0), ("a", 0), ("a", 1), ("a", 2)]

    def test_a_start_function_may_give_the_process_that_it_gave_before(self, world):
        children = dynamic()
        start(world, children)
        world.scripts["a"].append(Started("a1"))
        world.run(children.exited("a1", "crash", 0.0))
        assert refs(children) == ["a1"]

    def test_arguments_of_a_temporary_child_are_not_kept(self, world):
        children = dynamic()
        start(world, children, restart="temporary", args=("huge",))
        (entry,) = children._entries.values()
        assert entry.spec.args == ()


class TestLimit:
    def test_a_full_supervisor_refuses(self, world):
        children = dynamic(max_children=1)
        start(world, children)
        with pytest.raises(MaxChildren):
            start(world, children)

    def test_zero_refuses_all(self, world):
        with pytest.raises(MaxChildren):
            start(world, dynamic(max_children=0))

    def test_a_restarting_child_counts(self, world):
        children = dynamic(max_children=1)
        start(world, children)
        world.scripts["a"].append(FAIL)
        world.run(children.exited("a1", "crash", 0.0))
        with pytest.raises(MaxChildren):
            start(world, children)

    def test_a_child_that_ended_makes_room_and_so_does_ignore(self, world):
        children = dynamic(max_children=1)
        world.scripts["a"].append(IGNORE)
        start(world, children)
        start(world, children, restart="transient")
        world.run(children.exited("a1", NORMAL, 0.0))
        assert start(world, children) == "a2"

    def test_a_lower_limit_keeps_the_children_and_refuses_new_ones(self, world):
        children = dynamic()
        start(world, children)
        start(world, children)
        children.update(DynamicFlags(max_children=1))
        assert refs(children) == ["a1", "a2"]
        with pytest.raises(MaxChildren):
            start(world, children)

    def test_an_invalid_change_changes_nothing(self, world):
        children = dynamic()
        with pytest.raises(BadSpec):
            children.update(DynamicFlags(max_children=-1))
        start(world, children)


class TestExits:
    def test_a_permanent_child_gets_a_new_ref(self, world):
        children = dynamic()
        start(world, children)
        assert world.run(children.exited("a1", NORMAL, 0.0)) is None
        assert refs(children) == ["a2"]
        assert world.take_reports() == [("child_terminated", "a", NORMAL)]

    def test_a_clean_transient_or_any_temporary_end_is_forgotten(self, world):
        children = dynamic()
        start(world, children, restart="transient")
        start(world, children, restart="temporary")
        world.run(children.exited("a1", Shutdown("x"), 0.0))
        world.run(children.exited("a2", "crash", 0.0))
        assert refs(children) == []
        assert world.take_reports() == [("child_terminated", "a", "crash")]

    def test_each_child_shows_how_often_it_was_restarted(self, world):
        children = dynamic()
        start(world, children)
        start(world, children, "b")
        for ref in ("a1", "a2"):
            world.run(children.exited(ref, "crash", 0.0))
        assert {view.ref: (view.id, view.state, view.restarts) for view in children.views()} == {
            "a3": (None, "running", 2),
            "b1": (None, "running", 0),
        }

    def test_a_transient_child_that_failed_gets_a_new_ref(self, world):
        children = dynamic()
        start(world, children, restart="transient")
        world.run(children.exited("a1", "crash", 0.0))
        assert refs(children) == ["a2"]
        assert world.take_reports() == [("child_terminated", "a", "crash")]

    def test_a_clean_end_of_a_temporary_child_is_not_worth_a_report(self, world):
        children = dynamic()
        start(world, children, restart="temporary")
        world.run(children.exited("a1", NORMAL, 0.0))
        assert (refs(children), world.take_reports()) == ([], [])

    def test_ignore_at_a_restart_drops_the_child(self, world):
        children = dynamic()
        start(world, children)
        world.scripts["a"].append(IGNORE)
        world.run(children.exited("a1", "crash", 0.0))
        assert children.which_children() == []

    def test_too_many_restarts_end_the_supervisor(self, world):
        children = dynamic(max_restarts=1)
        start(world, children)
        assert world.run(children.exited("a1", "crash", 0.0)) is None
        assert world.run(children.exited("a2", "crash", 0.0)) == Stop(SHUTDOWN)
        assert refs(children) == []
        assert world.take_reports()[2:] == [("reached_max_restart_intensity", "a", SHUTDOWN)]

    def test_a_new_intensity_applies_at_once_to_the_restarts_there_were(self, world):
        children = dynamic()
        start(world, children)
        for n in range(1, 3):
            world.run(children.exited(f"a{n}", "crash", 0.0))
        children.update(DynamicFlags(max_restarts=2))
        assert world.run(children.exited("a3", "crash", 0.0)) == Stop(SHUTDOWN)

    def test_a_child_whose_restart_is_one_too_many_is_dropped_and_the_others_are_stopped_together(
        self, world
    ):
        children = dynamic(max_restarts=0)
        start(world, children)
        start(world, children, "b")
        assert world.run(children.exited("a1", "crash", 0.0)) == Stop(SHUTDOWN)
        world.take()
        world.run(children.stop_all())
        assert (world.take(), refs(children)) == ("-b1", [])

    def test_strangers_and_old_refs_are_ignored(self, world):
        children = dynamic()
        start(world, children)
        world.run(children.exited("a1", "crash", 0.0))
        world.run(children.exited("a1", "crash", 0.0))
        world.run(children.exited("x", "crash", 0.0))
        assert refs(children) == ["a2"]


class TestRestarting:
    @pytest.fixture
    def children(self, world):
        children = dynamic()
        start(world, children)
        world.scripts["a"].append(FAIL)
        world.run(children.exited("a1", "crash", 0.0))
        return children

    def test_shows_and_is_not_active(self, children):
        assert refs(children) == [RESTARTING] == ["restarting"]
        assert [(view.state, view.ref) for view in children.views()] == [("restarting", None)]
        assert children.count_children(lambda ref: True) == (1, 0, 0, 1)
        assert children.refs() == []

    def test_a_retry_gives_it_a_new_ref(self, world, children):
        world.run(children.retry(world.retries[0], 0.0))
        assert refs(children) == ["a2"]

    def test_the_old_ref_still_stops_it(self, world, children):
        world.take()
        world.run(children.terminate_child("a1"))
        world.run(children.retry(world.retries[0], 0.0))
        assert (world.take(), refs(children)) == ("", [])

    def test_its_last_life_ends_once(self, world, children):
        assert world.run(children.exited("a1", "crash", 0.0)) is None
        assert world.take_reports() == [("child_terminated", "a", "crash"), ("start_error", "a", "boom")]
        assert (refs(children), len(world.retries)) == ([RESTARTING], 1)

    def test_an_attempt_is_made_once(self, world, children):
        world.scripts["a"].append(FAIL)
        for _ in range(2):
            world.run(children.retry(world.retries[0], 0.0))
        assert len(world.retries) == 2
        assert refs(children) == [RESTARTING]

    def test_ignore_at_a_retry_drops_it(self, world, children):
        world.scripts["a"].append(IGNORE)
        world.run(children.retry(world.retries[0], 0.0))
        assert refs(children) == []

    def test_backoff_waits_between_attempts(self, world):
        children = dynamic()
        start(world, children, backoff=Backoff(min=1.0))
        world.run(children.exited("a1", "crash", 0.0))
        assert (refs(children), world.delays) == ([RESTARTING], [1.0])
        world.run(children.retry(world.retries[0], 0.0))
        assert refs(children) == ["a2"]

    def test_backoff_grows_until_the_child_has_run_for_long_enough(self, world):
        children = dynamic()
        world.now = 100.0
        start(world, children, backoff=Backoff(min=1.0, max=10.0, reset_after=5.0))
        for ref, now in (("a1", 101.0), ("a2", 102.0), ("a3", 110.0)):
            world.now = now
            world.run(children.exited(ref, "crash", now))
            world.run(children.retry(world.retries[-1], now))
        assert world.delays == [1.0, 2.0, 1.0]


class TestANameThatIsTakenMeanwhile:
    @pytest.mark.parametrize("wrap", [lambda error: error, Crash])
    def test_by_another_child_the_one_that_was_to_be_restarted_is_forgotten(self, world, wrap):
        children = dynamic(max_restarts=1)
        start(world, children, backoff=Backoff())
        world.run(children.exited("a1", "crash", 0.0))
        start(world, children)
        world.scripts["a"].append(StartFailed(wrap(AlreadyStarted("a2"))))
        assert world.run(children.retry(world.retries.pop(), 0.0)) is None
        assert (refs(children), world.retries) == (["a2"], [])
        assert world.take_reports() == [("child_terminated", "a", "crash")]

    @pytest.mark.parametrize("owner", ["elsewhere", "a1", None])
    def test_by_a_stranger_or_its_own_last_life_it_is_tried_again(self, world, owner):
        children = dynamic()
        start(world, children)
        world.scripts["a"].append(StartFailed(AlreadyStarted(owner)))
        world.run(children.exited("a1", "crash", 0.0))
        assert refs(children) == [RESTARTING]
        world.run(children.retry(world.retries.pop(), 0.0))
        assert refs(children) == ["a2"]


class TestStopping:
    def test_terminate_by_ref_stops_and_forgets(self, world):
        children = dynamic()
        start(world, children)
        world.run(children.terminate_child("a1"))
        assert (world.take(), refs(children)) == ("+a1 -a1", [])

    @pytest.mark.parametrize("ref", ["a", "a1", ["unhashable"]])
    def test_an_unknown_or_old_ref_is_not_found(self, world, ref):
        children = dynamic()
        start(world, children)
        world.run(children.exited("a1", "crash", 0.0))
        with pytest.raises(NotFound):
            world.run(children.terminate_child(ref))

    def test_all_are_asked_before_any_is_waited_for(self, world):
        children = dynamic()
        for id, shutdown in (("a", math.inf), ("b", 1.0), ("c", "brutal_kill"), ("d", 2.0)):
            start(world, children, id, shutdown=shutdown)
        world.stubborn.update({"b1", "d1"})
        world.take()
        world.run(children.stop_all())
        assert world.take() == "-a1 ask:b1 kill:c1 ask:d1 kill:b1 kill:d1"
        assert refs(children) == []

    def test_who_has_the_least_time_is_waited_for_first(self, world):
        children = dynamic()
        start(world, children, "slow", shutdown=60.0)
        start(world, children, "quick", shutdown=1.0)
        world.stubborn.update({"slow1", "quick1"})
        world.take()
        world.run(children.stop_all())
        assert world.take() == "ask:slow1 ask:quick1 kill:quick1 kill:slow1"

    def test_a_clean_shutdown_reason_of_a_permanent_child_is_fine(self, world):
        children = dynamic()
        start(world, children, "a")
        start(world, children, "b")
        world.deaths.update(a1=Shutdown("x"), b1=NORMAL)
        world.run(children.stop_all())
        assert world.take_reports() == [("shutdown_error", "b", NORMAL)]

    def test_a_death_that_was_asked_for_is_not_worth_a_report(self, world):
        children = dynamic()
        start(world, children, "a", shutdown="brutal_kill")
        start(world, children, "b", restart="transient")
        start(world, children, "c", shutdown=1.0)
        world.deaths["b1"] = NORMAL
        world.stubborn.add("c1")
        world.run(children.stop_all())
        assert world.take_reports() == [("shutdown_error", "c", KILLED)]

    def test_counts_are_of_children(self, world):
        children = dynamic()
        start(world, children)
        start(world, children, type="supervisor")
        assert children.count_children(lambda ref: ref == "a1") == (2, 1, 1, 1)


class TestChildrenThatAreTakenIn:
    def test_they_are_listed_and_counted(self, world):
        children = dynamic(max_children=1)
        children.take_in(spec("a", restart="temporary"), "r1")
        assert refs(children) == ["r1"]
        with pytest.raises(MaxChildren):
            children.take_in(spec("a", restart="temporary"), "r2")

    def test_there_is_no_room_for_them_while_the_last_child_is_starting(self, world):
        children = dynamic(max_children=1)
        world.hold = True
        answers = []
        world.turns.run(children.start_child(spec("a")), lambda *answer: answers.append(answer))
        with pytest.raises(MaxChildren):
            children.take_in(spec("b", restart="temporary"), "r1")
        world.turns.answer(world.held, Started("a1"))
        assert (answers, refs(children)) == ([("a1", None)], ["a1"])
        with pytest.raises(MaxChildren):
            children.take_in(spec("b", restart="temporary"), "r1")

    def test_a_child_whose_starter_does_not_know_it_yet_has_one_place(self):
        children = dynamic(max_children=2)
        operation = children.start_child(spec("a"))
        assert isinstance(operation.send(None), Start)
        assert isinstance(operation.send(Started("a1")), Report)
        children.take_in(spec("b", restart="temporary"), "r1")
        assert refs(children) == ["a1", "r1"]

    @pytest.mark.parametrize("outcome", [FAIL, IGNORE])
    def test_there_is_room_again_when_it_did_not_start(self, world, outcome):
        children = dynamic(max_children=1)
        world.scripts["a"].append(outcome)
        with contextlib.suppress(StartError):
            start(world, children)
        children.take_in(spec("b", restart="temporary"), "r1")
        assert refs(children) == ["r1"]

    def test_one_that_was_refused_is_no_child(self, world):
        children = dynamic(max_children=1)
        start(world, children)
        with pytest.raises(MaxChildren):
            children.take_in(spec("b", restart="temporary"), "r1")
        assert refs(children) == ["a1"]

    @pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, Shutdown("done")])
    def test_a_clean_end_of_a_temporary_one_asks_for_nothing(self, reason):
        children = dynamic()
        children.take_in(spec("a", restart="temporary"), "r1")
        assert children.forgets("r1", reason)
        assert refs(children) == []

    def test_any_other_end_has_to_be_told(self, world):
        children = dynamic()
        children.take_in(spec("a", restart="temporary"), "r1")
        b = start(world, children, "b", restart="transient")
        assert not children.forgets("r1", "boom")
        assert not children.forgets(b, NORMAL)
        assert not children.forgets("stranger", NORMAL)
        assert refs(children) == ["r1", b]

    def test_its_starter_may_forget_it_while_its_end_is_told(self):
        children = dynamic()
        children.take_in(spec("a", restart="temporary"), "r1")
        end = children.exited("r1", "interrupted", 1.0)
        assert next(end) == Report("child_terminated", "a", "r1", "interrupted")
        assert children.forgets("r1", SHUTDOWN)  # on the thread that Ctrl-C struck
        with pytest.raises(StopIteration):
            next(end)
        assert refs(children) == []

    @pytest.mark.parametrize(
        "look",
        [
            DynamicChildren.which_children,
            DynamicChildren.views,
            DynamicChildren.refs,
            lambda children: children.count_children(lambda ref: True),
        ],
        ids=["which_children", "views", "refs", "count_children"],
    )
    def test_one_that_comes_while_somebody_looks_disturbs_nobody(self, look):
        class Interrupted(Entry):
            """At each look at it another thread, which is this one here, starts a child."""

            def __getattribute__(self, name):
                children.take_in(spec("b", restart="temporary"), object())
                return super().__getattribute__(name)

        children = dynamic()
        children._entries["a1"] = Interrupted(spec("a"), "a1")
        look(children)
        assert len(refs(children)) > 1
