"""GenServer: calls, casts, everything else; answers that come later; idleness; operators who look in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pykka
import pytest

from supervisors.errors import CallingSelf, ProcessDown, ReplyError, SupervisorError
from supervisors.genserver import GenServer, call, cast
from supervisors.inspection import get_state, resume, suspend, trace
from supervisors.process import DEFER_START, NO_REPLY, From, Process, Stop, exit
from supervisors.reasons import KILLED, NOPROC, NORMAL, SHUTDOWN, Crash, Exit
from supervisors.runtime.loop import LoopDispatcher
from supervisors.runtime.pool import PoolDispatcher
from supervisors.runtime.system import System
from supervisors.runtime.timers import Timers
from supervisors.spec import child
from supervisors.supervisor import Supervisor
from supervisors.task import TaskSupervisor

from .conftest import BLOCKING, SOON, Log, name_of, simulated


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: Timers | None = None

    def monotonic(self) -> float:
        return self.now

    def drive(self, timers: Timers) -> None:
        self._timers = timers

    def stop(self) -> None:
        pass

    def advance(self, seconds: float) -> None:
        self.now += seconds
        if self._timers is not None:
            self._timers.fire_due()


class Server(GenServer):
    """Logs what reaches which handler; a callable is called instead."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def handle_call(self, request: Any, from_: From) -> Any:
        if callable(request):
            return request(self, from_)
        self.log(("call", request))
        return request

    def handle_cast(self, request: Any) -> Any:
        if callable(request):
            return request(self)
        self.log(("cast", request))
        return None

    def handle_info(self, msg: Any) -> Any:
        self.log(("info", msg))
        return msg

    def handle_timeout(self) -> None:
        self.log("timeout")

    def terminate(self, reason: Any) -> None:
        self.log(("end", reason))


@pytest.fixture
def server(system: System, log: Log) -> Any:
    return Server.start(log, name="server")


@pytest.fixture(params=[*BLOCKING, LoopDispatcher], ids=name_of)
def clock(request: pytest.FixtureRequest) -> Iterator[Clock]:
    """The clock of the current system; in a simulation that is the simulation."""
    clock = Clock()
    with System(dispatcher=request.param(), clock=clock):
        yield clock


@pytest.fixture
def timed(clock: Clock, log: Log) -> Any:
    return Server.start(log)


def test_calls_casts_and_messages_reach_their_handlers_in_order(server: Any, log: Log) -> None:
    cast(server, 1)
    server.tell(2)
    assert call(server, 3, timeout=SOON) == 3
    assert server.ask(4, timeout=SOON) == 4
    assert log.rest() == [("cast", 1), ("info", 2), ("call", 3), ("call", 4)]


def test_a_name_stands_for_the_server(server: Any, log: Log) -> None:
    cast("server", 1)
    assert call("server", 2) == 2
    assert log.rest() == [("cast", 1), ("call", 2)]


def test_a_cast_never_fails_and_a_call_says_that_there_is_nobody(server: Any, system: System) -> None:
    server.stop()
    before = system.dead_letters.count
    cast(server, 1)
    cast("nobody", 2)
    assert system.dead_letters.count == before + 2
    for target in (server, "nobody"):
        with pytest.raises(ProcessDown) as down:
            call(target, 3)
        assert down.value.reason is NOPROC


def test_an_answer_may_come_later_and_from_anywhere_and_only_the_first_counts(server: Any, log: Log) -> None:
    def later(self: Server, from_: From) -> Any:
        log(from_)
        return NO_REPLY

    answer = server.ask(later, block=False)
    from_ = log.next()
    assert call(server, "meanwhile") == "meanwhile"
    assert not answer.done()
    from_.reply(42)
    from_.reply(43)
    assert answer.get(timeout=SOON) == 42


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_who_waits_learns_of_the_end_at_once(server: Any, log: Log, end: str) -> None:
    answer = server.ask(lambda self, from_: NO_REPLY, block=False)
    call(server, "it is kept")
    if end == "kill":
        exit(server, "kill")
    else:
        server.stop(timeout=SOON)
    with pytest.raises(ProcessDown) as down:
        answer.get(timeout=SOON)
    assert down.value.reason is (KILLED if end == "kill" else NORMAL)


def test_a_late_answer_is_dropped(server: Any, log: Log) -> None:
    def later(self: Server, from_: From) -> Any:
        log(from_)
        return NO_REPLY

    with pytest.raises(pykka.Timeout):
        call(server, later, timeout=0.0)
    log.next().reply("too late")
    assert call(server, "next") == "next"


def test_a_crash_in_a_call_ends_the_server_and_tells_the_caller(server: Any) -> None:
    error = ValueError("wrong")

    def crash(self: Server, from_: From) -> None:
        raise error

    with pytest.raises(ValueError, match="wrong"):
        call(server, crash, timeout=SOON)
    server.stop(timeout=SOON)
    assert server.exit_reason == Crash(error)


def test_a_refusal_is_only_for_the_caller(server: Any) -> None:
    def refuse(self: Server, from_: From) -> None:
        raise ReplyError("no")

    with pytest.raises(ReplyError):
        call(server, refuse, timeout=SOON)
    assert call(server, "alive") == "alive"


def test_stop_with_an_answer_cleans_up_first(server: Any, log: Log) -> None:
    assert call(server, lambda self, from_: Stop("done", reply=7), timeout=SOON) == 7
    assert log.rest() == [("end", "done")]
    server.stop(timeout=SOON)
    assert server.exit_reason == "done"


def test_an_exit_without_an_answer_is_what_the_caller_gets(server: Any) -> None:
    def leave(self: Server, from_: From) -> None:
        raise Exit(SHUTDOWN)

    with pytest.raises(ProcessDown) as down:
        call(server, leave, timeout=SOON)
    assert down.value.reason is SHUTDOWN


def test_every_other_handler_may_stop_the_server_too(system: System) -> None:
    class Leaver(GenServer):
        trap_exit = True

        def handle_cast(self, request: Any) -> None:
            if request == "continue":
                self.continue_()
            elif request == "monitor":
                self.monitor("nobody")
            else:
                self.link(dead)

        def handle_continue(self, arg: Any) -> Any:
            return Stop("by continue")

        def handle_down(self, down: Any) -> Any:
            return Stop("by monitor")

        def handle_exit(self, exit: Any) -> Any:
            return Stop("by link")

    dead = Process.start()
    dead.stop(timeout=SOON)
    for request in ("continue", "monitor", "link"):
        leaver = Leaver.start()
        cast(leaver, request)
        assert leaver.actor_stopped.wait(SOON)
        assert leaver.exit_reason == f"by {request}"


def test_a_cast_or_a_message_may_stop_the_server(server: Any, log: Log) -> None:
    other = Server.start(log)
    cast(server, lambda self: Stop("by cast"))
    other.tell(Stop("by message"))
    assert ("end", "by cast") in [log.next(), log.next(), log.next()]
    server.stop(timeout=SOON)
    other.stop(timeout=SOON)
    assert (server.exit_reason, other.exit_reason) == ("by cast", "by message")


def test_a_server_that_calls_itself_is_told_and_its_mailbox_stays_clean(server: Any, log: Log) -> None:
    def itself(self: Server, from_: From) -> str:
        with pytest.raises(CallingSelf):
            call("server", "never sent")
        return "told"

    assert call(server, itself, timeout=SOON) == "told"
    call(server, "last")
    assert log.rest() == [("call", "last")]


def test_what_is_not_handled_is_a_crash_but_a_message_is_only_logged(system: System) -> None:
    bare = GenServer.start()
    bare.tell("ignored")
    with pytest.raises(NotImplementedError):
        call(bare, 1, timeout=SOON)
    bare = GenServer.start()
    cast(bare, 1)
    bare.stop(timeout=SOON)
    assert isinstance(bare.exit_reason, Crash)


# --- idleness ---------------------------------------------------------------------------------------------------------


def arm(seconds: float | None) -> Any:
    return lambda self, from_: self.idle_timeout(seconds)


def test_idleness_is_told_after_its_time_and_once(timed: Any, clock: Clock, log: Log) -> None:
    call(timed, arm(5))
    clock.advance(4.9)
    clock.advance(0.1)
    assert log.next() == "timeout"
    clock.advance(100)
    call(timed, "x")
    assert log.rest() == [("call", "x")]


def test_any_message_ends_the_idleness(timed: Any, clock: Clock, log: Log) -> None:
    call(timed, arm(5))
    timed.tell("busy")
    assert log.next() == ("info", "busy")
    clock.advance(10)
    call(timed, "x")
    assert log.rest() == [("call", "x")]


def test_a_death_that_is_told_ends_the_idleness_too(timed: Any, clock: Clock, log: Log) -> None:
    other = Process.start()
    call(timed, lambda self, from_: self.monitor(other) and None)
    call(timed, arm(5))
    other.stop(timeout=SOON)
    call(timed, "x")
    clock.advance(10)
    call(timed, "y")
    assert log.rest() == [("call", "x"), ("call", "y")]


def test_a_signal_that_was_taken_back_does_not_end_the_idleness(timed: Any, clock: Clock, log: Log) -> None:
    dead = Process.start()
    dead.stop(timeout=SOON)

    def arm_with_a_death_waiting(self: Server, from_: From) -> None:
        self.demonitor(self.monitor(dead))
        self.idle_timeout(5)

    call(timed, arm_with_a_death_waiting)
    clock.advance(5)
    assert log.next() == "timeout"


@pytest.mark.parametrize("clock", BLOCKING, indirect=True, ids=name_of)
def test_a_task_that_was_awaited_does_not_end_the_idleness(timed: Any, clock: Clock, log: Log) -> None:
    tasks = TaskSupervisor.start()

    def arm_after_a_task(self: Server, from_: From) -> None:
        tasks.async_nolink(lambda: None).await_()
        self.idle_timeout(5)

    call(timed, arm_after_a_task)
    clock.advance(5)
    assert log.next() == "timeout"


def test_a_timeout_of_zero_waits_behind_what_is_there(timed: Any, clock: Clock, log: Log) -> None:
    def arm_with_a_message_waiting(self: Server, from_: From) -> None:
        self.ref.tell("waiting")
        self.idle_timeout(0)
        if (
            not simulated()
        ):  # where it may fire before the message is looked at, and no handler moves the time
            clock.advance(0)

    call(timed, arm_with_a_message_waiting)
    call(timed, "x")
    assert log.rest() == [("info", "waiting"), ("call", "x")]


def test_idleness_can_be_called_off_and_set_anew(timed: Any, clock: Clock, log: Log) -> None:
    call(timed, arm(1))
    call(timed, arm(None))
    clock.advance(2)
    call(timed, arm(5))
    call(timed, arm(1))
    clock.advance(1)
    assert log.next() == "timeout"
    call(timed, "x")
    assert log.rest() == [("call", "x")]


# --- operators --------------------------------------------------------------------------------------------------------


class Account(GenServer):
    def __init__(self) -> None:
        super().__init__()
        self.balance = 10
        self._limit = 5

    def handle_info(self, msg: Any) -> None:
        self.balance += msg

    def handle_call(self, request: Any, from_: From) -> int:
        return self.balance


def test_an_operator_sees_the_state(system: System) -> None:
    assert get_state(Account.start(name="account")) == {"balance": 10, "_limit": 5}
    assert get_state("account")["balance"] == 10


def test_a_suspended_server_keeps_its_messages_and_answers_operators(system: System) -> None:
    ref = Account.start()
    suspend(ref)
    ref.tell(5)
    answer = ref.ask("balance", block=False)
    assert get_state(ref)["balance"] == 10
    resume(ref)
    assert answer.get(timeout=SOON) == 15
    resume(ref)


@pytest.mark.parametrize("drains", [True, False])
def test_a_suspended_server_ends_with_its_parent_s_word_and_cleans_up(
    drains: bool, system: System, log: Log
) -> None:
    class Kept(GenServer):
        drain_on_shutdown = drains

        def terminate(self, reason: Any) -> None:
            log(reason)

    supervisor = Supervisor.start([child(Kept).replace(shutdown=SOON)])
    ref = supervisor.which_child(Kept).ref
    suspend(ref)
    ref.tell("waits")
    supervisor.terminate_child(Kept)
    assert log.rest() == [SHUTDOWN]
    assert ref.exit_reason is SHUTDOWN


def test_a_suspended_server_can_be_stopped_and_killed(system: System) -> None:
    for end in (lambda ref: ref.terminate(SHUTDOWN), lambda ref: exit(ref, "kill")):
        ref = Account.start()
        suspend(ref)
        answer = ref.ask("balance", block=False)
        end(ref)
        with pytest.raises(ProcessDown):
            answer.get(timeout=SOON)


def test_a_suspended_server_stops_when_it_is_resumed(system: System) -> None:
    ref = Account.start()
    suspend(ref)
    ref.tell(5)
    stopped = ref.stop(block=False)
    for _ in range(2):
        assert get_state(ref)["balance"] == 10
    assert not stopped.done()
    resume(ref)
    assert stopped.get(timeout=SOON)


def test_who_resumes_a_server_that_has_not_started_lets_nothing_in(system: System, log: Log) -> None:
    class Late(GenServer):
        trap_exit = True

        def init(self) -> Any:
            return DEFER_START

        def handle_exit(self, exit: Any) -> None:
            log(exit.reason)
            self.start_succeeded()

        def handle_info(self, msg: Any) -> None:
            log(msg)

    ref = Server.start(log).ask(lambda self, _: self.spawn(Late), timeout=SOON)
    ref.tell("early")
    resume(ref)
    exit(ref, "begin")
    assert log.take(2) == ["begin", "early"]


def test_a_trace_shows_messages_until_it_is_ended_and_disturbs_nobody(system: System) -> None:
    ref = Account.start()
    seen: list[Any] = []

    def observer(message: Any) -> None:
        seen.append(message)
        raise RuntimeError("in the observer")

    end = trace(ref, observer)
    ref.tell(1)
    assert call(ref, "balance") == 11
    end()
    assert call(ref, "again") == 11
    assert seen == [1, "balance"]
    ref.stop()
    end()


def test_a_trace_shows_what_handlers_get_and_no_timeouts(system: System, log: Log) -> None:
    class Idler(GenServer):
        def handle_cast(self, request: Any) -> None:
            self.idle_timeout(0.0)

        def handle_timeout(self) -> None:
            log("idle")

    ref = Idler.start()
    seen: list[Any] = []
    trace(ref, seen.append)
    cast(ref, ("idle", 1))
    assert log.take(1) == ["idle"]
    ref.tell("info")
    ref.stop()
    assert seen == [("idle", 1), "info"]


def test_an_operator_learns_that_there_is_nothing_to_look_at(system: System) -> None:
    ref = Account.start()
    ref.stop()
    with pytest.raises(ProcessDown):
        get_state(ref)
    with pytest.raises(SupervisorError, match="is not a GenServer"):
        get_state(Process.start())


def test_a_server_that_works_is_looked_at_after_its_handler() -> None:
    with System(dispatcher=PoolDispatcher(1)):
        entered, go = threading.Event(), threading.Event()

        class Busy(Account):
            def handle_info(self, msg: Any) -> None:
                entered.set()
                assert go.wait(SOON)
                super().handle_info(msg)

        ref = Busy.start()
        ref.tell(5)
        assert entered.wait(SOON)
        with pytest.raises(pykka.Timeout):
            get_state(ref, timeout=0.0)
        go.set()
        assert get_state(ref, timeout=SOON)["balance"] == 15


def test_who_is_looked_at_handles_no_request(system: System) -> None:
    class Busy(GenServer):
        def inspect_state(self) -> bool:
            return self.current_request is not None

    assert get_state(Busy.start()) is False
