"""The steps that an operation yields to its runner, and the answers that it is resumed with.

The rule of this file: plain data that nobody changes. The types made at every restart are not `frozen` all
the same: that would double the cost of making one. An operation is a generator that yields a `Step` and is
resumed with the answer. `Start` and `Exited` take time, and at most one of them is pending; the others are
done at once, answer None.

    Start(spec, incarnation)      start the child             -> Started | Ignored | StartFailed
    Signal(ref, reason, within)   send an exit signal; the time for `Exited` runs from now
    Exited(ref)                   wait for the death          -> its reason, or TIMED_OUT once `within` is over
    Later(retry, ...)             send ourselves this retry, after the delay of the backoff, if there is one
    Report(kind, ...)             tell the log and the subscribers
"""

from __future__ import annotations

from collections.abc import Generator, Hashable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypeVar, final

from supervisors.reasons import Named, Reason
from supervisors.spec import Backoff, ChildSpec

__all__ = [
    "KILL",
    "TIMED_OUT",
    "Exited",
    "Ignored",
    "Later",
    "Operation",
    "Outcome",
    "Ref",
    "Report",
    "ReportKind",
    "Retry",
    "Signal",
    "Start",
    "StartFailed",
    "Started",
    "Step",
    "Stop",
]

T = TypeVar("T")

Ref: TypeAlias = Hashable
"""One incarnation of a child. To the core it is only a key."""

KILL: Final = "kill"
"""The exit signal that cannot be trapped; its victim ends with `KILLED`."""

ReportKind: TypeAlias = Literal[
    "child_started", "child_terminated", "start_error", "shutdown_error", "reached_max_restart_intensity"
]


TIMED_OUT: Final = Named("TIMED_OUT", __name__)
"""The answer to `Exited`: the time that `Signal` gave is over, and the child is not dead."""


@final
@dataclass(slots=True)
class Started:
    """The child runs; `at` is the monotonic time, in seconds."""

    ref: Ref
    info: object = None
    at: float = 0.0


@final
@dataclass(frozen=True, slots=True)
class Ignored:
    """The child had nothing to do and ended; that is not an error."""


@final
@dataclass(frozen=True, slots=True)
class StartFailed:
    """The child did not start, and is dead already; `ref` is None if it never was a process."""

    reason: Reason
    ref: Ref | None = None


Outcome: TypeAlias = Started | Ignored | StartFailed


@final
@dataclass(slots=True, eq=False)
class Start:
    """Start this child with exactly the arguments of `spec`; it was started `incarnation` times before."""

    spec: ChildSpec
    incarnation: int = 0


@final
@dataclass(frozen=True, slots=True)
class Signal:
    """Send this exit signal, and give the child `within` seconds to die."""

    ref: Ref
    reason: Reason
    within: float


@final
@dataclass(frozen=True, slots=True)
class Exited:
    """Wait until the child that was signalled is dead.

    What is observed is the death, not the link: a child that unlinked itself keeps nobody waiting.
    """

    ref: Ref


@final
@dataclass(frozen=True, slots=True, eq=False)
class Retry:
    """One more attempt to restart a child; stale unless it is the very object the child's entry holds."""

    key: Hashable


@final
@dataclass(frozen=True, slots=True)
class Later:
    """Send ourselves `retry`: at once, or after the `attempt`-th delay of the backoff."""

    retry: Retry
    backoff: Backoff | None = None
    attempt: int = 0


@final
@dataclass(slots=True)
class Report:
    """Something an operator may want to know."""

    kind: ReportKind
    id: Hashable
    ref: Ref | None = None
    reason: Reason = None


Step: TypeAlias = Start | Signal | Exited | Later | Report


@final
@dataclass(frozen=True, slots=True)
class Stop:
    """What an operation returns when the supervisor is to stop all children and end with this reason."""

    reason: Reason


Operation: TypeAlias = Generator[Step, Any, T]
