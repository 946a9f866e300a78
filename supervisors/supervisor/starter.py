"""A child whose start is a function: the function runs in a small process of its own, so that it may take its time.

The rule of this file: whatever the function starts is the supervisor's child from its first moment, not the starter's.

Source: Erlang/OTP `supervisor`, "start" of the child specification (an mfa that must create and link to the child).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, final

from supervisors.errors import AlreadyStarted, StartError
from supervisors.process import IGNORE, OK, Process
from supervisors.reasons import NORMAL, Crash, Exit, Reason
from supervisors.runtime.ref import Ref
from supervisors.runtime.running import running
from supervisors.runtime.ties import take_over

__all__ = ["Answer", "Brought", "Nothing", "Refused", "Starter", "plain_reason"]


@final
@dataclass(frozen=True, slots=True)
class Brought:
    """The function started this process, or found it."""

    ref: Ref[Any]
    info: object = None


@final
@dataclass(frozen=True, slots=True)
class Nothing:
    """The function said `IGNORE`."""


@final
@dataclass(frozen=True, slots=True)
class Refused:
    """The function raised, or returned something that is no process."""

    reason: Reason


Answer = Brought | Nothing | Refused


class Starter(Process):
    """Calls `function(*args, **kwargs)` for `supervisor`, tells it the `Answer` as start info, and ends."""

    dispatcher: ClassVar[str] = "blocking"

    def __init__(
        self,
        supervisor: Ref[Any],
        function: Callable[..., object],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
    ) -> None:
        super().__init__()
        self._supervisor = supervisor
        self._call: Callable[[], object] = partial(function, *args, **kwargs)

    def init(self) -> object:
        """Run the function; the start of the starter succeeds, whatever becomes of it."""
        answer = self._ask()
        self.continue_()
        return OK, answer

    def handle_continue(self, _arg: object) -> None:
        """The work is done."""
        self.exit(NORMAL)

    def _ask(self) -> Answer:
        running.starting_for = self._supervisor
        try:
            return self._judge(self._call())
        except BaseException as exc:  # noqa: BLE001 - also `sys.exit`: told to whoever wanted the child
            return Refused(plain_reason(exc.reason if isinstance(exc, Exit) else Crash.of(exc)))
        finally:
            running.starting_for = None

    def _judge(self, result: object) -> Answer:
        match result:
            case Ref():
                return self._bring(result, None)
            case (Ref() as ref, info):
                return self._bring(ref, info)
            case _ if result is IGNORE:
                return Nothing()
            case _:
                return Refused(result)

    def _bring(self, ref: Ref[Any], info: object) -> Answer:
        take_over(self._supervisor, ref)
        return Brought(ref, info)


def plain_reason(reason: Reason) -> Reason:
    """The inner reason, if a start function passed on a `StartError` or `AlreadyStarted` of another start."""
    match reason:
        case Crash(exc=StartError(reason=inner)):
            return inner
        case Crash(exc=AlreadyStarted() as taken):
            return taken
        case _:
            return reason
