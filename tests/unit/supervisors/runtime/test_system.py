"""What a system holds: names, reports, dead letters, dispatchers; nothing of it starts a thread by being made."""

import asyncio
import contextvars
import logging
import os
import subprocess
import sys
import textwrap
import threading

import pytest

from supervisors import registry
from supervisors.errors import BadSpec, ProcessDown, StartError
from supervisors.process import Process
from supervisors.reasons import SHUTDOWN, Crash
from supervisors.runtime.names import Names, Via
from supervisors.runtime.pool import PoolDispatcher
from supervisors.runtime.reports import Report
from supervisors.runtime.system import System
from supervisors.testing import Sim


class Idle(Process):
    """Does nothing, so that it needs no thread."""


def test_making_a_system_and_idle_processes_starts_no_thread():
    before = threading.active_count()
    with System() as system:
        refs = [Idle.start() for _ in range(10)]
        assert system.processes() == refs
        assert threading.active_count() == before
    assert threading.active_count() == before
    assert all(ref.exit_reason is SHUTDOWN for ref in refs)


def test_who_is_started_by_one_that_stops_does_not_outlive_the_system():
    class Leaves(Process):
        def terminate(self, reason):
            heirs.append(Idle.start())

    heirs = []
    with System() as system:
        Leaves.start()
    assert [heir.is_alive() for heir in heirs] == [False]
    assert system.processes() == []


def test_the_current_system_is_that_of_the_block():
    with System() as outer:
        assert System.current() is outer
        with System() as inner:
            assert System.current() is inner
            assert Idle.start().system is inner
        assert System.current() is outer


@pytest.mark.parametrize("other", [contextvars.Context, contextvars.copy_context])
def test_a_block_may_be_left_in_another_context_than_it_was_entered_in(other):
    async def fixture():
        async with System() as system:
            yield system, Idle.start()

    async def enter(made):
        return await anext(made)

    async def leave(made):
        assert await anext(made, None) is None
        return System.current()

    with asyncio.Runner() as runner:
        made = fixture()
        context = contextvars.Context()
        system, ref = runner.run(enter(made), context=context)
        assert ref.system is system
        now = runner.run(leave(made), context=other() if other is contextvars.Context else context.run(other))
    assert system.stopped
    assert ref.exit_reason is SHUTDOWN
    assert now is not system


def test_a_system_may_be_active_in_one_context_and_no_more_in_another():
    def block(system):
        with system.activated():
            yield System.current()

    with System() as system:
        made = block(system)
        assert contextvars.Context().run(next, made) is system
        assert contextvars.Context().run(next, made, None) is None


def test_without_a_block_there_is_one_default_system_until_it_is_stopped():
    first = System.current()
    assert System.current() is first
    first.stop()
    assert System.current() is not first


def test_a_process_that_begins_while_its_system_stops_does_not_wait_for_ever():
    class Stopping(System):
        def dispatcher(self, name):
            found = super().dispatcher(name)
            stop = threading.Thread(target=self.stop)  # somebody else, at the worst moment of a start
            stop.start()
            stop.join(10)
            return found

    class Busy(Process):
        def init(self):
            pytest.fail("there is nobody to run this")

    before = threading.active_count()
    system = Stopping()
    with system.activated(), pytest.raises(StartError, match="KILLED"):
        Busy.start()
    assert not system.processes()
    assert threading.active_count() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_a_forked_child_has_a_default_system_of_its_own():
    program = (
        "import os\n"
        "from supervisors import Process\n"
        "class Echo(Process):\n"
        "    def init(self): pass\n"
        "    def on_receive(self, message): return message\n"
        "Echo.start().ask(1)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(Echo.start().ask(7))\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert run.stdout == "7\n"


def forking(program):
    """What a program prints in which `child(work)` does `work` in a forked child.

    `hold(*locks)` has another thread hold locks, until the event that it returns is set.
    """
    beginning = (
        "import contextlib, os, sys, signal, threading\n"
        "from supervisors import *\n"
        "class Echo(Process):\n"
        "    def on_receive(self, message): return message(self) if callable(message) else message\n"
        "def child(work):\n"
        "    sys.stdout.flush()\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        signal.alarm(20)\n"
        "        work()\n"
        "        sys.stdout.flush()\n"
        "        os._exit(0)\n"
        "    assert os.waitpid(pid, 0)[1] == 0, 'the child was ended'\n"
        "def hold(*locks):\n"
        "    held, over = threading.Event(), threading.Event()\n"
        "    def wait():\n"
        "        with contextlib.ExitStack() as stack:\n"
        "            for lock in locks: stack.enter_context(lock)\n"
        "            held.set()\n"
        "            over.wait()\n"
        "    threading.Thread(target=wait, daemon=True).start()\n"
        "    held.wait()\n"
        "    return over\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", beginning + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")


@needs_fork
def test_a_child_forked_inside_a_block_is_not_in_it():
    said = forking("""
        def work():
            print(System.current() is not system, Echo.start().ask(7))
        with System() as system:
            Echo.start().ask(1)
            child(work)
            print(System.current() is system)
        """)
    assert said == ["True", "7", "True"]


@needs_fork
def test_a_child_forked_in_a_handler_is_no_process():
    said = forking("""
        def work():
            print(System.current() is not system, Echo.start().ask(7))
        with System() as system:
            Echo.start().ask(lambda self: child(work))
        """)
    assert said == ["True", "7"]


@needs_fork
def test_a_child_that_leaves_the_block_leaves_everything_to_its_parent_whatever_was_locked():
    said = forking("""
        def work():
            system.kill()
            system.stop()
            try:
                system.__enter__()
            except SupervisorError:
                print("refused")
            system.__exit__(None, None, None)
        with System() as system:
            echo, port = Echo.start(), Port.start(["cat"], owner=Echo.start())
            locked, over = threading.Event(), threading.Event()
            def lock():
                with system.lock:
                    locked.set()
                    over.wait()
            threading.Thread(target=lock).start()
            locked.wait()
            child(work)
            over.set()
            print(echo.ask(1), port.ask(b"still there"))
        """)
    assert said == ["refused", "1", "None"]


@needs_fork
@pytest.mark.parametrize(
    "use",
    [
        "echo.tell(1)",
        "echo.ask(1)",
        "echo.ask(1, block=False).get()",
        "busy.tell(1)",
        "asked.get()",
        "next(asked.__await__())",
        "top.start_child(Echo)",
        "top.count_children()",
    ],
)
def test_who_sends_to_a_foreign_process_is_told_that_it_is_one(use):
    said = forking(f"""
        def work():
            try:
                {use}
            except ForeignProcess as error:
                print(error.reason is NOPROC, "forked" in str(error), isinstance(error, ProcessDown))
        with System(dispatcher=PinnedDispatcher()) as system:
            entered, over = threading.Event(), threading.Event()
            echo, busy, top = Echo.start(), Echo.start(), DynamicSupervisor.start()
            asked = busy.ask(lambda self: entered.set() or over.wait(), block=False)
            entered.wait()
            child(work)
            over.set()
            print(asked.get(), echo.ask(1), busy.ask(2))
        """)
    assert said == ["True", "True", "True", "True", "1", "2"]


@needs_fork
def test_a_foreign_process_is_not_there_and_nothing_is_done_with_it():
    said = forking("""
        class Program(Echo):
            def init(self):
                self.on_kill(lambda: print("killed"))
        def work():
            exit(program, "kill")
            exit(program, "away")
            print(program.is_alive(), program.send(1), program.stop(), program.actor_stopped.wait(5))
            program.add_exit_callback(lambda reason: print(reason is NOPROC))
        with System() as system:
            program, locked, over = Program.start(), threading.Event(), threading.Event()
            program.add_exit_callback(lambda _: print("told"))
            def lock():
                with system.lock:
                    locked.set()
                    over.wait()
            threading.Thread(target=lock).start()
            locked.wait()
            child(work)
            over.set()
            print(program.ask(1))
        """)
    assert said == ["False", "False", "False", "True", "True", "1", "told"]


@needs_fork
def test_a_foreign_supervisor_starts_nobody():
    said = forking("""
        def work():
            try:
                top.spawn_child(Echo)
            except ProcessDown:
                print("refused")
        with System():
            top = DynamicSupervisor.start()
            child(work)
            print(top.count_children().specs)
        """)
    assert said == ["refused", "0"]


@needs_fork
def test_what_lists_processes_is_empty_in_a_forked_child_whatever_was_locked():
    said = forking(
        """
        from supervisors import child as child_spec
        class Server(GenServer):
            def handle_call(self, request, from_):
                return request
        def work():
            print(system.names.names(), groups.which_groups(), rooms.count(), rooms.keys(echo), house.owner("attic"))
            try:
                rooms.register("hall", echo)
            except ProcessDown:
                print("dead")
            DynamicSupervisor.start(name="house")
            mine = Echo.start(name=via(rooms, "kitchen"))
            groups.join("here", mine)
            print(whereis(via(rooms, "kitchen")) is mine, groups.members("here") == [mine])
            print(call(via(house, "attic"), 7))
        with System() as system:
            rooms, house, groups = Registry(), OnDemand("house", lambda key: child_spec(Server)), system.groups
            DynamicSupervisor.start(name="house")
            echo = Echo.start(name=via(rooms, "kitchen"))
            call(via(house, "attic"), 1)
            groups.join("here", echo)
            over = hold(rooms._lock, house._lock, groups._lock, system.names._lock)
            child(work)
            over.set()
            print(rooms.whereis("kitchen") is echo, groups.members("here") == [echo], call(via(house, "attic"), 2))
        """
    )
    assert said == ["[]", "[]", "0", "[]", "None", "dead", "True", "True", "7", "True", "True", "2"]


@needs_fork
def test_a_forked_child_waits_for_no_lock_that_a_start_of_its_parents_held():
    said = forking(
        """
        import pykka
        from supervisors.runtime import adopted, mailbox
        class Plain(pykka.ThreadingActor):
            def on_receive(self, message):
                return message
        def work():
            print(Echo.start().ask(7), supervised(Plain).start().ask(8))
        over = hold(mailbox._making, adopted._deriving, pykka.ActorRegistry._actor_refs_lock)
        child(work)
        over.set()
        """
    )
    assert said == ["7", "8"]


def test_dispatchers_are_found_by_name_made_once_and_may_be_added():
    with System() as system:
        assert system.dispatcher("default") is system.dispatcher("default")
        assert system.dispatcher("default") is not system.dispatcher("blocking")
        mine = PoolDispatcher(1)
        system.register_dispatcher("mine", mine)
        assert system.dispatcher("mine") is mine
        with pytest.raises(BadSpec, match="mine"):
            system.register_dispatcher("mine", PoolDispatcher(1))
        with pytest.raises(BadSpec, match="nowhere"):
            system.dispatcher("nowhere")


def test_a_dispatcher_that_is_refused_is_not_kept():
    class Elsewhere(PoolDispatcher):
        def join(self, timers):
            raise RuntimeError("as told")

    with System() as system:
        for wrong in (5, None, PoolDispatcher):
            with pytest.raises(BadSpec, match="Dispatcher"):
                system.register_dispatcher("mine", wrong)
        with pytest.raises(RuntimeError, match="as told"):
            system.register_dispatcher("mine", Elsewhere(1))
        system.register_dispatcher("mine", PoolDispatcher(1))
    assert system.stopped


def test_a_dead_letter_may_be_for_a_name_that_cannot_be_shown():
    class Name:
        def __repr__(self):
            raise RuntimeError("no words")

    with System() as system:
        heard = []
        system.reports.subscribe(heard.append)
        assert registry.send(Name(), 1) is False
    assert heard[0].kind == "dead_letter"
    assert "cannot be shown" in heard[0].detail


def test_processes_are_counted_per_system_so_that_runs_can_be_repeated():
    for _ in range(2):
        with System():
            assert [Idle.start().actor_urn for _ in range(2)] == ["#1", "#2"]


def test_a_ref_says_what_it_is():
    with System():
        ref = Idle.start(name="n")
        assert str(ref) == "Idle#1 'n'"
        assert repr(ref) == "<ActorRef Idle#1 'n'>"


def test_names_belong_to_one_and_a_via_looks_elsewhere():
    with System() as system:
        one, two = Idle.start(), Idle.start()
        elsewhere = Names()
        assert system.names.register("n", one)
        assert not system.names.register("n", two)
        system.names.unregister("n", two)
        assert system.names.names() == ["n"]
        named = Idle.start(name=Via(elsewhere, "v"))
        assert registry.whereis(registry.via(elsewhere, "v")) is named
        assert registry.resolve(named) is named
        named.stop()
        assert elsewhere.whereis("v") is None


def test_sending_to_a_free_name_raises_or_makes_a_dead_letter():
    with System() as system:
        letters = []
        unsubscribe = system.dead_letters.subscribe(letters.append)
        with pytest.raises(ProcessDown, match="nobody"):
            registry.tell("nobody", 1)
        with pytest.raises(ProcessDown):
            registry.ask("nobody", 1)
        assert registry.send("nobody", "x") is False
        assert (letters[0].message, letters[0].to) == ("x", "nobody")
        unsubscribe()
        assert registry.send("nobody", "y") is False
        assert system.dead_letters.count == 2
        assert len(letters) == 1


def test_failures_are_logged_as_errors_and_the_rest_is_not(caplog):
    caplog.set_level(logging.INFO, logger="supervisors")
    system = System()
    seen = []
    system.reports.subscribe(seen.append)
    system.reports.subscribe(lambda report: 1 / 0)
    system.reports.emit(Report("a", None, Crash(ValueError("no"))))
    system.reports.emit(Report("b", None, SHUTDOWN))
    levels = [record.levelname for record in caplog.records if record.getMessage()[:2] in {"a:", "b:"}]
    assert levels == ["ERROR", "INFO"]
    assert [report.kind for report in seen] == ["a", "b"]


def test_starts_are_logged_for_those_who_debug(caplog):
    caplog.set_level(logging.DEBUG, logger="supervisors")
    reports = System().reports
    reports.emit(Report("child_started", None, None, "child 1 of shop"))
    assert caplog.record_tuples == [("supervisors", logging.DEBUG, "child_started: None child 1 of shop")]
    caplog.set_level(logging.INFO, logger="supervisors")
    assert not reports.wanted("child_started", None)
    assert reports.wanted("child_terminated", None)


def test_dead_letters_are_always_counted_and_seldom_logged(caplog):
    caplog.set_level(logging.INFO, logger="supervisors")
    system = System()
    for n in range(50):
        system.dead_letters.add(n, "x", None, "why")
    assert system.dead_letters.count == 50
    assert len(caplog.records) == 10


def test_a_dead_letter_that_comes_after_a_quiet_minute_is_logged_again(caplog):
    with Sim() as sim:
        caplog.set_level(logging.INFO, logger="supervisors")
        letters = System.current().dead_letters
        for n in range(12):
            letters.add(n, "x", None, "why")
        sim.advance(61.0)
        for n in range(2):
            letters.add(n, "x", None, "why")
    told = [record for record in caplog.records if record.getMessage().startswith("dead letter")]
    assert len(told) == 11
