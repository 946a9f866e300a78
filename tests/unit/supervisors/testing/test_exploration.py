"""Planted races are found, and what is told of them is small."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisors import (
    NO_REPLY,
    AlreadyStarted,
    BadSpec,
    Deadlock,
    Faults,
    Process,
    ScenarioFailed,
    Sim,
    Stuck,
    Supervisor,
    child,
    exit,
    explore,
)
from supervisors.testing import Probe, assert_tree_whole, run_in_sim
from supervisors.testing.shrinking import shrink


class Store(Process):
    """Keeps one value, and trusts its clients to read before they write."""

    def __init__(self):
        super().__init__()
        self.value = 0

    def on_receive(self, message):
        if message == "read":
            return self.value
        self.value = message
        return None


def bump(store):
    store.ask(store.ask("read") + 1)


def lost_update(sim):
    store = Store.start()
    for _ in range(2):
        sim.client(bump, store)
    sim.run_until_idle()
    assert store.ask("read") == 2


class Peer(Process):
    """Asks its peer something before it answers."""

    def on_receive(self, message):
        return message.ask(None) if message is not None else "fine"


def crossed_questions(sim):
    a, b = Peer.start(), Peer.start()
    answers = [sim.client(a.ask, b), sim.client(b.ask, a)]
    sim.run_until_idle()
    assert [answer.get() for answer in answers] == ["fine", "fine"]


class Late(Process):
    """Claims a name of its own, and forgets that a successor may be there before it is given back."""

    registry: dict[str, object]

    def init(self):
        if "late" in self.registry:
            raise AlreadyStarted(self.registry["late"])
        self.registry["late"] = self.ref
        Cleaner.of(self)

    def on_receive(self, message):
        raise RuntimeError("as told")


class Cleaner(Process):
    """Frees the name of whom it watches: as soon as it hears of the death, and so perhaps too late."""

    @classmethod
    def of(cls, process):
        cleaner = cls.start()
        cleaner.ask((process.ref, process.registry))

    def on_receive(self, message):
        ref, self.registry = message
        self.monitor(ref)

    def handle_down(self, down):
        self.registry.pop("late", None)


def name_freed_late(sim):
    registered = type("Registered", (Late,), {"registry": {}})
    sup = Supervisor.start_link([child(registered)], max_restarts=1)
    sup.which_child(registered).ref.tell("crash")
    sim.run_until_idle()
    assert sup.is_alive()
    assert_tree_whole()


def found(scenario, **options):
    with pytest.raises(ScenarioFailed) as caught:
        explore(scenario, **options)
    return caught.value


class TestPlantedRaces:
    def test_a_lost_update_is_found_with_its_smallest_order(self):
        failure = found(lost_update)
        assert isinstance(failure.__cause__, AssertionError)
        assert sum(1 for choice in failure.choices if choice) <= 1
        assert "Store#1: asked, str" in str(failure)
        assert f"replay={failure.choices}" in str(failure)

    def test_and_can_be_run_again(self):
        failure = found(lost_update)
        with pytest.raises(AssertionError):
            run_in_sim(lost_update, replay=failure.choices)

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_and_can_be_sent_to_another_process(self, protocol):
        failure = found(lost_update)
        again = pickle.loads(pickle.dumps(failure, protocol))
        assert (type(again), again.args, vars(again)) == (ScenarioFailed, failure.args, vars(failure))

    def test_two_processes_that_ask_each_other(self):
        failure = found(crossed_questions)
        assert isinstance(failure.__cause__, Deadlock)
        assert sum(1 for choice in failure.choices if choice) <= 2

    def test_a_name_that_is_freed_late(self):
        failure = found(name_freed_late)
        assert isinstance(failure.__cause__, AssertionError)
        assert "Registered" in str(failure)

    def test_the_runtimes_own_names_are_not(self):
        class Named(Process):
            def on_receive(self, message):
                raise RuntimeError("as told")

        def scenario(sim):
            sup = Supervisor.start_link([child(Named, name="me")], max_restarts=1)
            sim.system.whereis("me").tell("crash")
            sim.run_until_idle()
            assert sim.system.whereis("me") is sup.which_child(Named).ref
            assert_tree_whole()

        explore(scenario)

    def test_somebody_who_is_never_answered(self):
        class Forgetful(Process):
            def on_receive(self, message):
                if message == "ask":
                    waiting.append(self.current_request)
                    return NO_REPLY
                while waiting:
                    waiting.pop().reply("at last")
                return None

        waiting = []

        def scenario(sim):
            ref = Forgetful.start()
            sim.client(ref.ask, "ask")
            ref.tell("answer")
            sim.run_until_idle()

        failure = found(scenario)
        assert isinstance(failure.__cause__, Stuck)
        assert "client 1 waits for Forgetful#1" in str(failure)

    def test_a_fault_that_matters_is_in_the_trace(self):
        def scenario(sim):
            heard = []
            probe = Probe.start(heard, name="only")
            for n in range(5):
                probe.send(n)
            sim.run_until_idle()
            assert len(heard) == 5

        failure = found(scenario, faults=Faults(kill="only"))
        assert "is killed" in str(failure)
        assert sum(failure.choices) == 1

    def test_a_scenario_without_a_race_passes(self):
        def scenario(sim):
            store = Store.start()
            sim.client(bump, store).get()
            bump(store)
            assert store.ask("read") == 2

        explore(scenario)

    def test_a_supervised_tree_survives_kills_anywhere(self):
        def scenario(sim):
            inner = child(Supervisor, [named("x"), named("y")], max_restarts=9)
            sup = Supervisor.start_link([inner, named("z")], max_restarts=9)
            for name in "xyz":
                for n in range(3):
                    sim.client(lambda name=name, n=n: _send(sim, name, n))
            sim.client(lambda: exit(sup.which_child(Supervisor).ref, "kill"))
            sim.run_until_idle()
            assert [sim.system.whereis(name) is not None for name in "xyz"] == [True] * 3
            assert_tree_whole()

        explore(scenario, seeds=range(100), faults=Faults(kill=Store))


def named(name):
    return child(Store, name=name).replace(id=name)


def _send(sim, name, message):
    ref = sim.system.whereis(name)
    if ref is not None:
        ref.send(message)


class TestShrinking:
    @given(st.lists(st.integers(0, 5), max_size=40), st.sets(st.integers(0, 39), max_size=3))
    def test_what_is_left_fails_and_is_no_larger(self, choices, needed):
        needed = {at for at in needed if at < len(choices) and choices[at]}

        def fails(candidate):
            good = all(at < len(candidate) and candidate[at] for at in needed)
            return candidate if good else None

        smallest = shrink(choices, fails, tries=1000)
        assert fails(smallest) is not None
        assert sum(1 for choice in smallest if choice) == len(needed)
        assert all(choice in (0, 1) for choice in smallest)

    def test_it_gives_up_in_time(self):
        runs = []
        shrink([1] * 1000, lambda candidate: runs.append(1), tries=50)
        assert len(runs) == 50


class TestWholeness:
    def test_a_child_that_got_lost_is_named(self):
        with Sim() as sim:
            sup = Supervisor.start_link([child(Store)])
            ref = sup.which_child(Store).ref
            ref.ask("read")
            assert_tree_whole()
            ref.parent = None
            exit(ref, "kill")
            sim.settle()
            with pytest.raises(AssertionError, match=r"believes that Store#2 runs, but it is dead"):
                assert_tree_whole()


def test_a_scenario_that_somebody_blocks_runs_once_and_is_over():
    """Each run of it takes all its patience: to make it small would take hours."""
    runs, gate = [], threading.Event()

    class Blocked(Process):
        def on_receive(self, message):
            gate.wait()  # the runtime knows nothing of it

    def scenario(sim):
        runs.append(sim)
        Blocked.start().ask(1)

    with pytest.raises(ScenarioFailed, match="blocks its thread") as failed:
        explore(scenario, real_patience=0.2)
    gate.set()
    assert len(runs) == 1
    assert runs[0].broken
    assert failed.value.choices == runs[0].choices


def test_a_bare_assertion_is_told_by_its_line():
    def scenario(_sim):
        raise AssertionError

    with pytest.raises(ScenarioFailed, match="seed 0: AssertionError: in the line: raise AssertionError"):
        explore(scenario)


CTRL_C = """
import os, signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
from supervisors import Process, explore

class Slow(Process):
    def on_receive(self, message):
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait()  # what nobody knows of

def scenario(sim):
    with sim.system.activated():
        Slow.start().tell("go")
    sim.run_until_idle()

explore(scenario, seeds=range(10_000), real_patience=1.0)  # a signal in the instant before it waits is heard after it
"""


@pytest.mark.parametrize("raised", ["SystemExit(7)", "BaseException('late')"])
def test_a_signal_that_raises_something_else_is_not_made_small_either(raised):
    handled = f"def late(*_):\n    raise {raised}\nsignal.signal(signal.SIGINT, late)\n"
    program = CTRL_C.replace("class Slow", handled + "class Slow")
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False
    )
    if "SystemExit" in raised:
        assert (ended.returncode, ended.stderr) == (7, "")
    else:
        assert "ScenarioFailed: seed 0: BaseException: late" in ended.stderr
    assert "OutsideSimulation" not in ended.stderr


def test_ctrl_c_is_no_failure_of_the_scenario_and_is_not_made_small():
    ended = subprocess.run(
        [sys.executable, "-c", CTRL_C], capture_output=True, text=True, timeout=20, check=False
    )
    assert ended.returncode == -signal.SIGINT
    assert ended.stderr.rstrip().endswith("KeyboardInterrupt")
    assert "Simulation" not in ended.stderr
    assert "ScenarioFailed" not in ended.stderr


async def asynchronous(sim):
    raise AssertionError


def generating(sim):
    yield sim


async def both(sim):
    yield sim


@pytest.mark.parametrize("scenario", [asynchronous, generating, both])
def test_a_scenario_that_would_do_nothing_is_refused(scenario):
    for run in (explore, run_in_sim):
        with pytest.raises(
            BadSpec, match="would do nothing when called; a scenario must be a plain function"
        ):
            run(scenario)


def test_a_failure_that_does_not_come_again_is_told_as_it_was():
    runs = []

    def once(sim):
        runs.append(sim)
        with sim.system.activated():
            ref = Store.start()
        if len(runs) == 7:
            ref.tell("seventh")
        sim.settle()
        assert len(runs) != 7, "once"

    with pytest.raises(ScenarioFailed, match="AssertionError: once") as failed:
        explore(once)
    assert len(runs) == 8  # and not made small
    assert any("did not fail in the same way again" in note for note in failed.value.__notes__)
    assert any("str" in str(choice) for choice in failed.value.trace), "the run that failed"


def test_what_is_made_small_is_the_failure_that_was_found():
    def two_bugs(sim):
        picked = [sim.pick(*range(10)) for _ in range(4)]
        if picked == sorted(picked, reverse=True) and picked[0] > 5:
            raise AssertionError("the rare one")
        assert sum(picked) < 30, "the common one"

    for seed in range(3000):
        try:
            run_in_sim(two_bugs, seed=seed)
        except AssertionError as error:
            if "rare" not in str(error):
                continue
            with pytest.raises(ScenarioFailed, match="the rare one"):
                explore(two_bugs, seeds=[seed])
            return
    pytest.fail("no seed has the rare one")
