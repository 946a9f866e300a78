"""What a run is allowed to do."""

import pytest

from tests.unit.allm_actors.execution.driver import (
    options,
)


@pytest.mark.parametrize("bad", [0, -1, 1.5, "3", True])
def test_a_turn_limit_is_a_positive_integer(bad):
    with pytest.raises(ValueError, match="max_turns must be a positive integer; got:"):
        options(max_turns=bad)


@pytest.mark.parametrize(
    "bad",
    [
        {"mode": "maybe"},
        {"kind": "talk"},
        {"on_tool_error": "explode"},
        {"max_concurrency": 0},
        {"tool_timeout": 0},
        {"tool_timeout": "3"},
        {"tool_timeout": True},
    ],
)
def test_what_can_never_work_is_refused_at_once(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        options(**bad)


@pytest.mark.parametrize("seconds", [None, 0.1, 3])
def test_a_tool_may_have_any_time_or_no_end(seconds):
    assert options(tool_timeout=seconds).tool_timeout == seconds
