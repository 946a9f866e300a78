"""Context variables: what runs for a call sees those of its caller, and never those of another one."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import allm_actors as allm
from allm_actors import telemetry
from allm_actors.data import AudioDelta, SpeechCompleted, SpeechStarted
from allm_actors.engine import Delay
from allm_actors.testing.exchanges import chat_completions
from allm_actors.testing.loopback import LoopbackServer, Reply, Request
from tests.integration.stage import until

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
MANY = [f"t{number}" for number in range(30)]


class Seeing:
    """Answers with what it sees: where the call is opened, and where it is read."""

    name = "seeing"

    def open(self) -> list[str]:
        """What is seen as the call is opened."""
        return [tenant.get()]

    def said(self, opened: list[str]) -> list[Any]:
        """An answer with that, and with what is seen now."""
        text = f"{opened[0]} {tenant.get()}"
        return [allm.MessageStarted(), allm.MessageCompleted(allm.assistant(text), "stop")]


class Playing(Seeing):
    def play(self, _request: Any, _call: Any) -> Iterator[Any]:
        opened = self.open()
        return (event for make in (self.said,) for event in make(opened))

    stream = play


class Awaiting(Seeing):
    def stream(self, _request: Any, _call: Any) -> AsyncIterator[Any]:
        return self.read(self.open())

    async def read(self, opened: list[str]) -> AsyncIterator[Any]:
        await asyncio.sleep(0)
        for event in self.said(opened):
            yield event


class Blocking(Seeing):
    def stream(self, _request: Any, _call: Any) -> Iterator[Any]:
        opened = self.open()
        return (event for make in (self.said,) for event in make(opened))


ADAPTERS = [Playing(), Awaiting(), Blocking()]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=["play", "awaited", "blocking"])
def test_an_adapter_sees_its_callers_context_on_one_event_loop(adapter: Any) -> None:
    async def ask(host: allm.Host, name: str) -> str:
        tenant.set(name)
        result = await host.session(name, allm.Engine(adapter)).reply("hi")
        return str(result.final_response.text())

    async def main() -> list[str]:
        async with allm.Host() as host:
            return await asyncio.gather(*(asyncio.create_task(ask(host, name)) for name in MANY))

    assert asyncio.run(main()) == [f"{name} {name}" for name in MANY]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=["play", "awaited", "blocking"])
def test_an_adapter_sees_its_callers_context_from_many_threads(adapter: Any) -> None:
    def ask(name: str) -> str:
        token = tenant.set(name)
        try:
            return str(allm.chat(allm.Engine(adapter), [allm.user("hi")]).final_response.text())
        finally:
            tenant.reset(token)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, MANY)) == [f"{name} {name}" for name in MANY]


class Attaching:
    """Attaches as it begins, and detaches as it is closed, as OpenTelemetry does."""

    name = "attaching"

    def __init__(self) -> None:
        self.begun, self.may, self.left = threading.Event(), threading.Event(), threading.Event()
        self.saw: list[str] = []

    def events(self) -> Iterator[Any]:
        token = tenant.set("attached")
        try:
            yield allm.MessageStarted()
            yield allm.TextDelta("so")
            yield from self.rest()
        finally:
            self.saw.append(tenant.get())
            try:
                tenant.reset(token)
                self.saw.append(tenant.get())
            finally:
                self.left.set()

    def rest(self) -> Iterator[Any]:
        raise NotImplementedError


class Pausing(Attaching):
    """Is left between two events."""

    def play(self, _request: Any, _call: Any) -> Iterator[Any]:
        return self.events()

    stream = play

    def rest(self) -> Iterator[Any]:
        self.begun.set()
        yield Delay(1000.0)


class Stuck(Attaching):
    """Is left while it blocks."""

    def stream(self, _request: Any, _call: Any) -> Iterator[Any]:
        return self.events()

    def rest(self) -> Iterator[Any]:
        self.begun.set()
        self.may.wait(20)
        yield allm.TextDelta("late")


@pytest.mark.parametrize("how", ["cancelled", "closed", "killed"])
@pytest.mark.parametrize("kind", [Pausing, Stuck])
def test_a_plain_generator_is_closed_in_its_own_context(kind: type[Attaching], how: str) -> None:
    adapter, mine = kind(), contextvars.Context()

    def leave() -> None:
        tenant.set("me")
        with allm.Host() as host:
            session = host.session("s", allm.Engine(adapter))
            turn = session.reply("hi")
            next(event for event in turn if isinstance(event, allm.TextDelta))
            assert adapter.begun.wait(20)
            if how == "cancelled":
                session.cancel()
            elif how == "closed":
                turn.close()
            else:
                (worker,) = (ref for ref in host.system.processes() if "AdapterActor" in repr(ref))
                worker.kill()
            adapter.may.set()
            assert adapter.left.wait(20)

    mine.run(leave)
    assert adapter.saw == ["attached", "me"]


class Opening:
    """Is left while it blocks before there is anything to read."""

    name = "opening"

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.begun, self.may, self.read = threading.Event(), threading.Event(), threading.Event()

    def stream(self, _request: Any, _call: Any) -> Any:
        self.begun.set()
        self.may.wait(20)
        return self.answer(self)

    def events(self) -> Iterator[Any]:
        self.read.set()
        yield allm.MessageStarted()

    async def awaited(self) -> AsyncIterator[Any]:
        self.read.set()
        yield allm.MessageStarted()


@pytest.mark.parametrize("answer", [Opening.events, Opening.awaited])
def test_what_is_opened_after_its_reader_was_killed_is_not_read(
    answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = Opening(answer)
    with allm.Host() as host, ThreadPoolExecutor() as pool:
        result = pool.submit(host.session("s", allm.Engine(adapter)).reply("hi").result)
        assert adapter.begun.wait(20)
        (worker,) = (ref for ref in host.system.processes() if "AdapterActor" in repr(ref))
        worker.kill()
        assert result.result(20).halted_reason == "error"
        adapter.may.set()
        until(lambda: host.stats().hanging == 0)
    assert not adapter.read.is_set()
    assert "on_kill" not in caplog.text


class Speaking:
    """Speaks of what it sees."""

    name = "speaking"

    def stream_synthesize(self, _request: Any, _call: Any) -> Iterator[Any]:
        yield SpeechStarted()
        yield AudioDelta(tenant.get().encode())
        yield SpeechCompleted()


def test_an_adapter_that_streams_sound_sees_its_callers_context() -> None:
    def ask() -> bytes:
        tenant.set("me")
        stream = allm.stream_synthesize(allm.Engine(speech_adapter=Speaking()), "hi")
        return b"".join(event.data for event in stream if isinstance(event, AudioDelta))

    assert contextvars.Context().run(ask) == b"me"


def test_a_function_for_a_key_sees_its_callers_context() -> None:
    def reply(request: Request) -> Reply:
        return Reply(chunks=chat_completions(text=request.headers["authorization"]))

    def ask(name: str) -> str:
        token = tenant.set(name)
        try:
            result = allm.chat(engine, [allm.user("hi")], api_key=lambda: f"key-of-{tenant.get()}")
            return str(result.final_response.text())
        finally:
            tenant.reset(token)

    with LoopbackServer(reply) as server, ThreadPoolExecutor(8) as pool:
        engine = allm.Engine("openai-compatible:any", adapter_opts={"base_url": f"{server.url}/v1"})
        assert list(pool.map(ask, MANY)) == [f"Bearer key-of-{name}" for name in MANY]


def test_telemetry_is_told_in_the_context_of_the_call_it_is_about() -> None:
    seen: list[tuple[str, str, str]] = []

    def see(event: telemetry.Event) -> None:
        seen.append((event.name, event.metadata["session_id"], tenant.get()))

    async def ask(host: allm.Host, name: str) -> None:
        tenant.set(name)
        await host.session(name, allm.Engine(Playing())).reply("hi")

    async def main() -> None:
        async with allm.Host() as host:
            await asyncio.gather(*(asyncio.create_task(ask(host, name)) for name in MANY))

    telemetry.attach("seeing", see, ["allm.chat.start", "allm.chat.stop", "allm.generate.stop"])
    try:
        asyncio.run(main())
    finally:
        telemetry.detach("seeing")
    assert len(seen) == 3 * len(MANY)
    assert all(about == whose for _, about, whose in seen), seen


class Calling(Seeing):
    """Asks for its tool twice, and notes what it sees."""

    def __init__(self) -> None:
        self.saw: list[str] = []

    async def stream(self, request: Any, _call: Any) -> AsyncIterator[Any]:
        self.saw += self.open()
        yield allm.MessageStarted()
        done = sum(message.role == "tool" for message in request.messages)
        if done == 2:
            yield allm.MessageCompleted(allm.assistant("done"), "stop")
            return
        call = allm.ToolCall(id=f"c{done}", name=request.tools[0].name, arguments={})
        yield allm.ToolCallStarted(call.id, call.name)
        yield allm.ToolCallCompleted(call.id, call.name, {})
        message = allm.Message(role="assistant", content="", metadata={"tool_calls": [call]})
        yield allm.MessageCompleted(message, "tool_calls")


@allm.tool
async def changes() -> str:
    """Sees, and changes what it sees."""
    before = tenant.get()
    tenant.set("of a tool")
    return before


@allm.tool
def changes_on_a_thread() -> str:
    """Sees, and changes what it sees."""
    before = tenant.get()
    tenant.set("of a tool")
    return before


@pytest.mark.parametrize("tool", [changes, changes_on_a_thread])
@pytest.mark.parametrize("empty", [True, False])
def test_what_a_tool_changes_nobody_else_sees(tool: allm.Tool, empty: bool) -> None:
    adapter, mine = Calling(), contextvars.Context()  # an empty one is False
    if not empty:
        mine.run(tenant.set, "me")
    result = mine.run(allm.chat, allm.Engine(adapter, tools=[tool]), [allm.user("hi")])
    seen = tenant.get() if empty else "me"
    assert result.thread is not None
    assert [message.content for message in result.thread.messages if message.role == "tool"] == [seen] * 2
    assert adapter.saw == [seen] * 3
    assert mine.run(tenant.get) == seen


def test_a_tool_that_holds_up_its_event_loop_holds_up_no_turn() -> None:
    may = threading.Event()

    @allm.tool
    async def holds() -> str:
        """Blocks where it must not."""
        may.wait(20)
        return "late"

    adapter = Calling()
    turn = contextvars.Context().run(
        allm.chat, allm.Engine(adapter, tools=[holds]), [allm.user("hi")], tool_timeout=0.2
    )
    may.set()
    assert turn.halted_reason == "completed"
    assert len(adapter.saw) == 3
