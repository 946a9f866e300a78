"""What has ended is gone: thousands of beginnings and ends leave no process, name, timer, observer or membership.

The rule of this file: what is counted is what the system keeps, not memory, which says nothing within a test's time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from supervisors import (
    DynamicSupervisor,
    GenServer,
    OnDemand,
    PartitionSupervisor,
    Process,
    Registry,
    Report,
    Supervisor,
    System,
    TaskSupervisor,
    call,
    child,
    exit,
    via,
)

from .conftest import SOON, Echo

pytestmark = pytest.mark.real("thousands of times, which would take a simulation minutes")

TIMES = 300


class Server(GenServer):
    """Does what it is called with."""

    def handle_call(self, request: Any, from_: Any) -> Any:
        return request(self) if callable(request) else request


Body = Callable[[System], Callable[[], object]]


def _processes(system: System) -> Callable[[], object]:
    return lambda: Echo.start(name="name").stop()


def _kills(system: System) -> Callable[[], object]:
    return lambda: exit(Echo.start(name="name"), "kill")


def _supervisors(system: System) -> Callable[[], object]:
    return lambda: Supervisor.start_link([child(Echo), child(Server, name="server")]).stop()


def _dynamic_children(system: System) -> Callable[[], object]:
    supervisor: Any = DynamicSupervisor.start_link()
    return lambda: supervisor.terminate_child(supervisor.start_child(child(Echo).replace(start_timeout=60.0)))


def _partitions(system: System) -> Callable[[], object]:
    return lambda: PartitionSupervisor.start_link(Echo, name="parts", partitions=2).stop()


def _ties(system: System) -> Callable[[], object]:
    owner = Echo.start()

    def body() -> None:
        other = Echo.start()
        owner.ask(lambda self: (self.monitor(other), self.link(other)), timeout=SOON)
        monitor = owner.ask(lambda self: self.monitor(other), timeout=SOON)
        owner.ask(lambda self: self.demonitor(monitor), timeout=SOON)
        other.stop()

    return body


def _timers(system: System) -> Callable[[], object]:
    def body() -> None:
        ref = Echo.start()
        ref.ask(lambda self: (self.send_after(60.0, ref, 1), self.send_interval(60.0, ref, 2)), timeout=SOON)
        ref.stop()

    return body


def _memberships(system: System) -> Callable[[], object]:
    keys, topics = Registry(), Registry(keys="duplicate")

    def body() -> None:
        ref = Echo.start(name=via(keys, "key"))
        topics.register("topic", ref)
        system.groups.join("group", ref)
        ref.ask(lambda self: system.groups.monitor("group"), timeout=SOON)
        ref.stop()
        assert keys.count() == topics.count() == len(system.groups.which_groups()) == 0

    return body


def _tasks(system: System) -> Callable[[], object]:
    tasks = TaskSupervisor.start_link()
    return lambda: tasks.async_nolink(int).await_(SOON)


def _streams_that_are_given_up(system: System) -> Callable[[], object]:
    tasks = TaskSupervisor.start_link()

    def body() -> None:
        results: Any = tasks.async_stream(int, range(3), max_concurrency=2)
        next(results)
        results.close()

    return body


def _on_demand(system: System) -> Callable[[], object]:
    house = OnDemand(DynamicSupervisor.start_link(), lambda key: child(Server))

    def body() -> None:
        call(via(house, "kitchen"), 1, SOON)
        ref: Any = house.owner("kitchen")
        ref.stop()

    return body


def _looks_at_one_that_lives(system: System) -> Callable[[], object]:
    ref = Echo.start()

    def body() -> None:
        assert ref.actor_stopped.wait(0.0) is False
        assert ref.ties is None or ref.ties.watchers == []

    return body


@pytest.mark.parametrize(
    "prepare",
    [
        _processes,
        _kills,
        _supervisors,
        _dynamic_children,
        _partitions,
        _ties,
        _timers,
        _memberships,
        _tasks,
        _streams_that_are_given_up,
        _on_demand,
        _looks_at_one_that_lives,
    ],
    ids=lambda prepare: prepare.__name__.strip("_"),
)
def test_nothing_is_left_of_what_has_ended(prepare: Body) -> None:
    with System() as system:
        body = prepare(system)
        living = len(system.processes())
        for _ in range(TIMES):
            body()
        for ref in system.processes()[living:]:  # tasks end after their result
            assert ref.actor_stopped.wait(SOON)
        assert len(system.processes()) == living
        assert system.names.names() == []
        assert len(system.zombies) == 0
        assert sum(timer.pending for timer in system.timers._heap) == 0
        # The process that ties are made to lives on, and has none.
        for ref in system.processes():
            ties = ref.ties
            assert ties is None or not (ties.links or ties.monitors or ties.watching or ties.watchers)


# --- those who are told ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raised", [ValueError("no"), SystemExit(1)], ids=repr)
def test_a_death_is_told_to_everybody_whatever_the_first_does(raised: BaseException) -> None:
    told: list[str] = []

    def first(_: object) -> None:
        told.append("first")
        raise raised

    with System() as system:
        system.reports.subscribe(first)
        system.reports.subscribe(lambda report: told.append(report.kind))
        ref = Echo.start()
        ref.add_exit_callback(first)
        ref.add_exit_callback(lambda reason: told.append(str(reason)))
        exit(ref, "kill")
        assert told == ["first", "process_ended", "first", "KILLED"]


def test_whoever_hears_of_a_death_may_be_killed_while_he_does() -> None:
    """A supervisor hears of it all the same: else it would wait for ever."""

    class Killer(Process):
        def on_receive(self, message: Any) -> Any:
            exit(message, "kill")

    with System() as system:
        sup = Supervisor.start_link([child(Echo)])
        victim: Any = sup.which_child(Echo).ref
        killer = Killer.start()

        def subscriber(report: Report) -> None:
            if report.ref is victim:
                killer.kill()
                Echo.start()  # who calls is dead, and this is where it is stopped

        system.reports.subscribe(subscriber)
        killer.tell(victim)
        assert killer.actor_stopped.wait(SOON)
        assert victim.actor_stopped.wait(SOON)
        assert sup.which_child(Echo).ref is not victim
        assert sup.count_children().active == 1


def test_a_value_is_changed_without_the_registry_being_held() -> None:
    """Whoever changes it may use the registry, and so may those he asks."""
    with System():
        registry = Registry()
        owner, other = Server.start(), Server.start()

        def change(_value: Any) -> Any:
            call(other, lambda self: registry.register("theirs"), SOON)
            return registry.keys()

        def own(self: Any) -> Any:
            registry.register("mine", value=0)
            return registry.update_value("mine", change)

        assert call(owner, own, SOON) == ["mine"]
        assert registry.lookup("mine")[0].value == ["mine"]
        assert registry.keys(other) == ["theirs"]
