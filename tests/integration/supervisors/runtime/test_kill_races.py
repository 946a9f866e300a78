"""Whenever a kill comes, whoever waits for the dead process is told so, and so is the killer."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import pykka
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
    supervised,
    suspend,
    via,
)
from supervisors.runtime.future import Future
from supervisors.runtime.names import Names
from supervisors.runtime.signals import From
from tests.integration.supervisors.conftest import SOON, Log, beside

ROUNDS = 200


class Server(GenServer):
    def handle_call(self, request: Any, from_: Any) -> Any:
        return request


class Plain(pykka.ThreadingActor):
    def on_receive(self, message: Any) -> Any:
        return message() if callable(message) else message


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
        with pytest.raises(ProcessDown):
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


def thread_of(ref: Any) -> threading.Thread:
    thread = ref.dispatcher.thread
    assert isinstance(thread, threading.Thread)
    return thread


@pytest.mark.parametrize("told", [False, True], ids=["asked", "told"])
def test_what_a_plain_actor_takes_as_it_is_killed_is_not_handled(log: Log, told: bool) -> None:
    with System() as system:
        ref = supervised(Plain).start()
        box: Any = ref.actor_inbox
        drain, request = box.drain, From(lambda: log("handled"), Future())

        def late() -> Any:
            # The killer has seen that nothing is being handled. Now the actor takes this, before it is drained.
            box.drain = drain
            box.put(request.message if told else request)
            thread_of(ref).join(SOON)
            return drain()

        box.drain = late
        exit(ref, "kill")
        assert log.rest() == []
        if told:
            assert system.dead_letters.count == 1
        else:
            all_hear_of_the_kill([request.future])


class Slow(Names):
    """Takes its time where a dying process gives up its name, if the killer is not the one who does that."""

    def __init__(self) -> None:
        super().__init__()
        self.killer = threading.current_thread()
        self.entered, self.go = threading.Event(), threading.Event()

    def unregister(self, key: Any, ref: Any = None) -> None:
        if threading.current_thread() is not self.killer:
            self.entered.set()
            self.go.wait(SOON)
        super().unregister(key, ref)


def test_a_plain_actor_that_notices_its_kill_leaves_the_burial_to_the_killer() -> None:
    class Late(supervised(Plain)):  # type: ignore[misc]
        def _actor_loop(self) -> None:
            try:
                super()._actor_loop()
            finally:
                names.entered.set()

    names = Slow()
    with System() as system:
        ref = Late.start(name=via(names, "x"))
        dispatcher: Any = ref.dispatcher
        abandon = dispatcher.abandon

        def after_it_has_noticed(*args: Any) -> Any:
            ref.actor_inbox.put("wake up")
            assert names.entered.wait(SOON)
            return abandon(*args)

        dispatcher.abandon = after_it_has_noticed
        exit(ref, "kill")
        assert ref.exit_reason is KILLED
        assert names.names() == []
        names.go.set()
        thread_of(ref).join(SOON)
        assert len(system.zombies) == 0


def test_a_process_that_ends_by_itself_as_it_is_killed_leaves_the_burial_to_the_killer() -> None:
    class Door:
        """The lock of a system, before which a dying process waits until it is as good as killed."""

        def __init__(self, lock: Any) -> None:
            self._lock = lock

        def __enter__(self) -> None:
            if doomed and threading.current_thread() is doomed[0]:
                doomed.clear()
                reached.set()
                assert killed.wait(SOON)
            self._lock.acquire()

        def __exit__(self, *_exc: object) -> None:
            self._lock.release()

    class Ending(Process):
        def init(self) -> None:
            self.on_kill(lambda: (killed.set(), names.entered.wait(SOON)))

        def terminate(self, reason: Any) -> None:
            doomed.append(threading.current_thread())

        def finish(self, reason: Any) -> None:
            super().finish(reason)
            names.entered.set()

    doomed: list[threading.Thread] = []
    reached, killed = threading.Event(), threading.Event()
    names = Slow()
    with System() as system:
        ref = Ending.start(name=via(names, "x"))
        system.lock = Door(system.lock)
        ref.stop(block=False)
        assert reached.wait(SOON)
        exit(ref, "kill")
        assert ref.exit_reason is KILLED
        assert names.names() == []
        names.go.set()


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


@pytest.mark.usefixtures("_eager_switching")
def test_no_question_to_a_plain_actor_is_answered_by_its_kill() -> None:
    with System(max_zombies=10 * ROUNDS):
        for _ in range(ROUNDS):
            for request in killed_while_asked(supervised(Plain).start()):
                try:
                    assert request.get(timeout=SOON) == 1
                except ProcessDown:
                    pass
