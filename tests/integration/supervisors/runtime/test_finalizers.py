"""A finalizer ends processes, at any moment of what somebody else does with them: nobody misses a death for it.

Where garbage is collected is anybody's guess, so a process is killed at each place at which Python 3.12 may do so.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import pytest

from supervisors import ProcessDown, Registered, Registry, Unregistered
from supervisors.runtime import system
from supervisors.runtime.dispatch import WorkerDispatcher
from supervisors.runtime.groups import GroupJoined, Groups
from supervisors.runtime.pool import PoolDispatcher
from supervisors.runtime.ref import Ref
from supervisors.runtime.system import System
from supervisors.runtime.threads import PinnedDispatcher, ThreadDispatcher
from supervisors.runtime.ties import adopt, link, monitor, take_over
from tests.integration.interrupting import interrupted
from tests.integration.supervisors.conftest import Echo, Log, Watcher

pytestmark = pytest.mark.real("one thread is stopped at each place of its way")

Act = Callable[[Ref[Any]], object]


@pytest.fixture(autouse=True)
def _here() -> Iterator[None]:
    with System():
        yield


def at_each_place(act: Act, check: Act, prepare: Act = lambda _: None) -> None:
    """Kill a process at each place of `act`, and at last after it; and `check` what others know of that."""
    for at in itertools.count():
        prepare(ref := Echo.start())
        struck = interrupted(lambda ref=ref: act(ref), at, "supervisors", by=ref.kill)
        ref.kill()
        check(ref)
        if not struck:
            break
    assert at > 3  # there were so many places


def test_whoever_monitors_is_told_once(log: Log) -> None:
    def check(ref: Ref[Any]) -> None:
        watcher.ask("all")  # has been told
        assert [each.ref for each in log.rest() if each != "all"] == [ref]

    watcher = Watcher.start(log)
    at_each_place(lambda ref: monitor(watcher, ref), check)


def test_whoever_is_linked_is_told_once(log: Log) -> None:
    def check(ref: Ref[Any]) -> None:
        watcher.ask("all")
        assert [each.ref for each in log.rest() if each != "all"] == [ref]

    watcher = Watcher.start(log)
    at_each_place(lambda ref: link(watcher, ref), check)


def test_an_exit_callback_is_called_once(log: Log) -> None:
    def act(ref: Ref[Any]) -> None:
        ref.add_exit_callback(lambda _: log(ref))

    at_each_place(act, lambda ref: _is([ref], log.rest()))


@pytest.mark.parametrize("do", [adopt, take_over])
def test_a_parent_takes_its_child_along(do: Callable[..., object]) -> None:
    def act(parent: Ref[Any]) -> None:
        children.append(child := Echo.start())
        if do(parent, child) is False:
            child.kill()

    children: list[Ref[Any]] = []
    at_each_place(act, lambda _: _is(False, children[-1].actor_stopped.wait(0) is False))


@dataclass(frozen=True)
class Key:
    """One whose hash is Python code."""

    name: str

    def __hash__(self) -> int:
        return hash(self.name)


KEYS = pytest.mark.parametrize("key", ["key", Key("key")], ids=["text", "object"])


@KEYS
@pytest.mark.parametrize("keys", ["unique", "duplicate"])
def test_the_dead_are_in_no_registry(keys: Any, key: Hashable) -> None:
    def act(ref: Ref[Any]) -> None:
        with suppress(ProcessDown):
            registry.register(key, ref)
            registry.unregister(key, ref)
            registry.register(key, ref)

    registry = Registry(keys=keys)
    at_each_place(act, lambda _: _is((0, []), (registry.count(), registry.lookup(key))))
    assert registry.register(key, Echo.start())


@KEYS
@pytest.mark.parametrize("leaves", [False, True])
def test_a_registry_is_busy_with_one_and_forgets_another(leaves: bool, key: Hashable) -> None:
    def prepare(ref: Ref[Any]) -> None:
        registry.unregister(key, stays)
        registry.register(key, ref)
        if leaves:
            registry.register(key, stays)

    def act(_: Ref[Any]) -> None:
        (registry.unregister if leaves else registry.register)(key, stays)

    def check(_: Ref[Any]) -> None:
        assert [each.ref for each in registry.lookup(key)] == ([] if leaves else [stays])
        assert registry.keys(stays) == ([] if leaves else [key])

    registry, stays = Registry(keys="duplicate"), Echo.start()
    at_each_place(act, check, prepare)


def test_listeners_hear_of_the_key_before_they_hear_that_it_is_free(log: Log) -> None:
    def act(ref: Ref[Any]) -> None:
        with suppress(ProcessDown):
            registry.register("key", ref)

    def check(_: Ref[Any]) -> None:
        listener.ask("all")
        told = [type(each) for each in log.rest() if each != "all"]
        assert told in ([], [Registered, Unregistered])

    listener = Watcher.start(log)
    registry = Registry(listeners=[listener])
    at_each_place(act, check)


def test_a_successor_waits_until_the_key_is_free() -> None:
    def prepare(ref: Ref[Any]) -> None:
        registry.register("key", ref)
        ref.add_exit_callback(lambda _: registry.register("key", standby))

    def act(_: Ref[Any]) -> None:
        registry.register("other", stays)
        registry.register("key", stays)

    def check(_: Ref[Any]) -> None:
        assert len(registry.lookup("key")) <= 1
        registry.unregister("key")
        registry.unregister("other")

    registry, standby, stays = Registry(), Echo.start(), Echo.start()
    at_each_place(act, check, prepare)


def test_who_registers_holds_no_other_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    def hold(ref: Ref[Any], give_up: Any) -> bool:
        held.append(lock._is_owned())
        return as_ever(ref, give_up)

    held: list[bool] = []
    as_ever = Ref.hold
    monkeypatch.setattr(Ref, "hold", hold)
    registry, groups = Registry(), Groups()
    lock: Any = registry._lock
    registry.register("key", Echo.start())
    lock = groups._lock
    groups.join("group", Echo.start())
    Echo.start().ask(lambda _: groups.monitor("group"))
    assert held == [False] * 3


def test_the_dead_are_in_no_group() -> None:
    def act(ref: Ref[Any]) -> None:
        with suppress(ProcessDown):
            groups.join("group", ref)
            groups.join("group", ref)
            groups.leave("group", ref)

    groups = Groups()
    at_each_place(act, lambda _: _is(([], []), (groups.members("group"), groups.which_groups())))


@pytest.mark.parametrize("leaves", [False, True])
def test_a_group_is_busy_with_one_and_forgets_another(leaves: bool) -> None:
    def prepare(ref: Ref[Any]) -> None:
        groups.leave("group", stays)
        groups.join("group", ref)
        if leaves:
            groups.join("group", stays)

    groups, stays = Groups(), Echo.start()
    at_each_place(
        lambda _: (groups.leave if leaves else groups.join)("group", stays),
        lambda _: _is([] if leaves else [stays], groups.members("group")),
        prepare,
    )


def test_a_group_is_busy_and_forgets_who_would_hear_of_it() -> None:
    def prepare(ref: Ref[Any]) -> None:
        ref.ask(lambda _: groups.monitor("group"))

    def act(_: Ref[Any]) -> None:
        groups.join("group", stays)
        groups.leave("group", stays)

    groups, stays = Groups(), Echo.start()
    at_each_place(act, lambda _: _is(({}, {}), (groups._monitors, groups._wishes)), prepare)


def test_news_of_a_member_that_dies_as_it_joins_are_in_order(log: Log) -> None:
    def act(ref: Ref[Any]) -> None:
        with suppress(ProcessDown):
            groups.join("group", ref)
            groups.join("group", ref)

    def check(_: Ref[Any]) -> None:
        watcher.ask("all")
        members = 0
        for each in log.rest():
            if each != "all":
                members += len(each.refs) * (1 if isinstance(each, GroupJoined) else -1)
                assert members >= 0
        assert members == 0

    groups, watcher = Groups(), Watcher.start(log)
    watcher.ask(lambda _: groups.monitor("group"))
    at_each_place(act, check)


def test_a_finalizer_finds_the_default_system_that_is_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "_entered", ContextVar("nobody's", default=None))
    found: list[System] = []
    for at in itertools.count():
        monkeypatch.setattr(system, "_default", [])
        found.clear()
        struck = interrupted(System.current, at, "supervisors", by=lambda: found.append(System.current()))
        assert all(each is System.current() for each in found)
        if not struck:
            break
    assert at > 3


@pytest.mark.parametrize("make", [PinnedDispatcher, ThreadDispatcher, PoolDispatcher])
def test_a_thread_that_collects_garbage_as_it_begins_finds_its_dispatcher_free(
    make: type[WorkerDispatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        if thread.name.startswith(f"supervisors-{dispatcher._label}-"):
            held.append(lock._is_owned())
        as_ever(thread)

    held: list[bool] = []
    as_ever = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    dispatcher = make()
    lock: Any = dispatcher._lock
    with System(dispatcher=dispatcher):
        assert Echo.start().ask("first") == "first"
    assert held
    assert not any(held)


def _is(expected: object, found: object) -> None:
    assert found == expected
