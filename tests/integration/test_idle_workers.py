"""Workers wait for their turn's next job, die alone, and go with the turn."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import pytest

import allm_actors as allm
from allm_actors.testing import script
from supervisors import ProcessRef
from supervisors import exit as exit_process

from .stage import until

TURNS, PARALLEL = 4, 3


@allm.tool
def double(n: int) -> int:
    """Twice n."""
    return 2 * n


@allm.tool
async def triple(n: int) -> int:
    """Three times n."""
    await asyncio.sleep(0)
    return 3 * n


def engine(*tools: Any, turns: int = TURNS, parallel: int = PARALLEL) -> allm.Engine:
    calls = [script.tool_call(tool.name, {"n": n}) for n in range(parallel) for tool in tools]
    scripts = [[*calls, script.finish("tool_calls")] for _ in range(turns)]
    return allm.Engine(
        "fake",
        tools=tools,
        adapter_opts={"scripts": [*scripts, [script.text("done"), script.finish("stop")]]},
    )


def workers(host: allm.Host) -> list[ProcessRef[Any]]:
    classes = ("AdapterActor", "ToolActor", "AsyncToolActor")
    return [ref for ref in host.system.processes() if ref.actor_class.__name__ in classes]


def started(host: allm.Host) -> Counter[str]:
    """Counts the workers that begin from now on."""
    count: Counter[str] = Counter()

    def note(report: Any) -> None:
        if report.kind == "child_started":
            count[report.ref.actor_class.__name__] += 1

    host.system.reports.subscribe(note)
    return count


def test_a_turn_starts_as_many_workers_as_work_at_the_same_time() -> None:
    threads, tasks = threading.Barrier(PARALLEL), asyncio.Barrier(PARALLEL)

    @allm.tool
    def meet(n: int) -> int:
        """Wait until all the calls of the turn are here."""
        threads.wait(30)
        return n

    @allm.tool
    async def gather(n: int) -> int:
        """The same, as a coroutine."""
        async with asyncio.timeout(30):
            await tasks.wait()
        return n

    with allm.Host() as host:
        session = host.session("s", engine(meet, gather))
        session.ensure()
        count = started(host)
        result = session.reply("go", max_turns=TURNS + 1, max_concurrency=2 * PARALLEL).result()
        assert result.halted_reason == "completed"
        answers = [[message.content for message in step.tool_results] for step in result.steps[:-1]]
        assert answers == [[str(n) for n in range(PARALLEL) for _ in "ab"]] * TURNS
        assert count == {"AdapterActor": 1, "ToolActor": PARALLEL, "AsyncToolActor": PARALLEL}
        until(lambda: workers(host) == [])


def test_one_that_dies_while_it_waits_is_not_missed() -> None:
    killed = threading.Event()

    @allm.tool
    def look(n: int) -> int:
        """Kill everybody who waits."""
        if not killed.is_set():
            killed.set()
            for ref in workers(host):
                if ref.actor_class.__name__ == "AdapterActor":
                    exit_process(ref, "kill")
        return n

    with allm.Host() as host:
        result = host.session("s", engine(look, parallel=1)).reply("go", max_turns=TURNS + 1).result()
        assert killed.is_set()
        assert result.halted_reason == "completed"
        assert [step.tool_results[0].content for step in result.steps[:-1]] == ["0"] * TURNS


def test_one_that_dies_at_work_takes_no_other_with_it() -> None:
    turn = [0]

    @allm.tool
    def work(n: int) -> int:
        """Be killed, the second time, if n is 0."""
        turn[0] += n == 0
        if turn[0] == 2 and n == 0:
            me = next(ref for ref in workers(host) if ref.actor_inbox.owner is running())
            exit_process(me, "kill")
        return n

    def running() -> Any:
        from supervisors.runtime.running import running

        return running.process

    with allm.Host() as host:
        result = host.session("s", engine(work)).reply("go", max_turns=TURNS + 1).result()
        answers = [[message.content for message in step.tool_results] for step in result.steps[:-1]]
        assert [each[1:] for each in answers] == [["1", "2"]] * TURNS
        assert ["error" in each[0] for each in answers] == [False, True, False, False]
        until(lambda: workers(host) == [])


@pytest.mark.parametrize("who", ["session", "host"])
def test_whoever_waits_goes_with_the_session(who: str) -> None:
    asked = threading.Event()
    go_on = threading.Event()

    @allm.tool
    def last(n: int) -> int:
        """Hold the turn."""
        asked.set()
        go_on.wait(5)
        return n

    scripts = [
        [*[script.tool_call("double", {"n": n}) for n in range(PARALLEL)], script.finish("tool_calls")],
        [script.tool_call("last", {"n": 1}), script.finish("tool_calls")],
    ]
    with allm.Host() as host:
        session = host.session(
            "s", allm.Engine("fake", tools=[double, last], adapter_opts={"scripts": scripts})
        )
        turn = session.reply("go")
        reader = threading.Thread(target=lambda: list(turn))
        reader.start()
        assert asked.wait(5)
        mine = workers(host)
        assert len(mine) >= 2
        if who == "session":
            ref = host.system.whereis(("sessions", "s"))
            assert ref is not None
            exit_process(ref, "kill")
        else:
            threading.Thread(target=host.stop).start()
        until(
            lambda: (
                [ref for ref in mine if ref.is_alive() and ref.actor_class.__name__ == "AdapterActor"] == []
            )
        )
        go_on.set()
        until(lambda: [ref for ref in mine if ref.is_alive()] == [])
        reader.join(5)
        assert not reader.is_alive()


def test_what_a_worker_did_is_not_kept_while_it_waits() -> None:
    """Neither the job of an idle worker nor what it was for is held by it."""
    seen: list[Any] = []

    @allm.tool
    def peek(n: int) -> int:
        """Look at those who wait."""
        seen.extend(
            ref.actor_inbox.owner._job
            for ref in workers(host)
            if ref.actor_class.__name__ == "AsyncToolActor"
        )
        return n

    scripts = [
        [script.tool_call("triple", {"n": 1}), script.finish("tool_calls")],
        [script.tool_call("peek", {"n": 1}), script.finish("tool_calls")],
        [script.text("done"), script.finish("stop")],
    ]
    with allm.Host() as host:
        tools = [triple, peek]
        host.session("s", allm.Engine("fake", tools=tools, adapter_opts={"scripts": scripts})).reply(
            "go"
        ).result()
    assert seen == [None]
