"""A callback is a guest: whatever it raises, its host goes on; and Ctrl-C reaches the main thread all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from supervisors import (
    DynamicSupervisor,
    GenServer,
    ProcessDown,
    StartError,
    Supervisor,
    child,
    exit,
    whereis,
)
from supervisors.errors import ProcessKilled
from supervisors.inspection import get_state, trace
from supervisors.process import Process
from supervisors.reasons import KILLED, NORMAL, Crash
from supervisors.runtime.loop import LoopDispatcher
from supervisors.runtime.names import Names, Via
from supervisors.runtime.reports import Report
from supervisors.runtime.system import System
from supervisors.runtime.threads import ThreadDispatcher
from supervisors.testing import Event
from tests.integration.supervisors.conftest import SOON, Echo, Log, beside

Guest = Callable[..., NoReturn]


def cancelled(*_args: object) -> NoReturn:
    """As one that looked at the result of a future of asyncio."""
    raise asyncio.CancelledError


def killed(*_args: object) -> NoReturn:
    """As one that was in a process that was killed, and made its next call."""
    raise ProcessKilled


whatever = pytest.mark.parametrize("guest", [cancelled, killed])


def ctrl_c(*_args: object) -> NoReturn:
    raise KeyboardInterrupt


def watch_the_answer(*watchers: Callable[..., object]) -> Callable[[Process], None]:
    """To a process: have these called when it answers this, so on its own thread."""

    def watch(self: Process) -> None:
        assert self.current_request is not None
        for watcher in watchers:
            self.current_request.future.add_done_callback(watcher)

    return watch


# --- the host goes on -------------------------------------------------------------------------------------------------


@whatever
def test_an_asker_does_not_harm_who_answers_nor_other_askers(system: System, log: Log, guest: Guest) -> None:
    ref = Echo.start()
    answer = ref.ask(watch_the_answer(guest, log), block=False)
    assert log.next() is answer
    assert ref.ask("still there", timeout=SOON) == "still there"


@whatever
def test_whoever_watches_a_death_keeps_it_from_nobody_else(system: System, log: Log, guest: Guest) -> None:
    ref = Echo.start(name="n", on_exit=guest)
    ref.add_exit_callback(log)
    assert ref.stop(timeout=SOON)
    assert (log.next(), ref.exit_reason, whereis("n")) == (NORMAL, NORMAL, None)


@whatever
def test_whoever_asked_the_dead_keeps_it_from_nobody_else(system: System, log: Log, guest: Guest) -> None:
    def die(self: Process) -> None:
        watch_the_answer(guest, log)(self)
        exit(self.ref, "kill")

    sup = Supervisor.start([child(Echo, name="n")])
    ref: Any = whereis("n")
    answer = ref.ask(die, block=False)
    assert log.next() is answer
    with pytest.raises(ProcessDown):
        answer.get(timeout=SOON)
    assert ref.actor_stopped.wait(SOON)
    assert sup.count_children().active == 1
    assert whereis("n") is not ref


@whatever
def test_a_kill_goes_on_whatever_an_on_kill_callback_raises(system: System, log: Log, guest: Guest) -> None:
    ref = Echo.start(on_exit=log)
    for callback in (guest, lambda: log("called")):
        ref.ask(lambda self, callback=callback: self.on_kill(callback) and None, timeout=SOON)
    exit(ref, "kill")
    assert log.take(2) == ["called", KILLED]


@whatever
def test_a_death_goes_on_whatever_the_keeper_of_the_name_raises(
    system: System, log: Log, guest: Guest
) -> None:
    class Registry(Names):
        def unregister(self, key: Any, ref: Any = None) -> None:
            guest()

    ref = Echo.start(name=Via(Registry(), "n"), on_exit=log)
    assert ref.stop(timeout=SOON)
    assert (log.next(), system.processes()) == (NORMAL, [])


@whatever
def test_a_subscriber_keeps_news_from_nobody_else(system: System, log: Log, guest: Guest) -> None:
    for subscriber in (guest, log):
        system.reports.subscribe(subscriber)
    system.reports.emit(Report("kind", None))
    assert log.next() == Report("kind", None)


@whatever
def test_time_goes_on_whatever_a_timer_raises(system: System, guest: Guest) -> None:
    fired = Event()
    system.timers.after(0.0, guest)
    system.timers.after(0.0, fired.set)
    assert fired.wait(SOON)


@whatever
def test_who_watches_a_server_does_not_disturb_it(system: System, guest: Guest) -> None:
    class Server(GenServer):
        def handle_call(self, request: Any, from_: Any) -> Any:
            return request

    ref = Server.start()
    trace(ref, guest)
    assert ref.ask("hello", timeout=SOON) == "hello"


@whatever
def test_an_operator_whose_question_ends_the_server_is_told(system: System, guest: Guest) -> None:
    class Server(GenServer):
        def inspect_state(self) -> Any:
            guest()

    ref = Server.start()
    with pytest.raises(ProcessDown):
        get_state(ref, timeout=SOON)
    assert ref.actor_stopped.wait(SOON)
    assert isinstance(ref.exit_reason, Crash)


@whatever
def test_a_child_whose_constructor_exits_harms_neither_its_supervisor_nor_its_siblings(
    system: System, guest: Guest
) -> None:
    class Bad(Process):
        def __init__(self) -> None:
            super().__init__()
            guest()

    sup = DynamicSupervisor.start()
    good = sup.start_child(Echo)
    with pytest.raises(StartError):
        sup.start_child(Bad)
    assert [each.ref for each in sup.which_children()] == [good]


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def threads() -> Any:
    with System(dispatcher=ThreadDispatcher()) as system:
        yield system


def test_ctrl_c_in_a_callback_of_a_kill_comes_again_when_the_process_is_dead(
    threads: System, log: Log
) -> None:
    ref = Echo.start(name="n", on_exit=ctrl_c)
    ref.add_exit_callback(log)
    for callback in (ctrl_c, lambda: log("called")):
        ref.ask(lambda self, callback=callback: self.on_kill(callback) and None, timeout=SOON)
    with pytest.raises(KeyboardInterrupt):
        exit(ref, "kill")
    assert log.rest() == ["called", KILLED]
    assert (ref.exit_reason, whereis("n"), threads.processes()) == (KILLED, None, [])


def test_ctrl_c_in_a_turn_on_the_callers_thread_comes_again_when_it_is_over(
    threads: System, log: Log
) -> None:
    class Quiet(Process):
        """Nothing of it needs a thread: it ends where it is stopped."""

    ref = Quiet.start(on_exit=ctrl_c)
    ref.add_exit_callback(log)
    with pytest.raises(KeyboardInterrupt):
        ref.stop()
    assert (log.rest(), ref.exit_reason) == ([NORMAL], NORMAL)


def test_ctrl_c_in_a_subscriber_comes_again_when_all_have_been_told(threads: System, log: Log) -> None:
    for subscriber in (ctrl_c, log):
        threads.reports.subscribe(subscriber)
    with pytest.raises(KeyboardInterrupt):
        threads.reports.emit(Report("kind", None))
    assert log.rest() == [Report("kind", None)]


def test_on_another_thread_it_is_no_ctrl_c(threads: System, log: Log) -> None:
    ref = Echo.start(on_exit=ctrl_c)
    ref.add_exit_callback(log)
    assert beside(lambda: exit(ref, "kill")).get(timeout=SOON) is None
    assert log.next() is KILLED


def test_ctrl_c_in_a_process_on_the_main_threads_loop_ends_the_loop(log: Log) -> None:
    async def main() -> None:
        async with System(dispatcher=LoopDispatcher(asyncio.get_running_loop())):
            ref = await asyncio.to_thread(Echo.start)
            ref.tell("before")
            answer = ref.ask(watch_the_answer(ctrl_c, log), block=False)
            try:
                await asyncio.Event().wait()
            finally:
                assert await answer is None
                log(await ref.aask("still there"))

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert log.rest()[1:] == ["still there"]
