"""What a type checker knows of a program that uses `supervisors`: `mypy` reads this, and nobody runs it.

Each `assert_type` is a promise. Each `type: ignore` is a mistake that a checker finds; it complains when one is not.
"""

from typing import assert_type

import supervisors as sup


class Keeper(sup.GenServer):
    """A worker, as the guide for people who know OTP writes one."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def init(self) -> None:
        """Whatever it needs."""


class Shop(sup.Supervisor):
    """A supervisor with children of its own: `init` has the arguments of its start."""

    def init(self, path: str) -> tuple[sup.Flags, list[sup.ChildSpec]]:
        """Its flags and children."""
        return sup.Flags(strategy="rest_for_one"), [sup.child(Keeper, path)]


class Crowd(sup.DynamicSupervisor):
    """A dynamic supervisor, likewise."""

    def init(self, most: int, *, restarts: int = 3) -> sup.DynamicFlags:
        """Its flags."""
        return sup.DynamicFlags(max_children=most, max_restarts=restarts)


def of_a_start() -> None:
    """It gives the ref of that class."""
    assert_type(Keeper.start("here"), sup.ProcessRef[Keeper])


def of_a_stop(wait: bool) -> None:
    """It gives an answer, or a future of one."""
    ref = Keeper.start("here")
    assert_type(ref.stop(), bool)
    assert_type(ref.stop(timeout=1.0), bool)
    assert_type(ref.stop(block=False), sup.Future[bool])
    assert_type(ref.stop(block=wait), bool | sup.Future[bool])


def of_a_spec() -> None:
    """It has fields with names."""
    spec = sup.child(Keeper, "here")
    assert_type(spec.replace(restart="transient", shutdown=1.0), sup.ChildSpec)
    spec.replace(restrt="transient")  # type: ignore[call-arg]
    spec.replace(restart="always")  # type: ignore[arg-type]


def length(text: str) -> int:
    """A task's work."""
    return len(text)


def of_tasks(owned: sup.Task, texts: list[str]) -> None:
    """A task knows what its function takes and returns."""
    tasks = sup.TaskSupervisor.start_link()
    assert_type(tasks.async_(length, "four"), sup.Task[int])
    assert_type(tasks.async_nolink(length, "four").await_(), int)
    assert_type(tasks.async_(length, text="four").yield_(), sup.Returned[int] | sup.Ended | None)
    for result in tasks.async_stream(length, texts):
        assert_type(result, sup.Returned[int] | sup.Ended)
    tasks.async_(length, 4)  # type: ignore[arg-type]
    tasks.async_stream(length, [4])  # type: ignore[arg-type]
    owned = tasks.async_(length, "four")
    owned.await_()
