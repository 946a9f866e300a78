"""One turn as it was requested."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from allm_actors.actors.inside import Inside
from allm_actors.actors.streams.channel import Channel
from allm_actors.data import Message, Request, Thread
from allm_actors.engine.engine import Engine
from allm_actors.execution.loop import Options
from allm_actors.execution.sessions import Operation

from .model_calls import ModelCalls
from .terms import Terms

__all__ = ["Begin", "TurnSpec", "WhenBusy"]

WhenBusy = Literal["queue", "reject", "interrupt"]


class TurnSpec(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One turn as it was requested. `operation` is the session's (`reply`, `continue`, …), `messages` what it
    adds to the session's thread; a stateless call has no operation, and brings its `thread`, of which a session
    value had some messages `earlier`. `terms` say how its tools are called, `model_calls` makes its model calls.
    `when_busy` and `queue_limit` say what happens if another turn runs; `system` is the first message of a
    conversation that has none yet. `opened` is a first model call that the caller has opened already; `loop` is
    where async tools run; `inside` knows the callers that run the session's tools.
    """

    id: str
    engine: Engine
    adapter: Any
    options: Options
    call_options: dict[str, Any]
    terms: Terms
    model_calls: ModelCalls
    channel: Channel
    operation: Operation | None = None
    messages: Sequence[Message] = ()
    thread: Thread = msgspec.field(default_factory=Thread)
    earlier: Sequence[Message] = ()
    request: Request | None = None
    opened: Any = None
    context: contextvars.Context | None = None
    loop: asyncio.AbstractEventLoop | None = None
    when_busy: WhenBusy = "queue"
    queue_limit: int = 0
    system: str | None = None
    inside: Inside | None = None

    def __repr__(self) -> str:
        # Without the options, which may hold keys.
        return f"TurnSpec(id={self.id!r}, engine={self.engine!r}, operation={self.operation!r})"


class Begin(msgspec.Struct, frozen=True, eq=False):
    """Admit this turn, or refuse it through its channel."""

    turn: TurnSpec
