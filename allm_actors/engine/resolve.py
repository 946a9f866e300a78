"""Which model, tools and options a call uses: the call's override those of its request, which override the
engine's. Only for the model the request comes first.

Rule of this file: None never overrides a value; where an option goes is in `places`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from allm_actors.data import Message, ModelRef, Request, Thread, Tool
from allm_actors.data.compact import projected
from allm_actors.engine.adapter import Call
from allm_actors.engine.engine import Engine, merge_tools
from allm_actors.engine.places import CALL, TRANSPORT, TWINS, Parts, split
from allm_actors.engine.wire import Transport

__all__ = [
    "call_for",
    "call_terms",
    "complete_request",
    "parts_of",
    "prompt_cache_of",
    "resolve_adapter_opts",
    "resolve_field",
    "resolve_model",
    "resolve_model_ref",
    "resolve_params",
    "resolve_tools",
    "step_request",
]


def resolve_model(engine: Engine, options: Mapping[str, Any], request: Request | None = None) -> str | None:
    """The name of the request's model, else of the call's, else of the engine's."""
    model = next(_models(engine, options, request), None)
    return model.id if isinstance(model, ModelRef) else model


def resolve_model_ref(
    engine: Engine, options: Mapping[str, Any], request: Request | None = None
) -> ModelRef | None:
    """The `ModelRef` of the model that is used: the request's, the call's, else the engine's; None if there is only a
    name.
    """
    name = resolve_model(engine, options, request)
    known = (model for model in _models(engine, options, request) if isinstance(model, ModelRef))
    return next((model for model in known if model.id == name), None)


def _models(engine: Engine, options: Mapping[str, Any], request: Request | None) -> Iterator[Any]:
    """The request's model, which until an adapter gets it may be a `ModelRef`, then the call's or the engine's."""
    own = None if request is None else request.model
    return (model for model in (own, resolve_field(engine, options, "model")) if model is not None)


def resolve_field(engine: Engine, options: Mapping[str, Any], name: str) -> Any:
    """The call's option of this name, else the engine's field. Only None is not given: an empty object counts."""
    value = options.get(name)
    return getattr(engine, name) if value is None else value


def resolve_tools(engine: Engine, options: Mapping[str, Any]) -> list[Tool]:
    """The engine's tools, replaced by the call's of the same name; the call's other tools come after them."""
    tools: Iterable[Tool] | None = options.get("tools")
    return list(engine.tools) if tools is None else merge_tools(engine.tools, tools)


def resolve_params(engine: Engine, options: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's `params`, overridden by the call's options, without those that only engines and calls have."""
    return {name: value for name, value in _over(engine.params, options).items() if name not in CALL}


def resolve_adapter_opts(engine: Engine, options: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's `adapter_opts`, overridden by the call's."""
    return _over(engine.adapter_opts, options.get("adapter_opts") or {})


def step_request(
    engine: Engine,
    thread: Thread | Sequence[Message],
    options: Mapping[str, Any],
    *,
    tools: Sequence[Tool] | None = None,
    parts: Parts | None = None,
) -> Request:
    """The request of one step: the thread, the resolved model and tools, and the options for the model.

    `tools` replaces the resolved ones (a second structured pass sends none). `parts` are the call's sorted
    options, if the caller has them already (`parts_of`). Raises as `split` does.
    """
    parts = parts_of(engine, options) if parts is None else parts
    given = resolve_tools(engine, options) if tools is None else list(tools)
    sent = projected(given, parts.request.get("tool_choice"))
    fields = {
        **parts.request,
        "structured_finalize": parts.request.get("structured_finalize") is True,
        "prompt_cache": prompt_cache_of(engine, options),
    }
    if tools is not None and not sent:  # without tools, a tool choice makes no sense
        fields.pop("tool_choice", None)
    return Request(
        messages=list(thread.messages if isinstance(thread, Thread) else thread),
        model=resolve_model(engine, options),
        tools=sent,
        stream=True,
        options=dict(parts.provider),
        **fields,
    )


def complete_request(engine: Engine, request: Request, options: Mapping[str, Any]) -> Request:
    """`request` overridden by the call's options, and with the engine's values for what neither of them gives.

    Its tools replace the engine's, and the call's are merged into them. Its model overrides the call's.
    """
    said = {name for name, value in options.items() if value is not None or name == "prompt_cache"}
    parts = parts_of(engine, options)
    fields = {**parts.request, "prompt_cache": prompt_cache_of(engine, options)}
    changes = {
        name: value for name, value in fields.items() if name in said or _unsaid(getattr(request, name))
    }
    choice = changes.get("tool_choice", request.tool_choice)
    tools = merge_tools(request.tools or engine.tools, options.get("tools") or ())
    of_the_call = {name: value for name, value in parts.provider.items() if name in said}
    return msgspec.structs.replace(
        request,
        model=resolve_model(engine, options, request),
        tools=projected(tools, choice),
        stream=True,
        options={**parts.provider, **request.options, **of_the_call},
        **changes,
    )


def parts_of(engine: Engine, options: Mapping[str, Any]) -> Parts:
    """The engine's options overridden by the call's, sorted by where they go. Raises as `split` does."""
    return split(resolve_params(engine, options))


def call_for(
    engine: Engine, options: Mapping[str, Any], request_id: str, transport: Transport | None = None
) -> Call:
    """The `Call` that an adapter gets with the request. Raises as `split` does."""
    return Call(request_id=request_id, transport=transport, **call_terms(engine, options))


def call_terms(engine: Engine, options: Mapping[str, Any], *, parts: Parts | None = None) -> dict[str, Any]:
    """The fields of a `Call` that are the same for all model calls of one turn; `parts` as for `step_request`.

    Raises as `split` does.
    """
    parts = parts_of(engine, options) if parts is None else parts
    told = {name: value for name, value in options.items() if name in TRANSPORT}
    held = _over(_over(parts.transport, resolve_adapter_opts(engine, options)), told)
    return {
        "api_key": options.get("api_key"),
        "options": held,
        "stream_timeout": held.get("stream_timeout"),
        "request_timeout": held.get("request_timeout"),
        "retry": resolve_field(engine, options, "retry"),
        "cursor_key": engine.id,
    }


def prompt_cache_of(engine: Engine, options: Mapping[str, Any]) -> Any:
    """The call's prompt cache option, else that of the engine's `params`; never a mix of both.

    Shape: None, or `{"key": text or None, "retention": "short" or "long"}`. True, `{}` and `[]` mean the session's id
    as the key and a short retention; None and False turn off what the engine's `params` say. Any other shape
    is kept unchanged, for `validate` to refuse.
    """
    wanted = options.get("prompt_cache") if "prompt_cache" in options else engine.params.get("prompt_cache")
    if wanted is False:
        return None
    if wanted is True or wanted == []:
        wanted = {}
    if not isinstance(wanted, Mapping):
        return wanted
    cache = {"key": None, "retention": "short", **wanted}
    if cache["key"] is None:
        cache["key"] = options.get("session_id") or None  # an empty id names no session
    return cache


def _over(held: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`held` overridden by `given`, both without what is None. An option goes by either of its names."""
    told = {name: value for name, value in given.items() if value is not None}
    hidden = {TWINS.get(name) for name in told}
    kept = {name: value for name, value in held.items() if value is not None and name not in hidden}
    return kept | told


def _unsaid(value: Any) -> bool:
    # By identity: a temperature of 0.0 equals False, but is a given value.
    return value is None or value is False or value == {}
