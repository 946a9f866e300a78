"""What clients may ask a supervisor to do with its children, and what it tells of them."""

import pytest

from supervisors.core.static import StaticChildren
from supervisors.core.steps import Started, StartFailed
from supervisors.errors import AlreadyPresent, AlreadyStarted, BadSpec, NotFound, Running, StartError
from supervisors.reasons import NORMAL, Crash
from supervisors.spec import Flags
from tests.unit.supervisors.world import FAIL, IGNORE, World, spec


@pytest.fixture
def world():
    return World()


@pytest.fixture
def children(world):
    children = StaticChildren(Flags(), [spec("a"), spec("b", restart="transient")])
    world.run(children.start_all())
    world.take()
    return children


def ids(children):
    return [child.id for child in children.which_children()]


class TestStartChild:
    def test_gives_the_ref_and_appends(self, world, children):
        assert world.run(children.start_child(spec("c"))) == "c1"
        assert ids(children) == ["a", "b", "c"]

    def test_gives_the_info_too_if_there_is_one(self, world, children):
        world.scripts["c"].append(Started("c1", {"port": 8080}))
        assert world.run(children.start_child(spec("c"))) == ("c1", {"port": 8080})

    def test_gives_none_for_ignore_and_keeps_the_spec_unless_temporary(self, world, children):
        world.scripts["c"].append(IGNORE)
        world.scripts["t"].append(IGNORE)
        assert world.run(children.start_child(spec("c"))) is None
        assert world.run(children.start_child(spec("t", restart="temporary"))) is None
        assert ids(children) == ["a", "b", "c"]

    def test_refuses_an_id_that_runs(self, world, children):
        with pytest.raises(AlreadyStarted) as caught:
            world.run(children.start_child(spec("a")))
        assert caught.value.ref == "a1"

    def test_refuses_an_id_that_is_known_and_down(self, world, children):
        world.run(children.terminate_child("a"))
        with pytest.raises(AlreadyPresent):
            world.run(children.start_child(spec("a")))

    def test_refuses_a_bad_spec(self, world, children):
        with pytest.raises(BadSpec):
            world.run(children.start_child(spec("c", shutdown=-1)))
        assert ids(children) == ["a", "b"]

    def test_a_failed_start_leaves_nothing(self, world, children):
        world.scripts["c"].append(FAIL)
        with pytest.raises(StartError) as caught:
            world.run(children.start_child(spec("c")))
        assert (caught.value.reason, caught.value.spec.id, ids(children)) == ("boom", "c", ["a", "b"])
        assert world.take_reports() == [("start_error", "c", "boom")]

    @pytest.mark.parametrize("wrap", [lambda error: error, Crash])
    def test_a_taken_name_is_passed_on_as_it_is(self, world, children, wrap):
        taken = AlreadyStarted("elsewhere")
        world.scripts["c"].append(StartFailed(wrap(taken)))
        with pytest.raises(AlreadyStarted) as caught:
            world.run(children.start_child(spec("c")))
        assert caught.value is taken

    def test_two_ids_may_be_the_same_process_without_confusion(self, world, children):
        world.scripts["c"].append(Started("a1"))
        world.run(children.start_child(spec("c")))
        world.run(children.terminate_child("a"))
        world.run(children.terminate_child("c"))
        assert [c.ref for c in children.which_children()] == [None, "b1", None]


class TestTerminateChild:
    def test_stops_that_child_only_and_keeps_its_spec(self, world, children):
        assert world.run(children.terminate_child("a")) is None
        assert (world.take(), ids(children)) == ("-a1", ["a", "b"])

    def test_is_fine_when_the_child_is_down(self, world, children):
        world.run(children.terminate_child("a"))
        assert world.run(children.terminate_child("a")) is None

    def test_removes_a_temporary_child(self, world, children):
        world.run(children.start_child(spec("t", restart="temporary")))
        world.run(children.terminate_child("t"))
        assert ids(children) == ["a", "b"]

    @pytest.mark.parametrize("id", ["x", "a1", ["unhashable"]])
    def test_knows_ids_only_not_refs(self, world, children, id):
        with pytest.raises(NotFound):
            world.run(children.terminate_child(id))
        assert world.take() == ""

    @pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
    def test_does_not_disturb_siblings_under_any_strategy(self, world, strategy):
        children = StaticChildren(Flags(strategy=strategy), [spec("a"), spec("b")])
        world.run(children.start_all())
        world.run(children.terminate_child("a"))
        world.run(children.restart_child("a"))
        assert world.take() == "+a1 +b1 -a1 +a2"


class TestRestartChild:
    def test_starts_a_child_that_is_down_in_its_old_place(self, world, children):
        world.run(children.terminate_child("a"))
        assert world.run(children.restart_child("a")) == "a2"
        assert ids(children) == ["a", "b"]

    def test_starts_a_transient_child_that_had_ended(self, world, children):
        world.run(children.exited("b1", NORMAL, 0.0))
        assert world.run(children.restart_child("b")) == "b2"

    def test_refuses_running_and_unknown_children(self, world, children):
        with pytest.raises(Running):
            world.run(children.restart_child("a"))
        with pytest.raises(NotFound):
            world.run(children.restart_child("x"))

    def test_a_failed_start_keeps_the_spec_and_is_not_retried(self, world, children):
        world.run(children.terminate_child("a"))
        world.scripts["a"].append(FAIL)
        with pytest.raises(StartError):
            world.run(children.restart_child("a"))
        assert (children.which_child("a").ref, world.retries) == (None, [])
        assert world.take_reports() == [("start_error", "a", "boom")]

    def test_gives_info_ignore_and_a_taken_name_as_start_child_does(self, world, children):
        world.run(children.terminate_child("a"))
        taken = AlreadyStarted("elsewhere")
        world.scripts["a"].extend([IGNORE, StartFailed(taken), Started("a9", "info")])
        assert world.run(children.restart_child("a")) is None
        with pytest.raises(AlreadyStarted) as caught:
            world.run(children.restart_child("a"))
        assert caught.value is taken
        assert world.run(children.restart_child("a")) == ("a9", "info")
        assert ids(children) == ["a", "b"]


class TestDeleteChild:
    def test_forgets_a_child_that_is_down(self, world, children):
        world.run(children.terminate_child("a"))
        children.delete_child("a")
        assert ids(children) == ["b"]

    def test_refuses_running_and_unknown_children(self, children):
        with pytest.raises(Running):
            children.delete_child("a")
        with pytest.raises(NotFound):
            children.delete_child("x")


class TestIntrospection:
    def test_children_come_in_start_order_with_their_types(self, world, children):
        world.run(children.start_child(spec("s", type="supervisor")))
        assert children.which_children() == [
            ("a", "a1", "worker"),
            ("b", "b1", "worker"),
            ("s", "s1", "supervisor"),
        ]
        assert children.which_child("s") == ("s", "s1", "supervisor")
        with pytest.raises(NotFound):
            children.which_child("x")

    def test_a_child_is_found_by_its_id_while_it_runs(self, world, children):
        assert children.running("a") == "a1"
        world.run(children.terminate_child("a"))
        assert (children.running("a"), children.running("x")) == (None, None)
        assert children.refs() == ["b1"]

    def test_active_means_really_alive(self, world, children):
        world.run(children.start_child(spec("s", type="supervisor")))
        world.run(children.terminate_child("b"))
        assert children.count_children(lambda ref: ref != "a1") == (3, 1, 1, 2)

    def test_a_spec_is_shown_with_its_defaults(self, children):
        assert children.get_childspec("a").shutdown == 5.0
        with pytest.raises(NotFound):
            children.get_childspec("x")

    def test_a_child_runs_or_is_restarting_or_stopped(self, world, children):
        world.scripts["b"].append(FAIL)
        world.run(children.exited("b1", "crash", 0.0))
        world.run(children.start_child(spec("c")))
        world.run(children.terminate_child("c"))
        assert [(view.id, view.state, view.ref) for view in children.views()] == [
            ("a", "running", "a1"),
            ("b", "restarting", None),
            ("c", "stopped", None),
        ]

    def test_restarts_are_counted_per_child(self, world, children):
        world.run(children.exited("a1", "crash", 0.0))
        world.run(children.exited("a2", "crash", 0.0))
        assert [(v.id, v.state, v.restarts) for v in children.views()] == [
            ("a", "running", 2),
            ("b", "running", 0),
        ]
        assert children.refs() == ["b1", "a3"]
