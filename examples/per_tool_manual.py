"""One tool runs by itself, another one waits for you: `manual=True` is a property of the tool."""

import allm_actors as allm
from provider import calls, engine, said, says


@allm.tool
def find_order(order: str) -> dict[str, object]:
    """What is known about an order."""
    return {"order": order, "paid": 120}


@allm.tool(manual=True)
def refund(order: str, amount: int) -> str:
    """Give money back. A person does it."""


desk = engine(
    calls(("find_order", {"order": "A-17"}), ("refund", {"order": "A-17", "amount": 120})),
    says("You will have your 120 back tomorrow."),
    tools=[find_order, refund],
)

result = allm.chat(
    desk, [allm.user("Order A-17 came broken. Look it up and give me my 120 back.")], tool_choice="required"
)
assert result.halted_reason == "manual_tool_calls"
while result.halted_reason == "manual_tool_calls":
    thread = result.thread
    assert thread is not None
    for call in result.metadata["manual_tool_calls"]:
        print("waits   ", call.name, call.arguments)
        assert call.name == "refund"  # find_order has run already
        thread = thread.add(allm.tool_result(call.id, {"refunded": call.arguments["amount"]}))
    result = allm.chat(desk, thread)

assert result.thread is not None
print("answers ", result.text())
said(result.text(), "You will have your 120 back tomorrow.")
answered = {message.tool_call_id for message in result.thread.messages if message.role == "tool"}
assert answered == {call.id for message in result.thread.messages for call in message.tool_calls}
