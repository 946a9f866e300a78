"""What a worker of a turn was given to do, and how the machine is told what became of it.

Rule of this file: nothing here acts but `Patience`, which sets deadlines and calls them off.
"""

from __future__ import annotations

from _thread import LockType
from collections.abc import Callable
from typing import Any

from allm_actors.data import AdapterError, StreamError
from allm_actors.engine.adapter import Call
from allm_actors.execution.inputs import (
    AnswerParsed,
    HaltAnswered,
    Input,
    ModelFailed,
    ToolCrashed,
    ToolReturned,
)
from supervisors import Process, ProcessRef

from .bench import Post
from .window import Window

__all__ = ["Assignment", "Patience"]


class Assignment:
    """A model call, a tool run or a question to the user's code (`halt_when`, a type), and the process that does it."""

    __slots__ = (
        "call_id",
        "call_off",
        "cancel",
        "claim",
        "kind",
        "patience",
        "post",
        "process",
        "timeout",
        "turn",
        "window",
    )

    def __init__(self, kind: str, turn: int, call_id: str = "", window: Window | None = None) -> None:
        self.kind, self.turn, self.call_id, self.window = kind, turn, call_id, window
        self.post: Post | None = None
        self.call_off: Callable[[], object] | None = None
        self.cancel: Callable[[], object] | None = None
        self.process: type[Process] | None = None
        self.patience: Patience | None = None
        self.timeout: float | None = None
        self.claim: LockType | None = None  # None: there is nothing to settle, or it is being settled

    @property
    def ref(self) -> ProcessRef[Any] | None:
        """The process, once it has begun."""
        return None if self.post is None else self.post.ref

    def take_over(self) -> bool:
        """Take out of its hands what its handler comes to; False when that is over, and its word of it on the way."""
        return self.claim is None or self.claim.acquire(False)

    def died(self, why: str, *, begun: bool = True) -> Input:
        """How the machine is told that this worker ended without an answer, or never began."""
        match self.kind:
            case "model":
                return ModelFailed(self.turn, _broken(why))
            case "tool":
                return ToolCrashed(self.call_id, why, self.turn, begun)
            case "parse":
                return AnswerParsed(self.turn, error=_unanswered("what reads the answer", why))
            case _:
                return HaltAnswered(self.turn, _unanswered("halt_when", why))

    def returned(self, answer: Any) -> Input:
        """How the machine is told this worker's answer."""
        if self.kind == "tool":
            return ToolReturned(self.call_id, answer, self.turn)
        if self.kind == "parse":
            return AnswerParsed(self.turn, *answer)
        return HaltAnswered(self.turn, answer)


class Patience:
    """How long a model may be silent, and how long its whole call may take: for adapters that keep no time themselves.

    What keeps the adapter waiting, a reader who is behind, is not the model's silence. Units: seconds.
    """

    __slots__ = ("_alarm", "_idle", "_token", "_whole", "call", "name")

    def __init__(
        self, token: int, name: str, call: Call, alarm: Callable[[float, int], Callable[[], object]]
    ):
        self._token, self.name, self.call, self._alarm = token, name, call, alarm
        self._idle: Callable[[], object] | None = None
        self._whole = None if call.request_timeout is None else alarm(call.request_timeout, token)
        self.begin()

    def begin(self) -> None:
        """The model's turn: from now on it is silent."""
        self.end()
        if self.call.stream_timeout is not None:
            self._idle = self._alarm(self.call.stream_timeout, -self._token)

    def end(self) -> None:
        """It has said something."""
        if self._idle is not None:
            self._idle()
            self._idle = None

    def call_off(self) -> None:
        """The call is over."""
        self.end()
        if self._whole is not None:
            self._whole()

    def error(self, *, silent: bool) -> AdapterError:
        """What the answer ends with when this is over."""
        took, option, limit = "took longer than", "request_timeout", self.call.request_timeout
        if silent:
            took, option, limit = "said nothing for", "stream_timeout", self.call.stream_timeout
        text = f"{self.name} {took} {limit or 0.0:g} s; {option} allows more, in seconds"
        phase = "idle" if silent else "total"
        return AdapterError("timeout", provider=self.name, message=text, metadata={"phase": phase})


def _unanswered(what: str, why: str) -> StreamError:
    return StreamError("unknown", message=f"{what} did not answer, its process ended: {why}", cause=why)


def _broken(why: str) -> StreamError:
    return StreamError("adapter_error", message=f"the model call broke off: {why}", cause=why)
