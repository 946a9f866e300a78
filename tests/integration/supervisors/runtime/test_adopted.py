"""Plain Pykka actors under supervision keep Pykka's rules, and their every way of dying is seen."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pykka
import pytest

from supervisors import ChildSpec, DynamicSupervisor, OnDemand, Supervisor, ask, child, via
from supervisors.errors import (
    AlreadyStarted,
    BadSpec,
    ProcessDown,
    ProcessKilled,
    StartError,
    SupervisorError,
)
from supervisors.process import ChildStarted, ChildStartFailed, Process, exit, supervised
from supervisors.reasons import KILLED, NORMAL, SHUTDOWN, Crash
from supervisors.runtime.adopted import names_the_process
from supervisors.runtime.future import Future
from supervisors.runtime.names import Names
from supervisors.runtime.system import System
from tests.integration.supervisors.conftest import SOON, Echo, Log, Watcher, beside

pytestmark = pytest.mark.real("plain actors bring threads of their own")


class Plain(pykka.ThreadingActor):
    def __init__(self, log: Any = None, start_error: Exception | None = None) -> None:
        super().__init__()
        self.log = log or (lambda item: None)
        self.start_error = start_error
        self.me = self.actor_ref

    def on_start(self) -> None:
        if self.start_error is not None:
            raise self.start_error

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        return message(self) if callable(message) else message

    def on_stop(self) -> None:
        self.log("on_stop")

    def on_failure(self, *exc: Any) -> None:
        self.log("on_failure")


@pytest.fixture(autouse=True)
def _pykka_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", logger="pykka")


def test_the_class_is_derived_once_and_looks_the_same(system: System) -> None:
    cls = supervised(Plain)
    assert supervised(Plain) is cls
    assert supervised(cls) is cls
    assert (cls.__name__, cls.__qualname__, cls.__module__) == (
        Plain.__name__,
        Plain.__qualname__,
        Plain.__module__,
    )
    assert issubclass(cls, Plain)
    assert supervised(Echo) is Echo


def test_other_kinds_of_actors_are_refused() -> None:
    class Odd(pykka.Actor):
        pass

    with pytest.raises(SupervisorError, match="Odd"):
        supervised(Odd)


def test_it_keeps_its_thread_its_registry_entry_and_its_proxies(system: System) -> None:
    ref = supervised(Plain).start()
    assert ref in pykka.ActorRegistry.get_all()
    assert ref.ask(lambda self: self.me) is ref
    assert ref.ask(lambda self: threading.current_thread().name).startswith("Plain-")
    assert ref.proxy().start_error.get(timeout=SOON) is None
    assert ref.stop(timeout=SOON) is True
    assert ref.exit_reason is NORMAL
    assert ref not in pykka.ActorRegistry.get_all()


def test_an_exception_in_an_ask_does_not_end_it_unless_the_class_says_so(system: System, log: Log) -> None:
    class Strict(Plain):
        crash_on_ask_error = True

    ref = supervised(Plain).start()
    with pytest.raises(ValueError, match="no"):
        ref.ask(ValueError("no"), timeout=SOON)
    assert ref.ask(1, timeout=SOON) == 1
    strict = supervised(Strict).start()
    strict.add_exit_callback(log)
    error = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        strict.ask(error, timeout=SOON)
    assert log.next() == Crash(error)


@pytest.mark.parametrize(
    "crash",
    [
        lambda: supervised(Plain).start(None, ValueError("no")),
        lambda: _told_to_fail(supervised(Plain).start()),
    ],
    ids=["at its start", "later"],
)
def test_its_crash_is_one_traceback_in_the_log(
    system: System, caplog: pytest.LogCaptureFixture, crash: Callable[[], object]
) -> None:
    for name in ("pykka", "supervisors"):
        caplog.set_level("ERROR", logger=name)
    with contextlib.suppress(StartError):
        crash()
    (record,) = (record for record in caplog.records if record.exc_info)
    assert (record.name, record.getMessage()) == ("supervisors", "Unhandled exception in Plain#1:")


def _told_to_fail(ref: Any) -> None:
    ended = threading.Event()
    ref.add_exit_callback(lambda _reason: ended.set())
    ref.tell(ValueError("no"))
    assert ended.wait(SOON)


def test_what_fails_besides_is_logged_too(system: System, caplog: pytest.LogCaptureFixture) -> None:
    class Fails(Plain):
        def on_failure(self, *exc: Any) -> None:
            raise LookupError("no luck")

    for name in ("pykka", "supervisors"):
        caplog.set_level("ERROR", logger=name)
    _told_to_fail(supervised(Fails).start())
    shown = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert sorted(map(str, shown)) == sorted(map(str, [ValueError, LookupError]))


def test_the_spec_says_whether_an_exception_in_an_ask_ends_it(system: System) -> None:
    class Strict(Plain):
        crash_on_ask_error = True

    sup = Supervisor.start_link(
        [
            child(Plain).replace(id="as it is"),
            child(Plain).replace(id="crash", crash_on_ask_error=True),
            child(Strict).replace(id="live on", crash_on_ask_error=False),
        ]
    )
    for id, lives in (("as it is", True), ("crash", False), ("live on", True)):
        ref: Any = sup.which_child(id).ref
        with pytest.raises(ValueError, match="no"):
            ref.ask(ValueError("no"), timeout=SOON)
        if not lives:
            assert ref.actor_stopped.wait(SOON)
        assert (sup.which_child(id).ref is ref) is lives
    for start in (Echo, lambda: None):
        with pytest.raises(BadSpec, match="plain Pykka actor"):
            sup.start_child(ChildSpec(id=3, start=start, crash_on_ask_error=True))


def test_its_name_is_that_of_the_process_and_survives_restarts(system: System) -> None:
    sup = Supervisor.start_link([child(Plain, name="plain")])
    first = system.whereis("plain")
    assert first is not None
    exit(first, "kill")
    assert sup.count_children().active == 1
    second = system.whereis("plain")
    assert second is not None
    assert second is not first
    assert ask("plain", 1, timeout=SOON) == 1
    assert second.proxy().start_error.get(timeout=SOON) is None
    with pytest.raises(AlreadyStarted):
        supervised(Plain).start(name="plain")


def test_a_constructor_that_takes_a_name_keeps_it(system: System) -> None:
    class Named(pykka.ThreadingActor):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def on_receive(self, message: Any) -> Any:
            return self.name

    ref: Any = Supervisor.start_link([child(Named, name="Ann")]).which_child(Named).ref
    assert (ref.ask("who?", timeout=SOON), ref.name) == ("Ann", None)

    class Bare(pykka.ThreadingActor):
        """Without a constructor of its own."""

    assert supervised(Bare).start_link(name="bare").name == "bare"


def test_its_methods_are_its_own_business(system: System) -> None:
    class Busy(Plain):
        def shutdown(self) -> str:
            return "mine"

        def restart(self) -> str:
            return "mine too"

    sup = Supervisor.start_link([child(Busy)])
    spec = sup.get_childspec(Busy)
    assert (spec.restart, spec.shutdown) == ("permanent", 5.0)
    ref: Any = sup.which_child(Busy).ref
    proxy = ref.proxy()
    assert (proxy.shutdown().get(timeout=SOON), proxy.restart().get(timeout=SOON)) == ("mine", "mine too")
    alone = supervised(Busy).start()
    system.stop(timeout=SOON)
    assert alone.exit_reason is SHUTDOWN


def test_what_supervision_would_hide_is_refused(system: System) -> None:
    class Hidden(Plain):
        def start_link(self) -> None:
            """Something else altogether."""

    class Setter(pykka.ThreadingActor):
        def __init__(self) -> None:
            super().__init__()
            self.ref = 3

    with pytest.raises(SupervisorError, match="'start_link' of its own"):
        supervised(Hidden)
    sup = Supervisor.start_link()
    for refused in (child(Hidden), child(Hidden).replace(crash_on_ask_error=True)):
        with pytest.raises(StartError, match="'start_link' of its own"):
            sup.start_child(refused)
    assert sup.count_children().specs == 0
    with pytest.raises(SupervisorError, match=r"sets self\.ref"):
        supervised(Setter).start()


def test_it_is_there_on_demand(system: System) -> None:
    house = OnDemand(DynamicSupervisor.start_link(), lambda key: child(Plain))
    assert ask(via(house, "kitchen"), 1, timeout=SOON) == 1
    first: Any = house.owner("kitchen")
    exit(first, "kill")
    assert ask(via(house, "kitchen"), 2, timeout=SOON) == 2


def test_an_exception_in_a_tell_ends_it_and_on_failure_has_run_when_that_is_told(
    system: System, log: Log
) -> None:
    ref = supervised(Plain).start(log)
    ref.add_exit_callback(log)
    ref.tell(ValueError("no"))
    assert log.next() == "on_failure"
    assert isinstance(log.next(), Crash)


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "told"])
def test_an_exception_meant_for_the_interpreter_ends_only_this_actor_which_cleans_up(
    system: System, log: Log, asked: bool
) -> None:
    class Strict(Plain):
        def on_failure(self, *exc: Any) -> None:
            self.log(exc)

    bystander, ref = supervised(Plain).start(), supervised(Strict).start(log)
    ref.add_exit_callback(log)
    error = SystemExit(1)
    if asked:
        with pytest.raises(ProcessDown) as down:
            ref.ask(error, timeout=SOON)
        assert down.value.reason == Crash(error)
    else:
        ref.tell(error)
    assert log.take(2) == [(SystemExit, error, error.__traceback__), Crash(error)]
    assert bystander.ask(1, timeout=SOON) == 1
    assert bystander in pykka.ActorRegistry.get_all()


@pytest.mark.parametrize(
    "end",
    [
        lambda ref: ref.stop(timeout=SOON),
        lambda ref: ref.ask(SystemExit(1), block=False),
        lambda ref: ref.ask(ValueError("no"), block=False),
        lambda ref: ref.tell(ValueError("no")),
        lambda ref: ref.proxy().stop(),
    ],
    ids=["stopped", "exits when asked", "fails when asked", "fails when told", "stops itself"],
)
def test_so_does_one_raised_by_its_clean_up(system: System, end: Callable[[Any], object]) -> None:
    class Untidy(Plain):
        crash_on_ask_error = True

        def on_stop(self) -> None:
            cleaned.append(self)
            sys.exit(2)

        def on_failure(self, *exc: Any) -> None:
            cleaned.append(self)
            sys.exit(2)

    cleaned: list[Any] = []
    bystander, ref = supervised(Plain).start(), supervised(Untidy).start()
    end(ref)
    assert ref.actor_stopped.wait(SOON)
    assert len(cleaned) == 1
    assert bystander.ask(1, timeout=SOON) == 1
    assert bystander in pykka.ActorRegistry.get_all()


def test_who_asked_gets_the_error_of_the_handler_and_not_that_of_the_clean_up(system: System) -> None:
    class Untidy(Plain):
        crash_on_ask_error = True

        def on_failure(self, *exc: Any) -> None:
            raise LookupError("no luck")

    with pytest.raises(ValueError, match="no"):
        supervised(Untidy).start().ask(ValueError("no"), timeout=SOON)


def test_a_failed_on_start_is_a_start_error(system: System) -> None:
    with pytest.raises(StartError) as failed:
        supervised(Plain).start(None, ValueError("no"))
    assert isinstance(failed.value.reason, Crash)
    assert pykka.ActorRegistry.get_all() == []


def test_it_is_a_child_like_any_other(system: System, log: Log) -> None:
    boss = Watcher.start(log)

    def spawn(*args: Any, name: str | None = None) -> Any:
        return lambda self: self.spawn(Plain, args, tag=1, name=name)

    first = boss.ask(spawn(name="n"), timeout=SOON)
    assert log.next() == ChildStarted(1, first)
    assert system.whereis("n") is first
    boss.ask(spawn(name="n"), timeout=SOON)
    taken = log.next()
    assert isinstance(taken, ChildStartFailed)
    assert isinstance(taken.reason, AlreadyStarted)
    boss.ask(lambda self: exit(first, SHUTDOWN), timeout=SOON)
    assert log.next().reason is SHUTDOWN
    assert system.whereis("n") is None
    boss.ask(spawn(log), timeout=SOON)
    started = log.next()
    boss.stop(timeout=SOON)
    assert log.next() == "on_stop"
    assert started.ref.stop(timeout=SOON) in {True, False}


def test_one_that_waits_is_released_by_its_kill(system: System, log: Log) -> None:
    def wait(self: Any) -> None:
        entered.set()
        try:
            Future().get()
        except BaseException as exc:
            log(type(exc))
            raise

    entered = threading.Event()
    ref = supervised(Plain).start(log)
    ref.tell(wait)
    assert entered.wait(SOON)
    thread = ref.dispatcher.thread
    exit(ref, "kill")
    assert log.next() is ProcessKilled
    thread.join(SOON)
    assert log.rest() == []


def test_a_kill_is_told_while_the_handler_hangs_and_on_stop_does_not_run(system: System, log: Log) -> None:
    entered, release = threading.Event(), threading.Event()
    ref = supervised(Plain).start(log)
    ref.add_exit_callback(log)
    future = ref.ask(lambda self: (entered.set(), release.wait(SOON)), block=False)
    queued = ref.ask("queued", block=False)
    assert entered.wait(SOON)
    exit(ref, "kill")
    assert log.next() is KILLED
    assert len(system.zombies) == 1
    for each in (future, queued):
        with pytest.raises(ProcessDown):
            each.get(timeout=SOON)
    release.set()
    idle = supervised(Plain).start(log)
    exit(idle, "kill")
    assert idle.exit_reason is KILLED
    assert log.rest() == []


def test_a_start_that_succeeds_while_the_actor_is_being_buried_has_failed(system: System) -> None:
    class Slow(Names):
        def unregister(self, key: Any, ref: Any = None) -> None:
            release.set()
            ref_of_it.dispatcher.thread.join(SOON)
            super().unregister(key, ref)

    class Slowly(pykka.ThreadingActor):
        def on_start(self) -> None:
            entered.set()
            assert release.wait(SOON)

    entered, release = threading.Event(), threading.Event()
    names = Slow()
    start = beside(lambda: supervised(Slowly).start(name=via(names, "x")))
    assert entered.wait(SOON)
    (ref_of_it,) = system.processes()
    exit(ref_of_it, "kill")
    with pytest.raises(StartError) as failed:
        start.get(timeout=SOON)
    assert failed.value.reason is KILLED
    assert names.names() == []


def test_one_that_is_killed_while_it_claims_its_name_never_begins_and_gives_it_back(system: System) -> None:
    class Slow(Names):
        def register(self, key: Any, ref: Any) -> bool:
            beside(ref.kill).get(timeout=SOON)
            return super().register(key, ref)

    class Doomed(pykka.ThreadingActor):
        def on_start(self) -> None:
            pytest.fail("it is dead")

    names = Slow()
    with pytest.raises(StartError) as failed:
        supervised(Doomed).start(name=via(names, "x"))
    assert failed.value.reason is KILLED
    assert names.names() == system.processes() == pykka.ActorRegistry.get_all() == []


def test_one_that_is_killed_while_it_waits_for_its_name_ends_quietly(system: System) -> None:
    class Waiting(Names):
        def register(self, key: Any, ref: Any) -> bool:
            threading.Thread(target=ref.kill).start()
            Future().get(timeout=SOON)  # which the kill ends
            pytest.fail("it was killed meanwhile")

    with pytest.raises(StartError) as failed:
        supervised(Plain).start(name=via(Waiting(), "x"))
    assert failed.value.reason is KILLED
    assert system.processes() == pykka.ActorRegistry.get_all() == []


def test_what_the_registry_of_its_name_raises_is_a_start_error(system: System) -> None:
    class Broken(Names):
        def register(self, key: Any, ref: Any) -> bool:
            raise LookupError(key)

    with pytest.raises(StartError) as failed:
        supervised(Plain).start(name=via(Broken(), "x"))
    assert isinstance(failed.value.reason.exc, LookupError)
    assert pykka.ActorRegistry.get_all() == []


def test_one_that_is_killed_by_its_constructor_never_begins(system: System) -> None:
    class Doomed(pykka.ThreadingActor):
        def __init__(self) -> None:
            super().__init__()
            exit(self.actor_ref, "kill")  # type: ignore[arg-type]

    with pytest.raises(StartError) as failed:
        supervised(Doomed).start()
    assert failed.value.reason is KILLED
    assert system.processes() == pykka.ActorRegistry.get_all() == []


def test_no_ask_hangs_however_it_races_with_the_end(system: System) -> None:
    unanswered: list[Any] = []

    def ask_much(ref: Any) -> None:
        for future in [ref.ask(n, block=False) for n in range(50)]:
            try:
                future.get(timeout=SOON)
            except ProcessDown:
                pass
            except pykka.Timeout:
                unanswered.append(future)

    for _ in range(20):
        ref = supervised(Plain).start()
        askers = [threading.Thread(target=ask_much, args=(ref,)) for _ in range(3)]
        for asker in askers:
            asker.start()
        ref.stop(timeout=SOON)
        for asker in askers:
            asker.join(SOON)
    assert unanswered == []


def test_a_process_can_monitor_and_link_it(system: System, log: Log) -> None:
    ref, watcher = supervised(Plain).start(), Watcher.start(log)
    watcher.ask(lambda self: [self.monitor(ref), self.link(ref)], timeout=SOON)
    ref.stop(timeout=SOON)
    assert {type(log.next()).__name__, type(log.next()).__name__} == {"Down", "ExitMsg"}
    linked, peer = supervised(Plain).start(), Echo.start()
    linked.add_exit_callback(log)
    peer.ask(lambda self: Process.link(self, linked), timeout=SOON)
    exit(peer, "kill")
    assert log.next() is KILLED


@pytest.mark.timeout(20)
def test_a_class_may_derive_another_when_it_is_derived() -> None:
    class Helper(pykka.ThreadingActor):
        pass

    class Plugin(pykka.ThreadingActor):
        def __init_subclass__(cls, **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            supervised(Helper)

    assert issubclass(supervised(Plugin), Plugin)


def test_an_actor_that_exits_in_its_start_says_why_and_is_in_no_registry() -> None:
    class Exits(pykka.ThreadingActor):
        def on_start(self) -> None:
            sys.exit("no config file")

    with System(), pytest.raises(StartError) as failed:
        supervised(Exits).start()
    assert isinstance(failed.value.reason.exc, SystemExit)
    assert pykka.ActorRegistry.get_by_class(Exits) == []


def test_an_actor_that_is_killed_in_its_start_is_a_zombie_until_that_is_over() -> None:
    entered, go = threading.Event(), threading.Event()
    refs: list[Any] = []

    class Hangs(pykka.ThreadingActor):
        def on_start(self) -> None:
            refs.append(self.actor_ref)
            entered.set()
            go.wait(SOON)

    with System() as system:
        start = beside(supervised(Hangs).start)
        assert entered.wait(SOON)
        exit(refs[0], "kill")
        with pytest.raises(StartError):
            start.get(timeout=SOON)
        thread = system.zombies.list()[0].thread
        go.set()
        assert thread is not None
        thread.join(SOON)
        assert len(system.zombies) == 0


@pytest.mark.skipif(
    sys.version_info < (3, 14), reason="before Python 3.14 annotations are evaluated where they stand"
)
def test_a_constructor_may_name_types_that_are_there_for_type_checkers_only(system: System) -> None:
    module: dict[str, Any] = {"pykka": pykka}
    text = (
        "class Named(pykka.ThreadingActor):\n    def __init__(self, name: Name) -> None: super().__init__()"
    )
    exec(compile(text, "somewhere.py", "exec", dont_inherit=True), module)
    assert not names_the_process(supervised(module["Named"]))
    ref = supervised(module["Named"]).start(name="mine")
    assert system.whereis("mine") is None
    ref.stop()


def test_a_plain_class_made_at_run_time_can_be_freed_when_its_processes_are_gone(system: System) -> None:
    made = type("Made", (Plain,), {})
    supervised(made).start().stop()
    assert supervised(made) is supervised(made)
    freed = weakref.ref(made)
    del made
    gc.collect()
    assert freed() is None
