"""A supervisor's record of one child, and what clients can see of it.

The rule of this file: an entry is stopped (no ref), running (a ref) or restarting (a retry is pending). A dynamic child
that is restarting keeps its last ref, by which its clients know it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias, assert_never

from supervisors.core.steps import Ignored, Outcome, Ref, Retry, Started, StartFailed
from supervisors.errors import AlreadyStarted, StartError
from supervisors.reasons import Crash, Reason
from supervisors.spec import ChildSpec, ChildType

__all__ = [
    "RESTARTING",
    "Child",
    "ChildState",
    "Counts",
    "Entry",
    "View",
    "answer",
    "count",
    "line",
    "taken",
    "view",
]

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


def answer(outcome: Outcome, spec: ChildSpec | None = None) -> object:
    """What starting a child returns: its ref, `(ref, info)`, or None if it had nothing to do.

    Raises: `AlreadyStarted` with the process that has its name, which the caller may want instead;
    `StartError`, with `spec` if the supervisor keeps it.
    """
    match outcome:
        case Started(ref, info):
            return ref if info is None else (ref, info)
        case Ignored():
            return None
        case StartFailed(reason):
            raise taken(reason) or StartError(reason, spec)
        case unknown:
            assert_never(unknown)


def taken(reason: Reason) -> AlreadyStarted | None:
    """The error that says who has the child's name already, if its start failed for that."""
    cause = reason.exc if isinstance(reason, Crash) else reason
    return cause if isinstance(cause, AlreadyStarted) else None


def line(entry: Entry) -> Child:
    """The entry in a list of children."""
    return Child(entry.spec.id, RESTARTING if entry.retry is not None else entry.ref, entry.spec.type)


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
