"""A crowd on one host: everybody talks at once, somebody kills, and nobody's words are lost or said twice."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import allm_actors as allm
from allm_actors.actors.log import log
from allm_actors.actors.sessions.session import SessionActor
from allm_actors.actors.streams.channel import Channel
from allm_actors.actors.turns.run import TurnRun
from allm_actors.actors.workers.adapter import AdapterActor
from allm_actors.actors.workers.tools import ToolActor
from allm_actors.data import AllmError
from allm_actors.engine.adapter import Call, Delay
from allm_actors.engine.script import stage
from allm_actors.testing import script
from supervisors import exit as exit_process
from tests.integration.stage import until, valid_for_provider

OF_A_TURN = (AdapterActor, ToolActor, TurnRun, Channel)
MORTALS = ("AdapterActor", "ToolActor", "SessionActor")


@allm.tool
def upper(text: str) -> str:
    """Shout."""
    time.sleep(0.002)  # long enough to be found at work, and killed
    return text.upper()


class Echo:
    """Calls the tool with what the user said, then says what came of it."""

    name = "echo"

    def requires_structured_finalize(self, _request: Any) -> bool:
        return False

    def stream(self, request: Any, call: Call) -> Iterator[Any]:
        return (item for item in self.play(request, call) if not isinstance(item, Delay))

    def play(self, request: Any, _call: Call) -> Iterator[Any]:
        last = request.messages[-1]
        if last.role == "tool":
            said = [script.text("I heard "), script.delay(0.001), script.text(str(last.content))]
            return iter(stage([*said, script.finish("stop")]))
        calls = [
            script.delay(0.001),
            script.tool_call("upper", {"text": last.content}),
            script.finish("tool_calls"),
        ]
        return iter(stage(calls))


class Talker:
    """One user with one session, who goes on whatever happens."""

    def __init__(self, host: allm.Host, name: str) -> None:
        self.chat: Any = host.session(name, allm.Engine(adapter=Echo(), tools=[upper]))
        self.name = name
        self.completed: list[str] = []
        self.said: list[str] = []
        self.ended: Counter[str] = Counter()

    async def talk(self, end: float) -> None:
        """Until then."""
        while time.monotonic() < end:
            text = f"{self.name} says {len(self.said)}"
            self.said.append(text)
            try:
                result = await self.chat.reply(text)
            except AllmError as error:
                self.ended[type(error).__name__] += 1
                await asyncio.sleep(0.01)  # whoever died is being replaced
            else:
                self.ended[str(result.halted_reason)] += 1
                if result.halted_reason == "completed":
                    self.completed.append(text)
            await self.mend()

    async def mend(self) -> None:
        """Make it usable again."""
        while self.chat.status == "error":
            try:
                await self.chat.recover()
            except AllmError:
                await asyncio.sleep(0.01)

    def look(self) -> None:
        """Everything that was answered is there, once, in order; nothing is there twice."""
        messages = self.chat.messages
        valid_for_provider([*messages, allm.user("?")])
        said = [str(message.content) for message in messages if message.role == "user"]
        assert said == [text for text in self.said if text in set(said)], (
            f"{self.name}: said twice, or out of order"
        )
        assert set(self.completed) <= set(said), f"{self.name}: what was answered is lost"
        roles = {text: [message.role for message in rest] for text, rest in self._turns(messages)}
        for text in self.completed:  # a killed tool is an answer, too
            assert roles[text] == ["assistant", "tool", "assistant"], f"{self.name}: {text!r}: {roles[text]}"

    def _turns(self, messages: list[allm.Message]) -> Iterator[tuple[str, list[allm.Message]]]:
        starts = [at for at, message in enumerate(messages) if message.role == "user"]
        for at, end in zip(starts, [*starts[1:], len(messages)], strict=True):
            yield str(messages[at].content), messages[at + 1 : end]


async def kill_now_and_then(host: allm.Host, seed: int, pause: float) -> Counter[str]:
    """Kill one of those who work, again and again."""
    dice, deaths = random.Random(seed), Counter[str]()
    try:
        while True:
            await asyncio.sleep(dice.uniform(0, 2 * pause))
            # Sessions are always there, workers come and go: of those that are there, the kind that has died least.
            there = [(ref, ref.actor_class.__name__) for ref in host.system.processes()]
            kinds = {kind for _, kind in there if kind in MORTALS}
            if kinds:
                kind = min(sorted(kinds), key=lambda kind: deaths[kind])
                exit_process(dice.choice([ref for ref, each in there if each == kind]), "kill")
                deaths[kind] += 1
    except asyncio.CancelledError:
        return deaths


async def crowd(talkers: int, seconds: float) -> tuple[Counter[str], Counter[str], int]:
    """So many talk for so long: how their turns ended, who died, and how many processes were left at the end."""
    async with allm.Host() as host:
        base = len(host.system.processes())
        crowd = [Talker(host, f"talker {number}") for number in range(talkers)]
        killer = asyncio.create_task(kill_now_and_then(host, seed=talkers, pause=0.03))
        end = time.monotonic() + seconds
        await asyncio.gather(*(talker.talk(end) for talker in crowd))
        killer.cancel()
        deaths = await killer
        for talker in crowd:
            talker.look()
        for talker in crowd:
            await talker.chat.stop()
        for _ in range(200):
            if len(host.system.processes()) == base:
                break
            await asyncio.sleep(0.01)
        return sum((talker.ended for talker in crowd), Counter()), deaths, len(host.system.processes()) - base


class Sharer:
    """One of two who talk to the same session, each on a host of their own; who comes second opens it anew."""

    def __init__(self, host: allm.Host, name: str, who: str) -> None:
        self.host, self.name, self.who = host, name, who
        self.completed: list[str] = []
        self.ended: Counter[str] = Counter()

    async def talk(self, turns: int) -> None:
        """So many turns."""
        for number in range(turns):
            chat: Any = self.host.session(self.name, allm.Engine(adapter=Echo(), tools=[upper]))
            text = f"{self.who} says {number}"
            try:
                result = await chat.reply(text)
            except AllmError as error:
                self.ended[type(error).__name__] += 1
            else:
                error = result.metadata.get("error")
                refused = isinstance(error, allm.StoreError)
                self.ended[error.reason if refused else str(result.halted_reason)] += 1
                if result.halted_reason == "completed":
                    self.completed.append(text)
            await chat.stop()  # what the other has saved is seen by who opens it


async def shared(path: Path, sessions: int, turns: int) -> tuple[list[Sharer], dict[str, list[allm.Message]]]:
    """Two hosts over one file: who talked, and what the file has of each session."""
    async with allm.Host(store=path) as one, allm.Host(store=path) as two:
        names = [f"session {number}" for number in range(sessions)]
        sharers = [Sharer(host, name, who) for name in names for host, who in ((one, "one"), (two, "two"))]
        await asyncio.gather(*(sharer.talk(turns) for sharer in sharers))
    with allm.Host(store=path) as host:
        engine = allm.Engine(adapter=Echo())
        return sharers, {name: host.session(name, engine).messages for name in names}


def test_two_hosts_over_one_file_lose_nothing_and_say_nothing_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("supervisors", "allm_actors"):
        caplog.set_level(logging.CRITICAL + 1, logger=name)
    sharers, stored = asyncio.run(shared(tmp_path / "sessions.db", sessions=10, turns=8))
    ended = sum((sharer.ended for sharer in sharers), Counter[str]())
    print(f"two hosts: {dict(ended)}")  # noqa: T201 - shown with -rP
    for sharer in sharers:
        messages = stored[sharer.name]
        valid_for_provider([*messages, allm.user("?")])
        said = [str(message.content) for message in messages if message.role == "user"]
        assert len(said) == len(set(said)), f"{sharer.name}: said twice"
        mine = [text for text in said if text in sharer.completed]
        assert mine == sharer.completed, f"{sharer.name}: what was answered to {sharer.who} is lost"
    assert ended["completed"] >= len(stored)
    assert ended["conflict"] > 0, "the two were never in each other's way"


def left() -> list[str]:
    """What of turns and sessions is still in memory."""
    gc.collect()
    kinds = {
        *OF_A_TURN,
        SessionActor,
    }  # not `isinstance`: an abstract class remembers every type that it is asked about
    return [type(each).__name__ for each in gc.get_objects() if not kinds.isdisjoint(type(each).__mro__)]


def counted() -> int:
    """How many objects of any kind are in memory."""
    gc.collect()
    return len(gc.get_objects())


@pytest.mark.parametrize(
    ("talkers", "seconds"),
    [
        pytest.param(200, 5.0, marks=pytest.mark.slow, id="200 for 5 s"),
        pytest.param(1000, 60.0, marks=[pytest.mark.soak, pytest.mark.timeout(300)], id="1000 for a minute"),
    ],
)
def test_everybody_talks_at_once(talkers: int, seconds: float, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("supervisors", "allm_actors"):
        caplog.set_level(logging.CRITICAL + 1, logger=name)
    log.debug("the first line loads what writes lines")
    asyncio.run(crowd(talkers, seconds / 5))  # what is made once is made now
    before, objects = len(left()), counted()
    ended, deaths, processes = asyncio.run(crowd(talkers, seconds))
    assert ended["completed"] >= talkers
    assert set(deaths) == set(MORTALS)
    assert processes == 0, "processes are left when all sessions are stopped"
    until(lambda: len(left()) <= before, 5.0)
    more = counted() - objects
    print(f"{sum(ended.values())} turns: {dict(ended)}; killed: {dict(deaths)}; {more} objects more")  # noqa: T201 - -rP
    assert more < talkers, "something of each session is left"
