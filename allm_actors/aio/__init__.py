"""The facade, awaitable: the same calls for code that runs on an event loop.

Rule of this file: no second engine. Asynchronous tools run on the caller's loop; everything else is as in the facade.
"""

from __future__ import annotations

from typing import Any

from allm_actors import facade
from allm_actors.actors import EventStream
from allm_actors.data import ChatResult, Request, Response, StepResult
from allm_actors.engine.engine import Engine
from allm_actors.facade import Conversation

from . import session

__all__ = ["chat", "generate", "session", "step", "stream", "stream_generate", "stream_step"]


async def generate(engine: Engine, request: Request | Conversation, **options: Any) -> Response:
    """As `allm.generate`."""
    response: Response = await stream_generate(engine, request, **options)
    return response


def stream_generate(engine: Engine, request: Request | Conversation, **options: Any) -> EventStream:
    """As `allm.stream_generate`; iterate it with `async for`."""
    return facade.stream_generate(engine, request, **options)


async def step(engine: Engine, thread: Conversation, **options: Any) -> StepResult:
    """As `allm.step`."""
    result: StepResult = await stream_step(engine, thread, **options)
    return result


def stream_step(engine: Engine, thread: Conversation, **options: Any) -> EventStream:
    """As `allm.stream_step`; iterate it with `async for`."""
    return facade.stream_step(engine, thread, **options)


async def chat(engine: Engine, thread: Conversation, **options: Any) -> ChatResult:
    """As `allm.chat`."""
    result: ChatResult = await stream(engine, thread, **options)
    return result


def stream(engine: Engine, thread: Conversation, **options: Any) -> EventStream:
    """As `allm.stream`; iterate it with `async for`."""
    return facade.stream(engine, thread, **options)
