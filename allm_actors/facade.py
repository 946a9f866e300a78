"""Calls without a session: one answer, one step, or a whole chat; whole, or as a stream.

Rule of this file: a synchronous call is its stream, drained. Each call is an unnamed session of the process-wide host.
Options and their meaning: `docs/reference/options.md`. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from allm_actors.actors import (
    EventStream,
    StatelessCall,
    default_host,
    open_first_call,
    thread_of,
    turn_spec,
    view_of,
)
from allm_actors.data import ChatResult, Message, Request, Response, StepResult, Thread
from allm_actors.engine.engine import Engine

__all__ = ["chat", "generate", "open_stream", "step", "stream", "stream_generate", "stream_step"]

Conversation = Thread | Sequence[Message]
S = TypeVar("S", bound=EventStream)


def generate(engine: Engine, request: Request | Conversation, **options: Any) -> Response:
    """One model call. A failure after it began is data: `finish_reason == "error"` and `metadata["error"]`.

    Raises: TypeError, ValueError, ValidationError, EngineError; AdapterError for a scripted refusal.
    """
    response: Response = stream_generate(engine, request, **options).result()
    return response


def stream_generate(engine: Engine, request: Request | Conversation, **options: Any) -> EventStream:
    """One model call as events; its result is a `Response`."""
    wanted = request if isinstance(request, Request) else Request(messages=thread_of(request).messages)
    thread = Thread.from_messages(wanted.messages)
    return open_stream(EventStream, "generate", engine, thread, options, request=wanted)


def step(engine: Engine, thread: Conversation, **options: Any) -> StepResult:
    """One model call and the tools it asks for."""
    result: StepResult = stream_step(engine, thread, **options).result()
    return result


def stream_step(engine: Engine, thread: Conversation, **options: Any) -> EventStream:
    """One model call and its tools as events; its result is a `StepResult`."""
    return open_stream(EventStream, "step", engine, thread_of(thread), options)


def chat(engine: Engine, thread: Conversation, **options: Any) -> ChatResult:
    """Steps until the model has answered, a tool halts, or `max_turns` is reached."""
    result: ChatResult = stream(engine, thread, **options).result()
    return result


def stream(engine: Engine, thread: Conversation, **options: Any) -> EventStream:
    """A whole chat as events, the last of which is `ChatCompleted`; its result is a `ChatResult`."""
    return open_stream(EventStream, "chat", engine, thread_of(thread), options)


def open_stream(
    make: Callable[..., S],
    kind: Any,
    engine: Engine,
    thread: Thread,
    options: dict[str, Any],
    request: Request | None = None,
) -> S:
    """The stream of one call, made of its source, its channel and what its reader wants to see."""
    host = default_host()
    spec = turn_spec(kind, engine, options, thread=thread, request=request)
    spec = replace(spec, opened=open_first_call(spec, host.transport))
    return make(StatelessCall(host, spec), spec.channel, view_of(spec))
