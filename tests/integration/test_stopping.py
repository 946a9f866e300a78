"""A host that is stopped, tools that take too long, and turns that come while another runs: everybody is told, once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import allm_actors as allm
from allm_actors.testing import script
from allm_actors.testing.loopback import LoopbackServer, Reply, Request
from tests.integration.stage import (
    AGAIN,
    ANSWER,
    QUESTION,
    SOON,
    HeldStore,
    Hold,
    Place,
    Provider,
    Reader,
    Tools,
    leaves_nothing,
    until,
    valid_for_provider,
)

PHASES = ("before the first pull", "call open", "mid-stream", "tools running", "between steps", "queued")
PLACES = ("loop", "pool", "threads", "async")
CURRENT: list[Provider] = []


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


@pytest.fixture
def place() -> Iterator[Place]:
    with Place("loop") as place:
        yield place


# --- the host stops ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("kind", PLACES)
def test_a_stop_interrupts_the_turn_and_keeps_what_was_said(
    kind: str, phase: str, server: LoopbackServer
) -> None:
    tools, store = Tools(), HeldStore()
    provider = Provider(tools, ["thermometer", "barometer"], server)
    CURRENT[:] = [provider]
    how = "async" if kind == "async" else "iterate"
    with leaves_nothing(server), Place(kind, store) as place:
        chat = place.session("s", provider.engine())
        reader = begun(place, chat, phase, provider, store, how)
        place.stop()
        assert reader.ends() == "interrupted"
    if phase == "tools running":
        assert sorted(tools.ran) == ["barometer", "thermometer"]
        until(lambda: sorted(tools.stopped) == sorted(tools.ran))
    provider.open_all()
    with Place("loop", store) as place:
        chat = place.session("s", provider.engine(again=True))
        assert place.read(chat, AGAIN, "iterate").ends() == "completed"
        valid_for_provider(chat.messages)
        users = [message.content for message in chat.messages if message.role == "user"]
        assert users == ([AGAIN, AGAIN] if phase == "queued" else [QUESTION, AGAIN])
        partial = [message.content for message in chat.messages if message.metadata.get("partial")]
        assert partial == (["Let me "] if phase == "mid-stream" else [])


def begun(place: Place, chat: Any, phase: str, provider: Provider, store: HeldStore, how: str) -> Reader:
    """A turn that has come to this phase."""
    tools = provider.tools
    match phase:
        case "before the first pull":
            turn = place.run(lambda: chat.reply(QUESTION))
            until(lambda: store.load("s") is not None)
            return Idle(turn, how, place)  # type: ignore[return-value]
        case "call open":
            provider.opening = hold = Hold()
        case "mid-stream":
            provider.middle = hold = Hold()
        case "tools running":
            tools.sync, tools.asynchronous = Hold(), Hold()
            hold = tools.asynchronous
        case "between steps":
            store.held = lambda batch: batch[0].session.messages[-1].role == "tool"
            hold = store.hold
            provider.reopening = Hold()  # however late the stop comes, the turn cannot have ended before
            threading.Thread(target=lambda: (hold.reached.wait(), hold.open())).start()
        case _:
            provider.reopening = Hold()  # somebody waits for the end of the first turn: it runs unread
            first = place.run(lambda: chat.reply(AGAIN))  # stays unread: the next one waits behind it
            reader = place.read(chat, QUESTION, how)
            reader.keeps = first  # type: ignore[attr-defined]
            until(lambda: store.load("s") is not None)
            return reader
    reader = place.read(chat, QUESTION, how)
    assert hold.reached.wait(SOON)
    if phase == "tools running":
        assert tools.sync.reached.wait(SOON)
    if phase == "mid-stream":
        reader.hears(allm.TextDelta)
    return reader


class Idle:
    """A turn that nobody reads until it is over."""

    def __init__(self, turn: Any, how: str, place: Place) -> None:
        self._turn, self._how, self._place = turn, how, place

    def ends(self) -> str:
        """Read it now."""
        return Reader(self._turn, "iterate").ends()


def test_a_stop_while_nothing_runs_is_quick_and_a_second_one_harmless(server: LoopbackServer) -> None:
    for kind in PLACES:
        with leaves_nothing(server), Place(kind) as place:
            place.session("s", Provider(Tools(), [], None).engine())
        place.stop() if kind != "async" else None


# --- tools take too long -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("tool", ["thermometer", "barometer"])
def test_a_tool_that_hangs_is_given_up_and_told_so(kind: str, tool: str) -> None:
    tools = Tools()
    tools.sync, tools.asynchronous = Hold(), Hold()
    provider = Provider(tools, [tool], None)
    with leaves_nothing(), Place(kind) as place:
        chat = place.session("s", provider.engine())
        reader = place.read(chat, QUESTION, "async" if kind == "async" else "iterate", tool_timeout=0.05)
        assert reader.ends() == "completed"
        until(lambda: tools.stopped == tools.ran)
        assert tools.ran in ([tool], [])  # on a busy machine its time may be up before it is begun
        (answer,) = [message.content for message in chat.messages if message.role == "tool"]
        assert "0.05" in answer
        valid_for_provider(chat.messages)


def test_tools_that_cannot_be_stopped_do_not_take_the_host_down(place: Place) -> None:
    deaf, count = threading.Event(), 100
    running = threading.Semaphore(0)

    @allm.tool
    def dig() -> str:
        """Dig."""
        running.release()
        deaf.wait(30)
        return "done"

    calls = [script.tool_call("dig", id=f"c{i}") for i in range(count)]
    engine = allm.Engine(
        adapter="fake", tools=[dig], adapter_opts={"script": [*calls, script.finish("tool_calls")]}
    )
    chat = place.session("s", engine)
    try:
        reader = place.read(chat, QUESTION, "iterate", max_concurrency=count)
        for _ in range(count):
            assert running.acquire(timeout=10)
        chat.cancel()
        assert reader.ends() == "cancelled"
        assert place.host.running
        again = place.session("s", Provider(Tools(), [], None).engine(again=True))
        assert place.read(again, AGAIN, "iterate").ends() == "completed"
    finally:
        deaf.set()


def test_calls_that_hang_are_counted_and_the_next_ones_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="supervisors")
    deaf = threading.Event()

    @allm.tool(timeout=0.05)
    def dig() -> str:
        """Dig."""
        deaf.wait(30)
        return "done"

    calls = [script.tool_call("dig"), script.finish("tool_calls")]
    says = [script.text("Well."), script.finish("stop")]

    def told(name: str) -> Any:
        engine = allm.Engine("fake", tools=[dig], adapter_opts={"scripts": [calls, says]})
        return host.session(name, engine).reply("Dig!").result().thread.messages[2].content

    def reports() -> list[str]:
        return [line for line in caplog.messages if line.startswith("zombie: ToolActor")]

    with allm.Host(max_zombies=2) as host:
        try:
            assert [told(name).count("did not answer within 0.05 s") for name in "abc"] == [1, 1, 1]
            until(lambda: len(reports()) == 3, 5.0)  # told after they are counted
            assert len(host.system.zombies) == 3
            assert all("deaf.wait(30)" in line for line in reports())
            assert "dig was not started: 3 killed calls still block their threads" in told("d")
            chat = host.session("e", allm.Engine("fake", adapter_opts={"script": says}))
            assert chat.reply("hi").result().halted_reason == "completed"
        finally:
            deaf.set()
        until(lambda: not host.system.zombies)
        assert told("f") == "done"


class Waiting:
    """An adapter that needs a thread, because `stream` may block; or, with a generator, none."""

    name = "waiting"

    def __init__(self, *, asynchronous: bool) -> None:
        if asynchronous:
            self.stream = self.generated

    def stream(self, request: Any, call: Any) -> Any:
        return self.generated(request, call)

    async def generated(self, _request: Any, _call: Any) -> Any:
        yield allm.MessageStarted()
        yield allm.MessageCompleted(allm.assistant("hi"), "stop")


def test_tools_that_hang_hold_up_no_model_and_keys_that_hang_no_tool() -> None:
    deaf = threading.Event()
    calls = [script.tool_call("look"), script.finish("tool_calls")]
    says = [script.text("Well."), script.finish("stop")]

    def look() -> str:
        """Look."""
        return "seen"

    def hang() -> str:
        """Look for ever."""
        deaf.wait(30)
        return "k"

    def told(name: str, handler: Any, **options: Any) -> Any:
        tool = allm.tool(name="look")(handler)
        engine = allm.Engine("fake", tools=[tool], adapter_opts={"scripts": [calls, says]})
        return host.session(name, engine).reply("Look!", **options).result().thread.messages[2].content

    def asked(name: str, adapter: Any, **options: Any) -> Any:
        return host.session(name, allm.Engine(adapter)).reply("Hi", **options).result()

    with allm.Host(max_zombies=0) as host:
        try:
            told("a", hang, tool_timeout=0.05)
            until(lambda: len(host.system.zombies) == 1)
            assert "1 killed calls still block" in told("b", look)
            for n, adapter in enumerate([Waiting(asynchronous=False), Waiting(asynchronous=True), "fake"]):
                options = {"adapter_opts": {"script": says}} if adapter == "fake" else {}
                assert asked(f"c{n}", adapter, **options).halted_reason == "completed"
        finally:
            deaf.set()
        until(lambda: not host.system.zombies)
        deaf.clear()
        try:
            with pytest.raises(allm.EngineError, match="did not answer"):
                asked("d", "openai:gpt-4o", api_key=hang, request_timeout=0.05)
            until(lambda: len(host.system.zombies) == 1)
            assert told("e", look) == "seen"
            assert asked("f", Waiting(asynchronous=True)).halted_reason == "completed"
            refused = asked("g", Waiting(asynchronous=False))
            assert "still block their threads" in str(refused.metadata["error"])
        finally:
            deaf.set()


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "many", None])
def test_how_many_may_hang_is_a_number(wrong: Any) -> None:
    with pytest.raises(ValueError, match="max_zombies must be a whole number"):
        allm.Host(max_zombies=wrong)


# --- turns while another runs ------------------------------------------------------------------------------------


class Busy:
    """A session whose turn is held in the middle, and what else is asked of it meanwhile."""

    def __init__(self, place: Place, **options: Any) -> None:
        self.place = place
        self.provider = Provider(Tools(), [], None)
        self.provider.middle = Hold()
        self.chat = place.session("s", self.provider.engine(), **options)
        self.first = place.read(self.chat, QUESTION, "iterate")
        assert self.provider.middle.reached.wait(SOON)
        self.chat = place.session("s", self.provider.engine(again=True), **options)

    def users(self) -> list[Any]:
        """What was asked, as it is kept."""
        return [message.content for message in self.chat.messages if message.role == "user"]


def test_a_turn_that_comes_while_one_runs_waits_for_it(place: Place) -> None:
    busy = Busy(place)
    second = place.read(busy.chat, AGAIN, "iterate")
    assert not second.done.is_set()
    busy.provider.open_all()
    assert busy.first.ends() == "completed"
    assert second.ends() == "completed"
    assert busy.users() == [QUESTION, AGAIN]
    assert busy.chat.messages[-1].content == ANSWER


def test_a_queue_has_an_end(place: Place) -> None:
    busy = Busy(place, queue_limit=1)
    waiting = busy.chat.reply(AGAIN)
    with pytest.raises(allm.SessionBusy):
        busy.chat.reply("No more")
    waiting.close()
    assert waiting.result().halted_reason == "cancelled"
    busy.provider.open_all()
    assert busy.first.ends() == "completed"
    assert busy.users() == [QUESTION]


def test_a_turn_that_comes_while_one_runs_can_be_refused(place: Place) -> None:
    busy = Busy(place, when_busy="reject")
    with pytest.raises(allm.SessionBusy):
        busy.chat.reply(AGAIN)
    busy.provider.open_all()
    assert busy.first.ends() == "completed"
    assert busy.users() == [QUESTION]


def test_a_turn_that_comes_while_one_runs_can_interrupt_it(place: Place) -> None:
    busy = Busy(place, when_busy="interrupt")
    second = place.read(busy.chat, AGAIN, "iterate")
    assert busy.first.ends() == "cancelled"
    assert second.ends() == "completed"
    assert busy.users() == [QUESTION, AGAIN]
    assert [m.content for m in busy.chat.messages if m.metadata.get("partial")] == ["Let me "]
    valid_for_provider(busy.chat.messages)
