"""The same in a session: it waits, for as long as you like, with the call in its state."""

import allm_actors as allm
from provider import calls, engine, said, says


@allm.tool(manual=True)
def refund(order: str, amount: int) -> str:
    """Give money back. A person does it."""


desk = engine(
    calls(("refund", {"order": "A-17", "amount": 120})),
    says("You will have your 120 back tomorrow."),
    tools=[refund],
)

with allm.Host() as host:
    session = host.session("support-42", desk)
    session.reply("Order A-17 came broken. Give me my 120 back, please.", tool_choice="required").result()
    assert session.status == "awaiting_tools"

    try:
        session.reply("Hello?").result()
    except allm.SessionStatusError as error:
        print("refused ", error)  # nobody may speak between a call and its answer
    else:
        raise AssertionError("a session that waits for a tool took a message")

    for call in session.pending_tool_calls:
        print("waits   ", call.name, call.arguments)
        session.submit_tool_result(call.id, {"refunded": call.arguments["amount"]})
    result = session.continue_().result()
    print("answers ", result.text())
    said(result.text(), "You will have your 120 back tomorrow.")
    assert session.status == "completed"
    assert [message.role for message in session.messages] == ["user", "assistant", "tool", "assistant"]
