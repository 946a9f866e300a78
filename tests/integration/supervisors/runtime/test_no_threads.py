"""A machine that has no thread to give for a while: what was to run waits, then runs, and nobody is the slower for it.

The threads are really refused: a stack of an exabyte has no place in any address space.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from supervisors.errors import ProcessDown
from supervisors.process import Process
from supervisors.runtime import launch
from supervisors.runtime.birth import PAUSE
from supervisors.runtime.dispatch import Dispatcher
from supervisors.runtime.loop import LoopDispatcher
from supervisors.runtime.pool import PoolDispatcher
from supervisors.runtime.system import System
from supervisors.runtime.threads import PinnedDispatcher, ThreadDispatcher
from supervisors.spec import child
from supervisors.supervisor import Supervisor
from supervisors.testing import Event
from tests.integration.supervisors.conftest import SOON, Echo

pytestmark = pytest.mark.real("threads are refused by the operating system")

CREWS = [ThreadDispatcher, PinnedDispatcher, PoolDispatcher]


class Born(Echo):
    """Needs a thread to begin on, for it has something to do then."""

    def init(self) -> None:
        pass


@contextmanager
def no_threads() -> Iterator[Callable[[], object]]:
    """Inside the block no thread can be started, until what it gives is called."""
    before = threading.stack_size(1 << 60)
    try:
        yield lambda: threading.stack_size(before)
    finally:
        threading.stack_size(before)


def begun_in_need(system: System, *, seconds: float = 0.25) -> Any:
    """A process that is begun while there is no thread, of which there are some again in so many seconds."""
    system.timers.ready()
    with no_threads() as end:
        system.timers.after(seconds, end)
        return Born.start()


@pytest.mark.parametrize("make", CREWS)
def test_a_process_begins_as_soon_as_there_is_a_thread(
    make: Callable[[], Dispatcher], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, logger="supervisors")
    with System(dispatcher=make()) as system:
        ref = begun_in_need(system)
        assert ref.ask("hello", timeout=SOON) == "hello"
        told = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert [record.getMessage().partition(" for ")[0] for record in told] == [
            "no thread could be started"
        ]  # once


@pytest.mark.parametrize("make", CREWS)
def test_a_start_for_which_there_never_is_a_thread_fails(
    make: Callable[[], Dispatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_LOOK", 0.01)
    with System(dispatcher=make()) as system:
        with no_threads(), pytest.raises(RuntimeError, match="can't start new thread: Born#1 has none"):
            Born.start()
        assert system.processes() == []
        assert Born.start().ask("hello", timeout=SOON) == "hello"


@pytest.mark.parametrize("make", CREWS)
def test_so_does_that_of_a_supervisor_whose_child_never_has_one(
    make: Callable[[], Dispatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Quiet(Supervisor):
        dispatcher = "loop"

    monkeypatch.setattr(launch, "_LOOK", 0.01)
    with System() as system:
        system.register_dispatcher("theirs", make())
        system.dispatcher("loop").prepare()
        monkeypatch.setattr(Born, "dispatcher", "theirs")
        with no_threads(), pytest.raises(RuntimeError, match="can't start new thread: Born#"):
            Quiet.start([child(Born)])
        assert system.processes() == []


@pytest.mark.parametrize("make", CREWS)
def test_who_was_asked_meanwhile_answers(make: Callable[[], Dispatcher]) -> None:
    with System(dispatcher=make()) as system:
        system.timers.ready()
        held, may = Event(), threading.Event()
        busy = Echo.start()
        waits = busy.ask(lambda _: (held.set(), may.wait(SOON)), block=False)
        assert held.wait(SOON)
        others = [Echo.start() for _ in range(2)] if make is not ThreadDispatcher else []
        with no_threads():
            answers = [ref.ask("here", block=False) for ref in [busy, *others] for _ in range(2)]
        assert [answer.get(timeout=SOON) for answer in answers[2:]] == ["here"] * len(answers[2:])
        may.set()
        assert [answer.get(timeout=SOON) for answer in answers[:2]] == ["here"] * 2
        waits.get(timeout=SOON)


def test_afterwards_each_process_has_a_thread_at_once() -> None:
    with System(dispatcher=ThreadDispatcher()) as system:
        begun_in_need(system)
        together = threading.Barrier(4)
        answers = [Echo.start().ask(lambda _: together.wait(SOON), block=False) for _ in range(4)]
        assert sorted(answer.get(timeout=SOON) for answer in answers) == [0, 1, 2, 3]


def test_afterwards_idle_threads_come_and_go_as_ever() -> None:
    with System(dispatcher=ThreadDispatcher(linger=0.01)) as system:
        ref = begun_in_need(system)
        for number in range(3):
            for thread in threading.enumerate():
                if thread.name.startswith("supervisors-thread"):
                    thread.join(SOON)
            assert ref.ask(number, timeout=SOON) == number


def test_many_that_wait_for_a_thread_have_one_each() -> None:
    with System(dispatcher=ThreadDispatcher(linger=0.01)) as system:
        system.timers.ready()
        refs = [Echo.start() for _ in range(4)]
        for thread in threading.enumerate():
            if thread.name.startswith("supervisors-thread"):
                thread.join(SOON)
        together = threading.Barrier(4)
        with no_threads():
            answers = [ref.ask(lambda _: together.wait(SOON), block=False) for ref in refs]
        assert sorted(answer.get(timeout=SOON) for answer in answers) == [0, 1, 2, 3]


@pytest.mark.parametrize("make", CREWS)
def test_a_system_ends_while_somebody_waits_for_a_thread(make: Callable[[], Dispatcher]) -> None:
    class Never(Process):
        shutdown = "brutal_kill"

        def on_receive(self, message: object) -> None:
            raise AssertionError(message)

    with no_threads():
        with System(dispatcher=make()):
            asked = Never.start().ask("anything", block=False)
        with pytest.raises(ProcessDown):
            asked.get(timeout=SOON)


def test_a_pool_that_is_busy_afterwards_lacks_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for its turn then waits for that, and not for a thread."""
    monkeypatch.setattr(launch, "_LOOK", 0.01)
    refused, asked_again, may = threading.Event(), threading.Event(), threading.Event()
    dispatcher = PoolDispatcher(1)

    def block(_: object) -> None:
        other.tell("is waiting")
        with no_threads(), dispatcher.blocking():  # nobody can take its place
            pass
        refused.set()
        may.wait(SOON)

    with System(dispatcher=dispatcher) as system:
        system.timers.ready()
        busy, other = Echo.start(), Echo.start()
        answer = busy.ask(block, block=False)
        assert refused.wait(SOON)
        system.timers.after(2 * PAUSE, asked_again.set)
        assert asked_again.wait(SOON)
        system.timers.after(0.2, may.set)
        assert Born.start().ask("hello", timeout=SOON) == "hello"
        answer.get(timeout=SOON)


def test_an_event_loop_without_a_thread_is_an_error_at_once_and_leaves_nothing() -> None:
    with System(dispatcher=LoopDispatcher()) as system:
        with no_threads(), pytest.raises(RuntimeError, match="can't start new thread"):
            Born.start()
        assert system.processes() == []
        gc.collect()  # an event loop that is not closed warns, and warnings are errors
        assert Echo.start().ask("hello", timeout=SOON) == "hello"


def test_what_is_to_be_done_apart_is_done_when_there_is_a_thread() -> None:
    done = threading.Event()
    with System() as system:
        system.timers.ready()
        with no_threads():
            system.apart(done.set)
        assert done.wait(SOON)


def test_a_message_to_the_dead_takes_nobody_elses_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatcher = PinnedDispatcher()
    with System(dispatcher=dispatcher) as system:
        ref = Born.start()
        (thread,) = [each for each in threading.enumerate() if each.name.startswith("supervisors-pinned")]
        with dispatcher._lock:  # its thread comes to its end, and waits for this
            ref.kill()
            monkeypatch.setattr(dispatcher, "_serve", lambda: None)
            dispatcher.schedule(ref.actor_inbox)  # somebody had looked before it died
            monkeypatch.undo()
        thread.join(SOON)
        dispatcher._serve()
        assert Born.start().ask("hello", timeout=SOON) == "hello"
        assert not system.stopped
