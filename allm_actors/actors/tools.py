"""ToolActor: one tool call, or one attempt of a call that is no stream.

Rule of this file: it runs the work it was given, tells its session what came of it, and ends. It is never restarted: a
half-run tool may have acted on the world. What is raised by a handler is an outcome, not a crash; what kills this actor
(a kill, a timeout, an exit) its session learns from the death.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from supervisors import Process

from .loops import call_on
from .protocol import ANSWERED, CallJob, ToolDone, ToolJob

__all__ = ["AsyncCallWorker", "AsyncToolActor", "CallWorker", "ToolActor", "tool_actor_for"]


def tool_actor_for(job: ToolJob) -> type[Job]:
    """The actor class for a job: asynchronous work goes to its event loop, everything else to a thread."""
    if isinstance(job, CallJob):
        return AsyncCallWorker if job.loop is not None else CallWorker
    return AsyncToolActor if job.loop is not None else ToolActor


class Job(Process):
    """Has one thing to do."""

    restart = "temporary"
    shutdown = 1.0  # asked first: a kill cannot stop a thread, it only stops waiting for it

    def __init__(self, job: ToolJob) -> None:
        super().__init__()
        self.job = job

    def terminate(self, reason: Any) -> None:
        """Tell a handler that has not answered yet that nobody waits for it any more."""
        if reason is not ANSWERED:
            self.cancel()

    def cancel(self) -> None:
        """Nobody wants the answer any more. Thread: any."""
        self.job.cancel()

    def answer(self, outcome: Any) -> None:
        """Tell the session, and end."""
        self.job.session.send(ToolDone(self.job.token, outcome))
        self.finish(ANSWERED)


class ToolActor(Job):
    """Runs a handler that may block. Thread: one of the cached threads for blocking work."""

    dispatcher = "blocking"

    def init(self) -> None:
        """The start is over before the work begins."""
        self.continue_(None)

    def handle_continue(self, _arg: Any) -> None:
        """Run the work and end."""
        self.on_kill(self.cancel)
        job = self.job
        self.answer(job.work() if job.context is None else job.context.copy().run(job.work))


class AsyncToolActor(Job):
    """Awaits a coroutine handler on the loop that the caller chose, and can therefore stop it.

    It begins where it is started, in its session's own turn: nothing of the handler runs before the loop comes to it.
    """

    dispatcher = "io"

    def __init__(self, job: ToolJob) -> None:
        super().__init__(job)
        self._task: asyncio.Task[Any] | None = None
        self.continue_(None)

    def handle_continue(self, _arg: Any) -> None:
        """Start the work on its loop; what comes of it arrives as a message."""
        assert self.job.loop is not None
        self.on_kill(self.cancel)
        if not call_on(self.job.loop, self._start):
            raise RuntimeError("the event loop that asynchronous tools of this call belong to is closed")

    def on_receive(self, message: Any) -> None:
        """The work is over: report it, or die of what it died of."""
        match message:
            case _Ended(outcome=outcome, error=error):
                if error is not None:
                    raise error
                self.answer(outcome)
            case _:
                pass

    def cancel(self) -> None:
        """Stop the coroutine."""
        super().cancel()
        assert self.job.loop is not None
        call_on(self.job.loop, lambda: self._task.cancel() if self._task is not None else None)

    def _start(self) -> None:
        assert self.job.loop is not None
        if not self.ref.is_alive():
            return  # killed before its loop came to it
        work: Coroutine[Any, Any, Any] = self.job.work()
        self._task = self.job.loop.create_task(work, context=self.job.context and self.job.context.copy())
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        cancelled = task.cancelled()
        error = asyncio.CancelledError() if cancelled else task.exception()
        with contextlib.suppress(Exception):  # the actor is gone: nobody waits for this any more
            self.ref.tell(_Ended(None if error else task.result(), error))


class CallWorker(ToolActor):
    """Asks an adapter that may block."""


class AsyncCallWorker(AsyncToolActor):
    """Asks an adapter that waits on the event loop of all calls."""


class _Ended:
    __slots__ = ("error", "outcome")
    __match_args__ = ("outcome", "error")

    def __init__(self, outcome: Any, error: BaseException | None) -> None:
        self.outcome, self.error = outcome, error
