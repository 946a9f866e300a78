"""A conversation without a host: a session is a value that goes in, and the one that comes after it comes out."""

from datetime import date

import allm_actors as allm
from provider import MODEL, calls, engine, said, says

DEPARTURES = {"Lisbon": date(2026, 5, 1)}


@allm.tool(manual=True)
def book(city: str) -> dict:
    """Book a flight to a city. A clerk does that, some time later."""
    return {"city": city}


def agency(*replies: list) -> allm.Engine:
    """Who answers. Nothing of it is in the session: any process may go on with that."""
    return engine(*replies, tools=[book])


# Somewhere a conversation begins, and waits for a clerk. What is kept of it is text.
desk = agency(calls(("book", {"city": "Lisbon"})))
session, result = allm.session.start(desk, [allm.user("Book me a flight to Lisbon with the tool, please.")])
assert (session.status, result.halted_reason) == ("awaiting_tools", "manual_tool_calls")
kept = allm.to_json(session)
print(f"{len(kept)} characters wait for the clerk")

# Elsewhere it goes on: the clerk answers, the model is told, and streams what it says.
session = allm.from_json(kept)
(call,) = session.pending_tool_calls
assert isinstance(call, allm.ToolCall)
session = allm.session.submit_tool_result(
    session, call.id, {"booked": True, "on": DEPARTURES["Lisbon"].isoformat()}
)
desk = agency(says("You fly on ", "1 May."), says("To Lisbon."), says("To Porto, then."))
stream = allm.session.stream_continue(desk, session)
for event in stream:
    if isinstance(event, allm.TextDelta):
        print(event.delta, end="", flush=True)
print()
session, result = stream.finish()
said(result.text(), "You fly on 1 May.")

# A value can be gone on with twice: two replies to one session are two branches, and neither knows the other.
first, _ = allm.session.reply(desk, session, "Where to?")
second, _ = allm.session.reply(desk, session, "I would rather go to Porto.")
assert first.thread.messages[: len(session.thread.messages)] == session.thread.messages
assert [s.thread.messages[-2].content for s in (first, second)] == [
    "Where to?",
    "I would rather go to Porto.",
]
print(f"{len(session.thread.messages)} messages, and {len(first.thread.messages)} in each branch")
assert MODEL or first.thread.last.content == "To Lisbon."

# What is not allowed now is refused, and the value that was given is as it was.
try:
    allm.session.submit_tool_result(session, call.id, "again")
except allm.SessionStatusError as error:
    print(error)
else:
    raise AssertionError("nothing was waited for")
