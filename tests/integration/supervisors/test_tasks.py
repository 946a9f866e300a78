"""Tasks: results and ends reach whoever asked, once, in order, or not at all."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast
from weakref import WeakSet

import pykka
import pytest

from supervisors.errors import BadSpec, Deadlock, MaxChildren, ProcessDown, ReplyError, SupervisorError
from supervisors.process import Down, ExitMsg, Process, exit
from supervisors.reasons import KILLED, NORMAL, SHUTDOWN, Crash, Exit
from supervisors.runtime.pool import PoolDispatcher
from supervisors.runtime.system import System
from supervisors.runtime.threads import ThreadDispatcher
from supervisors.task import (
    Ended,
    Returned,
    TaskResult,
    TaskSupervisor,
    TaskSupervisorRef,
    callers,
    current_process,
)
from supervisors.task.work import Work
from supervisors.testing import Event, Sim

from .conftest import SOON, Log, Watcher, beside
from .supervision.family import deaf

STOPPING = "`Process.stopping` is a `threading.Event`: waiting for it blocks the thread"


@pytest.fixture(
    params=[ThreadDispatcher, lambda: PoolDispatcher(4), lambda: None, Sim],
    ids=["threads", "pool", "as it comes", "simulation"],
)
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    with System(dispatcher=request.param()) as system:
        yield system


@pytest.fixture
def tasks(system: System) -> TaskSupervisorRef:
    return TaskSupervisor.start_link(name="tasks")


@pytest.fixture
def agent(tasks: TaskSupervisorRef, log: Log) -> Any:
    return Agent.start(log)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


class Agent(Watcher):
    """A process that starts tasks; does not trap exits."""

    trap_exit = False

    def terminate(self, reason: Any) -> None:
        self.log(("end", reason))


class Gate:
    """A function that begins, waits until it may go on, and returns its argument."""

    def __init__(self) -> None:
        self.entered = Event()
        self.open = Event()

    def __call__(self, value: Any = None) -> Any:
        process = current_process()
        assert process is not None
        process.on_kill(self.open.set)
        self.entered.set()
        with process.blocking():
            assert self.open.wait(SOON)
        process.check_stop()
        return value


def crash() -> None:
    raise ValueError("as told")


def dead(ref: Any) -> Event:
    event = Event()
    ref.add_exit_callback(lambda _: event.set())
    return event


def ask(agent: Any, function: Callable[[Any], Any]) -> Any:
    return agent.ask(function, timeout=SOON)


# --- from outside -----------------------------------------------------------------------------------------------------


def test_a_result_is_awaited(tasks: TaskSupervisorRef) -> None:
    task = tasks.async_(lambda a, b: a + b, 1, b=2)
    assert task.await_(SOON) == 3
    assert task.await_(SOON) == 3
    assert task.done()


def test_a_crash_is_raised_with_its_cause_and_harms_nobody_else(tasks: TaskSupervisorRef) -> None:
    with pytest.raises(ProcessDown) as down:
        tasks.async_nolink(crash).await_(SOON)
    assert isinstance(down.value.reason, Crash)
    assert isinstance(down.value.__cause__, ValueError)
    assert tasks.async_nolink(lambda: 1).await_(SOON) == 1


def test_a_refusal_is_a_crash_where_nobody_lives_on(tasks: TaskSupervisorRef) -> None:
    def refuse() -> None:
        raise ReplyError("no")

    outcome = tasks.async_nolink(refuse).yield_(SOON)
    assert isinstance(outcome, Ended)
    assert isinstance(outcome.reason, Crash)


def test_a_task_may_end_for_a_reason_of_its_own(tasks: TaskSupervisorRef) -> None:
    def leave() -> None:
        raise Exit("tired")

    assert tasks.async_nolink(leave).yield_(SOON) == Ended("tired")


def test_one_may_ask_again_and_again(tasks: TaskSupervisorRef, gate: Gate) -> None:
    task = tasks.async_nolink(gate, 7)
    assert task.yield_(0.0) is None
    assert not task.done()
    gate.open.set()
    assert task.yield_(SOON) == Returned(7)


def test_a_coroutine_function_is_refused_for_nobody_would_await_it(tasks: TaskSupervisorRef) -> None:
    async def work(item: int = 0) -> int:
        return item

    for start in (tasks.async_, tasks.async_nolink, tasks.start_child):
        with pytest.raises(BadSpec, match="is asynchronous, and a task cannot await it"):
            start(work)  # type: ignore[operator]
    with pytest.raises(BadSpec, match="is asynchronous"):
        list(tasks.async_stream(work, [1]))
    assert tasks.which_children() == []
    assert tasks.async_(lambda: asyncio.run(work(3))).await_() == 3


def test_waiting_ends_with_its_time(tasks: TaskSupervisorRef, gate: Gate) -> None:
    task = tasks.async_nolink(gate, 7)
    with pytest.raises(pykka.Timeout):
        task.await_(0.0)
    gate.open.set()
    assert task.outcome() == Returned(7)


@pytest.mark.real("an event loop waits without the simulation")
def test_a_task_is_awaited_in_an_event_loop(tasks: TaskSupervisorRef) -> None:
    async def main() -> Any:
        return await tasks.async_nolink(lambda: 5)

    assert asyncio.run(main()) == 5


@pytest.mark.real(STOPPING)
def test_a_task_that_looks_is_stopped(tasks: TaskSupervisorRef) -> None:
    entered = Event()

    def look() -> None:
        process = current_process()
        assert process is not None
        entered.set()
        with process.blocking():
            assert process.stopping.wait(SOON)
        process.check_stop()

    task = tasks.async_nolink(look)
    assert entered.wait(SOON)
    assert task.shutdown(SOON) is None
    assert task.ref.exit_reason is SHUTDOWN


@pytest.mark.parametrize("patience", [0.0, "brutal_kill"])
def test_a_task_that_does_not_look_is_killed(tasks: TaskSupervisorRef, gate: Gate, patience: Any) -> None:
    task = tasks.async_nolink(gate, 7)
    assert gate.entered.wait(SOON)
    assert task.shutdown(patience) is None
    assert gate.open.is_set()
    dead(task.ref).wait(SOON)
    assert task.ref.exit_reason is KILLED


def test_shutting_down_returns_what_came_first(tasks: TaskSupervisorRef) -> None:
    task = tasks.async_nolink(lambda: 7)
    assert task.outcome() == Returned(7)
    assert task.shutdown() == Returned(7)
    task = tasks.async_nolink(crash)
    task.outcome()
    assert isinstance(task.shutdown(), Ended)


@pytest.mark.parametrize("patience", [SOON, "brutal_kill"])
def test_shutting_down_returns_an_end_that_came_from_somebody_else(
    tasks: TaskSupervisorRef, gate: Gate, patience: Any
) -> None:
    task = tasks.async_nolink(gate)
    exit(task.ref, "kill")
    assert task.shutdown(patience) == Ended(KILLED)
    task = tasks.async_nolink(lambda: cast(Process, current_process()).exit(SHUTDOWN))
    assert task.outcome() == Ended(SHUTDOWN)
    assert task.shutdown(patience) == Ended(SHUTDOWN)


@pytest.mark.real("it is killed while somebody waits for its end")
def test_who_waits_for_the_end_of_a_task_is_told_that_somebody_else_has_killed_it(
    tasks: TaskSupervisorRef, gate: Gate
) -> None:
    task = tasks.async_nolink(gate)
    assert gate.entered.wait(SOON)
    answer = beside(task.shutdown)
    assert cast(Process, task.ref.actor_inbox.owner).stopping.wait(SOON)
    exit(task.ref, "kill")
    assert answer.get(timeout=SOON) == Ended(KILLED)


def test_there_may_be_only_so_many(system: System, gate: Gate) -> None:
    tasks = TaskSupervisor.start_link(max_children=1)
    first = tasks.async_nolink(gate, 1)
    for start in (tasks.async_, tasks.async_nolink, tasks.start_child):
        with pytest.raises(MaxChildren):
            start(crash)
    gate.open.set()
    assert first.await_(SOON) == 1


def test_fire_and_forget_runs_again_only_if_it_is_to(tasks: TaskSupervisorRef, log: Log) -> None:
    runs = []

    def twice(value: int) -> None:
        runs.append(value)
        log(value)
        if len(runs) == 1:
            raise ValueError("again")

    tasks.start_child(twice, 3, restart="transient")
    assert [log.next(), log.next()] == [3, 3]
    ref = tasks.start_child(crash)
    assert dead(ref).wait(SOON)


def test_tasks_end_with_their_supervisor(tasks: TaskSupervisorRef, gate: Gate) -> None:
    task = tasks.async_nolink(gate, 1)
    assert gate.entered.wait(SOON)
    end = dead(task.ref)
    exit(tasks, "kill")
    gate.open.set()
    assert end.wait(SOON)
    assert task.outcome() == Ended(SHUTDOWN)
    with pytest.raises(ProcessDown):
        tasks.async_nolink(crash)


# --- from a process ---------------------------------------------------------------------------------------------------


def test_a_process_that_does_not_wait_is_told_the_result_and_then_the_end(
    tasks: TaskSupervisorRef, agent: Any, log: Log
) -> None:
    task = ask(agent, lambda self: tasks.async_nolink(lambda: 7))
    assert log.next() == TaskResult(task.ref, 7)
    down = log.next()
    assert (type(down), down.ref, down.reason) == (Down, task.ref, NORMAL)


def test_a_process_that_does_not_wait_is_told_of_a_crash_only(
    tasks: TaskSupervisorRef, agent: Any, log: Log
) -> None:
    task = ask(agent, lambda self: tasks.async_nolink(crash))
    down = log.next()
    assert (type(down), down.ref) == (Down, task.ref)
    assert isinstance(down.reason, Crash)
    ask(agent, lambda self: None)
    assert log.rest() == []


def test_a_process_that_waits_is_told_nothing_else(tasks: TaskSupervisorRef, agent: Any, log: Log) -> None:
    assert ask(agent, lambda self: tasks.async_nolink(lambda: 7).await_(SOON)) == 7
    assert isinstance(ask(agent, lambda self: tasks.async_nolink(crash).yield_(SOON)), Ended)
    ask(agent, lambda self: None)
    assert log.rest() == []


def test_a_message_that_is_queued_is_taken_back(tasks: TaskSupervisorRef, agent: Any, log: Log) -> None:
    def ask_late(self: Agent) -> Any:
        task = tasks.async_nolink(lambda: 7)
        end = dead(task.ref)
        with self.blocking():
            assert end.wait(SOON)
        return task.shutdown()

    assert ask(agent, ask_late) == Returned(7)
    ask(agent, lambda self: None)
    assert log.rest() == []


def test_after_a_timeout_nothing_arrives(tasks: TaskSupervisorRef, agent: Any, log: Log, gate: Gate) -> None:
    started: list[Any] = []

    def impatient(self: Agent) -> None:
        started.append(tasks.async_nolink(gate, 7))
        with pytest.raises(pykka.Timeout):
            started[0].await_(0.0)

    ask(agent, impatient)
    end = dead(started[0].ref)
    gate.open.set()
    assert end.wait(SOON)
    ask(agent, lambda self: None)
    assert log.rest() == []


def test_only_the_owner_may_wait(tasks: TaskSupervisorRef, agent: Any) -> None:
    task = ask(agent, lambda self: tasks.async_nolink(lambda: 7))
    with pytest.raises(SupervisorError, match="belongs to"):
        task.await_()
    outside = tasks.async_nolink(lambda: 7)

    def wait_for_a_stranger(self: Agent) -> None:
        with pytest.raises(SupervisorError, match="belongs to None"):
            outside.await_()

    ask(agent, wait_for_a_stranger)


def test_a_linked_task_takes_its_owner_with_it(tasks: TaskSupervisorRef, agent: Any, log: Log) -> None:
    agent.tell(lambda self: tasks.async_(crash))
    end = log.next()
    assert end[0] == "end"
    assert isinstance(end[1], Crash)


def test_an_owner_takes_its_linked_task_with_it(
    tasks: TaskSupervisorRef, agent: Any, log: Log, gate: Gate
) -> None:
    task = ask(agent, lambda self: tasks.async_(gate))
    assert gate.entered.wait(SOON)
    end = dead(task.ref)
    exit(agent, "kill")
    gate.open.set()
    assert end.wait(SOON)
    assert task.ref.exit_reason is KILLED


def test_an_owner_lives_on_when_it_has_shut_down_its_linked_task(
    tasks: TaskSupervisorRef, agent: Any, gate: Gate
) -> None:
    assert ask(agent, lambda self: tasks.async_(gate).shutdown("brutal_kill")) is None
    assert ask(agent, lambda self: "alive") == "alive"


def test_an_owner_that_traps_exits_lives_on(tasks: TaskSupervisorRef, log: Log) -> None:
    trapping = Watcher.start(log)
    task = ask(trapping, lambda self: tasks.async_(crash))
    assert {type(log.next()), type(log.next())} == {ExitMsg, Down}
    assert ask(trapping, lambda self: "alive") == "alive"
    assert isinstance(task.outcome(), Ended)


def test_a_task_whose_owner_dies_before_it_is_told_what_to_do_ends(
    tasks: TaskSupervisorRef, agent: Any
) -> None:
    from supervisors.spec import child
    from supervisors.supervisor import DynamicSupervisorRef

    work: Any = DynamicSupervisorRef.start_child(tasks, child(Work, None, agent))
    end = dead(work)
    exit(agent, "kill")
    assert end.wait(SOON)
    assert work.exit_reason is SHUTDOWN


def test_a_task_and_its_owner_that_ask_each_other_are_told(tasks: TaskSupervisorRef, agent: Any) -> None:
    def wait(self: Agent) -> Any:
        task = tasks.async_nolink(lambda: agent.ask("x", timeout=SOON))
        try:
            return task.yield_(SOON).reason.exc  # type: ignore[union-attr]
        except Deadlock as deadlock:  # whoever is the last to wait is told
            task.shutdown()
            return deadlock

    assert isinstance(ask(agent, wait), Deadlock)


def test_a_task_knows_on_whose_behalf_it_runs(tasks: TaskSupervisorRef, agent: Any) -> None:
    def chain(self: Agent) -> Any:
        task = tasks.async_nolink(lambda: (tasks.async_nolink(callers).await_(SOON), callers()))
        return task.ref, task.await_(SOON)

    ref, (inner, outer) = ask(agent, chain)
    assert outer == (agent,)
    assert inner == (ref, agent)
    assert callers() == ()
    assert current_process() is None


def test_a_killed_function_delivers_nothing(
    tasks: TaskSupervisorRef, agent: Any, log: Log, gate: Gate
) -> None:
    returned = Event()

    def stubborn() -> int:
        gate.entered.set()
        deaf(gate.open)
        returned.set()
        return 7

    task = ask(agent, lambda self: tasks.async_nolink(stubborn))
    assert gate.entered.wait(SOON)
    exit(task.ref, "kill")
    down = log.next()
    assert (down.ref, down.reason) == (task.ref, KILLED)
    gate.open.set()
    assert returned.wait(SOON)
    ask(agent, lambda self: None)
    assert log.rest() == []


# --- streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_yields_in_the_order_of_the_items(tasks: TaskSupervisorRef) -> None:
    results = tasks.async_stream(lambda n: n * n, range(20), max_concurrency=3, timeout=SOON)
    assert list(results) == [Returned(n * n) for n in range(20)]
    assert list(tasks.async_stream(crash, [])) == []


def test_a_stream_runs_only_so_many_at_a_time(tasks: TaskSupervisorRef) -> None:
    lock, running, most = threading.Lock(), [0], [0]

    def work(n: int) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        with lock:
            running[0] -= 1
        return n

    assert len(list(tasks.async_stream(work, range(50), max_concurrency=2, timeout=SOON))) == 50
    assert 1 <= most[0] <= 2


@pytest.mark.parametrize("ordered", [True, False])
def test_a_stream_yields_what_is_done_before_it_takes_another_item(
    tasks: TaskSupervisorRef, log: Log, ordered: bool
) -> None:
    def work(n: int) -> int:
        process = current_process()
        assert process is not None
        process.ref.add_exit_callback(log)
        return n

    taken = []

    def items() -> Iterator[int]:
        for n in range(50):
            taken.append(n)
            yield n
            log.next()  # as if they were short, and each were over before the next is taken

    results = tasks.async_stream(work, items(), max_concurrency=4, ordered=ordered, timeout=SOON)
    for n in range(5):
        assert next(results) == Returned(n)
        assert len(taken) <= n + 2


def test_a_stream_takes_no_more_items_while_one_of_its_tasks_is_overdue(
    tasks: TaskSupervisorRef, log: Log, gate: Gate
) -> None:
    def work(n: int) -> int:
        if n == 0:
            return int(gate(n))
        process = current_process()
        assert process is not None
        process.ref.add_exit_callback(log)
        return n

    taken = []

    def items() -> Iterator[int]:
        for n in range(50):
            taken.append(n)
            yield n
            if n:
                log.next()

    results = tasks.async_stream(work, items(), max_concurrency=2, timeout=0.0)
    with pytest.raises(pykka.Timeout):
        next(results)
    assert len(taken) < 3


def test_an_unordered_stream_yields_what_is_done(tasks: TaskSupervisorRef, gate: Gate) -> None:
    results = tasks.async_stream(
        lambda n: gate(n) if n == 0 else n, [0, 1], max_concurrency=2, ordered=False, timeout=None
    )
    assert next(results) == Returned(1)
    gate.open.set()
    assert list(results) == [Returned(0)]


def test_a_crash_is_one_of_the_results(tasks: TaskSupervisorRef) -> None:
    results = list(tasks.async_stream(lambda n: 1 // n, [1, 0], timeout=SOON, zip_input_on_exit=True))
    assert results[0] == Returned(1)
    assert isinstance(results[1], Ended)
    item, reason = results[1].reason  # type: ignore[misc]
    assert item == 0
    assert isinstance(reason, Crash)


def test_what_takes_too_long_is_killed_or_ends_the_stream(tasks: TaskSupervisorRef, gate: Gate) -> None:
    slow = {0: gate}
    run = lambda n: slow[n](n) if n in slow else n  # noqa: E731
    results = tasks.async_stream(run, [0, 1], max_concurrency=1, timeout=0.0, on_timeout="kill_task")
    assert next(results) == Ended("timeout")
    slow.clear()
    results = tasks.async_stream(gate, [0], timeout=0.0)
    gate.open.clear()
    with pytest.raises(pykka.Timeout):
        next(results)


def test_what_takes_too_long_is_told_with_its_item_where_that_is_wanted(
    tasks: TaskSupervisorRef, gate: Gate
) -> None:
    results = tasks.async_stream(
        gate, [7], timeout=0.0, on_timeout="kill_task", zip_input_on_exit=True, max_concurrency=1
    )
    assert list(results) == [Ended((7, "timeout"))]


def test_what_takes_too_long_is_killed_in_time_even_if_nobody_advances_the_stream(
    system: System, tasks: TaskSupervisorRef, gate: Gate
) -> None:
    results = tasks.async_stream(
        lambda n: gate(n) if n else n, [0, 1], max_concurrency=2, timeout=0.1, on_timeout="kill_task"
    )
    first = next(results)
    for ref in [each for each in system.processes() if each.actor_class is Work]:
        assert dead(ref).wait(SOON)
    assert [first, *results] in ([Returned(0), Ended("timeout")], [Ended("timeout")] * 2)


def test_a_stream_keeps_no_task_whose_result_was_taken(tasks: TaskSupervisorRef, log: Log) -> None:
    class Result:
        pass

    there: WeakSet[Result] = WeakSet()

    def work(n: int) -> Result:
        process = current_process()
        assert process is not None
        process.ref.add_exit_callback(log)
        result = Result()
        there.add(result)
        return result

    def items() -> Iterator[int]:
        for n in range(40):
            yield n
            log.next()  # each task is done before anybody has to wait for it

    results = tasks.async_stream(work, items(), max_concurrency=2, timeout=SOON)
    for _ in range(30):
        next(results)
    gc.collect()
    assert len(there) <= 4


@pytest.mark.parametrize("ordered", [True, False])
def test_a_stream_and_a_task_of_it_that_asks_its_consumer_are_told(
    tasks: TaskSupervisorRef, agent: Any, ordered: bool
) -> None:
    def stream(self: Agent) -> Any:
        ask_back = lambda n: agent.ask("x", timeout=SOON)  # noqa: E731
        try:
            [ended] = tasks.async_stream(ask_back, [1], ordered=ordered, timeout=None)
            return ended.reason.exc  # type: ignore[union-attr]
        except Deadlock as deadlock:  # whoever is the last to wait is told
            return deadlock

    assert isinstance(ask(agent, stream), Deadlock)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_task_that_asks_its_consumer_and_is_killed_in_time_costs_no_other_result(
    tasks: TaskSupervisorRef, agent: Any, ordered: bool
) -> None:
    def work(n: int) -> Any:
        return agent.ask("x", timeout=None) if n == 1 else n

    def stream(self: Agent) -> Any:
        results = tasks.async_stream(work, [0, 1, 2], ordered=ordered, timeout=0.05, on_timeout="kill_task")
        return list(results)

    answer = ask(agent, stream)
    assert sorted(answer, key=str) == sorted([Returned(0), Ended("timeout"), Returned(2)], key=str)


def test_a_stream_that_takes_whichever_is_done_first_is_in_no_circle_while_others_run(
    tasks: TaskSupervisorRef, agent: Any, gate: Gate
) -> None:
    def work(n: int) -> Any:
        return gate(n) if n == 0 else agent.ask("x", timeout=None)

    def stream(self: Agent) -> Any:
        results = tasks.async_stream(work, [0, 1], ordered=False, max_concurrency=2, timeout=None)
        return next(results)

    answer = agent.ask(stream, block=False)
    assert gate.entered.wait(SOON)
    gate.open.set()
    assert answer.get(timeout=SOON) == Returned(0)


@pytest.mark.real(STOPPING)
def test_giving_up_a_stream_stops_its_tasks(tasks: TaskSupervisorRef, log: Log, gate: Gate) -> None:
    def watch(n: int) -> int:
        process = current_process()
        assert process is not None
        if n == 0:
            return int(gate(n))
        log(process.ref)
        if n == 2:
            gate.open.set()
        with process.blocking():
            assert process.stopping.wait(SOON)
        process.check_stop()
        return n

    results = tasks.async_stream(watch, range(100), max_concurrency=3, timeout=None)
    assert next(results) == Returned(0)
    refs = [log.next(), log.next()]
    results.close()  # type: ignore[attr-defined]
    for ref in refs:
        assert dead(ref).wait(SOON)
        assert ref.exit_reason is SHUTDOWN


@pytest.mark.parametrize("end", ["crash", "kill"])
def test_whoever_streams_takes_its_tasks_along_when_it_ends(
    tasks: TaskSupervisorRef, agent: Any, log: Log, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(gate: Gate) -> None:
        log(current_process())
        gate()

    def stream(self: Agent) -> None:
        results = tasks.async_stream(
            work, [Gate(), go, Gate()], ordered=False, max_concurrency=3, timeout=None
        )
        for _ in results:
            raise ValueError("this traceback keeps the stream")

    monkeypatch.setattr("supervisors.task.stream._PATIENCE", 0.0)
    go = Gate()
    agent.tell(stream)
    refs = [log.next().ref for _ in range(3)]
    if end == "kill":
        exit(agent, "kill")
    else:
        go.open.set()
    for ref in refs:
        assert dead(ref).wait(SOON)


@pytest.mark.real("a handler that hangs holds up a simulation")
def test_a_stream_that_a_zombie_never_comes_back_to_is_stopped_with_its_process(
    tasks: TaskSupervisorRef, agent: Any, log: Log
) -> None:
    def stream(self: Agent) -> None:
        for _ in tasks.async_stream(work, [False, True], max_concurrency=2, timeout=None):
            entered.set()
            assert back.wait(SOON)

    def work(waits: bool) -> None:
        process = current_process()
        assert process is not None
        if waits:
            log(process.ref)
            with process.blocking():
                assert process.stopping.wait(SOON)

    entered, back = threading.Event(), threading.Event()
    agent.tell(stream)
    ref = log.next()
    assert entered.wait(SOON)
    exit(agent, "kill")
    assert dead(ref).wait(SOON)
    back.set()


def test_a_stream_that_has_ended_leaves_nothing_at_its_consumer(tasks: TaskSupervisorRef, agent: Any) -> None:
    def stream(self: Agent) -> Any:
        results = tasks.async_stream(lambda n: n, range(5), timeout=SOON)
        watched = next(results), len(agent.ties.watchers)
        return watched, list(results), len(agent.ties.watchers)

    (first, before), rest, after = ask(agent, stream)
    assert [first, *rest] == [Returned(n) for n in range(5)]
    assert (before, after) == (1, 0)


def test_a_process_that_streams_is_sent_no_messages(tasks: TaskSupervisorRef, agent: Any, log: Log) -> None:
    def stream(self: Agent) -> Any:
        return list(tasks.async_stream(lambda n: n, range(5), max_concurrency=2, timeout=SOON))

    assert ask(agent, stream) == [Returned(n) for n in range(5)]
    ask(agent, lambda self: None)
    assert log.rest() == []


def test_nonsense_is_refused_before_anything_runs(tasks: TaskSupervisorRef) -> None:
    for wrong in (
        *({"max_concurrency": count} for count in (0, True, 1.5, math.nan, "2")),
        *({"timeout": seconds} for seconds in ("5", True, math.nan)),
        {"on_timeout": "pray"},
    ):
        with pytest.raises(BadSpec):
            tasks.async_stream(crash, [1], **wrong)  # type: ignore[arg-type]


def test_a_task_whose_reason_is_a_crash_of_no_exception_has_ended(tasks: TaskSupervisorRef) -> None:
    def fail() -> None:
        raise Exit(Crash("as told"))  # type: ignore[arg-type]

    assert tasks.async_nolink(fail).yield_(SOON) == Ended(Crash("as told"))  # type: ignore[arg-type]


def test_a_task_that_is_dead_before_it_is_told_what_to_do_says_so(tasks: TaskSupervisorRef) -> None:
    from supervisors.task.handle import Task
    from supervisors.task.work import Job

    gone = Process.start()
    gone.stop(timeout=SOON)
    task = Task(gone, None, link=False)
    task.begin(Job(crash))
    assert task.outcome() == Ended(NORMAL)
    assert gone.system.dead_letters.count == 1
