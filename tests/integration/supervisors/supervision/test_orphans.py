"""What a killed supervisor leaves behind: children that take their time to end, and keep their names meanwhile."""

import math

import pytest

from supervisors import SHUTDOWN, ChildSpec, Process, StartError, Supervisor, child, exit
from supervisors.testing import Event
from tests.integration.supervisors.conftest import beside
from tests.integration.supervisors.supervision.family import DEADLINE, eventually, gone, ref_of


class Clerk(Process):
    """The first of them ends when it is told that it may, or is killed."""

    shutdown = 0.05

    def __init__(self, stays):
        super().__init__()
        self.stays = bool(stays) and stays.pop()

    def handle_shutdown(self, reason):
        self.reason = reason
        if not self.stays:
            self.finish(reason)

    def on_receive(self, message):
        self.finish(self.reason)


class Patient(Clerk):
    """The same, for whom everybody waits as long as it takes."""

    shutdown = 60.0


def by_class(clerk):
    return child(clerk, [True], name="clerk")


def by_function(clerk):
    stays = [True]
    return ChildSpec(id="clerk", start=lambda: clerk.start_link(stays, name="clerk"))


both_ways = pytest.mark.parametrize("spec", [by_class, by_function])


def office(clerk, spec=by_class):
    """A supervisor of a supervisor of a clerk, the names of the lower two, and their refs."""
    inner = child(Supervisor, [spec(clerk)], name="office")
    root = Supervisor.start([inner])
    return root, root.system.whereis("office"), root.system.whereis("clerk")


@both_ways
def test_a_restarted_supervisor_waits_until_the_orphan_has_left_its_name(system, spec):
    root, inner, orphan = office(Patient, spec)
    exit(inner, "kill")
    assert eventually(lambda: system.whereis("office") not in (None, inner), True)
    assert system.whereis("clerk") is orphan

    orphan.tell("you may leave")

    assert eventually(lambda: system.whereis("clerk") not in (None, orphan), True)
    assert ref_of(root, "office") is system.whereis("office")
    assert root.views()[0].restarts == 1


@both_ways
def test_an_orphan_that_does_not_end_in_its_time_is_killed(system, spec):
    root, inner, orphan = office(Clerk, spec)
    exit(inner, "kill")

    assert gone(orphan).wait(DEADLINE)
    assert eventually(lambda: system.whereis("clerk") not in (None, orphan), True)
    assert root.views()[0].restarts == 1


def test_a_name_that_belongs_to_somebody_alive_and_well_is_refused(system):
    Clerk.start([], name="clerk")

    with pytest.raises(StartError):
        Supervisor.start([child(Clerk, [], name="clerk")])


class Store(Process):
    """Has something to save at its end, and is told when it may."""

    shutdown = 60.0

    def __init__(self, may, begun, saved):
        super().__init__()
        self.may = may
        self.begun = begun
        self.saved = saved

    def terminate(self, reason):
        self.begun.set()
        with self.blocking():
            assert self.may.wait(DEADLINE)
        self.saved.append((reason, self.ref.killed))


def test_the_stop_of_a_system_gives_orphans_as_long_as_their_class_says(system):
    may, begun, saved = Event(), Event(), []
    store = child(Store, may, begun, saved)
    root = Supervisor.start_link([child(Supervisor, [store]).replace(id="inner", restart="temporary")])
    exit(ref_of(root, "inner"), "kill")
    exit(root, "kill")
    assert begun.wait(DEADLINE)

    stopped = beside(system.stop)
    system.timers.after(0.01, may.set)
    stopped.get(timeout=DEADLINE)

    assert saved == [(SHUTDOWN, False)]


def test_whom_the_stop_of_a_system_makes_an_orphan_gets_its_time_too(system):
    class Impatient(Supervisor):
        shutdown = 0.01

    may, begun, saved = Event(), Event(), []
    Impatient.start_link([child(Store, may, begun, saved).replace(shutdown=math.inf)])
    stopped = beside(system.stop)
    assert begun.wait(DEADLINE)
    system.timers.after(0.05, may.set)
    stopped.get(timeout=DEADLINE)

    assert saved == [(SHUTDOWN, False)]


def test_an_orphan_gets_no_more_than_the_whole_stop_may_take(system):
    may, begun, saved = Event(), Event(), []
    root = Supervisor.start_link([child(Store, may, begun, saved)])
    exit(root, "kill")
    assert begun.wait(DEADLINE)

    system.stop(timeout=0.01)

    assert system.processes() == []
    assert saved == []
    may.set()
