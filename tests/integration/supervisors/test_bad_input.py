"""Nonsense is a typed error where it is given, or a documented policy; never a hang, and it harms nobody else."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pykka
import pytest

from supervisors import (
    NO_REPLY,
    Application,
    BadSpec,
    CallingSelf,
    ChildSpec,
    Deadlock,
    DynamicSupervisor,
    Faults,
    Flags,
    GenServer,
    MailboxConfig,
    NotFound,
    OnDemand,
    PartitionSupervisor,
    Phase,
    PoolDispatcher,
    Process,
    ProcessDown,
    Registry,
    StartError,
    Supervisor,
    SupervisorError,
    System,
    TaskSupervisor,
    Via,
    call,
    cast,
    child,
    exit,
    explore,
    send,
    tell,
    trace,
    tree,
    via,
    whereis,
)
from tests.integration.supervisors.conftest import SOON, Echo

pytestmark = pytest.mark.usefixtures("blocking_system")


class Server(GenServer):
    """Does what it is called with."""

    def handle_call(self, request: Any, from_: Any) -> Any:
        return request(self) if callable(request) else request


def refused(why: str, act: Any) -> None:
    with pytest.raises(BadSpec) as error:
        act()
    assert error.value.why == why
    assert len(str(error.value)) > 20, "it says what to do"


# --- names and refs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [[], {}, set(), Via(3, "key")], ids=["list", "dict", "set", "via"])  # type: ignore[arg-type]
def test_what_can_be_no_name_is_refused_wherever_a_name_may_stand(name: Any) -> None:
    refused("invalid_name", lambda: Echo.start(name=name))
    refused("invalid_name", lambda: Supervisor.start_link(name=name))
    for use in (whereis, lambda name: tell(name, 1), lambda name: send(name, 1), lambda name: call(name, 1)):
        refused("invalid_name", lambda use=use: use(name))
    refused("invalid_name", lambda: cast(name, 1))
    for use in (
        lambda self: self.monitor(name),
        lambda self: self.send_after(0.0, name, 1),
        lambda self: self.start_timer(0.0, name, 1),
        lambda self: self.send_interval(1.0, name, 1),
    ):
        refused("invalid_name", lambda use=use: Echo.start().ask(use, timeout=SOON))


def test_a_ref_is_no_name_and_none_is_nobodys() -> None:
    ref = Echo.start()
    refused("invalid_name", lambda: Echo.start(name=ref))
    assert whereis(None) is None
    assert send(None, 1) is False
    with pytest.raises(ProcessDown):
        tell(None, 1)
    with pytest.raises(ProcessDown):
        call(None, 1)
    assert Echo.start(name=None).name is None


def test_a_key_must_have_a_hash_and_may_be_a_ref() -> None:
    registry, ref = Registry(), Echo.start()
    refused("invalid_name", lambda: registry.register([], ref))  # type: ignore[arg-type]
    refused("invalid_name", lambda: ref.system.groups.join({}, ref))  # type: ignore[arg-type]
    assert registry.register(ref, ref)
    assert whereis(via(registry, ref)) is ref
    with pytest.raises(StartError, match="hashable"):
        Echo.start(name=Via(registry, []))  # type: ignore[arg-type]


def test_a_monitor_of_a_group_that_cannot_be_leaves_nothing_behind() -> None:
    one, two = Echo.start(), Echo.start()
    groups = one.system.groups
    groups.join("group", one)
    refused("invalid_name", lambda: one.ask(lambda self: groups.monitor([]), timeout=SOON))  # type: ignore[arg-type]
    one.stop(timeout=SOON)
    assert groups.which_groups() == []
    groups.join("others", two)


@pytest.mark.parametrize("ref", ["name", None, 3, Echo], ids=repr)
def test_what_is_no_ref_is_refused(ref: Any) -> None:
    refused("invalid_ref", lambda: exit(ref, "kill"))
    refused("invalid_ref", lambda: exit(ref, "reason"))
    refused("invalid_ref", lambda: Echo.start().ask(lambda self: self.link(ref), timeout=SOON))
    refused("invalid_ref", lambda: Echo.start().ask(lambda self: self.unlink(ref), timeout=SOON))


# --- specs, classes, systems ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "like",
    [3, None, "Echo", (Echo, 3), (Echo,), object()],
    ids=["int", "None", "str", "pair", "single", "object"],
)
def test_what_is_no_child_never_reaches_a_supervisor(like: Any) -> None:
    static, dynamic = Supervisor.start_link(), DynamicSupervisor.start_link()
    for sup in (static, dynamic):
        refused("invalid_child_spec", lambda sup=sup: sup.start_child(like))
        assert sup.count_children().specs == 0
    refused("invalid_child_spec", lambda: Supervisor.start_link([like]))
    refused("invalid_child_spec", lambda: Application(like))


@pytest.mark.parametrize(
    "garbage", [3, "ref", None, (), ("ref", 1), ValueError("returned, not raised")], ids=repr
)
def test_garbage_from_a_start_function_is_the_reason(garbage: Any) -> None:
    sup = Supervisor.start_link()
    with pytest.raises(StartError) as error:
        sup.start_child(ChildSpec(id="odd", start=lambda: garbage))
    assert error.value.reason is garbage
    assert sup.which_children() == []
    dynamic = DynamicSupervisor.start_link()
    with pytest.raises(StartError):
        dynamic.start_child(ChildSpec(id="odd", start=lambda: garbage))
    assert dynamic.count_children().specs == 0


@pytest.mark.parametrize("garbage", [3, "ok", (1, 2), object()], ids=["int", "str", "pair", "object"])
def test_garbage_from_init_is_a_failed_start(garbage: Any) -> None:
    class Odd(Process):
        def init(self) -> object:
            return garbage

    with pytest.raises(StartError) as error:
        Odd.start()
    assert error.value.reason == ("bad_return_value", garbage)


@pytest.mark.parametrize("wrong", [[Echo], {}, None, ({}, [])], ids=repr)
def test_garbage_from_the_init_of_a_supervisor_is_a_failed_start(wrong: Any) -> None:
    class Odd(Supervisor):
        def init(self) -> Any:
            return wrong

    with pytest.raises(StartError) as error:
        Odd.start_link()
    assert error.value.reason == ("bad_return_value", wrong)


@pytest.mark.real("a system of its own, with threads, which a simulation does not wait for")
def test_a_class_that_names_no_dispatcher_or_mailbox_cannot_be_started() -> None:
    class Nowhere(Echo):
        dispatcher = "nowhere"

    class Boxless(Echo):
        mailbox = 3  # type: ignore[assignment]

    with System():  # the fixture's has one dispatcher for all
        refused("unknown_dispatcher", Nowhere.start)
        with pytest.raises(StartError, match="nowhere"):
            Supervisor.start_link([Nowhere])
    refused("invalid_mailbox", Boxless.start)


async def never_run(*_: Any) -> None:
    """Nobody awaits it."""


async def never_yields(*_: Any) -> Any:
    """Nobody asks it for anything."""
    yield


IMPOSSIBLE: dict[str, list[Any]] = {
    "invalid_pool": [
        lambda: PoolDispatcher(0),
        lambda: PoolDispatcher("2"),  # type: ignore[arg-type]
        lambda: PoolDispatcher(True),
        lambda: PoolDispatcher(throughput=0),
        lambda: PoolDispatcher(max_extra=-1),
    ],
    "invalid_system": [
        lambda: System(dispatcher=PoolDispatcher),  # type: ignore[arg-type]
        lambda: System(clock=3),  # type: ignore[arg-type]
        lambda: System(max_zombies=-1),
        lambda: System(max_zombies=math.inf),  # type: ignore[arg-type]
    ],
    "invalid_timeout": [
        lambda: tree(System.current(), timeout="1"),  # type: ignore[arg-type]
        lambda: Echo.start().ask(lambda self: NO_REPLY, timeout="1"),  # type: ignore[call-overload]
        lambda: Echo.start().ask(lambda self: NO_REPLY, timeout=math.nan),
        lambda: Echo.start().ask(lambda self: NO_REPLY, timeout=True),
        lambda: System().stop(timeout="1"),  # type: ignore[arg-type]
    ],
    "invalid_faults": [
        lambda: Faults(kill=3),  # type: ignore[arg-type]
        lambda: Faults(kill_chance=5),
        lambda: Faults(late_timers=math.nan),
        lambda: Faults(nth=0),
        lambda: Faults(late_by=-1.0),
        lambda: Faults(at_most=None),  # type: ignore[arg-type]
    ],
    "invalid_scenario": [
        lambda: explore(3),  # type: ignore[arg-type]
        lambda: explore(lambda sim: None, seeds=3),  # type: ignore[arg-type]
        lambda: explore(lambda sim: None, seeds=[]),
        lambda: explore(lambda sim: None, faults=3),  # type: ignore[arg-type]
    ],
    "invalid_phase": [
        lambda: Application(Echo, phases={"drain": 3}),  # type: ignore[dict-item]
        lambda: Application(Echo, phases={"drain": [3]}),  # type: ignore[list-item]
        lambda: Phase(3),  # type: ignore[arg-type]
        lambda: Phase(each for each in [3]),  # type: ignore[misc]
        lambda: Phase([print, 3]),  # type: ignore[list-item]
        lambda: Phase(timeout="1"),  # type: ignore[arg-type]
        lambda: Phase(timeout=-1.0),
        lambda: Phase(timeout=math.nan),
    ],
    "invalid_ref": [
        lambda: tree(3),  # type: ignore[arg-type]
        lambda: Registry().register("key", "name"),  # type: ignore[arg-type]
        lambda: System.current().groups.join("group", "name"),  # type: ignore[arg-type]
        lambda: System.current().groups.leave("group", "name"),  # type: ignore[arg-type]
    ],
    "invalid_name": [
        lambda: System.current().groups.leave([], Echo.start()),  # type: ignore[arg-type]
        lambda: System.current().groups.members([]),  # type: ignore[arg-type]
        lambda: via(3, "key"),  # type: ignore[arg-type]
        lambda: via(Registry(), []),  # type: ignore[arg-type]
        lambda: Registry(listeners=[["name"]]),  # type: ignore[list-item]
        lambda: Registry(listeners=[Via(3, "key")]),  # type: ignore[arg-type]
        lambda: OnDemand([], child),  # type: ignore[arg-type]
    ],
    "invalid_class": [
        lambda: type("Late", (Echo,), {"shutdown": "soon"}),
        lambda: type("Late", (Echo,), {"shutdown": True}),
        lambda: type("Late", (Echo,), {"max_handler_seconds": "soon"}),
        lambda: type("Late", (GenServer,), {"passivate_after": -1}),
        lambda: type("Late", (GenServer,), {"hibernate_after": math.nan}),
        lambda: type("Late", (Echo,), {"reply_errors": ValueError}),
        lambda: type("Late", (Echo,), {"reply_errors": (ValueError, "KeyError")}),
        lambda: type("Late", (Echo,), {"init": never_run}),
        lambda: type("Late", (Echo,), {"terminate": never_run}),
        lambda: type("Late", (Echo,), {"on_stop": never_run}),
        lambda: type("Late", (GenServer,), {"handle_call": never_run}),
        lambda: type("Late", (GenServer,), {"handle_cast": never_yields}),
        lambda: type("Late", (type("Mixed", (), {"handle_info": never_run}), GenServer), {}),
    ],
    "badarg": [
        lambda: tree(System.current(), limit="x"),  # type: ignore[arg-type]
        lambda: tree(System.current(), limit=-1),
        lambda: Registry(listeners="name"),
        lambda: Registry(listeners=3),  # type: ignore[arg-type]
        lambda: PartitionSupervisor.via("name", object()),
        lambda: PartitionSupervisor.via("name", [1]),  # type: ignore[arg-type]
        lambda: Supervisor.start_link().update(3, []),  # type: ignore[arg-type]
        lambda: Supervisor.start_link().update(Flags(), 3),  # type: ignore[arg-type]
        lambda: DynamicSupervisor.start_link().update(Flags()),  # type: ignore[arg-type]
        lambda: System.current().reports.subscribe(3),  # type: ignore[arg-type]
        lambda: Echo.start().add_exit_callback(3),  # type: ignore[arg-type]
        lambda: Echo.start().ask(lambda self: self.on_kill(3)),
        lambda: trace(Server.start(), 3),  # type: ignore[arg-type]
        lambda: OnDemand("supervisor", None),  # type: ignore[arg-type]
        lambda: OnDemand(Supervisor.start_link(), child),  # type: ignore[arg-type]
        lambda: TaskSupervisor.start_link().async_nolink(3),  # type: ignore[arg-type]
        lambda: TaskSupervisor.start_link().start_child(3),  # type: ignore[arg-type]
    ],
    "invalid_mailbox": [
        lambda: MailboxConfig(maxlen="1"),  # type: ignore[arg-type]
        lambda: MailboxConfig(maxlen=1, policy="block", timeout=-1),
        lambda: MailboxConfig(maxlen=1, policy="block", timeout=math.nan),
    ],
    "invalid_deadline": [
        lambda: Application(Echo, deadline=-1),
        lambda: Application(Echo, deadline="soon"),  # type: ignore[arg-type]
    ],
}


def test_a_method_that_nobody_but_the_class_calls_may_be_a_coroutine() -> None:
    assert type("Own", (Process,), {"handle_call": never_run}).start().is_alive()  # it is no GenServer


def test_an_answer_may_be_a_coroutine_for_the_asker_to_await() -> None:
    class Slow(Process):
        async def on_receive(self, message: Any) -> Any:
            return message

    assert asyncio.run(Slow.start().ask(1, timeout=SOON)) == 1


@pytest.mark.parametrize("why", IMPOSSIBLE)
def test_what_cannot_work_is_refused_when_it_is_made(why: str) -> None:
    for make in IMPOSSIBLE[why]:
        refused(why, make)


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("delay", [math.nan, "1", None, True], ids=repr)
def test_a_delay_is_seconds(delay: Any, absolute: bool) -> None:
    with pytest.raises(ValueError, match="delay"):
        Echo.start().ask(lambda self: self.send_after(delay, self.ref, 1, absolute=absolute), timeout=SOON)


@pytest.mark.parametrize("id", [[], None, "unknown"], ids=repr)
def test_an_unknown_child_is_not_found_whatever_it_is(id: Any) -> None:
    static, dynamic = Supervisor.start_link([child(Echo)]), DynamicSupervisor.start_link()
    for ask in (
        static.terminate_child,
        static.restart_child,
        static.delete_child,
        static.which_child,
        static.get_childspec,
        dynamic.terminate_child,
    ):
        with pytest.raises(NotFound):
            ask(id)
    with pytest.raises(NotFound):
        static.terminate_child(static.which_child(Echo).ref)  # a ref is no id
    assert static.count_children().active == 1


def test_a_constructor_that_forgets_its_base_is_told_so() -> None:
    class Forgetful(Process):
        def __init__(self) -> None:
            pass

    with pytest.raises(
        SupervisorError, match=r"Forgetful.__init__ did not call super\(\).__init__\(\); call it first"
    ):
        Forgetful.start()


def test_an_infinite_timeout_is_none() -> None:
    assert Echo.start().ask(1, timeout=math.inf) == 1
    assert call(Server.start(), 1, math.inf) == 1


# --- the dead, oneself, and circles -----------------------------------------------------------------------------------


def test_whatever_is_asked_of_the_dead_is_answered() -> None:
    sup = Supervisor.start_link([child(Echo)])
    ref = Echo.start()
    for each in (sup, ref):
        each.stop()
    for ask in (
        sup.which_children,
        sup.count_children,
        lambda: sup.start_child(Echo),
        lambda: sup.terminate_child(Echo),
    ):
        with pytest.raises(ProcessDown):
            ask()
    for ask in (
        lambda: ref.ask(1),
        lambda: ref.tell(1),
        lambda: call(ref, 1),
        lambda: ref.ask(1, block=False).get(),
    ):
        with pytest.raises(pykka.ActorDeadError):
            ask()
    nobody = PartitionSupervisor.via("nobody", "key")
    cast(nobody, 1)
    assert send(nobody, 1) is False
    assert ref.stop() is False
    assert ref.send(1) is False
    cast(ref, 1)
    exit(ref, "kill")
    exit(ref, "reason")


def test_calling_oneself_is_an_error_also_in_init_and_by_name() -> None:
    class Eager(Server):
        def init(self) -> None:
            call("eager", "are you there?")

    with pytest.raises(StartError) as error:
        Eager.start(name="eager")
    assert isinstance(error.value.__cause__, CallingSelf)
    with pytest.raises(CallingSelf):
        call(Server.start(), lambda self: call(self.ref, 1))


def test_a_circle_of_three_that_call_each_other_is_an_error() -> None:
    names = ["a", "b", "c"]
    for name in names:
        Server.start(name=name)

    def ring(start: int) -> Any:
        def go(self: Any) -> Any:
            return call(names[(start + 1) % 3], ring((start + 1) % 3), timeout=None)

        return go

    with pytest.raises(Deadlock) as error:
        call("a", ring(0), timeout=SOON)
    assert len(error.value.cycle) == 4, "from the last one round to itself"


def test_a_circle_through_an_init_is_an_error() -> None:
    class Asking(Server):
        def init(self) -> None:
            call("asked", lambda _asked: call("asking", "are you there?", timeout=None), timeout=None)

    class Starting(Server):
        def handle_call(self, request: Any, from_: Any) -> Any:
            return Asking.start(name="asking")

    Server.start(name="asked")
    with pytest.raises(StartError) as error:
        call(Starting.start(), "start it", timeout=SOON)
    assert isinstance(error.value.__cause__, Deadlock)


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
def test_a_child_that_asks_its_supervisor_while_that_waits_for_it_is_told(kind: Any) -> None:
    told: list[Any] = []

    class Asks(Process):
        def __init__(self, when: str) -> None:
            super().__init__()
            self.when = when

        def ask(self) -> None:
            with pytest.raises(Deadlock):
                whereis("boss").count_children()  # type: ignore[union-attr]
            told.append(self.when)

        def init(self) -> None:
            if self.when == "init":
                self.ask()

        def terminate(self, reason: Any) -> None:
            if self.when == "terminate":
                self.ask()

    boss = kind.start_link(name="boss")
    boss.start_child(child(Asks, "init"))
    second = boss.start_child(child(Asks, "terminate").replace(id=2))
    boss.terminate_child(2 if kind is Supervisor else second)
    assert told == ["init", "terminate"]
    assert boss.count_children().active == 1


class Refuses(Process):
    def init(self) -> None:
        raise LookupError("no such shop")


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_a_start_that_fails_has_its_exception_as_the_cause_however_deep_it_was(levels: int) -> None:
    spec = child(Refuses)
    for level in range(levels):
        spec = child(Supervisor, [spec], name=f"level {level}")
    with pytest.raises(StartError) as failed:
        Supervisor.start_link([spec])
    assert repr(failed.value.__cause__) == "LookupError('no such shop')"


class Restful(Process):
    def __init__(self, restart: str) -> None:
        super().__init__()
        self.restart = restart  # type: ignore[misc]


@pytest.mark.parametrize("name", ["restart", "shutdown", "significant", "backoff", "type", "start_timeout"])
def test_an_option_of_the_child_among_its_arguments_is_refused(name: str) -> None:
    with pytest.raises(
        BadSpec, match=rf"Echo.* takes no argument '{name}'.*child\(\.\.\.\)\.replace\({name}="
    ) as bad:
        child(Echo, **{name: "transient"})
    assert (bad.value.why, bad.value.value) == ("invalid_start", name)
    assert child(Restful, restart="daily").kwargs == {"restart": "daily"}, "an argument of its own"


def test_a_misspelt_option_of_a_supervisor_is_named() -> None:
    with pytest.raises(
        BadSpec, match="a Supervisor has no option 'max_restart'; did you mean 'max_restarts'"
    ):
        Supervisor.start_link([], max_restart=3)
    with pytest.raises(
        BadSpec, match="no option 'x'; its options: max_children, max_restarts, max_seconds, extra_args"
    ):
        DynamicSupervisor.start_link(x=3)
    with pytest.raises(BadSpec, match="a Supervisor takes its children in one list, and its options by name"):
        Supervisor.start_link([], "one_for_one")
    with pytest.raises(BadSpec, match=r"no option 'restart'; .* child\(\.\.\.\)\.replace\(restart=\.\.\.\)"):
        Supervisor.start_link([], restart="temporary")
    with pytest.raises(BadSpec, match="begins without children; start them later, with start_child"):
        DynamicSupervisor.start_link([child(Echo)])


def test_a_name_of_another_system_is_told_where_it_was_looked_for() -> None:
    with System() as other:
        Echo.start(name="there")
        with (
            System(),
            pytest.raises(
                ProcessDown, match="process 'there' not found: nobody has this name in the current System"
            ),
        ):
            call("there", 1)
        with other.activated():
            assert whereis("there") is not None
