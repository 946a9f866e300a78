"""A session in an SQLite file: the program ends, another one begins, and the conversation goes on."""

import tempfile
from pathlib import Path

import allm_actors as allm
from allm_actors.testing import script


def engine_saying(text: str) -> allm.Engine:
    """An engine whose model answers once."""
    entries = [script.text(text), script.finish("stop")]
    return allm.Engine(adapter="fake", adapter_opts={"script": entries})


with tempfile.TemporaryDirectory() as folder:
    store = Path(folder) / "sessions.db"

    with allm.Host(store=store) as host:
        session = host.session("support-42", engine_saying("Hello! What is your order number?"))
        session.reply("Hi, where is my order?").result()
        print("first program: ", [message.content for message in session.messages])

    # Everything is stopped; nothing of the first host is left but the file.
    with allm.Host(store=store) as host:
        assert host.session_ids() == ["support-42"]
        session = host.session("support-42", engine_saying("A-17 is on its way."))
        assert len(session.messages) == 2
        session.reply("It is A-17.").result()
        print("second program:", [message.content for message in session.messages])

        assert [message.content for message in session.messages] == [
            "Hi, where is my order?",
            "Hello! What is your order number?",
            "It is A-17.",
            "A-17 is on its way.",
        ]
        assert session.status == "completed"
