"""Registries and groups: what a process is known as ends before anyone hears of its end."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from supervisors.errors import AlreadyStarted, BadSpec, ProcessDown, SupervisorError
from supervisors.genserver import GenServer, call
from supervisors.process import Process, exit
from supervisors.reasons import SHUTDOWN
from supervisors.registry import (
    Registered,
    Registry,
    RegistryEntry,
    Unregistered,
    Via,
    stop,
    tell,
    via,
    whereis,
)
from supervisors.runtime.groups import GroupJoined, GroupLeft
from supervisors.runtime.system import System
from supervisors.spec import child
from supervisors.supervisor import PartitionSupervisor, Supervisor

from .conftest import SOON, Echo, Log, Watcher, beside, simulated


class Room(GenServer):
    def handle_call(self, request: Any, from_: Any) -> Any:
        return self.ref


@pytest.fixture
def rooms() -> Registry:
    return Registry()


@pytest.fixture
def news() -> Registry:
    return Registry(keys="duplicate")


def ask(ref: Any, function: Any) -> Any:
    return ref.ask(function, timeout=SOON)


# --- unique keys ------------------------------------------------------------------------------------------------------


def test_a_name_in_a_registry_is_a_name_like_any_other(system: System, rooms: Registry) -> None:
    kitchen = via(rooms, "kitchen")
    ref = Room.start(name=kitchen)
    assert whereis(kitchen) is rooms.whereis("kitchen") is ref
    assert call(kitchen, "who") is ref
    with pytest.raises(AlreadyStarted) as taken:
        Room.start(name=kitchen)
    assert taken.value.ref is ref
    assert stop(kitchen, reason=SHUTDOWN, timeout=SOON)
    assert whereis(kitchen) is None
    with pytest.raises(ProcessDown):
        tell(kitchen, "x")
    Room.start(name=kitchen)


def test_who_is_sent_to_by_a_name_that_still_leads_to_the_dead_is_down(system: System) -> None:
    class Stale:
        def __init__(self, ref: Any) -> None:
            self.ref = ref

        def register(self, key: Any, ref: Any) -> bool:
            return False

        def unregister(self, key: Any) -> None:
            """It never does."""

        def whereis(self, key: Any) -> Any:
            return self.ref

    dead = Echo.start()
    dead.stop(timeout=SOON)
    with pytest.raises(ProcessDown):
        tell(via(Stale(dead), "kitchen"), "x")


def test_a_restarted_child_has_its_name_again(system: System, rooms: Registry, log: Log) -> None:
    kitchen = via(rooms, "kitchen")
    sup = Supervisor.start_link([child(Room, name=kitchen)])
    first = call(kitchen, "who")
    watcher = Watcher.start(log)
    ask(watcher, lambda self: self.monitor(first) and None)
    exit(first, "kill")
    log.next()
    assert rooms.whereis("kitchen") is not first
    sup.which_children()
    assert call(kitchen, "who") is not first


def test_a_process_takes_keys_with_values_and_gives_them_up(system: System, rooms: Registry) -> None:
    one, two = Echo.start(), Echo.start()
    assert ask(one, lambda self: rooms.register("a", value=1))
    assert ask(one, lambda self: rooms.register("b"))
    assert not ask(two, lambda self: rooms.register("a"))
    assert not rooms.register("a", one)
    assert rooms.lookup("a") == [(one, 1)]
    assert rooms.keys(one) == ask(one, lambda self: rooms.keys()) == ["a", "b"]
    assert rooms.count() == 2
    ask(two, lambda self: rooms.unregister("b", self.ref))
    assert rooms.whereis("b") is one
    rooms.unregister("b")
    rooms.unregister("never there")
    assert (rooms.whereis("b"), rooms.lookup("b"), rooms.keys(one)) == (None, [], ["a"])


def test_only_the_owner_changes_its_value(system: System, rooms: Registry) -> None:
    one, two = Echo.start(), Echo.start()
    rooms.register("a", one, 1)
    assert ask(one, lambda self: rooms.update_value("a", lambda n: n + 1)) == 2
    assert rooms.lookup("a") == [RegistryEntry(one, 2)]

    def refused(self: Echo) -> str:
        for key in ("a", "nobody's"):
            with pytest.raises(SupervisorError, match="only the owner"):
                rooms.update_value(key, lambda n: n)
        return "refused"

    assert ask(two, refused) == "refused"


@pytest.mark.parametrize("end", ["stop", "kill", "crash"])
def test_keys_are_free_before_anyone_hears_of_the_death(
    system: System, rooms: Registry, log: Log, end: str
) -> None:
    ref = Echo.start()
    rooms.register("a", ref)
    ref.add_exit_callback(lambda _: log((rooms.lookup("a"), rooms.keys(ref), rooms.count())))
    if end == "stop":
        ref.stop(timeout=SOON)
    elif end == "kill":
        exit(ref, "kill")
    else:
        ref.tell(ValueError("crash"))
    assert log.next() == ([], [], 0)


def test_the_dead_and_the_nameless_register_nothing(system: System, rooms: Registry) -> None:
    ref = Echo.start()
    ref.stop(timeout=SOON)
    with pytest.raises(ProcessDown):
        rooms.register("a", ref)
    with pytest.raises(SupervisorError, match="no process makes this call; pass ref="):
        rooms.register("a")
    assert rooms.count() == 0


def test_listeners_hear_of_it(system: System, log: Log) -> None:
    rooms = Registry(listeners=[Watcher.start(log), "nobody"])
    ref = Echo.start()
    rooms.register("a", ref, 1)
    assert log.next() == Registered(rooms, "a", ref, 1)
    ref.stop(timeout=SOON)
    assert log.next() == Unregistered(rooms, "a", ref)


def test_a_listener_whose_look_up_fails_harms_nobody(system: System, log: Log) -> None:
    class Broken(Registry):
        def whereis(self, key: Any) -> Any:
            raise ValueError("as told")

    lost = [via(Broken(), "x"), PartitionSupervisor.via("ears", 0)]
    Echo.start(name="ears")
    registry = Registry(listeners=[*lost, Watcher.start(log)])
    one, two = Echo.start(), Echo.start()
    assert registry.register("a", one)
    assert registry.register("b", two)
    one.stop(timeout=SOON)
    registry.unregister("b", two)
    assert registry.count() == 0
    assert log.take(4) == [
        Registered(registry, "a", one),
        Registered(registry, "b", two),
        Unregistered(registry, "a", one),
        Unregistered(registry, "b", two),
    ]


def test_many_who_want_one_key_get_it_once(system: System, rooms: Registry) -> None:
    refs = [Echo.start() for _ in range(8)]
    got = [beside(partial(rooms.register, "a", ref)) for ref in refs]
    assert sorted(each.get(timeout=SOON) for each in got) == [False] * 7 + [True]


# --- duplicate keys ---------------------------------------------------------------------------------------------------


def test_what_is_published_reaches_all_who_subscribed(system: System, news: Registry, log: Log) -> None:
    refs = [Watcher.start(log) for _ in range(3)]
    for number, ref in enumerate(refs):
        assert news.register("weather", ref, number)
    assert [entry.value for entry in news.lookup("weather")] == [0, 1, 2]
    news.dispatch("weather", lambda entries: [entry.ref.send("rain") for entry in entries])
    assert [log.next() for _ in refs] == ["rain"] * 3
    news.dispatch("sports", lambda entries: log("never"))
    ask(refs[0], lambda self: news.unregister("weather"))
    assert [entry.ref for entry in news.lookup("weather")] == refs[1:]
    refs[1].stop(timeout=SOON)
    assert news.count() == 1


def test_one_may_subscribe_twice(system: System, news: Registry) -> None:
    ref = Echo.start()
    news.register("a", ref, 1)
    news.register("a", ref, 2)
    assert news.lookup("a") == [(ref, 1), (ref, 2)]
    assert news.keys(ref) == ["a"]
    news.unregister("a", ref)
    assert news.lookup("a") == []


def test_subscribers_keep_their_order_whoever_leaves(system: System, news: Registry) -> None:
    one, two, three = (Echo.start() for _ in range(3))
    for value, ref in enumerate([one, two, one, three, two]):
        news.register("a", ref, value)
    news.unregister("a", two)
    assert news.lookup("a") == [(one, 0), (one, 2), (three, 3)]
    news.register("a", two, 5)
    one.stop(timeout=SOON)
    assert news.lookup("a") == [(three, 3), (two, 5)]
    assert news.count() == 2


@pytest.mark.real("how much work it is, not in which order")
def test_who_leaves_is_not_looked_for_among_all_who_stay(news: Registry) -> None:
    looks = 0

    class Entry(RegistryEntry):
        @property
        def ref(self) -> Any:  # type: ignore[override]
            nonlocal looks
            looks += 1
            return self[0]

    with System():
        refs = [Echo.start() for _ in range(100)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("supervisors.registry.RegistryEntry", Entry)
            for ref in refs:
                news.register("a", ref)
            looks = 0
            for ref in refs:
                news.unregister("a", ref)
    assert news.count() == 0
    assert looks <= len(refs)


def test_duplicate_keys_are_no_names(system: System, news: Registry) -> None:
    with pytest.raises(BadSpec, match="use dispatch"):
        via(news, "a")
    with pytest.raises(BadSpec, match="use dispatch"):
        Echo.start(name=Via(news, "a"))
    assert news.lookup("a") == []
    for use in (lambda: whereis(Via(news, "a")), lambda: news.whereis("a")):
        with pytest.raises(SupervisorError, match="not unique"):
            use()
    with pytest.raises(SupervisorError, match="not unique"):
        news.update_value("a", lambda n: n)
    with pytest.raises(BadSpec):
        Registry(keys="some")  # type: ignore[arg-type]


# --- groups -----------------------------------------------------------------------------------------------------------


def test_who_joins_twice_leaves_twice(system: System) -> None:
    groups, ref = system.groups, Echo.start()
    assert groups.members("agents") == []
    groups.join("agents", ref)
    groups.join("agents", ref)
    assert groups.members("agents") == [ref, ref]
    assert groups.which_groups() == ["agents"]
    assert [groups.leave("agents", ref) for _ in range(3)] == [True, True, False]
    assert groups.which_groups() == []


def test_scopes_and_systems_are_apart(system: System) -> None:
    ref = Echo.start()
    system.groups.join("agents", ref)
    assert system.scope("mine").members("agents") == []
    assert system.scope("mine") is system.scope("mine")
    assert System().groups.members("agents") == []


def test_the_dead_are_members_of_nothing(system: System, log: Log) -> None:
    ref = Echo.start()
    system.groups.join("agents", ref)
    ref.add_exit_callback(lambda _: log(system.groups.members("agents")))
    exit(ref, "kill")
    assert log.next() == []
    with pytest.raises(ProcessDown):
        system.groups.join("agents", ref)
    assert system.groups.which_groups() == []


def test_a_snapshot_and_the_news_after_it(system: System, log: Log) -> None:
    one, two = Echo.start(), Echo.start()
    watcher = Watcher.start(log)
    system.groups.join("agents", one)
    monitor, members = ask(watcher, lambda self: system.groups.monitor("agents"))
    assert members == [one]
    system.groups.join("agents", two)
    system.groups.join("others", two)
    system.groups.leave("agents", one)
    system.groups.join("agents", two)
    exit(two, "kill")
    assert [log.next() for _ in range(4)] == [
        GroupJoined(monitor, "agents", (two,)),
        GroupLeft(monitor, "agents", (one,)),
        GroupJoined(monitor, "agents", (two,)),
        GroupLeft(monitor, "agents", (two, two)),
    ]
    system.groups.demonitor(monitor)
    system.groups.join("agents", one)
    ask(watcher, lambda self: None)
    assert log.rest() == []


def test_nothing_is_missed_or_told_twice_while_others_join(system: System, log: Log) -> None:
    refs = [Process.start() for _ in range(5 if simulated() else 50)]
    watcher = Watcher.start(log)
    joined = beside(lambda: [system.groups.join("g", ref) for ref in refs])
    _, members = ask(watcher, lambda self: system.groups.monitor("g"))
    joined.get(timeout=SOON)
    ask(watcher, lambda self: None)
    assert members + [ref for news in log.rest() for ref in news.refs] == refs


def test_a_monitor_ends_with_its_owner(system: System, log: Log) -> None:
    watcher = Watcher.start(log)
    ask(watcher, lambda self: system.groups.monitor("g") and None)
    watcher.stop(timeout=SOON)
    system.groups.join("g", Process.start())
    assert system.dead_letters.count == 0
    with pytest.raises(SupervisorError, match="only a process"):
        system.groups.monitor("g")
