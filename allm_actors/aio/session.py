"""Sessions as plain values, awaitable: the same calls for code that runs on an event loop.

Rule of this file: nothing is implemented twice. What asks no model at once (`submit_tool_result`, `recover`,
`replace_messages`, opening a stream) is not awaited.
"""

from __future__ import annotations

from typing import TypeVar, Unpack

from allm_actors.actors.options import ChatOptions
from allm_actors.data import ChatResult, Message, Session, StepResult
from allm_actors.engine.engine import Engine
from allm_actors.engine.secret import sealed
from allm_actors.session import (
    SessionStream,
    Start,
    StreamReducer,
    recover,
    replace_messages,
    stream_continue,
    stream_reply,
    stream_start,
    stream_step,
    submit_tool_result,
    submit_tool_results,
)

__all__ = [
    "SessionStream",
    "StreamReducer",
    "continue_",
    "recover",
    "replace_messages",
    "reply",
    "start",
    "step",
    "stream_continue",
    "stream_reply",
    "stream_start",
    "stream_step",
    "submit_tool_result",
    "submit_tool_results",
]

R = TypeVar("R", bound=ChatResult | StepResult)


async def start(
    engine: Engine, messages: Start, **options: Unpack[ChatOptions]
) -> tuple[Session, ChatResult]:
    """As `allm.session.start`."""
    options = sealed(options)
    return await _finished(stream_start(engine, messages, **options))


async def reply(
    engine: Engine, session: Session, text: str | Message, **options: Unpack[ChatOptions]
) -> tuple[Session, ChatResult]:
    """As `allm.session.reply`."""
    options = sealed(options)
    return await _finished(stream_reply(engine, session, text, **options))


async def continue_(
    engine: Engine, session: Session, message: str | Message | None = None, **options: Unpack[ChatOptions]
) -> tuple[Session, ChatResult]:
    """As `allm.session.continue_`."""
    options = sealed(options)
    return await _finished(stream_continue(engine, session, message, **options))


async def step(
    engine: Engine, session: Session, **options: Unpack[ChatOptions]
) -> tuple[Session, StepResult]:
    """As `allm.session.step`."""
    options = sealed(options)
    return await _finished(stream_step(engine, session, **options))


async def _finished(stream: SessionStream[R]) -> tuple[Session, R]:
    async with stream:  # when the task is cancelled this ends the run: no one else holds the stream
        return await stream.afinish()
