"""A family in a simulation, for Hypothesis to play the world around it: the children, the laws, and whoever asks.

The rule of this file: nothing waits for anything. Requests, crashes, kills and the end overlap, and the simulator
chooses who comes first. What holds for one kind of supervisor only is in the test of that kind.
"""

from collections import Counter

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from supervisors import NORMAL, SHUTDOWN, Process, Shutdown, Sim, SupervisorError, exit
from supervisors.supervisor import Request

PERIOD = 5.0

numbers = st.integers(0, 3)
intensities = st.sampled_from([0, 1, 2, 2, 3, 40, 40])
restarts = st.sampled_from(["permanent", "transient", "temporary"])
shutdowns = st.sampled_from(["brutal_kill", 0, 2.0])
seconds = st.sampled_from([0.5, 1.0, 3.0, 100.0])
sometimes = st.sampled_from([False] * 2 + [True])
seldom = st.sampled_from([False] * 19 + [True])


class World:
    """What the children do, and what became of them."""

    def __init__(self, sim, flags):
        self.sim = sim
        self.flags_at_first, self.children = flags, None
        self.failing = Counter()
        self.slow = {}
        self.asked_for = Counter()
        self.decided = 0.0  # when the supervisor last heard that a child has to be started again
        # (decided, id, the flags in force, whether somebody had asked for it), of each attempt to start
        self.begun = []
        self.lives = []  # (id, ref) of those that started, in order
        self.ends = {}  # refs, in the order in which they ended: cleaned up, or reported as killed
        self.deaths = Counter()  # how often each death was announced
        self.gave_up = False
        self.wrong = []
        sim.system.reports.subscribe(self.hear)

    @property
    def flags(self):
        """Those in force. The answers to two updates may be seen in another order than that of the updates."""
        return self.flags_at_first if self.children is None else self.children._flags

    def begin(self, id, ref):
        # An update waits its turn, so the flags are those by which this restart was decided.
        self.begun.append((self.decided, id, self.flags, self.asked_for[id] > 0))
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
        if report.kind in ("child_terminated", "start_error"):
            # A restart counts from then, though its group may take long to stop.
            self.decided = self.sim.now
        self.gave_up |= report.kind == "reached_max_restart_intensity"

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


class Counting:
    """Before a supervisor class: counts what the supervisor handles that no client has sent."""

    handled = 0

    def on_receive(self, message):
        self.handled += not isinstance(message, Request)
        return super().on_receive(message)

    def handle_exit(self, exit):
        self.handled += 1
        super().handle_exit(exit)

    def handle_down(self, down):
        self.handled += 1
        super().handle_down(down)

    def handle_system(self, signal):
        self.handled += 1
        super().handle_system(signal)


def crash(process):
    raise RuntimeError("as told")


class SimulatedFamily(RuleBasedStateMachine):
    """One supervisor, some children, one process that watches, and any number of impatient clients."""

    def open(self, seed, flags, start):
        self.questions, self.told_to_end, self.too_late = [], False, []
        self.sim = Sim(seed, max_zombies=1000)
        self.sim.__enter__()
        self.world = World(self.sim, flags)
        self.watcher = Monitor.start()
        self.heard = self.watcher.actor_inbox.owner.heard
        self.sup = start()
        self.process = self.sup.actor_inbox.owner
        self.world.children = self.process._children

    def teardown(self):
        if not hasattr(self, "sup"):
            return
        try:
            self.told_to_end = True
            self.sup.stop(block=False)
            self.sim.run_until_idle()
            self.everything_has_come_to_its_end()
        finally:
            self.sim.__exit__(None, None, None)

    def id_of(self, number):
        """The child that is meant by a number; None if there is none."""
        raise NotImplementedError

    def ref_of(self, number):
        return self.world.latest(self.id_of(number))

    def request(self, call, id=None):
        """Have a client of its own call, and wait for the answer; it may concern the start of this child."""
        self.world.asked_for[id] += 1

        def client():
            try:
                call()
            except SupervisorError:
                pass  # refused, or the supervisor is gone; but answered
            finally:
                self.world.asked_for[id] -= 1

        self.questions.append(self.sim.client(client))

    def ask(self, operation, *args):
        """Have a client ask, and see how much else is done before the answer.

        A request waits for what was there before it: the operation that runs, those that wait, and the messages in the
        mailbox, each of them one operation at most. An operation starts and stops each child once at most. That takes
        of each an exit, a DOWN, the end of a patience and the outcome of a start; and each child, and each that was
        started, may end by itself meanwhile. Everything else has to wait behind the request.
        """
        self.questions.append(self.sim.client(lambda: self.ask_now(operation, args)))

    def ask_now(self, operation, args):
        box, operations = self.sup.actor_inbox, self.process._operations
        before = (
            len(box) + len(box.control or ()) + len(operations._queue) + (operations._operation is not None)
        )
        so_far, family = self.process.handled, len(self.process._children.views())
        limit = (before + 1) * (6 * (family + before) + 1)

        def answered(future):
            handled = self.process.handled - so_far
            self.too_late += [(operation, handled, limit)] if handled > limit else []

        try:
            question = self.sup.ask(Request(operation, args), block=False)
        except SupervisorError:
            return  # it is dead
        self.questions.append(question)
        question.add_done_callback(answered)

    # --- what the world does ------------------------------------------------------------------------------------------

    def tell(self, number, message):
        ref = self.ref_of(number)
        if ref is not None:
            ref.send(message)

    @rule(number=numbers)
    def a_child_crashes(self, number):
        self.tell(number, crash)

    @rule(number=numbers, times=st.integers(2, 4))
    def a_child_crashes_again_and_again(self, number, times):
        for _ in range(times):
            self.tell(number, crash)
            self.sim.settle()

    @rule(number=numbers)
    def a_child_crashes_and_cannot_be_started_again(self, number):
        self.world.failing[self.id_of(number)] = 100
        self.tell(number, crash)
        self.ask("count_children")

    @rule(number=numbers, reason=st.sampled_from([NORMAL, SHUTDOWN, Shutdown("x"), "tired"]))
    def a_child_ends(self, number, reason):
        self.tell(number, lambda self: self.exit(reason))

    @rule(number=numbers)
    def a_child_is_killed(self, number):
        ref = self.ref_of(number)
        if ref is not None:
            exit(ref, "kill")

    @rule(number=numbers, seconds=seconds)
    def a_child_hangs(self, number, seconds):
        self.tell(number, lambda self: self.world.sim.sleep(seconds))

    @rule(number=numbers, seconds=seconds)
    def a_child_will_be_slow_to_end(self, number, seconds):
        self.world.slow[self.id_of(number)] = seconds

    @rule(number=numbers, times=st.sampled_from([1, 2, 3, 100]))
    def the_next_starts_fail(self, number, times):
        self.world.failing[self.id_of(number)] += times

    @rule(number=numbers)
    def somebody_asks(self, number):
        ref = self.ref_of(number)
        if ref is not None:
            self.questions.append(ref.ask(lambda self: self.id, block=False))

    @rule(number=numbers)
    def somebody_monitors(self, number):
        ref = self.ref_of(number)
        if ref is not None:
            self.watcher.tell(ref)

    @rule(operation=st.sampled_from(["which_children", "count_children", "views"]))
    def look(self, operation):
        self.ask(operation)

    @rule(seconds=st.sampled_from([0.0, 0.5, 2.0, 6.0]))
    def time_passes(self, seconds):
        self.sim.advance(seconds)

    @precondition(lambda self: self.sup.is_alive())
    @rule(reason=st.sampled_from([SHUTDOWN, "kill"]), now=seldom)
    def the_supervisor_ends(self, reason, now):
        if now:
            self.told_to_end = True
            exit(self.sup, reason)

    # --- what holds ---------------------------------------------------------------------------------------------------

    @invariant()
    def never_two_living_incarnations_of_a_child(self):
        assert not hasattr(self, "sup") or self.world.wrong == []

    @invariant()
    def an_answer_comes_within_a_bounded_number_of_messages(self):
        assert not hasattr(self, "sup") or self.too_late == []

    @invariant()
    def never_more_restarts_than_the_intensity_allows(self):
        if not hasattr(self, "sup"):
            return
        by_itself = [start[:3] for start in self.world.begun if not start[3]]
        for nth, (end, id, flags) in enumerate(by_itself, 1):
            recent = [start for start in by_itself[:nth] if end - PERIOD <= start[0]]
            # One restart of a group starts each of its children once.
            assert [other for _, other, _ in recent].count(id) <= flags.max_restarts
            if all(getattr(then, "strategy", "one_for_one") == "one_for_one" for _, _, then in recent):
                assert len(recent) <= flags.max_restarts

    def may_end_by_itself(self):
        """Whether there was a cause for the end of the supervisor, if nobody told it to end."""
        return self.world.gave_up

    def everything_has_come_to_its_end(self):
        assert self.sup.exit_reason is not None
        assert self.sim.system.processes() == [self.watcher], "no orphan after the supervisor is gone"
        assert all(ref.exit_reason is not None for _, ref in self.world.lives)
        assert all(question.done() for question in self.questions), "every asker is answered"
        assert [question.late for question in self.questions] == [0] * len(self.questions), "and once"
        assert set(self.heard.values()) <= {1}, "every monitor is told once"
        assert self.world.deaths == Counter(ref for _, ref in self.world.lives), "every death is told once"
        self.never_two_living_incarnations_of_a_child()
        self.an_answer_comes_within_a_bounded_number_of_messages()
        self.never_more_restarts_than_the_intensity_allows()

    @invariant()
    def no_end_without_a_cause(self):
        if hasattr(self, "sup") and not self.sup.is_alive():
            assert self.told_to_end or self.may_end_by_itself()


def play(machine, examples, steps):
    """Without the explanations of Hypothesis: they cost many more runs than the shrinking."""
    phases = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, phases=phases, report_multiple_bugs=False
        ),
    )
