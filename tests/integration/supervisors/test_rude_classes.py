"""A class whose code raises where nobody expects it harms itself alone."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from supervisors import Crash, Process, Supervisor, System, child
from supervisors.process import exit as exit_process
from tests.integration.supervisors.conftest import SOON, Echo, Log, Watcher


class Rude(Echo):
    trap_exit = property(lambda self: 1 / 0)  # type: ignore[assignment]


class RudeAtTheStart(Echo):
    max_handler_seconds = 1.0
    kill_overdue = property(lambda self: 1 / 0)  # type: ignore[assignment]


def boom(_self: Process) -> None:
    raise RuntimeError("as told")


@pytest.mark.parametrize("tie", ["link", "child"])
def test_a_death_is_told_to_all_but_who_cannot_be_told(system: System, log: Log, tie: str) -> None:
    sup = Supervisor.start([child(Echo, name="innocent")], max_restarts=10)
    innocent = system.whereis("innocent")
    assert innocent is not None
    if tie == "link":
        Rude.start().ask(lambda self: self.link(innocent), timeout=SOON)
    else:
        innocent.ask(lambda self: Rude.start_link() and None, timeout=SOON)
    Watcher.start(log).ask(lambda self: self.monitor(innocent) and None, timeout=SOON)
    innocent.add_exit_callback(lambda reason: log("observed"))
    innocent.tell(boom)
    told = log.take(2)
    assert told.count("observed") == 1
    assert [isinstance(each.reason, Crash) for each in told if each != "observed"] == [True]
    assert sup.which_child(Echo).ref is not innocent


def test_a_start_that_fails_late_leaves_nobody(system: System) -> None:
    with pytest.raises(ZeroDivisionError):
        RudeAtTheStart.start()
    assert system.processes() == []


def test_a_link_to_the_dead_can_be_cut_before_it_is_felt(system: System) -> None:
    dead, alive = Echo.start(), Echo.start()
    dead.stop(timeout=SOON)
    alive.ask(lambda self: [self.link(dead), self.unlink(dead)], timeout=SOON)
    assert alive.ask("still", timeout=SOON) == "still"


@pytest.mark.real("it is about threads")
def test_on_failure_is_called_where_the_process_lives(log: Log) -> None:
    class Pinned(Process):
        dispatcher = "pinned"

        def on_receive(self, _message: Any) -> int:
            return threading.get_ident()

        def on_failure(self, *_: Any) -> None:
            log(threading.get_ident())

    with System():
        ref = Pinned.start()
        home = ref.ask("where?", timeout=SOON)
        exit_process(ref, Crash(ValueError("no")))
        assert log.next() == home


@pytest.mark.real("it is about threads")
def test_the_thread_of_the_timers_goes_on_when_it_was_struck(
    monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    with System() as system:
        fire, struck = system.timers.fire_due, []

        def fire_due() -> None:
            if not struck:
                struck.append(1)
                raise MemoryError
            fire()

        monkeypatch.setattr(system.timers, "fire_due", fire_due)
        system.timers.after(0.0, lambda: log("fired"))
        assert log.next() == "fired"
        assert struck
