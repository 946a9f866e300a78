"""The states of a run: what it waits for, and what it has done so far.

Rule of this file: frozen values without decisions; the transitions are in `loop`. The phase `Batch`, of a
step whose tools run, has a file of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from allm_actors.data import ChatResult, Event, Response, StepResult, Thread, Usage

from .batch import Batch
from .options import Options

__all__ = ["Asking", "Finished", "Judging", "LoopState", "Parsing"]


class Asking(msgspec.Struct, frozen=True):
    """A model call is open. The first `count` events of `log` are those received so far.

    The log is shared by the states of a turn and only ever grows, so that an event costs one append and an old state
    stays valid.
    """

    log: list[Event] = msgspec.field(default_factory=list)
    count: int = 0

    def heard(self, events: Iterable[Event]) -> Asking:
        """This phase with more events."""
        log = self.log if len(self.log) == self.count else self.log[: self.count]
        log.extend(events)
        return Asking(log, len(log))

    @property
    def events(self) -> list[Event]:
        """The events of the model so far."""
        return self.log[: self.count]


class Parsing(msgspec.Struct, frozen=True):
    """An answer is complete, and is being parsed into its type (`ParseAnswer`)."""

    response: Response


class Judging(msgspec.Struct, frozen=True):
    """A step is complete, and the user's `halt_when` was asked about it."""


class Finished(msgspec.Struct, frozen=True):
    """The run is over."""


class LoopState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a run.

    `thread` is the thread of the last model call, or after the last step; `draft` is the first pass's result
    while the second runs. `retries` counts the rejected answers, and `spent` is their usage, where they are
    not steps of their own.
    """

    options: Options
    thread: Thread
    phase: Asking | Parsing | Batch | Judging | Finished
    turn: int = 0
    retries: int = 0
    spent: Usage = Usage()
    steps: tuple[StepResult, ...] = ()
    draft: ChatResult | None = None
