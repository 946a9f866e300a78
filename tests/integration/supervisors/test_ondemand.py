"""Servers that rest when nobody needs them, and are there when somebody does; nothing sent is lost on the way."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import pykka
import pytest

from supervisors import (
    NO_REPLY,
    NORMAL,
    PASSIVATED,
    Backoff,
    BadSpec,
    DynamicSupervisor,
    From,
    Future,
    GenServer,
    MaxChildren,
    OnDemand,
    ProcessDown,
    Shutdown,
    Sim,
    StartError,
    Supervisor,
    SupervisorError,
    System,
    call,
    cast,
    child,
    exit,
    explore,
    resume,
    send,
    suspend,
    tell,
    via,
    whereis,
)
from supervisors.registry import deliver
from supervisors.testing import Event
from tests.integration.supervisors.conftest import SOON


@pytest.fixture(params=[System, Sim])
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    with request.param() as system:
        yield system


class Resting(GenServer):
    """Counts its messages; writes down what becomes of it, and keeps its count in a store."""

    hibernate_after = 10.0
    passivate_after = 60.0

    def __init__(self, store: dict[Any, Any], key: Any = "it") -> None:
        super().__init__()
        self.store, self.key = store, key
        self.log: list[str] = store.setdefault("log", [])

    def init(self) -> None:
        self.count = self.store.get(self.key, 0)
        self.log.append("started")

    def handle_call(self, request: Any, from_: Any) -> Any:
        if request == "later":
            self.asked = from_
            return NO_REPLY
        return self.handle_cast(request)

    def handle_cast(self, request: Any) -> Any:
        self.count += 1
        return self.count

    handle_info = handle_cast

    def on_hibernate(self) -> None:
        self.log.append("hibernates")
        self.store[self.key] = self.count

    def terminate(self, reason: Any) -> None:
        self.log.append("ends")


# --- rest -------------------------------------------------------------------------------------------------------------


def test_an_idle_server_hibernates_once_and_then_ends() -> None:
    with Sim() as sim:
        store: dict[Any, Any] = {}
        ref = Resting.start(store)
        sim.advance(9.9)
        assert store["log"] == ["started"]
        sim.advance(0.2)
        assert store["log"] == ["started", "hibernates"]
        sim.advance(49.8)
        assert ref.is_alive()
        sim.run_until_idle()
        assert store["log"] == ["started", "hibernates", "ends"]
        assert ref.exit_reason == Shutdown(PASSIVATED)
        assert sim.now == pytest.approx(60.0)


def test_whatever_happens_ends_the_rest() -> None:
    with Sim() as sim:
        store: dict[Any, Any] = {}
        ref = Resting.start(store)
        for _ in range(20):
            sim.advance(8.0)
            tell(ref, "news")
        sim.settle()
        assert store["log"] == ["started"]
        sim.advance(10.1)
        tell(ref, "news")
        sim.advance(10.1)
        assert store["log"] == ["started", "hibernates", "hibernates"]
        sim.run_until_idle()
        assert sim.now == pytest.approx(160.0 + 10.1 + 60.0)


def test_hibernation_is_no_end() -> None:
    class Napping(Resting):
        passivate_after = None

    with Sim() as sim:
        store: dict[Any, Any] = {}
        ref = Napping.start(store)
        sim.run_until_idle()
        assert (sim.now, store["log"]) == (10.0, ["started", "hibernates"])
        assert call(ref, "still there?") == 1
        sim.run_until_idle()
        assert store["log"] == ["started", "hibernates", "hibernates"]


def test_passivation_saves_even_where_nobody_hibernates_before() -> None:
    class Brief(Resting):
        hibernate_after = None

    with Sim() as sim:
        store: dict[Any, Any] = {}
        Brief.start(store)
        sim.run_until_idle()
        assert store["log"] == ["started", "hibernates", "ends"]


def test_who_owes_an_answer_does_not_rest() -> None:
    with Sim() as sim:
        store: dict[Any, Any] = {}
        ref = Resting.start(store)
        answer = ref.ask("later", block=False)
        sim.advance(1000.0)
        assert store["log"] == ["started"]
        ref.ask("now")
        ref.proxy().asked.get().reply("at last")
        assert answer.get() == "at last"
        sim.run_until_idle()
        assert store["log"] == ["started", "hibernates", "ends"]


def test_a_server_whose_askers_have_given_up_rests() -> None:
    class Forgetful(Resting):
        def handle_call(self, request: Any, from_: Any) -> Any:
            return NO_REPLY

    with Sim() as sim:
        store: dict[Any, Any] = {}
        ref = Forgetful.start(store)
        with pytest.raises(pykka.Timeout):
            ref.ask("news", timeout=1.0)
        sim.run_until_idle()
        assert store["log"] == ["started", "hibernates", "ends"]


def test_who_has_put_messages_aside_does_not_rest() -> None:
    class Shut(Resting):
        def handle_info(self, msg: Any) -> Any:
            self.stash()

    with Sim() as sim:
        shut = Shut.start({})
        shut.tell("later")
        sim.advance(1000.0)
        assert shut.is_alive()


def test_a_server_that_rests_again_and_again_has_one_timer_for_it() -> None:
    with Sim() as sim:
        resting = Resting.start({})
        for _ in range(5):
            sim.advance(15.0)
            call(resting, "x")
        timers: Any = sim.system.timers
        assert [timer.pending for timer in timers._heap].count(True) == 1


def test_a_suspended_server_does_not_rest_either() -> None:
    with Sim() as sim:
        store: dict[Any, Any] = {}
        ref = Resting.start(store)
        suspend(ref)
        tell(ref, "waits")
        sim.advance(1000.0)
        assert store["log"] == ["started"]
        resume(ref)
        sim.settle()
        assert store["log"] == ["started"], "there was something to do"
        sim.run_until_idle()
        assert store["log"] == ["started", "hibernates", "ends"]


def test_the_idle_timeout_of_a_server_that_rests_is_its_own() -> None:
    class Both(Resting):
        passivate_after = None

        def init(self) -> None:
            super().init()
            self.idle_timeout(15.0)

        def handle_timeout(self) -> None:
            self.log.append("timeout")

    with Sim() as sim:
        store: dict[Any, Any] = {}
        Both.start(store)
        sim.advance(16.0)
        assert store["log"] == ["started", "hibernates", "timeout"]


def test_a_hibernation_that_fails_is_a_crash() -> None:
    class Fails(Resting):
        def on_hibernate(self) -> None:
            raise ValueError("no room")

    with Sim() as sim:
        ref = Fails.start({})
        sim.run_until_idle()
        assert "no room" in repr(ref.exit_reason)


# --- on demand --------------------------------------------------------------------------------------------------------


def rooms(store: dict[Any, Any], cls: type[Resting] = Resting, **options: Any) -> OnDemand:
    supervisor = DynamicSupervisor.start_link(name="rooms", **options)
    return OnDemand(supervisor, lambda key: child(cls, store, key))


def test_a_server_is_started_by_its_first_message_and_again_after_its_rest() -> None:
    with Sim() as sim:
        store: dict[Any, Any] = {}
        kitchen = via(rooms(store), "kitchen")
        assert call(kitchen, "first") == 1
        cast(kitchen, "second")
        first = whereis(kitchen)
        sim.run_until_idle()
        assert store["kitchen"] == 2
        assert not first.is_alive()  # type: ignore[union-attr]
        assert whereis("rooms").count_children().active == 0  # type: ignore[union-attr]
        tell(kitchen, "third")
        assert call(kitchen, "fourth") == 4, "it goes on from what it saved"
        assert whereis(kitchen) is not first


def test_keys_have_a_server_each_and_a_look_starts_none() -> None:
    with Sim():
        store: dict[Any, Any] = {}
        registry = rooms(store)
        assert registry.owner("kitchen") is None
        assert call(via(registry, "kitchen"), "x") == 1
        assert call(via(registry, "hall"), "x") == 1
        assert registry.owner("kitchen") is not registry.owner("hall")
        assert store["log"] == ["started", "started"]


def test_a_crash_is_restarted_by_the_supervisor_and_keeps_the_key() -> None:
    with Sim() as sim:
        registry = rooms({})
        kitchen = via(registry, "kitchen")
        first = whereis(kitchen)
        exit(first, "broken")  # type: ignore[arg-type]
        sim.settle()
        assert registry.owner("kitchen") not in (None, first)
        assert call(kitchen, "x") == 1


def test_who_is_stopped_is_started_again_and_a_killed_one_too() -> None:
    with Sim() as sim:
        store: dict[Any, Any] = {}
        kitchen = via(rooms(store), "kitchen")
        whereis(kitchen).stop()  # type: ignore[union-attr]
        assert call(kitchen, "x") == 1
        exit(whereis(kitchen), "kill")  # type: ignore[arg-type]
        sim.settle()
        assert call(kitchen, "x") == 1


def test_no_message_is_lost_or_overtaken_however_it_meets_the_rest() -> None:
    class Hasty(Resting):
        hibernate_after = None
        passivate_after = 1.0

        def handle_info(self, msg: Any) -> None:
            self.store.setdefault("seen", []).append(msg)

        def on_hibernate(self) -> None:
            sim = self.store["sim"]
            sim.sleep(sim.pick(0.0, 0.5))  # who sends now is too late for this one
            super().on_hibernate()

        def terminate(self, reason: Any) -> None:
            sim = self.store["sim"]
            sim.sleep(sim.pick(0.0, 0.5))  # and has to wait until it has ended
            super().terminate(reason)

    met: list[int] = []

    def scenario(sim: Any) -> None:
        store: dict[Any, Any] = {"sim": sim}
        kitchen = via(rooms(store, Hasty), "kitchen")
        call(kitchen, "start")

        def client(name: str) -> None:
            for n in range(3):
                sim.sleep(sim.pick(0.0, 1.0, 1.25))
                tell(kitchen, (name, n))
                assert call(kitchen, "and?", timeout=None) > 0

        for name in ("a", "b"):
            sim.client(client, name)
        sim.run_until_idle()
        for name in ("a", "b"):
            assert [n for who, n in store["seen"] if who == name] == [0, 1, 2]
        assert len(store["seen"]) == 6
        assert sim.system.dead_letters.count == 0
        met.append(store["log"].count("started"))

    explore(scenario, seeds=range(150))
    assert max(met) > 2, "it did rest, more than once"


def test_who_has_just_found_one_that_goes_to_rest_finds_the_next() -> None:
    with Sim() as sim:
        kitchen = via(rooms({}), "kitchen")
        found: list[Any] = []

        def put(ref: Any) -> Any:
            found.append(ref)
            if len(found) == 1:
                sim.run_until_idle()  # it rests between the look and the message
            return ref.ask("x")

        assert deliver(kitchen, put) == 1
        assert [ref.is_alive() for ref in found] == [False, True]


@pytest.mark.real("threads of its own")
def test_on_threads_no_message_is_lost_either(blocking_system: System) -> None:
    class Hasty(Resting):
        hibernate_after = None
        passivate_after = 0.001

        def handle_info(self, msg: Any) -> None:
            self.store.setdefault("seen", []).append(msg)

    store: dict[Any, Any] = {}
    registry = rooms(store, Hasty)
    kitchen = via(registry, "kitchen")

    def client(name: int) -> None:
        with blocking_system.activated():
            for n in range(100):
                tell(kitchen, (name, n))
                if n % 10 == 0:
                    threading.Event().wait(0.001)  # about when it wants to rest
            call(kitchen, "done?", timeout=SOON)

    threads = [threading.Thread(target=client, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    seen = store["seen"]
    for name in range(3):
        assert [n for who, n in seen if who == name] == list(range(100))
    assert blocking_system.dead_letters.count == 0


# --- what cannot be started -------------------------------------------------------------------------------------------


def test_who_cannot_be_started_is_told_to_the_sender() -> None:
    class Broken(Resting):
        def init(self) -> None:
            raise ValueError("no floor")

    with Sim() as sim:
        kitchen = via(rooms({}, Broken), "kitchen")
        with pytest.raises(StartError):
            call(kitchen, "x")
        with pytest.raises(StartError):
            tell(kitchen, "x")
        assert send(kitchen, "x") is False
        cast(kitchen, "x")
        assert sim.system.dead_letters.count == 2


def test_limits_ignored_starts_and_dead_supervisors_are_what_they_are() -> None:
    with Sim() as sim:
        registry = rooms({}, max_children=1)
        call(via(registry, "kitchen"), "x")
        with pytest.raises(MaxChildren):
            call(via(registry, "hall"), "x")
        whereis("rooms").stop()  # type: ignore[union-attr]
        with pytest.raises(ProcessDown):
            call(via(registry, "hall"), "x")
        cast(via(registry, "hall"), "x")
        assert sim.system.dead_letters.count == 1
        with pytest.raises(BadSpec):
            whereis(via(registry, []))  # type: ignore[arg-type]


def test_only_dynamic_supervisors_and_processes_will_do() -> None:
    from supervisors import ChildSpec, SupervisorError

    with Sim():
        Supervisor.start_link(name="static")
        with pytest.raises(SupervisorError, match="is not a DynamicSupervisor"):
            whereis(via(OnDemand("static", lambda key: child(Resting, {}, key)), "x"))
        dynamic = DynamicSupervisor.start_link()

        def start(**_options: Any) -> Any:
            return Resting.start_link({})

        with pytest.raises(SupervisorError, match="must be an actor class"):
            whereis(via(OnDemand(dynamic, lambda key: ChildSpec(id=key, start=start)), "x"))


@pytest.mark.parametrize("end", [ValueError, SystemExit])
def test_what_was_left_fails_if_nobody_can_be_started_for_it(end: type[BaseException]) -> None:
    class Once(Resting):
        hibernate_after = None
        passivate_after = 1.0

        def init(self) -> None:
            super().init()
            if len(self.log) > 1:
                raise end("only once")

        def on_hibernate(self) -> None:
            # Here it can still be sent to, and will not handle it any more.
            self.store["told"] = self.ref.send("told")
            self.store["asked"] = self.ref.ask("asked", block=False)

    with Sim() as sim:
        store: dict[Any, Any] = {}
        call(via(rooms(store, Once), "kitchen"), "x")
        sim.run_until_idle()
        assert store["told"] is True
        with pytest.raises(ProcessDown, match="only once"):
            store["asked"].get()
        assert sim.system.dead_letters.count == 1


def test_what_was_left_fails_if_the_function_that_says_what_to_start_exits() -> None:
    registry = OnDemand("rooms", lambda key: sys.exit("no such room"))
    with Sim() as sim:
        ref = Resting.start({})
        answer: Future[Any] = Future()
        registry.inherit("kitchen", ref, From("asked", answer))
        sim.run_until_idle()
        with pytest.raises(StartError, match="no such room"):
            answer.get()


def test_what_was_left_fails_if_there_is_nobody_to_start_anybody() -> None:
    with Sim() as sim:
        registry = rooms({})
        ref = whereis(via(registry, "kitchen"))
        assert ref is not None
        whereis("rooms").stop()  # type: ignore[union-attr]
        answer: Future[Any] = Future()
        registry.inherit("kitchen", ref, "told")
        registry.inherit("kitchen", ref, From("asked", answer))
        sim.run_until_idle()
        with pytest.raises(ProcessDown):
            answer.get()
        assert sim.system.dead_letters.count == 1


def test_what_was_left_and_has_failed_is_not_handled_after_all() -> None:
    with Sim() as sim:
        store: dict[Any, Any] = {}
        registry = OnDemand("rooms", lambda key: child(Resting, store, key))
        registry.inherit("kitchen", Resting.start({}), "told")
        sim.run_until_idle()
        assert sim.system.dead_letters.count == 1
        DynamicSupervisor.start(name="rooms")
        assert call(via(registry, "kitchen"), "first") == 1


class Reminder(GenServer):
    """Does with itself what it is told."""

    dispatcher = "blocking"

    def handle_info(self, msg: Any) -> None:
        msg(self)


def test_a_timer_starts_whom_it_is_for_and_time_goes_on_meanwhile(system: System) -> None:
    class Waits(Reminder):
        def init(self) -> None:
            assert later.wait(SOON)  # for what happens when the next timer fires

    later, arrived = Event(), Event()
    house = OnDemand(DynamicSupervisor.start(), lambda key: child(Waits))
    reminder = Reminder.start()
    reminder.tell(lambda self: self.send_after(0.0, via(house, "kitchen"), lambda _: arrived.set()))
    reminder.tell(lambda self: self.send_after(0.0, self.ref, lambda _: later.set()))
    assert arrived.wait(SOON)
    assert system.dead_letters.count == 0


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_what_a_timer_has_for_one_who_cannot_be_started_is_a_dead_letter(
    system: System, error: type[BaseException]
) -> None:
    def nobody(key: Any) -> NoReturn:
        raise error("no such room")

    letters: list[Any] = []
    told = Event()
    system.dead_letters.subscribe(lambda letter: (letters.append(letter), told.set()))
    kitchen = via(OnDemand(DynamicSupervisor.start(), nobody), "kitchen")
    Reminder.start().tell(lambda self: self.send_after(0.0, kitchen, "hello"))
    assert told.wait(SOON)
    assert [(each.message, each.to, each.why) for each in letters] == [("hello", kitchen, error.__name__)]


class Leaving(Reminder):
    """Takes its time to end."""

    def __init__(self, sim: Sim, told: list[Any]) -> None:
        super().__init__()
        self.sim, self.told = sim, told

    def handle_info(self, msg: Any) -> None:
        self.told.append((self.ref, msg, self.sim.now))

    def terminate(self, reason: Any) -> None:
        self.sim.sleep(4.2)


def test_a_timer_starts_the_successor_of_one_that_is_just_ending() -> None:
    told: list[Any] = []
    with Sim() as sim:
        house = OnDemand(DynamicSupervisor.start(), lambda key: child(Leaving, sim, told))
        first = house.whereis("kitchen")
        Reminder.start().tell(lambda self: self.send_after(1.0, via(house, "kitchen"), "hello"))
        sim.advance(0.5)
        first.stop(block=False)
        sim.advance(7.0)
        assert told == [(house.owner("kitchen"), "hello", 4.7)]
        assert told[0][0] is not first


def test_an_interval_starts_whom_it_is_for_after_each_of_its_rests() -> None:
    with Sim() as sim:
        store: dict[Any, Any] = {}
        kitchen = via(rooms(store), "kitchen")
        Reminder.start().tell(lambda self: self.send_interval(100.0, kitchen, "tick"))
        sim.advance(350.0)
        assert store["log"].count("started") == 3


def test_an_interval_for_somebody_who_has_ended_ends() -> None:
    with Sim() as sim:
        resting = Resting.start({})
        Reminder.start().tell(lambda self: self.send_interval(100.0, resting, "tick"))
        sim.advance(150.0)
        assert not resting.is_alive()
        sim.advance(100.0)
        timers: Any = sim.system.timers
        assert not any(timer.pending for timer in timers._heap)


def test_an_interval_skips_what_comes_while_it_waits_for_that() -> None:
    told: list[Any] = []
    with Sim() as sim:
        house = OnDemand(DynamicSupervisor.start(), lambda key: child(Leaving, sim, told))
        first = house.whereis("kitchen")
        Reminder.start().tell(lambda self: self.send_interval(1.0, via(house, "kitchen"), "tick"))
        sim.advance(0.5)
        first.stop(block=False)
        sim.advance(6.0)
        assert [at for _, _, at in told] == [4.7, 5.0, 6.0]


def test_the_end_has_its_reason() -> None:
    with Sim() as sim:
        ref = Resting.start({})
        ref.stop()
        sim.run_until_idle()
        assert ref.exit_reason is NORMAL


def _unnamed(store: dict[Any, Any], key: Any, name: Any = None) -> Any:
    return Resting.start_link(store, key)


def test_a_child_that_does_not_take_its_name_is_not_kept(system: System) -> None:
    children = DynamicSupervisor.start_link()
    rooms = OnDemand(children, lambda key: child(_unnamed, {}, key))
    for _ in range(2):
        with pytest.raises(SupervisorError, match="did not register the name"):
            call(via(rooms, "kitchen"), 1)
    assert children.which_children() == []


def test_who_was_there_before_is_not_ended_for_having_no_name(system: System) -> None:
    other = DynamicSupervisor.start_link().start_child(child(_unnamed, {}, "hall"))
    children = DynamicSupervisor.start_link()
    rooms = OnDemand(children, lambda key: child(lambda **_: other))
    with pytest.raises(SupervisorError, match="did not register the name"):
        call(via(rooms, "kitchen"), 1)
    assert other.is_alive()


# --- a crash ----------------------------------------------------------------------------------------------------------


class Fragile(Resting):
    def handle_call(self, request: Any, from_: Any) -> Any:
        return 1 // 0 if request == "crash" else super().handle_call(request, from_)


@pytest.mark.parametrize("backoff", [None, Backoff()])
def test_who_asks_for_one_that_crashed_harms_nobody_else(backoff: Backoff | None) -> None:
    def scenario(sim: Sim) -> None:
        children = DynamicSupervisor.start_link(max_restarts=1)
        rooms = OnDemand(children, lambda key: child(Fragile, {}, key).replace(backoff=backoff))
        assert call(via(rooms, "quiet"), 1) == 1
        quiet = rooms.owner("quiet")

        def use() -> None:
            for _ in range(5):
                with contextlib.suppress(ProcessDown):
                    call(via(rooms, "busy"), 1)

        users = [sim.client(use) for _ in range(2)]
        with pytest.raises(ZeroDivisionError):
            call(via(rooms, "busy"), "crash")
        for user in users:
            user.get()
        sim.advance(30.0)
        assert quiet is not None
        assert children.is_alive(), children.exit_reason
        assert rooms.owner("quiet") is quiet
        assert len(children.which_children()) == 2

    explore(scenario, seeds=range(200))


def test_who_asks_for_one_that_waits_for_its_restart_gets_another_at_once() -> None:
    with System():
        children = DynamicSupervisor.start_link(max_restarts=1)
        rooms = OnDemand(children, lambda key: child(Fragile, {}, key).replace(backoff=Backoff(min=0.01)))
        assert call(via(rooms, "quiet"), 1) == 1
        with pytest.raises(ZeroDivisionError):
            call(via(rooms, "busy"), "crash")
        assert call(via(rooms, "busy"), 1) == 1
        while len(children.which_children()) > 2:  # until it was tried again
            assert call(via(rooms, "quiet"), 1) > 1
        assert children.count_children().active == 2
