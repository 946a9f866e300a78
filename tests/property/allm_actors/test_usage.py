"""What several calls consumed together."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from allm_actors import Usage
from allm_actors.testing import strategies


@given(st.lists(strategies.usage(), max_size=4))
def test_all_tokens_of_calls_are_those_of_each(usages: list[Usage]) -> None:
    totals = [usage.total() for usage in usages]
    known = [total for total in totals if total is not None]
    together = reduce(Usage.plus, usages, Usage()).total()
    if len(known) == len(totals):
        assert together == (sum(known) if known else None)
    elif known:
        assert together is not None
        assert together >= max(known)


def test_counts_of_tool_use_are_added_and_all_else_is_what_was_said_last() -> None:
    one = Usage(tool_usage={"searches": 1, "kind": "web", "only": 1}, extra={"tier": "a", "x": 1})
    other = Usage(tool_usage={"searches": 2, "kind": "code"}, extra={"tier": "b"})
    both = one.plus(other)
    assert both.tool_usage == {"searches": 3, "kind": "code", "only": 1}
    assert both.extra == {"tier": "b", "x": 1}
