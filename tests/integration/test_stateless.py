"""Calls without a session, over a socket: whoever leaves leaves nothing behind, and a host that died is replaced."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import allm_actors as allm
from allm_actors.actors import default_host
from allm_actors.testing.loopback import LoopbackServer, Reply, Request
from supervisors import exit as exit_process
from tests.integration.stage import KEY, PROMPT, QUESTION, SOON, Hold, Provider, Reader, Tools, until

BOTH = ["thermometer", "barometer"]
CURRENT: list[Provider] = []


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, logger="supervisors")
    caplog.set_level(logging.CRITICAL + 1, logger="allm_actors")


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    def reply(request: Request) -> Reply:
        return CURRENT[0].reply(request)

    with LoopbackServer(reply) as server:
        yield server


@pytest.fixture
def tools() -> Tools:
    return Tools()


@pytest.fixture
def provider(tools: Tools, server: LoopbackServer) -> Iterator[Provider]:
    CURRENT[:] = [Provider(tools, BOTH, server)]
    yield CURRENT[0]
    CURRENT[0].open_all()
    until(nobody_works)


def nobody_works() -> bool:
    """Whether the process-wide host runs nothing but itself."""
    host = default_host()
    workers = ("SessionActor", "AdapterActor", "BlockingAdapterActor", "ToolActor", "AsyncToolActor")
    refs = host.system.processes() if host.running else []
    return not [ref for ref in refs if ref.actor_class.__name__ in workers]


def ask(provider: Provider) -> Any:
    return allm.stream(provider.engine(), [allm.user(QUESTION)], api_key=KEY)


def leave_the_block(stream: list[Any], count: int) -> None:
    with stream.pop() as events:
        list(itertools.islice(events, count))


def close(stream: list[Any], count: int) -> None:
    events = stream.pop()
    list(itertools.islice(events, count))
    events.close()
    assert events.result().halted_reason == "cancelled"


def forget(stream: list[Any], count: int) -> None:
    list(itertools.islice(stream.pop(), count))


def cancel_a_task(stream: list[Any], count: int) -> None:
    async def main() -> None:
        there = asyncio.Event()

        async def reads(events: Any) -> None:
            for _ in range(count):
                await anext(events)
            there.set()
            await events

        task = asyncio.create_task(reads(stream.pop()))
        await there.wait()
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())


LEAVE: list[Callable[[list[Any], int], None]] = [leave_the_block, close, forget, cancel_a_task]


@pytest.mark.parametrize("leave", LEAVE, ids=lambda leave: leave.__name__)
def test_leaving_in_the_middle_of_an_answer_closes_its_connection(
    leave: Callable[[list[Any], int], None], provider: Provider, server: LoopbackServer
) -> None:
    provider.finish = Hold()
    leave([ask(provider)], 5)
    server.wait_for(lambda server: server.abandoned == 1 and server.connections == 0, PROMPT)
    until(nobody_works, PROMPT)


@pytest.mark.parametrize("leave", LEAVE, ids=lambda leave: leave.__name__)
def test_leaving_while_tools_run_stops_them(
    leave: Callable[[list[Any], int], None], provider: Provider, tools: Tools
) -> None:
    tools.sync, tools.asynchronous = Hold(), Hold()
    leave([ask(provider)], 17)
    until(lambda: sorted(tools.stopped) == sorted(tools.ran), PROMPT)
    until(nobody_works, PROMPT)


@pytest.mark.parametrize("leave", [close, forget, leave_the_block], ids=lambda leave: leave.__name__)
def test_a_stream_that_is_never_pulled_asks_for_nothing(
    leave: Callable[[list[Any], int], None], provider: Provider, server: LoopbackServer
) -> None:
    leave([ask(provider)], 0)
    assert (server.requests, server.connections) == ((), 0)


@pytest.mark.parametrize("victim", ["host", "work", "sessions", "adapters", "tools", "store"])
@pytest.mark.parametrize("how", ["iterate", "result", "async"])
def test_the_process_wide_host_gets_over_every_death(victim: str, how: str, provider: Provider) -> None:
    assert ask(provider).result().halted_reason == "completed"
    provider.middle = Hold()
    reader = Reader(ask(provider), how)
    assert provider.middle.reached.wait(SOON)
    exit_process(default_host().system.whereis(victim), "kill")
    if victim == "tools":
        provider.open_all()
    assert reader.ends() in ("completed", "interrupted", "error")
    provider.open_all()
    assert later(provider) == "completed"


def later(provider: Provider) -> str:
    """How a call ends that comes when whatever is being restarted has been."""
    ends: list[str] = []

    def asked() -> bool:
        ends.append(ask(provider).result().halted_reason)
        return ends[-1] == "completed"

    until(asked)
    return ends[-1]
