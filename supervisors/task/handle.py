"""Task: the handle of a function that runs in a process of its own.

The rule of this file: the owner hears of a task either as messages or from one of the methods here, never both. Once a
method has said how the task ended, no message about it arrives, not even one that is already queued.

Source: Elixir `Task`: `await/2`, `yield/2`, `shutdown/2`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, Literal, Self, final

import pykka

from supervisors.errors import Deadlock, ProcessDown, SupervisorError
from supervisors.process import Future, MonitorRef, Process, exit
from supervisors.reasons import KILLED, SHUTDOWN, Crash, Reason
from supervisors.runtime.ref import Ref
from supervisors.runtime.running import guard, running
from supervisors.runtime.signals import Letter
from supervisors.task.work import Ended, Job, Returned, TaskResult, V_co

__all__ = ["Task"]


@final
class Task(Generic[V_co]):
    """One function that runs, or has run. `ref` is its process; the messages about it carry the same ref.

    An owner that is a process and does not wait is sent `TaskResult(ref, value)` and then `Down`, or only `Down` with
    the reason if there is no result. An owner outside all processes is sent nothing.
    """

    __slots__ = ("_answer", "_letter", "_mref", "_owner", "ref")

    def __init__(self, ref: Ref[Any], owner: Process | None, *, link: bool) -> None:
        self.ref: Ref[Any] = ref
        self._owner = owner
        self._letter = Letter()
        self._answer: Future[V_co] = Future(ref, ref.dispatcher)
        if owner is not None and link:
            owner.link(ref)
        self._mref: MonitorRef | None = None if owner is None else owner.monitor(ref)
        ref.add_exit_callback(self._ended)

    def __repr__(self) -> str:
        return f"<Task {self.ref}>"

    @property
    def owner(self) -> Ref[Any] | None:
        """The process that started it, and alone may wait for it; None: started outside any process."""
        return None if self._owner is None else self._owner.ref

    def begin(self, job: Job) -> None:
        """Send the work, now that link and monitor are there. Only for `TaskSupervisorRef`."""
        self.ref.send(Job(job.function, job.args, job.kwargs, self._deliver))

    def done(self) -> bool:
        """Whether it has ended, or has a result. Thread: any."""
        return self._answer.done()

    def add_done_callback(self, callback: Callable[[Self], object]) -> None:
        """Call `callback(task)` once it is done, or now. Thread: the task's; it must not block."""
        self._answer.add_done_callback(lambda _: callback(self))

    def __await__(self) -> Generator[Any, None, V_co]:
        """`await_` inside an event loop, which goes on meanwhile."""
        self._only_for_the_owner()
        try:
            return (yield from self._answer.__await__())
        finally:
            self._forget()

    def await_(self, timeout: float | None = 5.0) -> V_co:
        """Wait for the result.

        Units: seconds. Raises: `ProcessDown` with the reason if there is none, its `__cause__` the exception
        of the function; `pykka.Timeout`, after which no message about the task arrives (`shutdown` still
        stops it); `SupervisorError` if anybody but the owner waits.
        """
        self._only_for_the_owner()
        try:
            return self._answer.get(timeout=timeout)
        finally:
            self._forget()

    def yield_(self, timeout: float | None = 5.0) -> Returned[V_co] | Ended | None:
        """Wait for the outcome; None after `timeout` seconds, and it can be called again."""
        self._only_for_the_owner()
        try:
            self._answer.get(timeout=timeout)
        except pykka.Timeout:
            return None
        except ProcessDown:
            pass
        self._forget()
        return self.outcome()

    def shutdown(self, timeout: float | Literal["brutal_kill"] | None = 5.0) -> Returned[V_co] | Ended | None:
        """Stop the task: ask it to end, and kill it after `timeout` seconds. Returns None if that ended it.

        Else it returns the outcome that came first, `Returned` or `Ended`, also if somebody else has stopped
        it. A running function is not interrupted: it may look (`current_process().check_stop()`), or be told
        of a kill (`on_kill`).
        """
        self._only_for_the_owner()
        self._forget()
        if self._owner is not None:
            self._owner.unlink(self.ref)
        ours = self._stop(timeout) if self.ref.is_alive() else ()
        outcome = self.outcome()
        return None if isinstance(outcome, Ended) and outcome.reason in ours else outcome

    def outcome(self) -> Returned[V_co] | Ended:
        """How it went; waits if it is not `done`. Thread: any."""
        try:
            return Returned(self._answer.get())
        except ProcessDown as down:
            return Ended(down.reason)

    def _stop(self, timeout: float | Literal["brutal_kill"] | None) -> tuple[Reason, ...]:
        # The reasons that it ends with if this has ended it.
        if timeout == "brutal_kill":
            exit(self.ref, "kill")
            return (KILLED,)
        exit(self.ref, SHUTDOWN)
        dead: Future[None] = Future(self.ref, self.ref.dispatcher)
        self.ref.add_exit_callback(lambda _: dead.set())
        try:
            dead.get(timeout=timeout)
        except (pykka.Timeout, Deadlock):  # a deadlock: it waits for us, and always would
            exit(self.ref, "kill")
            return SHUTDOWN, KILLED
        return (SHUTDOWN,)

    def _only_for_the_owner(self) -> None:
        guard()
        process = running.process
        owner = self._owner
        if process is not owner and (owner is not None or isinstance(process, Process)):
            asker = "a caller that is not a process" if process is None else process.ref
            raise SupervisorError(f"{self!r} belongs to {self.owner}, and {asker} may not wait for it")

    def _forget(self) -> None:
        # No message is delivered from here on, not even one that is already queued.
        self._letter.active = False
        if self._owner is not None and self._mref is not None:
            self._owner.demonitor(self._mref)

    def _deliver(self, value: Any) -> None:
        # Thread: the task's.
        self._letter.message = TaskResult(self.ref, value)
        self._answer.set(value)
        if self._owner is not None:
            self._owner.ref.inform(self._letter)

    def _ended(self, reason: Reason) -> None:
        down = ProcessDown(reason, self.ref)
        if isinstance(reason, Crash) and isinstance(reason.exc, BaseException):
            # Nothing else can be a `__cause__`.
            down.__cause__ = reason.exc
        self._answer.fail(down)
