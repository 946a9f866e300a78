"""A choice of tool is read in every shape that a provider has for it."""

import pytest

from allm_actors.data.tool_choice import forbids_calls, forced_names, named_choice


@pytest.mark.parametrize(
    "choice",
    [None, "auto", {}, {"mode": "AUTO", "allowedFunctionNames": ["weather"]}, {"type": "function"}, 7],
)
def test_any_other_choice_forces_nothing(choice):
    assert "weather" not in forced_names(choice)


@pytest.mark.parametrize(
    "choice",
    [
        ("tool", "weather"),
        {"type": "tool", "name": "weather"},
        {"type": "function", "function": {"name": "weather"}},
        {"type": "function", "name": "weather"},
    ],
)
def test_a_choice_of_one_tool_is_its_name_if_it_says_nothing_else(choice):
    assert named_choice(choice) == "weather"
    if isinstance(choice, dict):
        more = {**choice, "disable_parallel_tool_use": True}
        assert named_choice(more) is more


@pytest.mark.parametrize("choice", [None, "auto", ("tool", 5), {"type": "tool"}, {"mode": "ANY"}])
def test_any_other_choice_stays_as_it_is(choice):
    assert named_choice(choice) is choice


@pytest.mark.parametrize(
    ("choice", "forbids"),
    [
        ("none", True),
        ({"type": "none"}, True),
        ({"mode": "NONE"}, True),
        ({"functionCallingConfig": {"mode": "none"}}, True),
        ({"function_calling_config": {"mode": "ANY"}}, False),
        *[(choice, False) for choice in (None, "auto", "nothing", ("tool", "none"), {"type": "tool"}, {}, 7)],
    ],
)
def test_a_choice_of_no_tool_forbids_calls(choice, forbids):
    assert forbids_calls(choice) is forbids
