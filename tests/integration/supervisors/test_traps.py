"""Twenty mistakes that an implementation of OTP in Python is likely to make, and what would be seen of each.

The rule of this file: one test for each, named after it; its comment says which mistake it would catch. They run on a
thread each, on a pool, and in simulations, unless a marker says why not.
"""

from __future__ import annotations

import gc
import math
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any

import pykka
import pytest

from supervisors import (
    IGNORE,
    KILLED,
    SHUTDOWN,
    Backoff,
    BadSpec,
    DynamicSupervisor,
    PartitionSupervisor,
    PoolDispatcher,
    Process,
    ProcessDown,
    Supervisor,
    System,
    ThreadDispatcher,
    child,
    exit,
)
from supervisors.runtime.limit import UNBOUNDED, Limit
from supervisors.runtime.ref import Ref
from supervisors.supervisor import Request
from supervisors.testing import Event, Sim

from .conftest import SOON, Echo, Log, Watcher, Worker, beside, name_of, often, simulated
from .supervision.family import (
    Slow,
    always_failing_after,
    crash,
    deaf,
    eventually,
    gone,
    lines,
    ref_of,
)
from .test_application import Daemon


@pytest.fixture(params=[ThreadDispatcher, PoolDispatcher, Sim], ids=name_of, autouse=True)
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    with System(dispatcher=request.param()) as system:
        yield system


Make = Callable[..., Any]


def test_trap_01_a_transient_supervisor_that_gave_up_is_not_restarted(system: System, worker: Make) -> None:
    # Caught: giving up taken for a failure, either by the parent or in the reason of the supervisor that gives up.
    inner = child(Supervisor, [worker("a")], max_restarts=0, name="inner").replace(restart="transient")
    outer = Supervisor.start([inner])
    first = system.whereis("inner")
    ref_of(first, "a").tell(crash)
    assert eventually(lambda: ref_of(outer, "inner") is first, False)
    assert (first.exit_reason, ref_of(outer, "inner"), system.whereis("inner")) == (SHUTDOWN, None, None)


def test_trap_02_a_group_restart_starts_those_again_that_somebody_had_stopped(log: Log, worker: Make) -> None:
    # Caught: starting only those again that ran before. OTP starts the whole range, whoever stopped them.
    specs = [worker("a"), worker("b", restart="transient"), worker("c")]
    sup = Supervisor.start(specs, strategy="one_for_all")
    sup.terminate_child("a")
    ended = gone(ref_of(sup, "b"))
    ref_of(sup, "b").stop()
    assert ended.wait(SOON)
    assert log.take(5) == ["+ a", "+ b", "+ c", "- a", "- b"]
    ref_of(sup, "c").tell(crash)
    assert log.take(4) == ["- c", "+ a", "+ b", "+ c"]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_trap_03_temporary_siblings_are_stopped_by_a_group_restart_and_not_started_again(
    log: Log, worker: Make, strategy: str
) -> None:
    # Caught: starting all that were stopped; leaving temporary children alone; keeping their specs.
    specs = [worker("a"), worker("t", restart="temporary"), worker("b")]
    sup = Supervisor.start(specs, strategy=strategy)
    ref_of(sup, "a").tell(crash)
    assert log.take(8) == ["+ a", "+ t", "+ b", "- a", "- b", "- t", "+ a", "+ b"]
    assert [line.id for line in sup.which_children()] == ["a", "b"]
    assert log.rest() == []


def test_trap_04_a_group_restart_counts_once_and_what_clients_ask_for_not_at_all(
    log: Log, worker: Make
) -> None:
    # Caught: counting each child of the group, or `restart_child`.
    sup = Supervisor.start([worker(id) for id in "abc"], strategy="one_for_all", max_restarts=2)
    for _ in range(3):
        sup.terminate_child("b")
        sup.restart_child("b")
    log.rest()
    for _ in range(2):
        ref_of(sup, "a").tell(crash)
        assert log.take(6) == ["- a", "- c", "- b", "+ a", "+ b", "+ c"]
    ended = gone(sup)
    ref_of(sup, "a").tell(crash)
    assert ended.wait(SOON)
    assert log.rest() == ["- a", "- c", "- b"]


def test_trap_05_a_supervisor_that_retries_without_end_can_be_asked_and_stopped(worker: Make) -> None:
    # Caught: retrying in a loop inside the handler of the exit (OTP-9549).
    sup = Supervisor.start([worker("a", always_failing_after(1))], max_restarts=10**9)
    ref_of(sup, "a").tell(crash)
    assert eventually(lambda: ref_of(sup, "a"), "restarting")
    assert sup.count_children() == (1, 0, 0, 1)
    assert sup.stop(timeout=SOON)


def test_trap_06_the_exit_of_an_old_incarnation_is_no_death_of_the_new_one(log: Log, worker: Make) -> None:
    # Caught: looking up who has ended by id, or treating every exit as a death of a child: the exit of `b` is queued
    # while the death of `a` restarts them both.
    may, entered = Event(), Event()
    sup = Supervisor.start([worker("a"), worker("b")], strategy="one_for_all", max_restarts=1)
    slow = child(Slow, may, entered).replace(restart="temporary")
    busy = sup.ask(Request("start_child", (slow,)), block=False)
    assert entered.wait(SOON)
    refs = [ref for ref in sup.system.processes() if ref.parent is sup and ref.actor_class is Worker]
    ends = [gone(ref) for ref in refs]
    for ref in refs:
        ref.tell(crash)
    assert all(end.wait(SOON) for end in ends)
    may.set()
    busy.get(timeout=SOON)
    assert sorted(log.take(6)) == ["+ a", "+ a", "+ b", "+ b", "- a", "- b"]
    assert sup.count_children() == (2, 2, 0, 2)
    assert [view.restarts for view in sup.views()] == [1, 1]
    assert log.rest() == []


def test_trap_07_a_child_that_unlinked_itself_does_not_hang_the_supervisor(worker: Make) -> None:
    # Caught: waiting for the exit signal of the link instead of the death.
    sup = Supervisor.start([worker("a"), worker("b", shutdown=math.inf)])
    refs = [ref_of(sup, id) for id in "ab"]
    for ref in refs:
        ref.ask(lambda self: self.unlink(sup), timeout=SOON)
    assert sup.ask(Request("terminate_child", ("a",)), timeout=SOON) is None
    assert sup.stop(timeout=SOON)
    assert [ref.exit_reason for ref in refs] == [SHUTDOWN] * 2


def test_trap_08_a_name_is_free_before_the_death_is_told(system: System, log: Log) -> None:
    # Caught: telling the supervisor first and cleaning up later: the restart finds its name taken.
    reports: list[Any] = []
    system.reports.subscribe(reports.append)
    sup = Supervisor.start([child(Worker, log, "a", name="me")], max_restarts=10**9)
    assert log.next() == "+ a"
    for _ in often(50):
        system.whereis("me").tell(crash)
        assert log.take(2) == ["- a", "+ a"]
        assert sup.views()[0].ref is system.whereis("me")
    assert [report for report in reports if report.kind == "start_error"] == []


def test_trap_09_a_down_does_not_overtake_the_last_message(log: Log) -> None:
    # Caught: exits and DOWNs in a lane that goes first.
    def work(self: Process) -> None:
        watcher.tell("result")
        self.exit("done")

    watcher = Watcher.start(log)
    for _ in often(50):
        ref = Echo.start()
        watcher.ask(lambda self, ref=ref: self.monitor(ref) and self.link(ref), timeout=SOON)
        ref.tell(work)
        assert log.next() == "result"
        assert [log.next().reason, log.next().reason] == ["done", "done"]


@pytest.mark.real("counted in one simulation: no order of events makes a scan, or undoes one")
@pytest.mark.parametrize("system", [ThreadDispatcher], ids=name_of, indirect=True)
@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_trap_10_one_child_costs_the_same_among_a_thousand(kind: str) -> None:
    # Caught: scans for each start, exit and stop, in Python or in C. They are counted, not timed: lines of ours that
    # run, and refs that are compared.
    def life(count: int) -> float:
        specs = [child(Echo).replace(id=n, restart="temporary") for n in range(count)]
        with counting() as steps, Sim(replay=[]) as sim:
            sup = (Supervisor if kind == "static" else DynamicSupervisor).start()
            refs = [sup.start_child(spec) for spec in specs]
            for n in Random(1).sample(range(count), count):
                if n % 2:
                    exit(refs[n], "kill")
                else:
                    sup.terminate_child(n if kind == "static" else refs[n])
            sim.settle()
            assert sup.count_children().specs == 0
            return steps[0] / count

    assert life(1000) < 1.1 * life(100)


@contextmanager
def counting() -> Iterator[list[int]]:
    steps = [0]

    def trace(frame: Any, event: str, arg: Any) -> Any:
        if "/supervisors/runtime/baton" in frame.f_code.co_filename:
            return None  # the simulation itself looks at all that could happen
        steps[0] += event == "line"
        return trace

    def compare(one: object, other: object) -> bool:
        steps[0] += 1
        return one is other

    before = sys.gettrace(), threading.gettrace()
    Ref.__eq__, Ref.__hash__ = compare, object.__hash__  # type: ignore[method-assign,assignment]
    sys.settrace(trace)
    threading.settrace(trace)
    try:
        yield steps
    finally:
        sys.settrace(before[0])
        threading.settrace(before[1])  # type: ignore[arg-type]
        del Ref.__eq__, Ref.__hash__


class Forgetful(Process):
    """Does not keep what it was started with."""

    def __init__(self, huge: object) -> None:
        super().__init__()


class Huge:
    """Something that one would not like to keep."""


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
def test_trap_11_the_arguments_of_temporary_children_are_not_kept(kind: Any) -> None:
    # Caught: the spec as it was given in the supervisor's records; also after the death of a first child.
    def started(id: str, restart: str) -> Any:
        huge = Huge()
        sup.start_child(child(Forgetful, huge).replace(id=id, restart=restart))
        return weakref.ref(huge)

    def forgotten(huge: Any) -> bool:
        return huge() is None or bool(gc.collect() and False)

    sup = kind.start()
    first = started("t", "temporary")
    assert eventually(lambda: forgotten(first), True)
    for ref in [line.ref for line in sup.which_children()]:
        exit(ref, "kill")
    assert eventually(sup.which_children, [])
    second, kept = started("u", "temporary"), started("p", "permanent")
    assert eventually(lambda: forgotten(second), True)
    assert kept() is not None


def test_trap_12_ignore_leaves_nothing_of_a_temporary_and_of_a_dynamic_child(log: Log, worker: Make) -> None:
    # Caught: a line without a ref that stays: of a temporary child, and of a dynamic one that ignores its restart.
    sup = Supervisor.start([worker("t", IGNORE, restart="temporary"), worker("a", IGNORE)])
    assert sup.start_child(worker("u", IGNORE, restart="temporary")) is None
    assert lines(sup)() == [("a", None)]
    outcomes = [None, IGNORE]
    dynamic = DynamicSupervisor.start(max_children=1)
    dynamic.start_child(child(Worker, log, "d", lambda: outcomes.pop(0))).tell(crash)
    assert eventually(dynamic.which_children, [])
    assert dynamic.start_child(child(Worker, log, "e")).is_alive(), "there is room again"


def test_trap_13_a_child_that_was_deleted_and_added_again_is_last(log: Log, worker: Make) -> None:
    # Caught: the old place, in what is shown, in the rest of `rest_for_one`, and in the order of the stop.
    sup = Supervisor.start([worker(id) for id in "abc"], strategy="rest_for_one")
    sup.terminate_child("a")
    sup.delete_child("a")
    sup.start_child(worker("a"))
    assert [line.id for line in sup.which_children()] == ["b", "c", "a"]
    log.rest()
    ref_of(sup, "c").tell(crash)
    assert log.take(4) == ["- c", "- a", "+ c", "+ a"]
    assert sup.stop(timeout=SOON)
    assert log.rest() == ["- a", "- c", "- b"]


def test_trap_14_a_restarting_significant_child_is_not_gone(log: Log, worker: Make) -> None:
    # Caught: counting only those that run where `all_significant` asks whether anybody is left.
    key = {"restart": "transient", "significant": True}
    slow = Backoff(min=3600.0, max=3600.0)
    specs = [worker("a", backoff=slow, **key), worker("b", **key)]
    sup = Supervisor.start(specs, auto_shutdown="all_significant")
    ref_of(sup, "a").tell(crash)
    assert eventually(lambda: ref_of(sup, "a"), "restarting")
    ref_of(sup, "b").stop()
    assert eventually(lambda: ref_of(sup, "b"), None)
    assert ref_of(sup, "a") == "restarting"
    ended = gone(sup)
    sup.terminate_child("a")
    assert sup.restart_child("a").stop(timeout=SOON)
    assert ended.wait(SOON)
    assert sup.exit_reason is SHUTDOWN


def test_trap_15_a_kill_answers_askers_before_the_zombie_returns(log: Log) -> None:
    # Caught: failing the requests only when the handler gives its thread back.
    entered, let_go = Event(), Event()

    def hang(self: Process) -> None:
        entered.set()
        deaf(let_go)

    ref = Echo.start(on_exit=log)
    answers = [ref.ask(hang, block=False), ref.ask("queued", block=False)]
    assert entered.wait(SOON)
    exit(ref, "kill")
    for answer in answers:
        with pytest.raises(ProcessDown) as down:
            answer.get(timeout=SOON / 2)
        assert down.value.reason is KILLED
    assert log.next() is KILLED
    assert not let_go.is_set()
    let_go.set()


class Closing(Limit):
    """In the place of a mailbox's limit: lets everything in, and ends the process between the look and the put."""

    def admit(self, ref: Any, item: Any) -> bool:
        exit(ref, "kill")
        return True


def test_trap_16_nothing_that_is_put_into_a_closed_mailbox_waits_for_ever(system: System) -> None:
    # Caught: looking whether the process is alive, and putting the message into a mailbox that was emptied meanwhile.
    for _ in range(2):
        ref = Echo.start()
        ref.actor_inbox.limit = Closing(UNBOUNDED, system.clock)
        answer = ref.ask("anybody?", block=False)
        with pytest.raises(ProcessDown):
            answer.get(timeout=SOON)
    ref = Echo.start()
    ref.actor_inbox.limit = Closing(UNBOUNDED, system.clock)
    ref.tell("nobody")
    assert system.dead_letters.count == 1


def test_trap_16_nor_when_many_ask_while_it_ends() -> None:
    # Caught: the same, if the door is somewhere else.
    def ask(ref: Any) -> None:
        for answer in [ref.ask(n, block=False) for n in range(3 if simulated() else 30)]:
            try:
                answer.get(timeout=SOON)  # a `pykka.Timeout` would be raised below
            except ProcessDown:
                pass

    for _ in often(50):
        ref = Echo.start()
        askers = [beside(partial(ask, ref)) for _ in range(3)]
        ref.stop(timeout=SOON)
        assert [asker.get(timeout=2 * SOON) for asker in askers] == [None] * 3
        with pytest.raises(ProcessDown):
            ref.ask("anybody?", timeout=SOON)


class Bystander(pykka.ThreadingActor):
    """One of those that Pykka's `stop_all` stops."""


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_trap_17_an_exception_for_the_interpreter_ends_one_process_only(
    log: Log, worker: Make, error: BaseException
) -> None:
    # Caught: `except Exception` around handlers: Pykka's own loop would stop every actor there is, and the asker of the
    # one that failed would never hear of it.
    def fail(self: Process) -> None:
        raise error

    bystander = Bystander.start()
    try:
        sup = Supervisor.start([worker("a"), worker("b")])
        b = ref_of(sup, "b")
        with pytest.raises(ProcessDown):
            ref_of(sup, "a").ask(fail, timeout=SOON)
        assert log.take(4) == ["+ a", "+ b", "- a", "+ a"]
        assert ref_of(sup, "b") is b
        assert bystander.is_alive()
    finally:
        bystander.stop()


def test_trap_18_an_idle_process_that_nobody_holds_lives_on(system: System, log: Log) -> None:
    # Caught: a mailbox that holds its process weakly, as Pykka's refs do: on a pool no thread holds it either.
    Worker.start(log, "a", name="me")
    sup = Supervisor.start([child(Worker, log, "b", name="child")])
    for _ in range(3):
        gc.collect(1)
        assert system.whereis("me").ask("alive", timeout=SOON) == "alive"
        assert system.whereis("child").ask("alive", timeout=SOON) == "alive"
    assert sup.stop(timeout=SOON)
    assert system.whereis("me").stop(timeout=SOON)
    assert log.rest() == ["+ a", "+ b", "- b", "- a"]


@pytest.mark.real("a signal is sent to a process of the operating system")
@pytest.mark.parametrize("system", [ThreadDispatcher], ids=name_of, indirect=True)
def test_trap_19_a_signal_is_heard_while_the_main_thread_waits() -> None:
    # Caught: a wait of the main thread that never comes back to the interpreter, where signal handlers run.
    daemon = Daemon("plain", 30.0)
    try:
        assert daemon.line() == "ready"
        daemon.signal(signal.SIGTERM)
        code, said, _ = daemon.end()
        assert (code, said[-1]) == (0, "code 0")
    finally:
        daemon.process.kill()
        daemon.process.communicate()


@pytest.mark.parametrize("value", [True, False])
def test_trap_20_a_bool_is_no_number(log: Log, worker: Make, value: bool) -> None:
    # Caught: `isinstance(value, int)`: True would be one second, one restart, one child.
    sup = Supervisor.start()
    dynamic = DynamicSupervisor.start()
    wrong: list[Callable[[], object]] = [
        lambda: sup.start_child(worker("a", shutdown=value)),
        lambda: sup.start_child(worker("a", start_timeout=value)),
        lambda: sup.start_child(worker("a", backoff=Backoff(min=value))),
        lambda: dynamic.start_child(worker("a", shutdown=value)),
        lambda: Supervisor.start([worker("a", shutdown=value)]),
        lambda: Supervisor.start([worker("a")], max_restarts=value),
        lambda: Supervisor.start([worker("a")], max_seconds=value),
        lambda: DynamicSupervisor.start(max_children=value),
        lambda: DynamicSupervisor.start(max_restarts=value),
        lambda: PartitionSupervisor.start(worker("a"), name="parts", partitions=value),
    ]
    for attempt in wrong:
        with pytest.raises(BadSpec):
            attempt()
    assert log.rest() == []
    assert sup.which_children() == dynamic.which_children() == []
