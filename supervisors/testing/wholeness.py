"""Checks that a tree is what its supervisors believe it is.

The rule of this file: it is looked at from outside, at rest; everything that is wrong is reported at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from supervisors.core.entry import View
from supervisors.runtime.ref import Ref
from supervisors.runtime.system import System
from supervisors.supervisor import DynamicSupervisorRef, SupervisorRef

__all__ = ["assert_tree_whole"]


def assert_tree_whole(system: System | None = None) -> None:
    """Assert that all supervision trees of a system are consistent. The default is the current system.

    No process outlives its parent, none is unknown to the supervisor that is its parent, no child that a
    supervisor believes to run is dead or another's, and every name belongs to a living process. The processes
    should be at rest (`sim.settle()`), for supervisors are asked. Raises: `AssertionError` that lists
    everything that is wrong.
    """
    world = system if system is not None else System.current()
    wrong = [*_orphans(world), *_names(world)]
    for ref in world.processes():
        if isinstance(ref, SupervisorRef | DynamicSupervisorRef):
            wrong += _family(world, ref, ref.views())
    if wrong:
        raise AssertionError("the tree is not whole: " + "; ".join(wrong))


def _orphans(world: System) -> Iterator[str]:
    for ref in world.processes():
        if not ref.is_alive():
            yield f"{ref} is listed, but it is dead"
        if ref.parent is not None and not ref.parent.is_alive():
            yield f"{ref} outlives its parent {ref.parent}"


def _names(world: System) -> Iterator[str]:
    for name in world.names.names():
        owner = world.names.whereis(name)
        if owner is not None and not owner.is_alive():
            yield f"the name {name!r} belongs to {owner}, which is dead"


def _family(world: System, supervisor: Ref[Any], views: list[View]) -> Iterator[str]:
    known = [view.ref for view in views if isinstance(view.ref, Ref)]
    for ref in known:
        if not ref.is_alive():
            yield f"{supervisor} believes that {ref} runs, but it is dead"
        elif ref.parent not in (None, supervisor):
            yield f"{supervisor} believes that {ref} is its child, but its parent is {ref.parent}"
        if known.count(ref) > 1:
            yield f"{supervisor} lists {ref} twice"
    for ref in world.processes():
        if ref.parent is supervisor and ref not in known:
            yield f"{ref} is a child of {supervisor}, which does not know it"
