"""A session is a value, too: as JSON it can lie anywhere, and what is read back is what was written."""

import allm_actors as allm
from provider import engine, said, says

butler = engine(says("Good morning, Ada."), says("Your name is Ada."), says("It still is Ada."))

with allm.Host() as host:
    session = host.session("ada", butler)
    session.reply("Good morning, I am Ada.").result()
    session.reply("What is my name?").result()
    written = allm.to_json(session.value)

print(written[:100], "…")
restored = allm.from_json(written)
assert restored == session.value
assert (restored.id, restored.status, len(restored.thread.messages)) == ("ada", "completed", 4)

# Its thread goes on wherever it is read: here without a host.
result = allm.chat(butler, restored.thread.add_user("And now?"))
print(result.text())
said(result.text(), "It still is Ada.")
