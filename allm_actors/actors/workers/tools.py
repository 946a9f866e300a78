"""ToolActor: one tool call at a time, or one attempt at a call that is not streamed.

Rule of this file: it runs the work it was given and sends the outcome to its session. Then a tool actor waits
for the turn's next call (see `crew`), and any other ends. It is never restarted: a half-run tool may have
acted on the world. What a handler raises is an outcome, not a crash; if this actor itself is ended (a kill, a
timeout, an exit), its session learns of that from its death.
"""

from __future__ import annotations

import asyncio
import contextlib
from _thread import LockType, get_ident
from abc import abstractmethod
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ClassVar

from allm_actors.actors.loops import call_on
from allm_actors.actors.protocol import ANSWERED, CallJob, HandlerDone, ToolDone, ToolJob
from supervisors import SHUTDOWN, Process

from .cancellation import Cancellation

__all__ = ["AsyncCallWorker", "AsyncToolActor", "CallWorker", "ToolActor", "tool_actor_for"]


def tool_actor_for(job: ToolJob) -> type[Worker]:
    """The actor class for a job: asynchronous work goes to its event loop, everything else to a thread."""
    if isinstance(job, CallJob):
        return AsyncCallWorker if job.loop is not None else CallWorker
    return AsyncToolActor if job.loop is not None else ToolActor


class Worker(Process):
    """Does one job; with `stays`, one job after another."""

    restart = "temporary"
    shutdown = 1.0  # asked first: a kill cannot stop a thread, it only stops waiting for it
    stays: ClassVar[bool] = True

    def __init__(self, job: ToolJob) -> None:
        super().__init__()
        self._job: ToolJob | None = job
        self.on_kill(self.cancel)

    def handle_continue(self, job: ToolJob) -> None:
        """The first job; it is begun when the start is over."""
        self.begin(job)

    def on_receive(self, message: Any) -> None:
        """The next job."""
        if isinstance(message, ToolJob):
            self._job = message
            self.begin(message)

    @abstractmethod
    def begin(self, job: ToolJob) -> None:
        """Run the job's work."""

    def terminate(self, reason: Any) -> None:
        """Tell a handler that has not answered yet that nobody waits for it any more."""
        if reason is not ANSWERED:
            self.cancel()

    def label(self) -> str | None:
        """The tool, and whose call it is."""
        job = self._job
        return None if job is None else f"{job.name} for {job.session}"

    def cancel(self) -> None:
        """Nobody wants the answer any more. Thread: any."""
        job = self._job
        if job is not None:
            job.cancel()

    def answer(self, job: ToolJob, outcome: Any) -> None:
        """Send the outcome to the session, then become idle or end. Ends too if the session is dead, because
        it may have died before it knew this worker.
        """
        self._job = None
        if not job.session.send(ToolDone(job.token, outcome)) or not self.stays:
            self.finish(ANSWERED)


class ToolActor(Worker):
    """Runs a handler that may block. Thread: one of the cached threads for blocking work."""

    dispatcher = "blocking"

    def init(self) -> None:
        """Begin the work after the start, so that the start does not wait for it."""
        self.continue_(self._job)

    def begin(self, job: ToolJob) -> None:
        """Run the work."""
        work = job.work if job.claim is None else _claiming(job, job.claim)
        self.answer(job, work() if job.context is None else job.context.copy().run(work))


class AsyncToolActor(Worker):
    """Awaits a coroutine handler on the loop that the caller chose, and can therefore stop it.

    Its start runs inside the session's message handler: the handler's own code does not run before the loop
    gets to it.
    """

    dispatcher = "io"
    drain_on_shutdown = True

    def __init__(self, job: ToolJob) -> None:
        super().__init__(job)
        self._task: asyncio.Task[Any] | None = None
        self._ident: int | None = None
        self._cancelled = False
        self._ending: object = None  # the reason, while it waits for the coroutine to clean up
        self.continue_(job)

    def begin(self, job: ToolJob) -> None:
        """Start the work on its loop; its outcome arrives as a message."""
        assert job.loop is not None
        if not call_on(job.loop, partial(self._start, job)):
            raise RuntimeError("the event loop that the asynchronous tools of this call run on is closed")

    def on_receive(self, message: Any) -> None:
        """The work is over: report its outcome, unless `_done` has, or crash with its error. Or take the next job."""
        match message:
            case _Ended(job=job, outcome=outcome, error=error):
                if self._ending is not None:
                    self.finish(self._ending)
                    return
                if isinstance(error, asyncio.CancelledError):
                    self.finish(SHUTDOWN)  # its loop ends, or whoever has cancelled it knows why
                    return
                if error is not None:
                    raise error
                self.answer(job, outcome)
            case _:
                super().on_receive(message)

    def handle_shutdown(self, reason: Any) -> None:
        """Cancel the coroutine, and end when it has: what it does then, such as a rollback, belongs to its work.

        Whoever shuts this process down kills it if that takes too long.
        """
        self._ending = reason  # before the look: a coroutine that ends from now on tells us
        task = self._task
        if task is None or task.done():
            self.finish(reason)
        else:
            self.cancel()

    def cancel(self) -> None:
        """Stop the coroutine. Only once: a second time would cut off what it does about the first."""
        super().cancel()
        job = self._job
        if job is None or job.loop is None or self._cancelled:
            return
        self._cancelled = True
        farewell = Cancellation(self.system, self.label(), lambda: self._task, self._ident)
        if call_on(job.loop, farewell.say):
            farewell.look_later()

    def _start(self, job: ToolJob) -> None:
        assert job.loop is not None
        if not self.ref.is_alive():
            return  # killed before its loop ran this
        work = job.work if job.claim is None else _claiming(job, job.claim)
        self._ident = get_ident()
        coroutine: Coroutine[Any, Any, Any] = work()
        own = None if job.context is None else job.context.copy()  # an empty context is falsy
        self._task = job.loop.create_task(coroutine, context=own)
        self._task.add_done_callback(partial(self._done, job))

    def _done(self, job: ToolJob, task: asyncio.Task[Any]) -> None:
        self._task = None  # its frames keep what the handler was reading
        cancelled = task.cancelled()
        error = asyncio.CancelledError() if cancelled else task.exception()
        if error is None and self.stays and self._ending is None:
            # Sent from here, not from a message handler: this worker is idle before its session can give it a new job.
            self._job = None
            if job.session.is_alive() and job.session.send(ToolDone(job.token, task.result())):
                return
        with contextlib.suppress(Exception):  # the actor is gone: nobody waits for this any more
            self.ref.tell(_Ended(job, None if error else task.result(), error))


class CallWorker(ToolActor):
    """One attempt with an adapter that may block. Thread: one of the cached threads for blocking work."""

    stays = False


class AsyncCallWorker(AsyncToolActor):
    """One attempt with an adapter that is a coroutine, on the event loop that all calls share."""

    stays = False


def _claiming(job: ToolJob, claim: LockType) -> Callable[[], Any]:
    return partial(job.work, partial(_claim_and_tell, job, claim))


def _claim_and_tell(job: ToolJob, claim: LockType, error: Any) -> bool:
    """Claim the settling, and report that the handler has ended, with this error or None. False if it is claimed."""
    mine = claim.acquire(False)
    if mine:
        job.session.send(HandlerDone(job.token, error))
    return mine


class _Ended:
    __slots__ = ("error", "job", "outcome")

    def __init__(self, job: ToolJob, outcome: Any, error: BaseException | None) -> None:
        self.job, self.outcome, self.error = job, outcome, error
