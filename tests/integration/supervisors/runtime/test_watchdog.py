"""Handlers that take too long are told, once each, and ended where their class says so; zombies are counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from supervisors.errors import ProcessDown
from supervisors.process import Process, exit
from supervisors.reasons import KILLED, Shutdown
from supervisors.runtime.pool import PoolDispatcher
from supervisors.runtime.reports import Report, Reports
from supervisors.runtime.system import System
from supervisors.runtime.threads import ThreadDispatcher
from supervisors.runtime.timers import Timers
from supervisors.runtime.zombies import Zombie, Zombies
from supervisors.spec import child
from supervisors.supervisor import Supervisor
from tests.integration.supervisors.conftest import SOON, Echo, Log


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: Timers | None = None

    def monotonic(self) -> float:
        return self.now

    def drive(self, timers: Timers) -> None:
        self.timers = timers

    def stop(self) -> None:
        pass

    def advance(self, seconds: float) -> None:
        self.now += seconds
        if self.timers is not None:
            self.timers.fire_due()


class Slow(Process):
    max_handler_seconds = 5.0

    def __init__(self, log: Log, go: threading.Event) -> None:
        super().__init__()
        self.log = log
        self.go = go

    def on_receive(self, message: Any) -> Any:
        if message == "work":
            self.log("works")
            self.take_its_time()
        return message

    def take_its_time(self) -> None:
        assert self.go.wait(SOON)
        self.go.clear()


class Doomed(Slow):
    kill_overdue = True


@pytest.fixture
def go() -> Iterator[threading.Event]:
    go = threading.Event()
    yield go
    go.set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reports() -> list[Report]:
    return []


@pytest.fixture
def timed(clock: Clock, reports: list[Report], go: threading.Event) -> Iterator[System]:
    system = System(clock=clock, dispatcher=PoolDispatcher(1))
    system.reports.subscribe(reports.append)
    with system:
        yield system
        go.set()


def test_a_handler_that_takes_too_long_is_told_once_with_its_stack(
    timed: System, clock: Clock, reports: list[Report], log: Log, go: threading.Event
) -> None:
    ref = Slow.start(log, go)
    answer = ref.ask("work", block=False)
    assert log.next() == "works"
    clock.advance(4.9)
    assert reports == []
    clock.advance(0.1)
    clock.advance(100)
    assert [(report.kind, report.ref) for report in reports] == [("handler_overdue", ref)]
    assert "take_its_time" in reports[0].detail
    go.set()
    assert answer.get(timeout=SOON) == "work"


def test_each_handler_has_its_own_time(
    timed: System, clock: Clock, reports: list[Report], log: Log, go: threading.Event
) -> None:
    ref = Slow.start(log, go)
    for _ in range(3):
        answer = ref.ask("work", block=False)
        assert log.next() == "works"
        clock.advance(4)
        go.set()
        answer.get(timeout=SOON)
    assert reports == []
    answer = ref.ask("work", block=False)
    assert log.next() == "works"
    clock.advance(4)
    clock.advance(1)
    assert len(reports) == 1
    go.set()
    answer.get(timeout=SOON)


def test_each_handler_that_takes_too_long_is_told(
    timed: System, clock: Clock, reports: list[Report], log: Log, go: threading.Event
) -> None:
    ref = Slow.start(log, go)
    for count in (1, 2):
        answer = ref.ask("work", block=False)
        assert log.next() == "works"
        clock.advance(5)
        assert len(reports) == count
        go.set()
        answer.get(timeout=SOON)


def test_who_is_idle_is_not_late(
    timed: System, clock: Clock, reports: list[Report], log: Log, go: Any
) -> None:
    ref = Slow.start(log, go)
    ref.ask("quick", timeout=SOON)
    Echo.start().ask("on the same thread, so the other is done", timeout=SOON)
    clock.advance(100)
    assert ref.ask("quick", timeout=SOON) == "quick"
    assert reports == []


def test_a_class_may_want_to_be_killed(
    timed: System, clock: Clock, reports: list[Report], log: Log, go: threading.Event
) -> None:
    sup = Supervisor.start_link([child(Doomed, log, go)])
    ref: Any = sup.which_child(Doomed).ref
    answer = ref.ask("work", block=False)
    assert log.next() == "works"
    clock.advance(5)
    with pytest.raises(ProcessDown):
        answer.get(timeout=SOON)
    assert ref.exit_reason is KILLED
    again: Any = sup.which_child(Doomed).ref
    assert again.ask("quick", timeout=SOON) == "quick"
    assert "handler_overdue" in [report.kind for report in reports]


def test_who_is_killed_is_a_zombie_with_its_stack_and_not_late(
    timed: System, clock: Clock, reports: list[Report], log: Log, go: threading.Event
) -> None:
    class Telling(Slow):
        def take_its_time(self) -> None:
            self.log("takes its time")
            super().take_its_time()

    ref = Telling.start(log, go)
    ref.tell("work")
    assert log.take(2) == ["works", "takes its time"]
    exit(ref, "kill")
    clock.advance(100)
    assert "handler_overdue" not in [report.kind for report in reports]
    (stack,) = (report.detail for report in reports if report.kind == "zombie")
    assert stack.index("in on_receive") < stack.index("in take_its_time"), "the most recent call comes last"


def test_more_zombies_than_allowed_stop_the_system(log: Log) -> None:
    go = threading.Event()

    class Hung(Process):
        def on_receive(self, message: Any) -> None:
            log("hangs")
            go.wait(SOON)

    system = System(dispatcher=ThreadDispatcher(), max_zombies=2)
    kinds: list[str] = []
    system.reports.subscribe(lambda report: kinds.append(report.kind))
    with system:
        root = Process.start(on_exit=log)
        for _ in range(3):
            hung = Hung.start()
            hung.tell("hang")
            assert log.next() == "hangs"
            assert "too_many_zombies" not in kinds
            exit(hung, "kill")
        assert log.next() == Shutdown("zombies")
        assert kinds.count("zombie") == 3
        assert kinds.count("too_many_zombies") == 1
        assert root.exit_reason == Shutdown("zombies")
        go.set()


def test_what_waits_for_the_thread_of_a_zombie_is_done_by_another(timed: System, log: Log, go: Any) -> None:
    hung, echo = Slow.start(log, go), Echo.start()
    hung.tell("work")
    assert log.next() == "works"
    answer = echo.ask(1, block=False)
    exit(hung, "kill")
    assert answer.get(timeout=SOON) == 1


def test_that_there_are_too_many_zombies_is_told_once(system: System) -> None:
    told: list[str] = []
    zombies = Zombies(1, Reports(), lambda: told.append("too many"))
    for heard in ([], ["too many"], ["too many"]):
        zombie = Zombie(zombies, Process.start())
        zombies.add(zombie)
        zombies.report(zombie)
        assert told == heard
