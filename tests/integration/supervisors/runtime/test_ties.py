"""Links, monitors and timers: who hears of what, in which order, and what is never heard: on every dispatcher."""

from __future__ import annotations

from typing import Any

import pytest

from supervisors.errors import ProcessDown
from supervisors.process import Down, ExitMsg, Process, Timeout, exit
from supervisors.reasons import KILLED, NOPROC, NORMAL, SHUTDOWN
from supervisors.runtime.ref import Ref
from supervisors.runtime.system import System
from supervisors.testing import Sim
from tests.integration.supervisors.conftest import SOON, Echo, Log, Watcher


def linked(a: Ref[Any], b: Ref[Any]) -> None:
    a.ask(lambda self: self.link(b), timeout=SOON)


def sync(ref: Ref[Any], log: Log) -> list[Any]:
    """What `ref` has logged by the time it answers."""
    ref.ask("sync", timeout=SOON)
    return log.rest()


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["boom", SHUTDOWN])
def test_a_linked_peer_dies_of_the_same_reason(system: System, log: Log, reason: object) -> None:
    a, b, c = Echo.start(), Echo.start(), Echo.start(on_exit=log)
    linked(a, b)
    linked(b, c)
    a.tell(lambda self: self.exit(reason))
    assert log.next() == reason
    assert b.exit_reason == reason


def test_a_normal_end_does_not_touch_linked_peers(system: System, log: Log) -> None:
    a, b = Echo.start(), Watcher.start(log)
    c = Echo.start()
    linked(a, b)
    linked(a, c)
    a.stop(timeout=SOON)
    assert log.next() == ExitMsg(a, NORMAL)
    assert c.ask(1, timeout=SOON) == 1


def test_the_peers_of_a_killed_process_see_killed_and_may_trap_it(system: System, log: Log) -> None:
    a, b = Echo.start(), Watcher.start(log)
    linked(b, a)
    exit(a, "kill")
    assert log.next() == ExitMsg(a, KILLED)
    assert b.is_alive()


def test_linking_to_the_dead_is_an_exit_signal(system: System, log: Log) -> None:
    a, b, c = Echo.start(), Watcher.start(log), Echo.start(on_exit=log)
    a.stop(timeout=SOON)
    linked(b, a)
    assert log.next() == ExitMsg(a, NOPROC)
    c.tell(lambda self: self.link(a))
    assert log.next() is NOPROC


def test_links_are_idempotent(system: System, log: Log) -> None:
    a, b = Echo.start(), Watcher.start(log)
    for _ in range(3):
        linked(b, a)
        linked(a, b)
    a.stop(timeout=SOON)
    assert sync(b, log) == [ExitMsg(a, NORMAL), "sync"]


def test_unlink_also_drops_an_exit_that_is_already_queued(system: System, log: Log) -> None:
    def link_kill_unlink(self: Process) -> None:
        self.link(a)
        exit(a, "kill")  # its exit is in our mailbox now
        self.unlink(a)

    a, b = Echo.start(), Watcher.start(log)
    b.ask(link_kill_unlink, timeout=SOON)
    assert sync(b, log) == ["sync"]


def test_a_parent_can_unlink_a_child_that_is_already_dead(system: System, log: Log) -> None:
    def spawn(self: Process) -> Any:
        return self.spawn(Echo, tag=1)

    def kill_unlink(self: Process) -> None:
        exit(child, "kill")
        self.unlink(child)

    boss = Watcher.start(log)
    child = boss.ask(spawn, timeout=SOON)
    log.next()
    boss.ask(kill_unlink, timeout=SOON)
    assert sync(boss, log) == ["sync"]


def test_an_explicit_normal_exit_does_nothing_to_another_process(system: System) -> None:
    a = Echo.start()
    exit(a, NORMAL)
    assert a.ask(1, timeout=SOON) == 1


def test_who_traps_and_has_no_parent_ends_by_a_normal_exit_from_outside(system: System, log: Log) -> None:
    a = Watcher.start(log)
    exit(a, NORMAL)
    with pytest.raises(ProcessDown):
        a.ask("sync", timeout=SOON)
    assert (a.exit_reason, log.rest()) == (NORMAL, [])


def test_exiting_oneself_with_normal_is_an_end(system: System, log: Log) -> None:
    a = Echo.start(on_exit=log)
    a.tell(lambda self: exit(self.ref, NORMAL))
    assert log.next() is NORMAL


def test_an_exit_from_a_stranger_is_trapped_and_one_from_the_parent_is_not(system: System, log: Log) -> None:
    boss, stranger = Watcher.start(log), Echo.start()
    child = boss.ask(lambda self: self.spawn(Watcher, (log,)), timeout=SOON)
    log.next()
    stranger.ask(lambda self: exit(child, "please"), timeout=SOON)
    assert log.next() == ExitMsg(stranger, "please")
    boss.ask(lambda self: exit(child, SHUTDOWN), timeout=SOON)
    assert log.next() == ExitMsg(child, SHUTDOWN)


# --- monitors ---------------------------------------------------------------------------------------------------------


def test_every_monitor_gets_exactly_one_down(system: System, log: Log) -> None:
    a, b = Echo.start(), Watcher.start(log)
    first, second = b.ask(lambda self: [self.monitor(a), self.monitor(a)], timeout=SOON)
    a.tell(lambda self: self.exit("boom"))
    assert [log.next(), log.next()] == [Down(first, a, "boom"), Down(second, a, "boom")]
    assert sync(b, log) == ["sync"]


def test_a_result_sent_before_the_end_is_seen_before_the_down(system: System, log: Log) -> None:
    def work(self: Process) -> None:
        b.tell("result")
        self.exit("done")

    b = Watcher.start(log)
    for _ in range(30):
        a = Echo.start()
        b.ask(lambda self, a=a: self.monitor(a), timeout=SOON)
        a.tell(work)
        assert log.next() == "result"
        assert log.next().reason == "done"


def test_monitoring_the_dead_or_an_unknown_name_is_down_at_once(system: System, log: Log) -> None:
    a, b = Echo.start(), Watcher.start(log)
    a.stop(timeout=SOON)
    mref = b.ask(lambda self: self.monitor(a), timeout=SOON)
    assert log.next() == Down(mref, a, NOPROC)
    assert a.exit_reason is NORMAL, "the real reason stays readable"
    mref = b.ask(lambda self: self.monitor("nobody"), timeout=SOON)
    assert log.next() == Down(mref, None, NOPROC)


def test_demonitor_drops_a_down_that_is_already_queued_unless_told_not_to(system: System, log: Log) -> None:
    def monitor_kill_demonitor(self: Process, flush: bool) -> None:
        a = targets.pop()
        mref = self.monitor(a)
        exit(a, "kill")
        self.demonitor(mref, flush=flush)

    targets = [Echo.start(), Echo.start()]
    b = Watcher.start(log)
    b.ask(lambda self: monitor_kill_demonitor(self, True), timeout=SOON)
    assert sync(b, log) == ["sync"]
    b.ask(lambda self: monitor_kill_demonitor(self, False), timeout=SOON)
    assert log.next().reason is KILLED


def test_a_monitor_dies_with_its_owner_and_leaves_nothing_behind(system: System) -> None:
    a, b = Echo.start(), Echo.start()
    b.ask(lambda self: self.monitor(a) and None, timeout=SOON)
    b.stop(timeout=SOON)
    assert a.ties is not None
    assert not a.ties.monitors


# --- timers -----------------------------------------------------------------------------------------------------------


def test_timers_arrive_in_the_order_of_their_deadlines_and_equal_ones_as_they_were_set(
    system: System, log: Log
) -> None:
    def arm(self: Process) -> None:
        at = system.clock.monotonic() + 0.02
        self.send_after(at + 0.01, self.ref, "last", absolute=True)
        self.send_after(at, self.ref, "first", absolute=True)
        self.send_after(at, self.ref, "second", absolute=True)
        self.send_after(0, self.ref, "soon")

    b = Watcher.start(log)
    b.ask(arm, timeout=SOON)
    assert [log.next() for _ in range(4)] == ["soon", "first", "second", "last"]


def test_a_cancelled_timer_never_arrives(system: System, log: Log) -> None:
    b = Watcher.start(log)
    timer = b.ask(lambda self: self.send_after(60, self.ref, "never"), timeout=SOON)
    assert 0 < timer.read() <= 60
    assert 0 < timer.cancel() <= 60
    assert timer.cancel() is None
    assert timer.read() is None


def test_timers_end_with_the_process_that_set_them(system: System, log: Log) -> None:
    a, b = Echo.start(), Watcher.start(log)
    timer = a.ask(lambda self: self.send_after(60, b, "never"), timeout=SOON)
    a.stop(timeout=SOON)
    assert timer.cancel() is None


def test_a_timer_for_a_name_looks_it_up_when_it_fires(system: System, log: Log) -> None:
    a = Echo.start()
    timer = a.ask(lambda self: self.send_interval(0.001, "later", "hello"), timeout=SOON)
    later = Watcher.start(log, name="later")
    assert log.next() == "hello"
    timer.cancel()
    later.stop(timeout=SOON)
    log.rest()
    system.dead_letters.subscribe(lambda letter: log(letter.to))
    a.ask(lambda self: self.send_after(0, "nobody", "hello"), timeout=SOON)
    assert log.next() == "nobody"


def test_a_started_timer_can_be_told_from_another(system: System, log: Log) -> None:
    b = Watcher.start(log)
    timer = b.ask(lambda self: self.start_timer(0, self.ref, "x"), timeout=SOON)
    assert log.next() == Timeout(timer, "x")


def test_an_interval_repeats_until_its_process_ends(system: System, log: Log) -> None:
    b = Watcher.start(log)
    timer = b.ask(lambda self: self.send_interval(0.001, self.ref, "tick"), timeout=SOON)
    assert [log.next() for _ in range(3)] == ["tick"] * 3
    b.stop(timeout=SOON)
    assert not timer.pending


def test_an_interval_ends_with_the_process_it_is_for(sim: Sim, log: Log) -> None:
    a, b = Echo.start(), Watcher.start(log)
    timer = a.ask(lambda self: self.send_interval(1.0, b, "tick"))
    assert log.next() == "tick"
    b.stop()
    sim.advance(2.0)
    assert not timer.pending


def test_a_negative_delay_is_an_error(system: System) -> None:
    with pytest.raises(ValueError, match="-1"):
        Echo.start().ask(lambda self: self.send_after(-1, self.ref, 0), timeout=SOON)
