"""A supervisor's record of one child, and what clients can see of it.

The rule of this file: an entry is stopped (no ref), running (a ref) or restarting (a retry is pending). A dynamic child
that is restarting keeps its last ref, by which its clients know it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from supervisors.core.steps import Ref, Retry
from supervisors.spec import ChildSpec, ChildType

__all__ = ["RESTARTING", "Child", "ChildState", "Counts", "Entry", "View", "count", "started", "view"]

RESTARTING: Final = "restarting"
"""What `Child.ref` is while a restart of the child is pending."""

ChildState: TypeAlias = Literal["running", "restarting", "stopped"]


class Child(NamedTuple):
    """One entry of `which_children`: `ref` is None for a child that does not run, or `"restarting"`."""

    id: Hashable
    ref: Any
    type: ChildType | None


class Counts(NamedTuple):
    """`specs` and, of these, how many are alive now; `supervisors` and `workers` count specs, dead or alive."""

    specs: int
    active: int
    supervisors: int
    workers: int


class View(NamedTuple):
    """One child in more detail, to draw the tree."""

    id: Hashable
    ref: Ref | None
    type: ChildType | None
    state: ChildState
    restarts: int
    start: Callable[..., object]


@dataclass(slots=True, eq=False)
class Entry:
    """The supervisor's record of one child.

    `starts` counts all incarnations, `restarts` the automatic ones, `streak` those in a row, for the backoff.
    Units: `started_at` is in monotonic seconds.
    """

    spec: ChildSpec
    ref: Ref | None = None
    retry: Retry | None = None
    started_at: float = 0.0
    starts: int = 0
    streak: int = 0
    restarts: int = 0

    @property
    def active(self) -> bool:
        """Whether the child runs, or a restart of it is pending."""
        return self.ref is not None or self.retry is not None


def started(ref: Ref, info: object) -> object:
    """What starting a child returns: its ref, or `(ref, info)`."""
    return ref if info is None else (ref, info)


def view(entry: Entry) -> View:
    """The entry as others may see it."""
    state: ChildState = (
        "restarting" if entry.retry is not None else "stopped" if entry.ref is None else "running"
    )
    spec = entry.spec
    ref = None if state == "restarting" else entry.ref
    return View(spec.id, ref, spec.type, state, entry.restarts, spec.start)


def count(entries: Iterable[Entry], alive: Callable[[Ref], bool]) -> Counts:
    """How many children there are, and how many of them are alive right now."""
    specs = active = supervisors = 0
    for entry in entries:
        specs += 1
        supervisors += entry.spec.type == "supervisor"
        active += entry.retry is None and entry.ref is not None and alive(entry.ref)
    return Counts(specs, active, supervisors, specs - supervisors)
