"""How a supervisor starts its children."""

import pytest

from supervisors.core.static import StaticChildren
from supervisors.core.steps import Report, Start, Started, Stop
from supervisors.errors import BadSpec, FailedToStart
from supervisors.reasons import Shutdown
from supervisors.spec import Flags
from tests.unit.supervisors.world import FAIL, IGNORE, World, spec


@pytest.fixture
def world():
    return World()


def test_children_start_in_order(world):
    children = StaticChildren(Flags(), [spec("a"), spec("b"), spec("c")])
    assert world.run(children.start_all()) is None
    assert world.take() == "+a1 +b1 +c1"


def test_a_child_that_runs_is_reported():
    start = StaticChildren(Flags(), [spec("a")]).start_all()
    assert isinstance(next(start), Start)
    assert start.send(Started("a1")) == Report("child_started", "a", "a1")


def test_no_children_are_enough(world):
    assert world.run(StaticChildren(Flags(), []).start_all()) is None


def test_ignore_keeps_the_spec_and_goes_on(world):
    children = StaticChildren(Flags(), [spec("a"), spec("b", restart="transient"), spec("c")])
    world.scripts["a"].append(IGNORE)
    world.scripts["b"].append(IGNORE)
    assert world.run(children.start_all()) is None
    assert [(c.id, c.ref) for c in children.which_children()] == [("a", None), ("b", None), ("c", "c1")]


def test_ignore_of_a_temporary_child_drops_its_spec(world):
    children = StaticChildren(Flags(), [spec("a", restart="temporary"), spec("b")])
    world.scripts["a"].append(IGNORE)
    world.run(children.start_all())
    assert [c.id for c in children.which_children()] == ["b"]


def test_one_failure_is_final_and_stops_the_started_ones_in_reverse(world):
    children = StaticChildren(Flags(), [spec("a"), spec("b"), spec("c"), spec("d")])
    world.scripts["c"].append(FAIL)
    assert world.run(children.start_all()) == Stop(Shutdown(FailedToStart("c", "boom")))
    assert world.take() == "+a1 +b1 +c! -b1 -a1"
    assert world.take_reports() == [("start_error", "c", "boom")]
    assert world.retries == []


def test_a_rolled_back_child_gets_its_own_shutdown(world):
    children = StaticChildren(
        Flags(), [spec("a", shutdown="brutal_kill"), spec("b", shutdown=1.0), spec("c")]
    )
    world.scripts["c"].append(FAIL)
    world.stubborn.add("b1")
    world.run(children.start_all())
    assert world.take() == "+a1 +b1 +c! ask:b1 kill:b1 kill:a1"


def test_nothing_is_made_of_invalid_flags_or_specs():
    with pytest.raises(BadSpec):
        StaticChildren(Flags(max_restarts=-1), [])
    with pytest.raises(BadSpec):
        StaticChildren(Flags(), [spec("a"), spec("a")])
    with pytest.raises(BadSpec):
        StaticChildren(Flags(auto_shutdown="never"), [spec("a", restart="transient", significant=True)])


def test_start_arguments_of_a_temporary_child_are_not_kept_those_of_others_are(world):
    children = StaticChildren(Flags(), [spec("a", args=(1,), restart="temporary"), spec("b", args=(2,))])
    world.run(children.start_all())
    assert [s.args for s in world.specs] == [(1,), (2,)]
    assert (children.get_childspec("a").args, children.get_childspec("b").args) == ((), (2,))


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_arguments_of_temporary_children_stay_forgotten_after_a_first_death(world, strategy):
    children = StaticChildren(Flags(strategy=strategy), [])
    for id in ("t", "u"):
        world.run(children.start_child(spec(id, args=("huge",), restart="temporary")))
    world.run(children.exited("t1", "crash", 0.0))
    assert children.get_childspec("u").args == ()
    world.run(children.start_child(spec("v", args=("huge",), restart="temporary")))
    assert children.get_childspec("v").args == ()
