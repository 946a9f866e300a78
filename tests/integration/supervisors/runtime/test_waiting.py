"""Waiting: no ask hangs, no pool starves, no circle of waits stands, and an event loop is never held up."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

from supervisors.errors import CallingSelf, Deadlock, MailboxFull, ProcessDown, WouldBlock
from supervisors.process import NO_REPLY, MailboxConfig, Process, exit
from supervisors.reasons import SHUTDOWN
from supervisors.runtime.loop import LoopDispatcher
from supervisors.runtime.pool import PoolDispatcher
from supervisors.runtime.system import System
from supervisors.testing import Event
from tests.integration.supervisors.conftest import SOON, Echo, Log, Watcher, beside, often, simulated


class Answering(Process):
    """Answers "work", or has it answered, and asks its asker something, before that one has woken up."""

    def __init__(self, log: Log, helper: Any = None) -> None:
        super().__init__()
        self.log, self.helper = log, helper

    def on_receive(self, message: Any) -> Any:
        if self.helper is None:
            self.current_request.reply("done")  # type: ignore[union-attr]
            self.ask_back(message)
        elif self.current_request is None:
            self.ask_back(message)
        else:
            self.helper.tell([self.current_request])
            self.ref.tell(message)
        return NO_REPLY

    def ask_back(self, asker: Any) -> None:
        """What the asker says, or why it cannot be asked."""
        try:
            self.log(asker.ask("how are you?", timeout=SOON))
        except Deadlock as error:
            self.log(error)


class Replying(Process):
    def on_receive(self, requests: Any) -> None:
        for request in requests:
            request.reply("done")


@pytest.mark.parametrize("helped", [False, True])
def test_whoever_has_an_answer_or_will_have_it_from_another_is_in_no_circle(
    blocking_system: System, log: Log, helped: bool
) -> None:
    for _ in often(20):
        asker = Echo.start()
        asked = Answering.start(log, Replying.start() if helped else None)
        answer = asker.ask(lambda self: asked.ask(self.ref, timeout=SOON), block=False)  # noqa: B023
        assert answer.get(timeout=SOON) == "done"
        assert log.next() == "how are you?"


@pytest.mark.usefixtures("_eager_switching")
@pytest.mark.parametrize("end", ["stop", "kill", "crash"])
def test_no_ask_hangs_however_it_races_with_the_end(system: System, end: str) -> None:
    def ask_much(ref: Any) -> None:
        futures = [ref.ask(n, block=False) for n in range(4 if simulated() else 50)]
        for future in futures:
            try:
                future.get(timeout=SOON)  # a `pykka.Timeout` is nobody's answer
            except ProcessDown:
                pass

    for _ in often(25):
        ref = Echo.start()
        askers = [beside(partial(ask_much, ref)) for _ in range(3)]
        match end:
            case "stop":
                ref.stop(timeout=SOON)
            case "kill":
                exit(ref, "kill")
            case _:
                ref.ask(lambda self: self.ref.tell(ValueError("crash")), timeout=SOON)
        assert [asker.get(timeout=SOON) for asker in askers] == [None] * 3


@pytest.mark.usefixtures("_eager_switching")
def test_every_tell_is_handled_or_becomes_a_dead_letter(system: System) -> None:
    class Sum(Process):
        total = 0

        def on_receive(self, message: int) -> int:
            Sum.total += 1
            return 0

    sent = 0

    def tell_much(ref: Any) -> int:
        mine = 0
        try:
            for n in range(4 if simulated() else 200):
                ref.tell(n)
                mine += 1
        except ProcessDown:
            pass
        return mine

    for _ in often(20):
        ref = Sum.start()
        tellers = [beside(partial(tell_much, ref)) for _ in range(3)]
        ref.stop(timeout=SOON)
        sent += sum(teller.get(timeout=SOON) for teller in tellers)
    assert Sum.total + system.dead_letters.count == sent


def test_messages_of_one_sender_keep_their_order_and_run_one_at_a_time(system: System) -> None:
    class Ordered(Process):
        def __init__(self) -> None:
            super().__init__()
            self.seen: dict[int, int] = {}
            self.inside = 0

        def on_receive(self, message: Any) -> Any:
            self.inside += 1
            assert self.inside == 1
            sender, n = message
            assert n == self.seen.get(sender, -1) + 1
            self.seen[sender] = n
            self.inside -= 1
            return n

    ref = Ordered.start()
    count = 4 if simulated() else 500
    senders = [beside(lambda s=s: [ref.tell((s, n)) for n in range(count)]) for s in range(4)]
    for sender in senders:
        sender.get(timeout=SOON)
    assert ref.ask((4, 0), timeout=SOON) == 0


# --- waiting inside a handler -----------------------------------------------------------------------------------------


def test_asking_oneself_is_an_error_at_once(blocking_system: System) -> None:
    ref = Echo.start()
    with pytest.raises(CallingSelf):
        ref.ask(lambda self: self.ref.ask("me"), timeout=SOON)


def test_a_circle_of_asks_is_an_error_in_the_last_one(blocking_system: System) -> None:
    refs = [Echo.start() for _ in range(3)]

    def ask_next(self: Process) -> Any:
        following = refs[(refs.index(self.ref) + 1) % 3]
        return following.ask(ask_next)

    with pytest.raises(Deadlock) as deadlock:
        refs[0].ask(ask_next, timeout=SOON)
    assert deadlock.value.cycle[0] is deadlock.value.cycle[-1]
    assert len(deadlock.value.cycle) == 4


def test_a_wait_without_a_thread_closes_circles_too(blocking_system: System) -> None:
    boss, child = Echo.start(), Echo.start()
    boss.ask(lambda self: self.waits_for(child), timeout=SOON)
    with pytest.raises(Deadlock):
        child.ask(lambda self: boss.ask(lambda self: NO_REPLY), timeout=SOON)
    boss.ask(lambda self: self.waits_for(None), timeout=SOON)
    assert boss.ask(1, timeout=SOON) == 1


def test_a_pool_serves_others_while_its_handlers_wait() -> None:
    with System(dispatcher=PoolDispatcher(1)):
        depth = 40
        refs = [Echo.start() for _ in range(depth)]

        def down(n: int) -> Any:
            return lambda self: n if n == depth - 1 else refs[n + 1].ask(down(n + 1))

        for _ in range(3):
            assert refs[0].ask(down(0), timeout=SOON) == depth - 1


def test_a_pool_that_may_not_grow_still_answers_when_it_can() -> None:
    with System(dispatcher=PoolDispatcher(1, max_extra=1)):
        inner, outer = Echo.start(), Echo.start()
        assert outer.ask(lambda self: inner.ask(7), timeout=SOON) == 7


@pytest.mark.parametrize("max_extra", [0, 1, 3])
def test_a_pool_whose_threads_all_wait_for_its_own_work_goes_on_and_says_so_once(
    max_extra: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", logger="supervisors")
    with System(dispatcher=PoolDispatcher(1, max_extra=max_extra)):
        last = Echo.start()
        server = Echo.start()
        clients = [Echo.start() for _ in range(20)]
        for _ in range(2):
            answers = [
                client.ask(lambda _: server.ask(lambda _: last.ask(7)), block=False) for client in clients
            ]
            assert [answer.get(timeout=SOON) for answer in answers] == [7] * 20
    assert sum("max_extra" in record.getMessage() for record in caplog.records) == 1


def test_a_pool_that_has_grown_as_far_as_it_may_grows_no_further_while_a_thread_of_it_works() -> None:
    with System(dispatcher=PoolDispatcher(2, max_extra=0)):
        before = len(_pool_threads())
        gate, entered = threading.Event(), threading.Semaphore(0)

        def block(self: Process) -> None:
            with self.blocking():
                entered.release()
                gate.wait(SOON)

        def work(_: Process) -> None:
            entered.release()
            gate.wait(SOON)

        Echo.start().tell(work)  # does not say that it waits
        assert entered.acquire(timeout=SOON)
        Echo.start().tell(block)
        assert entered.acquire(timeout=SOON)
        waiting = Echo.start().ask(1, block=False)
        assert len(_pool_threads()) - before == 2
        gate.set()
        assert waiting.get(timeout=SOON) == 1


def _pool_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("supervisors-pool")]


def test_surplus_threads_of_a_pool_end() -> None:
    pool = PoolDispatcher(1, linger=0.01)
    with System(dispatcher=pool):
        gate = threading.Event()
        entered = threading.Semaphore(0)

        def block(self: Process) -> None:
            with self.blocking():
                entered.release()
                gate.wait(SOON)

        for _ in range(5):
            Echo.start().tell(block)
        for _ in range(5):
            assert entered.acquire(timeout=SOON)
        workers = _pool_threads()
        assert len(workers) >= 5
        gate.set()
        ref = Echo.start()
        for _ in range(20_000):
            if sum(each.is_alive() for each in workers) <= 1:
                break
            ref.ask(1, timeout=SOON)  # gives surplus workers something to notice it at
        assert sum(each.is_alive() for each in workers) <= 1
        assert ref.ask(1, timeout=SOON) == 1


def test_a_start_inside_a_handler_works_on_a_pool_of_one() -> None:
    class Slow(Echo):
        def init(self) -> object:
            return None

    with System(dispatcher=PoolDispatcher(1)):
        ref = Echo.start()
        child = ref.ask(lambda self: Slow.start_link(), timeout=SOON)
        assert child.parent is ref
        ref.stop(timeout=SOON)


# --- event loops ------------------------------------------------------------------------------------------------------


def test_a_handler_on_a_loop_may_not_wait() -> None:
    with System(dispatcher=LoopDispatcher()):
        other, ref = Echo.start(), Echo.start()
        with pytest.raises(WouldBlock):
            ref.ask(lambda self: other.ask(1), timeout=SOON)


@pytest.mark.real("an event loop waits without the simulation")
def test_awaiting_an_answer_does_not_hold_up_the_loop(system: System) -> None:
    async def main() -> None:
        ref = Echo.start()
        kept: list[Any] = []
        later = ref.ask(lambda self: (kept.append(self.current_request), NO_REPLY)[1], block=False)
        assert await ref.ask(1, block=False) == 1
        ticks = asyncio.create_task(asyncio.sleep(0))
        waiting = asyncio.ensure_future(answer(later))
        await ticks
        assert not waiting.done()
        kept[0].reply("now")
        assert await waiting == "now"
        assert await ref.ask(2, block=False).map(lambda n: n * 2) == 4
        with pytest.raises(ProcessDown):
            await ref.ask(lambda self: self.exit("x"), block=False)
        assert await ref.stop(block=False) in {True, False}

    asyncio.run(asyncio.wait_for(main(), SOON))


async def answer(future: Any) -> Any:
    return await future


def test_processes_share_a_given_loop_with_its_tasks(log: Log) -> None:
    class Fetcher(Process):
        def on_receive(self, message: Any) -> Any:
            request = self.current_request
            assert request is not None

            async def fetch() -> None:
                await asyncio.sleep(0)
                request.reply(("fetched", message))

            self.task = asyncio.get_running_loop().create_task(fetch())
            return NO_REPLY

    async def main() -> None:
        with System(dispatcher=LoopDispatcher(asyncio.get_running_loop())) as system:
            ref = Fetcher.start()
            assert await ref.ask(1, block=False) == ("fetched", 1)
            with pytest.raises(WouldBlock):
                ref.ask(2)
            log(await ref.stop(block=False))
            assert system.processes() == []

    asyncio.run(asyncio.wait_for(main(), SOON))
    assert log.next() is True


def test_a_system_on_a_given_loop_can_be_stopped_from_that_loop() -> None:
    async def main() -> Any:
        async with System(dispatcher=LoopDispatcher(asyncio.get_running_loop())):
            ref = Echo.start()
            assert await ref.ask(1, block=False) == 1
        return ref.exit_reason

    assert asyncio.run(asyncio.wait_for(main(), SOON)) is SHUTDOWN


@pytest.mark.parametrize("time_slice", [0.0001, 0.001, 0.005])
def test_a_flooded_process_holds_up_neither_the_loop_nor_other_threads(time_slice: float) -> None:
    loops = LoopDispatcher(time_slice=time_slice)
    with System(dispatcher=loops):
        again = threading.Event()

        def flood(self: Process) -> None:
            if not again.is_set():
                self.ref.tell(flood)

        ref = Echo.start()
        ref.tell(flood)
        ran = threading.Event()
        loops.loop.call_soon_threadsafe(loops.loop.call_later, 0.001, ran.set)
        assert ran.wait(SOON)
        other = Echo.start()
        for n in range(20):  # each needs the interpreter's lock, which a busy loop may keep for minutes
            assert other.ask(n, timeout=SOON) == n
        again.set()


# --- bounded mailboxes ------------------------------------------------------------------------------------------------


def bounded(policy: str, timeout: float | None = None) -> type[Echo]:
    class Bounded(Echo):
        mailbox = MailboxConfig(maxlen=2, policy=policy, timeout=timeout)  # type: ignore[arg-type]

    return Bounded


def test_a_full_mailbox_refuses_drops_the_new_or_drops_the_old(system: System, log: Log) -> None:
    def fill(self: Process) -> list[Any]:
        for n in range(2):
            self.ref.tell(n)
        try:
            self.ref.tell("third")
        except MailboxFull as full:
            return [full.maxlen]
        return [len(self.actor_inbox)]

    system.dead_letters.subscribe(lambda letter: log(letter.message))
    assert bounded("fail").start().ask(fill, timeout=SOON) == [2]
    assert bounded("drop_new").start().ask(fill, timeout=SOON) == [2]
    assert log.next() == "third"
    assert bounded("drop_old").start().ask(fill, timeout=SOON) == [2]
    assert log.next() == 0


def test_a_full_mailbox_still_takes_exits_downs_and_stops(system: System, log: Log) -> None:
    class Full(Watcher):
        mailbox = MailboxConfig(maxlen=1)

    def fill(self: Process) -> None:
        self.monitor(other)
        self.link(other)
        self.ref.tell("one")
        exit(other, "kill")

    other, ref = Echo.start(), Full.start(log)
    ref.tell(fill)
    assert log.next() == "one"
    assert {type(log.next()).__name__, type(log.next()).__name__} == {"ExitMsg", "Down"}
    ref.stop(timeout=SOON)


def test_a_sender_outside_waits_for_room(blocking_system: System) -> None:
    gate, entered = Event(), Event()

    def block(self: Process) -> None:
        entered.set()
        with self.blocking():
            gate.wait(SOON)

    ref = bounded("block", SOON).start()
    ref.tell(block)
    assert entered.wait(SOON)
    ref.tell(1)
    ref.tell(2)
    sent = beside(lambda: ref.tell(3))
    assert not sent.done()
    gate.set()
    sent.get(timeout=SOON)
    short = bounded("block", 0.01).start()
    short.ask(lambda self: [self.ref.tell(n) for n in range(2)] and None, timeout=SOON)


def test_all_senders_that_wait_for_room_get_in(blocking_system: System, log: Log) -> None:
    gate, entered = Event(), Event()

    def block(self: Process) -> None:
        entered.set()
        with self.blocking():
            gate.wait(SOON)

    ref = bounded("block", SOON).start()
    ref.tell(block)
    assert entered.wait(SOON)
    for number in range(2):
        ref.tell(partial(lambda number, _self: log(number), number))
    senders = [
        beside(partial(ref.tell, partial(lambda number, _self: log(number), number))) for number in (2, 3, 4)
    ]
    gate.set()
    for sender in senders:
        sender.get(timeout=SOON)
    assert sorted(log.take(5)) == [0, 1, 2, 3, 4]


@pytest.mark.real("blocks without a word")
def test_a_sender_that_has_waited_long_enough_leaves_nothing_behind(blocking_system: System) -> None:
    gate, entered = threading.Event(), threading.Event()

    def block(_self: Process) -> None:
        entered.set()
        gate.wait(SOON)

    ref = bounded("block", 0.01).start()
    ref.tell(block)
    assert entered.wait(SOON)
    for number in range(2):
        ref.tell(number)
    for _ in range(10):
        with pytest.raises(MailboxFull):
            ref.tell("one too many")
    assert ref.actor_inbox.limit._waiting == []
    gate.set()
