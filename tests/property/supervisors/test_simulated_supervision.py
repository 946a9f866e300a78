"""A real supervisor in a simulation, and Hypothesis for the world around it: the laws that hold in any order.

Unlike in `test_supervision_property.py` nothing waits for anything: see `simulated.py`.
"""

import logging

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from supervisors import KILLED, SHUTDOWN, ChildSpec, Flags, Sim, StartError, Supervisor
from supervisors.testing import assert_tree_whole
from tests.property.supervisors.simulated import (
    PERIOD,
    Counting,
    SimulatedFamily,
    Subject,
    World,
    crash,
    intensities,
    numbers,
    play,
    restarts,
    seldom,
    shutdowns,
    sometimes,
)

IDS = list("abcd")

plans = st.lists(
    st.tuples(st.sampled_from(IDS), restarts, shutdowns, st.booleans()),
    max_size=4,
    unique_by=lambda plan: plan[0],
)
all_flags = st.builds(
    Flags,
    strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
    max_restarts=intensities,
    max_seconds=st.just(PERIOD),
    auto_shutdown=st.sampled_from(["never", "never", "any_significant", "all_significant"]),
)


class Counted(Counting, Supervisor):
    """A supervisor that counts."""


class SimulatedSupervision(SimulatedFamily):
    """A supervisor of up to four children that are known by their ids."""

    @initialize(seed=st.integers(0, 2**32), plans=plans, flags=all_flags)
    def begin(self, seed, plans, flags):
        self.significant = False
        specs = []

        def start():
            specs.extend(self.spec(*plan) for plan in plans)
            self.world.asked_for.update(IDS)
            return Counted.start(
                specs,
                strategy=flags.strategy,
                max_restarts=flags.max_restarts,
                max_seconds=PERIOD,
                auto_shutdown=flags.auto_shutdown,
            )

        self.flags_wanted = flags
        self.open(seed, flags, start)
        assert [id for id, _ in self.world.lives] == [spec.id for spec in specs]
        self.world.asked_for.clear()

    def spec(self, id, restart, shutdown, significant):
        # As the flags will be once everything that was asked for is done: often right, and else refused.
        significant &= restart != "permanent" and self.flags_wanted.auto_shutdown != "never"
        self.significant |= significant
        return ChildSpec(
            id=id,
            start=Subject,
            args=(self.world, id),
            restart=restart,
            shutdown=shutdown,
            significant=significant,
        )

    def id_of(self, number):
        return IDS[number]

    def may_end_by_itself(self):
        return self.world.gave_up or self.significant

    @rule(number=numbers, restart=restarts, shutdown=shutdowns, significant=st.booleans())
    def start_child(self, number, restart, shutdown, significant):
        id = IDS[number]
        spec = self.spec(id, restart, shutdown, significant)
        self.request(lambda: self.sup.start_child(spec), id)

    @rule(number=numbers)
    def restart_child(self, number):
        self.request(lambda: self.sup.restart_child(IDS[number]), IDS[number])

    @rule(number=numbers)
    def terminate_child(self, number):
        self.ask("terminate_child", IDS[number])

    @rule(number=numbers)
    def delete_child(self, number):
        self.ask("delete_child", IDS[number])

    @rule(flags=all_flags, plans=plans)
    def update(self, flags, plans):
        self.flags_wanted = flags
        self.ask("update", flags, [self.spec(*plan) for plan in plans])

    @precondition(lambda self: self.sup.is_alive())
    @rule(now=seldom)
    def the_supervisor_stops_a_quiet_family(self, now):
        if not now or not self.quiet():
            return
        order = [line.ref for line in self.sup.which_children() if line.ref is not None]
        before = len(self.world.ends)
        self.told_to_end = True
        self.sup.stop()
        assert list(self.world.ends)[before:] == order[::-1]
        assert {ref.exit_reason for ref in order} <= {SHUTDOWN, KILLED}

    @precondition(lambda self: self.sup.is_alive())
    @rule(number=numbers, flags=st.none() | all_flags, now=sometimes)
    def a_quiet_family_is_restarted(self, number, flags, now):
        if now and flags is not None:
            self.update(flags, [])
        if not now or not self.quiet():
            return
        self.sim.advance(2 * PERIOD)
        lines = self.sup.which_children()
        restart = {line.id: self.sup.get_childspec(line.id).restart for line in lines}
        ids = [line.id for line in lines]
        dying = next((line for line in lines if line.id == IDS[number]), None)
        flags = self.world.flags
        if dying is None or dying.ref is None or restart[dying.id] == "temporary" or not flags.max_restarts:
            return
        self.world.failing.clear()
        first = {"one_for_one": ids.index(dying.id), "one_for_all": 0, "rest_for_one": ids.index(dying.id)}
        group = lines[first[flags.strategy] :] if flags.strategy != "one_for_one" else [dying]
        ended, started = len(self.world.ends), len(self.world.lives)
        dying.ref.tell(crash)
        self.sim.run_until_idle()
        stopped = [line.ref for line in reversed(group) if line.ref not in (None, dying.ref)]
        assert list(self.world.ends)[ended:] == [dying.ref, *stopped]
        again = [line.id for line in group if restart[line.id] != "temporary"]
        assert [id for id, _ in self.world.lives[started:]] == again

    def quiet(self):
        """Let everything come to rest; whether the supervisor has outlived that, and its family is whole."""
        self.sim.run_until_idle()
        if not self.sup.is_alive():
            return False
        assert_tree_whole()
        return True


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL + 1, logger="supervisors")


def test_a_restart_counts_from_the_crash_and_not_from_the_start_that_a_slow_stop_holds_up():
    plans = [("a", "permanent", "brutal_kill", False), ("c", "permanent", 2.0, False)]
    family = SimulatedSupervision()
    family.begin(0, plans, Flags(strategy="one_for_all", max_restarts=1, max_seconds=PERIOD))
    family.a_child_crashes(0)
    family.a_child_hangs(2, 1.0)
    family.time_passes(PERIOD + 1.0)
    assert [id for id, _ in family.world.lives] == ["a", "c", "a", "c"]
    family.a_child_crashes_again_and_again(0, 2)
    family.teardown()
    assert family.world.gave_up


@pytest.mark.timeout(300)  # for the shrinking, should it be needed
def test_the_laws_hold_in_any_order():
    play(SimulatedSupervision, examples=150, steps=40)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_and_in_many_more():
    play(SimulatedSupervision, examples=5000, steps=60)


def test_a_start_that_fails_is_no_life():
    with Sim() as sim:
        world = World(sim, Flags())
        world.failing["a"] = 1
        with pytest.raises(StartError):
            Supervisor.start([ChildSpec(id="a", start=Subject, args=(world, "a"))])
        assert (world.lives, dict(world.deaths), len(world.begun)) == ([], {}, 1)
