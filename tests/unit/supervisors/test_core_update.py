"""Hot change: new flags and specs for a running supervisor."""

import pytest

from supervisors.core.static import StaticChildren
from supervisors.core.steps import Stop
from supervisors.errors import BadSpec
from supervisors.reasons import NORMAL, SHUTDOWN
from supervisors.spec import Flags
from tests.unit.supervisors.world import FAIL, World, spec


@pytest.fixture
def world():
    return World()


@pytest.fixture
def children(world):
    children = StaticChildren(Flags(max_restarts=3), [spec("a"), spec("b"), spec("c")])
    world.run(children.start_all())
    world.take()
    return children


def lines(children):
    return [(child.id, child.ref) for child in children.which_children()]


def test_known_children_keep_running_with_their_new_spec(world, children):
    children.update(Flags(), [spec("a", restart="transient"), spec("b", shutdown="brutal_kill"), spec("c")])
    assert world.take() == ""
    world.run(children.exited("a1", NORMAL, 0.0))
    world.run(children.terminate_child("b"))
    assert world.take() == "kill:b1"
    assert lines(children) == [("a", None), ("b", None), ("c", "c1")]


def test_new_children_are_added_and_not_started(world, children):
    children.update(Flags(), [spec("a"), spec("b"), spec("c"), spec("d")])
    assert lines(children)[-1] == ("d", None)
    assert world.run(children.restart_child("d")) == "d1"


def test_the_new_order_counts_and_children_not_mentioned_stay_behind_it(world, children):
    children.update(Flags(), [spec("d"), spec("b")])
    assert lines(children) == [("d", None), ("b", "b1"), ("a", "a1"), ("c", "c1")]
    world.run(children.stop_all())
    assert world.take() == "-c1 -a1 -b1"


def test_a_new_strategy_applies_at_once(world, children):
    children.update(Flags(strategy="one_for_all"), [spec("a"), spec("b"), spec("c")])
    world.run(children.exited("b1", "crash", 0.0))
    assert world.take() == "-c1 -a1 +a2 +b2 +c2"


def test_a_new_intensity_applies_at_once_to_the_restarts_there_were(world, children):
    world.run(children.exited("a1", "crash", 0.0))
    world.run(children.exited("a2", "crash", 0.0))
    children.update(Flags(max_restarts=2), [])
    assert world.run(children.exited("a3", "crash", 0.0)) == Stop(SHUTDOWN)


def test_a_new_period_applies_at_once_to_the_restarts_there_were(world, children):
    for n in range(1, 4):
        world.run(children.exited(f"a{n}", "crash", float(n)))
    children.update(Flags(max_restarts=3, max_seconds=100.0), [])
    assert world.run(children.exited("a4", "crash", 50.0)) == Stop(SHUTDOWN)


def test_a_new_auto_shutdown_applies_at_once(world, children):
    children.update(
        Flags(auto_shutdown="any_significant"), [spec("b", restart="transient", significant=True)]
    )
    assert world.run(children.exited("b1", NORMAL, 0.0)) == Stop(SHUTDOWN)


def test_of_the_new_significant_children_only_those_that_run_keep_all_alive(world, children):
    world.run(children.terminate_child("a"))
    keys = [spec(id, restart="transient", significant=True) for id in "abd"]
    children.update(Flags(auto_shutdown="all_significant"), keys)
    assert world.run(children.exited("b1", NORMAL, 0.0)) == Stop(SHUTDOWN)


def test_children_that_are_not_mentioned_are_kept_running_or_not(world, children):
    world.run(children.terminate_child("b"))
    children.update(Flags(), [])
    assert lines(children) == [("a", "a1"), ("b", None), ("c", "c1")]
    world.run(children.exited("a1", "crash", 0.0))
    assert world.run(children.restart_child("b")) == "b2"
    assert lines(children) == [("a", "a2"), ("b", "b2"), ("c", "c1")]


def test_a_restarting_child_goes_on_restarting(world, children):
    world.scripts["a"].append(FAIL)
    world.run(children.exited("a1", "crash", 0.0))
    children.update(Flags(), [spec("a")])
    world.run(children.retry(world.retries[0], 0.0))
    assert lines(children)[0] == ("a", "a2")


def test_an_error_leaves_everything_as_it_was(world, children):
    before = lines(children)
    for flags, specs in [
        (Flags(max_seconds=0), []),
        (Flags(strategy="one_for_all"), [spec("x"), spec("x")]),
        (Flags(strategy="one_for_all"), [spec("a", shutdown=-1)]),
    ]:
        with pytest.raises(BadSpec):
            children.update(flags, specs)
    assert lines(children) == before
    world.run(children.exited("b1", "crash", 0.0))
    assert world.take() == "+b2"


def test_a_running_child_made_temporary_loses_its_arguments(world, children):
    children.update(
        Flags(), [spec("a", restart="temporary", args=(1,)), spec("n", restart="temporary", args=(1,))]
    )
    assert children.get_childspec("a").args == ()
    assert children.get_childspec("n").args == (1,)


def test_any_other_running_child_is_restarted_with_its_new_arguments(world, children):
    children.update(Flags(), [spec("a", args=(1,)), spec("b", restart="transient", args=(2,))])
    world.specs.clear()
    for ref in ("a1", "b1"):
        world.run(children.exited(ref, "crash", 0.0))
    assert [started.args for started in world.specs] == [(1,), (2,)]


def test_a_restarting_child_that_becomes_temporary_is_not_restarted(world, children):
    world.scripts["b"].append(FAIL)
    world.run(children.exited("b1", "crash", 0.0))
    world.take()
    children.update(
        Flags(strategy="one_for_all"), [spec("a"), spec("b", restart="temporary", args=(1,)), spec("c")]
    )
    assert lines(children) == [("a", "a1"), ("b", None), ("c", "c1")]
    world.run(children.retry(world.retries[0], 0.0))
    assert world.take() == ""  # and its siblings have nothing to do with it
    assert children.get_childspec("b").args == (1,)
    assert world.run(children.restart_child("b")) == "b2"
