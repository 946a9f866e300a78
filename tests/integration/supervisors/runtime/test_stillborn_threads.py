"""Threads that the system gives and that die as they begin, as they do when there is no memory: nobody waits for them.

They die where a new thread allocates for the first time. `SystemExit` is what Python lets end a thread without a word.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from allm_actors.engine.threads import on_thread
from supervisors.port.program import Program
from supervisors.process import Process
from supervisors.runtime import birth
from supervisors.runtime.birth import DaemonThread
from supervisors.runtime.dispatch import Dispatcher
from supervisors.runtime.loop import LoopDispatcher
from supervisors.runtime.pool import PoolDispatcher
from supervisors.runtime.system import System
from supervisors.runtime.threads import PinnedDispatcher, ThreadDispatcher
from supervisors.runtime.timers import RealClock, Timers
from tests.integration.supervisors.conftest import SOON, Echo
from tests.integration.supervisors.runtime.test_no_threads import Born

pytestmark = pytest.mark.real("threads die as they begin")

CREWS = [ThreadDispatcher, PinnedDispatcher, PoolDispatcher]
PLACES = ["_bootstrap", "_bootstrap_inner"]


class Plague:
    """Threads die as they begin: of those whose name begins like this so many, after the first that are spared."""

    def __init__(self) -> None:
        self._name, self._spared, self.deaths = "", 0, 0

    def strike(self, name: str, deaths: int, spared: int = 0) -> None:
        """From now on."""
        self._name, self._spared, self.deaths = name, spared, deaths

    def takes(self, thread: threading.Thread) -> bool:
        """Whether this one dies."""
        if not self.deaths or not thread.name.startswith(self._name):
            return False
        if self._spared:
            self._spared -= 1
            return False
        self.deaths -= 1
        return True


@pytest.fixture(params=PLACES)
def plague(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plague]:
    """None has broken out yet."""
    it, place = Plague(), request.param
    as_ever: Callable[[threading.Thread], None] = getattr(threading.Thread, place)

    def begin(thread: threading.Thread) -> None:
        if it.takes(thread):
            raise SystemExit
        as_ever(thread)

    monkeypatch.setattr(threading.Thread, place, begin)
    monkeypatch.setattr(birth, "_PATIENCE", 0.1)
    yield it
    limbo: dict[threading.Thread, threading.Thread] = threading._limbo  # type: ignore[attr-defined]
    for ghost in [thread for thread in limbo if isinstance(thread, DaemonThread)]:
        del limbo[ghost]  # Python keeps them for ever


@pytest.mark.parametrize("make", CREWS)
def test_what_a_worker_was_to_do_is_done_by_the_next_one(
    make: Callable[[], Dispatcher], plague: Plague, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, logger="supervisors")
    with System(dispatcher=make()) as system:
        system.timers.ready()
        plague.strike("supervisors-", 3)
        ref = Echo.start()
        assert ref.ask("hello", timeout=SOON) == "hello"
        assert plague.deaths == 0
    assert [record.getMessage()[:18] for record in caplog.records] == ["no thread could be"]  # once


@pytest.mark.parametrize("make", CREWS)
def test_afterwards_threads_are_counted_as_ever(make: Callable[..., Dispatcher], plague: Plague) -> None:
    with System(dispatcher=make() if make is not PoolDispatcher else make(4)) as system:
        system.timers.ready()
        plague.strike("supervisors-", 2)
        assert Echo.start().ask("hello", timeout=SOON) == "hello"
        together = threading.Barrier(4)
        answers = [Echo.start().ask(lambda _: together.wait(SOON), block=False) for _ in range(4)]
        assert sorted(answer.get(timeout=SOON) for answer in answers) == [0, 1, 2, 3]


def test_an_event_loop_that_starts_a_worker_goes_on(plague: Plague) -> None:
    class OnLoop(Process):
        dispatcher = "loop"

        def on_receive(self, message: object) -> object:
            blocking.tell(message)
            return "goes on"

    class Blocking(Process):
        dispatcher = "blocking"

        def init(self) -> None:
            pass

        def on_receive(self, message: object) -> None:
            heard.append(message)
            if message == "second":
                both.set()

    heard: list[object] = []
    both = threading.Event()
    with System() as system:
        system.dispatcher("blocking")._linger = 0.0  # type: ignore[attr-defined]
        blocking, on_loop = Blocking.start(), OnLoop.start()
        for thread in threading.enumerate():
            if thread.name.startswith("supervisors-thread"):
                thread.join(SOON)
        plague.strike("supervisors-thread", 2)
        assert on_loop.ask("first", timeout=SOON) == "goes on"
        assert on_loop.ask("second", timeout=SOON) == "goes on"
        assert both.wait(SOON)
    assert heard == ["first", "second"]
    assert plague.deaths == 0


def test_timers_tell_that_their_thread_died_and_have_one_the_next_time(plague: Plague) -> None:
    clock, fired = RealClock(), threading.Event()
    timers = Timers(clock)
    plague.strike("supervisors-timers", 1)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        timers.after(0, lambda: pytest.fail("it was said that this would not happen"))
    timers.after(0, fired.set)
    assert fired.wait(SOON)
    clock.stop()


def test_an_event_loop_whose_thread_died_is_an_error_and_leaves_nothing(plague: Plague) -> None:
    with System(dispatcher=LoopDispatcher()) as system:
        plague.strike("supervisors-loop", 1)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            Born.start()
        assert system.processes() == []
        assert Echo.start().ask("hello", timeout=SOON) == "hello"


def test_what_is_to_be_done_apart_is_done_by_the_next_one(plague: Plague) -> None:
    done = threading.Event()
    with System() as system:
        system.timers.ready()
        plague.strike("supervisors-stop", 1)
        system.apart(done.set)
        assert done.wait(SOON)


def test_work_beside_an_event_loop_is_done_by_the_next_one(plague: Plague) -> None:
    plague.strike("allm-work", 2)
    assert asyncio.run(on_thread(lambda: "done")) == "done"
    assert plague.deaths == 0


@pytest.mark.parametrize("spared", [0, 1])
def test_a_program_that_nobody_can_look_after_is_ended(plague: Plague, spared: int) -> None:
    plague.strike("supervisors-port", 1, spared)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        Program([sys.executable, "-c", "input()"], on_output=print, on_exit=print)
    assert plague.deaths == 0


def test_one_that_comes_too_late_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    may, over = threading.Event(), threading.Event()
    as_ever: Callable[[threading.Thread], None] = threading.Thread._bootstrap  # type: ignore[attr-defined]

    def late(thread: threading.Thread) -> None:
        may.wait(SOON)
        as_ever(thread)
        over.set()

    monkeypatch.setattr(threading.Thread, "_bootstrap", late)
    monkeypatch.setattr(birth, "_PATIENCE", 0.01)
    done: list[str] = []
    thread = DaemonThread(lambda: done.append("done"), "late")
    with pytest.raises(RuntimeError, match="can't start new thread: late"):
        thread.start()
    may.set()
    assert over.wait(SOON)
    assert not thread.began
    assert not done
    assert thread not in threading.enumerate()


def test_a_daemon_thread_is_a_thread_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        names.append(threading.current_thread())
        raise ZeroDivisionError

    names: list[threading.Thread] = []
    traced: list[str] = []
    raised: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    before = threading.getprofile()
    threading.setprofile(lambda frame, *_: traced.append(frame.f_code.co_name))
    try:
        thread = DaemonThread(work, "its name")
        thread.start()
    finally:
        threading.setprofile(before)  # type: ignore[arg-type]
    assert thread.began
    assert thread.ident is not None
    thread.join(SOON)
    assert not thread.is_alive()
    assert names == [thread]
    assert (thread.name, thread.daemon) == ("its name", True)
    assert [each.exc_type for each in raised] == [ZeroDivisionError]
    assert "run" in traced
    with pytest.raises(RuntimeError, match="once"):
        thread.start()
