"""The simulator: one seed, one run; and everything that could happen, might."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pykka
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisors import (
    KILLED,
    NO_REPLY,
    Backoff,
    Deadlock,
    OutsideSimulation,
    Process,
    Sim,
    SimulationError,
    StartError,
    Stuck,
    Supervisor,
    child,
    exit,
    explore,
    send,
)
from supervisors.testing import Event, Faults, InjectedFault, Probe, run_in_sim


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL + 1, logger="supervisors")


class Echo(Process):
    def on_receive(self, message):
        return message(self) if callable(message) else message


class Chatty(Process):
    """Passes what it hears on, a few times, to one of its peers."""

    def __init__(self, sim, log, name):
        super().__init__()
        self.sim, self.log, self.id = sim, log, name

    def on_receive(self, message):
        self.log.append((self.id, message, self.sim.now))
        if message == "crash":
            raise RuntimeError("as told")
        if message > 0:
            peer = self.system.whereis(self.sim.pick("a", "b", "c"))
            if peer is not None:
                peer.send(message - 1)
            self.send_after(1.0, self.ref, 0)


def busy_family(sim):
    """A little of everything: children, crashes, restarts with backoff and jitter, timers, clients, asks."""
    log = []
    specs = [
        child(Chatty, sim, log, name, name=name).replace(id=name, backoff=Backoff(min=0.1, jitter=0.5))
        for name in "abc"
    ]
    sup = Supervisor.start_link(specs, strategy="rest_for_one", max_restarts=10)
    for name in "abc":
        sim.client(lambda name=name: [send(name, n) for n in (2, "crash", 1)])
    sim.advance(5.0)
    return log, sup.views()


def run(seed, **options):
    with Sim(seed, **options) as sim:
        log, views = busy_family(sim)
        return log, [(view.id, view.restarts) for view in views], sim.trace, sim.choices


class TestRepeatable:
    @settings(max_examples=10)
    @given(st.integers(0, 2**32))
    def test_the_same_seed_makes_the_same_run(self, seed):
        assert run(seed) == run(seed)

    def test_other_seeds_make_other_runs(self):
        runs = [run(seed) for seed in range(20)]
        assert len({str(trace) for _, _, trace, _ in runs}) == 20
        assert len({str(log) for log, _, _, _ in runs}) > 10

    def test_the_choices_of_a_run_make_it_again(self):
        first = run(7)
        assert run(12345, replay=first[3]) == first

    def test_faults_are_choices_too(self):
        faults = Faults(
            kill=Chatty, fail_start=lambda ref: ref.number > 4, late_timers=0.2, cut_timeouts=0.2, at_most=5
        )
        first = run(3, faults=faults)
        assert first == run(3, faults=faults)
        assert run(99, replay=first[3], faults=faults) == first

    def test_another_interpreter_makes_the_same_run(self):
        """Neither the order of hashes nor addresses, clocks or ids of the machine matter."""
        program = """
import zlib
from tests.unit.supervisors.runtime.test_sim import run
print(zlib.crc32(repr([run(seed)[1:] for seed in range(5)]).encode()))
"""
        told = {
            subprocess.run(
                [sys.executable, "-c", program],
                check=True,
                capture_output=True,
                cwd=Path(__file__).parents[4],
                env={**os.environ, "PYTHONHASHSEED": seed},
            ).stdout
            for seed in ("1", "2")
        }
        assert len(told) == 1

    def test_nothing_is_left_of_a_simulation(self):
        before = threading.active_count()
        run(1)
        assert threading.active_count() == before


class TestTime:
    def test_moves_only_when_told_or_when_there_is_nothing_else(self):
        heard = []
        with Sim() as sim:
            probe = Probe.start(heard)
            probe.ask(lambda self: self.send_after(3600.0, self.ref, "late"))
            sim.settle()
            assert (sim.now, heard) == (0.0, [])
            sim.advance(3599.0)
            assert (sim.now, heard) == (3599.0, [])
            sim.run_until_idle()
            assert (sim.now, heard) == (3600.0, ["late"])
            with pytest.raises(ValueError, match="forward"):
                sim.advance(-1)

    def test_a_wait_lets_it_pass(self):
        with Sim() as sim:
            silent = Echo.start()
            with pytest.raises(pykka.Timeout):
                silent.ask(lambda self: NO_REPLY, timeout=60.0)
            assert sim.now == 60.0
            sim.sleep(5.0)
            assert sim.now == 65.0

    def test_timers_of_one_process_keep_their_order(self):
        for seed in range(20):
            heard = []
            with Sim(seed) as sim:
                probe = Probe.start(heard)
                probe.ask(lambda self: [self.send_after(1.0, self.ref, n) for n in range(5)])
                sim.run_until_idle()
            assert heard == [0, 1, 2, 3, 4]

    def test_those_of_several_do_not(self):
        def scenario(sim):
            heard = []
            sink = Probe.start(heard)
            for n in range(3):
                Probe.start([]).tell(lambda self, n=n: self.send_after(1.0, sink, n))
            sim.run_until_idle()
            return tuple(heard)

        assert len({run_in_sim(scenario, seed=seed) for seed in range(20)}) > 3

    def test_a_timer_and_a_message_of_the_same_instant_come_in_either_order(self):
        orders = set()
        for seed in range(20):
            heard = []
            with Sim(seed) as sim:
                probe = Probe.start(heard)
                probe.tell(lambda self: self.send_after(0.0, self.ref, "timer"))
                sim.client(probe.tell, "message")
                sim.run_until_idle()
            orders.add(tuple(heard))
        assert orders == {("timer", "message"), ("message", "timer")}


class TestOrder:
    def test_of_one_sender_is_kept(self):
        for seed in range(20):
            heard = []
            with Sim(seed, preemption=0.5) as sim:
                probe = Probe.start(heard)
                for who in "xy":
                    sim.client(lambda who=who, probe=probe: [probe.tell((who, n)) for n in range(4)])
                sim.run_until_idle()
            for who in "xy":
                assert [n for name, n in heard if name == who] == [0, 1, 2, 3]

    def test_of_several_is_not(self):
        orders = set()
        for seed in range(20):
            heard = []
            with Sim(seed) as sim:
                probe = Probe.start(heard)
                for n in range(3):
                    sim.client(probe.tell, n)
                sim.run_until_idle()
            orders.add(tuple(heard))
        assert len(orders) == 6

    def test_a_sender_can_be_overtaken_between_two_sends(self):
        """a is told before b; still, what a then sends to b may be there first."""
        first = set()
        for seed in range(40):
            heard = []
            with Sim(seed, preemption=0.3) as sim:
                b = Probe.start(heard)
                a = Echo.start()
                a.tell(lambda self, b=b: b.tell("of a"))
                b.tell("direct")
                sim.run_until_idle()
            first.add(heard[0])
        assert first == {"of a", "direct"}

    def test_a_handler_that_waits_lets_others_go_on(self):
        with Sim() as sim:
            gate = Event()
            slow, quick = Echo.start(), Echo.start()
            waiting = slow.ask(lambda self: gate.wait(), block=False)
            assert quick.ask("hello") == "hello"
            assert not waiting.done()
            gate.set()
            assert waiting.get() is True
            assert sim.now == 0.0


class TestTrouble:
    def test_who_waits_for_whom_is_told_when_nothing_can_happen(self):
        with Sim() as sim:
            silent = Echo.start()
            asker = Echo.start()
            asker.tell(lambda self: silent.ask(lambda _: NO_REPLY))
            with pytest.raises(Stuck) as caught:
                sim.run_until_idle()
            assert caught.value.waits == ((str(asker), str(silent)),)
            with pytest.raises(Stuck, match="the scenario waits for Echo#2") as caught:
                asker.ask("hello")
            assert isinstance(caught.value, Deadlock)

    def test_a_supervisor_that_waits_without_a_thread_is_told_too(self):
        class Never(Process):
            def init(self):
                Event().wait()

        with Sim():
            sup = Supervisor.start_link([])
            with pytest.raises(Stuck, match=r"Supervisor#1 waits for Never#2"):
                sup.start_child(child(Never))

    def test_what_never_rests_is_told(self):
        with Sim(max_steps=1000) as sim:
            Echo.start().ask(lambda self: self.send_interval(1.0, self.ref, "tick"))
            sim.advance(10.0)
            with pytest.raises(SimulationError, match="still busy after 1000 steps"):
                sim.run_until_idle()

    def test_foreign_threads_are_refused_and_told(self):
        refused = []

        def trespass(ref):
            try:
                ref.tell("hello")
            except OutsideSimulation as error:
                refused.append(error)

        with Sim() as sim:
            ref = Echo.start()
            thread = threading.Thread(target=trespass, args=(ref,))
            thread.start()
            thread.join()
            with pytest.raises(OutsideSimulation, match="client"):
                sim.settle()
        assert len(refused) == 1

    def test_so_are_actors_with_threads_of_their_own(self):
        class Plain(pykka.ThreadingActor):
            pass

        with Sim(), pytest.raises(StartError) as caught:
            Supervisor.start_link([child(Plain)])
        assert "thread of its own" in str(caught.value)

    def test_a_handler_that_really_blocks_is_found(self):
        really = threading.Event()
        sim = Sim(real_patience=0.3)
        with pytest.raises(SimulationError, match=r"(?s)blocks its thread.*really\.wait"), sim:
            Echo.start().ask(lambda self: really.wait(10))
        really.set()

    def test_what_a_client_raises_does_not_pass_silently(self):
        with Sim() as sim:
            sim.client(lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                sim.run_until_idle()

    def test_unless_somebody_looks(self):
        with Sim() as sim:
            client = sim.client(lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                client.get()

    def test_a_real_circle_is_found_by_the_runtime_itself(self):
        with Sim():
            a, b = Echo.start(), Echo.start()
            with pytest.raises(Deadlock, match=r"Echo#1 -> Echo#2 -> Echo#1|Echo#2 -> Echo#1 -> Echo#2"):
                a.ask(lambda _: b.ask(lambda _: a.ask("back")))


class TestKill:
    def test_a_handler_that_waits_is_killed_and_unwound(self):
        with Sim() as sim:
            ended = []

            def hang(self):
                try:
                    sim.sleep(1000.0)
                finally:
                    ended.append(True)

            ref = Echo.start()
            ref.tell(hang)
            sim.settle()
            exit(ref, "kill")
            assert ref.exit_reason is KILLED
            sim.settle()
            assert (ended, sim.now, len(sim.system.zombies)) == ([True], 0.0, 0)

    def test_who_is_killed_while_it_cleans_up_ends_as_killed(self):
        class Slow(Process):
            def terminate(self, reason):
                Event().wait()

        def scenario(sim):
            ref = Slow.start()
            ref.stop(block=False)
            sim.settle()
            exit(ref, "kill")
            assert ref.exit_reason is KILLED

        explore(scenario, preemption=0.5)

    def test_a_system_can_be_stopped_by_one_of_its_processes(self):
        with Sim() as sim:
            ref = Echo.start()
            ref.tell(lambda self: self.system.stop())
            sim.run_until_idle()
            assert (ref.is_alive(), sim.system.stopped) == (False, True)


class TestFaults:
    def test_a_process_is_killed_before_or_after_its_nth_message(self):
        handled = set()
        for seed in range(60):
            heard = []
            with Sim(seed, faults=Faults(kill="victim", nth=2, kill_chance=0.5, at_most=1)) as sim:
                Probe.start([])
                victim = Probe.start(heard, name="victim")
                for n in range(1, 4):
                    victim.send(n)
                sim.run_until_idle()
                assert victim.is_alive() == (heard == [1, 2, 3])
            handled.add(len(heard))
        assert handled == {1, 2, 3}

    def test_a_start_fails(self):
        with Sim(faults=Faults(fail_start=Echo, fail_chance=1.0, at_most=1)):
            with pytest.raises(StartError) as caught:
                Echo.start()
            assert isinstance(caught.value.__cause__, InjectedFault)
            assert Echo.start().ask("now") == "now"

    def test_timers_are_late_and_timeouts_early(self):
        with Sim(faults=Faults(late_timers=1.0, late_by=5.0, at_most=1)) as sim:
            heard = []
            Probe.start(heard).ask(lambda self: self.send_after(1.0, self.ref, "late"))
            sim.advance(1.0)
            assert heard == []
            sim.run_until_idle()
            assert (heard, 1.0 < sim.now <= 6.0) == (["late"], True)
        with Sim(faults=Faults(cut_timeouts=1.0, at_most=1)) as sim:
            silent = Echo.start()
            with pytest.raises(pykka.Timeout):
                silent.ask(lambda self: NO_REPLY, timeout=60.0)
            assert sim.now < 60.0

    def test_predicates_choose_whom(self):
        with Sim(faults=Faults(kill=lambda ref: ref.name == "b", kill_chance=1.0)) as sim:
            a, b = Echo.start(name="a"), Echo.start(name="b")
            a.send(1)
            b.send(1)
            sim.run_until_idle()
            assert (a.is_alive(), b.is_alive()) == (True, False)
