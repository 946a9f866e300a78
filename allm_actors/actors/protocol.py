"""The messages that actors send each other; the one that brings a turn, `Begin`, is in `turns.spec`.

Rule of this file: frozen data, named in the past tense for what happened and in the imperative for what is wanted.
`token` numbers the model calls and tool runs of one session actor: an answer with an old token is stale and ignored.
"""

from __future__ import annotations

import asyncio
import contextvars
from _thread import LockType
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from allm_actors.data import Event, Request, StoreError
from allm_actors.engine.adapter import Call
from allm_actors.execution.tools import ToolOutcome
from supervisors import ProcessRef, Shutdown
from supervisors.runtime.signals import Signal

from .streams.window import Window

__all__ = [
    "ANSWERED",
    "AlarmRang",
    "CallJob",
    "Cancel",
    "Checked",
    "Continue",
    "Deleted",
    "Demand",
    "Forget",
    "Fork",
    "Forked",
    "HandlerDone",
    "ModelBatch",
    "ModelDone",
    "ModelJob",
    "ModelRefused",
    "Ready",
    "Recover",
    "Saved",
    "SubmitToolResults",
    "ToolDone",
    "ToolJob",
    "Wake",
    "WorkerLost",
    "WorkerReady",
]


# From a door to a session actor.


class Demand(msgspec.Struct, frozen=True):
    """The reader has taken everything and asks for more."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the turn of that id, running or queued; None is the one that runs."""

    turn_id: str | None


@dataclass(frozen=True, slots=True)
class Ready:
    """Ask: answered once the session's state is loaded."""


class Receipt:
    """Whether a session has begun to do what it was asked, and must not be asked again when it dies."""

    __slots__ = ("signed",)

    def __init__(self) -> None:
        self.signed = False


@dataclass(frozen=True, slots=True)
class SubmitToolResults:
    """Answer pending calls: `(id, content)` in order."""

    results: Sequence[tuple[str, Any]]
    receipt: Receipt = field(default_factory=Receipt, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Recover:
    """Make the session usable again after an error."""


@dataclass(frozen=True, slots=True)
class Fork:
    """The session's value under a new name, stored."""

    id: str
    receipt: Receipt = field(default_factory=Receipt, repr=False, compare=False)


class Forked(msgspec.Struct, frozen=True):
    """Note to self: the store has answered a fork."""


class Checked(msgspec.Struct, frozen=True):
    """Note to self: the store has nothing newer than what refused a call, or this error says what it has."""

    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Forget:
    """End what runs, have the session deleted, and die."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """The store has deleted the session, or says why it has not."""

    error: BaseException | None = None


# Between a session actor and its workers.

ANSWERED: Final = Shutdown("answered")
"""What a worker ends with that has told its session everything; any other end is one without an answer."""


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker that could not be started at once has begun."""

    token: int
    ref: ProcessRef[Any]


@dataclass(frozen=True, slots=True)
class WorkerLost(Signal):
    """A worker has ended without an answer, or could not be started and has not `begun`."""

    token: int
    why: str
    begun: bool = True


class ModelJob(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What an adapter actor does: this request, in this way, its events to this session; `stays` for the next one.
    The adapter's code runs in a copy of the caller's `context`.
    """

    token: int
    session: ProcessRef[Any]
    adapter: Any
    request: Request
    call: Call
    window: Window
    opened: Any = None
    loop: asyncio.AbstractEventLoop | None = None
    context: contextvars.Context | None = None
    stays: bool = False

    def __repr__(self) -> str:
        return f"ModelJob(token={self.token}, adapter={self.adapter!r})"


@dataclass(frozen=True, slots=True)
class ModelRefused:
    """The adapter refused the call before its first event."""

    token: int
    error: Exception


class ModelBatch(msgspec.Struct, frozen=True):
    """The events of one network read."""

    token: int
    events: Sequence[Event]


class ModelDone(msgspec.Struct, frozen=True):
    """The stream is exhausted."""

    token: int


class Wake(msgspec.Struct, frozen=True):
    """The window is open again."""


class Continue(msgspec.Struct, frozen=True):
    """Note to self: go on after others had their turn."""


class ToolJob(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a tool actor does: run `work` (a handler and its settling), or await it on `loop`. `cancel` tells a handler
    that nobody waits for it any more; thread: any.

    A `claim` is there where the user's policy or encoder has a part in it, which are asked once: by the worker, whose
    handler is over, or by whoever gives up on it. The first to acquire it may; the work is given somebody to tell.
    """

    token: int
    session: ProcessRef[Any]
    name: str
    call_id: str
    work: Callable[..., Any]
    cancel: Callable[[], None]
    loop: asyncio.AbstractEventLoop | None = None
    context: contextvars.Context | None = None
    claim: LockType | None = None

    def __repr__(self) -> str:
        # What the work and its context hold, keys among it, is nobody's to read.
        return f"{type(self).__name__}(token={self.token}, name={self.name!r}, call_id={self.call_id!r})"


class CallJob(ToolJob, frozen=True, kw_only=True, eq=False):
    """One attempt of a call that is no stream: as a tool's, but what waits on a loop waits on the host's own."""

    asynchronous: bool = False


class HandlerDone(msgspec.Struct, frozen=True):
    """A tool's handler is over, with this error if it failed; code of the user's makes something of it now."""

    token: int
    error: Any = None


class ToolDone(msgspec.Struct, frozen=True):
    """A tool run came to this."""

    token: int
    outcome: ToolOutcome


class AlarmRang(msgspec.Struct, frozen=True):
    """A tool's or a model's time may be up, or that of a session with nothing to do."""


class Saved(msgspec.Struct, frozen=True):
    """The store has answered a `Save`."""

    token: int
    error: StoreError | None = None
