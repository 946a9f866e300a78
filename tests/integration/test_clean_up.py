"""What a cancelled coroutine does last, such as a rollback, belongs to its work: its turn is over when that is done."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

import allm_actors as allm
from allm_actors.testing import script
from supervisors import exit as kill
from tests.integration.stage import until

ENDLESS, SOON = 1e6, 10.0
GO = [allm.user("go")]


class Shop:
    """A tool that holds a lock until it has rolled back, which takes until somebody else wants the lock, or for
    `patience` seconds."""

    def __init__(self) -> None:
        self.trace: list[str] = []
        self.begun, self.over = threading.Event(), threading.Event()
        self.held = False
        self.patience = 0.1

    async def order(self, _arguments: dict[str, Any]) -> str:
        if self.held:
            self.trace.append("found the lock held")
            self.wanted.set()
            return "locked"
        self.held, self.wanted, self.loop = True, asyncio.Event(), asyncio.get_running_loop()
        self.begun.set()
        try:
            await asyncio.sleep(ENDLESS)
            return "ordered"
        finally:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.wanted.wait(), self.patience)
            self.held = False
            self.trace.append("rolled back")

    async def deaf(self, _arguments: dict[str, Any]) -> str:
        self.begun.set()
        while not self.over.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        return "at last"

    def engine(self, handler: Any) -> allm.Engine:
        tool = allm.Tool(name="order", description="", schema={}, handler=handler, timeout=ENDLESS)
        calls = [[script.tool_call("order", {}, id=id), script.finish("tool_calls")] for id in ("a", "b")]
        scripts = [*calls, [script.text("done"), script.finish("stop")]]
        return allm.Engine(adapter="fake", adapter_opts={"scripts": scripts}, tools=[tool])


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.over.set()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


ENDS: dict[str, tuple[Callable[[allm.Host, Any, Any], object], str]] = {
    "cancel": (lambda _host, session, _turn: session.cancel(), "cancelled"),
    "close": (lambda _host, _session, turn: turn.close(), "cancelled"),
    "stop": (lambda _host, session, _turn: session.stop(), "interrupted"),
    "delete": (lambda host, _session, _turn: host.delete_session("ada"), "interrupted"),
    "leave": (lambda host, _session, _turn: host.stop(), "interrupted"),
}


@pytest.mark.parametrize("dispatcher", ["loop", "pool", "threads"])
@pytest.mark.parametrize("end", ENDS)
def test_a_turn_is_over_when_its_tool_has_cleaned_up(
    shop: Shop, pool: ThreadPoolExecutor, end: str, dispatcher: Any
) -> None:
    ask, reason = ENDS[end]
    with allm.Host(dispatcher=dispatcher) as host:
        session = host.session("ada", shop.engine(shop.order))
        turn = session.reply("go")
        result = pool.submit(turn.result)
        assert shop.begun.wait(SOON)
        ask(host, session, turn)
        assert result.result(SOON).halted_reason == reason
        assert shop.trace == ["rolled back"]


@pytest.mark.parametrize("when_busy", ["interrupt", "queue"])
def test_the_next_turn_begins_when_the_cancelled_tool_has_cleaned_up(
    shop: Shop, pool: ThreadPoolExecutor, when_busy: Any
) -> None:
    with allm.Host() as host:
        session = host.session("ada", shop.engine(shop.order), when_busy=when_busy)
        turn = session.reply("go")
        first = pool.submit(turn.result)
        assert shop.begun.wait(SOON)
        shop.begun.clear()
        second = pool.submit(session.reply("again").result)
        if when_busy == "queue":
            until(lambda: host.stats().waiting == 1)
            turn.close()
        assert first.result(SOON).halted_reason == "cancelled"
        assert shop.begun.wait(SOON)
        assert shop.trace == ["rolled back"]
        session.cancel()
        assert second.result(SOON).halted_reason == "cancelled"
    assert shop.trace == ["rolled back", "rolled back"]


def test_a_turn_whose_end_is_stored_has_it_although_its_session_dies_meanwhile(
    shop: Shop, pool: ThreadPoolExecutor
) -> None:
    shop.patience = SOON
    with allm.Host() as host:
        session = host.session("ada", shop.engine(shop.order))
        result = pool.submit(session.reply("go").result)
        assert shop.begun.wait(SOON)
        session.cancel()
        until(lambda: [each.halted_reason for each in host.stored_sessions()] == ["cancelled"])
        assert not result.done()
        kill(host.system.whereis(("sessions", "ada")), "kill")
        assert result.result(SOON).halted_reason == "cancelled"
        shop.loop.call_soon_threadsafe(shop.wanted.set)
        until(lambda: shop.trace == ["rolled back"])


def test_a_host_is_left_when_the_tools_of_its_own_loop_have_cleaned_up(shop: Shop) -> None:
    async def main() -> None:
        async with allm.Host() as host:
            session = await host.session("ada", shop.engine(shop.order))
            turn = asyncio.ensure_future(session.reply("go").aresult())
            await asyncio.to_thread(shop.begun.wait, SOON)
        assert (await turn).halted_reason == "interrupted"

    asyncio.run(main())
    assert shop.trace == ["rolled back"]


def test_a_call_that_is_cancelled_ends_when_its_tool_has_cleaned_up(shop: Shop) -> None:
    async def main() -> None:
        call = asyncio.ensure_future(allm.aio.chat(shop.engine(shop.order), GO))
        await asyncio.to_thread(shop.begun.wait, SOON)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert shop.trace == ["rolled back"]

    asyncio.run(main())


def test_a_tool_that_does_not_end_holds_its_session_up_only_so_long(
    shop: Shop, pool: ThreadPoolExecutor
) -> None:
    with allm.Host() as host:
        session = host.session("ada", shop.engine(shop.deaf))
        result = pool.submit(session.reply("go").result)
        assert shop.begun.wait(SOON)
        session.cancel()
        assert result.result(SOON).halted_reason == "cancelled"
        until(lambda: host.stats().hanging == 1)
        shop.over.set()
        until(lambda: host.stats().hanging == 0)
