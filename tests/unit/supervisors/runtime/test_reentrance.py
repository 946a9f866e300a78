"""A finalizer or a signal handler may come in between any two lines, also where a lock is held, and use the runtime."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, FrameType
from typing import Any

import pytest

from supervisors.process import NO_REPLY, Process
from supervisors.runtime.dispatch import WorkerDispatcher
from supervisors.runtime.mailbox import Mailbox
from supervisors.runtime.names import Names
from supervisors.runtime.pool import PoolDispatcher
from supervisors.runtime.system import System
from supervisors.runtime.threads import ThreadDispatcher
from supervisors.runtime.timers import Timers
from supervisors.supervisor import Supervisor
from supervisors.tree import _Survey, tree

pytestmark = pytest.mark.timeout(20)

SOON = 10.0


class Echo(Process):
    """Answers with what it is told, and remembers it."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def on_receive(self, message: Any) -> Any:
        self.told.append(message)
        return list(self.told)


class Blocking(Echo):
    dispatcher = "blocking"


class Beginning(Echo):
    """Begins on a thread, so that one is hired."""

    def init(self) -> None:
        pass


@pytest.fixture
def system() -> Iterator[System]:
    with System() as system:
        yield system


def at_every_line(of: CodeType, come_in: Callable[[], object], during: Callable[[], object]) -> int:
    """Call `come_in` before each line of a function, while `during` runs; returns how often that was."""
    count, inside = 0, False

    def line(_frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal count, inside
        if event == "line" and not inside:
            count, inside = count + 1, True
            try:
                come_in()
            finally:
                inside = False
        return line

    before = sys.gettrace()
    sys.settrace(lambda frame, _event, _arg: line if frame.f_code is of and not inside else None)
    try:
        during()
    finally:
        sys.settrace(before)
    return count


def test_a_first_message_to_one_while_that_of_another_is_sent(system: System) -> None:
    others = [Echo.start() for _ in range(20)]
    one = Echo.start()
    assert at_every_line(Mailbox._lane.__code__, lambda: others.pop().tell("x"), lambda: one.tell("y"))
    assert one.ask("z", timeout=SOON) == ["y", "z"]


def test_no_message_is_lost_that_comes_in_while_the_first_one_is_sent(system: System) -> None:
    one = Echo.start()
    count = at_every_line(Mailbox._lane.__code__, lambda: one.tell("in"), lambda: one.tell("out"))
    assert sorted(one.ask("last", timeout=SOON)) == ["in"] * count + ["last", "out"]


@pytest.mark.parametrize("of", [Timers.set, Timers.cancel])
def test_a_timer_that_is_cancelled_while_another_is_set_or_cancelled(system: System, of: Any) -> None:
    timers = system.timers
    others = [timers.after(900 + n, int) for n in range(200)]

    def work() -> None:
        for n in range(10):
            timers.after(500 + n, int)
            timers.after(1.0, int).cancel()

    assert at_every_line(of.__code__, lambda: others.pop().cancel(), work)
    assert timers.next_due() is not None
    assert sum(timer.pending for timer in timers._heap) == len(others) + 10


def test_a_named_process_that_ends_while_names_are_looked_at(system: System) -> None:
    others = [Echo.start(name=n) for n in range(20)]
    assert at_every_line(Names.names.__code__, lambda: others.pop().stop(block=False), system.names.names)


@pytest.mark.parametrize("of", [PoolDispatcher._fill, WorkerDispatcher._hire])
def test_a_message_while_a_thread_is_hired(system: System, of: Any) -> None:
    one, told = Echo.start(), []
    started: list[Any] = []

    def tell() -> None:
        told.append("x")
        one.tell("x")

    assert at_every_line(of.__code__, tell, lambda: started.append(Beginning.start()))
    assert started[0].ask("y", timeout=SOON) == ["y"]
    assert one.ask("z", timeout=SOON) == [*told, "z"]


def test_a_message_while_a_thread_is_looked_for(system: System) -> None:
    others = [Blocking.start() for _ in range(20)]
    waiting = list(others)
    one = Blocking.start()
    assert at_every_line(
        ThreadDispatcher.schedule.__code__, lambda: others.pop().tell("x"), lambda: one.tell("y")
    )
    assert one.ask("z", timeout=SOON) == ["y", "z"]
    for other in waiting[len(others) :]:
        assert other.ask("z", timeout=SOON) == ["x", "z"]


def test_a_supervisor_that_ends_while_the_tree_is_drawn(system: System) -> None:
    class Mute(Supervisor):
        def on_receive(self, message: Any) -> object:
            return NO_REPLY

    others = [Mute.start([]) for _ in range(50)]
    drawn: list[str] = []
    draw = partial(tree, system, timeout=0.0)
    assert at_every_line(_Survey._close.__code__, lambda: others.pop().kill(), lambda: drawn.append(draw()))
    assert "(down)" in drawn[0]
