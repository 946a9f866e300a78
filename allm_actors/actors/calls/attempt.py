"""One attempt at a call that is not chat: the adapter is called, and its answer or its error is returned as data.

Rule of this file: whatever an adapter raises is an outcome, an exit too, and loses the call's key. Only what ends its
worker from outside (see `ends_worker`) is not: whoever waits learns of that from the worker's death.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from allm_actors.actors.workers.ends import ends_worker
from allm_actors.data import AllmError
from allm_actors.engine.adapter import Call
from allm_actors.engine.awaitable import result_of
from allm_actors.engine.calls import Answered, Failed
from allm_actors.engine.capabilities import Capability
from allm_actors.engine.mismatch import mismatch
from allm_actors.engine.secret import AdapterFailed, without_key
from allm_actors.engine.threads import on_thread

__all__ = ["awaited", "blocking"]


def blocking(
    method: Callable[..., Any], request: Any, call: Call, capability: Capability
) -> Answered | Failed:
    """Call an adapter that may block. Thread: one of the cached threads for blocking work."""
    try:
        result = result_of(method(request, call))
    except BaseException as error:
        if ends_worker(error):
            raise
        return Failed(_told(method, without_key(error, call.api_key), capability))
    return _checked(method, request, result, capability)


async def awaited(
    method: Callable[..., Any], request: Any, call: Call, capability: Capability
) -> Answered | Failed:
    """Call an adapter that is a coroutine. Thread: the event loop that all calls share."""
    source = call.api_key
    try:
        if callable(call.api_key):
            call = replace(call, api_key=await _asked(call.api_key))
        result = await method(request, call)
    except BaseException as error:
        if ends_worker(error, asyncio.current_task()):
            raise
        return Failed(_told(method, without_key(error, source), capability))
    return _checked(method, request, result, capability)


async def _asked(source: Callable[[], Any]) -> Callable[[], Any]:
    """A key source that returns at once: the user's own is called here on a thread, because it may ask a vault."""
    return await on_thread(lambda: _answered(source))


def _answered(source: Callable[[], Any]) -> Callable[[], Any]:
    # What it raises is returned as a value: some exceptions (StopIteration) cannot be set on a future.
    try:
        key = source()
    except Exception as error:  # noqa: BLE001 - raised again where the adapter asks for the key
        return _raiser(error)
    return lambda: key


def _raiser(error: Exception) -> Callable[[], Any]:
    def again() -> Any:
        raise error

    return again


def _told(method: Callable[..., Any], error: BaseException, capability: Capability) -> Exception:
    """The error for the caller: AllmError, TypeError and ValueError unchanged, anything else as the adapter's fault."""
    if isinstance(error, AllmError | TypeError | ValueError):
        return error
    raised = (
        str(error)
        if isinstance(error, AdapterFailed)
        else f"{type(error).__name__}: {error}".removesuffix(": ")
    )
    text = f"{_name(method)} raised {raised}; an adapter must not raise that"
    return capability.error("unknown", message=text, metadata={"cause": "adapter_raised"})


def _checked(
    method: Callable[..., Any], request: Any, result: Any, capability: Capability
) -> Answered | Failed:
    if isinstance(result, capability.response):
        problem = mismatch(request, result)
        return Answered(result) if problem is None else Failed(_malformed(method, problem, capability))
    message = f"{_name(method)} must return {capability.response.__name__}, got: {type(result).__name__}"
    return Failed(TypeError(message), final=True)


def _malformed(method: Callable[..., Any], problem: str, capability: Capability) -> AllmError:
    provider = getattr(getattr(method, "__self__", None), "name", None)
    message = f"{_name(method)} returned an answer that does not fit the request: {problem}"
    return capability.error("malformed_response", provider=provider, message=message)


def _name(method: Callable[..., Any]) -> str:
    return getattr(method, "__qualname__", repr(method))
