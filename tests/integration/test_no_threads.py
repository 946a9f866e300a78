"""A machine that has no thread to give for a while: hosts, tools and the store wait for one, and then go on."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

import allm_actors as allm
from allm_actors.testing import script
from supervisors.runtime import launch
from supervisors.runtime.birth import DaemonThread
from tests.integration.supervisors.runtime.test_no_threads import no_threads

SOON = 20.0
CALLS = [script.tool_call("add", {"a": 1, "b": 2}, id="c0"), script.finish("tool_calls")]
SAYS = [script.text("Three."), script.finish("stop")]


@allm.tool
def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


def engine(*scripts: Any) -> allm.Engine:
    return allm.Engine("fake", tools=[add], adapter_opts={"scripts": [*scripts]})


def stored(host: allm.Host) -> list[str]:
    """Whose sessions the store has; nobody's while it is restarted."""
    try:
        return list(host.session_ids())
    except allm.StoreError:
        return []


def test_a_tool_waits_for_its_thread_and_the_next_ones_have_theirs() -> None:
    with allm.Host() as host:
        session = host.session("s", engine(CALLS, SAYS, CALLS, SAYS))
        host.session("other", engine(SAYS)).reply("Hello?").result()  # the event loops have their threads
        with no_threads() as end:
            host.system.timers.after(0.25, end)
            first = session.reply("1 + 2?").result()
        second = session.reply("Once more?").result()
    assert [first.halted_reason, second.halted_reason] == ["completed"] * 2
    assert [each.content for each in session.messages if each.role == "tool"] == ["3", "3"]


def test_a_store_that_is_restarted_without_a_thread_waits_for_one(tmp_path: Path) -> None:
    with allm.Host(store=tmp_path / "s.db") as host:
        session = host.session("s", engine(SAYS, SAYS))
        session.reply("1 + 2?").result()
        store = next(ref for ref in host.system.processes() if "StoreActor" in repr(ref))
        with no_threads() as end:
            host.system.timers.after(0.25, end)
            store.kill()
            assert session.messages[-1].content == "Three."
            while not stored(host):
                pass
        assert session.reply("Once more?").result().halted_reason == "completed"


def test_a_host_that_has_no_thread_to_start_on_says_so_at_once_and_starts_later() -> None:
    host = allm.Host(shutdown_timeout=1e6)
    with no_threads(), pytest.raises(RuntimeError, match="can't start new thread"):
        host.start()
    gc.collect()
    with host:
        assert host.session("s", engine(SAYS)).reply("1 + 2?").result().text() == "Three."


@pytest.mark.parametrize("kind", ["loop", "pool", "threads"])
@pytest.mark.parametrize("granted", [1, 2])
def test_so_does_one_that_has_too_few(
    granted: int, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container with a low limit of processes: one for the event loop, perhaps one for timers."""
    begin, left = DaemonThread.start, [granted]

    def start(thread: DaemonThread) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        begin(thread)

    host = allm.Host(store=tmp_path / "s.db", dispatcher=kind, shutdown_timeout=1e6)
    with monkeypatch.context() as patch:
        patch.setattr(launch, "_LOOK", 0.01)
        patch.setattr(DaemonThread, "start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            host.start()
    with host:
        assert host.session("s", engine(SAYS)).reply("1 + 2?").result().text() == "Three."


@pytest.mark.parametrize("moment", ["entering", "leaving"])
def test_an_event_loop_goes_on_while_its_host_waits_for_a_thread(moment: str) -> None:
    async def main() -> None:
        loop, host = asyncio.get_running_loop(), allm.Host()
        with no_threads() as end:
            if moment == "entering":
                loop.call_later(0.25, end)
            else:
                end()
            async with host:
                session = await host.session("s", engine(SAYS))
                assert (await session.reply("1 + 2?")).text() == "Three."
                if moment == "leaving":
                    no_more = no_threads()
                    loop.call_later(0.25, no_more.__enter__())
        assert not host.running

    asyncio.run(asyncio.wait_for(main(), SOON))


def test_a_host_that_never_gets_a_thread_to_stop_on_leaves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with allm.Host() as host:
            monkeypatch.setattr("allm_actors.engine.threads._PATIENCE", 0.0)
            session = await host.session("s", engine(SAYS))
            await session.reply("1 + 2?")
            left.append(host.system)
            refused.__enter__()

    left: list[Any] = []
    refused = no_threads()
    try:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            asyncio.run(main())
    finally:
        refused.__exit__(None, None, None)
    assert left[0].processes() == []
    left[0].stop()
