"""A real dynamic supervisor in a simulation, and Hypothesis for the world around it: laws that hold in any order."""

import logging

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from supervisors import KILLED, SHUTDOWN, ChildSpec, DynamicFlags, DynamicSupervisor
from supervisors.testing import assert_tree_whole
from tests.property.supervisors.simulated import (
    PERIOD,
    Counting,
    SimulatedFamily,
    Subject,
    intensities,
    numbers,
    play,
    restarts,
    seldom,
    shutdowns,
)

all_flags = st.builds(
    DynamicFlags,
    max_restarts=intensities,
    max_seconds=st.just(PERIOD),
    max_children=st.sampled_from([None, 0, 1, 2, 5]),
)


class Counted(Counting, DynamicSupervisor):
    """A dynamic supervisor that counts."""


class SimulatedDynamicSupervision(SimulatedFamily):
    """A supervisor of children that come and go; each that was ever asked for has a number of its own."""

    @initialize(seed=st.integers(0, 2**32), flags=all_flags)
    def begin(self, seed, flags):
        self.count = 0
        self.limits = [flags.max_children]
        self.open(
            seed,
            flags,
            lambda: Counted.start(
                max_restarts=flags.max_restarts, max_seconds=PERIOD, max_children=flags.max_children
            ),
        )

    def id_of(self, number):
        """One of the last four."""
        return max(0, self.count - 1 - number)

    @rule(restart=restarts, shutdown=shutdowns)
    def start_child(self, restart, shutdown):
        id, self.count = self.count, self.count + 1
        spec = ChildSpec(id="any", start=Subject, args=(self.world, id), restart=restart, shutdown=shutdown)
        self.request(lambda: self.sup.start_child(spec), id)

    @rule(number=numbers)
    def terminate_child(self, number):
        self.ask("terminate_child", self.ref_of(number))

    @rule(number=numbers)
    def terminate_child_by_an_old_ref(self, number):
        id = self.id_of(number)
        self.ask("terminate_child", next((ref for other, ref in self.world.lives if other == id), None))

    @rule(flags=all_flags)
    def update(self, flags):
        self.limits.append(flags.max_children)
        self.ask("update", flags)

    @invariant()
    def never_more_children_than_any_limit_has_allowed(self):
        if hasattr(self, "sup") and None not in self.limits:
            living = [ref for _, ref in self.world.lives if ref.is_alive()]
            assert len(living) <= max(self.limits)

    @precondition(lambda self: self.sup.is_alive())
    @rule(now=seldom)
    def the_supervisor_stops_a_quiet_family(self, now):
        if not now:
            return
        self.sim.run_until_idle()
        if not self.sup.is_alive():
            return
        assert_tree_whole()
        refs = [line.ref for line in self.sup.which_children() if line.ref is not None]
        before = len(self.world.ends)
        self.told_to_end = True
        self.sup.stop()
        assert set(list(self.world.ends)[before:]) == set(refs)
        assert {ref.exit_reason for ref in refs} <= {SHUTDOWN, KILLED}


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL + 1, logger="supervisors")


@pytest.mark.timeout(300)  # for the shrinking, should it be needed
def test_the_laws_hold_in_any_order():
    play(SimulatedDynamicSupervision, examples=120, steps=40)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_and_in_many_more():
    play(SimulatedDynamicSupervision, examples=5000, steps=60)
