"""What was recorded is said again, word for word, and holds no key; what was not is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import allm_actors as allm
from allm_actors.data import AdapterError, ToolCall
from allm_actors.testing.exchanges import chat_completions, refusal
from allm_actors.testing.loopback import LoopbackServer, Reply
from allm_actors.testing.recording import Recorder, Replayer

KEY = "key-of-nobody-0123456789"
HI = [allm.user("Is it raining? My key is sk-proj-abcdef0123456789, by the way.")]
CALL = ToolCall(id="c0", name="weather", arguments={"city": "Lisbon"})
REPLIES = [
    Reply(status=429, headers={"retry-after": "0", "set-cookie": "session=secret"}),
    Reply(chunks=chat_completions(text=["Let me ", "look."], tool_calls=[CALL])),
    Reply(chunks=chat_completions(text="It rains.", usage={"prompt_tokens": 3, "completion_tokens": 2})),
]


@allm.tool
def weather(city: str) -> str:
    """The weather."""
    return f"rain in {city}"


def engine(transport: Any, url: str) -> allm.Engine:
    return allm.Engine(
        "openai:gpt-4.1-mini",
        tools=[weather],
        adapter_opts={"transport": transport, "base_url": url},
        retry={"base_delay": 0.0, "jitter": 0.0},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "weather"


def recorded(folder: Path) -> tuple[str, list[Any]]:
    """A chat over a real socket: where it was, and its events."""
    with LoopbackServer(REPLIES) as server:
        asked = engine(Recorder(folder), url := f"{server.url}/v1")
        return url, list(allm.stream(asked, HI, api_key=KEY, request_id="r"))


def test_a_chat_is_said_again_event_by_event_without_a_network(folder: Path) -> None:
    url, events = recorded(folder)
    assert events[-1].result.halted_reason == "completed"
    player = Replayer(folder)
    assert player.left == ["001", "002", "003"]
    assert list(allm.stream(engine(player, url), HI, api_key="none", request_id="r")) == events
    assert player.left == []


def test_no_file_holds_a_key_or_a_cookie(folder: Path) -> None:
    recorded(folder)
    kept = "".join(file.read_text() for file in folder.iterdir())
    assert "It " in kept
    assert [word for word in (KEY, "abcdef0123456789", "authorization", "cookie") if word in kept] == []


def test_what_was_not_recorded_is_refused_and_says_what_is_different(folder: Path) -> None:
    url, _ = recorded(folder)
    player = Replayer(folder)
    response = allm.generate(engine(player, url), [allm.user("Something else")], api_key="none")
    error = response.metadata["error"]
    assert isinstance(error, AdapterError)
    assert error.reason == "no_scripted_response"
    assert "the next one, 001, differs in messages" in str(error)
    assert player.left == ["001", "002", "003"]
    again = engine(player, url)
    assert allm.chat(again, HI, api_key="none").halted_reason == "completed"
    used_up = allm.generate(again, HI, api_key="none").metadata["error"]
    assert "every exchange is used up" in str(used_up)


def test_a_refusal_is_recorded_and_an_answer_that_breaks_off_is_not(folder: Path) -> None:
    *words, _finish, _done = chat_completions(text="It rains and")
    with LoopbackServer([Reply(chunks=words, then="reset"), refusal(401, "no such key")]) as server:
        asked = engine(Recorder(folder), url := f"{server.url}/v1").merge(retry=False)
        assert allm.generate(asked, HI, api_key=KEY).metadata["error"].reason == "network_error"
        refused = allm.generate(asked, HI, api_key=KEY).metadata["error"]
    assert refused.reason == "authentication_failed"
    player = Replayer(folder)
    assert player.left == ["001"]
    said_again = allm.generate(engine(player, url), HI, api_key="none").metadata["error"]
    assert (said_again.reason, said_again.status) == ("authentication_failed", 401)


def test_nothing_is_recorded_over_and_nothing_is_played_from_nowhere(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make them with Recorder"):
        Replayer(folder)
    recorded(folder)
    with pytest.raises(FileExistsError, match="delete it to record them anew"):
        Recorder(folder)
