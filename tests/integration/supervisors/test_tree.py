"""The tree as text: whatever ids and functions are in it, it is drawn, and shows no secret."""

from __future__ import annotations

from functools import partial
from typing import Any

from supervisors import IGNORE, Process, Supervisor, System, child, tree


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def connect(password: str) -> Any:
    return IGNORE


class Connect:
    """A function that is an object."""

    def __repr__(self) -> str:
        return "Connect('SECRET')"

    def __call__(self) -> Any:
        return IGNORE


def test_an_id_that_cannot_be_shown_is_drawn_all_the_same(system: System) -> None:
    top = Supervisor.start([child(Process).replace(id=Rude()), child(Process).replace(id="b")])
    assert tree(top).splitlines()[1:] == [
        "├─ <a Rude that cannot be shown>: Process#2 worker running",
        "└─ 'b': Process#3 worker running",
    ]


def test_the_arguments_of_a_start_function_are_not_drawn(system: System) -> None:
    start = partial(partial(connect), "SECRET")
    top = Supervisor.start([child(start), child(start).replace(id="db"), child(Connect()).replace(id="it")])
    assert tree(top).splitlines()[1:] == [
        "├─ connect: connect worker stopped",
        "├─ 'db': connect worker stopped",
        "└─ 'it': Connect worker stopped",
    ]


def test_a_supervisor_that_is_gone_is_drawn_as_that(system: System) -> None:
    top = Supervisor.start([child(Process)])
    top.stop()
    assert tree(top).splitlines()[1:] == ["└─ (down)"]
