"""One turn as it was requested."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

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


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSpec:
    """One turn as it was requested. `operation` is the session's (`reply`, `continue`, …), `messages` what it
    adds to the session's thread; a stateless call has no operation, and brings its `thread`. `terms` say how
    its tools are called, `model_calls` makes its model calls. `when_busy` and `queue_limit` say what happens
    if another turn runs; `system` is the first message of a conversation that has none yet. `opened` is a
    first model call that the caller has opened already; `loop` is where async tools run; `inside` knows the
    callers that run the session's tools.
    """

    id: str
    engine: Engine
    adapter: Any
    options: Options
    call_options: dict[str, Any] = field(repr=False)
    terms: Terms = field(repr=False)
    model_calls: ModelCalls = field(repr=False)
    channel: Channel
    operation: Operation | None = None
    messages: Sequence[Message] = ()
    thread: Thread = field(default_factory=Thread)
    request: Request | None = None
    opened: Any = None
    context: contextvars.Context | None = field(default=None, repr=False)
    loop: asyncio.AbstractEventLoop | None = field(default=None, repr=False)
    when_busy: WhenBusy = "queue"
    queue_limit: int = 0
    system: str | None = None
    inside: Inside | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Begin:
    """Admit this turn, or refuse it through its channel."""

    turn: TurnSpec
