"""A supervisor that ends when its significant children have."""

import pytest

from supervisors.core.static import StaticChildren
from supervisors.core.steps import Stop
from supervisors.errors import BadSpec
from supervisors.reasons import NORMAL, SHUTDOWN
from supervisors.spec import Flags
from tests.unit.supervisors.world import FAIL, IGNORE, World, spec

END = Stop(SHUTDOWN)


@pytest.fixture
def world():
    return World()


def key(id, restart="transient"):
    return spec(id, restart=restart, significant=True)


def started(world, rule, *specs, **flags):
    children = StaticChildren(Flags(**{"auto_shutdown": rule, "max_restarts": 100} | flags), specs)
    world.run(children.start_all())
    return children


def test_any_ends_with_the_first_significant_child_that_ends_by_itself(world):
    children = started(world, "any_significant", key("a"), key("b"))
    assert world.run(children.exited("a1", NORMAL, 0.0)) == END


@pytest.mark.parametrize("reason", [NORMAL, "crash"])
def test_a_temporary_significant_child_counts_whatever_its_reason(world, reason):
    children = started(world, "any_significant", key("a", "temporary"))
    assert world.run(children.exited("a1", reason, 0.0)) == END


def test_a_significant_child_that_is_restarted_does_not(world):
    children = started(world, "any_significant", key("a"))
    assert world.run(children.exited("a1", "crash", 0.0)) is None


def test_an_ordinary_child_does_not(world):
    children = started(world, "any_significant", key("a"), spec("b", restart="transient"))
    assert world.run(children.exited("b1", NORMAL, 0.0)) is None


def test_all_ends_with_the_last_significant_child(world):
    children = started(world, "all_significant", key("a"), key("b", "temporary"), spec("c"))
    assert world.run(children.exited("b1", "crash", 0.0)) is None
    assert world.run(children.exited("a1", NORMAL, 0.0)) == END


def test_never_started_or_stopped_by_hand_does_not_keep_all_alive(world):
    world.scripts["c"].append(IGNORE)
    children = started(world, "all_significant", key("a"), key("b"), key("c"))
    world.run(children.terminate_child("b"))
    assert world.run(children.exited("a1", NORMAL, 0.0)) == END


def test_a_restarting_significant_child_keeps_all_alive(world):
    children = started(world, "all_significant", key("a"), key("b"))
    world.scripts["a"].append(FAIL)
    world.run(children.exited("a1", "crash", 0.0))
    assert world.run(children.exited("b1", NORMAL, 0.0)) is None
    world.run(children.retry(world.retries[0], 0.0))
    assert world.run(children.exited("a2", NORMAL, 0.0)) == END


def test_stopping_a_child_by_hand_never_fires(world):
    children = started(world, "any_significant", key("a"))
    assert world.run(children.terminate_child("a")) is None
    assert world.run(children.exited("a1", SHUTDOWN, 0.0)) is None


def test_being_stopped_as_a_bystander_never_fires(world):
    children = started(world, "any_significant", key("a", "temporary"), spec("b"), strategy="one_for_all")
    assert world.run(children.exited("b1", "crash", 0.0)) is None


def test_ignore_never_fires(world):
    world.scripts["a"].append(IGNORE)
    children = StaticChildren(Flags(auto_shutdown="any_significant"), [key("a", "temporary")])
    assert world.run(children.start_all()) is None


def test_significant_children_are_not_welcome_under_never(world):
    children = started(world, "never")
    with pytest.raises(BadSpec):
        world.run(children.start_child(key("a")))
    with pytest.raises(BadSpec):
        children.update(Flags(), [key("a")])


def test_after_a_change_to_never_running_significant_children_stop_triggering(world):
    children = started(world, "any_significant", key("a"))
    children.update(Flags(auto_shutdown="never"), [])
    assert world.run(children.exited("a1", NORMAL, 0.0)) is None


def test_a_change_of_significance_is_counted_anew(world):
    children = started(world, "all_significant", key("a"), key("b"))
    children.update(Flags(auto_shutdown="all_significant"), [key("a"), spec("b", restart="transient")])
    assert world.run(children.exited("a1", NORMAL, 0.0)) == END
