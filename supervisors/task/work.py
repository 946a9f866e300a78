"""The process that runs one function and ends.

The rule of this file: the process exists before the function runs, so that whoever started it can link to it
and monitor it first. The outcome is told in this order: the result, then the end.

Source: Elixir `Task.Supervised`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar, final

from supervisors.errors import ReplyError
from supervisors.process import Down, Process
from supervisors.reasons import SHUTDOWN, Crash, Exit, Reason
from supervisors.runtime.ref import Ref
from supervisors.runtime.running import guard, running
from supervisors.spec import EMPTY, Restart

__all__ = ["Ended", "Job", "Returned", "TaskResult", "V_co", "Work", "callers", "current_process"]

if TYPE_CHECKING:  # `Task` alone is a task of anything
    import typing_extensions

    V_co = typing_extensions.TypeVar("V_co", covariant=True, default=Any)
else:
    V_co = TypeVar("V_co", covariant=True)


@final
@dataclass(frozen=True, slots=True)
class Returned(Generic[V_co]):
    """The function returned this."""

    value: V_co


@final
@dataclass(frozen=True, slots=True)
class Ended:
    """The task ended without a result, for this reason."""

    reason: Reason


class TaskResult(NamedTuple):
    """The message with the result of a task that is not awaited; a `Down` of the same ref follows."""

    ref: Ref[Any]
    value: Any


@final
@dataclass(frozen=True, slots=True)
class Job:
    """A function with its arguments; `deliver`, if given, is called with what it returned."""

    function: Callable[..., Any]
    args: tuple[Any, ...] = field(default=(), repr=False)
    kwargs: Mapping[str, Any] = field(default_factory=lambda: EMPTY, repr=False)
    deliver: Callable[[Any], object] | None = None


class Work(Process):
    """Runs `job`, or, without one, the first that it is sent; if its owner dies before that, it ends too."""

    dispatcher: ClassVar[str] = "blocking"
    restart: ClassVar[Restart] = "temporary"

    def __init__(
        self, job: Job | None = None, owner: Ref[Any] | None = None, callers: tuple[Ref[Any], ...] = ()
    ) -> None:
        super().__init__()
        self.callers = callers
        self._job = job
        self._owner = owner

    def init(self) -> None:
        """Complete the start before the work begins."""
        if self._job is not None:
            self.continue_(self._job)
        elif self._owner is not None:
            self.monitor(self._owner)

    def on_receive(self, message: Any) -> None:
        """Run the function."""
        if isinstance(message, Job):
            self.handle_continue(message)

    def handle_continue(self, arg: Any) -> None:
        """Run the function."""
        self._run(arg)
        self.exit()

    def handle_down(self, down: Down) -> None:  # noqa: ARG002
        """The owner died before it sent the work."""
        self.exit(SHUTDOWN)

    def _run(self, job: Job) -> None:
        try:
            value = job.function(*job.args, **job.kwargs)
        except ReplyError as exc:
            raise Exit(Crash.of(exc)) from None  # in a server it is a refusal; a task ends with it
        if job.deliver is not None:
            guard()
            job.deliver(value)


def current_process() -> Process | None:
    """The process that runs this code: for `check_stop`, `on_kill` and `blocking` inside a task's function."""
    process = running.process
    return process if isinstance(process, Process) else None


def callers() -> tuple[Ref[Any], ...]:
    """Who started this task, who started that one, and so on: on whose behalf it runs. () outside a task."""
    process = running.process
    return process.callers if isinstance(process, Work) else ()
