"""Servers, tasks, partitions and groups, killed by somebody who is in no hurry: what holds in every order."""

from __future__ import annotations

from typing import Any

import pytest
from pykka import Timeout

from supervisors import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    Down,
    GenServer,
    PartitionSupervisor,
    ProcessDown,
    Registry,
    Returned,
    TaskResult,
    TaskSupervisor,
    call,
    cast,
    child,
    exit,
    get_state,
)
from supervisors.testing import Sim


class Counter(GenServer):
    n = 0

    def handle_call(self, request: Any, from_: Any) -> int:
        if request == "crash":
            raise ValueError("as told")
        self.n += 1
        return self.n


class Agent(GenServer):
    """Starts tasks, and keeps what it is told of them."""

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[Any, list[Any]] = {}

    def handle_call(self, request: Any, from_: Any) -> Any:
        return request(self)

    def handle_info(self, msg: TaskResult) -> None:
        self.told.setdefault(msg.ref, []).append(msg.value)

    def handle_down(self, down: Down) -> None:
        self.told.setdefault(down.ref, []).append(down.reason)


class Killer(GenServer):
    def handle_cast(self, request: Any) -> None:
        exit(request, "kill")


def test_a_result_is_told_once_and_before_the_end_in_every_order(sim: Sim) -> None:
    tasks = TaskSupervisor.start()
    agent = Agent.start()
    assert call(agent, lambda self: tasks.async_nolink(lambda: 7).await_(5)) == 7
    task = call(agent, lambda self: tasks.async_nolink(lambda: 5))
    squares = call(agent, lambda self: list(tasks.async_stream(lambda n: n * n, range(4), max_concurrency=2)))
    assert squares == [Returned(n * n) for n in range(4)]
    sim.run_until_idle()
    assert get_state(agent)["told"] == {task.ref: [5, NORMAL]}


def test_a_task_that_took_too_long_ends_its_stream_even_if_it_is_done_when_somebody_looks(sim: Sim) -> None:
    def work(seconds: float) -> float:
        sim.sleep(seconds)
        return seconds

    results = TaskSupervisor.start().async_stream(work, [0.0, 1.5], max_concurrency=2, timeout=1.0)
    assert next(results) == Returned(0.0)
    sim.run_until_idle()
    with pytest.raises(Timeout, match="took longer than"):
        next(results)


def test_a_killed_task_is_told_of_once_in_every_order(sim: Sim) -> None:
    tasks, agent, killer = TaskSupervisor.start(), Agent.start(), Killer.start()
    started = call(agent, lambda self: [tasks.async_nolink(lambda: "value") for _ in range(3)])
    cast(killer, started[0].ref)
    cast(killer, tasks)
    sim.run_until_idle()
    told = get_state(agent)["told"]
    assert set(told) == {task.ref for task in started}
    for told_of_one in told.values():
        assert told_of_one in (
            ["value", NORMAL],
            ["value", KILLED],
            ["value", SHUTDOWN],
            [KILLED],
            [SHUTDOWN],
        )
    assert [ref for ref in agent.system.processes() if ref not in (agent, killer)] == []


def test_an_address_outlives_a_crash_in_every_order(sim: Sim) -> None:
    PartitionSupervisor.start(child(Counter), name="counters", partitions=2)
    address = PartitionSupervisor.via("counters", "alice")
    assert call(address, "count") == 1
    try:
        call(address, "crash")
    except ValueError:
        pass
    sim.run_until_idle()
    assert call(address, "count") == 1
    PartitionSupervisor.resize("counters", 1)
    assert call(PartitionSupervisor.via("counters", "bob"), "count") in (1, 2)


def test_nothing_is_held_by_the_dead_in_any_order(sim: Sim) -> None:
    registry, counter, killer = Registry(), Counter.start(), Killer.start()
    registry.register("key", counter)
    counter.system.groups.join("group", counter)
    seen: list[Any] = []
    counter.add_exit_callback(
        lambda _: seen.append((registry.count(), counter.system.groups.members("group")))
    )
    answer = counter.ask("count", block=False)
    cast(killer, counter)
    try:
        outcome = answer.get(timeout=5)
    except ProcessDown as down:
        outcome = down.reason
    sim.run_until_idle()
    assert outcome in (1, KILLED)
    assert seen == [(0, [])]
