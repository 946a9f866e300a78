"""The exceptions of this package.

    SupervisorError
    ├── BadSpec             a child spec, a name or another argument is invalid         (also a ValueError)
    ├── AlreadyStarted      the name, or the child id, is taken by a running process
    ├── AlreadyPresent      the child id is known, and its process is not running
    ├── NotFound            the supervisor has no such child                            (also a LookupError)
    ├── Running             the child is running: stop it first
    ├── Restarting          the child is being restarted: stop it first
    ├── MaxChildren         the dynamic supervisor is full
    ├── StartError          the process did not start
    ├── ReplyError          a handler refuses a request, and lives on
    ├── ProcessDown         the other process is dead          (also a `pykka.ActorDeadError`)
    │   └── ForeignProcess  it lives in the parent of this forked OS process
    ├── MailboxFull         the mailbox of the other process is full
    ├── CallingSelf         a process asks itself
    ├── Deadlock            processes wait for each other in a circle
    │   └── Stuck           in a simulation, somebody waits and nothing can happen any more
    ├── SimulationError     a simulation that cannot go on
    │   └── OutsideSimulation   a thread from outside touches a simulated system
    └── WouldBlock          a handler on an event loop tried to wait

    ProcessKilled           unwinds the leftover handler of a killed process            (a BaseException)

The rule of this file: an error names the thing and the value and says what to do. It never shows start
arguments. Making one never fails, whatever the value: it is made where something has gone wrong already.
"""

from __future__ import annotations

import pickle
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar, final

from pykka import ActorDeadError, ActorRef

from supervisors.reasons import NOPROC, Crash, Reason, Shutdown, shown

__all__ = [
    "AlreadyPresent",
    "AlreadyStarted",
    "BadSpec",
    "CallingSelf",
    "Deadlock",
    "FailedToStart",
    "ForeignProcess",
    "MailboxFull",
    "MaxChildren",
    "NotFound",
    "OutsideSimulation",
    "ProcessDown",
    "ProcessKilled",
    "ReplyError",
    "Restarting",
    "Running",
    "SimulationError",
    "StartError",
    "Stuck",
    "SupervisorError",
    "WouldBlock",
]


class SupervisorError(Exception):
    """Base of what this package raises about processes and their supervision.

    It can be pickled, whatever it is about: instead of a process, and of anything else that cannot be, the other
    side gets its text. A copy, even a deep one, is about the same processes.
    """

    def __reduce__(self) -> Any:
        fields = {name: _sendable(value) for name, value in self._fields().items()}
        return _remade, (type(self), _each_sendable(self.args), fields)

    def __copy__(self) -> Self:
        return _remade(type(self), self.args, self._fields())

    def __deepcopy__(self, memo: object) -> Self:
        return self.__copy__()

    def _fields(self) -> dict[str, Any]:
        state: Any = object.__getstate__(self)
        # Attributes, or those and what is in slots.
        parts = state if isinstance(state, tuple) else (state,)
        return {name: value for part in parts for name, value in (part or {}).items()}


_E = TypeVar("_E", bound=SupervisorError)


def _remade(kind: type[_E], args: tuple[Any, ...], fields: dict[str, Any]) -> _E:
    """An error as it was, without `__init__`, which makes the message of what it is given."""
    error = kind.__new__(kind, *args)
    error.args = args
    for name, value in fields.items():
        object.__setattr__(error, name, value)
    if isinstance(error, StartError):
        error.__cause__ = _exception_in(error.reason)
    return error


class _Written:
    """A value that is pickled already. Otherwise a chain of errors would be pickled twice at each of its links."""

    def __init__(self, written: bytes) -> None:
        self._written = written

    def __reduce__(self) -> Any:
        return pickle.loads, (self._written,)


def _sendable(value: object) -> object:
    try:
        written = pickle.dumps(value)
        pickle.loads(written)  # noqa: S301 - we have just written it; a reader that fails would end a pool
    except Exception:  # noqa: BLE001 - pickling runs the value's own code
        if type(value) is tuple:
            return _each_sendable(value)
        return str(value) if isinstance(value, ActorRef) else shown(value)
    return _Written(written)


def _each_sendable(values: tuple[Any, ...]) -> tuple[object, ...]:
    return tuple(map(_sendable, values))


class BadSpec(SupervisorError, ValueError):
    """A child spec, the flags of a supervisor, a name, or another argument is invalid.

    `why` is a short stable word such as `"invalid_shutdown"`; `value` is what was found.
    """

    def __init__(self, why: str, value: object = None, message: str = "") -> None:
        super().__init__(message or f"{why}: {shown(value)}")
        self.why = why
        self.value = value


class AlreadyStarted(SupervisorError):
    """The name or the child id is in use by the running process `ref`."""

    def __init__(self, ref: Any) -> None:
        super().__init__(f"already started as {ref}; use that process, or stop it first")
        self.ref = ref


class AlreadyPresent(SupervisorError):
    """The child id is known to the supervisor, but its process is not running."""

    def __init__(self, id: Hashable) -> None:
        super().__init__(f"child {shown(id)} is already present; use restart_child or delete_child")
        self.id = id


class NotFound(SupervisorError, LookupError):
    """The supervisor has no child with this id or, if it is dynamic, with this ref."""

    def __init__(self, id: object) -> None:
        super().__init__(f"no child {shown(id)} under this supervisor; which_children() lists them")
        self.id = id


class Running(SupervisorError):
    """The child is running, and the call is only for children that are not."""

    def __init__(self, id: Hashable) -> None:
        super().__init__(f"child {shown(id)} is running; use terminate_child first")
        self.id = id


class Restarting(SupervisorError):
    """A restart of the child is pending."""

    def __init__(self, id: Hashable) -> None:
        super().__init__(f"child {shown(id)} is restarting; use terminate_child first")
        self.id = id


class MaxChildren(SupervisorError):
    """The dynamic supervisor has as many children as it may have."""

    def __init__(self, max_children: int) -> None:
        super().__init__(
            f"the supervisor is at its limit, max_children={max_children}; stop a child or raise the limit"
        )
        self.max_children = max_children


class StartError(SupervisorError):
    """A process did not start.

    `reason` is what it ended with; `spec` is the child spec if a static supervisor started it, else None.
    When the reason is a crash, of the process or of the child that kept a supervisor from starting, its
    exception is the `__cause__`.
    """

    def __init__(self, reason: Reason, spec: Any = None) -> None:
        who = "the process" if spec is None else f"child {shown(getattr(spec, 'id', spec))}"
        super().__init__(f"{who} did not start: {shown(reason)}")
        self.reason = reason
        self.spec = spec
        self.__cause__: BaseException | None = _exception_in(reason)


@final
@dataclass(frozen=True, slots=True)
class FailedToStart:
    """Which child kept its supervisor from starting, and why: the term of the supervisor's `Shutdown`.

    A plain value, not an exception.
    """

    id: Hashable
    reason: Reason


def _exception_in(reason: object) -> BaseException | None:
    while isinstance(reason, Shutdown) and isinstance(reason.term, FailedToStart):
        reason = reason.term.reason
    cause = reason.exc if isinstance(reason, Crash) else None
    return cause if isinstance(cause, BaseException) else None  # a Crash can be made of anything


class ReplyError(SupervisorError):
    """Raised in a handler to refuse a request: the caller gets it, the process lives on. Subclass it freely."""


class ProcessDown(SupervisorError, ActorDeadError):
    """The process that was asked is dead; `reason` says why it ended."""

    def __init__(self, reason: Reason = NOPROC, ref: Any = None) -> None:
        is_name = ref is not None and not isinstance(ref, ActorRef)
        who = "the process" if ref is None else f"process {shown(ref)}" if is_name else ref
        where = ": nobody has this name in the current System" if is_name else ""
        super().__init__(
            f"{who} not found{where}" if reason is NOPROC else f"{who} is down: {shown(reason)}"
        )  # Pykka's words
        self.reason = reason
        self.ref: Any = ref


class ForeignProcess(ProcessDown):
    """The process lives in the parent of this forked OS process: threads do not survive a fork.

    Start one here, or fork before you start any.
    """

    def __init__(self, ref: Any = None) -> None:
        who = ref if ref is not None else "the process"
        SupervisorError.__init__(
            self,
            f"{who} belongs to the program that this one was forked from, and its threads do not run here; "
            "start a new one here, or fork before you start any",
        )
        self.reason = NOPROC
        self.ref = ref


class MailboxFull(SupervisorError):
    """The mailbox of `ref` is bounded and full; send less, or ask and wait for the answer."""

    def __init__(self, ref: Any = None, maxlen: int | None = None) -> None:
        super().__init__(
            f"the mailbox of {ref if ref is not None else 'the process'} is full, maxlen={maxlen}"
        )
        self.ref = ref
        self.maxlen = maxlen


class CallingSelf(SupervisorError):
    """A process asked itself and would wait forever; send, or call the method."""

    def __init__(self, ref: Any = None) -> None:
        super().__init__(
            f"{ref if ref is not None else 'the process'} asked itself, and would wait forever; send, or call "
            "the method"
        )
        self.ref = ref


class Deadlock(SupervisorError):
    """Waiting would close a circle of processes, `cycle`, in which each waits for the next."""

    def __init__(self, cycle: Sequence[Any] = ()) -> None:
        super().__init__("waiting would deadlock: " + " -> ".join(str(ref) for ref in cycle))
        self.cycle: tuple[Any, ...] = tuple(cycle)


class Stuck(Deadlock):
    """Somebody waits in a simulation in which nothing can happen any more; `waits` has pairs (who, for whom).

    Either an answer never comes, or processes wait in a circle without a thread, which `Deadlock` misses.
    """

    def __init__(self, waits: Sequence[tuple[Any, Any]]) -> None:
        super().__init__([who for who, _ in waits])
        self.waits: tuple[tuple[Any, Any], ...] = tuple(waits)

    def __str__(self) -> str:
        return "nothing can make progress any more: " + "; ".join(
            f"{who} waits for {whom}" for who, whom in self.waits
        )


class SimulationError(SupervisorError):
    """A simulation cannot go on: it never comes to rest, or a handler blocks unseen by the runtime."""


class OutsideSimulation(SimulationError):
    """A thread that is no part of a simulation touched its processes; use `sim.client` instead of a thread."""


class WouldBlock(SupervisorError):
    """A handler on an event loop, or other code on the loop's thread, tried to wait.

    Send, and handle the answer when it comes; or give the class `dispatcher = "blocking"`.
    """


class ProcessKilled(BaseException):
    """Raised in the leftover handler of a killed process at its next call into the runtime.

    A `BaseException`, so that `except Exception` does not keep a killed process going.
    """
