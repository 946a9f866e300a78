"""How a process begins, answers, and ends: on every dispatcher."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import pykka
import pytest

from supervisors.errors import AlreadyStarted, ProcessDown, ReplyError, StartError
from supervisors.process import (
    DEFER_START,
    IGNORE,
    NO_REPLY,
    OK,
    ChildStarted,
    ChildStartFailed,
    Process,
    Stop,
    exit,
)
from supervisors.reasons import KILLED, NOPROC, NORMAL, SHUTDOWN, Crash, Exit, Shutdown
from supervisors.runtime.launch import start_and_wait
from supervisors.runtime.names import Names, Via
from supervisors.runtime.system import System
from tests.integration.supervisors.conftest import SOON, Echo, Log, Watcher, beside, simulated


class Steps(Process):
    """Logs its life."""

    def __init__(self, log: Log, result: Any = None) -> None:
        super().__init__()
        self.log = log
        self.result = result

    def init(self) -> object:
        self.log("init")
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result

    def on_receive(self, message: Any) -> Any:
        self.log(message)
        if callable(message):
            return message(self)
        return message

    def handle_continue(self, arg: Any) -> None:
        self.log(("continue", arg))

    def terminate(self, reason: Any) -> None:
        self.log(("terminate", reason, self.ref.is_alive()))


# --- start ------------------------------------------------------------------------------------------------------------


class Answer:
    """One that can be watched."""


def test_start_returns_after_init_and_asks_are_answered(system: System, log: Log) -> None:
    ref = Steps.start(log)
    assert log.rest() == ["init"]
    assert ref.ask("hello", timeout=SOON) == "hello"
    assert ref.is_alive()
    assert ref.exit_reason is None


def test_init_may_ignore_the_start_and_nothing_is_left(system: System, log: Log) -> None:
    assert Steps.start(log, IGNORE, name="n") is IGNORE
    assert log.rest() == ["init"]
    assert system.whereis("n") is None
    assert system.processes() == []


def test_init_may_hand_information_to_the_starter(system: System, log: Log) -> None:
    ref, info = Steps.start(log, (OK, {"port": 80}))
    assert info == {"port": 80}
    assert ref.is_alive()


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (ValueError("no"), Crash),
        (ReplyError("no"), Crash),
        (Exit(Shutdown("later")), Shutdown),
        (42, tuple),
        (SystemExit(1), Crash),
    ],
    ids=["raises", "refuses", "exits", "garbage", "system exit"],
)
def test_a_failed_init_is_a_start_error_with_the_process_dead_and_its_name_free(
    system: System, log: Log, result: object, reason: type
) -> None:
    with pytest.raises(StartError) as failed:
        Steps.start(log, result, name="n")
    assert isinstance(failed.value.reason, reason)
    assert system.whereis("n") is None
    assert log.rest() == ["init"], "terminate is not called"


def test_a_constructor_that_raises_raises_in_the_caller(system: System) -> None:
    with pytest.raises(TypeError):
        Steps.start()
    assert system.processes() == []


def test_a_taken_name_fails_the_start_without_running_init(system: System, log: Log) -> None:
    first = Echo.start(name="n")
    with pytest.raises(AlreadyStarted) as taken:
        Steps.start(log, name="n")
    assert taken.value.ref is first
    assert system.whereis("n") is first
    assert log.rest() == []


def test_a_name_is_free_when_stop_returns(system: System) -> None:
    for _ in range(20):
        Echo.start(name="n").stop(timeout=SOON)


def test_messages_sent_before_the_start_is_over_are_handled_after_it(system: System, log: Log) -> None:
    class Eager(Steps):
        def __init__(self, log: Log) -> None:
            super().__init__(log)
            self.actor_ref.tell("early")
            self.init_ran = False

    ref = Eager.start(log)
    assert ref.ask("last", timeout=SOON) == "last"
    assert log.rest() == ["init", "early", "last"]


def test_a_deferred_start_holds_messages_until_it_succeeds(system: System, log: Log) -> None:
    class Slow(Steps):
        trap_exit = True

        def init(self) -> object:
            self.boss = self.log
            self.spawn(Echo, tag="child")
            return DEFER_START

        def handle_system(self, signal: Any) -> None:
            self.log(signal)
            self.ref.tell("waits")
            self.actor_ref.tell("waits too")
            self.send_after(0, self.ref, "timer waits too")
            self.child = signal.ref
            exit(self.child, "kill")

        def handle_exit(self, exit: Any) -> None:
            self.log(exit)
            self.start_succeeded("info")

    ref, info = Slow.start(log)
    assert info == "info"
    assert isinstance(log.next(), ChildStarted)
    assert log.next().reason is KILLED
    assert [log.next(), log.next()] == ["waits", "waits too"]
    assert ref.is_alive()


@pytest.mark.parametrize("way", ["failed", "ignored", "killed", "shut down"])
def test_a_deferred_start_can_end_in_every_other_way(system: System, log: Log, way: str) -> None:
    class Slow(Steps):
        def init(self) -> object:
            self.spawn(Echo)
            return DEFER_START

        def handle_system(self, signal: Any) -> None:
            match way:
                case "failed":
                    self.start_failed("why")
                case "ignored":
                    self.start_ignored()
                case "killed":
                    exit(self.ref, "kill")
                case _:
                    exit(self.ref, SHUTDOWN)

    if way == "ignored":
        assert Slow.start(log) is IGNORE
    else:
        with pytest.raises(StartError) as failed:
            Slow.start(log)
        assert failed.value.reason in {"why", KILLED, SHUTDOWN}
    assert log.rest() == []


def test_continue_runs_before_messages_and_may_chain(system: System, log: Log) -> None:
    class Chain(Steps):
        def init(self) -> object:
            self.ref.tell("message")
            self.continue_(1)
            return None

        def handle_continue(self, arg: Any) -> None:
            super().handle_continue(arg)
            if arg < 3:
                self.continue_(arg + 1)

    ref = Chain.start(log)
    ref.ask("end", timeout=SOON)
    assert log.rest() == [("continue", 1), ("continue", 2), ("continue", 3), "message", "end"]


def test_continue_runs_before_messages_also_after_a_refusal(system: System, log: Log) -> None:
    class Steps(Echo):
        def handle_continue(self, arg: Any) -> None:
            log(arg)
            if arg:
                self.continue_(arg - 1)
                raise ReplyError("one at a time")

    def refuse(self: Process) -> None:
        self.continue_(50)
        raise ReplyError("no")

    ref = Steps.start()
    answer = ref.ask(refuse, block=False)
    ref.tell(lambda _: log("the next message"))
    with pytest.raises(ReplyError):
        answer.get(timeout=SOON)
    assert log.take(52) == [*range(50, -1, -1), "the next message"]
    assert ref.is_alive()


def test_a_crash_in_the_first_continue_is_no_start_failure(system: System, log: Log) -> None:
    class Late(Echo):
        def init(self) -> object:
            self.continue_()
            return None

        def handle_continue(self, arg: Any) -> None:
            raise ValueError("late")

    ref = Late.start(on_exit=log)
    reason = log.next()
    assert isinstance(reason, Crash)
    assert ref.exit_reason is reason


# --- asks -------------------------------------------------------------------------------------------------------------


def test_an_exception_in_an_ask_reaches_the_caller_and_ends_the_process(system: System, log: Log) -> None:
    ref = Echo.start(on_exit=log)
    error = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        ref.ask(error, timeout=SOON)
    assert log.next() == Crash(error)
    with pytest.raises(ProcessDown) as down:
        ref.ask("again")
    assert down.value.reason is NOPROC


def test_a_refusal_reaches_the_caller_and_the_process_lives(system: System) -> None:
    class Strict(Echo):
        reply_errors = (KeyError,)

    ref = Strict.start()
    with pytest.raises(ReplyError):
        ref.ask(ReplyError("no"), timeout=SOON)
    with pytest.raises(KeyError):
        ref.ask(KeyError("k"), timeout=SOON)
    ref.tell(ReplyError("nobody waits"))
    assert ref.ask(1, timeout=SOON) == 1


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_an_exception_meant_for_the_interpreter_ends_only_its_process(
    system: System, error: BaseException
) -> None:
    bystander, ref = Echo.start(), Echo.start()
    with pytest.raises(ProcessDown) as down:
        ref.ask(error, timeout=SOON)
    assert down.value.reason == Crash(error)
    assert bystander.ask(1, timeout=SOON) == 1


def test_exit_in_a_handler_is_the_reason_the_asker_sees(system: System) -> None:
    ref = Echo.start()
    with pytest.raises(ProcessDown) as down:
        ref.ask(lambda self: self.exit("enough"), timeout=SOON)
    assert down.value.reason == "enough"
    assert isinstance(down.value, pykka.ActorDeadError)


def test_stop_with_a_reply_terminates_before_the_reply_is_seen(system: System, log: Log) -> None:
    ref = Steps.start(log)
    assert ref.ask(lambda self: Stop(NORMAL, reply="bye"), timeout=SOON) == "bye"
    assert log.rest()[-1] == ("terminate", NORMAL, False)


def test_a_deferred_reply_can_come_from_another_thread_and_counts_once(system: System) -> None:
    kept: list[Any] = []

    def keep(self: Process) -> Any:
        kept.append(self.current_request)
        return NO_REPLY

    ref = Echo.start()
    future = ref.ask(keep, block=False)
    assert ref.ask("meanwhile", timeout=SOON) == "meanwhile"
    replied = beside(lambda: (kept[0].reply("late"), kept[0].reply("later")))
    assert future.get(timeout=SOON) == "late"
    replied.get(timeout=SOON)
    assert future.late == 1


@pytest.mark.parametrize("end", ["stop", "crash", "kill"])
def test_open_requests_fail_when_their_process_ends(system: System, end: str) -> None:
    ref = Echo.start()
    future = ref.ask(lambda self: NO_REPLY, block=False)
    match end:
        case "stop":
            ref.stop(timeout=SOON)
        case "crash":
            ref.tell(ValueError("crash"))
        case _:
            exit(ref, "kill")
    with pytest.raises(ProcessDown) as down:
        future.get(timeout=SOON)
    assert down.value.reason == ref.exit_reason


def test_a_request_that_everybody_has_let_go_of_is_forgotten(system: System) -> None:
    ref = Echo.start()
    with pytest.raises(pykka.Timeout):
        ref.ask(lambda self: NO_REPLY, timeout=0.0)
    for _ in range(3):
        ref.ask(lambda self: NO_REPLY, block=False)
    held = ref.ask(lambda self: NO_REPLY, block=False)
    assert ref.ask(lambda self: len(self._actor_owed), timeout=SOON) == 1
    ref.stop(timeout=SOON)
    with pytest.raises(ProcessDown):
        held.get(timeout=SOON)


def test_a_thread_keeps_nothing_of_a_wait_that_is_over(system: System) -> None:
    gone = threading.Event()
    weakref.finalize(Echo.start().ask(lambda self: Answer(), timeout=SOON), gone.set)
    assert gone.wait(SOON)


@pytest.mark.parametrize("fails", [False, True], ids=["answered", "failed"])
def test_a_request_that_somebody_may_still_answer_is_not(system: System, log: Log, fails: bool) -> None:
    ref = Echo.start()
    ref.ask(lambda self: log(self.current_request) or NO_REPLY, block=False)
    request = log.next()
    assert ref.ask(lambda self: len(self._actor_owed), timeout=SOON) == 1
    request.fail(ValueError("no")) if fails else request.reply()
    assert ref.ask(lambda self: len(self._actor_owed), timeout=SOON) == 0


def test_what_was_left_on_a_request_is_called_when_its_process_ends(system: System, log: Log) -> None:
    ref = Echo.start()
    ref.ask(lambda self: NO_REPLY, block=False).add_done_callback(lambda answer: log(answer.error))
    assert ref.ask("meanwhile", timeout=SOON) == "meanwhile"
    ref.stop(timeout=SOON)
    down = log.next()
    assert isinstance(down, ProcessDown)
    assert down.reason is NORMAL


def test_an_ask_that_takes_too_long_times_out_and_its_late_answer_is_dropped(system: System) -> None:
    kept: list[Any] = []
    ref = Echo.start()
    with pytest.raises(pykka.Timeout):
        ref.ask(lambda self: (kept.append(self.current_request), NO_REPLY)[1], timeout=0.01)
    ref.ask(lambda self: kept[0].reply("late"), timeout=SOON)
    assert ref.ask("next", timeout=SOON) == "next"


def test_proxies_work(system: System) -> None:
    class Adder(Process):
        total = 0

        def add(self, n: int) -> int:
            self.total += n
            return self.total

    proxy = Adder.start().proxy()
    proxy.add(1)
    assert proxy.add(2).get(timeout=SOON) == 3
    assert proxy.total.get(timeout=SOON) == 3


# --- the end ----------------------------------------------------------------------------------------------------------


def test_stop_lets_earlier_messages_be_handled_first(system: System, log: Log) -> None:
    ref = Steps.start(log)
    for n in range(100):
        ref.tell(n)
    assert ref.stop(timeout=SOON) is True
    assert log.rest() == ["init", *range(100), ("terminate", NORMAL, False)]
    assert ref.stop(timeout=SOON) is False
    assert ref.exit_reason is NORMAL


def test_who_stops_what_is_about_to_end_waits_for_its_end(system: System, log: Log) -> None:
    class Ending(Echo):
        def terminate(self, reason: Any) -> None:
            log(self.ref.stop(block=False))

    ref = Ending.start()
    assert ref.stop(timeout=SOON)
    assert log.next().get(timeout=SOON) is True
    assert ref.stop(timeout=SOON) is False


def test_shutdown_overtakes_messages_unless_the_class_wants_to_drain(system: System, log: Log) -> None:
    class Drains(Steps):
        drain_on_shutdown = True

    def flood(self: Process) -> None:
        for n in range(3):
            self.ref.tell(n)
        self.ref.terminate(SHUTDOWN)

    for cls, handled in ((Steps, []), (Drains, [0, 1, 2])):
        ref = cls.start(log, on_exit=log)
        ref.tell(flood)
        assert log.next() == "init"
        assert log.next() is flood
        assert [log.next() for _ in handled] == handled
        assert log.next() == ("terminate", SHUTDOWN, False)
        assert log.next() is SHUTDOWN


def test_what_was_queued_fails_or_becomes_a_dead_letter(system: System, log: Log) -> None:
    system.dead_letters.subscribe(lambda letter: log(letter.message))

    def queue_and_exit(self: Process) -> None:
        futures.append(self.ref.ask("never", block=False))
        self.ref.tell("letter")
        self.exit("why")

    futures: list[Any] = []
    ref = Echo.start()
    with pytest.raises(ProcessDown):
        ref.ask(queue_and_exit, timeout=SOON)
    assert log.next() == "letter"
    with pytest.raises(ProcessDown) as down:
        futures[0].get(timeout=SOON)
    assert down.value.reason == "why"
    assert system.dead_letters.count == 1
    assert ref.send("too late") is False
    assert log.next() == "too late"


class HalfMade(Exception):
    """Has nothing yet of what its repr shows."""

    def __repr__(self) -> str:
        return f"<HalfMade {self.name}>"  # type: ignore[attr-defined]


def test_a_death_is_told_also_where_its_reason_cannot_be_shown(system: System, log: Log) -> None:
    def fail(self: Process) -> None:
        log(self.ref.ask("queued", block=False))
        raise HalfMade

    ref = Echo.start(name="n", on_exit=log)
    asked, queued = ref.ask(fail, block=False), log.next()
    with pytest.raises(HalfMade):
        asked.get(timeout=SOON)
    with pytest.raises(ProcessDown, match="cannot be shown"):
        queued.get(timeout=SOON)
    assert isinstance(log.next(), Crash)
    assert system.whereis("n") is None


def test_a_death_is_told_also_where_it_cannot_be_reported(
    system: System, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_report(_report: Any) -> None:
        raise OSError("the log is full")

    system.reports.subscribe(log)
    monkeypatch.setattr(system.reports, "emit", no_report)
    ref = Echo.start(name="n", on_exit=log)
    ref.tell(ValueError())
    assert isinstance(log.next(), Crash)
    assert system.whereis("n") is None


def test_terminate_that_fails_changes_nothing(system: System, log: Log) -> None:
    class Bad(Echo):
        def terminate(self, reason: Any) -> None:
            raise ValueError("in terminate")

    ref = Bad.start(on_exit=log)
    ref.stop(timeout=SOON)
    assert log.next() is NORMAL


def test_pykkas_hooks_are_called(system: System, log: Log) -> None:
    class Hooks(Echo):
        def on_start(self) -> None:
            log("start")

        def on_stop(self) -> None:
            log("stop")

        def on_failure(self, *exc: Any) -> None:
            log(exc[0])

    Hooks.start().stop(timeout=SOON)
    Hooks.start().tell(ValueError("crash"))
    assert [log.next() for _ in range(4)] == ["start", "stop", "start", ValueError]


def test_exit_callbacks_run_once_dead_also_when_added_late(system: System, log: Log) -> None:
    ref = Echo.start(on_exit=lambda reason: log((reason, ref.is_alive())), name="n")
    ref.stop(timeout=SOON)
    assert log.next() == (NORMAL, False)
    ref.add_exit_callback(log)
    assert log.next() is NORMAL


def test_stopping_the_system_stops_roots_newest_first_and_children_with_them(
    system: System, log: Log
) -> None:
    class Parent(Steps):
        def init(self) -> object:
            self.spawn(Steps, (self.log,), tag=1)
            return None

        def handle_system(self, signal: Any) -> None:
            self.log("child started")

    first = Steps.start(lambda item: None)
    first.add_exit_callback(lambda reason: log("first"))
    second = Parent.start(log)
    while log.next() != "child started":
        pass
    second.add_exit_callback(lambda reason: log("second"))
    system.stop()
    happened = [item for item in log.rest() if isinstance(item, str)]
    assert happened.index("second") < happened.index("first")
    assert system.processes() == []
    assert first.exit_reason is SHUTDOWN


def test_a_process_of_a_stopped_system_cannot_be_started(system: System) -> None:
    system.stop()
    with pytest.raises(Exception, match="stopped"):
        Echo.start()


def test_spawn_tells_the_outcome_and_the_exit_after_it(system: System, log: Log) -> None:
    watcher = Watcher.start(log)
    child = watcher.ask(lambda self: self.spawn(Steps, (Log(), (OK, 7)), tag="t", name="n"), timeout=SOON)
    assert log.next() == ChildStarted("t", child, 7)
    exit(child, "kill")
    exited = log.next()
    assert (exited.ref, exited.reason) == (child, KILLED)
    assert watcher.ask(lambda self: self.spawn(Steps, (), tag="bad"), timeout=SOON) is None
    failed = log.next()
    assert isinstance(failed, ChildStartFailed)
    assert failed.ref is None


def test_a_child_that_fails_to_start_sends_no_exit(system: System, log: Log) -> None:
    watcher = Watcher.start(log)
    child = watcher.ask(lambda self: self.spawn(Steps, (Log(), ValueError("no")), tag=1), timeout=SOON)
    failed = log.next()
    assert (failed.tag, failed.ref) == (1, child)
    assert isinstance(failed.reason, Crash)
    watcher.ask("sync", timeout=SOON)
    assert log.rest() == ["sync"]


@pytest.mark.parametrize("end", ["stop", "kill", "crash"])
def test_no_orphans_a_parents_end_shuts_its_children_down(system: System, log: Log, end: str) -> None:
    def family(self: Watcher) -> Any:
        return self.spawn(Watcher, (log,), tag="child")

    parent = Watcher.start(log)
    child = parent.ask(family, timeout=SOON)
    log.next()
    grandchild = child.ask(family, timeout=SOON)
    log.next()
    grandchild.add_exit_callback(log)
    if end == "stop":
        parent.stop(timeout=SOON)
    elif end == "kill":
        exit(parent, "kill")
    else:
        parent.tell(lambda self: 1 / 0)
    assert log.next() is SHUTDOWN
    assert child.exit_reason is SHUTDOWN


def test_no_orphans_in_however_many_generations(system: System) -> None:
    family: list[Any] = [Echo.start()]
    for _ in range(40 if simulated() else 200):
        family.append(start_and_wait(Echo, (), {}, parent=family[-1]))
    family[0].stop(timeout=SOON)
    assert all(each.actor_stopped.wait(SOON) for each in family)
    assert [each.exit_reason for each in family] == [NORMAL] + [SHUTDOWN] * (len(family) - 1)
    assert system.processes() == []


def test_a_process_may_make_a_proxy_of_itself_before_it_begins(system: System) -> None:
    class Selfish(Process):
        def __init__(self) -> None:
            super().__init__()
            self.later = self.actor_ref.proxy()
            self.done = 0

        def work(self) -> int:
            self.done += 1
            return self.done

        def plan(self) -> None:
            self.later.work()

    proxy = Selfish.start().proxy()
    proxy.plan().get(timeout=SOON)
    assert proxy.work().get(timeout=SOON) == 2


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_a_process_that_is_ended_before_it_begins_never_begins(system: System, end: str) -> None:
    class Doomed(Process):
        def __init__(self) -> None:
            super().__init__()
            if end == "kill":
                exit(self.ref, "kill")
            else:
                self.ref.terminate(SHUTDOWN)

    if end == "kill":
        with pytest.raises(StartError) as failed:
            Doomed.start(name="doomed")
        assert failed.value.reason is KILLED
    else:
        ref = Doomed.start(name="doomed")
        ref.stop(timeout=SOON)
        assert ref.exit_reason is SHUTDOWN
    assert system.processes() == []
    assert system.whereis("doomed") is None


def test_a_start_that_succeeds_while_the_process_is_being_buried_has_failed(system: System, log: Log) -> None:
    class Slow(Names):
        def unregister(self, key: Any, ref: Any = None) -> None:
            doomed._actor_started(None)  # its `init` returns in this instant, on a thread of its own
            super().unregister(key, ref)

    class Deferred(Process):
        def init(self) -> Any:
            log(self)
            return DEFER_START

    names = Slow()
    start = beside(lambda: Deferred.start(name=Via(names, "x")))
    doomed = log.next()
    exit(doomed.ref, "kill")
    with pytest.raises(StartError) as failed:
        start.get(timeout=SOON)
    assert failed.value.reason is KILLED
    assert names.names() == []


def test_a_process_that_is_killed_while_it_claims_its_name_never_begins(system: System) -> None:
    class Slow(Names):
        def register(self, key: Any, ref: Any) -> bool:
            beside(ref.kill).get(timeout=SOON)
            return super().register(key, ref)

    class Doomed(Process):
        def init(self) -> None:
            pytest.fail("it is dead")

    names = Slow()
    with pytest.raises(StartError) as failed:
        Doomed.start(name=Via(names, "x"))
    assert failed.value.reason is KILLED
    assert names.names() == system.processes() == []


# --- what Pykka's users know ----------------------------------------------------------------------------------


def test_the_stop_flag_can_be_asked_and_waited_for(system: System) -> None:
    ref = Echo.start()
    flag = ref.actor_stopped
    assert not flag.is_set()
    assert flag.wait(0.01) is False
    ref.stop(block=False)
    assert flag.wait(SOON) is True
    assert flag.is_set()
    assert ref.actor_stopped.wait(SOON) is True


def test_what_ends_a_process_is_logged_in_pykkas_words(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="supervisors")
    ref = Echo.start()
    with pytest.raises(ReplyError):
        ref.ask(ReplyError("not now"))
    with pytest.raises(LookupError):
        ref.ask(LookupError("no such thing"))
    assert ref.actor_stopped.wait(SOON)
    with pytest.raises(ProcessDown, match=f"{ref} not found"):
        ref.tell("anybody there?")
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert ("INFO", f"Exception returned from {ref} to caller:") in said
    assert ("ERROR", f"Unhandled exception in {ref}:") in said
