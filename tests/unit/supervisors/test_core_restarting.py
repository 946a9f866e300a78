"""The restarting state: an automatic restart whose start failed, and its retries through the supervisor's mailbox."""

import pytest

from supervisors.core.entry import RESTARTING
from supervisors.core.static import StaticChildren
from supervisors.core.steps import Stop
from supervisors.errors import AlreadyPresent, Restarting, StartError
from supervisors.reasons import SHUTDOWN
from supervisors.spec import Backoff, Flags
from tests.unit.supervisors.world import FAIL, IGNORE, World, spec


@pytest.fixture
def world():
    return World()


def restarting(world, strategy="one_for_one", failing="b", dying="b1", **flags):
    """Children a, b, c, one of which could not be restarted."""
    flags = Flags(**{"strategy": strategy, "max_restarts": 100} | flags)
    children = StaticChildren(flags, [spec("a"), spec("b"), spec("c")])
    world.run(children.start_all())
    world.scripts[failing].append(FAIL)
    world.run(children.exited(dying, "crash", 0.0))
    world.take()
    return children


def refs(children):
    return [child.ref for child in children.which_children()]


def test_a_failed_restart_is_reported_and_tried_again_later(world):
    children = restarting(world)
    assert refs(children) == ["a1", RESTARTING, "c1"]
    assert world.take_reports()[-1] == ("start_error", "b", "boom")
    assert len(world.retries) == 1
    world.run(children.retry(world.retries[0], 0.0))
    assert refs(children) == ["a1", "b2", "c1"]


def test_each_retry_counts_toward_the_intensity(world):
    children = restarting(world, max_restarts=3)
    world.scripts["b"].extend([FAIL] * 5)
    outcomes = [world.run(children.retry(world.retries[-1], 0.0)) for _ in range(3)]
    assert outcomes == [None, None, Stop(SHUTDOWN)]
    assert refs(children) == ["a1", None, "c1"]


def test_one_retry_is_enough_it_is_stale_afterwards(world):
    children = restarting(world)
    world.run(children.retry(world.retries[0], 0.0))
    world.take()
    world.run(children.retry(world.retries[0], 0.0))
    assert world.take() == ""


def test_a_restarting_child_is_not_active_and_is_present(world):
    children = restarting(world)
    assert children.count_children(lambda ref: True) == (3, 2, 0, 3)
    with pytest.raises(AlreadyPresent):
        world.run(children.start_child(spec("b")))
    with pytest.raises(Restarting):
        world.run(children.restart_child("b"))
    with pytest.raises(Restarting):
        children.delete_child("b")


def test_terminate_ends_it_and_the_pending_retry_does_nothing(world):
    children = restarting(world)
    world.run(children.terminate_child("b"))
    world.run(children.retry(world.retries[0], 0.0))
    assert (refs(children), world.take()) == (["a1", None, "c1"], "")
    assert world.run(children.restart_child("b")) == "b2"


def test_an_old_retry_does_not_speed_up_a_new_one(world):
    children = restarting(world)
    world.run(children.terminate_child("b"))
    world.run(children.restart_child("b"))
    world.scripts["b"].append(FAIL)
    world.run(children.exited("b2", "crash", 0.0))
    world.take()
    world.run(children.retry(world.retries[0], 0.0))
    assert world.take() == ""
    world.run(children.retry(world.retries[1], 0.0))
    assert world.take() == "+b3"


def test_ignore_at_a_retry_leaves_the_child_down(world):
    children = restarting(world)
    world.scripts["b"].append(IGNORE)
    world.run(children.retry(world.retries[0], 0.0))
    assert refs(children) == ["a1", None, "c1"]


def test_only_automatic_restarts_enter_it(world):
    children = StaticChildren(Flags(), [])
    world.scripts["a"].append(FAIL)
    with pytest.raises(StartError):
        world.run(children.start_child(spec("a")))
    world.run(children.start_child(spec("a")))
    world.run(children.terminate_child("a"))
    world.scripts["a"].append(FAIL)
    with pytest.raises(StartError):
        world.run(children.restart_child("a"))
    assert (world.retries, refs(children)) == ([], [None])


class TestInAGroup:
    def test_those_before_the_failed_one_run_those_after_stay_down(self, world):
        children = restarting(world, "one_for_all", failing="b", dying="c1")
        assert refs(children) == ["a2", RESTARTING, None]

    def test_a_retry_of_one_for_all_stops_everything_and_starts_from_the_first(self, world):
        children = restarting(world, "one_for_all", failing="b", dying="c1")
        world.run(children.retry(world.retries[0], 0.0))
        assert (world.take(), refs(children)) == ("-a2 +a3 +b2 +c2", ["a3", "b2", "c2"])

    def test_a_retry_of_rest_for_one_is_keyed_on_the_one_that_failed(self, world):
        children = restarting(world, "rest_for_one", failing="b", dying="a1")
        assert refs(children) == ["a2", RESTARTING, None]
        world.run(children.retry(world.retries[0], 0.0))
        assert (world.take(), refs(children)) == ("+b2 +c2", ["a2", "b2", "c2"])

    def test_after_terminate_the_ones_behind_stay_down_until_a_later_group_restart(self, world):
        children = restarting(world, "rest_for_one", failing="b", dying="a1")
        world.run(children.terminate_child("b"))
        world.run(children.retry(world.retries[0], 0.0))
        assert refs(children) == ["a2", None, None]
        world.take()
        world.run(children.exited("a2", "crash", 0.0))
        assert world.take() == "+a3 +b2 +c2"

    def test_another_group_restart_takes_a_restarting_child_along(self, world):
        children = restarting(world, "one_for_all", failing="b", dying="c1")
        world.run(children.exited("a2", "crash", 0.0))
        assert refs(children) == ["a3", "b2", "c2"]
        world.take()
        world.run(children.retry(world.retries[0], 0.0))
        assert world.take() == ""

    def test_another_group_restart_that_fails_earlier_leaves_only_that_child_restarting(self, world):
        children = restarting(world, "one_for_all", failing="b", dying="c1")
        world.scripts["a"].append(FAIL)
        world.run(children.exited("a2", "crash", 0.0))
        assert refs(children) == [RESTARTING, None, None]


class TestBackoff:
    def children(self, world, **backoff):
        patient = Backoff(**{"min": 1.0, "max": 10.0, "reset_after": 5.0} | backoff)
        children = StaticChildren(Flags(max_restarts=100), [spec("a", backoff=patient)])
        world.run(children.start_all())
        world.take()
        return children

    def test_the_restart_waits_and_the_child_is_restarting_meanwhile(self, world):
        children = self.children(world)
        world.run(children.exited("a1", "crash", 0.0))
        assert (world.take(), refs(children), world.delays) == ("", [RESTARTING], [1.0])
        world.run(children.retry(world.retries[0], 1.0))
        assert (world.take(), refs(children)) == ("+a2", ["a2"])

    def test_failing_again_and_again_waits_longer_and_longer(self, world):
        children = self.children(world)
        world.scripts["a"].extend([FAIL] * 4)
        world.run(children.exited("a1", "crash", 0.0))
        for n in range(4):
            world.run(children.retry(world.retries[n], 0.0))
        assert world.delays == [1.0, 2.0, 4.0, 8.0, 10.0]

    def test_dying_soon_after_a_restart_waits_longer_too(self, world):
        children = self.children(world)
        world.run(children.exited("a1", "crash", 4.9))
        world.now = 6.0
        world.run(children.retry(world.retries[0], 6.0))
        world.run(children.exited("a2", "crash", 7.0))
        assert world.delays == [1.0, 2.0]

    def test_some_health_makes_it_forget(self, world):
        children = self.children(world)
        world.run(children.exited("a1", "crash", 0.0))
        world.now = 1.0
        world.run(children.retry(world.retries[0], 1.0))
        world.run(children.exited("a2", "crash", 6.0))
        assert world.delays == [1.0, 1.0]

    def test_it_counts_when_the_attempt_is_made_so_slow_retries_never_give_up(self, world):
        patient = Backoff(min=6.0, max=6.0)
        children = StaticChildren(Flags(max_restarts=1, max_seconds=5.0), [spec("a", backoff=patient)])
        world.run(children.start_all())
        for n in range(1, 10):
            assert world.run(children.exited(f"a{n}", "crash", n * 6.0)) is None
            assert world.run(children.retry(world.retries[-1], n * 6.0)) is None
