"""Code of the user's that never returns, a predicate, a type, a function for a key, holds a turn up only so long."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import queue
import re
import threading
import traceback
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import allm_actors as allm
from allm_actors.engine import keys
from allm_actors.testing import SimHost, script
from allm_actors.testing.exchanges import chat_completions
from allm_actors.testing.loopback import LoopbackServer, Reply
from tests.integration.stage import until

HI = [allm.user("hi")]
ENDLESS, SOON = 1e6, 10.0


@pytest.fixture
def locked() -> Iterator[threading.Event]:
    """A vault that answers nobody until the test is over."""
    opened = threading.Event()
    yield opened
    opened.set()


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, logger="supervisors")


def fake(*texts: str) -> allm.Engine:
    scripts = [[script.text(text), script.finish("stop")] for text in texts]
    return allm.Engine(adapter="fake", adapter_opts={"scripts": scripts})


def remote(server: LoopbackServer) -> allm.Engine:
    return allm.Engine("openai-compatible:any", adapter_opts={"base_url": f"{server.url}/v1"})


# --- a predicate, a type ------------------------------------------------------------------------------------------


def look_twice(host: SimHost, **options: Any) -> tuple[Any, float]:
    """What a turn came to whose first step calls a tool, and the virtual seconds that it took."""
    calls = [script.tool_call("look", {}), script.finish("tool_calls")]
    scripts = [calls, [script.text("done"), script.finish("stop")]]
    look = allm.Tool(name="look", description="", schema={}, handler=lambda _arguments: "seen")
    engine = allm.Engine(adapter="fake", tools=[look], adapter_opts={"scripts": scripts})
    chat, began = host.session("s", engine), host.now
    return chat.reply("hi", **options).result(), host.now - began


@pytest.mark.parametrize(("options", "seconds"), [({}, 30.0), ({"tool_timeout": 2.5}, 2.5)])
def test_a_predicate_has_as_long_as_a_tool(options: dict[str, Any], seconds: float) -> None:
    with SimHost() as host:
        result, took = look_twice(host, halt_when=lambda _step: host.sleep(ENDLESS), **options)
        assert took == pytest.approx(seconds, abs=0.1)
        assert result.halted_reason == "error"
        error = result.metadata["error"]
        assert (
            str(error)
            == f"halt_when did not answer within {seconds:g} s; tool_timeout allows more, in seconds"
        )
        chat = host.session("s", fake("two"))
        chat.recover()
        assert chat.reply("again").result().halted_reason == "completed"


def test_a_type_has_as_long_as_a_tool() -> None:
    with SimHost() as host:

        @dataclass
        class Slow:
            x: int

            def __post_init__(self) -> None:
                host.sleep(ENDLESS)

        chat, began = host.session("s", fake('{"x": 1}')), host.now
        result = chat.reply("hi", response_model=Slow, tool_timeout=2.5).result()
        assert host.now - began == pytest.approx(2.5, abs=0.1)
        assert result.halted_reason == "error"
        assert "the code of response_model did not answer within 2.5 s" in str(result.metadata["error"])


def test_who_wants_to_wait_long_may() -> None:
    with SimHost() as host:

        def predicate(_step: Any) -> bool:
            host.sleep(3600)
            return True

        result, took = look_twice(host, halt_when=predicate, tool_timeout=math.inf)
        assert (result.halted_reason, took) == ("halt_when", pytest.approx(3600, abs=0.1))


# --- a function for a key -----------------------------------------------------------------------------------------


def said(took: float) -> str:
    return (
        f"the api_key= function for 'openai-compatible' did not answer within {took:g} s; "
        "it must return a key, or None"
    )


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer(lambda _request: Reply(chunks=chat_completions(text="Hello."), pace=0.15)) as server:
        yield server


@pytest.mark.parametrize("ask", [allm.chat, allm.generate, allm.step])
def test_a_call_waits_so_long_for_its_key(ask: Any, locked: threading.Event, server: LoopbackServer) -> None:
    with pytest.raises(allm.EngineError) as failure:
        ask(remote(server), HI, api_key=locked.wait, request_timeout=0.3)
    assert (failure.value.reason, str(failure.value)) == ("missing_key", said(0.3))
    assert not server.requests


def test_the_time_of_a_function_is_not_the_streams(
    monkeypatch: pytest.MonkeyPatch, locked: threading.Event, server: LoopbackServer
) -> None:
    monkeypatch.setattr(keys, "PATIENCE", 0.3)
    with pytest.raises(allm.EngineError, match=r"did not answer within 0\.3 s"):
        allm.chat(remote(server), HI, api_key=locked.wait)
    result = allm.chat(
        remote(server), HI, api_key=lambda: "a-key-in-time"
    )  # whose answer takes longer than that
    assert result.halted_reason == "completed"


def test_an_event_loop_does_not_wait_with_it(locked: threading.Event, server: LoopbackServer) -> None:
    entered = threading.Event()

    def key() -> str:
        entered.set()
        locked.wait()
        return "k"

    async def main() -> None:
        call = asyncio.ensure_future(allm.aio.chat(remote(server), HI, api_key=key))
        await asyncio.wait_for(asyncio.to_thread(entered.wait), SOON)
        locked.set()  # by the loop, which is free
        result = await asyncio.wait_for(call, SOON)
        assert result.halted_reason == "completed"
        async with allm.Host() as host:
            locked.clear()
            chat = host.session("s", remote(server), api_key=key)
            with pytest.raises(allm.EngineError, match="did not answer"):
                await asyncio.wait_for(chat.reply("hi", request_timeout=0.3), SOON)
            locked.set()
            assert (await chat.reply("again")).halted_reason == "completed"

    asyncio.run(main())


def test_a_session_is_free_again(locked: threading.Event, server: LoopbackServer) -> None:
    with allm.Host() as host:
        chat = host.session("s", remote(server), api_key=locked.wait)
        with pytest.raises(allm.EngineError, match="did not answer"):
            chat.reply("hi", request_timeout=0.3).result()
        assert (chat.value.status, len(chat.value.thread.messages)) == ("idle", 0)
        other = host.session("s", remote(server), api_key="a-key-at-once")
        assert other.reply("hi").result().halted_reason == "completed"


def test_what_the_function_refuses_is_refused_before_anything_is_sent(server: LoopbackServer) -> None:
    def refuses() -> str:
        raise PermissionError("token s3cret is expired")

    with pytest.raises(allm.EngineError, match="failed with PermissionError") as failure:
        allm.chat(remote(server), HI, api_key=refuses)
    assert "s3cret" not in repr(failure.value)
    assert not server.requests


@pytest.mark.parametrize("way_out", [SystemExit, asyncio.CancelledError, GeneratorExit])
def test_a_function_for_a_key_that_leaves_has_no_key_and_its_words_go_nowhere(
    server: LoopbackServer, way_out: type[BaseException], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def leaves() -> str:
        raise way_out("lease of s3cret is over")

    def embed() -> Any:
        return allm.embed(allm.Engine(embed_adapter="openai:m"), ["x"], api_key=leaves)

    with allm.Host(store=tmp_path / "s.db") as host:
        session = host.session("s", remote(server), api_key=leaves)
        for ask in (lambda: allm.chat(remote(server), HI, api_key=leaves), session.reply("hi").result, embed):
            with pytest.raises(allm.EngineError, match=f"exited with {way_out.__name__}") as failure:
                ask()
            assert failure.value.reason == "missing_key"
            assert "s3cret" not in "".join(traceback.format_exception(failure.value))
    assert "s3cret" not in caplog.text
    assert not any(b"s3cret" in file.read_bytes() for file in tmp_path.iterdir())
    assert not server.requests


# --- who hangs ----------------------------------------------------------------------------------------------------


def test_operators_are_told_which_tool_of_which_session_hangs(locked: threading.Event) -> None:
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    calls = [script.tool_call("look_up", {}), script.finish("tool_calls")]
    look_up = allm.Tool(name="look_up", description="", schema={}, handler=lambda _arguments: locked.wait())
    scripts = [calls, [script.text("done"), script.finish("stop")]]
    engine = allm.Engine(adapter="fake", tools=[look_up], adapter_opts={"scripts": scripts})
    with allm.Host() as host:
        host.system.reports.subscribe(lambda report: report.kind == "zombie" and told.put(str(report.ref)))
        host.session("ada", engine).reply("hi", tool_timeout=0.1).result()
        line = told.get(timeout=SOON)
        locked.set()
    assert re.fullmatch(r"ToolActor#\d+ \(look_up for SessionActor#\d+ \('sessions', 'ada'\)\)", line)


def one_call(tool: allm.Tool) -> allm.Engine:
    calls = [script.tool_call(tool.name, {}), script.finish("tool_calls")]
    scripts = [calls, [script.text("done"), script.finish("stop")]]
    return allm.Engine(adapter="fake", tools=[tool], adapter_opts={"scripts": scripts})


def test_a_coroutine_that_goes_on_is_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="allm_actors")
    over: list[bool] = []

    @allm.tool
    async def deaf() -> str:
        """Do not listen."""
        while not over:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        return "done"

    with allm.Host() as host:
        host.session("ada", one_call(deaf)).reply("hi", tool_timeout=0.05).result()
        until(lambda: host.stats().hanging == 1)
        until(lambda: lines_of(caplog, "a coroutine continues after it was cancelled"))
        (line,) = lines_of(caplog, "a coroutine continues after it was cancelled")
        assert re.search(r"who=\"deaf for SessionActor#\d+ \('sessions', 'ada'\)\"", line)
        assert "in deaf > " in line
        over.append(True)
        until(lambda: host.stats().hanging == 0)


class Deaf:
    """An adapter that does not listen to its cancellation; once it is `over`, it ends, with one last event."""

    name = "deaf"

    def __init__(self) -> None:
        self.over = False
        self.ended = threading.Event()

    def requires_structured_finalize(self, request: Any) -> bool:
        return False

    async def stream(self, request: Any, call: Any) -> AsyncIterator[allm.Event]:
        try:
            yield allm.TextDelta("I ")
            while not self.over:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.01)
            yield allm.TextDelta("hear ")
            await asyncio.sleep(ENDLESS)
        finally:
            self.ended.set()


def test_an_adapter_that_goes_on_is_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="allm_actors")
    adapter = Deaf()
    with allm.Host() as host:
        session = host.session("ada", allm.Engine(adapter))
        turn = session.reply("hi")
        next(event for event in turn if event.tag == "text_delta")
        session.cancel()
        assert turn.result().halted_reason == "cancelled"
        until(lambda: host.stats().hanging == 1)
        until(lambda: lines_of(caplog, "a coroutine continues after it was cancelled"))
        (line,) = lines_of(caplog, "a coroutine continues after it was cancelled")
        assert re.search(r"who=\"deaf for SessionActor#\d+ \('sessions', 'ada'\)\"", line)
        assert "in stream > " in line
        adapter.over = True
        until(lambda: host.stats().hanging == 0)
        assert adapter.ended.wait(SOON), "what it says then is its end"


@pytest.mark.parametrize("dispatcher", ["loop", "pool"])
def test_a_host_stops_without_the_adapter_that_goes_on(
    caplog: pytest.LogCaptureFixture, dispatcher: Any
) -> None:
    caplog.set_level(logging.ERROR, logger="supervisors")
    adapter = Deaf()
    with allm.Host(dispatcher=dispatcher) as host:
        turn = host.session("ada", allm.Engine(adapter)).reply("hi")
        next(event for event in turn if event.tag == "text_delta")
    assert turn.result().halted_reason == "interrupted"
    assert not adapter.ended.is_set()
    until(lambda: lines_of(caplog, "an event loop cannot end"))
    adapter.over = True
    assert adapter.ended.wait(SOON)


def test_a_coroutine_that_blocks_everybodys_event_loop_is_told_once(
    caplog: pytest.LogCaptureFixture, locked: threading.Event
) -> None:
    caplog.set_level(logging.ERROR, logger="allm_actors")

    @allm.tool
    async def blocks() -> str:
        """Block."""
        locked.wait(SOON)
        return "done"

    with allm.Host() as host:
        for name in "abc":
            host.session(name, one_call(blocks)).reply("hi", tool_timeout=0.05).result()
        until(lambda: lines_of(caplog, "an event loop is blocked"))
        (line,) = lines_of(caplog, "an event loop is blocked")
        assert "in blocks > " in line
        assert "('sessions', 'a')" in line
        locked.set()
        assert host.session("d", one_call(blocks)).reply("hi").result().halted_reason == "completed"
        until(lambda: host.stats().hanging == 0)


def test_a_coroutine_that_blocks_the_event_loop_of_its_whole_host_is_told_once(
    caplog: pytest.LogCaptureFixture, locked: threading.Event
) -> None:
    caplog.set_level(logging.ERROR, logger="allm_actors")

    @allm.tool
    async def blocks() -> str:
        """Block, and with it every session and the program's own coroutines."""
        locked.wait(SOON)
        return "done"

    async def main() -> list[allm.ChatResult]:
        async with allm.Host() as host:
            sessions = [await host.session(name, one_call(blocks)) for name in "abc"]
            return await asyncio.gather(*(each.reply("hi", tool_timeout=0.05) for each in sessions))

    unlock = threading.Thread(
        target=lambda: (until(lambda: lines_of(caplog, "an event loop is blocked")), locked.set())
    )
    unlock.start()
    results = asyncio.run(main())
    unlock.join(SOON)
    assert {result.halted_reason for result in results} == {"completed"}
    (line,) = lines_of(caplog, "an event loop is blocked")
    assert "in blocks > " in line


def lines_of(caplog: pytest.LogCaptureFixture, event: str) -> list[str]:
    return [line for line in caplog.messages if line.startswith(event)]
