"""How much waits, for how long, and what becomes of very much of it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pykka
import pytest

from supervisors import (
    NO_REPLY,
    GenServer,
    MailboxConfig,
    MailboxFull,
    MailboxLoad,
    ProcessDown,
    Report,
    Sim,
    Supervisor,
    System,
    ThreadDispatcher,
    Timeout,
    call,
    child,
    exit,
    resume,
    send,
    suspend,
)
from supervisors.process import Process
from tests.integration.supervisors.conftest import SOON, Echo, Log, beside


class Counting(GenServer):
    seen = 0

    def handle_call(self, request: Any, from_: Any) -> Any:
        return self.seen

    def handle_info(self, msg: Any) -> None:
        self.seen += 1


class Aged(Counting):
    mailbox = MailboxConfig(ages=True)


def test_a_mailbox_knows_how_much_has_waited_at_most(system: System) -> None:
    ref = Counting.start()
    suspend(ref)
    for n in range(5):
        ref.tell(n)
    assert ref.load() == MailboxLoad(waiting=5, high_water=5, oldest_age=None)
    resume(ref)
    assert call(ref, "how many?") == 5
    assert ref.load().waiting == 0
    assert ref.load().high_water in (5, 6), "the call itself may have waited behind them"
    assert ref.load().oldest_age == 0.0
    suspend(ref)
    for n in range(9):
        ref.tell(n)
    exit(ref, "kill")
    assert ref.load() == MailboxLoad(waiting=0, high_water=9, oldest_age=0.0)


@pytest.mark.parametrize("bounded", [False, True])
def test_the_oldest_age_is_that_of_the_message_that_waits_longest(bounded: bool) -> None:
    class Kept(Counting):
        mailbox = MailboxConfig(maxlen=10, policy="drop_old") if bounded else MailboxConfig(ages=True)

    with Sim() as sim:
        ref = Kept.start()
        assert ref.load().oldest_age == 0.0
        suspend(ref)
        ref.tell("first")
        sim.advance(3.0)
        ref.tell("second")
        sim.advance(4.0)
        assert ref.load() == MailboxLoad(waiting=2, high_water=2, oldest_age=7.0)
        if bounded:
            for n in range(9):
                ref.tell(n)
            assert ref.load().oldest_age == 4.0, "the oldest was dropped"
        resume(ref)
        sim.run_until_idle()
        assert ref.load().oldest_age == 0.0
        ref.tell("again")
        assert call(ref, "?") > 0
        assert ref.load().waiting == 0


def test_messages_that_no_limit_holds_up_are_counted_all_the_same() -> None:
    with Sim() as sim:
        ref = Aged.start()
        suspend(ref)
        ref.inform("a timer's")
        sim.advance(2.0)
        ref.stop(block=False)
        assert ref.load() == MailboxLoad(waiting=2, high_water=2, oldest_age=2.0)
        exit(ref, "kill")
        assert ref.load().oldest_age == 0.0


def test_a_plain_actor_has_a_load_too() -> None:
    entered, may = threading.Event(), threading.Event()

    class Plain(pykka.ThreadingActor):
        def on_receive(self, message: Any) -> None:
            entered.set()
            may.wait(SOON)

    with System():
        ref = Supervisor.start_link([Plain]).which_child(Plain).ref
        ref.tell(1)
        assert entered.wait(SOON)
        ref.tell(2)
        assert ref.load().waiting == 1
        may.set()


# --- awaiting ---------------------------------------------------------------------------------------------------------


@pytest.mark.real("an event loop")
def test_a_coroutine_asks_without_stopping_its_loop(system: System) -> None:
    async def ask_both() -> Any:
        ref = Echo.start()
        return await asyncio.gather(ref.aask(1), ref.aask(2, timeout=SOON))

    assert asyncio.run(ask_both()) == [1, 2]


@pytest.mark.real("an event loop")
def test_what_a_coroutine_awaits_may_fail_in_every_way(system: System) -> None:
    async def ask(message: Any, **options: Any) -> Any:
        return await Echo.start().aask(message, **options)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(ask(ZeroDivisionError()))
    with pytest.raises(TimeoutError, match="the handler's own"):
        asyncio.run(ask(TimeoutError("the handler's own"), timeout=SOON))

    async def ask_one_that_does_not_answer() -> Any:
        return await Echo.start().aask(lambda _self: NO_REPLY, timeout=0.01)

    with pytest.raises(pykka.Timeout):
        asyncio.run(ask_one_that_does_not_answer())

    async def ask_the_dead() -> Any:
        ref = Echo.start()
        exit(ref, "kill")
        return await ref.aask(1)

    with pytest.raises(ProcessDown):
        asyncio.run(ask_the_dead())


@pytest.mark.real("a sender that blocks")
def test_who_waits_for_room_is_woken_by_the_end_of_the_mailbox(blocking_system: System) -> None:
    class Full(Counting):
        mailbox = MailboxConfig(maxlen=1, policy="block", timeout=SOON)

    ref = Full.start()
    suspend(ref)
    ref.tell("fills it")
    waits = beside(lambda: ref.ask("waits"))
    limit = ref.actor_inbox.limit
    while not limit._waiting:
        threading.Event().wait(0.001)
    exit(ref, "kill")
    with pytest.raises(ProcessDown):
        waits.get(timeout=SOON)


@pytest.mark.real("an event loop")
def test_a_coroutine_never_waits_for_room_in_a_mailbox(blocking_system: System) -> None:
    class Full(Counting):
        mailbox = MailboxConfig(maxlen=1, policy="block")

    async def ask() -> Any:
        ref = Full.start()
        await asyncio.to_thread(suspend, ref)
        ref.tell("fills it")
        return await ref.aask(1)

    with pytest.raises(MailboxFull):
        asyncio.run(ask())


# --- news -------------------------------------------------------------------------------------------------------------


def test_a_dead_letter_is_a_report_without_the_message(system: System) -> None:
    reports: list[Report] = []
    unsubscribe = system.reports.subscribe(reports.append)
    ref = Echo.start()
    ref.stop()
    ref.send("a secret")
    send("nobody", "a secret")
    unsubscribe()
    ref.send("after that nobody listens")
    assert [(report.kind, report.ref) for report in reports] == [("dead_letter", ref), ("dead_letter", None)]
    assert "secret" not in repr(reports)
    assert "nobody" in reports[1].detail


def test_a_timer_may_be_set_for_a_point_in_time() -> None:
    with Sim() as sim:
        log: list[Any] = []

        class Waits(Process):
            def on_receive(self, message: Any) -> Any:
                return message(self) if callable(message) else log.append(message)

        ref = Waits.start()
        sim.advance(5.0)
        timer = ref.ask(lambda self: self.start_timer(8.0, self.ref, "later", absolute=True))
        assert timer.read() == 3.0
        sim.run_until_idle()
        assert log == [Timeout(timer, "later")]
        assert sim.now == 8.0


# --- very much --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "count",
    [pytest.param(1_000_000, marks=pytest.mark.slow), pytest.param(10_000_000, marks=pytest.mark.soak)],
    ids=["million", "ten-million"],
)
@pytest.mark.timeout(600)
def test_millions_of_messages_that_nobody_serves_hold_up_nobody(count: int) -> None:
    # The policy: an unbounded mailbox takes what it is sent. Who is killed with it leaves the system as quick as ever.
    with System() as system:
        sup = Supervisor.start_link(
            [child(Counting).replace(id=name, shutdown="brutal_kill") for name in ("full", "other")]
        )
        full, other = (sup.which_child(name).ref for name in ("full", "other"))
        suspend(full)
        first = full.ask("the first", block=False)
        for _ in range(count):
            full.tell(1)
        last = full.ask("the last", block=False)
        assert full.load().waiting >= count + 1, "one of them may be on its way from hand to hand"
        assert call(other, "how many?", timeout=SOON) == 0

        begun = time.monotonic()
        sup.terminate_child("full")
        took = time.monotonic() - begun
        assert took < 1.0, f"the kill took {took} s"
        assert call(sup.restart_child("full"), "how many?", timeout=SOON) == 0
        assert call(other, "how many?", timeout=SOON) == 0
        for request in (first, last):
            with pytest.raises(ProcessDown):
                request.get(timeout=60.0)
        end = time.monotonic() + 500.0
        while system.dead_letters.count < count and time.monotonic() < end:
            threading.Event().wait(0.01)
        assert system.dead_letters.count == count
        assert full.load().waiting == 0


def test_what_is_sent_while_a_long_queue_is_emptied_is_not_forgotten() -> None:
    with System() as system:
        ref = Counting.start()
        suspend(ref)
        for _ in range(50_000):
            ref.tell(1)
        sent = Log()
        senders = [
            threading.Thread(target=lambda: sent([ref.send(n) for n in range(2000)])) for _ in range(3)
        ]
        for sender in senders:
            sender.start()
        exit(ref, "kill")
        for sender in senders:
            sender.join(SOON)
        end = time.monotonic() + SOON
        while system.dead_letters.count < 56_000 and time.monotonic() < end:
            threading.Event().wait(0.005)
        assert system.dead_letters.count == 56_000


def test_of_a_suspended_server_too_the_oldest_message_is_dropped(system: System, log: Log) -> None:
    class Kept(GenServer):
        mailbox = MailboxConfig(maxlen=3, policy="drop_old")

        def handle_info(self, msg: Any) -> None:
            log(msg)

    ref = Kept.start()
    suspend(ref)
    for n in (None, *range(9)):
        ref.tell(n)
        suspend(ref)  # by the answer it has seen the message, and holds it
    assert ref.load().waiting == 3
    assert system.dead_letters.count == 7
    assert ref.load().high_water <= 4
    resume(ref)
    assert log.take(3) == [6, 7, 8]


def test_what_is_held_is_older_than_what_it_has_not_seen() -> None:
    class Kept(GenServer):
        mailbox = MailboxConfig(maxlen=2, policy="drop_old")

        def __init__(self) -> None:
            super().__init__()
            self.seen: list[Any] = []

        def handle_call(self, request: Any, from_: Any) -> Any:
            return self.seen

        def handle_info(self, msg: Any) -> None:
            self.seen.append(msg)

    with Sim() as sim:
        ref = Kept.start()
        suspend(ref)
        ref.tell("held")
        suspend(ref)
        for message in ("not seen", "new"):
            ref.tell(message)
        resume(ref)
        sim.run_until_idle()
        assert call(ref, "seen") == ["not seen", "new"]


def test_what_is_dropped_while_it_is_held_is_no_signal(system: System, log: Log) -> None:
    class Kept(GenServer):
        mailbox = MailboxConfig(maxlen=1, policy="drop_old")

        def handle_call(self, request: Any, from_: Any) -> Any:
            self.monitor(request)

        def handle_info(self, msg: Any) -> None:
            log(msg)

        def handle_down(self, down: Any) -> None:
            log("down")

    ref, other = Kept.start(), Process.start()
    call(ref, other)
    suspend(ref)
    exit(other, "kill")
    for n in range(3):
        ref.tell(n)
        suspend(ref)
    resume(ref)
    assert log.take(2) == ["down", 2]


@pytest.mark.real("what is counted are threads")
def test_threads_of_a_busy_moment_end_although_there_is_always_something_to_do() -> None:
    before = set(threading.enumerate())

    def ours() -> set[threading.Thread]:
        return set(threading.enumerate()) - before

    with System(dispatcher=ThreadDispatcher(linger=0.05)):
        together = threading.Barrier(20)
        answers = [Echo.start().ask(lambda _: together.wait(SOON), block=False) for _ in range(20)]
        for answer in answers:
            answer.get(timeout=SOON)
        ref, until = Echo.start(), time.monotonic() + SOON
        while len(ours()) > 2 and time.monotonic() < until:
            assert ref.ask("hello", timeout=SOON) == "hello"
        assert len(ours()) <= 2
