"""What a worker of a turn was given to do, and the input that tells the loop machine of its outcome.

Rule of this file: nothing here acts, except that a `Patience` sets and cancels deadlines.
"""

from __future__ import annotations

import math
from _thread import LockType
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from allm_actors.actors.streams.window import Window
from allm_actors.data import AdapterError, StreamError
from allm_actors.engine import keys
from allm_actors.engine.adapter import Call
from allm_actors.engine.secret import Remembered
from allm_actors.execution.inputs import (
    AnswerParsed,
    HaltAnswered,
    Input,
    ModelFailed,
    ToolCrashed,
    ToolReturned,
    ToolTimedOut,
)
from supervisors import Process, ProcessRef

from .idle_workers import WorkerSlot

__all__ = ["Assignment", "Patience", "patience_with"]

Alarm = Callable[[float, int], Callable[[], object]]


class Patience(Protocol):
    """How long a model call may take. Units: seconds."""

    def begin(self) -> None:
        """Start the timeout for the model's next events."""

    def end(self) -> None:
        """Events have come: stop that timeout."""

    def call_off(self) -> None:
        """The call is over."""

    def over(self, turn: int, *, silent: bool) -> Input | None:
        """A deadline has passed, of a silence or the whole call: the machine's input, or None if it does not count."""


class Assignment(msgspec.Struct, eq=False):
    """A model call, a tool run or a question to the user's code (`halt_when`, a type), and the process that does it."""

    kind: str
    turn: int
    call_id: str = ""
    window: Window | None = None
    timeout: float | None = None
    slot: WorkerSlot | None = None
    call_off: Callable[[], object] | None = None
    cancel: Callable[[], object] | None = None
    process: type[Process] | None = None
    patience: Patience | None = None
    claim: LockType | None = None  # None: there is nothing to settle, or it is being settled

    @property
    def ref(self) -> ProcessRef[Any] | None:
        """The process, once it has begun."""
        return None if self.slot is None else self.slot.ref

    def take_over(self) -> bool:
        """Claim the settling of its handler's outcome. False if the worker has claimed it: `HandlerDone` is coming."""
        return self.claim is None or self.claim.acquire(False)

    def died(self, why: str, *, begun: bool = True) -> Input:
        """The machine's input for a worker that ended without an answer, or never began."""
        match self.kind:
            case "model":
                return ModelFailed(self.turn, _broken(why))
            case "tool":
                return ToolCrashed(self.call_id, why, self.turn, begun)
            case "parse":
                return AnswerParsed(self.turn, error=_unanswered(_READS, f", its process ended: {why}", why))
            case _:
                return HaltAnswered(self.turn, _unanswered("halt_when", f", its process ended: {why}", why))

    def timed_out(self) -> Input:
        """The machine's input for a worker, other than a model's, that took too long."""
        within = f" within {self.timeout:g} s; tool_timeout allows more, in seconds"
        match self.kind:
            case "tool":
                return ToolTimedOut(self.call_id, self.turn)
            case "parse":
                return AnswerParsed(self.turn, error=_unanswered(_READS, within, "timeout"))
            case _:
                return HaltAnswered(self.turn, _unanswered("halt_when", within, "timeout"))

    def returned(self, answer: Any) -> Input:
        """The machine's input for this worker's answer."""
        if self.kind == "tool":
            return ToolReturned(self.call_id, answer, self.turn)
        if self.kind == "parse":
            return AnswerParsed(self.turn, *answer)
        return HaltAnswered(self.turn, answer)


def patience_with(adapter: Any, call: Call, token: int, alarm: Alarm) -> Patience | None:
    """How long to wait for this adapter's call; an adapter with `batches` has timeouts of its own."""
    name = getattr(adapter, "name", type(adapter).__name__)
    keeps_time = callable(getattr(adapter, "batches", None))
    if not keeps_time and (call.stream_timeout or call.request_timeout):
        return _WithModel(token, name, call, alarm)
    return _WithVault(token, name, call, alarm) if isinstance(call.api_key, Remembered) else None


class _WithVault:
    """How long the user's function for the API key may take, which the adapter's own timeouts do not cover."""

    __slots__ = ("_call_off", "_name", "_seconds", "_source")

    def __init__(self, token: int, name: str, call: Call, alarm: Alarm) -> None:
        assert isinstance(call.api_key, Remembered)
        self._name, self._source = name, call.api_key
        self._seconds = min(keys.PATIENCE, call.request_timeout or math.inf)
        self._call_off = alarm(self._seconds, token)

    def begin(self) -> None:
        pass

    def end(self) -> None:
        pass

    def call_off(self) -> None:
        self._call_off()

    def over(self, turn: int, *, silent: bool) -> Input | None:  # noqa: ARG002
        if not self._source.asking:
            return None  # it has answered, and the rest is the adapter's
        return ModelFailed(turn, keys.unanswered(self._name, self._seconds), preflight=True)


class _WithModel:
    """How long a model may be silent, and how long its whole call may take.

    Time in which the adapter waits for a slow reader does not count as silence.
    """

    __slots__ = ("_alarm", "_call", "_idle", "_name", "_token", "_whole")

    def __init__(self, token: int, name: str, call: Call, alarm: Alarm) -> None:
        self._token, self._name, self._call, self._alarm = token, name, call, alarm
        self._idle: Callable[[], object] | None = None
        self._whole = None if call.request_timeout is None else alarm(call.request_timeout, token)
        self.begin()

    def begin(self) -> None:
        self.end()
        if self._call.stream_timeout is not None:
            self._idle = self._alarm(self._call.stream_timeout, -self._token)

    def end(self) -> None:
        if self._idle is not None:
            self._idle()
            self._idle = None

    def call_off(self) -> None:
        self.end()
        if self._whole is not None:
            self._whole()

    def over(self, turn: int, *, silent: bool) -> Input | None:
        took, option, limit = "took longer than", "request_timeout", self._call.request_timeout
        if silent:
            took, option, limit = "sent nothing for", "stream_timeout", self._call.stream_timeout
        text = f"{self._name} {took} {limit or 0.0:g} s; {option} allows more, in seconds"
        phase = "idle" if silent else "total"
        error = AdapterError("timeout", provider=self._name, message=text, metadata={"phase": phase})
        return ModelFailed(turn, error)


_READS = "the code of response_model"


def _unanswered(what: str, how: str, cause: str) -> StreamError:
    return StreamError("unknown", message=f"{what} did not answer{how}", cause=cause)


def _broken(why: str) -> StreamError:
    return StreamError("adapter_error", message=f"the model call ended early: {why}", cause=why)
