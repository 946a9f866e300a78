"""What the death of a child does, by restart type and strategy."""

import pytest

from supervisors.core.static import StaticChildren
from supervisors.core.steps import Stop
from supervisors.reasons import KILLED, NORMAL, SHUTDOWN, Shutdown
from supervisors.spec import Flags
from tests.unit.supervisors.world import FAIL, IGNORE, World, spec

CLEAN = [NORMAL, SHUTDOWN, Shutdown("done")]
STRATEGIES = ["one_for_one", "one_for_all", "rest_for_one"]


@pytest.fixture
def world():
    return World()


def started(world, *specs, **flags):
    children = StaticChildren(Flags(**{"max_restarts": 100} | flags), specs)
    world.run(children.start_all())
    world.take()
    return children


def ids(children):
    return [child.id for child in children.which_children()]


def refs(children):
    return [child.ref for child in children.which_children()]


class TestRestartTypes:
    @pytest.mark.parametrize("reason", [*CLEAN, KILLED, "crash"])
    def test_a_permanent_child_is_reported_and_restarted_whatever_its_reason(self, world, reason):
        children = started(world, spec("a"))
        assert world.run(children.exited("a1", reason, 0.0)) is None
        assert world.take() == "+a2"
        assert world.take_reports() == [("child_terminated", "a", reason)]

    @pytest.mark.parametrize("reason", CLEAN)
    def test_a_transient_child_that_ends_cleanly_stays_down_unreported_and_keeps_its_spec(
        self, world, reason
    ):
        children = started(world, spec("a", restart="transient"))
        assert world.run(children.exited("a1", reason, 0.0)) is None
        assert (world.take(), world.take_reports(), refs(children)) == ("", [], [None])

    @pytest.mark.parametrize("reason", [KILLED, "crash"])
    def test_a_transient_child_that_fails_is_restarted(self, world, reason):
        children = started(world, spec("a", restart="transient"))
        world.run(children.exited("a1", reason, 0.0))
        assert world.take() == "+a2"
        assert world.take_reports() == [("child_terminated", "a", reason)]

    @pytest.mark.parametrize("reason", [*CLEAN, KILLED, "crash"])
    def test_a_temporary_child_is_forgotten_and_reported_if_it_failed(self, world, reason):
        children = started(world, spec("a", restart="temporary"))
        world.run(children.exited("a1", reason, 0.0))
        assert (world.take(), ids(children)) == ("", [])
        assert world.take_reports() == ([] if reason in CLEAN else [("child_terminated", "a", reason)])

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_siblings_do_not_notice_a_transient_clean_end_or_any_temporary_end(self, world, strategy):
        children = started(
            world,
            spec("a"),
            spec("b", restart="transient"),
            spec("c", restart="temporary"),
            strategy=strategy,
        )
        world.run(children.exited("b1", NORMAL, 0.0))
        world.run(children.exited("c1", "crash", 0.0))
        assert (world.take(), refs(children)) == ("", ["a1", None])

    def test_a_transient_supervisor_that_gave_up_is_not_restarted(self, world):
        children = started(world, spec("s", restart="transient", type="supervisor"))
        world.run(children.exited("s1", SHUTDOWN, 0.0))
        assert (world.take(), refs(children)) == ("", [None])

    def test_a_stranger_is_ignored(self, world):
        children = started(world, spec("a"))
        assert world.run(children.exited("stranger", "crash", 0.0)) is None
        assert (world.take(), world.take_reports()) == ("", [])

    def test_the_exit_of_an_earlier_incarnation_is_ignored(self, world):
        children = started(world, spec("a"))
        world.run(children.exited("a1", "crash", 0.0))
        world.run(children.exited("a1", "crash", 0.0))
        assert (world.take(), refs(children)) == ("+a2", ["a2"])


class TestOneForOne:
    def test_only_the_dead_child_starts_again_in_its_place(self, world):
        children = started(world, spec("a"), spec("b"), spec("c"))
        world.run(children.exited("b1", "crash", 0.0))
        assert (world.take(), refs(children)) == ("+b2", ["a1", "b2", "c1"])

    def test_ignore_at_restart_leaves_the_child_down(self, world):
        children = started(world, spec("a"))
        world.scripts["a"].append(IGNORE)
        world.run(children.exited("a1", "crash", 0.0))
        assert refs(children) == [None]
        assert world.retries == []


class TestOneForAll:
    def test_all_others_stop_in_reverse_and_all_start_in_order(self, world):
        children = started(world, spec("a"), spec("b"), spec("c"), strategy="one_for_all")
        world.run(children.exited("b1", "crash", 0.0))
        assert world.take() == "-c1 -a1 +a2 +b2 +c2"
        assert refs(children) == ["a2", "b2", "c2"]

    def test_temporary_siblings_are_stopped_and_not_started_again(self, world):
        children = started(
            world, spec("a"), spec("t", restart="temporary"), spec("c"), strategy="one_for_all"
        )
        world.run(children.exited("a1", "crash", 0.0))
        assert (world.take(), ids(children)) == ("-c1 -t1 +a2 +c2", ["a", "c"])

    def test_children_that_were_down_for_any_reason_are_started_again(self, world):
        children = started(
            world, spec("a"), spec("b"), spec("c", restart="transient"), spec("d"), strategy="one_for_all"
        )
        world.run(children.terminate_child("b"))
        world.run(children.exited("c1", NORMAL, 0.0))
        world.take()
        world.run(children.exited("d1", "crash", 0.0))
        assert world.take() == "-a1 +a2 +b2 +c2 +d2"

    def test_a_child_that_ignored_before_is_started_again(self, world):
        world.scripts["a"].append(IGNORE)
        children = started(world, spec("a"), spec("b"), strategy="one_for_all")
        world.run(children.exited("b1", "crash", 0.0))
        assert world.take() == "+a1 +b2"

    def test_the_exits_of_stopped_siblings_are_stale(self, world):
        children = started(world, spec("a"), spec("b"), strategy="one_for_all")
        world.run(children.exited("b1", "crash", 0.0))
        world.run(children.exited("a1", SHUTDOWN, 0.0))
        assert world.take() == "-a1 +a2 +b2"


class TestRestForOne:
    def test_the_rest_stops_in_reverse_and_starts_in_order_those_before_stay(self, world):
        children = started(world, spec("a"), spec("b"), spec("c"), spec("d"), strategy="rest_for_one")
        world.run(children.exited("b1", "crash", 0.0))
        assert world.take() == "-d1 -c1 +b2 +c2 +d2"
        assert refs(children) == ["a1", "b2", "c2", "d2"]

    def test_the_last_child_is_alone(self, world):
        children = started(world, spec("a"), spec("b"), strategy="rest_for_one")
        world.run(children.exited("b1", "crash", 0.0))
        assert world.take() == "+b2"

    def test_a_child_started_later_is_in_the_rest_and_one_added_again_is_last(self, world):
        children = started(world, spec("a"), spec("b"), strategy="rest_for_one")
        world.run(children.start_child(spec("c")))
        world.run(children.terminate_child("a"))
        children.delete_child("a")
        world.run(children.start_child(spec("a")))
        assert ids(children) == ["b", "c", "a"]
        world.take()
        world.run(children.exited("c1", "crash", 0.0))
        assert world.take() == "-a2 +c2 +a3"

    def test_temporary_siblings_in_the_rest_are_dropped_those_before_it_stay(self, world):
        children = started(
            world,
            spec("s", restart="temporary"),
            spec("a"),
            spec("t", restart="temporary"),
            spec("c"),
            strategy="rest_for_one",
        )
        world.run(children.exited("a1", "crash", 0.0))
        assert (world.take(), refs(children)) == ("-c1 -t1 +a2 +c2", ["s1", "a2", "c2"])


class TestIntensity:
    def test_all_children_share_one_count_and_a_retry_is_one_more(self, world):
        children = started(world, spec("a"), spec("b"), max_restarts=2)
        world.scripts["a"].append(FAIL)
        assert world.run(children.exited("a1", "crash", 0.0)) is None
        assert world.run(children.retry(world.retries[0], 0.0)) is None
        assert world.run(children.exited("b1", "crash", 0.0)) == Stop(SHUTDOWN)

    def test_the_boundary_of_the_period_is_inside(self, world):
        children = started(world, spec("a"), max_restarts=1, max_seconds=5.0)
        assert world.run(children.exited("a1", "crash", 1.0)) is None
        assert world.run(children.exited("a2", "crash", 6.0)) == Stop(SHUTDOWN)

    def test_an_end_that_restarts_nobody_does_not_count(self, world):
        children = started(
            world, spec("t", restart="temporary"), spec("b", restart="transient"), spec("a"), max_restarts=1
        )
        world.run(children.exited("t1", "crash", 0.0))
        world.run(children.exited("b1", NORMAL, 0.0))
        assert world.run(children.exited("a1", "crash", 0.0)) is None

    def test_one_death_too_many_stops_the_supervisor_without_a_restart(self, world):
        children = started(world, spec("a"), spec("b"), max_restarts=1)
        assert world.run(children.exited("a1", "crash", 0.0)) is None
        world.take()
        world.take_reports()
        assert world.run(children.exited("b1", "crash", 1.0)) == Stop(SHUTDOWN)
        assert (world.take(), refs(children)) == ("", ["a2", None])
        assert world.take_reports()[-1] == ("reached_max_restart_intensity", "b", SHUTDOWN)

    def test_zero_gives_up_at_the_first_death_that_would_restart(self, world):
        children = started(world, spec("t", restart="temporary"), spec("a"), max_restarts=0)
        assert world.run(children.exited("t1", "crash", 0.0)) is None
        assert world.run(children.exited("a1", NORMAL, 0.0)) == Stop(SHUTDOWN)

    def test_deaths_far_apart_are_all_restarted(self, world):
        children = started(world, spec("a"), max_restarts=1, max_seconds=5.0)
        for n in range(1, 10):
            assert world.run(children.exited(f"a{n}", "crash", n * 5.1)) is None

    @pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
    def test_a_group_restart_counts_once(self, world, strategy):
        children = started(world, *[spec(i) for i in "abcdef"], strategy=strategy, max_restarts=1)
        assert world.run(children.exited("a1", "crash", 0.0)) is None
        assert world.run(children.exited("a2", "crash", 0.0)) == Stop(SHUTDOWN)

    def test_what_clients_ask_for_does_not_count(self, world):
        children = started(world, spec("a"), max_restarts=1)
        for _ in range(5):
            world.run(children.terminate_child("a"))
            world.run(children.restart_child("a"))
        world.run(children.start_child(spec("b")))
        assert world.run(children.exited("b1", "crash", 0.0)) is None


def test_each_incarnation_is_told_how_many_there_were(world):
    children = started(world, spec("a"), spec("b"))
    world.run(children.exited("a1", "crash", 0.0))
    world.run(children.terminate_child("a"))
    world.run(children.restart_child("a"))
    assert world.incarnations == [("a", 0), ("b", 0), ("a", 1), ("a", 2)]
