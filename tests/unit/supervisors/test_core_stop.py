"""How children are stopped, and what is reported about it."""

import math

import pytest

from supervisors.core.static import StaticChildren
from supervisors.core.steps import KILL, TIMED_OUT, Exited, Report, Signal
from supervisors.reasons import KILLED, NORMAL, SHUTDOWN, Shutdown
from supervisors.spec import Flags
from tests.unit.supervisors.world import World, spec


@pytest.fixture
def world():
    return World()


def stopping(world, **fields):
    children = StaticChildren(Flags(), [spec("a", **fields)])
    world.run(children.start_all())
    return children.terminate_child("a")


class TestSteps:
    def test_ask_wait_kill_wait(self, world):
        stop = stopping(world, shutdown=2.5)
        assert next(stop) == Signal("a1", SHUTDOWN, 2.5)
        assert stop.send(None) == Exited("a1")
        assert stop.send(TIMED_OUT) == Signal("a1", KILL, math.inf)
        assert stop.send(None) == Exited("a1")
        assert stop.send(KILLED) == Report("shutdown_error", "a", "a1", KILLED)

    def test_a_child_that_obeys_is_not_killed(self, world):
        stop = stopping(world, shutdown=2.5)
        assert next(stop) == Signal("a1", SHUTDOWN, 2.5)
        assert stop.send(None) == Exited("a1")
        with pytest.raises(StopIteration):
            stop.send(SHUTDOWN)

    def test_brutal_kill_kills_and_waits_as_long_as_it_takes(self, world):
        stop = stopping(world, shutdown="brutal_kill")
        assert next(stop) == Signal("a1", KILL, math.inf)
        assert stop.send(None) == Exited("a1")
        with pytest.raises(StopIteration):
            stop.send(KILLED)

    def test_zero_seconds_is_a_signal_and_then_a_kill(self, world):
        world.run(stopping(world, shutdown=0))
        assert world.take() == "+a1 ask:a1 kill:a1"


class TestReports:
    @pytest.mark.parametrize(
        ("restart", "shutdown", "reason", "reported"),
        [
            ("permanent", 5.0, SHUTDOWN, False),
            ("permanent", 5.0, NORMAL, True),
            ("permanent", 5.0, Shutdown("x"), True),
            ("permanent", 5.0, "crash", True),
            ("transient", 5.0, NORMAL, False),
            ("transient", 5.0, Shutdown("x"), False),
            ("transient", 5.0, "crash", True),
            ("temporary", 5.0, NORMAL, False),
            ("permanent", "brutal_kill", KILLED, False),
            ("permanent", "brutal_kill", "crash", True),
            ("transient", "brutal_kill", NORMAL, False),
            ("transient", math.inf, KILLED, True),
        ],
    )
    def test_an_unexpected_death_is_reported(self, world, restart, shutdown, reason, reported):
        stop = stopping(world, restart=restart, shutdown=shutdown)
        world.deaths["a1"] = reason
        world.run(stop)
        assert world.take_reports() == ([("shutdown_error", "a", reason)] if reported else [])


class TestOrder:
    def test_all_stop_in_reverse_start_order(self, world):
        children = StaticChildren(Flags(), [spec(i) for i in "abcd"])
        world.run(children.start_all())
        world.run(children.terminate_child("b"))
        world.run(children.restart_child("b"))
        world.take()
        world.run(children.stop_all())
        assert world.take() == "-d1 -c1 -b2 -a1"

    def test_one_that_takes_all_its_time_holds_up_those_before_it(self, world):
        children = StaticChildren(Flags(), [spec("a"), spec("b", shutdown=1.0)])
        world.run(children.start_all())
        world.stubborn.add("b1")
        world.take()
        world.run(children.stop_all())
        assert world.take() == "ask:b1 kill:b1 -a1"

    def test_children_that_do_not_run_are_not_touched(self, world):
        children = StaticChildren(Flags(), [spec("a"), spec("b")])
        world.run(children.start_all())
        world.run(children.terminate_child("a"))
        world.take()
        world.run(children.stop_all())
        assert world.take() == "-b1"

    def test_temporary_children_are_forgotten_the_others_are_kept(self, world):
        children = StaticChildren(Flags(), [spec("a", restart="temporary"), spec("b")])
        world.run(children.start_all())
        world.run(children.stop_all())
        assert [child.id for child in children.which_children()] == ["b"]
