"""From a caller's arguments to one turn: options sorted, rules checked, everything resolved.

Rule of this file: whatever is wrong with a call is raised here, in the caller's own thread, before anything
is started: first of the options, then of the messages, then of the adapter. From the messages on, refusals
appear in telemetry.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

from allm_actors.actors.inside import Inside
from allm_actors.actors.streams.channel import Channel
from allm_actors.actors.streams.stream import View
from allm_actors.actors.workers.adapter import try_open_call
from allm_actors.data import AdapterError, AllmError, Message, ModelRef, Request, Thread, ValidationError
from allm_actors.data.compact import with_help
from allm_actors.data.rules.validate import validate
from allm_actors.data.schemas.structured import response_format_of
from allm_actors.data.tool_choice import forbids_calls
from allm_actors.engine.adapters import find_adapter
from allm_actors.engine.engine import Engine
from allm_actors.engine.isolated import address_of
from allm_actors.engine.kinds import check_kinds, check_times
from allm_actors.engine.places import split
from allm_actors.engine.resolve import (
    complete_request,
    resolve_adapter_opts,
    resolve_field,
    resolve_model_ref,
    resolve_params,
    resolve_tools,
)
from allm_actors.engine.secret import Remembered
from allm_actors.engine.wire import Transport
from allm_actors.execution.answers import to_send
from allm_actors.execution.effects import CallModel
from allm_actors.execution.inherited import with_way_out
from allm_actors.execution.options import Kind, Options
from allm_actors.execution.sessions import Operation
from allm_actors.execution.tools import as_policy
from supervisors import simulated

from .model_calls import ModelCalls
from .spans import refused
from .spec import TurnSpec, WhenBusy
from .terms import Terms

__all__ = ["check_thread", "needs_its_loop", "new_id", "open_first_call", "thread_of", "turn_spec", "view_of"]

_SIMULATED_CORES = 4  # fixed, so that a seed gives the same run on every machine
_RULES = ("mode", "max_turns", "max_concurrency", "max_retries", "tool_timeout")


def new_id() -> str:
    """16 random bytes as 22 URL-safe characters: a request's or a turn's id."""
    return secrets.token_urlsafe(16)


def thread_of(input: Any) -> Thread:
    """A `Thread` unchanged, or one made from a list of messages. Raises ValidationError for anything else."""
    if isinstance(input, Thread):
        return input
    got = type(input).__name__
    if isinstance(input, list | tuple):
        wrong = [at for at, message in enumerate(input) if not isinstance(message, Message)]
        if not wrong:
            return Thread.from_messages(input)
        got = f"a {got} with {type(input[wrong[0]]).__name__} at {wrong[0]}"
    text = f"expected a Thread or a list of Message, got {got}; give it as [allm.user('…')]"
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
    thread: Thread | None = None,
    earlier: Sequence[Message] = (),
    request: Request | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
    when_busy: WhenBusy = "queue",
    queue_limit: int = 0,
    system: str | None = None,
    inside: Inside | None = None,
    new_id: Callable[[], str] = new_id,
) -> TurnSpec:
    """One turn, checked and resolved; `new_id` names it, and its request unless the call has a `request_id`.

    Raises: TypeError for a wrong type or a misspelt option, ValueError for an invalid value, ValidationError
    for messages that cannot be sent, EngineError for an adapter that does not exist.
    """
    given, params = _checked(engine, options, request)
    model = resolve_model_ref(engine, given, request)
    id = new_id()  # of this turn alone: two may be asked with one request_id
    request_id = given.setdefault("request_id", id)
    rules = _rules(kind, engine, given, params, request_id, model)
    thread = thread if thread is not None else Thread()
    if request is not None:
        request = _complete(engine, request, given)
    spec_with = partial(
        TurnSpec,
        id=id,
        engine=engine,
        options=rules,
        call_options=given,
        terms=Terms(engine, given),
        model_calls=ModelCalls(engine, given, split(params), request, request_id, model),
        channel=Channel(),
        operation=operation,
        messages=messages,
        thread=thread,
        earlier=earlier,
        request=request,
        context=contextvars.copy_context(),
        loop=loop,
        when_busy=when_busy,
        queue_limit=queue_limit,
        system=system,
        inside=inside,
    )
    if operation is None and request is None:
        check_thread(spec_with(adapter=None), thread, earlier)
    try:
        return spec_with(adapter=find_adapter(engine.adapter))
    except AllmError as error:
        refused(spec_with(adapter=None), error)
        raise


def check_thread(spec: TurnSpec, thread: Thread, earlier: Sequence[Message]) -> None:
    """Raises ValidationError for a thread that cannot be sent; `earlier` is what its session had before the turn."""
    try:
        validate(thread)
    except ValidationError as error:
        refusal = with_way_out(error, thread.messages, earlier)
        refused(spec, refusal)
        raise refusal from None


def view_of(spec: TurnSpec) -> View:
    """Which events the turn's reader wants to see."""
    return View(**split(spec.call_options).filters, response_model=spec.call_options.get("response_model"))


def needs_its_loop(spec: TurnSpec) -> bool:
    """Whether any of its tools runs on the turn's event loop, where nothing may wait for the turn."""
    return any(spec.terms.form_of(tool).asynchronous for tool in spec.options.tools.values())


def open_first_call(spec: TurnSpec, transport: Transport) -> Any:
    """Open the first model call of a stateless turn, here and now, so that a refusal is raised in the caller.

    Nothing is sent: an adapter does no I/O before its first pull. None if the API key comes from a function:
    that may block, and the caller may be an event loop, so the function is called, and the model call opened,
    in a worker.
    """
    structured = spec.options.structured_finalize
    effect = CallModel(0, spec.thread, "draft" if structured else "answer")
    try:
        request, call = spec.model_calls.call(spec.adapter, effect, transport)
        if callable(call.api_key):
            return None
        opened, failure = try_open_call(spec.adapter, request, call)
        if failure is None:
            return opened
    except (AllmError, TypeError, ValueError) as error:
        failure = error
    if not isinstance(failure, Exception):
        raise failure  # an exit in the adapter's code
    if isinstance(failure, AdapterError):
        failure = failure.of_call(spec.options.request_id)
    failure = with_way_out(failure, to_send(spec.thread.messages), spec.earlier)
    refused(spec, failure)
    raise failure


def _checked(
    engine: Engine, options: Mapping[str, Any], request: Request | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of the call, and those over the engine's `params`. Raises what `turn_spec` does for options."""
    if not isinstance(engine, Engine):
        raise TypeError(f"expected an Engine first, got {type(engine).__name__}; see allm.Engine(adapter=…)")
    given = _given(engine, options, request)
    params = resolve_params(engine, given)
    check_kinds({**_of_engine(engine), **params, **given})
    if request is not None:
        check_kinds({"tools": request.tools, "model": request.model})
    check_times(resolve_adapter_opts(engine, given))
    _refuse_what_cannot_work(engine, given)
    if callable(given.get("api_key")):
        given["api_key"] = Remembered(given["api_key"])  # to keep its key out of errors
    return given, params


def _complete(engine: Engine, request: Request, given: Mapping[str, Any]) -> Request:
    if request.response_format is not None and "response_model" in given:
        raise TypeError(
            "response_model makes its own response_format; remove response_format from the request"
        )
    return complete_request(engine, request, given)


def _given(engine: Engine, options: Mapping[str, Any], request: Request | None) -> dict[str, Any]:
    """The call's options, over those of the engine's `params` that say how to run and what to show."""
    given = {name: value for name, value in options.items() if value is not None or name == "prompt_cache"}
    split(given)
    parts = split({name: value for name, value in engine.params.items() if value is not None})
    orchestration = dict(parts.orchestration)
    if "response_format" in given or (request is not None and request.response_format is not None):
        orchestration.pop("response_model", None)
    return _with_model({**orchestration, **parts.filters, **given}, options)


def _with_model(given: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the `response_format` that their `response_model` implies."""
    if "response_model" in given:
        if options.get("response_format") is not None:
            raise TypeError("response_model makes its own response_format; give only one of the two")
        given["response_format"] = response_format_of(given["response_model"])
    elif options.get("max_retries") is not None:
        raise TypeError("max_retries does nothing without response_model=; give both, or leave it out")
    return given


def _of_engine(engine: Engine) -> dict[str, Any]:
    return {name: getattr(engine, name) for name in ("model", "tool_executor", "tool_result_encoder")}


def _rules(
    kind: Kind,
    engine: Engine,
    given: Mapping[str, Any],
    params: Mapping[str, Any],
    request_id: str,
    model: ModelRef | None,
) -> Options:
    policy = as_policy(params.get("on_tool_error"))
    rules = {name: params[name] for name in _RULES if name in params}
    if rules.get("max_concurrency") is None:
        rules["max_concurrency"] = _at_once()
    # A call that the caller has forbidden is answered as one of an unknown tool: a server may send it all the same.
    may_run = [] if forbids_calls(params.get("tool_choice")) else with_help(resolve_tools(engine, given))
    return Options(
        kind=kind,
        request_id=request_id,
        on_tool_error=policy if isinstance(policy, str) else "function",
        custom_encoder=resolve_field(engine, given, "tool_result_encoder") is not None,
        halt_when="halt_when" in given,
        tools={tool.name: tool for tool in may_run},
        structured_finalize=kind == "chat"
        and params.get("structured_finalize") is True
        and params.get("response_format") is not None,
        nudge=params.get("structured_finalize_nudge"),
        parses="response_model" in given,
        pricing=(model.pricing or {}) if model is not None else {},
        **rules,
    )


def _at_once() -> int:
    """How many tools of a step run at once by default: two for each core."""
    return 2 * (_SIMULATED_CORES if simulated() else _cores())


@cache
def _cores() -> int:
    return os.cpu_count() or 1


def _refuse_what_cannot_work(engine: Engine, given: Mapping[str, Any]) -> None:
    # An option that is accepted and ignored would be worse than one that is refused.
    if "when_busy" in given:
        raise TypeError("when_busy is an option of host.session(…), not of a call")
    for tool in resolve_tools(engine, given):
        if tool.isolation == "process" and tool.handler is not None:
            address_of(tool)
