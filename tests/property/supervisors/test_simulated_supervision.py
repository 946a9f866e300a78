"""A real supervisor in a simulation, and Hypothesis for the world around it: the laws that hold in any order.

Unlike in `test_supervision_property.py` nothing waits for anything: requests, crashes, kills and the end overlap, and
the simulator chooses who comes first.
"""

import logging
from collections import Counter

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from supervisors import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    ChildSpec,
    Flags,
    Process,
    Shutdown,
    Sim,
    StartError,
    Supervisor,
    SupervisorError,
    exit,
)
from supervisors.testing import assert_tree_whole

IDS = list("abcd")
PERIOD = 5.0

ids = st.sampled_from(IDS)
strategies = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])
restarts = st.sampled_from(["permanent", "transient", "temporary"])
shutdowns = st.sampled_from(["brutal_kill", 0, 2.0])
seconds = st.sampled_from([0.5, 1.0, 3.0, 100.0])
seldom = st.sampled_from([False] * 19 + [True])
plans = st.lists(st.tuples(ids, restarts, shutdowns), max_size=4, unique_by=lambda plan: plan[0])


class World:
    """What the children do, and what became of them."""

    def __init__(self, sim):
        self.sim = sim
        self.failing = Counter()
        self.slow = {}
        self.asked_for = Counter(IDS)
        self.begun = []  # (time, id, whether somebody had asked for it), of each attempt to start
        self.lives = []  # (id, ref) of those that started, in order
        self.ends = {}  # refs, in the order in which they ended: cleaned up, or reported as killed
        self.deaths = Counter()  # how often each death was announced
        sim.system.reports.subscribe(self.hear)
        self.wrong = []

    def begin(self, id, ref):
        self.begun.append((self.sim.now, id, self.asked_for[id] > 0))
        self.wrong += [
            f"{ref} starts and {old} is not dead"
            for other, old in self.lives
            if other == id and old.exit_reason is None
        ]
        if self.failing[id] > 0:
            self.failing[id] -= 1
            raise ValueError("this start does not work")
        self.lives.append((id, ref))
        ref.add_exit_callback(lambda reason: self.deaths.update([ref]))

    def hear(self, report):
        if report.kind == "process_ended" and issubclass(report.ref.actor_class, Subject):
            self.ends.setdefault(report.ref, None)

    def latest(self, id):
        return next((ref for other, ref in reversed(self.lives) if other == id), None)


class Subject(Process):
    """Crashes, hangs and ends as it is told; slow to clean up if the world wants it."""

    def __init__(self, world, id):
        super().__init__()
        self.world, self.id = world, id

    def init(self):
        self.world.begin(self.id, self.ref)

    def on_receive(self, message):
        return message(self)

    def terminate(self, reason):
        slow = self.world.slow.pop(self.id, 0.0)
        if slow:
            self.world.sim.sleep(slow)
        self.world.ends.setdefault(self.ref, None)


class Monitor(Process):
    """Counts the DOWNs of each monitor."""

    def __init__(self):
        super().__init__()
        self.heard = Counter()

    def on_receive(self, ref):
        self.heard[self.monitor(ref)] = 0

    def handle_down(self, down):
        self.heard[down.mref] += 1


def crash(process):
    raise RuntimeError("as told")


class SimulatedSupervision(RuleBasedStateMachine):
    """One supervisor, up to four children, one process that watches, and any number of impatient clients."""

    @initialize(seed=st.integers(0, 2**32), plans=plans, strategy=strategies, intensity=st.integers(0, 3))
    def begin(self, seed, plans, strategy, intensity):
        self.intensity, self.strategy = intensity, strategy
        self.questions = []
        self.sim = Sim(seed, max_zombies=1000)
        self.sim.__enter__()
        self.world = World(self.sim)
        self.watcher = Monitor.start()
        self.heard = self.watcher.actor_inbox.owner.heard
        specs = [self.spec(*plan) for plan in plans]
        self.sup = Supervisor.start(specs, strategy=strategy, max_restarts=intensity, max_seconds=PERIOD)
        assert [id for id, _ in self.world.lives] == [spec.id for spec in specs]
        self.world.asked_for.clear()

    def spec(self, id, restart, shutdown):
        return ChildSpec(id=id, start=Subject, args=(self.world, id), restart=restart, shutdown=shutdown)

    def teardown(self):
        if not hasattr(self, "sim"):
            return
        try:
            self.sup.stop(block=False)
            self.sim.run_until_idle()
            self.everything_has_come_to_its_end()
        finally:
            self.sim.__exit__(None, None, None)

    def request(self, call, id=None):
        if id is not None:
            self.world.asked_for[id] += 1

        def client():
            try:
                call()
            except SupervisorError:
                pass  # refused, or the supervisor is gone; but answered
            finally:
                self.world.asked_for[id] -= 1

        self.questions.append(self.sim.client(client))

    def tell(self, id, message):
        ref = self.world.latest(id)
        if ref is not None:
            ref.send(message)

    # --- what the world does ------------------------------------------------------------------------------------------

    @rule(id=ids)
    def a_child_crashes(self, id):
        self.tell(id, crash)

    @rule(id=ids, reason=st.sampled_from([NORMAL, SHUTDOWN, Shutdown("x"), "tired"]))
    def a_child_ends(self, id, reason):
        self.tell(id, lambda self: self.exit(reason))

    @rule(id=ids)
    def a_child_is_killed(self, id):
        ref = self.world.latest(id)
        if ref is not None:
            exit(ref, "kill")

    @rule(id=ids, seconds=seconds)
    def a_child_hangs(self, id, seconds):
        self.tell(id, lambda self: self.world.sim.sleep(seconds))

    @rule(id=ids, seconds=seconds)
    def a_child_will_be_slow_to_end(self, id, seconds):
        self.world.slow[id] = seconds

    @rule(id=ids, times=st.integers(1, 3))
    def the_next_starts_fail(self, id, times):
        self.world.failing[id] += times

    @rule(id=ids)
    def somebody_asks(self, id):
        ref = self.world.latest(id)
        if ref is not None:
            self.questions.append(ref.ask(lambda self: self.id, block=False))

    @rule(id=ids)
    def somebody_monitors(self, id):
        ref = self.world.latest(id)
        if ref is not None:
            self.watcher.tell(ref)

    @rule(id=ids, restart=restarts, shutdown=shutdowns)
    def start_child(self, id, restart, shutdown):
        self.request(lambda: self.sup.start_child(self.spec(id, restart, shutdown)), id)

    @rule(id=ids)
    def restart_child(self, id):
        self.request(lambda: self.sup.restart_child(id), id)

    @rule(id=ids)
    def terminate_child(self, id):
        self.request(lambda: self.sup.terminate_child(id))

    @rule(id=ids)
    def delete_child(self, id):
        self.request(lambda: self.sup.delete_child(id))

    @rule()
    def look(self):
        self.request(lambda: (self.sup.which_children(), self.sup.count_children()))

    @rule(plans=plans)
    def update(self, plans):
        flags = Flags(strategy=self.strategy, max_restarts=self.intensity, max_seconds=PERIOD)
        self.request(lambda: self.sup.update(flags, [self.spec(*plan) for plan in plans]))

    @rule(seconds=st.sampled_from([0.0, 0.5, 2.0, 6.0]))
    def time_passes(self, seconds):
        self.sim.advance(seconds)

    @precondition(lambda self: self.sup.is_alive())
    @rule(reason=st.sampled_from([SHUTDOWN, "kill"]), now=seldom)
    def the_supervisor_ends(self, reason, now):
        if now:
            exit(self.sup, reason)

    @precondition(lambda self: self.sup.is_alive())
    @rule(now=seldom)
    def the_supervisor_stops_a_quiet_family(self, now):
        if not now:
            return
        self.sim.run_until_idle()
        if not self.sup.is_alive():
            return
        assert_tree_whole()
        order = [line.ref for line in self.sup.which_children() if line.ref is not None]
        before = len(self.world.ends)
        self.sup.stop()
        assert list(self.world.ends)[before:] == order[::-1]
        assert {ref.exit_reason for ref in order} <= {SHUTDOWN, KILLED}

    # --- what holds ---------------------------------------------------------------------------------------------------

    @invariant()
    def never_two_living_incarnations_of_a_child(self):
        assert getattr(self, "world", None) is None or self.world.wrong == []

    @invariant()
    def never_more_restarts_than_the_intensity_allows(self):
        if not hasattr(self, "world"):
            return
        by_itself = [(time, id) for time, id, asked_for in self.world.begun if not asked_for]
        for end, id in by_itself:
            recent = [other for time, other in by_itself if end - PERIOD <= time <= end]
            # One restart of a group starts each of its children once.
            assert recent.count(id) <= self.intensity
            assert self.strategy != "one_for_one" or len(recent) <= self.intensity

    def everything_has_come_to_its_end(self):
        assert self.sup.exit_reason is not None
        assert self.sim.system.processes() == [self.watcher], "no orphan after the supervisor is gone"
        assert all(ref.exit_reason is not None for _, ref in self.world.lives)
        assert all(question.done() for question in self.questions), "every asker is answered"
        assert [question.late for question in self.questions] == [0] * len(self.questions), "and once"
        assert set(self.heard.values()) <= {1}, "every monitor is told once"
        assert self.world.deaths == Counter(ref for _, ref in self.world.lives), "every death is told once"
        self.never_two_living_incarnations_of_a_child()
        self.never_more_restarts_than_the_intensity_allows()


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL + 1, logger="supervisors")


def play(examples, steps):
    """Without the explanations of Hypothesis: they cost many more runs than the shrinking."""
    phases = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
    run_state_machine_as_test(
        SimulatedSupervision,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, phases=phases, report_multiple_bugs=False
        ),
    )


@pytest.mark.timeout(300)  # for the shrinking, should it be needed
def test_the_laws_hold_in_any_order():
    play(examples=60, steps=40)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_and_in_many_more():
    play(examples=5000, steps=60)


def test_a_start_that_fails_is_no_life():
    with Sim() as sim:
        world = World(sim)
        world.failing["a"] = 1
        with pytest.raises(StartError):
            Supervisor.start([ChildSpec(id="a", start=Subject, args=(world, "a"))])
        assert (world.lives, dict(world.deaths), len(world.begun)) == ([], {}, 1)
