"""Others' code that does what no code should, at the worst moment: deaths are told, and everybody else goes on."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from supervisors import (
    NO_REPLY,
    Application,
    DynamicSupervisor,
    Flags,
    NotFound,
    PoolDispatcher,
    Process,
    ProcessDown,
    StartError,
    Supervisor,
    System,
    ThreadDispatcher,
    child,
    exit,
    via,
    whereis,
)
from supervisors.reasons import KILLED, NORMAL, SHUTDOWN, Exit
from supervisors.testing import Event, Sim
from tests.integration.supervisors.conftest import SOON, Echo, Log, name_of, simulated

THREADS = "it is about threads that meet"


class Failure:
    """A reason of somebody's own that looks like a crash."""

    exc = "timeout"


class Rude(BaseException):
    """What is no Exception, such as the cancellation of some library's task."""


class Shy(Exception):
    """One that cannot be shown."""

    def __repr__(self) -> str:
        return f"<Shy {self.name}>"  # type: ignore[attr-defined]


def raise_(exc: BaseException) -> NoReturn:
    raise exc


# --- exceptions that cannot be shown ------------------------------------------------------------------------------


def test_a_death_whose_reason_cannot_be_shown_is_told(system: System, log: Log) -> None:
    supervisor = Supervisor.start([child(Echo, name="e")], max_restarts=10)
    one = whereis("e")
    assert one is not None
    one.add_exit_callback(log)
    crash = one.ask(lambda _: raise_(Shy()), block=False)
    queued = one.ask("queued", block=False)
    assert isinstance(log.next().exc, Shy)
    for future in (crash, queued):
        with pytest.raises((Shy, ProcessDown)):
            future.get(timeout=SOON)
    again = supervisor.which_children()[0].ref
    assert again is not one
    assert whereis("e") is again


def test_a_start_that_fails_with_what_cannot_be_shown_harms_no_sibling(
    system: System,
    worker: Callable[..., Any],
) -> None:
    supervisor = DynamicSupervisor.start()
    sibling = supervisor.start_child(worker("a"))
    with pytest.raises(StartError, match="a Shy that cannot be shown"):
        supervisor.start_child(worker("b", Shy()))
    assert sibling.is_alive()
    assert supervisor.is_alive()


@pytest.mark.parametrize("cls", [Supervisor, DynamicSupervisor])
def test_a_start_that_fails_with_a_reason_that_looks_like_a_crash_harms_no_sibling(
    cls: Any, system: System, worker: Callable[..., Any]
) -> None:
    supervisor = cls.start()
    sibling = supervisor.start_child(worker("a"))
    failure = Failure()
    with pytest.raises(StartError) as error:
        supervisor.start_child(worker("b", Exit(failure)))
    assert error.value.reason is failure
    assert sibling.is_alive()
    assert supervisor.is_alive()


class NoHash:
    def __hash__(self) -> int:
        raise ValueError("as rude as can be")


class NoEquals:
    def __hash__(self) -> int:
        return hash("a")

    def __eq__(self, other: object) -> bool:
        raise ValueError("as rude as can be")


@pytest.mark.parametrize("id", [NoHash(), NoEquals()], ids=["hash", "=="])
def test_an_id_that_cannot_be_looked_up_harms_only_who_asks(
    id: Any, system: System, worker: Callable[..., Any]
) -> None:
    static, dynamic = Supervisor.start([worker("a")]), DynamicSupervisor.start()
    children = [static.which_children()[0].ref, dynamic.start_child(worker("b"))]
    asks: list[Callable[[], object]] = [
        lambda: static.which_child(id),
        lambda: static.get_childspec(id),
        lambda: static.terminate_child(id),
        lambda: static.restart_child(id),
        lambda: static.delete_child(id),
        lambda: static.start_child(worker(id)),
        lambda: static.update(Flags(), [worker("a"), worker(id)]),
    ]
    for ask in asks:
        with pytest.raises(ValueError, match="as rude as can be"):
            ask()
    with pytest.raises((ValueError, NotFound)):  # two that are not the same need not be compared
        dynamic.terminate_child(id)
    assert all(each.is_alive() for each in children)
    assert static.is_alive()
    assert dynamic.is_alive()


# --- what is no Exception -----------------------------------------------------------------------------------------

RUDE = [Rude, asyncio.CancelledError, SystemExit, GeneratorExit]


@pytest.mark.parametrize("rude", RUDE)
def test_a_kill_is_finished_whatever_a_callback_raises(rude: Any, system: System, log: Log) -> None:
    supervisor = Supervisor.start([child(Echo, name="e")], max_restarts=10)
    one = whereis("e")
    assert one is not None
    one.ask(lambda itself: itself.on_kill(lambda: raise_(rude())))
    one.add_exit_callback(lambda _: raise_(rude()))
    one.add_exit_callback(log)
    exit(one, "kill")
    assert log.next() is KILLED
    again = supervisor.which_children()[0].ref
    assert again is not one
    assert whereis("e") is again
    supervisor.terminate_child(Echo)
    assert whereis("e") is None


class Later(Process):
    """Answers the first request at the second one."""

    first: Any = None

    def on_receive(self, message: Any) -> Any:
        if self.first is None:
            self.first = self.current_request
            return NO_REPLY
        self.first.reply(message)
        return message


@pytest.mark.parametrize("rude", RUDE)
def test_a_server_outlives_what_its_clients_do_with_its_answers(rude: Any, system: System, log: Log) -> None:
    one = Later.start()
    answer = one.ask("a", block=False)
    answer.add_done_callback(lambda _: raise_(rude()))
    answer.add_done_callback(lambda future: log(future.get()))
    assert one.ask("answer") == "answer"
    assert log.next() == "answer"
    assert one.is_alive()


@pytest.mark.parametrize("rude", RUDE)
def test_time_goes_on_whatever_a_timer_does(rude: Any, system: System) -> None:
    fired = Event()
    system.timers.after(0.01, lambda: raise_(rude()))
    system.timers.after(0.02, fired.set)
    assert fired.wait(SOON)


@pytest.mark.parametrize("rude", [*RUDE, lambda: SystemExit("no configuration")])
def test_a_child_whose_constructor_gives_up_is_a_start_that_failed(
    rude: Any,
    system: System,
    worker: Callable[..., Any],
) -> None:
    class Constructed(Process):
        def __init__(self) -> None:
            super().__init__()
            raise rude()

    supervisor = DynamicSupervisor.start()
    sibling = supervisor.start_child(worker("a"))
    with pytest.raises(StartError):
        supervisor.start_child(child(Constructed))
    assert sibling.is_alive()


@pytest.mark.real(THREADS)
def test_ctrl_c_in_a_callback_is_not_lost(system: System) -> None:
    one = Echo.start()
    one.add_exit_callback(lambda _: raise_(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        exit(one, "kill")  # here: on the main thread
    assert one.exit_reason is KILLED


@pytest.mark.real(THREADS)
def test_an_application_whose_root_gives_up_ends() -> None:
    assert Application(child(lambda: sys.exit("the configuration is missing"))).run() == 1


# --- moments ------------------------------------------------------------------------------------------------------


class SlowNames:
    """Names elsewhere, where it takes a while to give one back: until `resume` is set."""

    def __init__(self) -> None:
        self.known: dict[Any, Any] = {}
        self.entered, self.resume = threading.Event(), threading.Event()

    def register(self, key: Any, ref: Any) -> bool:
        return self.known.setdefault(key, ref) is ref

    def unregister(self, key: Any) -> None:
        self.entered.set()
        assert self.resume.wait(SOON)
        self.known.pop(key, None)

    def whereis(self, key: Any) -> Any:
        return self.known.get(key)


class Begun(Process):
    """Its start takes until `go`."""

    dispatcher = "blocking"

    def __init__(self, begun: threading.Event, go: threading.Event, over: threading.Event) -> None:
        super().__init__()
        self.begun, self.go, self.over = begun, go, over

    def init(self) -> None:
        self.begun.set()
        assert self.go.wait(SOON)

    def _actor_started(self, info: Any) -> None:
        super()._actor_started(info)
        self.over.set()


@pytest.mark.real(THREADS)
def test_who_starts_a_process_that_is_killed_as_it_begins_is_told(log: Log) -> None:
    begun, go, over = threading.Event(), threading.Event(), threading.Event()
    names = SlowNames()
    with System() as system:

        def start() -> None:
            with system.activated():
                try:
                    Begun.start(begun, go, over, name=via(names, "x"))
                except StartError as error:
                    log(error.reason)

        starter = threading.Thread(target=start)
        starter.start()
        assert begun.wait(SOON)
        killer = threading.Thread(target=lambda: exit(names.known["x"], "kill"))
        killer.start()
        assert names.entered.wait(SOON)  # it is buried, and nobody has been told
        go.set()
        assert over.wait(SOON)  # its start is over meanwhile
        names.resume.set()
        assert log.next() is KILLED
        killer.join(SOON)
        starter.join(SOON)


@pytest.mark.parametrize("system", [ThreadDispatcher, PoolDispatcher, Sim], ids=name_of, indirect=True)
def test_a_line_of_processes_ends_as_one_however_long(system: System, log: Log) -> None:
    class Link(Process):
        def __init__(self, left: int) -> None:
            super().__init__()
            self.left = left

        def init(self) -> None:
            if self.left:
                Link.start_link(self.left - 1)

    length = 40 if simulated() else 120  # either is more than a stack should bear
    first = Link.start(length)
    line = system.processes()
    assert len(line) == length + 1
    for link in line:
        link.add_exit_callback(log)
    assert first.stop()
    assert sorted(map(str, log.take(length + 1))) == sorted(map(str, [NORMAL, *[SHUTDOWN] * length]))
    assert system.processes() == []
