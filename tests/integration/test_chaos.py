"""Many conversations at once, and somebody who keeps killing whoever works for them."""

from __future__ import annotations

import logging
import random
import threading
from pathlib import Path
from typing import Any

import pytest

import allm_actors as allm
from allm_actors.testing import script
from supervisors import exit as exit_process
from tests.integration.stage import AGAIN, Place, leaves_nothing, one_end, valid_for_provider

SESSIONS, TURNS, ANSWERS, DEATHS, SEED = 8, 25, 9, 80, 20261121
MORTALS = ("SessionActor", "AdapterActor", "ToolActor", "AsyncToolActor")
ABOVE = {10: "store", 20: "sessions", 30: "work"}  # who dies, beside them, at which death


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, logger="supervisors")
    caplog.set_level(logging.CRITICAL + 1, logger="allm_actors")


@allm.tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@allm.tool
async def multiply(a: int, b: int) -> int:
    """Multiply."""
    return a * b


def engine() -> allm.Engine:
    """A model that calculates, then says so; with pauses, so that there is somebody to kill."""
    calls = [script.tool_call("add", {"a": 1, "b": 2}), script.tool_call("multiply", {"a": 3, "b": 4})]
    asks = [
        script.text("Let me "),
        script.delay(0.002),
        script.text("see."),
        *calls,
        script.finish("tool_calls"),
    ]
    tells = [script.text("It is "), script.delay(0.002), script.text("12."), script.finish("stop")]
    return allm.Engine(adapter="fake", tools=[add, multiply], adapter_opts={"scripts": [asks, tells]})


class Talker(threading.Thread):
    """Somebody who asks one question after another, whatever happens, until enough of them are answered.

    While what they need is being restarted, a question is refused at once: how many are depends on the machine.
    """

    def __init__(self, place: Place, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.place = place
        self.ends: list[str] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Ask until all is asked; the first thing that may not happen ends it."""
        try:
            while len(self.ends) < TURNS or self.ends.count("completed") < ANSWERS:
                self.ends.append(self.turn())
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.failure = error

    def turn(self) -> str:
        """One question; how it ended."""
        events: list[Any] = []
        result: Any = None
        error: BaseException | None = None
        try:
            chat = self.place.session(self.name, engine())
            if chat.status == "error":
                chat.recover()
            turn = chat.reply("And now?")
            for event in turn:  # one by one: what came before a failure counts
                events.append(event)  # noqa: PERF402
            result = turn.result()
        except allm.AllmError as refused:
            error = refused
        return one_end(events, result, error, iterated=error is None)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["loop", "pool", "threads"])
def test_conversations_outlive_those_who_work_for_them(kind: str, tmp_path: Path) -> None:
    seeded = random.Random(SEED)
    with leaves_nothing(), Place(kind, tmp_path / "sessions.db") as place:
        talkers = [Talker(place, f"s{number}") for number in range(SESSIONS)]
        for talker in talkers:
            talker.start()
        deaths = 0
        while any(talker.is_alive() for talker in talkers):
            talkers[seeded.randrange(SESSIONS)].join(0.003)
            mortals = [ref for ref in place.host.system.processes() if ref.actor_class.__name__ in MORTALS]
            if mortals and deaths < DEATHS:
                above = place.host.system.whereis(ABOVE.get(deaths))
                exit_process(above or seeded.choice(mortals), "kill")
                deaths += 1
        for talker in talkers:
            assert talker.failure is None
            assert talker.ends.count("completed") >= ANSWERS
        assert deaths > DEATHS // 4
        for talker in talkers:
            chat = place.session(talker.name, engine())
            if chat.status == "error":
                chat.recover()
            assert chat.reply(AGAIN).result().halted_reason == "completed"
            valid_for_provider(chat.messages)
