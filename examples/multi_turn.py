"""A conversation without a session: a thread is a value, and each turn gives the next one."""

import allm_actors as allm
from provider import engine, said, says

butler = engine(says("Good morning, Ada."), says("Your name is Ada."))

thread = allm.Thread().add_system("You are a butler. Be brief.").add_user("Good morning, I am Ada.")
first = allm.chat(butler, thread)
assert first.thread is not None

second = allm.chat(butler, first.thread.add_user("What is my name?"))
assert second.thread is not None
for message in second.thread.messages:
    print(f"{message.role:9}", message.content)

said(second.thread.messages[-1].content, "Your name is Ada.")
assert [message.role for message in second.thread.messages] == [
    "system",
    "user",
    "assistant",
    "user",
    "assistant",
]
assert len(thread.messages) == 2  # a value: what was asked first is what it was
