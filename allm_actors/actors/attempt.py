"""One attempt of a call that is not chat: the adapter is asked, and whatever comes of it is data.

Rule of this file: what an adapter may raise is an outcome. Anything else kills the worker it runs in, and whoever
waits for it learns that from the death.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from allm_actors.data import AllmError
from allm_actors.engine.adapter import Call
from allm_actors.engine.calls import Answered, Failed

__all__ = ["awaited", "blocking"]


def blocking(method: Callable[..., Any], request: Any, call: Call, response: type[Any]) -> Answered | Failed:
    """What an adapter that may block comes to. Thread: one of the cached threads for blocking work."""
    try:
        result = method(request, call)
        if inspect.isawaitable(result):
            result = asyncio.run(_await(result))
    except (AllmError, TypeError, ValueError) as error:  # anything else is a crash of the worker
        return Failed(error)
    return _checked(method, result, response)


async def awaited(
    method: Callable[..., Any], request: Any, call: Call, response: type[Any]
) -> Answered | Failed:
    """What an adapter comes to that waits on the event loop of all calls."""
    try:
        if callable(call.api_key):
            call = replace(call, api_key=await _asked(call.api_key))
        result = await method(request, call)
    except (AllmError, TypeError, ValueError) as error:
        return Failed(error)
    return _checked(method, result, response)


async def _asked(source: Callable[[], Any]) -> Callable[[], Any]:
    """A source that has its answer already: the user's own may ask a vault, and that may take its time."""
    try:
        key = await asyncio.to_thread(source)
    except Exception as error:  # noqa: BLE001 - raised again where the adapter asks for the key
        return _raiser(error)
    return lambda: key


def _raiser(error: Exception) -> Callable[[], Any]:
    def again() -> Any:
        raise error

    return again


async def _await(awaitable: Any) -> Any:
    return await awaitable


def _checked(method: Callable[..., Any], result: Any, response: type[Any]) -> Answered | Failed:
    if isinstance(result, response):
        return Answered(result)
    name = getattr(method, "__qualname__", repr(method))
    message = f"{name} must return {response.__name__}, got: {type(result).__name__}"
    return Failed(TypeError(message), final=True)
