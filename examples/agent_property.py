"""A property of your own agent: whatever the model does, nobody gets more money than was paid.

Hypothesis plays the model: it calls the tools in any order and number, with any arguments, together or one after the
other, and breaks off where it likes. pytest runs the function as a test, and so does this file.
"""

import threading

from hypothesis import given, settings
from hypothesis import strategies as st

import allm_actors as allm
from allm_actors.testing import script
from provider import calls, says

PAID = {"A-17": 120, "B-4": 30}


class Desk:
    """Gives money back. What an agent may do is not in its prompt, but here."""

    def __init__(self) -> None:
        self.refunded: dict[str, int] = {}
        self.lock = threading.Lock()  # the calls of one step run at the same time; try it without

    def tools(self) -> list[allm.Tool]:
        """The functions that the model gets."""

        @allm.tool
        def find_order(order: str) -> dict[str, object]:
            """What was paid for an order."""
            return {"order": order, "paid": PAID[order]}

        @allm.tool
        def refund(order: str, amount: int) -> str:
            """Give back a part of what was paid for an order."""
            with self.lock:
                given = self.refunded.get(order, 0)
                if not 0 < amount <= PAID[order] - given:
                    raise ValueError(f"{given} of {PAID[order]} is refunded; cannot refund {amount}")
                self.refunded[order] = given + amount
            return "done"

        return [find_order, refund]


orders = st.sampled_from([*PAID, "no such order"]) | st.none()
amounts = st.integers(-200, 200) | st.sampled_from([30, 120, "all of it", 1e99])
wishes = st.one_of(
    st.tuples(st.just("find_order"), st.fixed_dictionaries({"order": orders})),
    st.tuples(st.just("refund"), st.fixed_dictionaries({"order": orders, "amount": amounts})),
    st.tuples(st.just("rob_bank"), st.just({})),
)
replies = st.one_of(
    st.lists(wishes, min_size=1, max_size=5).map(lambda wanted: calls(*wanted)),
    st.just(says("Anything else?")),
    st.just([script.text("Let me"), script.error("network_error")]),
)


@settings(max_examples=100, deadline=None, database=None)
@given(st.lists(replies, max_size=6))
def test_nobody_gets_more_than_was_paid(model: list[list[script.Entry]]) -> None:
    """Three things that hold whatever `model` says."""
    desk = Desk()
    engine = allm.Engine(
        adapter="fake", tools=desk.tools(), adapter_opts={"scripts": [*model, says("Goodbye.")]}
    )
    result = allm.chat(engine, [allm.user("I want my money back, and more!")], max_turns=8)

    assert all(0 < amount <= PAID[order] for order, amount in desk.refunded.items())
    assert result.halted_reason in ("completed", "error")
    assert result.thread is not None
    wanted = [call.id for message in result.thread.messages for call in message.tool_calls]
    answered = [message.tool_call_id for message in result.thread.messages if message.role == "tool"]
    assert sorted(wanted) == sorted(answered)  # every call has one answer


if __name__ == "__main__":
    test_nobody_gets_more_than_was_paid()
    print("held for 100 models")
