"""What is special about processes on an event loop: others use the loop too."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future
from contextlib import suppress

import pytest

from supervisors.runtime.loop import LoopDispatcher
from supervisors.runtime.system import System
from tests.integration.stage import until
from tests.integration.supervisors.conftest import SOON, Echo


@pytest.mark.parametrize("end", [SystemExit(3), KeyboardInterrupt()], ids=["exit", "interrupt"])
def test_a_task_that_wants_to_end_the_program_does_not_end_the_loop(end: BaseException) -> None:
    dispatcher = LoopDispatcher()
    failed: Future[BaseException | None] = Future()

    async def leave() -> None:
        raise end

    def begin() -> None:
        task = dispatcher.loop.create_task(leave())
        task.add_done_callback(lambda task: failed.set_result(task.exception()))

    with System(dispatcher=dispatcher):
        ref = Echo.start()
        dispatcher.loop.call_soon_threadsafe(begin)
        assert failed.result(SOON) is end
        assert ref.ask("still there", timeout=SOON) == "still there"
        assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "so is asyncio"), dispatcher.loop).result(
            SOON
        )
    assert dispatcher.loop.is_closed()


def test_a_blocked_loop_shows_its_lag() -> None:
    dispatcher, held, go = LoopDispatcher(), threading.Event(), threading.Event()
    before = threads_of_loops()

    def block() -> None:
        held.set()
        assert go.wait(SOON)

    with System(dispatcher=dispatcher) as system:
        assert system.lag() == dispatcher.lag() == 0.0
        assert threads_of_loops() <= before, "to look starts no loop"
        ref = Echo.start()
        dispatcher.loop.call_soon_threadsafe(block)
        assert held.wait(SOON)
        assert system.lag() == 0.0, "from now on it is measured"
        until(lambda: system.lag() > 0.05)
        assert 0.05 < system.lag() <= system.lag(), "it goes on growing"
        worst = system.lag()
        go.set()
        assert ref.ask("goes on", timeout=SOON) == "goes on"
        assert system.lag() >= worst, "the look that was answered now waited that long"
        until(lambda: system.lag() < worst)
    last = dispatcher.lag()
    until(lambda: dispatcher.lag() > last)  # a loop that is closed never answers


def test_a_system_has_the_lag_of_its_slowest_loop() -> None:
    slow, go = LoopDispatcher(), threading.Event()
    with System() as system:
        assert system.lag() == 0.0
        system.register_dispatcher("slow", slow)
        system.register_dispatcher("slow, too", slow)
        system.register_dispatcher("quick", LoopDispatcher())
        slow.loop.call_soon_threadsafe(go.wait, SOON)
        assert system.lag() == 0.0, "one look, whatever its names"
        until(lambda: system.lag() > 0.05)
        assert system.dispatcher("quick").lag() < slow.lag()
        go.set()


@pytest.mark.parametrize("names", [["one"], ["one", "two"]])
def test_a_coroutine_that_goes_on_is_told_of_and_keeps_its_loop_until_it_ends(
    caplog: pytest.LogCaptureFixture, names: list[str]
) -> None:
    caplog.set_level(logging.ERROR, logger="supervisors")
    dispatcher, begun, over = LoopDispatcher(), threading.Event(), threading.Event()

    async def deaf() -> None:
        begun.set()
        while not over.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        await asyncio.sleep(0)

    with System() as system:
        for name in names:
            system.register_dispatcher(name, dispatcher)
        going_on = asyncio.run_coroutine_threadsafe(deaf(), dispatcher.loop)
        assert begun.wait(SOON)
    until(lambda: "an event loop cannot end" in caplog.text)
    assert f"{deaf.__qualname__} at" in caplog.text
    assert not dispatcher.loop.is_closed()
    over.set()
    going_on.result(SOON)
    until(dispatcher.loop.is_closed)


def test_what_was_cancelled_before_the_end_is_not_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    dispatcher, trace = LoopDispatcher(), list[str]()

    async def transaction() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            await asyncio.sleep(0.05)
            trace.append("rolled back")

    async def overlooks_one() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1e6)
        try:
            await asyncio.sleep(1e6)
        finally:
            trace.append("cancelled again")

    async def begin() -> None:
        tasks = [asyncio.create_task(each()) for each in (transaction, overlooks_one)]
        await asyncio.sleep(0)  # both have begun
        for task in tasks:
            task.cancel()

    with System() as system:
        system.register_dispatcher("one", dispatcher)
        asyncio.run_coroutine_threadsafe(begin(), dispatcher.loop).result(SOON)
    until(dispatcher.loop.is_closed)
    assert trace == ["rolled back", "cancelled again"]
    assert "cannot end" not in caplog.text


def threads_of_loops() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name == "supervisors-loop"}
