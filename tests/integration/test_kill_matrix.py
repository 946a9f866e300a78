"""Whoever dies, whenever: the caller gets one end, the tree is whole again, the conversation goes on, nothing leaks.

Source: Erlang/OTP, "supervisor" (a killed child is replaced, its siblings as the strategy says).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

import allm_actors as allm
from allm_actors.testing.loopback import LoopbackServer, Reply, Request
from supervisors import exit as exit_process
from tests.integration.stage import (
    AGAIN,
    PROMPT,
    QUESTION,
    HeldStore,
    Hold,
    Place,
    Provider,
    Reader,
    Tools,
    leaves_nothing,
    named,
    until,
    valid_for_provider,
)

NAMED = ("store", "work", "adapters", "tools", "sessions", "host")
PHASES = (
    "before the first pull",
    "call open",
    "mid-stream",
    "tool running",
    "two tools running",
    "between steps",
    "idle",
)
PLACES = ("loop", "pool", "threads", "async")


def victims(phase: str) -> tuple[str, ...]:
    """Who lives in a phase, and can die."""
    match phase:
        case "call open" | "mid-stream":
            return ("adapter", "session", *NAMED)
        case "tool running" | "two tools running":
            return ("tool", "async tool", "session", *NAMED)
        case _:
            return ("session", *NAMED)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, logger="supervisors")
    caplog.set_level(logging.CRITICAL + 1, logger="allm_actors")


@pytest.fixture(scope="module")
def server() -> Iterator[LoopbackServer]:
    def reply(request: Request) -> Reply:
        return CURRENT[0].reply(request)

    with LoopbackServer(reply) as server:
        yield server


CURRENT: list[Provider] = []


class Scene:
    """One question in one phase, and somebody to be killed in it."""

    def __init__(self, place: Place, provider: Provider, tools: Tools, store: HeldStore, phase: str) -> None:
        self.place, self.provider, self.tools, self.store, self.phase = place, provider, tools, store, phase
        self.abandoned = provider.server.abandoned if provider.server is not None else 0

    def prepare(self, victim: str) -> None:
        """Shut the gates of the phase."""
        tools = self.tools
        match self.phase:
            case "call open":
                self.provider.opening = Hold()
            case "mid-stream":
                self.provider.middle = Hold()
            case "tool running" if victim == "async tool":
                tools.asynchronous = Hold()
            case "tool running":
                tools.sync = Hold()
            case "two tools running":
                tools.sync, tools.asynchronous = Hold(), Hold()
            case "between steps":
                self.store.held = lambda batch: any(
                    save.session.messages and save.session.messages[-1].role == "tool" for save in batch
                )

    def reached(self, reader: Any) -> None:
        """Wait until the phase is reached."""
        match self.phase:
            case "call open":
                assert self.provider.opening.reached.wait(2)
            case "mid-stream":
                assert self.provider.middle.reached.wait(2)
                if reader.iterates:
                    reader.hears(allm.TextDelta)
            case "tool running" | "two tools running":
                for each in (self.tools.sync, self.tools.asynchronous):
                    assert each.is_open or each.reached.wait(2)
            case "between steps":
                assert self.store.hold.reached.wait(2)
            case "idle":
                assert reader.ends() == "completed"

    def victim(self, name: str, id: str) -> Any:
        """The process to kill."""
        match name:
            case "adapter":
                return self.place.find("AdapterActor", "BlockingAdapterActor")
            case "tool":
                return self.place.find("ToolActor")
            case "async tool":
                return self.place.find("AsyncToolActor")
            case "session":
                return self.place.host.system.whereis(("sessions", id))
            case _:
                return self.place.host.system.whereis(name)

    def is_let_go(self) -> None:
        """Whoever worked for the turn that has ended is stopped, without anything being opened."""
        match self.phase:
            case "call open" | "mid-stream" if self.provider.server is not None:
                self.provider.server.wait_for(lambda server: server.abandoned == self.abandoned + 1, PROMPT)
            case "tool running" | "two tools running":
                until(lambda: sorted(self.tools.stopped) == sorted(self.tools.ran), PROMPT)
            case _:
                pass

    def open_all(self) -> None:
        """Hold nothing any more."""
        self.provider.open_all()
        self.store.hold.open()


def wanted(victim: str, phase: str) -> list[str]:
    """The tools the model asks for."""
    if phase == "two tools running":
        return ["thermometer", "barometer"]
    return ["barometer"] if victim == "async tool" else ["thermometer"]


def stops_the_turn(victim: str, phase: str) -> bool:
    """Whether the turn has to end by itself, before anything that is held is let go."""
    match phase:
        case "call open" | "mid-stream":
            return victim != "tools"
        case "tool running":
            return victim not in ("adapters", "tools")
        case "two tools running":
            return victim not in ("adapters", "tools", "tool", "async tool")
        case "between steps":
            return victim in ("session", "store")
        case _:
            return False


def expected(victim: str, phase: str) -> set[str]:
    """How a turn may end that was disturbed."""
    if phase == "before the first pull":
        return {
            "completed",
            "error",
            "interrupted",
            "SessionError",
            "StoreError",
        }  # it may die before it was asked
    match victim:
        case _ if phase == "idle":
            return {"completed"}
        case "tool" | "async tool":
            return {"completed"}  # the model is told that the tool broke off
        case "tools":
            return {"completed", "error"} if phase == "between steps" else {"completed"}
        case "adapter" | "session":
            return {"error"}
        case "adapters":
            return {"completed", "error"}
        case "work" | "sessions" | "host" if phase == "between steps":
            # The store is let go at once, and what is left of the turn may be faster than the news of the death.
            return {"completed", "interrupted", "error", "SessionError"}
        case _:
            return {"interrupted", "error", "SessionError"}


def is_whole(place: Place) -> bool:
    """Whether every process of the tree that has a name is alive."""
    refs = [place.host.system.whereis(name) for name in NAMED]
    return all(ref is not None and ref.is_alive() for ref in refs)


def perform(victim: str, phase: str, kind: str, how: str, server: LoopbackServer | None) -> str:
    """One question, one death, and everything that must hold after it; how the turn ended."""
    tools, store = Tools(), HeldStore()
    provider = Provider(tools, wanted(victim, phase), server)
    CURRENT[:] = [provider]
    with Place(kind, store) as place:
        scene = Scene(place, provider, tools, store, phase)
        scene.prepare(victim)
        try:
            return disturbed(scene, victim, how)
        finally:
            scene.open_all()


def disturbed(scene: Scene, victim: str, how: str) -> str:
    place, phase = scene.place, scene.phase
    chat = place.session("s", scene.provider.engine())
    session = scene.victim("session", "s")
    if phase == "before the first pull":
        turn = place.run(lambda: chat.reply(QUESTION))
        exit_process(scene.victim(victim, "s"), "kill")
        reader = Reader(turn, how, place.loop)
    else:
        reader = place.read(chat, QUESTION, how)
        scene.reached(reader)
        exit_process(scene.victim(victim, "s"), "kill")
    if stops_the_turn(victim, phase):
        reader.ends()
        scene.is_let_go()
    scene.open_all()
    end = reader.ends()
    if victim == "host":
        with pytest.raises(allm.AllmError):
            place.session("s", scene.provider.engine())
        place.host.start()
        chat = place.session("s", scene.provider.engine())
    if victim not in ("adapter", "adapters", "tool", "async tool", "tools"):
        until(lambda: not session.is_alive())  # the tree looks whole for as long as the news is on its way
    until(lambda: is_whole(place))
    goes_on(scene, chat, reader.error)
    return end


def goes_on(scene: Scene, chat: Any, error: BaseException | None) -> None:
    """The next question on that session is answered, and what was said is what providers accept."""
    place = scene.place
    if chat.status == "error":
        place.run(chat.recover)
    again = place.session("s", scene.provider.engine(again=True))
    reader = place.read(again, AGAIN, "async" if place.kind == "async" else "iterate")
    assert reader.ends() == "completed", (reader.error, reader.result)
    valid_for_provider(again.messages)
    said = [message.content for message in again.messages if message.role == "user"]
    stored, refused = [QUESTION, AGAIN], [AGAIN]
    if isinstance(error, allm.StoreError) and error.reason == "unconfirmed":
        assert said in (stored, refused)
    else:
        assert said == (stored if error is None else refused)


def readers(kind: str, over: str) -> tuple[str, ...]:
    """How the turns are read in a place."""
    if kind == "async":
        return ("async", "await")
    return ("iterate",) if over == "http" and kind != "loop" else ("iterate", "result", "async")


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("over", ["http", "script"])
@pytest.mark.parametrize("kind", PLACES)
def test_every_death_leaves_one_end_and_a_whole_tree(
    kind: str, over: str, phase: str, server: LoopbackServer
) -> None:
    for victim in victims(phase):
        for how in readers(kind, over):
            with leaves_nothing(server), named(victim, how):
                end = perform(victim, phase, kind, how, server if over == "http" else None)
                assert end in expected(victim, phase), end
