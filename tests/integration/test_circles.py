"""A call leaves nothing for the garbage collector, whose pauses a daemon of many sessions would feel, and which may be
far away: what a tool or an adapter was reading ends with it, not with the next collection.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import allm_actors as allm
from allm_actors.testing import script
from tests.integration.stage import PROMPT, SOON

ROOT = Path(__file__).parents[2]
ASK = [allm.user("go")]
SHORT = 0.1


@pytest.mark.parametrize("door", ["chat", "aio", "host", "http", "raises", "policy"])
def test_a_call_leaves_no_circle_behind(door):
    command = [sys.executable, "-m", "tests.integration.circles", door]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("{}", 0), done.stderr


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Inner:
    """An agent that is asked by another's tool or adapter, and goes on for a minute once it has begun."""

    def __init__(self) -> None:
        self.reached, self.left = threading.Event(), threading.Event()
        slowly = [script.text("Let "), script.delay(60), script.finish("stop")]
        watched = {"record": lambda _call: self.reached.set(), "cleanup_observer": self.left.set}
        self.engine = allm.Engine("fake", adapter_opts={"scripts": [slowly], **watched})

    def stream(self) -> allm.EventStream:
        return allm.aio.stream(self.engine, ASK)

    def has_ended(self) -> bool:
        """Whether it ends at once; also if it was not begun, because a slow machine has used up a short timeout."""
        return self.left.wait(PROMPT) or not self.reached.is_set()


async def dropped(inner: Inner) -> None:
    async for _ in inner.stream():
        pass


async def kept(inner: Inner) -> None:
    stream = inner.stream()
    async for _ in stream:
        pass


async def awaited(inner: Inner) -> None:
    await inner.stream()


async def raising(inner: Inner) -> None:
    stream = inner.stream()
    async for event in stream:
        assert not isinstance(event, allm.TextDelta)


class Direct:
    async def execute(self, tool: allm.Tool, arguments: dict, context: allm.ToolContext) -> object:
        return await tool.run(arguments, context)


def asking(read, *, timeout: float = 300.0, **settings: object) -> allm.Engine:
    """An engine whose tool awaits `read()`."""

    @allm.tool(timeout=timeout)
    async def research() -> None:
        """Ask somebody."""
        await read()

    scripts = [
        [script.tool_call("research", {}), script.finish("tool_calls")],
        [script.text("Well."), script.finish("stop")],
    ]
    return allm.Engine("fake", tools=[research], adapter_opts={"scripts": scripts}, **settings)


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("dispatcher", ["pool", "loop"])
@pytest.mark.parametrize("read", [dropped, kept, awaited])
def test_what_a_cancelled_tool_was_reading_ends_with_it(read, dispatcher):
    inner = Inner()
    with allm.Host(dispatcher=dispatcher) as host:
        session = host.session("ada", asking(lambda: read(inner)))
        turn = session.reply("go")
        threading.Thread(target=lambda: (inner.reached.wait(SOON), session.cancel())).start()
        assert turn.result().halted_reason == "cancelled"
        assert inner.has_ended()


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("read", [dropped, awaited])
def test_what_a_tool_was_reading_ends_when_the_host_stops(read):
    inner = Inner()
    with allm.Host() as host:
        turn = host.session("ada", asking(lambda: read(inner))).reply("go")
        reader = threading.Thread(target=turn.result)
        reader.start()
        assert inner.reached.wait(SOON)
    reader.join(SOON)
    assert inner.has_ended()


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("executor", [None, Direct()])
@pytest.mark.parametrize("read", [dropped, kept, awaited, raising])
def test_what_a_tool_was_reading_ends_with_its_timeout_or_its_exception(read, executor):
    inner = Inner()
    timeout = 60.0 if read is raising else SHORT
    result = allm.chat(asking(lambda: read(inner), timeout=timeout, tool_executor=executor), ASK)
    assert result.text() == "Well."
    assert inner.has_ended()


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("how", ["await", "for"])
@pytest.mark.parametrize("end", ["cancel", "timeout"])
def test_a_turn_that_a_tool_reads_ends_with_the_tool(how, end):
    async def main(inner: Inner) -> tuple[str, bool]:
        async def read() -> None:
            turn = host.session("inner", inner.engine).reply("go")
            if how == "await":
                await turn
            async for _ in turn:
                pass

        async with allm.Host() as host:
            outer = await host.session("outer", asking(read, timeout=60.0 if end == "cancel" else SHORT))
            turn = asyncio.ensure_future(outer.reply("go").aresult())
            if end == "cancel":
                await asyncio.to_thread(inner.reached.wait, SOON)
                outer.cancel()
            reason = (await turn).halted_reason
            return reason, await asyncio.to_thread(inner.has_ended)

    reason = {"cancel": "cancelled", "timeout": "completed"}[end]
    assert asyncio.run(main(Inner())) == (reason, True)


class Relay:
    """An adapter whose answer is another engine's."""

    name = "relay"

    def __init__(self, inner: Inner) -> None:
        self._inner = inner

    async def stream(self, _request: object, _call: object):
        yield allm.MessageStarted()
        async for event in self._inner.stream():
            if isinstance(event, allm.TextDelta):
                yield event

    async def embed(self, _request: object, _call: object) -> None:
        await dropped(self._inner)


@pytest.mark.usefixtures("no_collection")
def test_what_an_adapter_was_reading_ends_when_its_reader_leaves():
    inner = Inner()
    with allm.stream(allm.Engine(Relay(inner), model="m"), ASK) as stream:
        next(event for event in stream if isinstance(event, allm.TextDelta))
    assert inner.has_ended()


class Failing:
    """An adapter that fails while it reads another engine's answer."""

    name = "failing"

    def __init__(self, inner: Inner) -> None:
        self._inner = inner

    async def stream(self, _request: object, _call: object):
        yield allm.MessageStarted()
        stream = self._inner.stream()
        async for event in stream:
            assert not isinstance(event, allm.TextDelta)

    async def embed(self, _request: object, _call: object) -> None:
        stream = self._inner.stream()
        async for _ in stream:
            raise allm.EmbeddingAdapterError("unknown")


class FailingInAThread(Failing):
    def stream(self, _request: object, _call: object):
        yield allm.MessageStarted()
        stream = allm.stream(self._inner.engine, ASK)
        for event in stream:
            assert not isinstance(event, allm.TextDelta)


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="there, the frame of a generator that raised leads to its caller's"
)
@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("kind", [Failing, FailingInAThread])
def test_what_an_adapter_was_reading_ends_with_its_failure(kind, monkeypatch):
    monkeypatch.setattr(logging.getLogger("supervisors"), "disabled", True)  # pytest keeps what is logged
    chat, vectors = Inner(), Inner()
    result = allm.chat(allm.Engine(kind(chat), model="m"), ASK)
    assert (result.halted_reason, chat.has_ended()) == ("error", True)
    with suppress(allm.EmbeddingAdapterError):
        allm.embed(allm.Engine(embed_adapter=kind(vectors)), ["a"])
    assert vectors.has_ended()


@pytest.mark.usefixtures("no_collection")
def test_what_an_adapter_was_reading_ends_with_its_timeout():
    chat, vectors = Inner(), Inner()
    response = allm.generate(allm.Engine(Relay(chat), model="m"), ASK, request_timeout=SHORT)
    assert response.finish_reason == "error"
    assert chat.has_ended()
    with suppress(allm.EmbeddingAdapterError):
        engine = allm.Engine(embed_adapter=Relay(vectors))
        allm.embed(engine, ["a"], request_timeout=SHORT, retry=False)
    assert vectors.has_ended()
