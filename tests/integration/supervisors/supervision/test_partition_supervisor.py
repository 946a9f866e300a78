"""Partitions: addressed by key, restarted in place, and as many as wanted."""

import pytest

from supervisors import (
    NOPROC,
    BadSpec,
    GenServer,
    ProcessDown,
    StartError,
    Supervisor,
    SupervisorError,
    ask,
    call,
    child,
    exit,
    send,
    tell,
    whereis,
)
from supervisors.supervisor import PartitionSupervisor
from tests.integration.supervisors.conftest import Watcher, Worker
from tests.integration.supervisors.supervision.family import DEADLINE, Event, eventually

via = PartitionSupervisor.via


class Cache(GenServer):
    def __init__(self, *args):
        super().__init__()
        self.args = args

    def handle_call(self, request, from_):
        return self.args if request == "args" else self.ref


@pytest.fixture
def caches(system):
    return PartitionSupervisor.start_link(child(Cache, "x"), name="caches", partitions=3)


def test_a_timer_finds_the_partition_of_its_own_system(system):
    class Reminded(Cache):
        def handle_info(self, message):
            message(self)

    arrived, lost = Event(), Event()
    system.dead_letters.subscribe(lambda letter: letter.message == "lost" and lost.set())
    PartitionSupervisor.start_link(child(Reminded, "x", arrived), name="reminded", partitions=3)
    Reminded.start().tell(
        lambda self: self.send_after(0.0, via("reminded", "alice"), lambda it: it.args[1].set())
    )
    Reminded.start().tell(lambda self: self.send_after(0.0, via("nobody", "alice"), "lost"))
    assert arrived.wait(DEADLINE)
    assert lost.wait(DEADLINE)


def test_a_key_finds_its_partition_and_always_the_same(caches):
    refs = [line.ref for line in caches.which_children()]
    assert [line.id for line in caches.which_children()] == [0, 1, 2]
    assert [call(via("caches", key), "who") for key in (0, 1, 2, 3, -4)] == [
        refs[0],
        refs[1],
        refs[2],
        refs[0],
        refs[1],
    ]
    assert call(via("caches", "alice"), "who") is call(via("caches", "alice"), "who")
    assert ask(via("caches", "alice"), "args") == ("x",)


def test_partitions_that_are_given_up_are_nobodys_any_more_and_the_last_one_goes_first(system, log):
    class Leaving(Cache):
        def terminate(self, reason):
            log((self.args, PartitionSupervisor.partitions("leaving")))

    spec = child(Leaving)
    PartitionSupervisor.start_link(
        spec, name="leaving", partitions=3, with_arguments=lambda args, number: [number]
    )
    assert PartitionSupervisor.resize("leaving", 1) == 3
    assert log.rest() == [((2,), 1), ((1,), 1)]


def test_an_address_survives_a_restart(caches):
    address = via("caches", 1)
    before = whereis(address)
    exit(before, "kill")
    assert eventually(lambda: caches.which_child(1).ref not in (before, None, "restarting"), True)
    assert call(address, "who") is caches.which_child(1).ref


def test_each_partition_may_have_arguments_of_its_own(system):
    PartitionSupervisor.start_link(
        child(Cache, "x"), name="caches", partitions=2, with_arguments=lambda args, n: [*args, n]
    )
    assert [call(via("caches", n), "args") for n in (0, 1)] == [("x", 0), ("x", 1)]


def test_without_a_number_there_is_one_for_each_cpu(system):
    import os

    sup = PartitionSupervisor.start_link(Cache, name="caches")
    assert sup.count_children().specs == os.cpu_count() == PartitionSupervisor.partitions("caches")


def test_partitions_can_be_fewer_and_again_more(caches):
    assert PartitionSupervisor.resize("caches", 1) == 3
    assert PartitionSupervisor.partitions("caches") == 1
    assert [line.ref is None for line in caches.which_children()] == [False, True, True]
    assert call(via("caches", 2), "who") is caches.which_child(0).ref
    assert PartitionSupervisor.resize("caches", 3) == 1
    assert call(via("caches", 2), "who") is caches.which_child(2).ref


def numbers_of(sup):
    return [line.id for line in sup.which_children() if line.ref is not None]


def test_a_resize_that_fails_leaves_as_many_as_there_were(system, log):
    class Fragile(Worker):
        def init(self):
            if self.id in broken:
                raise OSError("disk full")
            return super().init()

    broken = []
    sup = PartitionSupervisor.start_link(
        child(Fragile, log), name="fragile", partitions=4, with_arguments=lambda args, n: [*args, n]
    )
    PartitionSupervisor.resize("fragile", 1)
    broken.append(3)
    with pytest.raises(StartError, match="disk full"):
        PartitionSupervisor.resize("fragile", 4)
    assert PartitionSupervisor.partitions("fragile") == 1
    assert numbers_of(sup) == [0]
    broken.clear()
    assert PartitionSupervisor.resize("fragile", 4) == 1
    assert PartitionSupervisor.resize("fragile", 2) == 4
    assert numbers_of(sup) == [0, 1]


def test_partitions_that_run_already_may_be_opened(system):
    sup = PartitionSupervisor.start_link(Cache, name="caches", partitions=3, strategy="one_for_all")
    PartitionSupervisor.resize("caches", 1)
    exit(sup.which_child(0).ref, "kill")
    assert eventually(lambda: numbers_of(sup), [0, 1, 2])
    assert PartitionSupervisor.resize("caches", 3) == 1
    assert call(via("caches", 2), "who") is sup.which_child(2).ref


def test_temporary_partitions_can_be_fewer_and_again_more(system):
    spec = child(Cache, "x").replace(restart="temporary")
    sup = PartitionSupervisor.start_link(spec, name="caches", partitions=3)
    exit(sup.which_child(2).ref, "kill")
    assert eventually(lambda: numbers_of(sup), [0, 1])
    assert PartitionSupervisor.resize("caches", 1) == 3
    assert PartitionSupervisor.resize("caches", 3) == 1
    assert numbers_of(sup) == [0, 1, 2]
    assert call(via("caches", 2), "args") == ("x",)


def test_without_partitions_nothing_is_found(caches):
    PartitionSupervisor.resize("caches", 0)
    with pytest.raises(SupervisorError, match="no partitions"):
        tell(via("caches", 1), "x")
    for wrong in (-1, 4, True):
        with pytest.raises(BadSpec):
            PartitionSupervisor.resize("caches", wrong)


def test_a_stopped_partition_is_nobody(caches):
    caches.terminate_child(1)
    with pytest.raises(ProcessDown):
        tell(via("caches", 1), "x")


def test_a_supervisor_that_is_not_there_has_nobody(system, log):
    nobody = via("nobody", 1)
    assert whereis(nobody) is None
    assert send(nobody, "x") is False
    with pytest.raises(ProcessDown):
        PartitionSupervisor.partitions("nobody")

    watcher = Watcher.start(log)
    watcher.ask(lambda self: self.monitor(nobody) and None, timeout=DEADLINE)
    assert log.next().reason is NOPROC
    assert watcher.is_alive()


def test_a_supervisor_that_is_about_to_start_has_nobody_yet(system):
    found = []

    class Asking(PartitionSupervisor):
        def init(self, child, **options):
            result = super().init(child, **options)
            found.append(whereis(via("caches", 1)))
            return result

    Asking.start_link(Cache, name="caches", partitions=2)
    assert found == [None]


def test_no_name_is_taken_through_it(caches):
    with pytest.raises(StartError, match="only its supervisor names a partition"):
        Cache.start(name=via("caches", 1))


def test_who_is_no_partition_supervisor_is_not_asked(caches):
    Cache.start(name="cache")
    with pytest.raises(SupervisorError, match="is not a PartitionSupervisor"):
        tell(via("cache", 1), "x")
    with pytest.raises(ProcessDown):
        tell(via("nobody", 1), "x")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": None},
        {"partitions": 0},
        {"partitions": True},
        {"partitions": 1.5},
        {"with_arguments": lambda args, n: "ab"},
    ],
    ids=["no name", "zero", "a bool", "a fraction", "no arguments"],
)
def test_nonsense_is_refused(system, wrong):
    with pytest.raises(BadSpec):
        PartitionSupervisor.start_link(Cache, **{"name": "caches", **wrong})


def test_it_is_a_child_like_any_other(system, log):
    spec = child(PartitionSupervisor, child(Worker, log, "w"), name="workers", partitions=2)
    assert (spec.id, spec.type) == ("workers", "supervisor")
    top = Supervisor.start_link([spec])
    assert log.take(2) == ["+ w", "+ w"]
    top.stop(timeout=DEADLINE)
    assert log.take(2) == ["- w", "- w"]
