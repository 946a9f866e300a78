"""A provider on loopback that answers by what it is asked, and the command, in this process or in its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from allm_actors.cli import main
from allm_actors.data import ToolCall
from allm_actors.testing.exchanges import FAULTS, chat_completions, sse
from allm_actors.testing.loopback import Gate, LoopbackServer, Reply, Request

TOOLS = '''
import allm_actors as allm

@allm.tool
def get_weather(city: str) -> dict:
    """The weather in a city."""
    return {"city": city, "celsius": 17}

@allm.tool(manual=True)
def refund(order: str) -> str:
    """Give the money back."""
    return ""

@allm.tool
def choose() -> str:
    """Let the person choose."""
    return allm.AskUser("Window or aisle?")

@allm.tool
def steer() -> str:
    """Ask with an order to the terminal."""
    return allm.AskUser("Sure?\x1b[2J")

@allm.tool
def enough() -> str:
    """End it."""
    return allm.Halt("it is\\nlate", result="bye")

@allm.tool
def which() -> str:
    """Let the person choose among what has no form in JSON."""
    return allm.AskUser("Which one?", choices=object())
'''
CALLS = {
    "weather": ToolCall(id="c1", name="get_weather", arguments={"city": "Lisbon"}),
    "refund": ToolCall(id="c2", name="refund", arguments={"order": "A-1"}),
    "choose": ToolCall(id="c3", name="choose", arguments={}),
    "enough": ToolCall(id="c4", name="enough", arguments={}),
    "steer": ToolCall(id="c6", name="steer", arguments={}),
    "which": ToolCall(id="c5", name="which", arguments={}),
}
ENDS = {
    "length": chat_completions(text="half an", finish="length"),
    "nothing": chat_completions(text=""),
    "refuse": sse(
        {"choices": [{"index": 0, "delta": {"refusal": "I cannot\n\x1b[2J help."}, "finish_reason": "stop"}]}
    ),
}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def answer(request: Request) -> Reply:
    """What the last message names: a fault, a tool, a stream that stands still; else an echo."""
    messages = request.json["messages"]
    text = messages[-1]["content"]
    if messages[-1]["role"] == "tool":
        return Reply(chunks=chat_completions(text=f"It said {text}.", usage=USAGE))
    if text in FAULTS:
        return FAULTS[text]
    if text in CALLS:
        return Reply(chunks=chat_completions(tool_calls=[CALLS[text]], usage=USAGE))
    if text in ENDS:
        return Reply(chunks=ENDS[text])
    if text == "wait":
        chunks = chat_completions(text="One moment please")
        return Reply(chunks=(*chunks[:3], Gate(), *chunks[3:]))
    return Reply(chunks=chat_completions(text=f"{len(messages)} heard: {text}", usage=USAGE))


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer(answer) as server:
        yield server


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place without keys and settings of the person who runs the tests."""
    for name in [name for name in os.environ if name.endswith("_API_KEY") or name.startswith("ALLM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "path", list(sys.path))  # a tool file leaves its folder there
    (tmp_path / "kit.py").write_text(TOOLS)
    return tmp_path


@pytest.fixture
def options(server: LoopbackServer) -> list[str]:
    """Whom to ask."""
    return ["--base-url", f"{server.url}/v1", "--model", "m"]


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def allm(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs a command here: its exit code, what it printed, and what it complained of."""

    def call(*words: str, typed: str = "") -> tuple[int, str, str]:
        import io

        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        code = main(words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def process(home: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Runs a command in a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "allm_actors", *words]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate()
