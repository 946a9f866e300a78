"""What a turn with tools costs when the model answers at once: 8 turns of 4 parallel tools that do nothing.

    python -m benchmarks.loop [-r 5] [--probes DIR] [--free] [subject ...]

The model is the scripted provider, nothing touches a network, and 32 answers are checked. The floors do the same amount
of tool calls with no library at all: plain calls, one asyncio task each, one job of a thread pool each. `allm …` are
whole chats: actors, supervision, validation, events and results included; `def` tools run on threads, `async def` tools
on the event loop. Peers run where they can be imported, `PYTHONPATH` of another environment included, and are skipped
where they cannot. With `--probes`, what actors alone would take: those of a module `pooled` in that directory.
With `--free`, a subject may use all CPUs: what hands work between threads then also carries it from one CPU to another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median
from typing import Any

from benchmarks.loop_peers import PEERS, pooled
from benchmarks.measure import Column, Subject, arguments, cpu, measure, percentile, show

__all__ = ["SUBJECTS"]

TURNS, PARALLEL = 8, 4
RUNS, WARM = 40, 5
REFERENCE = "floor: threads"  # the fastest peer, where there is one
PROBE = "probe, pooled"


def plain() -> Callable[[], int]:
    """Calls, and their messages as dicts."""

    def run() -> int:
        messages: list[dict[str, Any]] = [{"role": "user", "content": "go"}]
        for turn in range(TURNS):
            calls = [{"id": f"{turn}.{n}", "name": "noop", "arguments": {"x": n}} for n in range(PARALLEL)]
            messages.append({"role": "assistant", "tool_calls": calls})
            for call in calls:
                answer = {
                    "role": "tool",
                    "tool_call_id": call["id"],
                    "content": str(_noop(**call["arguments"])),
                }
                messages.append(answer)
        return sum(message["role"] == "tool" for message in messages)

    return run


def tasks() -> Callable[[], Awaitable[int]]:
    """A task for each tool."""

    async def noop(x: int) -> int:
        return x + 1

    async def run() -> int:
        answers = [await asyncio.gather(*map(noop, range(PARALLEL))) for _ in range(TURNS)]
        return sum(map(len, answers))

    return run


def pool() -> Callable[[], int]:
    """A job of a thread pool for each tool."""
    executor = ThreadPoolExecutor(PARALLEL)

    def run() -> int:
        return sum(len(list(executor.map(_noop, range(PARALLEL)))) for _ in range(TURNS))

    return run


def chat() -> Callable[[], int]:
    """`allm.chat`, tools on threads."""
    import allm_actors as allm

    tool = allm.tool(_noop)
    return lambda: _answers(allm.chat(_engine(tool), [allm.user("go")], max_turns=TURNS + 1))


def async_chat() -> Callable[[], Awaitable[int]]:
    """`allm.aio.chat`, tools on the caller's event loop."""
    import allm_actors as allm

    async def noop(x: int) -> int:
        """One more."""
        return x + 1

    tool = allm.tool(noop)

    async def run() -> int:
        return _answers(await allm.aio.chat(_engine(tool), [allm.user("go")], max_turns=TURNS + 1))

    return run


def attached_reply() -> Callable[[], Awaitable[int]]:
    """`async with Host`, a session's reply: all of it on one event loop, stored after every step."""
    import allm_actors as allm

    async def noop(x: int) -> int:
        """One more."""
        return x + 1

    hosts, tool = [], allm.tool(noop)

    async def run() -> int:
        if not hosts:
            hosts.append(await allm.Host().__aenter__())
        session = hosts[0].session(f"s{time.monotonic_ns()}", _engine(tool))
        answers = _answers(await session.reply("go", max_turns=TURNS + 1))
        await session.stop()
        return answers

    return run


def _noop(x: int) -> int:
    """One more."""
    return x + 1


def _engine(tool: Any) -> Any:
    import allm_actors as allm
    from allm_actors.testing import script

    turns = [
        [*[script.tool_call(tool.name, {"x": n}) for n in range(PARALLEL)], script.finish("tool_calls")]
        for _ in range(TURNS)
    ]
    scripts = [*turns, [script.text("done"), script.finish("stop")]]
    return allm.Engine("fake", tools=[tool], adapter_opts={"scripts": scripts})


def _answers(result: Any) -> int:
    assert result.halted_reason == "completed", result
    return sum(len(step.tool_results) for step in result.steps)


def timed(make: Callable[[], Callable[[], Any]]) -> Callable[..., Mapping[str, float]]:
    """The subject that repeats what `make` makes; the lower quartile, because noise only ever adds."""

    def subject(probes: str | None) -> Mapping[str, float]:  # noqa: ARG001
        return asyncio.run(_timed(make()))

    return subject


def probed(probes: str | None) -> Mapping[str, float]:
    """The subject that repeats what the actors of `probes` do."""
    return asyncio.run(_timed(pooled(TURNS, PARALLEL, probes)))


async def _timed(run: Callable[[], Any]) -> dict[str, float]:
    used, wall = [], []
    for _ in range(WARM + RUNS):
        before, began = cpu(), time.perf_counter()
        outcome = run()
        answers = await outcome if asyncio.iscoroutine(outcome) else outcome
        used.append((cpu() - before) * 1e3)
        wall.append((time.perf_counter() - began) * 1e3)
        assert answers == TURNS * PARALLEL, answers
    return {"wall": percentile(wall[WARM:], 25), "cpu": percentile(used[WARM:], 25)}


def _fastest(samples: Mapping[str, Any]) -> str:
    """The peer that took the least CPU, or what everything is compared with where there is none."""
    peers = [name for name in PEERS if name in samples]
    return min(peers, key=lambda name: median(each["cpu"] for each in samples[name]), default=REFERENCE)


SUBJECTS = {
    "floor: plain calls": Subject(timed(plain)),
    "floor: asyncio": Subject(timed(tasks)),
    "floor: threads": Subject(timed(pool)),
    "allm.aio, async tools": Subject(timed(async_chat)),
    "async with Host, async tools": Subject(timed(attached_reply)),
    "allm.chat, def tools": Subject(timed(chat)),
    **{name: Subject(timed(partial(make, TURNS, PARALLEL)), needs) for name, (make, needs) in PEERS.items()},
    PROBE: Subject(probed),
}
COLUMNS = (
    Column("wall", "ms per run", ".2f", ratio=True),
    Column("cpu", "CPU ms per run", ".2f", ratio=True),
)


if __name__ == "__main__":
    options: dict[str, dict[str, Any]] = {"--probes": {"metavar": "DIR"}, "--free": {"action": "store_true"}}
    asked = arguments(__doc__, SUBJECTS, options)
    asked.subjects = asked.subjects or [name for name in SUBJECTS if asked.probes or name != PROBE]
    samples = measure("benchmarks.loop", SUBJECTS, asked, pinned=not asked.free, probes=asked.probes)
    title = f"{TURNS} turns of {PARALLEL} parallel tools"
    show(title, COLUMNS, samples, _fastest(samples))
