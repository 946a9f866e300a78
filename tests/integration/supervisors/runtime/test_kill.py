"""Kill: the process is dead at once, its askers know, and its leftover handler can change nothing any more."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from supervisors.errors import ProcessDown, ProcessKilled
from supervisors.genserver import GenServer
from supervisors.inspection import get_state
from supervisors.process import Process, exit
from supervisors.reasons import KILLED
from supervisors.runtime.loop import LoopDispatcher
from supervisors.runtime.pool import PoolDispatcher
from supervisors.runtime.running import fenced
from supervisors.runtime.system import System
from supervisors.runtime.threads import PinnedDispatcher
from supervisors.runtime.zombies import Zombie
from supervisors.testing import Event
from tests.integration.supervisors.conftest import SOON, Echo, Log, Watcher, beside, often

HANGS = "a handler that hangs holds up a simulation"


class Hung:
    """A handler that hangs until released, then tries something, and tells how that ended."""

    def __init__(self, attempt: Any = None) -> None:
        self.entered, self.release, self.left = threading.Event(), threading.Event(), threading.Event()
        self.attempt = attempt
        self.outcome: Any = None

    def __call__(self, process: Process) -> Any:
        self.entered.set()
        self.release.wait(SOON)
        try:
            self.outcome = self.attempt(process) if self.attempt is not None else "nothing"
        except BaseException as exc:
            self.outcome = type(exc)
            raise
        finally:
            self.left.set()
        return self.outcome


def hang(ref: Any, hung: Hung) -> Any:
    future = ref.ask(hung, block=False)
    assert hung.entered.wait(SOON)
    return future


@pytest.mark.real(HANGS)
def test_a_kill_tells_everybody_while_the_handler_still_hangs(system: System, log: Log) -> None:
    hung = Hung()
    ref = Echo.start(name="n", on_exit=log)
    in_flight = hang(ref, hung)
    queued = ref.ask("queued", block=False)
    exit(ref, "kill")
    assert log.next() is KILLED
    assert system.whereis("n") is None
    for future in (in_flight, queued):
        with pytest.raises(ProcessDown) as down:
            future.get(timeout=SOON)
        assert down.value.reason is KILLED
    hung.release.set()
    assert hung.left.wait(SOON)


@pytest.mark.real(HANGS)
def test_a_kill_tells_an_operator_whose_look_hangs(system: System) -> None:
    hung = Hung()

    class Seen(GenServer):
        def inspect_state(self) -> Any:
            return hung(self)

    ref = Seen.start()
    look = beside(lambda: get_state(ref, timeout=None))
    assert hung.entered.wait(SOON)
    exit(ref, "kill")
    with pytest.raises(ProcessDown):
        look.get(timeout=SOON)
    hung.release.set()
    assert hung.left.wait(SOON)


@pytest.mark.real(HANGS)
@pytest.mark.parametrize(
    "attempt",
    [
        lambda self: other_of(self).tell("x"),
        lambda self: other_of(self).ask("x", block=False),
        lambda self: self.current_request.reply(1),
        lambda self: self.send_after(0, self.ref, "x"),
        lambda self: self.spawn(Echo),
        lambda self: self.link(self.ref),
        lambda self: self.monitor("name"),
        lambda self: self.check_stop(),
        lambda self: exit(self.ref, "kill"),
        lambda self: Echo.start(),
        lambda self: self.ref.stop(block=False),
        lambda self: self.continue_(),
    ],
    ids=[
        "tell",
        "ask",
        "reply",
        "timer",
        "spawn",
        "link",
        "monitor",
        "check_stop",
        "exit",
        "start",
        "stop",
        "continue",
    ],
)
def test_a_zombie_is_stopped_at_its_next_call_into_the_runtime(system: System, attempt: Any) -> None:
    hung = Hung(attempt)
    ref = Echo.start()
    hang(ref, hung)
    exit(ref, "kill")
    hung.release.set()
    assert hung.left.wait(SOON)
    assert hung.outcome is ProcessKilled


def other_of(process: Process) -> Any:
    return process.ref


@pytest.mark.real(HANGS)
def test_a_zombies_answer_is_not_an_answer(system: System) -> None:
    hung = Hung(lambda self: "too late")
    ref = Echo.start()
    future = hang(ref, hung)
    exit(ref, "kill")
    hung.release.set()
    assert hung.left.wait(SOON)
    with pytest.raises(ProcessDown):
        future.get(timeout=SOON)


@pytest.mark.real(HANGS)
def test_zombies_are_counted_until_their_handler_returns(system: System, log: Log) -> None:
    reports = Log()
    system.reports.subscribe(reports)
    hung = Hung()
    ref = Echo.start()
    hang(ref, hung)
    assert len(system.zombies) == 0
    exit(ref, "kill")
    assert len(system.zombies) == 1
    kinds = {report.kind: report for report in reports.rest()}
    assert "__call__" in kinds["zombie"].detail, "the report shows where it hangs"
    hung.release.set()
    after = Echo.start()
    assert after.ask(1, timeout=SOON) == 1
    system.stop()
    assert len(system.zombies) == 0
    assert not fenced


def test_a_second_kill_on_a_loop_leaves_the_first_zombie_what_it_is() -> None:
    hung = Hung()
    with System(dispatcher=LoopDispatcher()) as system:
        ref, idle = Echo.start(), Echo.start()
        hang(ref, hung)
        exit(ref, "kill")
        exit(idle, "kill")
        assert len(system.zombies) == 1
        hung.release.set()
        assert Echo.start().ask(1, timeout=SOON) == 1
    assert len(system.zombies) == 0
    assert not fenced


def test_a_kill_callback_that_calls_the_dead_process_does_not_keep_it_from_its_grave(
    system: System, log: Log
) -> None:
    ref = Echo.start(on_exit=log)
    ref.ask(lambda self: self.on_kill(self.check_stop) and None)
    ref.ask(lambda self: self.on_kill(lambda: log("called")) and None)
    exit(ref, "kill")
    assert log.next() == "called"
    assert log.next() is KILLED


def test_a_pool_keeps_its_capacity_when_handlers_hang(log: Log) -> None:
    with System(dispatcher=PoolDispatcher(2)) as system:
        hungs = [Hung() for _ in range(4)]
        for hung in hungs:
            ref = Echo.start()
            hang(ref, hung)
            exit(ref, "kill")
        assert len(system.zombies) == 4
        assert Echo.start().ask(1, timeout=SOON) == 1
        for hung in hungs:
            hung.release.set()
            assert hung.left.wait(SOON)


def test_too_many_zombies_stop_the_system(log: Log) -> None:
    system = System(dispatcher=PoolDispatcher(2), max_zombies=2)
    system.reports.subscribe(lambda report: log(report.kind))
    with system:
        bystander = Echo.start(on_exit=lambda reason: log(("bystander", reason)))
        hungs = [Hung() for _ in range(3)]
        for hung in hungs:
            ref = Echo.start()
            hang(ref, hung)
            exit(ref, "kill")
        while log.next() != "too_many_zombies":
            pass
        while not isinstance(log.next(), tuple):
            pass
        assert not bystander.is_alive()
        for hung in hungs:
            hung.release.set()


def test_on_kill_callbacks_make_a_blocking_handler_return(blocking_system: System) -> None:
    woken = Event()
    entered = Event()

    def block(self: Process) -> None:
        forget = self.on_kill(lambda: 1 / 0)
        forget()
        self.on_kill(woken.set)
        entered.set()
        with self.blocking():
            woken.wait(SOON)

    ref = Echo.start()
    ref.tell(block)
    assert entered.wait(SOON)
    exit(ref, "kill")
    assert woken.is_set()


@pytest.mark.real("`Process.stopping` is a `threading.Event`: waiting for it blocks the thread")
def test_a_handler_sees_that_it_should_stop(blocking_system: System, log: Log) -> None:
    entered = Event()

    def patient(self: Process) -> None:
        entered.set()
        assert self.stopping.wait(SOON)
        self.check_stop()
        log("not reached")

    ref = Echo.start(on_exit=log)
    ref.tell(patient)
    assert entered.wait(SOON)
    exit(ref, "enough")
    assert log.next() == "enough"


def test_a_process_that_waits_is_released_by_its_kill(blocking_system: System, log: Log) -> None:
    kept = Echo.start()
    entered = Event()

    def wait(self: Process) -> None:
        entered.set()
        try:
            never.get()
        except BaseException as exc:
            log(type(exc))
            raise

    never = kept.ask(lambda self: __import__("supervisors.process").process.NO_REPLY, block=False)
    ref = Echo.start()
    ref.tell(wait)
    assert entered.wait(SOON)
    exit(ref, "kill")
    assert log.next() is ProcessKilled


def test_a_process_that_kills_itself_does_not_go_on(system: System, log: Log) -> None:
    ref = Echo.start(on_exit=log)
    with pytest.raises(ProcessDown):
        ref.ask(lambda self: (exit(self.ref, "kill"), log("not reached")), timeout=SOON)
    assert log.next() is KILLED
    assert log.rest() == []


@pytest.mark.real(HANGS)
def test_a_kill_overtakes_a_terminate_that_hangs(system: System, log: Log) -> None:
    hung = Hung()

    class Slow(Echo):
        def terminate(self, reason: Any) -> None:
            hung(self)

    ref = Slow.start(on_exit=log)
    stopped = ref.stop(block=False)
    assert hung.entered.wait(SOON)
    exit(ref, "kill")
    assert stopped.get(timeout=SOON) is True
    assert log.next() is KILLED
    hung.release.set()
    assert hung.left.wait(SOON)


@pytest.mark.real(HANGS)
def test_a_kill_during_init_fails_the_start(blocking_system: System, log: Log) -> None:
    hung = Hung()

    class Slow(Echo):
        def init(self) -> object:
            return hung(self)

    boss = Watcher.start(log)
    child = boss.ask(lambda self: self.spawn(Slow, tag=1), timeout=SOON)
    assert hung.entered.wait(SOON)
    exit(child, "kill")
    failed = log.next()
    assert (failed.tag, failed.reason) == (1, KILLED)
    hung.release.set()
    assert hung.left.wait(SOON)


def test_a_zombie_that_was_no_zombie_after_all_is_not_counted(system: System) -> None:
    box = Echo.start().actor_inbox
    ref = Echo.start()
    zombie = Zombie(system.zombies, ref)
    assert system.dispatcher("default").abandon(box, zombie) is False
    assert len(system.zombies) == 0


def test_kills_from_many_threads_end_a_process_once(system: System, log: Log) -> None:
    for _ in often(20):
        ref = Echo.start(on_exit=log)
        ends = [beside(partial(exit, ref, "kill")) for _ in range(4)]
        ends.append(beside(partial(ref.stop, block=False)))
        for end in ends:
            end.get(timeout=SOON)
        assert log.next() is ref.exit_reason
        assert log.rest() == []


def test_the_loop_keeps_running_after_a_zombie(log: Log) -> None:
    with System(dispatcher=LoopDispatcher()):
        hung = Hung()
        ref = Echo.start()
        hang(ref, hung)
        exit(ref, "kill")
        hung.release.set()
        assert Echo.start().ask(1, timeout=SOON) == 1


class Clerk(Echo):
    """Has a word for what it is about; `about` may be what no word can be made of."""

    def __init__(self, about: Any) -> None:
        super().__init__()
        self.about = about

    def label(self) -> str | None:
        return None if self.about is None else "file " + self.about


def test_a_process_says_what_it_is_about(system: System) -> None:
    assert str(Clerk.start("42", name="c")) == "Clerk#1 'c' (file 42)"
    assert str(Clerk.start(None)) == "Clerk#2"
    assert str(Clerk.start(42)) == "Clerk#3"  # its own word is broken, and it is spoken of all the same


@pytest.mark.real(HANGS)
def test_the_report_of_a_kill_says_what_the_process_was_about(system: System) -> None:
    reports: list[Any] = []
    system.reports.subscribe(reports.append)
    hung = Hung()
    ref = Clerk.start("42")
    hang(ref, hung)
    exit(ref, "kill")
    assert {(each.kind, str(each.ref)) for each in reports} >= {("zombie", "Clerk#1 (file 42)")}
    hung.release.set()
    assert hung.left.wait(SOON)
    assert str(ref) == "Clerk#1 (file 42)"


def test_of_an_orderly_end_nobody_asks(system: System) -> None:
    ref = Clerk.start("42")
    ref.stop()
    assert str(ref) == "Clerk#1"


def test_who_is_killed_while_he_has_nothing_to_do_gives_up_the_thread_of_his_own() -> None:
    before = set(threading.enumerate())
    with System(dispatcher=PinnedDispatcher()):
        ref = Echo.start()
        assert ref.ask(1, timeout=SOON) == 1
        [thread] = set(threading.enumerate()) - before
        exit(ref, "kill")
        thread.join(SOON)
        assert not thread.is_alive()
