"""CallActor: one call that is not chat, from its first attempt to its end.

    sessions
    └── CallActor            owns the call: attempts, pauses, deadline, cancellation; never blocks
    adapters
    └── CallWorker           one attempt, on a thread; or AsyncCallWorker, on the event loop; or an adapter's stream

Rule of this file: it decides nothing (`engine.calls` says when to retry, `execution.audio` what a stream's
result is) and ends its caller's channel exactly once, even when it is killed. Nothing is restarted: a call
costs money.
"""

from __future__ import annotations

import inspect
import random
import time
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec

from allm_actors.actors.ports import Ports
from allm_actors.actors.protocol import CallJob, Demand, HireAgain, ToolDone, WorkerLost
from allm_actors.actors.turns.assignment import Assignment
from allm_actors.actors.turns.crew import Crew
from allm_actors.data import AllmError, ErrorEvent, StreamError
from allm_actors.engine.calls import Ask, Failed, Pause, conduct
from allm_actors.telemetry import emit
from supervisors import Process, TimerRef, is_clean

from .attempt import awaited, blocking
from .call import DIED, CallSpec, failed, signed
from .costs import priced

__all__ = ["CallActor", "Expired", "end_call"]


@dataclass(frozen=True, slots=True)
class _Cancel:
    """The caller no longer wants the answer."""


@dataclass(frozen=True, slots=True)
class Expired:
    """A timeout is over: of chunk `number`; in a stream, of the wait after event `number`, or of all of it (-1)."""

    number: int


@dataclass(frozen=True, slots=True)
class _Again:
    """The pause before the next attempt is over."""


class CallActor(Process):
    """A call with one answer. Thread: the I/O loop's; it never blocks."""

    restart = "temporary"
    shutdown = 1.0
    dispatcher = "io"

    def __init__(self, ports: Ports, spec: CallSpec) -> None:
        super().__init__()
        self.spec, self._crew = spec, Crew(ports, self.ref)
        self._deadline: TimerRef | None = None
        self._plan = conduct(spec.request, spec.policy, random.random, spec.batch_size)
        self._ask: Ask | None = None

    def label(self) -> str:
        """What is asked for, and the call's id."""
        return f"{self.spec.capability.span} {self.spec.call.request_id}"

    # Life.

    def init(self) -> Any:
        """Make sure that the call gets its end, before the start is confirmed."""
        self.ref.add_exit_callback(self._died)
        self.continue_(None)
        return None

    def handle_continue(self, _arg: Any) -> None:
        """Begin."""
        ref = self.ref
        self.spec.channel.accept(lambda: ref.send(Demand()), lambda: ref.inform(_Cancel()))
        if self.spec.channel.ended:  # its reader has left as it was begun
            ref.inform(_Cancel())
        self.begin()

    def on_receive(self, message: Any) -> None:
        """Workers report; time passes; the caller leaves."""
        match message:
            case HireAgain(token):
                self._crew.hire_again(token)
            case WorkerLost(token, why):
                if self._crew.forget(token) is not None:
                    self.lost(why)
            case _Cancel():
                self.fail(StreamError("cancelled", message="the call was cancelled"))
            case _:
                self.news(message)

    # What a call with one answer does.

    def begin(self) -> None:
        """Ask for the first time."""
        self._advance(None)

    def news(self, message: Any) -> None:
        """Take an answer, or the end of a timeout."""
        match message:
            case ToolDone(token, outcome):
                if self._crew.forget(token) is not None:
                    self._advance(outcome)
            case _Again() if self._ask is not None:
                self._advance(True)
            case Expired(number) if self._ask is not None and number == self._ask.chunk:
                self._crew.let_all_go()
                self._advance(Failed(self.too_late("request_timeout", self.spec.patience), final=True))
            case _:
                pass  # stale

    def lost(self, why: str) -> None:
        """The worker died without an answer."""
        self._advance(Failed(self.broken(why), final=True))

    def _advance(self, news: Any) -> None:
        try:
            step = self._plan.send(news)
            if isinstance(step, Pause) and not self._has_time(step):
                step = self._plan.send(False)
        except StopIteration as over:
            if isinstance(over.value, Failed):
                self.fail(over.value.error)
            self.succeed(over.value.response)
        match step:
            case Ask():
                self._attempt(step)
            case Pause():
                self._pause(step)

    def _attempt(self, ask: Ask) -> None:
        spec = self.spec
        if ask.attempt == 1 and spec.patience is not None:
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = self.send_after(spec.patience, self.ref, Expired(ask.chunk))
        self._ask = ask
        method = getattr(spec.adapter, spec.capability.method)
        asynchronous = inspect.iscoroutinefunction(method)
        attempt = awaited if asynchronous else blocking
        call = spec.call
        job = CallJob(
            token=self._crew.next_token(),
            session=self.ref,
            name=spec.capability.span,
            call_id=call.request_id,
            work=lambda: attempt(method, ask.request, call, spec.capability),
            context=spec.context,
            loop=self._crew.ports.io_loop() if asynchronous else None,
        )
        self._crew.employ(Assignment("call"), job)

    def _has_time(self, pause: Pause) -> bool:
        left = None if self._deadline is None else self._deadline.read()
        return left is None or pause.seconds < left

    def _pause(self, pause: Pause) -> None:
        call, error = self.spec.call, pause.error
        provider = error.provider or getattr(self.spec.adapter, "name", None)
        about = {"request_id": call.request_id, "provider": provider, "model": self.spec.request.model}
        retry = {"attempt": pause.attempt, "delay_ms": round(pause.seconds * 1000), "reason": error.reason}
        emit("allm.adapter.retry", {"system_time": time.time()}, {**about, **retry})
        self.send_after(pause.seconds, self.ref, _Again())

    # What every call does.

    def succeed(self, response: Any) -> NoReturn:
        """End the call with this response."""
        if response.request_id is None:
            response = msgspec.structs.replace(response, request_id=self.spec.call.request_id)
        response = priced(response, self.spec.pricing)
        measured = {"image_count": len(response.images)} if self.spec.capability.span == "image" else {}
        usage = getattr(response, "usage", None)
        self.spec.span.stop(measured, response=response, usage=usage, error=None)
        self.spec.channel.end(response)
        self.leave()

    def fail(self, error: Exception) -> NoReturn:
        """End the call with this error, which is raised to its caller."""
        if isinstance(error, AllmError):
            error = signed(self.spec, error)
        failed(self.spec.span, self.spec.capability, error)
        self.spec.channel.end(error=error)
        self.leave()

    def leave(self) -> NoReturn:
        """The caller has its end: let go of the worker, and exit."""
        self._crew.let_all_go()
        self.exit()

    def broken(self, why: str) -> AllmError:
        """The error for a worker that died."""
        text = f"the call ended early: {why}"
        return self.spec.capability.error("unknown", message=text, metadata={"cause": DIED})

    def too_late(self, option: str, seconds: float | None) -> AllmError:
        """The error for a call that takes too long."""
        text = f"no answer within {option}={seconds} seconds; give a larger {option}, or math.inf"
        return self.spec.capability.error("timeout", message=text)

    def _died(self, reason: object) -> None:
        # Runs however we died, because a kill skips `terminate`. The thread is then the killer's.
        self._crew.let_all_go()
        if self.spec.channel.ended:
            return
        if is_clean(reason):
            error: AllmError = StreamError("cancelled", message="the host was shut down during the call")
        else:
            error = self.broken(f"its process died ({reason})")
        end_call(self.spec, error)


def end_call(spec: CallSpec, error: AllmError) -> None:
    """End a call whose actor is dead."""
    error = signed(spec, error)
    failed(spec.span, spec.capability, error)
    if spec.opened is None:
        spec.channel.end(error=error)
    else:
        spec.channel.end(error, last=[ErrorEvent(error)])
