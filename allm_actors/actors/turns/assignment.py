"""What a worker of a turn was given to do, and the input that tells the loop machine of its outcome.

Rule of this file: it acts on nothing but the one worker: wakes it, or gives it its next job. A `Patience` also sets and
cancels deadlines.

Thread: the session actor's; a slot's `token` is also read on the thread that its worker dies on.
"""

from __future__ import annotations

import math
from _thread import LockType
from collections.abc import Callable
from typing import Any

import msgspec

from allm_actors.actors.protocol import ModelJob, ToolJob, Wake
from allm_actors.actors.streams.channel import Channel
from allm_actors.actors.streams.window import Window
from allm_actors.data import AdapterError, StreamError
from allm_actors.engine import keys
from allm_actors.engine.adapter import Call
from allm_actors.engine.secret import Remembered
from allm_actors.execution.inputs import (
    AnswerParsed,
    HaltAnswered,
    Input,
    ModelEnded,
    ModelFailed,
    ToolCrashed,
    ToolReturned,
    ToolTimedOut,
)
from supervisors import ProcessDown, ProcessRef

from .alarms import Alarms

__all__ = ["Assignment", "Patience", "WorkerSlot", "patience_with"]


class WorkerSlot:
    """A worker's process, once it has begun, and the token of the job that it does; 0 while it has none."""

    __slots__ = ("ref", "token")

    def __init__(self, token: int) -> None:
        self.token = token
        self.ref: ProcessRef[Any] | None = None

    def give(self, job: ModelJob | ToolJob) -> bool:
        """Send it the next job; False if it is dead.

        Its death may already have been reported with this job's token: after False, use a new token.
        """
        assert self.ref is not None
        self.token = job.token
        try:
            self.ref.tell(job)
        except ProcessDown:
            return False
        return True


class Assignment(msgspec.Struct, eq=False):
    """A model call, a tool run or a question to the user's code (`halt_when`, a type), and the worker that does it.
    Or a call that is not chat, which belongs to no turn.

    `timeout` is in seconds; a model call has a `window` and perhaps a `patience`. `owed` is how many of its batches the
    reader has not taken.
    """

    kind: str
    turn: int = 0
    call_id: str = ""
    token: int = 0
    slot: WorkerSlot | None = None
    timeout: float | None = None
    cancel: Callable[[], object] | None = None
    claim: LockType | None = None  # None: there is nothing to settle, or it is being settled
    window: Window | None = None
    patience: Patience | None = None
    owed: int = 0

    @property
    def ref(self) -> ProcessRef[Any] | None:
        """The process, once it has begun."""
        return None if self.slot is None else self.slot.ref

    def published(self, channel: Channel) -> None:
        """One of a model's batches went to this channel: it is taken, or will be when the reader has caught up."""
        if channel.has_room():
            self._taken(1)
        else:
            self.owed += 1

    def caught_up(self) -> None:
        """The reader has taken everything."""
        owed, self.owed = self.owed, 0
        self._taken(owed)

    def take_over(self) -> bool:
        """Claim the settling of its handler's outcome. False if the worker has claimed it: `HandlerDone` is coming."""
        return self.claim is None or self.claim.acquire(False)

    def died(self, why: str, *, begun: bool = True) -> Input:
        """The machine's input for a worker that ended without an answer, or never began."""
        match self.kind:
            case "model":
                error = StreamError("adapter_error", message=f"the model call ended early: {why}", cause=why)
                return ModelFailed(self.turn, error)
            case "tool":
                return ToolCrashed(self.call_id, why, self.turn, begun)
            case _:
                return self._unanswered(f", its process ended: {why}", why)

    def timed_out(self) -> Input:
        """The machine's input for a worker, other than a model's, that took too long."""
        if self.kind == "tool":
            return ToolTimedOut(self.call_id, self.turn)
        return self._unanswered(
            f" within {self.timeout:g} s; tool_timeout allows more, in seconds", "timeout"
        )

    def returned(self, answer: Any) -> Input:
        """The machine's input for this worker's answer; a model's was told before, in its events."""
        match self.kind:
            case "model":
                return ModelEnded(self.turn)
            case "tool":
                return ToolReturned(self.call_id, answer, self.turn)
            case "parse":
                return AnswerParsed(self.turn, *answer)
            case _:
                return HaltAnswered(self.turn, answer)

    def _unanswered(self, how: str, cause: str) -> Input:
        what = "the code of response_model" if self.kind == "parse" else "halt_when"
        error = StreamError("unknown", message=f"{what} did not answer{how}", cause=cause)
        if self.kind == "parse":
            return AnswerParsed(self.turn, error=error)
        return HaltAnswered(self.turn, error)

    def _taken(self, count: int) -> None:
        if self.window is not None and self.window.take(count) and self.ref is not None:
            self.ref.send(Wake())  # it waits for room


class Patience:
    """How long a model call may take; its deadlines are those of its token, and of the negative one. Units: seconds."""

    def begin(self) -> None:
        """Start the timeout for the model's next events."""

    def end(self) -> None:
        """Events have come: stop that timeout."""

    def over(self, turn: int, *, silent: bool) -> Input | None:
        """A deadline has passed, of a silence or the whole call: the machine's input, or None if it does not count."""
        raise NotImplementedError


def patience_with(adapter: Any, call: Call, token: int, alarms: Alarms) -> Patience | None:
    """How long to wait for this adapter's call; an adapter with `batches` has timeouts of its own."""
    name = getattr(adapter, "name", type(adapter).__name__)
    keeps_time = callable(getattr(adapter, "batches", None))
    if not keeps_time and (call.stream_timeout or call.request_timeout):
        return _WithModel(token, name, call, alarms)
    return _WithVault(token, name, call, alarms) if isinstance(call.api_key, Remembered) else None


class _WithVault(Patience):
    """How long the user's function for the API key may take, which the adapter's own timeouts do not cover."""

    def __init__(self, token: int, name: str, call: Call, alarms: Alarms) -> None:
        assert isinstance(call.api_key, Remembered)
        self._name, self._source = name, call.api_key
        self._seconds = min(keys.PATIENCE, call.request_timeout or math.inf)
        alarms.set(self._seconds, token)

    def over(self, turn: int, *, silent: bool) -> Input | None:  # noqa: ARG002
        if not self._source.asking:
            return None  # it has answered, and the rest is the adapter's
        return ModelFailed(turn, keys.unanswered(self._name, self._seconds), preflight=True)


class _WithModel(Patience):
    """How long a model may be silent, and how long its whole call may take.

    Time in which the adapter waits for a slow reader does not count as silence.
    """

    def __init__(self, token: int, name: str, call: Call, alarms: Alarms) -> None:
        self._token, self._name, self._call, self._alarms = token, name, call, alarms
        if call.request_timeout is not None:
            alarms.set(call.request_timeout, token)
        self.begin()

    def begin(self) -> None:
        if self._call.stream_timeout is not None:
            self._alarms.set(self._call.stream_timeout, -self._token)

    def end(self) -> None:
        self._alarms.call_off(-self._token)

    def over(self, turn: int, *, silent: bool) -> Input | None:
        took, option, limit = "took longer than", "request_timeout", self._call.request_timeout
        if silent:
            took, option, limit = "sent nothing for", "stream_timeout", self._call.stream_timeout
        text = f"{self._name} {took} {limit or 0.0:g} s; {option} allows more, in seconds"
        phase = "idle" if silent else "total"
        error = AdapterError("timeout", provider=self._name, message=text, metadata={"phase": phase})
        return ModelFailed(turn, error)
