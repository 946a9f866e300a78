"""Children whose start is a function, and children that know nothing of supervision."""

import pykka
import pytest

from supervisors import (
    IGNORE,
    AlreadyStarted,
    ChildSpec,
    DynamicSupervisor,
    StartError,
    Supervisor,
    child,
    exit,
)
from supervisors.supervisor import START_TIMEOUT, Request
from tests.integration.supervisors.conftest import Worker
from tests.integration.supervisors.supervision.family import DEADLINE, Event, Slow, crash, deaf, ref_of


class TestStartFunctions:
    def start(self, function, **fields):
        return Supervisor.start_link([]).start_child(ChildSpec(id="f", start=function, **fields))

    def test_may_return_a_ref_or_a_ref_and_info_or_ignore(self, log):
        assert self.start(lambda: Worker.start_link(log, "a")).ask(1) == 1
        ref, info = self.start(lambda: (Worker.start_link(log, "a"), "info"))
        assert (ref.ask(2), info) == (2, "info")
        assert self.start(lambda: IGNORE) is None

    def test_when_one_fails_who_was_spawned_meanwhile_lives_on(self, log):
        def fail():
            entered.set()
            assert go.wait(DEADLINE)
            raise ValueError("no")

        entered, go = Event(), Event()
        sup = DynamicSupervisor.start_link()
        started = sup.start_child_soon(ChildSpec(id="f", start=fail))
        assert entered.wait(DEADLINE)
        ref = sup.spawn_child(Worker, log, "a")
        go.set()
        with pytest.raises(StartError):
            started.get()
        assert sup.count_children().active == 1
        assert ref.ask(1) == 1

    def test_get_their_arguments(self, log):
        ref = self.start(
            lambda *args, **kwargs: Worker.start_link(log, (args, kwargs)), args=(1,), kwargs={"b": 2}
        )
        assert ref.ask(lambda self: self.id) == ((1,), {"b": 2})

    def test_the_child_is_the_supervisors_own_from_the_start(self, log):
        sup = Supervisor.start_link([ChildSpec(id="f", start=lambda: Worker.start_link(log, "a"))])
        old = ref_of(sup, "f")
        assert old.parent is sup
        old.tell(crash)
        assert log.take(3) == ["+ a", "- a", "+ a"]
        sup.stop()
        assert log.take(1) == ["- a"]

    def test_a_child_that_was_not_linked_is_taken_over(self, log):
        sup = Supervisor.start_link([ChildSpec(id="f", start=lambda: Worker.start(log, "a"))])
        ref_of(sup, "f").tell(crash)
        assert log.take(3) == ["+ a", "- a", "+ a"]
        sup.stop()
        assert log.take(1) == ["- a"]

    def test_whatever_else_they_return_is_an_error_and_the_reason(self):
        with pytest.raises(StartError) as caught:
            self.start(lambda: 42)
        assert caught.value.reason == 42

    def test_what_they_raise_is_the_reason(self, log):
        with pytest.raises(StartError) as caught:
            self.start(lambda: 1 / 0)
        assert isinstance(caught.value.reason.exc, ZeroDivisionError)
        with pytest.raises(StartError) as caught:
            self.start(lambda: Worker.start_link(log, "a", ValueError("no")))
        assert isinstance(caught.value.reason.exc, ValueError)

    def test_a_taken_name_comes_unwrapped(self, log):
        other = Worker.start(log, "x", name="me")
        with pytest.raises(AlreadyStarted) as caught:
            self.start(lambda: Worker.start_link(log, "y", name="me"))
        assert caught.value.ref is other

    def test_a_child_that_died_before_it_was_handed_over_is_restarted(self, log):
        def start():
            ref = Worker.start_link(log, "a")
            if started:
                return ref
            started.append(1)
            exit(ref, "kill")
            return ref

        started = []
        sup = Supervisor.start_link([ChildSpec(id="f", start=start)])
        assert log.take(2) == ["+ a", "+ a"]
        assert ref_of(sup, "f").is_alive()

    def test_a_start_that_takes_too_long_fails(self, system):
        may = Event()
        sup = Supervisor.start_link([])
        with pytest.raises(StartError) as caught:
            sup.start_child(child(Slow, may).replace(start_timeout=0.02))
        assert caught.value.reason == START_TIMEOUT
        with pytest.raises(StartError) as caught:
            sup.start_child(ChildSpec(id="f", start=lambda: Slow.start_link(may), start_timeout=0.02))
        assert caught.value.reason == START_TIMEOUT
        assert system.processes() == [sup]
        may.set()

    @pytest.mark.parametrize("end", [ValueError, SystemExit])
    def test_what_a_failing_function_has_started_is_not_left_behind(self, system, log, end):
        def start():
            Worker.start_link(log, "half", name="half")
            raise end("no")

        sup = Supervisor.start_link([])
        with pytest.raises(StartError, match="no"):
            sup.start_child(ChildSpec(id="f", start=start))
        assert system.whereis("half") is None
        assert sup.count_children().specs == 0

    def test_a_function_that_was_given_up_cannot_start_anything_any_more(self, system, log):
        may, over = Event(), Event()

        def start():
            deaf(may)
            try:
                return Worker.start_link(log, "late")
            finally:
                over.set()

        sup = Supervisor.start_link([])
        with pytest.raises(StartError):
            sup.start_child(ChildSpec(id="f", start=start, start_timeout=0.02))
        may.set()
        assert over.wait(DEADLINE)
        assert (log.rest(), system.processes()) == ([], [sup])

    def test_a_slow_function_does_not_keep_the_supervisor_from_being_looked_after(self, log):
        may = Event()
        sup = Supervisor.start_link([])
        spec = ChildSpec(id="f", start=lambda: may.wait(DEADLINE) and Worker.start_link(log, "a"))
        start = sup.ask(Request("start_child", (spec,)), block=False)
        stopped = sup.stop(block=False)
        may.set()
        assert start.get(timeout=DEADLINE) is not None
        assert stopped.get(timeout=DEADLINE)
        assert log.rest() == ["+ a", "- a"]


class Plain(pykka.ThreadingActor):
    """Knows nothing of supervision."""

    def __init__(self, log, fails=False):
        super().__init__()
        self.log = log
        self.fails = fails

    def on_start(self):
        if self.fails:
            raise ValueError("no")
        self.log.add("+ plain")

    def on_stop(self):
        self.log.add("- plain")

    def on_receive(self, message):
        if message == "crash":
            raise RuntimeError("as told")
        return message


@pytest.mark.real("plain actors bring threads of their own")
class TestPlainActors:
    def test_are_restarted_and_stopped_like_any_child(self, log):
        sup = Supervisor.start_link([child(Plain, log)])
        old = ref_of(sup, Plain)
        assert old.ask("alive") == "alive"
        old.tell("crash")
        assert log.take(2) == ["+ plain", "+ plain"]
        assert ref_of(sup, Plain) is not old
        sup.stop()
        assert log.take(1) == ["- plain"]

    def test_a_failed_on_start_is_a_failed_start(self, log):
        with pytest.raises(StartError):
            Supervisor.start_link([]).start_child(child(Plain, log, fails=True))
