"""Timers to names that are kept elsewhere: what has to be started first is, and time goes on meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from supervisors import (
    DynamicSupervisor,
    OnDemand,
    PartitionSupervisor,
    PoolDispatcher,
    Process,
    System,
    ThreadDispatcher,
    child,
    via,
)
from supervisors.testing import Event, Sim
from tests.integration.supervisors.conftest import SOON, Echo, Log, name_of


class Room(Process):
    """Is open when `opened` is set; logs what it is sent."""

    dispatcher = "blocking"

    def __init__(self, log: Log, opened: Event | None = None) -> None:
        super().__init__()
        self.log, self.opened = log, opened

    def init(self) -> None:
        if self.opened is not None:
            assert self.opened.wait(SOON)

    def on_receive(self, message: Any) -> None:
        self.log(message)


def later(dest: Any) -> None:
    """Have "hi" sent there by a timer."""
    Echo.start().ask(lambda itself: itself.send_after(0.01, dest, "hi") and None)


@pytest.mark.parametrize("system", [ThreadDispatcher, PoolDispatcher, Sim], ids=name_of, indirect=True)
def test_a_process_that_a_timer_starts_may_itself_wait_for_a_timer(system: System, log: Log) -> None:
    opened = Event()
    DynamicSupervisor.start(name="rooms")
    later(via(OnDemand("rooms", lambda _key: child(Room, log, opened)), "kitchen"))
    system.timers.after(0.1, opened.set)
    assert log.next() == "hi"


def test_who_cannot_be_started_leaves_a_dead_letter(system: System, log: Log) -> None:
    DynamicSupervisor.start(name="rooms", max_children=0)
    system.dead_letters.subscribe(log)
    later(via(OnDemand("rooms", lambda _key: child(Room, log)), "kitchen"))
    letter = log.next()
    assert letter.message == "hi"
    assert "MaxChildren" in letter.why


def test_the_partition_of_a_key_is_that_of_the_timers_system(system: System, log: Log) -> None:
    PartitionSupervisor.start(child(Room, log), name="caches", partitions=2)
    later(PartitionSupervisor.via("caches", "alice"))
    assert log.next() == "hi"
