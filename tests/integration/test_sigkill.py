"""The whole process dies, at any moment: what was said is found again, and nothing that was done is done twice.

A child converses, one session after another, and says over a pipe what it has seen. It is killed as hard as the system
can, at a moment that a seed chose, or by itself in the very moment of an event. Then its store is opened here.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import allm_actors as allm
from allm_actors.actors.store import SQLiteStore
from allm_actors.testing import script
from tests.integration.stage import named, valid_for_provider

MOMENTS, SEED = 25, 20261121
STEPS = 3  # with two tool calls each; then the model answers
EVENTS = ("said", "started", "effect", "answered", "step", "over")
QUESTION, NOTED, LAST = "Write it down.", "noted", "All written."

# Forks before anything was started, so that one start of an interpreter is enough for many deaths.
CHILD = """
    import os, signal, sys
    import allm_actors as allm
    from tests.integration.test_sigkill import converse

    path, effects = sys.argv[1:]
    for line in sys.stdin:
        first, event, count = line.split()
        child = os.fork()
        if not child:
            converse(path, effects, int(first), event, int(count))
        os.waitpid(child, 0)
        os.write(1, b"gone" + bytes([10]))
"""


def engine(name: str, effects: str, seen: Any = lambda *_what: None, done: int = 0) -> allm.Engine:
    """A model that has two lines written down in each step that is not `done`, and the tool that writes them."""

    @allm.tool
    def note(line: str) -> str:
        """Write a line down."""
        with open(effects, "a") as file:  # noqa: PTH123 - one write, appended, before the tool goes on
            file.write(f"{line}\n")
        seen("effect", name, line)
        return NOTED

    scripts = [
        [
            script.text("Writing. "),
            *(
                script.tool_call("note", {"line": f"{name}-{step}{part}"}, id=f"{step}{part}")
                for part in "ab"
            ),
            script.finish("tool_calls"),
        ]
        for step in range(STEPS)
    ]
    scripts = [*scripts[done:], [script.text("All "), script.text("written."), script.finish("stop")]]
    return allm.Engine(adapter="fake", tools=[note], adapter_opts={"scripts": scripts})


def converse(path: str, effects: str, first: int, event: str, count: int) -> None:
    """The child: one conversation after another, until it is killed, or has seen `event` for the `count`th time."""
    seen: Counter[str] = Counter()

    def tell(kind: str, *what: object) -> None:
        os.write(1, (" ".join(map(str, (kind, *what))) + "\n").encode())
        seen[kind] += 1
        if (kind, seen[kind]) == (event, count):
            os.kill(os.getpid(), signal.SIGKILL)

    with allm.Host(path) as host:
        tell("ready", os.getpid())
        for number in range(first, first + 50):
            name = f"s{number}"
            for each in host.session(name, engine(name, effects, tell)).reply(QUESTION):
                match each:
                    case allm.TextDelta():
                        tell("said", name)
                    case allm.ToolExecutionStarted():
                        tell("started", name)
                    case allm.ToolResultEncoded():
                        tell("answered", name, each.id)
                    case allm.StepCompleted():
                        tell("step", name, len(each.thread.messages))
                    case allm.ChatCompleted():
                        tell("over", name)
    os._exit(0)


class Child:
    """Whom we kill, and what they had told before."""

    def __init__(self, folder: Path) -> None:
        self.path, self.effects = str(folder / "sessions.db"), str(folder / "effects.txt")
        self._process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CHILD), self.path, self.effects],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._rest = b""
        self.told: list[list[str]] = []

    def dies(self, first: int, event: str, count: int, after: float) -> list[list[str]]:
        """Let a child converse and die of `event`, or of us `after` so many seconds; what it had told."""
        self.told = []
        assert self._process.stdin is not None
        self._process.stdin.write(f"{first} {event} {count}\n".encode())
        self._process.stdin.flush()
        pid = int(self._hears("ready")[1])
        if event == "none":
            self._listens(after)
            os.kill(pid, signal.SIGKILL)
        self._hears("gone")
        return self.told

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=10)

    def _hears(self, what: str) -> list[str]:
        deadline = time.monotonic() + 20
        while True:
            for line in self.told:
                if line[0] == what:
                    return line
            assert self._listen(deadline - time.monotonic()), f"no {what!r}; told: {self.told[-5:]}"

    def _listens(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._listen(deadline - time.monotonic()):
            pass

    def _listen(self, seconds: float) -> bool:
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        if seconds <= 0 or not select.select([pipe], [], [], seconds)[0]:
            return False
        data = os.read(pipe, 65536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.told += [line.decode().split() for line in lines]
        return bool(data)


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    child = Child(tmp_path)
    yield child
    child.close()


def is_kept(session: allm.Session, told: list[list[str]]) -> None:
    """What the child had seen of this session is stored; what it had seen to its end, as it ended."""
    mine = [line for line in told if line[1:2] == [session.id]]
    messages = session.thread.messages
    for line in mine:
        if line[0] == "step":
            step = messages[: int(line[2])]
            assert len(step) == int(line[2])
            assert {message.content for message in step if message.role == "tool"} <= {NOTED}
        if line[0] == "answered":
            assert line[2] in [message.tool_call_id for message in messages]
    if ["over", session.id] in mine:
        assert (session.status, messages[-1].content) == ("completed", LAST)


def goes_on(host: allm.Host, child: Child, name: str) -> None:
    """The conversation is brought to its end, and no line was written twice, or without the thread saying so."""
    done = sum(bool(message.tool_calls) for message in host.session(name, engine(name, "")).messages)
    chat = host.session(name, engine(name, child.effects, done=done))
    valid_for_provider(chat.messages)
    if chat.status != "completed":
        assert chat.continue_().result().halted_reason == "completed"
    assert chat.messages[-1].content == LAST
    valid_for_provider(chat.messages)
    lines = Counter(Path(child.effects).read_text().split())
    for message in chat.messages:
        for call in message.tool_calls:
            (answer,) = [each.content for each in chat.messages if each.tool_call_id == call.id]
            written = lines[str(call.arguments["line"])]
            assert written == 1 if answer == NOTED else written <= 1, (call, answer, written)


def points() -> list[tuple[str, int, float]]:
    """Every event in several places, and as many moments."""
    seeded = random.Random(SEED)
    events = [(event, 1 + nth + seeded.randrange(4), 0.0) for event in EVENTS for nth in range(5)]
    return [*events, *(("none", 0, seeded.uniform(0.0, 0.08)) for _ in range(MOMENTS))]


@pytest.mark.slow
def test_a_process_may_die_at_any_moment(child: Child) -> None:
    first, finished = 0, set[str]()
    for event, count, after in points():
        with named(f"{count}. {event}" if count else f"after {after:.4f} s"):
            told = child.dies(first, event, count, after)
            began = {line[1] for line in told if line[0] in EVENTS}
            kept = SQLiteStore(child.path)
            kept.open()
            stored = {name: kept.load(name) for name in kept.ids()}
            kept.close()
            assert began | finished <= stored.keys()
            for name in sorted(began):
                is_kept(stored[name], told)  # type: ignore[arg-type]
            with allm.Host(child.path) as host:
                waiting = {
                    each.id
                    for each in host.stored_sessions()
                    if each.unanswered and each.halted_reason is None
                }
                answered = {
                    name for name, each in stored.items() if each and each.messages[-1].content == LAST
                }
                assert waiting == stored.keys() - answered, (
                    "who is to go on is who was in the middle of a turn"
                )
                for name in sorted(set(stored) - finished):
                    goes_on(host, child, name)
                    finished.add(name)
            first += 50
