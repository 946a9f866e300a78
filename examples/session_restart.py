"""A session in an SQLite file: the program ends, another one begins, and the conversation goes on."""

import tempfile
from pathlib import Path

import allm_actors as allm
from provider import engine, said, says

with tempfile.TemporaryDirectory() as folder:
    store = Path(folder) / "sessions.db"

    with allm.Host(store=store) as host:
        session = host.session("support-42", engine(says("Hello! What is your order number?")))
        session.reply("Hi, where is my order?").result()
        print("first program: ", [message.content for message in session.messages])

    # Everything is stopped; nothing of the first host is left but the file.
    with allm.Host(store=store) as host:
        assert host.session_ids() == ["support-42"]
        session = host.session("support-42", engine(says("A-17 is on its way.")))
        assert len(session.messages) == 2
        session.reply("It is A-17.").result()
        print("second program:", [message.content for message in session.messages])

        assert [message.role for message in session.messages] == ["user", "assistant", "user", "assistant"]
        said(session.messages[1].content, "Hello! What is your order number?")
        said(session.messages[3].content, "A-17 is on its way.")
        assert session.status == "completed"
