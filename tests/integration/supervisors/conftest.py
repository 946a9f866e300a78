"""Every scenario of this folder runs on every dispatcher and in simulations (`simulation.py`).

The rule of this file: nothing that waits waits longer than `SOON`, and it waits as a simulation can: with `Log`,
`supervisors.testing.Event` or a future. What needs threads of its own, or blocks without a word, says so with
`@pytest.mark.real("why")` and is not simulated.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from supervisors.process import Process
from supervisors.runtime.future import Future
from supervisors.runtime.loop import LoopDispatcher
from supervisors.runtime.pool import PoolDispatcher
from supervisors.runtime.sim import _SimSystem
from supervisors.runtime.system import System
from supervisors.runtime.threads import PinnedDispatcher, ThreadDispatcher
from supervisors.spec import ChildSpec, child
from supervisors.testing import Event, Sim
from tests.integration.supervisors import simulation

SOON = 10.0


class Log:
    """What happened, in order; tests wait for the next entry, never for time."""

    def __init__(self) -> None:
        self._entries: deque[Any] = deque()
        self._news = Event()

    def __call__(self, entry: Any) -> None:
        self._entries.append(entry)
        self._news.set()

    def add(self, *words: object) -> None:
        """The same, in words."""
        self(" ".join(str(word) for word in words))

    def next(self) -> Any:
        """The next thing that happens."""
        while not self._entries:
            # The new event first, then the look: whoever adds an entry that is not seen here sets this event.
            self._news = Event()
            if not self._entries:
                assert self._news.wait(SOON), "nothing more has happened"
        return self._entries.popleft()

    def take(self, count: int) -> list[Any]:
        """The next `count` things that happen."""
        return [self.next() for _ in range(count)]

    def rest(self) -> list[Any]:
        """What has happened and was not looked at."""
        entries = list(self._entries)
        self._entries.clear()
        return entries


def simulated() -> bool:
    """Whether this happens in a simulation."""
    return isinstance(System.current(), _SimSystem)


def beside(work: Callable[[], object]) -> Future[Any]:
    """Do the work beside the scenario, as somebody who is no process: a future of the result."""
    system = System.current()
    if isinstance(system, _SimSystem):
        return system._sim.client(work)
    future: Future[Any] = Future()

    def run() -> None:
        with system.activated():
            try:
                future.set(work())
            except BaseException:  # noqa: BLE001 - it is for whoever waits for the future
                future.set_exception()

    threading.Thread(target=run).start()
    return future


def often(times: int) -> range:
    """So often where chance decides what happens; the seeds of a simulation repeat it anyway."""
    return range(1 if simulated() else times)


class Echo(Process):
    """Answers with what it is asked; raises it if it is an exception; calls it if it can be called."""

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        return message(self) if callable(message) else message


class Watcher(Process):
    """Traps exits, and logs what the runtime tells it."""

    trap_exit = True

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def on_receive(self, message: Any) -> Any:
        if callable(message):
            return message(self)
        self.log(message)
        return message

    def handle_exit(self, exit: Any) -> None:
        self.log(exit)

    def handle_down(self, down: Any) -> None:
        self.log(down)

    def handle_system(self, signal: Any) -> None:
        self.log(signal)


class Worker(Process):
    """A child: says when it starts and ends; `outcome`, or what that returns, is what its start comes to."""

    def __init__(self, log: Log, id: Any, outcome: Any = None) -> None:
        super().__init__()
        self.log = log
        self.id = id
        self.outcome = outcome

    def init(self) -> Any:
        outcome = self.outcome() if callable(self.outcome) else self.outcome
        if isinstance(outcome, BaseException):
            raise outcome
        self.log.add("+", self.id)
        return outcome

    def on_receive(self, message: Any) -> Any:
        return message(self) if callable(message) else message

    def terminate(self, reason: Any) -> None:
        self.log.add("-", self.id)


@pytest.fixture
def _eager_switching() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def worker(log: Log) -> Callable[..., ChildSpec]:
    """Specs of workers that share the log."""

    def make(id: Any, outcome: Any = None, **fields: Any) -> ChildSpec:
        return child(Worker, log, id, outcome).replace(id=id, **fields)

    return make


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, logger="supervisors")


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(SOON)
        assert not thread.is_alive(), thread


def name_of(world: type) -> str:
    """What a test is called that runs there."""
    return "simulation" if world is Sim else world.__name__


BLOCKING: list[type] = [ThreadDispatcher, PoolDispatcher, PinnedDispatcher, Sim]
"""The worlds in which a handler may wait."""


@pytest.fixture(params=[*BLOCKING, LoopDispatcher], ids=name_of)
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    with System(dispatcher=request.param()) as system:
        yield system


@pytest.fixture(params=BLOCKING, ids=name_of)
def blocking_system(request: pytest.FixtureRequest) -> Iterator[System]:
    """Only where a handler may wait."""
    with System(dispatcher=request.param()) as system:
        yield system


@pytest.fixture(params=[Sim], ids=name_of)
def sim(request: pytest.FixtureRequest) -> Sim:
    """For scenarios that let time pass, or look at the simulation itself."""
    raise NotImplementedError("each seed makes its own")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if simulation.is_simulated(item):
            item.add_marker("simulation")
            item.add_marker(pytest.mark.timeout(60 + simulation.SEEDS / 20))
    items[:] = [
        item for item in items if not (simulation.is_simulated(item) and item.get_closest_marker("real"))
    ]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if isinstance(item, pytest.Function) and simulation.is_simulated(item):
        simulation.leave_out(item)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not simulation.is_simulated(pyfuncitem):
        return None
    simulation.play(pyfuncitem)
    return True
