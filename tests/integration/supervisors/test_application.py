"""Applications: real processes, real signals, exit codes."""

from __future__ import annotations

import gc
import logging
import math
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import Queue
from typing import Any, ClassVar
from weakref import ref

import pytest

from supervisors.app import Application, Phase, _TooManyZombies
from supervisors.errors import BadSpec, SupervisorError
from supervisors.process import IGNORE, Process, exit
from supervisors.reasons import KILLED, NORMAL, SHUTDOWN, Crash, Shutdown
from supervisors.runtime.system import System
from supervisors.spec import child
from supervisors.supervisor import Supervisor
from tests.integration.stage import until

from .conftest import SOON, Log

DAEMON = Path(__file__).with_name("daemon.py")


class Daemon:
    def __init__(self, mode: str, deadline: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(DAEMON), mode, str(deadline)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(DAEMON.parents[3])},
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, list[str], str]:
        out, err = self.process.communicate(timeout=3 * SOON)
        return self.process.returncode, out.splitlines(), err


@pytest.fixture
def daemon() -> Iterator[Callable[..., Daemon]]:
    started: list[Daemon] = []

    def start(mode: str, deadline: float = 30.0) -> Daemon:
        started.append(Daemon(mode, deadline))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate()


# --- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_is_an_orderly_stop(daemon: Any, number: int) -> None:
    it = daemon("plain")
    assert it.line() == "ready"
    it.signal(number)
    code, lines, err = it.end()
    assert lines == ["before_stop", "drain", "terminate SHUTDOWN", "after_stop", "code 0"]
    assert code == 0
    assert "a task that fails" in err


def test_two_signals_kill_what_is_left(daemon: Any) -> None:
    it = daemon("hangs")
    assert it.line() == "ready"
    it.signal(signal.SIGTERM)
    while it.line() != "terminate SHUTDOWN":
        pass
    it.signal(signal.SIGTERM)
    code, lines, err = it.end()
    assert (code, lines) == (1, ["after_stop", "code 1"])
    assert "killing the processes that are left: SIGTERM was asked for again" in err


def test_two_signals_cut_a_phase_short(daemon: Any) -> None:
    it = daemon("drains for ever")
    assert it.line() == "ready"
    it.signal(signal.SIGINT)
    while it.line() != "drain":
        pass
    it.signal(signal.SIGINT)
    code, lines, _ = it.end()
    assert code == 1
    assert lines[-2:] == ["after_stop", "code 1"]


def test_the_deadline_ends_the_process_and_says_who_is_stuck(daemon: Any) -> None:
    it = daemon("hangs", 0.3)
    assert it.line() == "ready"
    it.signal(signal.SIGTERM)
    code, lines, err = it.end()
    assert code == 70
    assert lines == ["before_stop", "drain", "terminate SHUTDOWN"]
    assert "has not ended" in err
    assert "in hang" in err


def test_a_signal_during_the_start_stops_it_at_the_deadline_at_the_latest(daemon: Any) -> None:
    it = daemon("slow start", 0.3)
    assert it.line() == "ready"
    it.signal(signal.SIGTERM)
    assert it.end()[0] == 70


@pytest.mark.parametrize("mode", ["gives up", "no start"])
def test_a_root_that_gives_up_is_an_exit_code(daemon: Any, mode: str) -> None:
    it = daemon(mode)
    code, lines, _ = it.end()
    assert code == 1
    assert lines[-2:] == ["after_stop", "code 1"]


# --- in this process --------------------------------------------------------------------------------------------------


class Idle(Process):
    pass


def running(application: Application) -> tuple[threading.Thread, Queue[int]]:
    codes: Queue[int] = Queue()
    thread = threading.Thread(target=lambda: codes.put(application.run()))
    thread.start()
    return thread, codes


class Root(Process):
    def __init__(self, log: Log, reason: Any = None) -> None:
        super().__init__()
        self.log = log
        self.reason = reason

    def init(self) -> None:
        self.continue_()

    def handle_continue(self, arg: Any) -> None:
        self.log(self.ref)
        if self.reason is not None:
            self.exit(self.reason)


def test_an_application_can_be_stopped_from_inside_and_knows_why(log: Log) -> None:
    application = Application(child(Root, log))
    thread, codes = running(application)
    root = log.next()
    assert root.system is application.system
    application.stop()
    assert codes.get(timeout=SOON) == 0
    assert application.reason is SHUTDOWN
    assert root.exit_reason is SHUTDOWN
    thread.join(SOON)


@pytest.mark.parametrize(
    ("reason", "code"),
    [(NORMAL, 0), (SHUTDOWN, 1), (Shutdown("x"), 1), ("trouble", 1), (KILLED, 1)],
    ids=["normal", "shutdown", "shutdown with a term", "a crash", "killed"],
)
def test_the_end_of_the_root_is_the_end(log: Log, reason: Any, code: int) -> None:
    ended = []
    application = Application(child(Root, log, reason), phases={"after_stop": [lambda: ended.append(1)]})
    assert application.run() == code
    assert application.reason is reason
    assert ended == [1]


def test_too_many_zombies_are_an_exit_code(log: Log) -> None:
    class Hung(Process):
        dispatcher = "blocking"

        def on_receive(self, message: Any) -> None:
            log("hangs")
            assert go.wait(SOON)

    go = threading.Event()
    application = Application(child(Root, log), system=System(max_zombies=0))
    thread, codes = running(application)
    log.next()
    with application.system.activated():
        hung = Hung.start()
    hung.tell("hang")
    assert log.next() == "hangs"
    exit(hung, "kill")
    assert codes.get(timeout=SOON) == 70
    go.set()
    thread.join(SOON)


class Saving(Process):
    """Takes its time to end: until it may."""

    shutdown: ClassVar[Any] = 0.5  # enough for `terminate` to begin, also on a busy machine
    dispatcher = "blocking"

    def __init__(self, log: Log, may: threading.Event) -> None:
        super().__init__()
        self.log = log
        self.may = may

    def init(self) -> None:
        self.log(self.ref)

    def terminate(self, reason: Any) -> None:
        self.may.wait(SOON)
        self.log(("saved", self.ref.killed))


class Starting(Saving):
    def init(self) -> None:
        super().init()
        self.may.wait(SOON)


@pytest.mark.parametrize("by_function", [False, True], ids=["a class", "a function"])
def test_a_root_that_had_to_be_killed_is_an_exit_code(log: Log, by_function: bool) -> None:
    may = threading.Event()
    application = Application(
        child(lambda: Saving.start(log, may)) if by_function else child(Saving, log, may)
    )
    thread, codes = running(application)
    root = log.next()
    application.stop()
    assert codes.get(timeout=SOON) == 1
    assert root.exit_reason is KILLED
    may.set()
    assert log.next() == ("saved", True)
    thread.join(SOON)


def test_another_process_that_had_to_be_killed_is_not_the_root(log: Log) -> None:
    may = threading.Event()
    application = Application(child(Root, log))
    thread, codes = running(application)
    root = log.next()
    with application.system.activated():
        other = Saving.start(log, may)
    application.stop()
    assert codes.get(timeout=SOON) == 0
    assert (other.exit_reason, root.exit_reason) == (KILLED, SHUTDOWN)
    may.set()
    thread.join(SOON)


def test_a_root_that_had_to_be_killed_in_its_start_is_an_exit_code(log: Log) -> None:
    may = threading.Event()
    application = Application(child(Starting, log, may))
    thread, codes = running(application)
    log.next()
    application.stop()
    assert codes.get(timeout=SOON) == 1
    may.set()
    thread.join(SOON)


@pytest.mark.parametrize("by_function", [False, True], ids=["a class", "a function"])
@pytest.mark.parametrize("kind", [Saving, Starting], ids=["started", "in its start"])
def test_a_root_gets_as_long_as_its_spec_says(log: Log, kind: type[Saving], by_function: bool) -> None:
    may = threading.Event()
    root_spec = child(lambda: kind.start(log, may)) if by_function else child(kind, log, may)
    application = Application(root_spec.replace(shutdown=SOON))
    thread, codes = running(application)
    root = log.next()
    application.stop()
    application.system.timers.after(0.1, may.set)
    assert codes.get(timeout=SOON) == 0
    assert root.exit_reason is SHUTDOWN
    assert log.next() == ("saved", False)
    thread.join(SOON)


def test_a_function_that_hangs_in_its_start_keeps_nobody(log: Log) -> None:
    """Nor does it take its root's time from others."""
    may, hung = threading.Event(), threading.Event()
    may.set()

    class Patient(Saving):
        shutdown: ClassVar[Any] = SOON

    def start() -> Any:
        log("starting")
        hung.wait(SOON)

    system = System()
    with system.activated():
        Patient.start(log, may)
    root = child(start).replace(shutdown="brutal_kill")
    after = {"after_stop": [lambda: log("after")]}
    application = Application(root, system=system, phases=after, deadline=SOON)
    thread, codes = running(application)
    assert [log.next(), log.next()][1] == "starting"
    application.stop()
    assert codes.get(timeout=SOON) == 0
    assert [log.next(), log.next()] == [("saved", False), "after"]
    assert not hung.is_set()
    hung.set()
    thread.join(SOON)


def test_a_root_that_is_to_be_killed_is_stopped_by_that(log: Log) -> None:
    application = Application(child(Saving, log, threading.Event()).replace(shutdown="brutal_kill"))
    thread, codes = running(application)
    root = log.next()
    application.stop()
    assert codes.get(timeout=SOON) == 0
    assert root.exit_reason is KILLED
    thread.join(SOON)


def test_a_root_that_ignores_its_start_has_nothing_to_do() -> None:
    class Nothing(Process):
        def init(self) -> Any:
            return IGNORE

    assert Application(Nothing).run() == 0


def test_a_function_may_be_the_root(log: Log) -> None:
    application = Application(child(lambda: Supervisor.start([child(Root, log)], name="top")))
    thread, codes = running(application)
    log.next()
    assert application.system.whereis("top") is not None
    application.stop()
    assert codes.get(timeout=SOON) == 0
    thread.join(SOON)


def test_a_function_that_exits_instead_of_starting_the_root_ends_the_application(log: Log) -> None:
    application = Application(
        child(lambda: sys.exit("config is missing")),
        phases={"drain": [lambda: sys.exit("again")], "after_stop": [lambda: log("after")]},
    )
    thread, codes = running(application)
    assert codes.get(timeout=SOON) == 1
    assert isinstance(application.reason, Crash)
    assert isinstance(application.reason.exc, SystemExit)
    assert log.next() == "after"
    thread.join(SOON)


def test_the_tasks_of_a_phase_run_at_once_and_phases_in_order(log: Log) -> None:
    meet = threading.Barrier(2)

    def task() -> None:
        meet.wait(SOON)
        log("drain")

    phases = {
        "after_stop": [lambda: log("after")],
        "drain": [task, task],
        "before_stop": Phase([lambda: log("before")]),
    }
    assert Application(child(Root, log, NORMAL), phases=phases).run() == 0
    assert log.rest()[1:] == ["before", "drain", "drain", "after"]


def test_a_phase_that_takes_too_long_is_left_behind(log: Log) -> None:
    go = threading.Event()
    phases = {"drain": Phase([lambda: go.wait(SOON)], timeout=0.0), "after_stop": [lambda: log("after")]}
    assert Application(child(Root, log, NORMAL), phases=phases).run() == 0
    assert log.rest()[1:] == ["after"]
    go.set()


def test_who_is_told_to_stop_twice_begins_no_other_phase(log: Log) -> None:
    may = threading.Event()
    phases = {"before_stop": [lambda: (log("closes"), may.wait(SOON))], "drain": [lambda: log("drains")]}
    application = Application(child(Root, log), phases=phases)
    thread, codes = running(application)
    log.next()
    application.stop()
    assert log.next() == "closes"
    application.stop()
    assert codes.get(timeout=SOON) == 1
    may.set()
    thread.join(SOON)
    assert log.rest() == []


def test_who_is_told_to_stop_twice_waits_for_none_of_the_tasks(log: Log) -> None:
    may = threading.Event()
    tasks = [lambda: (log("drains"), may.wait(3 * SOON))] * 3
    application = Application(
        child(Root, log), phases={"drain": Phase(tasks, timeout=None)}, deadline=3 * SOON
    )
    thread, codes = running(application)
    root = log.next()
    application.stop()
    assert log.take(3) == ["drains"] * 3
    application.stop()
    assert codes.get(timeout=SOON) == 1
    assert root.exit_reason is not None
    may.set()
    thread.join(SOON)


def test_who_asked_for_a_stop_and_again_is_logged(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    may = threading.Event()
    application = Application(child(Saving, log, may).replace(shutdown=math.inf))
    thread, codes = running(application)
    log.next()
    with caplog.at_level(logging.INFO, "supervisors"):
        for _ in range(2):
            application.stop()
        assert codes.get(timeout=SOON) == 1
    said = [record.getMessage() for record in caplog.records]
    assert [words for words in said if "stop()" in words] == [
        "stopping: stop()",
        "killing the processes that are left: stop() was asked for again",
    ]
    may.set()
    thread.join(SOON)


@pytest.mark.parametrize("limit", [None, math.inf, 1e300])
def test_a_phase_without_a_limit_may_take_its_time(log: Log, limit: float | None) -> None:
    go = threading.Event()
    phases = {
        "drain": Phase([lambda: go.wait(SOON) and log("drained")], timeout=limit),
        "after_stop": [lambda: log("after")],
    }
    thread, codes = running(Application(child(Root, log, NORMAL), phases=phases))
    log.next()
    go.set()
    assert codes.get(timeout=SOON) == 0
    assert log.rest() == ["drained", "after"]
    thread.join(SOON)


def test_the_tasks_of_a_phase_may_come_from_a_generator(log: Log) -> None:
    phases = {"drain": Phase(partial(log, each) for each in ("one", "two"))}
    assert Application(child(Root, log, NORMAL), phases=phases).run() == 0
    assert sorted(log.rest()[1:]) == ["one", "two"]


@pytest.mark.parametrize(
    ("end", "code"),
    [(Application.stop, 1), (lambda application: application._events.put(_TooManyZombies()), 70)],
    ids=["stopped", "too many zombies"],
)
def test_a_phase_that_cannot_be_run_keeps_nothing_from_being_stopped(
    log: Log, monkeypatch: pytest.MonkeyPatch, end: Callable[[Application], object], code: int
) -> None:
    def beside(self: Any, work: Any) -> None:
        if not isinstance(work, partial):
            return started(self, work)
        raise RuntimeError("can't start new thread")

    started = Application._beside
    monkeypatch.setattr(Application, "_beside", beside)
    application = Application(child(Root, log), phases={"drain": [lambda: log("drained")]})
    thread, codes = running(application)
    root = log.next()
    end(application)
    assert codes.get(timeout=SOON) == code
    assert root.exit_reason is SHUTDOWN
    thread.join(SOON)


def test_signal_handlers_are_given_back(log: Log) -> None:
    before = signal.getsignal(signal.SIGTERM)
    Application(child(Root, log, NORMAL)).run()
    assert signal.getsignal(signal.SIGTERM) is before


def test_nonsense_is_refused(log: Log) -> None:
    with pytest.raises(BadSpec, match="phase 'later' must be one of"):
        Application(Idle, phases={"later": []})
    with pytest.raises(BadSpec):
        Application("root")  # type: ignore[arg-type]
    application = Application(child(Root, log, NORMAL))
    application.run()
    with pytest.raises(SupervisorError, match="once"):
        application.run()


def test_an_application_that_has_run_is_not_kept_by_its_system() -> None:
    system = System()
    application = Application(child(Process), system=system)
    application.stop()
    assert application.run() == 0
    kept = ref(application)
    del application
    until(lambda: gc.collect() >= 0 and kept() is None)  # its last thread ends after it
