"""Any supervisor, any children, anything that can happen: the laws that hold throughout."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from supervisors.core.entry import RESTARTING
from supervisors.core.static import StaticChildren
from supervisors.core.steps import Stop
from supervisors.errors import SupervisorError
from supervisors.reasons import NORMAL, SHUTDOWN, Shutdown
from supervisors.spec import Flags
from tests.unit.supervisors.world import FAIL, IGNORE, World, spec

IDS = [f"{letter}." for letter in "abcdef"]
strategies = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])
restarts = st.sampled_from(["permanent", "transient", "temporary"])
shutdowns = st.sampled_from(["brutal_kill", 0, 5.0])
reasons = st.sampled_from([NORMAL, SHUTDOWN, Shutdown("x"), "crash"])
children_specs = st.lists(
    st.builds(
        lambda id, restart, shutdown: spec(id, restart=restart, shutdown=shutdown),
        st.sampled_from(IDS),
        restarts,
        shutdowns,
    ),
    unique_by=lambda s: s.id,
)


def events(trace):
    """The trace as (what, id) pairs; a child that is asked and then killed stops once."""
    for entry in trace:
        if entry.startswith("+") and not entry.endswith("!"):
            yield "start", entry[1:].split(".")[0] + "."
        elif entry.startswith(("-", "kill:")):
            yield "stop", entry.removeprefix("kill:").removeprefix("-").split(".")[0] + "."


@given(children_specs, st.data())
def test_children_start_in_order_and_stop_in_reverse(specs, data):
    world = World()
    children = StaticChildren(Flags(), specs)
    failing = data.draw(st.sampled_from([None, *[s.id for s in specs]]))
    if failing:
        world.scripts[failing].append(FAIL)
    world.run(children.start_all())
    world.run(children.stop_all())
    happened = list(events(world.trace))
    starts = [id for what, id in happened if what == "start"]
    stops = [id for what, id in happened if what == "stop"]
    order = [s.id for s in specs]
    assert starts == (order[: order.index(failing)] if failing else order)
    assert stops == starts[::-1]
    assert children.refs() == []


class Supervision(RuleBasedStateMachine):
    """Hypothesis plays clients, crashes and failing starts; the world keeps count of who is alive."""

    @initialize(specs=children_specs, strategy=strategies, intensity=st.integers(0, 4))
    def begin(self, specs, strategy, intensity):
        self.world = World()
        self.children = StaticChildren(
            Flags(strategy=strategy, max_restarts=intensity, max_seconds=5.0), specs
        )
        self.now = 0.0
        self.ended = False
        self.intensity = intensity
        self.do(self.children.start_all())

    def do(self, operation):
        if self.ended:
            operation.close()
            return
        try:
            outcome = self.world.run(operation)
        except SupervisorError:
            return
        if isinstance(outcome, Stop):
            self.world.run(self.children.stop_all())
            self.ended = True

    @rule(id=st.sampled_from(IDS), outcome=st.sampled_from([FAIL, IGNORE]))
    def the_next_start_does_not_work(self, id, outcome):
        self.world.scripts[id].append(outcome)

    @rule(id=st.sampled_from(IDS), restart=restarts, shutdown=shutdowns)
    def start_child(self, id, restart, shutdown):
        self.do(self.children.start_child(spec(id, restart=restart, shutdown=shutdown)))

    @rule(id=st.sampled_from(IDS))
    def terminate_child(self, id):
        self.do(self.children.terminate_child(id))

    @rule(id=st.sampled_from(IDS))
    def restart_child(self, id):
        self.do(self.children.restart_child(id))

    @rule(specs=children_specs, strategy=strategies)
    def update(self, specs, strategy):
        if not self.ended:
            before = self.children.refs()
            self.children.update(
                Flags(strategy=strategy, max_restarts=self.intensity, max_seconds=5.0), specs
            )
            assert sorted(self.children.refs()) == sorted(before)

    @rule(nth=st.integers(0, 5), reason=reasons, gap=st.sampled_from([0.0, 1.0, 6.0]))
    def a_child_dies(self, nth, reason, gap):
        self.now += gap
        running = self.children.refs()
        if running:
            ref = running[nth % len(running)]
            self.world.trace.append(f"-{ref}")
            self.do(self.children.exited(ref, reason, self.now))

    @rule(nth=st.integers(0, 3))
    def a_retry_arrives_perhaps_a_stale_one(self, nth):
        if self.world.retries:
            self.do(self.children.retry(self.world.retries[-1 - nth % len(self.world.retries)], self.now))

    @rule(ref=st.sampled_from(["a.0", "stranger"]))
    def a_stranger_dies(self, ref):
        before = self.children.which_children()
        self.do(self.children.exited(ref, "crash", self.now))
        assert self.children.which_children() == before

    def alive(self):
        alive = set()
        for entry in self.world.trace:
            if entry.startswith("+") and not entry.endswith("!"):
                alive.add(entry[1:])
            elif entry.startswith(("-", "kill:")):
                alive.discard(entry.removeprefix("kill:").removeprefix("-"))
        return alive

    @invariant()
    def no_orphans_and_no_ghosts(self):
        """What the supervisor believes to run is exactly what runs."""
        assert self.alive() == set(self.children.refs())

    @invariant()
    def an_ended_supervisor_has_no_children_running(self):
        if self.ended:
            assert self.children.refs() == []

    @invariant()
    def ids_are_unique_and_lines_tell_the_state(self):
        lines = self.children.which_children()
        assert len({line.id for line in lines}) == len(lines)
        assert [line.ref for line in lines if line.ref not in (None, RESTARTING)] == [
            view.ref for view in self.children.views() if view.state == "running"
        ]

    @invariant()
    def at_most_one_incarnation_of_a_child_is_alive(self):
        alive = [ref.split(".")[0] for ref in self.alive()]
        assert len(alive) == len(set(alive))


TestSupervision = Supervision.TestCase
