"""Why a process ended.

The rule of this file: a reason is a plain value. Three of them are *clean*: `NORMAL`, `SHUTDOWN` and `Shutdown(term)`.
Everything else, a `Crash`, `KILLED` or any other object, is a failure, and failures are what supervisors restart.

Source: Erlang/OTP, "Processes: exit reasons" and `supervisor`, "restart" of the child specification.
"""

from __future__ import annotations

import traceback as _traceback
from dataclasses import dataclass
from typing import Final, TypeAlias, final

__all__ = [
    "KILLED",
    "NOPROC",
    "NORMAL",
    "PASSIVATED",
    "SHUTDOWN",
    "Crash",
    "Exit",
    "Named",
    "Reason",
    "Shutdown",
    "is_clean",
    "shown",
]

Reason: TypeAlias = object
"""Any value may end a process; the names below are the ones with a meaning of their own."""


@final
class Named:
    """A value that is only a name of its module. There is one object per name, so compare with `is`."""

    def __init__(self, name: str, module: str) -> None:
        self.name = name
        self.__module__ = module

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> str:
        # pickle and copy look the name up in its module: a copy is the same object.
        return self.name


NORMAL: Final = Named("NORMAL", __name__)
"""The process had nothing left to do, or was stopped by a client."""

SHUTDOWN: Final = Named("SHUTDOWN", __name__)
"""The process was asked to stop by its supervisor or its system."""

KILLED: Final = Named("KILLED", __name__)
"""The process was killed: it could not object, delay or clean up."""

PASSIVATED: Final = Named("PASSIVATED", __name__)
"""In `Shutdown(PASSIVATED)`: the server was idle for long; an `OnDemand` starts it again when needed."""

NOPROC: Final = Named("NOPROC", __name__)
"""There is no such process: for those who link to, monitor, tell or ask one that is already dead."""


@final
@dataclass(frozen=True, slots=True)
class Shutdown:
    """A clean end that says more than `SHUTDOWN` does."""

    term: object = None


@final
@dataclass(frozen=True, slots=True, eq=False)
class Crash:
    """An exception nobody handled.

    Two crashes are equal when they carry the same exception object.
    """

    exc: BaseException

    @classmethod
    def of(cls, exc: BaseException) -> Crash:
        """The crash of this exception."""
        return cls(exc)

    @property
    def traceback(self) -> str:
        """The traceback as text, formatted only when it is read: crashes that nobody looks at stay cheap."""
        return "".join(_traceback.format_exception(self.exc))

    def __repr__(self) -> str:
        return f"Crash(exc={shown(self.exc)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Crash) and other.exc is self.exc

    def __hash__(self) -> int:
        return hash((Crash, id(self.exc)))


class Exit(Exception):
    """Raised in a handler to end its process with `reason`."""

    def __init__(self, reason: Reason = NORMAL) -> None:
        super().__init__(reason)
        self.reason = reason


def is_clean(reason: Reason) -> bool:
    """Whether `reason` is clean: no failure, and no cause to restart a transient child."""
    return reason is NORMAL or reason is SHUTDOWN or isinstance(reason, Shutdown)


def shown(value: object) -> str:
    """`repr(value)`; if that raises, text that names its type."""
    try:
        return repr(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - whatever it raises: somebody waits for the text around it
        return f"<a {type(value).__name__} that cannot be shown>"
