"""The public calls, with the names of their parameters: programs that nobody here has seen are written against these.

The rule of this file: each name once by keyword, and the plain form beside it. What the calls mean is tested elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

import supervisors
from supervisors import (
    NORMAL,
    OK,
    SHUTDOWN,
    UNBOUNDED,
    Application,
    Backoff,
    Child,
    ChildSpec,
    Counts,
    DynamicSupervisor,
    ExitMsg,
    Flags,
    GenServer,
    PartitionSupervisor,
    PoolDispatcher,
    Process,
    RealClock,
    Sim,
    SimDispatcher,
    Supervisor,
    System,
    VirtualClock,
    call,
    cast,
    check_childspecs,
    child,
    exit,
    explore,
    whereis,
)

from .conftest import SOON, Echo, Log

pytestmark = pytest.mark.real("about signatures; a system of its own, with threads")


class Server(GenServer):
    restart = "transient"
    shutdown = 1.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.given = args, kwargs

    def handle_call(self, request: Any, from_: Any) -> Any:
        return request, *self.given


@pytest.fixture
def system() -> Iterator[System]:
    with System(dispatcher=None, clock=None, max_zombies=8) as system:
        yield system


def test_everything_public_is_exported_and_exists() -> None:
    assert sorted(supervisors.__all__) == sorted(set(supervisors.__all__))
    assert [name for name in supervisors.__all__ if not hasattr(supervisors, name)] == []
    # What the attributes of a `System`, and those who write a dispatcher of their own, have to name.
    for name in ("Names", "Groups", "Timers", "DeadLetters", "Reports", "Mailbox", "Dispatcher", "Clock"):
        assert name in supervisors.__all__


def test_child_specs() -> None:
    spec = ChildSpec(
        id="w",
        start=Server,
        args=(1,),
        kwargs={"b": 2},
        restart="transient",
        shutdown=math.inf,
        type="worker",
        significant=True,
        backoff=Backoff(),
        start_timeout=3.0,
        crash_on_ask_error=None,
    )
    assert spec.replace(id="other", shutdown=1.0).id == "other"
    assert child(Server, 1, port=8080).kwargs == {"port": 8080}
    assert (child(Server).id, child(Server).restart, child(Server).shutdown) == (Server, "transient", 1.0)
    check_childspecs([spec, Server, (Echo, ())], auto_shutdown="any_significant")
    check_childspecs(specs=[Server])


def test_supervisors(system: System) -> None:
    sup = Supervisor.start_link(
        children=(each for each in [child(Server, 1)]),
        strategy="one_for_one",
        max_restarts=3,
        max_seconds=5.0,
        auto_shutdown="never",
        name="sup",
    )
    worker = sup.start_child(spec=ChildSpec(id="w", start=Server))
    assert sup.which_children()[-1] == Child(id="w", ref=worker, type="worker")
    assert sup.which_child(id="w").ref is worker
    assert sup.count_children() == Counts(specs=2, active=2, supervisors=0, workers=2)
    assert sup.get_childspec(id=Server).args == (1,)
    sup.terminate_child(id="w")
    assert sup.restart_child(id="w") is not worker
    sup.terminate_child("w")
    sup.delete_child(id="w")
    sup.update(flags=Flags(strategy="one_for_all"), children=iter([child(Server, 2)]))
    assert sup.stop(reason=SHUTDOWN, timeout=SOON, block=True) is True
    assert sup.exit_reason is SHUTDOWN
    assert Supervisor.start_link([Server]).stop(block=False).get(timeout=SOON) is True


def test_dynamic_and_partition_supervisors(system: System) -> None:
    dynamic = DynamicSupervisor.start_link(
        max_children=None, max_restarts=3, max_seconds=5.0, extra_args=(9,), name="dynamic"
    )
    one = dynamic.start_child(spec=Server)
    assert not isinstance(one, tuple)
    assert call(one, "x") == ("x", (9,), {})
    dynamic.terminate_child(ref=one)
    PartitionSupervisor.start_link(
        child=child(Server),
        name="parts",
        partitions=2,
        with_arguments=lambda args, partition: (partition, *args),
    )
    assert call(PartitionSupervisor.via(name="parts", key=1), "x") == ("x", (1,), {})
    assert PartitionSupervisor.resize(name="parts", n=1) == PartitionSupervisor.resize("parts", 2) + 1 == 2
    assert PartitionSupervisor.partitions(name="parts") == 2


class Agent(Process):
    restart = "permanent"
    shutdown = 5.0
    trap_exit = True
    mailbox = UNBOUNDED
    dispatcher = "blocking"

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def init(self) -> Any:
        self.continue_("go on")
        return OK, "info"

    def handle_continue(self, arg: Any) -> None:
        self.log(arg)

    def handle_exit(self, exit: ExitMsg) -> None:
        self.log(exit.reason)

    def on_receive(self, message: Any) -> Any:
        return message(self) if callable(message) else self.log(message)


def test_processes(system: System, log: Log) -> None:
    agent, info = Agent.start_link(log, name="agent")  # type: ignore[misc]
    assert (info, log.next()) == ("info", "go on")
    other = Echo.start()

    def use(self: Agent) -> None:
        self.link(ref=other)
        self.unlink(ref=other)
        self.demonitor(m=self.monitor(target=other), flush=True)
        self.demonitor(self.monitor("agent"))
        self.send_after(delay=0.0, dest="agent", msg="one")
        self.start_timer(delay=60.0, dest=self.ref, msg="two").cancel()
        self.send_interval(period=60.0, dest=self.ref, msg="three").cancel()
        assert not self.stopping.is_set()
        assert self.incarnation == 0

    agent.ask(use, timeout=SOON)
    assert log.next() == "one"
    exit(ref=other, reason="kill")
    with pytest.raises(supervisors.ProcessDown) as down:
        agent.ask(lambda self: self.exit(reason="enough"), timeout=SOON)
    assert down.value.reason == "enough"
    server = Server.start(name="server")
    assert call(server="server", request=1, timeout=None) == call(server, 1, 5.0)
    cast(server=server, request=1)
    assert whereis("server") is server


def test_systems_simulations_and_applications() -> None:
    with System(dispatcher=PoolDispatcher(), clock=RealClock(), max_zombies=2) as system:
        assert System.current() is system
        system.stop(reason=SHUTDOWN, timeout=SOON)
    with System() as system:
        system.stop(NORMAL, SOON)
    tried: list[Sim] = []
    explore(scenario=tried.append, seeds=iter(range(3)), faults=None)
    assert [type(sim.clock) for sim in tried] == [VirtualClock] * 3
    assert all(isinstance(sim.system.dispatcher("default"), SimDispatcher) for sim in tried)
    application = Application(
        root=child(Server), phases={"before_stop": [], "drain": (), "after_stop": []}, deadline=SOON
    )
    application.stop()
    assert application.run() == 0
