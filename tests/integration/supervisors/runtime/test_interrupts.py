"""Ctrl-C strikes anywhere in what the main thread does with processes: they are all there for whoever goes on."""

from __future__ import annotations

import ctypes
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from supervisors.process import Process
from supervisors.runtime import dispatch
from supervisors.runtime.dispatch import Dispatcher, Worker, WorkerDispatcher
from supervisors.runtime.loop import LoopDispatcher
from supervisors.runtime.mailbox import Mailbox
from supervisors.runtime.pool import PoolDispatcher
from supervisors.runtime.system import System
from supervisors.runtime.threads import PinnedDispatcher, ThreadDispatcher
from tests.integration.interrupting import interrupted
from tests.integration.supervisors.conftest import SOON, Echo, Log, beside

pytestmark = pytest.mark.real("signals strike the main thread")

DISPATCHERS = [LoopDispatcher, PinnedDispatcher, ThreadDispatcher, PoolDispatcher]


@pytest.fixture(params=DISPATCHERS)
def here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(dispatch, "PAUSE", 0.001)
    make: Callable[[], Dispatcher] = request.param
    with System(dispatcher=make()) as system:
        yield system


@pytest.mark.parametrize(
    "work",
    [
        lambda ref: ref.tell("hello"),
        lambda ref: ref.ask("hello", timeout=SOON),
        lambda ref: ref.ask("hello", block=False),
        lambda ref: ref.proxy().actor_urn.get(timeout=SOON),
    ],
    ids=["tell", "ask", "ask later", "proxy"],
)
def test_whoever_is_told_or_asked_is_there_for_the_next(here: System, work: Callable[[Any], object]) -> None:
    ref = Echo.start()
    for at in itertools.count():
        struck = interrupted(lambda: work(ref), at, "supervisors")
        assert ref.ask(at, timeout=SOON) == at
        if not struck:
            break
    assert at > 10  # there were so many places


def test_others_have_their_turn_at_once(here: System) -> None:
    ref, other = Echo.start(), Echo.start()
    for at in itertools.count():
        struck = interrupted(lambda: ref.tell("hello"), at, "supervisors")
        assert other.ask(at, timeout=SOON) == at
        assert ref.ask(at, timeout=SOON) == at
        if not struck:
            break


class Logging(Echo):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def on_receive(self, message: Any) -> None:
        self.log(message)


def at_rest(ref: Any) -> Any:
    """The ref, as soon as nobody runs it any more."""
    deadline = time.monotonic() + SOON
    while ref.actor_inbox.scheduled:
        assert time.monotonic() < deadline
    return ref


@pytest.mark.parametrize("make", DISPATCHERS)
def test_nobody_waits_with_whoever_has_no_room_on_the_stack(
    make: type[Dispatcher], monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    def schedule(self: Dispatcher, box: Mailbox) -> None:
        if box is ref.actor_inbox and not struck:
            struck.append(box)
            beside(lambda: ref.tell("of another")).get(timeout=SOON)  # who counts on us to schedule it
            raise RecursionError
        as_ever(self, box)

    struck: list[Mailbox] = []
    as_ever = make.schedule
    with System(dispatcher=make()):
        ref = at_rest(Logging.start(log))
        monkeypatch.setattr(make, "schedule", schedule)
        with pytest.raises(RecursionError):
            ref.tell("deep down")
        assert log.take(2) == ["deep down", "of another"]


def test_nobody_waits_with_whoever_has_no_room_to_wake_the_loop(
    monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    def arm(self: LoopDispatcher) -> None:
        if not struck:
            struck.append(self)
            beside(lambda: other.tell("of another")).get(timeout=SOON)
            raise RecursionError
        as_ever(self)

    struck: list[LoopDispatcher] = []
    as_ever = LoopDispatcher._arm
    with System(dispatcher=LoopDispatcher()):
        ref, other = at_rest(Echo.start()), at_rest(Logging.start(log))
        monkeypatch.setattr(LoopDispatcher, "_arm", arm)
        with pytest.raises(RecursionError):
            ref.tell("deep down")
        assert log.next() == "of another"


@pytest.mark.parametrize("make", [ThreadDispatcher, lambda: PoolDispatcher(2)], ids=["threads", "pool"])
def test_what_was_turned_away_beside_a_worker_at_its_end_is_run(
    make: Callable[[], WorkerDispatcher], monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    def run(worker: Worker, box: Mailbox, budget: int) -> None:
        worker.box = box
        box.run(budget)
        if not late:
            late.append(box)
            ref.tell("late")  # its role is free; and so somebody else comes, who sees us here
            deadline = time.monotonic() + SOON
            while not dispatcher._turned_away:
                assert time.monotonic() < deadline
        worker.box = None

    late: list[Mailbox] = []
    dispatcher = make()
    dispatcher.doubtful = True
    monkeypatch.setattr(Worker, "run", run)
    with System(dispatcher=dispatcher):
        ref = Logging.start(log)
        ref.tell("first")
        assert log.take(2) == ["first", "late"]


def test_a_pool_counts_its_workers_again_after_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    monkeypatch.setattr(dispatch, "PAUSE", 0.001)
    dispatcher = PoolDispatcher(1)
    with System(dispatcher=dispatcher):
        ref = Logging.start(log)
        dispatcher._active = 1  # as whoever was interrupted has left it, who never had his worker
        ref.tell("hello")
        dispatcher.again(ref.actor_inbox)
        assert log.next() == "hello"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, MemoryError])
def test_an_event_loop_goes_on_after_an_activation_that_was_struck(
    failure: type[BaseException], monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    def run_one(self: LoopDispatcher, box: Mailbox) -> None:
        if not struck:
            struck.append(box)
            raise failure
        run(self, box)

    struck: list[Mailbox] = []
    run = LoopDispatcher._run_one
    with System(dispatcher=LoopDispatcher()) as system:
        ref = Logging.start(log)
        system.dispatcher("any").loop.set_exception_handler(lambda *_: None)  # type: ignore[attr-defined]
        monkeypatch.setattr(LoopDispatcher, "_run_one", run_one)
        ref.tell("hello")
        assert log.next() == "hello"
    assert struck


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("make", [PinnedDispatcher, ThreadDispatcher, PoolDispatcher])
def test_a_process_goes_on_with_another_thread_when_its_own_was_struck(
    make: type[Dispatcher], monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    def run(self: Mailbox, budget: int) -> None:
        if self is ref.actor_inbox and len(struck) < 3:
            struck.append(self)
            raise MemoryError
        as_ever(self, budget)

    monkeypatch.setattr(dispatch, "PAUSE", 0.001)
    struck: list[Mailbox] = []
    as_ever = Mailbox.run
    with System(dispatcher=make()):
        ref = at_rest(Logging.start(log))
        monkeypatch.setattr(Mailbox, "run", run)
        for message in ("first", "second"):
            ref.tell(message)
        assert log.take(2) == ["first", "second"]
    assert len(struck) == 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("dispatcher", "idle"),
    [(ThreadDispatcher(linger=0.1), "_idle"), (PoolDispatcher(1, linger=0.1), "_spares")],
    ids=["threads", "pool"],
)
def test_a_thread_that_was_struck_while_idle_is_not_called_again(
    dispatcher: WorkerDispatcher, idle: str
) -> None:
    def all_at_once(number: int) -> None:
        together = threading.Barrier(number)

        def meet(process: Process) -> bool:
            with process.blocking():
                return together.wait(SOON) >= 0

        met = [Echo.start().ask(meet, block=False) for _ in range(number)]
        assert all(each.get(timeout=SOON) for each in met)

    with System(dispatcher=dispatcher):
        all_at_once(3)
        while not (workers := list(getattr(dispatcher, idle))):  # soon: they have met
            all_at_once(1)
        threads = [each.thread for each in workers]
        for thread in threads:
            strike = ctypes.pythonapi.PyThreadState_SetAsyncExc
            strike(ctypes.c_ulong(thread.ident), ctypes.py_object(MemoryError))
        for thread in threads:  # each ends when its time as an idle one is over
            thread.join(SOON)
            assert not thread.is_alive()
        all_at_once(3)
