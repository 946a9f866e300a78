"""From what a caller typed to one turn: options sorted, rules checked, everything resolved.

Rule of this file: whatever is wrong with a call is said here, in the caller's own thread, before anything is started.
"""

from __future__ import annotations

import asyncio
import contextvars
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from allm_actors.data import Message, Request, Thread, ValidationError
from allm_actors.data.validate import validate
from allm_actors.engine.adapters import find_adapter
from allm_actors.engine.engine import Engine
from allm_actors.engine.resolve import complete_request, resolve_params, resolve_tools, split
from allm_actors.engine.wire import Transport
from allm_actors.execution.effects import CallModel
from allm_actors.execution.options import Kind, Options
from allm_actors.execution.sessions import Operation
from allm_actors.execution.tools import as_policy

from .adapter import open_call
from .channel import Channel
from .ports import model_call
from .protocol import TurnSpec
from .stream import View

__all__ = ["messages_of", "new_id", "open_first_call", "turn_spec", "view_of"]

_RULES = ("mode", "max_turns", "max_concurrency", "tool_timeout")


def new_id() -> str:
    """16 random bytes as 22 URL-safe characters: a request's or a turn's id."""
    return secrets.token_urlsafe(16)


def messages_of(input: Any) -> list[Message]:
    """The messages of a `Thread` or a list of messages. Raises ValidationError for anything else."""
    if isinstance(input, Thread):
        return input.messages
    if isinstance(input, list | tuple) and all(isinstance(message, Message) for message in input):
        return list(input)
    text = f"expected a Thread or a list of Message, got {type(input).__name__}; see allm.user(…)"
    raise ValidationError(
        "invalid_thread", [("thread", "invalid_type")], message=f"validation failed: {text}"
    )


def turn_spec(
    kind: Kind,
    engine: Engine,
    options: Mapping[str, Any],
    *,
    operation: Operation | None = None,
    messages: Sequence[Message] = (),
    request: Request | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
) -> TurnSpec:
    """One turn, checked and resolved.

    Raises: TypeError for a wrong type or a misspelt option, ValueError for a rule that means nothing, ValidationError
    for messages that cannot be sent, EngineError for an adapter that does not exist.
    """
    if not isinstance(engine, Engine):
        raise TypeError(f"expected an Engine first, got {type(engine).__name__}; see allm.Engine(adapter=…)")
    given = {name: value for name, value in options.items() if value is not None}
    split(given)
    _refuse_what_is_not_there_yet(engine, given)
    request_id = given.setdefault("request_id", new_id())
    params = resolve_params(engine, given)
    if request is not None:
        request = complete_request(engine, request, given)
    elif operation is None:
        validate(Thread.from_messages(messages))
    return TurnSpec(
        id=request_id,
        engine=engine,
        adapter=find_adapter(engine.adapter),
        options=_rules(kind, engine, given, params, request_id),
        call_options=given,
        channel=Channel(),
        operation=operation,
        messages=messages,
        request=request,
        context=contextvars.copy_context(),
        loop=loop,
    )


def view_of(options: Mapping[str, Any]) -> View:
    """What the reader wants to see. Raises TypeError for an observer that cannot be called."""
    filters = dict(split(options).filters)
    observer = filters.get("on_event")
    if observer is not None and not callable(observer):
        raise TypeError(f"on_event must be a function of one event, got: {observer!r}")
    return View(**filters)


def open_first_call(spec: TurnSpec, transport: Transport) -> Any:
    """Open the first model call of a stateless turn, here and now, so that what refuses it is raised in the caller.

    Nothing is sent: an adapter does no I/O before its first pull.
    """
    structured = spec.options.structured_finalize
    effect = CallModel(0, Thread.from_messages(spec.messages), "draft" if structured else "answer")
    adapter, request, call = model_call(spec, effect, transport)
    return open_call(adapter, request, call)


def _rules(
    kind: Kind, engine: Engine, given: Mapping[str, Any], params: Mapping[str, Any], request_id: str
) -> Options:
    halt_when = given.get("halt_when")
    if halt_when is not None and not callable(halt_when):
        raise TypeError(f"halt_when must be a function of one StepResult, got: {halt_when!r}")
    policy = as_policy(params.get("on_tool_error"))
    rules = {name: params[name] for name in _RULES if name in params}
    custom = given.get("tool_result_encoder") or engine.tool_result_encoder
    return Options(
        kind=kind,
        request_id=request_id,
        on_tool_error=policy if isinstance(policy, str) else "function",
        custom_encoder=custom is not None,
        halt_when=halt_when is not None,
        tools={tool.name: tool for tool in resolve_tools(engine, given)},
        structured_finalize=kind == "chat"
        and params.get("structured_finalize") is True
        and params.get("response_format") is not None,
        nudge=params.get("structured_finalize_nudge"),
        **rules,
    )


def _refuse_what_is_not_there_yet(engine: Engine, given: Mapping[str, Any]) -> None:
    # An option that is accepted and does nothing would be worse than one that is refused.
    for name in ("response_model", "max_retries"):
        if name in given:
            raise TypeError(
                f"{name} is not supported by this version; use response_format=allm.json_schema(…)"
            )
    for tool in resolve_tools(engine, given):
        if tool.isolation != "thread":
            raise ValueError(
                f"tool {tool.name!r}: isolation={tool.isolation!r} is not supported by this version"
            )
