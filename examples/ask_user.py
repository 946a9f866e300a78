"""A tool needs a person: the turn halts with a question, and the next reply is the answer."""

import allm_actors as allm
from allm_actors.testing import script


@allm.tool
def book_seat(train: str) -> object:
    """Book a seat on a train."""
    return allm.AskUser(f"Window or aisle on {train}?", choices=["window", "aisle"])


engine = allm.Engine(
    adapter="fake",
    tools=[book_seat],
    adapter_opts={
        "scripts": [
            [script.tool_call("book_seat", {"train": "IC 521"}), script.finish("tool_calls")],
            [script.text("A window seat on IC 521 it is."), script.finish("stop")],
        ]
    },
)

with allm.Host() as host:
    session = host.session("booking", engine)
    result = session.reply("Book me a seat on IC 521.").result()
    print("asks:   ", result.pending_question)
    assert result.halted_reason == "ask_user"
    assert session.status == "awaiting_user"
    assert session.value.pending_question == "Window or aisle on IC 521?"

    result = session.reply("Window, please.").result()
    print("answers:", result.final_response.text())
    assert session.status == "completed"
    assert session.value.pending_question is None
