"""Every scenario of this folder runs on every dispatcher; nothing that waits waits longer than `SOON`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from queue import Empty, Queue
from typing import Any

import pytest

from supervisors.process import Process
from supervisors.runtime.dispatch import Dispatcher
from supervisors.runtime.loop import LoopDispatcher
from supervisors.runtime.pool import PoolDispatcher
from supervisors.runtime.system import System
from supervisors.runtime.threads import PinnedDispatcher, ThreadDispatcher

SOON = 10.0


class Log:
    """What happened, in order, as other threads tell it."""

    def __init__(self) -> None:
        self._queue: Queue[Any] = Queue()

    def __call__(self, item: Any) -> None:
        self._queue.put(item)

    def next(self) -> Any:
        """The next thing that happens."""
        return self._queue.get(timeout=SOON)

    def rest(self) -> list[Any]:
        """What has happened and was not looked at."""
        items = []
        while True:
            try:
                items.append(self._queue.get_nowait())
            except Empty:
                return items


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


@pytest.fixture
def log() -> Log:
    return Log()


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


@pytest.fixture(
    params=[ThreadDispatcher, PoolDispatcher, PinnedDispatcher, LoopDispatcher],
    ids=lambda each: each.__name__,
)
def dispatcher(request: pytest.FixtureRequest) -> Dispatcher:
    made: Dispatcher = request.param()
    return made


@pytest.fixture
def system(dispatcher: Dispatcher) -> Iterator[System]:
    with System(dispatcher=dispatcher) as system:
        yield system


@pytest.fixture(params=[ThreadDispatcher, PoolDispatcher, PinnedDispatcher], ids=lambda each: each.__name__)
def blocking_system(request: pytest.FixtureRequest) -> Iterator[System]:
    """Only where a handler may wait."""
    with System(dispatcher=request.param()) as system:
        yield system
