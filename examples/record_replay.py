"""A conversation recorded once, and replayed without a network or a key; a loopback server plays the provider."""

import tempfile
from pathlib import Path
from typing import Unpack

import allm_actors as allm
from allm_actors.testing import Player, Recorder
from allm_actors.testing.exchanges import chat_completions
from allm_actors.testing.loopback import LoopbackServer, Reply

QUESTION = [allm.user("Say something.")]


def ask(transport: Recorder | Player, base_url: str, **options: Unpack[allm.ChatOptions]) -> str:
    """What the model says through this transport."""
    opts = {"base_url": base_url, "transport": transport}
    engine = allm.Engine(adapter="openai:gpt-4.1-mini", adapter_opts=opts)
    return allm.unwrap(allm.generate(engine, QUESTION, **options))


with tempfile.TemporaryDirectory() as folder:
    recording = Path(folder) / "something.json"

    with LoopbackServer([Reply(chunks=chat_completions(text="Once is enough."))]) as server:
        recorded = ask(Recorder(recording), f"{server.url}/v1", api_key="sk-nobody-0123456789")

    replayed = ask(Player(recording), "https://api.openai.com/v1")  # nobody is asked: there is no key
    print(replayed)
    assert replayed == recorded == "Once is enough."
    assert "sk-nobody" not in recording.read_text()

    other = allm.Engine(adapter="openai:gpt-4.1-mini", adapter_opts={"transport": Player(recording)})
    refused = allm.generate(other, [allm.user("Say something else.")])
    print(refused.metadata["error"].message)
    assert refused.metadata["error"].reason == "no_scripted_response"
