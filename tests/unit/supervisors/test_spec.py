"""What is a valid child, and what a valid supervisor."""

import math

import pytest

from supervisors.errors import BadSpec
from supervisors.spec import (
    Backoff,
    ChildSpec,
    DynamicFlags,
    Flags,
    check_childspecs,
    check_dynamic_flags,
    check_flags,
    child,
    child_specs,
)


class Worker:
    restart = "transient"
    shutdown = 1.5


class Tree:
    child_type = "supervisor"

    @classmethod
    def start_link(cls):
        pass


def spec(**fields):
    return ChildSpec(**({"id": "a", "start": print} | fields))


def why(**fields):
    with pytest.raises(BadSpec) as caught:
        check_childspecs([spec(**fields)])
    return caught.value.why


class TestDefaults:
    def test_a_worker_is_permanent_and_has_five_seconds(self):
        (full,) = child_specs([spec()])
        assert (full.restart, full.shutdown, full.type, full.significant) == (
            "permanent",
            5.0,
            "worker",
            False,
        )

    def test_a_supervisor_has_all_the_time_it_needs(self):
        (full,) = child_specs([spec(start=Tree)])
        assert (full.shutdown, full.type) == (math.inf, "supervisor")

    def test_a_bound_start_link_of_a_supervisor_is_a_supervisor(self):
        (full,) = child_specs([spec(start=Tree.start_link)])
        assert full.type == "supervisor"

    def test_a_given_type_decides_the_default_shutdown(self):
        assert child_specs([spec(type="supervisor")])[0].shutdown == math.inf
        assert child_specs([spec(start=Tree, type="worker")])[0].shutdown == 5.0

    def test_a_given_shutdown_is_kept(self):
        assert child_specs([spec(shutdown=0)])[0].shutdown == 0
        assert child_specs([spec(shutdown=math.inf)])[0].shutdown == math.inf
        assert child_specs([spec(shutdown="brutal_kill")])[0].shutdown == "brutal_kill"


class TestChild:
    def test_takes_id_arguments_and_class_defaults(self):
        made = child(Worker, 1, two=2)
        assert (made.id, made.start, made.args, made.kwargs) == (Worker, Worker, (1,), {"two": 2})
        assert (made.restart, made.shutdown) == ("transient", 1.5)

    def test_a_named_supervisor_has_its_name_for_an_id(self):
        assert child(Tree, name="agents").id == "agents"
        assert child(Tree, name=0).id == 0
        assert child(Tree).id is Tree
        assert child(Worker, name="w").id is Worker

    def test_replace_changes_fields_and_knows_which_there_are(self):
        assert child(Worker).replace(id="x", restart="temporary").id == "x"
        with pytest.raises(TypeError, match="colour"):
            child(Worker).replace(colour="red")

    def test_an_unknown_missing_field_is_a_type_error(self):
        with pytest.raises(TypeError, match="start"):
            ChildSpec(id="a")

    def test_a_class_or_a_class_with_arguments_will_do(self):
        specs = child_specs([Worker, (print, ("x",))])
        assert [(s.id, s.args) for s in specs] == [(Worker, ()), (print, ("x",))]

    def test_arguments_do_not_show(self):
        assert "hunter2" not in repr(child(Worker, "hunter2", key="hunter2"))


class TestCheckChildspecs:
    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"id": []}, "invalid_id"),
            ({"start": "f"}, "invalid_start"),
            ({"args": ["x"]}, "invalid_start"),
            ({"kwargs": ("x",)}, "invalid_start"),
            ({"restart": "always"}, "invalid_restart_type"),
            ({"significant": 1, "restart": "transient"}, "invalid_significant"),
            ({"significant": True}, "bad_combination"),
            ({"type": "manager"}, "invalid_child_type"),
            ({"shutdown": -1}, "invalid_shutdown"),
            ({"shutdown": "infinity"}, "invalid_shutdown"),
            ({"shutdown": True}, "invalid_shutdown"),
            ({"shutdown": False}, "invalid_shutdown"),
            ({"shutdown": math.nan}, "invalid_shutdown"),
            ({"backoff": 3}, "invalid_backoff"),
            ({"backoff": Backoff(min=-1)}, "invalid_backoff"),
            ({"backoff": Backoff(max=math.inf)}, "invalid_backoff"),
            ({"backoff": Backoff(jitter=math.inf)}, "invalid_backoff"),
            ({"backoff": Backoff(reset_after=True)}, "invalid_backoff"),
            ({"start_timeout": 0}, "invalid_start_timeout"),
            ({"start_timeout": math.nan}, "invalid_start_timeout"),
        ],
    )
    def test_names_what_is_wrong(self, fields, expected):
        assert why(**fields) == expected

    def test_reports_the_first_thing_in_a_fixed_order(self):
        wrong = {
            "shutdown": -1,
            "type": "manager",
            "significant": 1,
            "restart": "always",
            "start": "f",
            "id": [],
        }
        order = []
        while wrong:
            order.append(why(**wrong))
            wrong.popitem()
        assert order == [
            "invalid_id",
            "invalid_start",
            "invalid_restart_type",
            "invalid_significant",
            "invalid_child_type",
            "invalid_shutdown",
        ]

    def test_a_list_is_wanted(self):
        for not_a_list in ({"a": 1}, "abc", None, iter([])):
            with pytest.raises(BadSpec) as caught:
                check_childspecs(not_a_list)
            assert caught.value.why == "badarg"

    def test_what_is_no_child_at_all_is_named_by_its_type(self):
        with pytest.raises(BadSpec, match="not of type int") as caught:
            check_childspecs([3])
        assert caught.value.why == "invalid_child_spec"

    def test_ids_are_unique_and_an_invalid_spec_comes_before_a_duplicate(self):
        with pytest.raises(BadSpec) as caught:
            check_childspecs([spec(), spec()])
        assert (caught.value.why, caught.value.value) == ("duplicate_child_id", "a")
        with pytest.raises(BadSpec) as caught:
            check_childspecs([spec(), spec(), spec(shutdown=-1)])
        assert caught.value.why == "invalid_shutdown"

    def test_significance_depends_on_auto_shutdown_only_if_that_is_known(self):
        significant = spec(restart="transient", significant=True)
        check_childspecs([significant])
        check_childspecs([significant], "any_significant")
        with pytest.raises(BadSpec) as caught:
            check_childspecs([significant], "never")
        assert caught.value.why == "bad_combination"
        with pytest.raises(BadSpec) as caught:
            check_childspecs([spec(significant=True)], "any_significant")
        assert caught.value.why == "bad_combination"

    def test_an_unknown_auto_shutdown_is_badarg(self):
        with pytest.raises(BadSpec) as caught:
            check_childspecs([], "sometimes")
        assert caught.value.why == "badarg"


class TestFlags:
    def test_defaults_are_three_restarts_in_five_seconds(self):
        assert check_flags(Flags()) == Flags(
            strategy="one_for_one", max_restarts=3, max_seconds=5.0, auto_shutdown="never"
        )

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("strategy", "simple_one_for_one"),
            ("max_restarts", -1),
            ("max_restarts", True),
            ("max_restarts", 1.5),
            ("max_seconds", 0),
            ("max_seconds", -1.0),
            ("max_seconds", True),
            ("max_seconds", math.nan),
            ("auto_shutdown", "sometimes"),
        ],
    )
    def test_an_invalid_flag_is_supervisor_data_and_which_one(self, name, value):
        with pytest.raises(BadSpec, match=name) as caught:
            check_flags(Flags(**{name: value}))
        assert caught.value.why == "supervisor_data"
        assert caught.value.value[0] == name

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("max_children", -1),
            ("max_children", True),
            ("max_children", 2.0),
            ("extra_args", [1]),
            ("max_seconds", 0),
        ],
    )
    def test_an_invalid_flag_of_a_dynamic_supervisor_too(self, name, value):
        with pytest.raises(BadSpec, match=name):
            check_dynamic_flags(DynamicFlags(**{name: value}))

    def test_no_children_at_all_is_a_legal_limit(self):
        check_dynamic_flags(DynamicFlags(max_children=0))


class TestBackoff:
    def test_doubles_up_to_its_maximum(self):
        backoff = Backoff(min=1.0, max=5.0, jitter=0.5)
        assert [backoff.delay(n, 0.0) for n in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
        assert backoff.delay(10_000, 0.0) == 5.0

    def test_jitter_comes_on_top(self):
        assert Backoff(min=1.0, jitter=0.5).delay(0, 0.5) == 1.25

    def test_forgets_after_some_health(self):
        assert Backoff(max=3.0).forgets(3.0)
        assert not Backoff(max=3.0).forgets(2.9)
        assert Backoff(max=3.0, reset_after=1.0).forgets(1.0)
