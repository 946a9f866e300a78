"""One operation at a time; the rest waits its turn."""

import pytest

from supervisors.core.entry import RESTARTING
from supervisors.core.operations import WAIT, Operations, at_once
from supervisors.core.static import StaticChildren
from supervisors.core.steps import Start, Started, StartFailed
from supervisors.errors import NotFound
from supervisors.reasons import SHUTDOWN
from supervisors.spec import Flags
from tests.unit.supervisors.world import World, spec


class Log(list):
    def done(self, name):
        return lambda result, refusal: self.append((name, refusal or result))


@pytest.fixture
def log():
    return Log()


def waiting(*steps):
    """An operation that waits for each of these and returns the last answer."""
    answer = None
    for step in steps:
        answer = yield step
    return answer


def test_operations_run_in_order_and_wait_for_each_other(log):
    turns = Operations(lambda step: WAIT)
    turns.run(waiting("x", "y"), log.done("first"))
    turns.run(waiting("z"), log.done("second"))
    turns.run(at_once(lambda: 3), log.done("third"))
    for step in ("x", "y", "z"):
        assert turns.waiting == step
        turns.answer(turns.waiting, step.upper())
    assert log == [("first", "Y"), ("second", "Z"), ("third", 3)]
    assert turns.waiting is None


def test_a_stray_or_late_answer_changes_nothing(log):
    turns = Operations(lambda step: WAIT)
    first, second = Start(spec("a")), Start(spec("a"))
    turns.run(waiting(first, second), log.done("op"))
    assert not turns.answer(second, 0)
    assert turns.answer(first, 1)
    assert not turns.answer(first, 1)
    assert turns.waiting is second


@pytest.mark.parametrize("run", [Operations.run, Operations.run_last])
def test_a_refusal_is_an_answer_any_other_error_is_a_crash(log, run):
    def refuse():
        raise NotFound("a")

    run(Operations(lambda step: WAIT), at_once(refuse), log.done("op"))
    assert isinstance(log[0][1], NotFound)
    with pytest.raises(ZeroDivisionError):
        run(Operations(lambda step: WAIT), at_once(lambda: 1 / 0), log.done("op"))


def test_any_error_of_what_a_client_has_asked_for_is_the_client_s(log):
    turns = Operations(lambda step: WAIT)
    turns.run(at_once(lambda: 1 / 0), log.done("op"), asked=True)
    turns.run(at_once(lambda: 2), log.done("next"))
    assert isinstance(log[0][1], ZeroDivisionError)
    assert log[1] == ("next", 2)
    with pytest.raises(ZeroDivisionError):
        turns.run(at_once(lambda: 1 / 0), log.done("own"))


def test_what_is_done_may_ask_for_more(log):
    turns = Operations(lambda step: None)
    turns.run(at_once(lambda: 1), lambda result, refusal: turns.run(at_once(lambda: 2), log.done("nested")))
    assert log == [("nested", 2)]


def test_what_is_performed_may_ask_for_more_which_waits_for_the_running_one(log):
    def perform(step):
        turns.run(at_once(lambda: step), log.done("asked"))
        return step.upper()

    turns = Operations(perform)
    turns.run(waiting("x"), log.done("first"))
    assert log == [("first", "X"), ("asked", "x")]


def test_the_last_operation_lets_the_running_one_finish_and_drops_the_rest(log):
    turns = Operations(lambda step: WAIT)
    turns.run(waiting("x"), log.done("running"))
    turns.run(waiting("y"), log.done("dropped"))
    turns.run_last(waiting("z"), log.done("last"))
    turns.answer("x", 1)
    turns.answer("z", 2)
    assert log == [("running", 1), ("last", 2)]


def test_nothing_runs_after_the_last_operation(log):
    turns = Operations(lambda step: WAIT)
    turns.run_last(waiting("x"), lambda *_: turns.run(at_once(lambda: 1), log.done("at its end")))
    turns.run(at_once(lambda: 2), log.done("meanwhile"))
    turns.answer("x", None)
    assert log == []
    assert turns.waiting is None


class TestSupervision:
    """The same with real operations: what is visible of a supervisor in the middle of one."""

    @pytest.fixture
    def world(self):
        return World()

    def test_questions_see_the_state_between_operations(self, world, log):
        children = StaticChildren(Flags(), [spec("a")])
        world.run(children.start_all())
        world.hold = True
        world.turns.run(children.exited("a1", "crash", 0.0), log.done("exit"))
        world.turns.run(at_once(children.which_children), log.done("which"))
        assert log == []
        world.turns.answer(world.held, Started("a2"))
        assert log == [("exit", None), ("which", [("a", "a2", "worker")])]

    def test_exits_of_others_wait_and_stale_ones_are_dropped(self, world, log):
        children = StaticChildren(Flags(strategy="one_for_all", max_restarts=1), [spec("a"), spec("b")])
        world.run(children.start_all())
        world.hold = True
        world.turns.run(children.exited("a1", "crash", 0.0), log.done("first"))
        world.turns.run(children.exited("b1", "crash", 0.0), log.done("second"))
        world.turns.answer(world.held, Started("a2"))
        world.turns.answer(world.held, Started("b2"))
        assert log == [("first", None), ("second", None)]
        assert [c.ref for c in children.which_children()] == ["a2", "b2"]

    def test_a_child_that_dies_while_the_next_one_starts_is_handled_afterwards(self, world, log):
        children = StaticChildren(Flags(), [spec("a"), spec("b")])
        world.hold = True
        world.turns.run(children.start_all(), log.done("start"))
        world.turns.answer(world.held, Started("a1"))
        world.turns.run(children.exited("a1", "crash", 0.0), log.done("exit"))
        world.turns.answer(world.held, Started("b1"))
        assert log == [("start", None)]
        world.turns.answer(world.held, Started("a2"))
        assert [c.ref for c in children.which_children()] == ["a2", "b1"]

    def test_a_stop_waits_for_the_operation_but_not_for_a_retry(self, world, log):
        children = StaticChildren(Flags(), [spec("a"), spec("b")])
        world.run(children.start_all())
        world.hold = True
        world.turns.run(children.exited("a1", "crash", 0.0), log.done("exit"))
        world.turns.run_last(children.stop_all(), log.done("stop"))
        assert log == []
        world.turns.answer(world.held, StartFailed("boom"))
        assert log == [("exit", None), ("stop", None)]
        assert world.deaths == {"b1": SHUTDOWN}
        assert RESTARTING not in [c.ref for c in children.which_children()]
