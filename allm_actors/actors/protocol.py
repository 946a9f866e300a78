"""The messages that actors send each other; the one that brings a turn, `Begin`, is in `turns.spec`.

Rule of this file: frozen data (but for `Change.begun`), named in the past tense for what happened and in the imperative
for what is wanted.
`token` numbers the model calls and tool runs of one session actor: an answer with an old token is stale and ignored.
"""

from __future__ import annotations

import asyncio
import contextvars
from _thread import LockType
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from allm_actors.data import Event, Message, Request
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
    "Change",
    "Continue",
    "Demand",
    "Forget",
    "Fork",
    "HandlerDone",
    "HireAgain",
    "ModelBatch",
    "ModelJob",
    "ModelRefused",
    "Ready",
    "Recover",
    "ReplaceMessages",
    "StoreAnswered",
    "SubmitToolResults",
    "ToolDone",
    "ToolJob",
    "Wake",
    "WorkerLost",
]


# From a handle or a channel to a session actor.


class Demand(msgspec.Struct, frozen=True):
    """The reader has taken everything and asks for more."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the turn of that id, running or queued; None means the running one."""

    turn_id: str | None


@dataclass(frozen=True, slots=True)
class Ready:
    """Request: answered once the session's state is loaded."""


class Change(msgspec.Struct, kw_only=True, eq=False):
    """A request that must not be repeated if the session dies after it has `begun` to handle it."""

    begun: bool = False


class SubmitToolResults(Change, eq=False):
    """Answer pending calls: `(id, content)` in order."""

    results: Sequence[tuple[str, Any]]


class ReplaceMessages(Change, eq=False):
    """Put these messages in place of the session's."""

    messages: Sequence[Message]


class Fork(Change, eq=False):
    """Store a copy of the session's value under a new name."""

    id: str


@dataclass(frozen=True, slots=True)
class Recover:
    """Make the session usable again after an error."""


@dataclass(frozen=True, slots=True)
class Forget:
    """End the running turn, have the session deleted, and stop."""


class StoreAnswered(msgspec.Struct, frozen=True):
    """Note to self: the store has answered, or there is an `error`; `then(answer, error)` is what was to come of it."""

    then: Callable[[Any, BaseException | None], object]
    answer: Any = None
    error: BaseException | None = None


# Between a session actor and its workers.

ANSWERED: Final = Shutdown("answered")
"""Exit reason of a worker that has told its session everything; any other reason means that there was no answer."""


@dataclass(frozen=True, slots=True)
class WorkerLost(Signal):
    """A worker has ended without an answer; `begun` is False if it could not even be started."""

    token: int
    why: str
    begun: bool = True


class ModelJob(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One model call for an adapter actor: send `request` with `call`, and its events to `session`. With
    `stays` the actor waits for another job afterwards. An asynchronous adapter runs on `loop`, and its code
    in a copy of the caller's `context`.
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
    """The events of one network read; after the `last` the stream is exhausted."""

    token: int
    events: Sequence[Event]
    last: bool = False


class Wake(msgspec.Struct, frozen=True):
    """To a worker: the window is open again, so read on."""


class Continue(msgspec.Struct, frozen=True):
    """Note to self: go on, now that other messages have been handled."""


def _nothing() -> None:
    """What a job does to cancel code that has no flag to look at."""


class ToolJob(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One tool run for a tool actor: call `work` (the handler, then settling its outcome), or await it on
    `loop`. `cancel` tells a handler that nobody waits for it any more; thread: any.

    There is a `claim` if the user's policy or encoder takes part in settling. These are called once: by the
    worker, after the handler, or by the session, when it gives up on the worker. Whoever acquires the lock
    first may; `work` is then called with a function that acquires it and reports `HandlerDone`.
    """

    token: int
    session: ProcessRef[Any]
    name: str
    call_id: str
    work: Callable[..., Any]
    cancel: Callable[[], None] = _nothing
    loop: asyncio.AbstractEventLoop | None = None
    context: contextvars.Context | None = None
    claim: LockType | None = None

    def __repr__(self) -> str:
        # Without the work and its context, which may hold keys.
        return f"{type(self).__name__}(token={self.token}, name={self.name!r}, call_id={self.call_id!r})"


class CallJob(ToolJob, frozen=True, kw_only=True, eq=False):
    """One attempt at a call that is not streamed: as a `ToolJob`, but its worker is one of the adapters."""


class HireAgain(msgspec.Struct, frozen=True):
    """Note to self: the supervisor under which the worker for that job could not be started has been restarted."""

    token: int


class HandlerDone(msgspec.Struct, frozen=True):
    """A tool's handler has ended, with this error if it failed; the user's policy or encoder runs now."""

    token: int
    error: Any = None


class ToolDone(msgspec.Struct, frozen=True):
    """The outcome of a tool run."""

    token: int
    outcome: ToolOutcome


class AlarmRang(msgspec.Struct, frozen=True):
    """A timer fired: a tool's or a model's time may be up, or an idle session's."""
