"""Calls without a session: one answer, one step, or a whole chat; whole, or as a stream.

Rule of this file: a synchronous call is its stream, drained. Each call is an unnamed session of the process-wide host.
Options and their meaning: `docs/reference/options.md`. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from allm_actors.actors import (
    EventStream,
    StatelessCall,
    default_host,
    messages_of,
    open_first_call,
    turn_spec,
    view_of,
)
from allm_actors.data import ChatResult, Message, Request, Response, StepResult, Thread
from allm_actors.engine.engine import Engine

__all__ = ["chat", "generate", "step", "stream", "stream_generate", "stream_step"]

Conversation = Thread | Sequence[Message]


def generate(engine: Engine, request: Request | Conversation, **options: Any) -> Response:
    """One model call. A failure after it began is data: `finish_reason == "error"` and `metadata["error"]`.

    Raises: TypeError, ValueError, ValidationError, EngineError; AdapterError for a scripted refusal.
    """
    response: Response = stream_generate(engine, request, **options).result()
    return response


def stream_generate(engine: Engine, request: Request | Conversation, **options: Any) -> EventStream:
    """One model call as events; its result is a `Response`."""
    wanted = request if isinstance(request, Request) else Request(messages=messages_of(request))
    return _open("generate", engine, options, messages=wanted.messages, request=wanted)


def step(engine: Engine, thread: Conversation, **options: Any) -> StepResult:
    """One model call and the tools it asks for."""
    result: StepResult = stream_step(engine, thread, **options).result()
    return result


def stream_step(engine: Engine, thread: Conversation, **options: Any) -> EventStream:
    """One model call and its tools as events; its result is a `StepResult`."""
    return _open("step", engine, options, messages=messages_of(thread))


def chat(engine: Engine, thread: Conversation, **options: Any) -> ChatResult:
    """Steps until the model has answered, a tool halts, or `max_turns` is reached."""
    result: ChatResult = stream(engine, thread, **options).result()
    return result


def stream(engine: Engine, thread: Conversation, **options: Any) -> EventStream:
    """A whole chat as events, the last of which is `ChatCompleted`; its result is a `ChatResult`."""
    return _open("chat", engine, options, messages=messages_of(thread))


def _open(kind: Any, engine: Engine, options: dict[str, Any], **what: Any) -> EventStream:
    host = default_host()
    spec = turn_spec(kind, engine, options, **what)
    spec = replace(spec, opened=open_first_call(spec, host.transport))
    return EventStream(StatelessCall(host, spec), spec.channel, view_of(spec))
