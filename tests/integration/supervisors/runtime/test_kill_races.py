"""Whenever a kill comes, whoever waits for the dead process is told so, and so is the killer."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from supervisors import (
    DEFER_START,
    KILLED,
    GenServer,
    Process,
    ProcessDown,
    System,
    exit,
    resume,
    suspend,
)
from supervisors.runtime.future import Future
from tests.integration.supervisors.conftest import SOON, Log, beside

ROUNDS = 150


class Server(GenServer):
    def handle_call(self, request: Any, from_: Any) -> Any:
        return request


class Handed(deque[Any]):
    """A lane from which an item is taken, and before it is put anywhere `meanwhile()` happens, once, elsewhere."""

    def __init__(self, items: Iterable[Any], meanwhile: Callable[[], object]) -> None:
        super().__init__(items)
        self._meanwhile: Callable[[], object] | None = meanwhile

    def pop(self) -> Any:
        item = super().pop()
        self._let_it_happen()
        return item

    def popleft(self) -> Any:
        item = super().popleft()
        self._let_it_happen()
        return item

    def _let_it_happen(self) -> None:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            thread = threading.Thread(target=meanwhile)
            thread.start()
            thread.join(SOON)


def all_hear_of_the_kill(requests: list[Future[Any]]) -> None:
    for request in requests:
        with pytest.raises(ProcessDown) as down:
            request.get(timeout=SOON)
        assert down.value.reason is KILLED


def test_who_asked_a_suspended_server_that_is_killed_as_it_resumes_is_told() -> None:
    with System():
        server = Server.start()
        suspend(server)
        requests = [server.ask(n, block=False) for n in range(3)]
        suspend(server)  # by the answer it has seen them, and holds them
        box = server.actor_inbox
        assert box.held is not None
        box.held = Handed(box.held, lambda: exit(server, "kill"))
        resume(server)
        all_hear_of_the_kill(requests)


def test_who_asked_a_suspended_server_that_is_killed_as_it_puts_the_question_aside_is_told() -> None:
    with System():
        server = Server.start()
        suspend(server)
        server.actor_inbox.user = Handed((), lambda: exit(server, "kill"))
        all_hear_of_the_kill([server.ask(1, block=False)])


def test_who_asked_a_process_that_is_killed_as_its_start_succeeds_is_told(log: Log) -> None:
    class Slow(Process):
        def init(self) -> object:
            for each in others:
                self.monitor(each)
            log(self.ref)
            return DEFER_START

        def handle_down(self, down: Any) -> None:
            if down.ref is others[1]:
                self.start_succeeded()
            else:
                log("knows what waits")

    with System():
        others = Process.start(), Process.start()
        start = beside(Slow.start)
        slow = log.next()
        requests = [slow.ask(n, block=False) for n in range(3)]
        exit(others[0], "kill")
        assert log.next() == "knows what waits"
        box = slow.actor_inbox
        box.held = Handed(box.held, lambda: exit(slow, "kill"))
        exit(others[1], "kill")
        all_hear_of_the_kill(requests)
        assert start.get(timeout=SOON) is slow


@pytest.fixture
def _eager_switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def killed_while_asked(ref: Any) -> list[Future[Any]]:
    """What becomes of the questions that somebody asks all the time, as long as it lives, when it is killed."""
    requests: list[Future[Any]] = []
    begun = threading.Event()

    def ask() -> None:
        while ref.is_alive():
            requests.append(ref.ask(1, block=False))
            if len(requests) == 20:
                begun.set()

    asker = threading.Thread(target=ask)
    asker.start()
    assert begun.wait(SOON)
    exit(ref, "kill")
    assert ref.exit_reason is KILLED
    asker.join(SOON)
    return requests


@pytest.mark.usefixtures("_eager_switching")
def test_no_question_to_a_suspended_server_is_left_open_by_its_kill() -> None:
    with System(max_zombies=10 * ROUNDS):
        for _ in range(ROUNDS):
            server = Server.start()
            suspend(server)
            for request in killed_while_asked(server):
                with pytest.raises(ProcessDown):
                    request.get(timeout=SOON)
