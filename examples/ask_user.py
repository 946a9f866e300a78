"""A tool needs a person: the turn halts with a question, and the next reply is the answer."""

import allm_actors as allm
from provider import calls, engine, said, says


@allm.tool
def book_seat(train: str) -> object:
    """Book a seat on a train."""
    return allm.AskUser(f"Window or aisle on {train}?", choices=["window", "aisle"])


office = engine(
    calls(("book_seat", {"train": "IC 521"})), says("A window seat on IC 521 it is."), tools=[book_seat]
)

with allm.Host() as host:
    session = host.session("booking", office)
    result = session.reply("Book me a seat on IC 521.", tool_choice="required").result()
    print("asks:   ", result.pending_question)
    said(result.pending_question, "Window or aisle on IC 521?")
    assert result.halted_reason == "ask_user"
    assert session.status == "awaiting_user"
    assert session.value.pending_question == result.pending_question

    # A real model may want to book again now that it knows: this one may only talk.
    result = session.reply("Window, please.", tool_choice="none").result()
    print("answers:", result.text())
    said(result.text(), "A window seat on IC 521 it is.")
    assert session.status == "completed"
    assert session.value.pending_question is None
