"""What the runtime moves between processes, besides the users' own messages.

The rule of this file: plain values that nobody changes. The types made at every start and death are not
`frozen` all the same: that would double the cost of making one. Signals on the control lane overtake
messages; those on the user lane keep their place among the messages of the same sender, because a result sent
before a death must be seen first.

Source: Erlang/OTP reference manual, "Processes: signals, delivery of signals".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from supervisors.reasons import NORMAL, Named, Reason
from supervisors.runtime.future import Future
from supervisors.runtime.owed import Owed
from supervisors.runtime.running import guard

if TYPE_CHECKING:
    from supervisors.runtime.ref import Ref

__all__ = [
    "ALIVE",
    "IGNORE",
    "NO_REPLY",
    "OK",
    "ChildIgnored",
    "ChildStartFailed",
    "ChildStarted",
    "Down",
    "DownNotice",
    "ExitMsg",
    "ExitNotice",
    "From",
    "Ignore",
    "Ignored",
    "Letter",
    "Link",
    "MonitorRef",
    "Outcome",
    "Signal",
    "StartFailed",
    "Started",
    "Starter",
    "Stop",
    "StopRequest",
    "Terminate",
]


Ignore: TypeAlias = Named
IGNORE: Final = Named("IGNORE", __name__)
"""Returned by `init`: do not start, and that is no error."""

OK: Final = Named("OK", __name__)
"""Returned by `init` as `(OK, info)`: started, and `info` is for whoever started it."""

NO_REPLY: Final = Named("NO_REPLY", __name__)
"""Returned by `on_receive` or `handle_call`: the answer comes later, through the `From`, which is kept."""


ALIVE: Final = Named("ALIVE", __name__)
"""What `Ref.reason` is while there is no reason yet."""


class Signal:
    """Base of everything on a lane that is not a user's message; losing one would break a promise."""

    __slots__ = ()


# --- what processes see -----------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class ExitMsg:
    """An exit signal from `ref` (None: from outside any process), for `handle_exit` with `trap_exit`."""

    ref: Ref[Any] | None
    reason: Reason


@final
class MonitorRef:
    """One monitor: the owner is told once when the target ends."""

    __slots__ = ("active", "owner", "target")

    def __init__(self, owner: Ref[Any], target: Ref[Any] | None) -> None:
        self.owner: Ref[Any] = owner
        self.target: Ref[Any] | None = target
        self.active: bool = True


@final
@dataclass(frozen=True, slots=True)
class Down:
    """The monitored process ended; `ref` is None when a monitored name had no process."""

    mref: MonitorRef
    ref: Ref[Any] | None
    reason: Reason


@final
@dataclass(frozen=True, slots=True)
class Stop:
    """Returned by a handler: end with `reason`, and answer the request with `reply` once `terminate` has run."""

    reason: Reason = NORMAL
    reply: Any = None


@final
class From(Signal):
    """A request. To answer later, keep it (`current_request`), return `NO_REPLY`, and reply on any thread."""

    __slots__ = ("_owed", "future", "message")

    def __init__(self, message: Any, future: Future[Any]) -> None:
        self.message: Any = message
        self.future: Future[Any] = future
        self._owed: Owed | None = None

    @property
    def done(self) -> bool:
        """Whether the request has been answered."""
        return self.future.done()

    def reply(self, value: Any = None) -> None:
        """Answer. A second answer is dropped and counted. Thread: any. Raises: `ProcessKilled` in a killed handler."""
        guard()
        self.settle(value)

    def fail(self, exc: BaseException) -> None:
        """Answer with an exception, which is raised in the caller. Otherwise as `reply`."""
        guard()
        self.settle_exception(exc)

    def settle(self, value: Any) -> None:
        """`reply`, for the runtime itself."""
        self.future.set(value)
        if self._owed is not None:
            self._owed.discard(self.future)

    def settle_exception(self, exc: BaseException) -> None:
        """`fail`, for the runtime itself."""
        self.future.fail(exc)
        if self._owed is not None:
            self._owed.discard(self.future)

    def keep_in(self, owed: Owed) -> None:
        """Be one of the requests that fail when their process ends, until answered."""
        self._owed = owed
        owed.add(self.future)


# --- the user lane ----------------------------------------------------------------------------------------------------


@final
class Link:
    """One link, known to both sides. `active` is False once it is unlinked, or once its exit was delivered."""

    __slots__ = ("active",)

    def __init__(self) -> None:
        self.active: bool = True


@final
@dataclass(slots=True, eq=False)
class ExitNotice(Signal):
    """An exit signal on its way: over `link`, from a dead `child`, or, with neither, sent with `exit`."""

    sender: Ref[Any] | None
    reason: Reason
    link: Link | None = None
    child: bool = False


@final
@dataclass(slots=True, eq=False)
class DownNotice(Signal):
    """A DOWN on its way."""

    mref: MonitorRef
    reason: Reason


@final
@dataclass(slots=True, eq=False)
class Letter(Signal):
    """A message that its sender can take back, with `active = False`, until it is opened."""

    message: Any = None
    active: bool = True


@final
@dataclass(slots=True, eq=False)
class StopRequest(Signal):
    """`ref.stop()`: end with this reason when the messages before it are done."""

    reason: Reason = NORMAL


# --- the control lane -------------------------------------------------------------------------------------------------


@final
@dataclass(slots=True, eq=False)
class Terminate(Signal):
    """The parent or the system wants the process to end: `handle_shutdown(reason)`."""

    reason: Reason


@final
@dataclass(slots=True)
class ChildStarted(Signal):
    """To `handle_system` of the process that called `spawn`: the child runs."""

    tag: Any
    ref: Ref[Any]
    info: Any = None


@final
@dataclass(frozen=True, slots=True)
class ChildIgnored(Signal):
    """To `handle_system`: the child's `init` said `IGNORE`."""

    tag: Any
    ref: Ref[Any] | None


@final
@dataclass(frozen=True, slots=True)
class ChildStartFailed(Signal):
    """To `handle_system`: the child did not start, and is dead; `ref` is None if it could not even be constructed."""

    tag: Any
    ref: Ref[Any] | None
    reason: Reason


# --- what a starter is told -------------------------------------------------------------------------------------------


@final
@dataclass(slots=True)
class Started:
    """The process runs; `info` is what `init` returned with `OK`."""

    ref: Ref[Any]
    info: Any = None


@final
@dataclass(frozen=True, slots=True)
class Ignored:
    """`init` said `IGNORE`."""

    ref: Ref[Any]


@final
@dataclass(frozen=True, slots=True)
class StartFailed:
    """The start failed, and the process is dead."""

    reason: Reason
    ref: Ref[Any] | None


Outcome: TypeAlias = Started | Ignored | StartFailed
Starter: TypeAlias = Callable[[Outcome], object]
