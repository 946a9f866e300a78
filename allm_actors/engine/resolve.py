"""Which model, tools and options a call uses: call over engine, and a request's own model over both.

Rule of this file: None never wins over a value, and every option goes to exactly one place:

    place           options
    request         typed fields of the request: model, tools, tool_choice, response_format, temperature, max_tokens, …
    transport       how long to wait
    call            who asks, with which key and adapter options
    filters         what of the stream the reader wants to see
    orchestration   how the loop runs: mode, max_turns, tool_timeout, …
    provider        everything else, verbatim in `request.options`: the provider knows what it means

An option that is nearly one of ours, but not quite, is refused: it would travel to the provider and do
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any

import msgspec

from allm_actors.data import Message, ModelRef, Request, Thread, Tool
from allm_actors.data.compact import projected
from allm_actors.engine.adapter import Call
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.engine.engine import Engine, merge_tools
from allm_actors.engine.wire import Transport

__all__ = [
    "KNOWN",
    "Options",
    "call_for",
    "complete_request",
    "parts_of",
    "prompt_cache_of",
    "resolve_adapter_opts",
    "resolve_model",
    "resolve_model_ref",
    "resolve_params",
    "resolve_tools",
    "split",
    "step_request",
]

REQUEST = frozenset(
    {
        "tool_choice",
        "response_format",
        "structured_finalize",
        "temperature",
        "max_tokens",
        "prompt_cache",
        "metadata",
    }
)
TRANSPORT = frozenset(
    {
        "stream_timeout",
        "request_timeout",
        "connect_timeout",
        "first_byte_timeout",
        "receive_timeout",
        "pool_timeout",
    }
)
CALL = frozenset({"model", "tools", "request_id", "api_key", "adapter_opts", "retry", "context"})
FILTERS = frozenset({"emit_text_deltas", "emit_tool_deltas", "include_raw_chunks", "on_event"})
ORCHESTRATION = frozenset(
    {"mode", "max_turns", "halt_when", "on_tool_error", "tool_timeout", "max_concurrency", "tool_executor"}
    | {
        "tool_result_encoder",
        "session_id",
        "structured_finalize_nudge",
        "response_model",
        "max_retries",
        "when_busy",
    }
)
_SLOTS = {slot for row in CAPABILITIES.values() for slot in (row.slot, row.model_slot)}
ENGINE = frozenset({"adapter", "params", "middleware", *_SLOTS})
KNOWN = REQUEST | TRANSPORT | CALL | FILTERS | ORCHESTRATION
# Where a request goes, and as whom: as a parameter of the model it would be sent there, and to the wrong place.
_ADAPTERS = frozenset(
    {"base_url", "endpoint", "headers", "organization", "project", "query", "region", "transport"}
)
_NEAR = 0.85
# Providers' own names that happen to look like ours.
_PROVIDER = frozenset({"models", "prompt_cache_key", "prompt_cache_retention"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options by where they go; see the table above."""

    request: Mapping[str, Any] = field(default_factory=dict)
    transport: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict, repr=False)
    filters: Mapping[str, Any] = field(default_factory=dict)
    orchestration: Mapping[str, Any] = field(default_factory=dict)
    provider: Mapping[str, Any] = field(default_factory=dict)


def split(options: Mapping[str, Any]) -> Options:
    """Sort `options` by where they go. Raises TypeError for a near miss of a known name, naming it."""
    places: dict[str, dict[str, Any]] = {name: {} for name in ("provider", *_PLACES)}
    for name, value in options.items():
        place = _PLACE_OF.get(name, "provider")
        if place == "provider":
            _refuse_misplaced(name)
        places[place][name] = value
    return Options(**places)


def resolve_model(engine: Engine, options: Mapping[str, Any], request: Request | None = None) -> str | None:
    """The request's model, else the call's, else the engine's."""
    if request is not None and request.model is not None:
        return request.model
    model = _named_model(engine, options)
    return model.id if isinstance(model, ModelRef) else model


def resolve_model_ref(
    engine: Engine, options: Mapping[str, Any], request: Request | None = None
) -> ModelRef | None:
    """What is known of the model that is asked: the call's `ModelRef`, else the engine's; None for a mere name."""
    model = _named_model(engine, options)
    if not isinstance(model, ModelRef):
        return None
    return model if resolve_model(engine, options, request) == model.id else None


def _named_model(engine: Engine, options: Mapping[str, Any]) -> str | ModelRef | None:
    model: str | ModelRef | None = options.get("model")
    return engine.model if model is None else model


def resolve_tools(engine: Engine, options: Mapping[str, Any]) -> list[Tool]:
    """The engine's tools, with the call's of the same name in their place and the others after them."""
    tools: Iterable[Tool] | None = options.get("tools")
    return list(engine.tools) if tools is None else merge_tools(engine.tools, tools)


def resolve_params(engine: Engine, options: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's `params` under the call's options, without what only engines and calls have."""
    given = {name: value for name, value in options.items() if value is not None}
    return {name: value for name, value in {**engine.params, **given}.items() if name not in CALL}


def resolve_adapter_opts(engine: Engine, options: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's `adapter_opts` under the call's."""
    return {**engine.adapter_opts, **(options.get("adapter_opts") or {})}


def step_request(
    engine: Engine,
    thread: Thread | Sequence[Message],
    options: Mapping[str, Any],
    *,
    tools: Sequence[Tool] | None = None,
    stream: bool = True,
    parts: Options | None = None,
) -> Request:
    """The request of one step: the thread, the resolved model and tools, and the options that are the model's.

    `tools` replaces the resolved ones (a second structured pass sends none). `parts` are the call's options, sorted, if
    the caller has them (`parts_of`). Raises as `split` does.
    """
    parts = parts_of(engine, options) if parts is None else parts
    given = resolve_tools(engine, options) if tools is None else list(tools)
    sent = projected(given, parts.request.get("tool_choice"))
    fields = {
        **parts.request,
        "structured_finalize": parts.request.get("structured_finalize") is True,
        "prompt_cache": prompt_cache_of(engine, options),
    }
    if tools is not None and not sent:  # they were taken away, and the choice among them with them
        fields.pop("tool_choice", None)
    return Request(
        messages=list(thread.messages if isinstance(thread, Thread) else thread),
        model=resolve_model(engine, options),
        tools=sent,
        stream=stream,
        options=dict(parts.provider),
        **fields,
    )


def complete_request(
    engine: Engine, request: Request, options: Mapping[str, Any], *, stream: bool = True
) -> Request:
    """`request` with the call's and the engine's values where it has none of its own."""
    parts = split(resolve_params(engine, options))
    fields = {**parts.request, "prompt_cache": prompt_cache_of(engine, options)}
    changes = {name: value for name, value in fields.items() if _unsaid(getattr(request, name))}
    choice = changes.get("tool_choice", request.tool_choice)
    return msgspec.structs.replace(
        request,
        model=resolve_model(engine, options, request),
        tools=projected(request.tools or resolve_tools(engine, options), choice),
        stream=stream,
        options={**parts.provider, **request.options},
        **changes,
    )


def parts_of(engine: Engine, options: Mapping[str, Any]) -> Options:
    """The call's options over the engine's, sorted by where they go. Raises as `split` does."""
    return split(resolve_params(engine, options))


def call_for(
    engine: Engine,
    options: Mapping[str, Any],
    request_id: str,
    transport: Transport | None = None,
    *,
    parts: Options | None = None,
) -> Call:
    """What an adapter is told beside the request; `parts` as for `step_request`. Raises as `split` does."""
    parts = parts_of(engine, options) if parts is None else parts
    retry = options.get("retry")
    return Call(
        request_id=request_id,
        api_key=options.get("api_key"),
        options={
            **parts.transport,
            **resolve_adapter_opts(engine, options),
            **{name: value for name, value in options.items() if name in TRANSPORT and value is not None},
        },
        stream_timeout=parts.transport.get("stream_timeout"),
        request_timeout=parts.transport.get("request_timeout"),
        retry=engine.retry if retry is None else retry,
        cursor_key=engine.id,
        transport=transport,
    )


def prompt_cache_of(engine: Engine, options: Mapping[str, Any]) -> Any:
    """The prompt cache that the call asks for, else the engine's `params`; never a mix of both.

    Shape: None, or `{"key": text or None, "retention": "short" or "long"}`. True, `{}` and `[]` mean the session's id
    for a key and a short retention; None and False switch off what the engine's `params` say. What has any other shape
    is kept as it is, for `validate` to refuse.
    """
    wanted = options.get("prompt_cache") if "prompt_cache" in options else engine.params.get("prompt_cache")
    if wanted is None or wanted is False:
        return None
    if wanted is True or wanted == []:
        wanted = {}
    if not isinstance(wanted, Mapping):
        return wanted
    cache = {"key": None, "retention": "short", **wanted}
    session = options.get("session_id")
    if cache["key"] is None and isinstance(session, str) and session:
        cache["key"] = session
    return cache


def _unsaid(value: Any) -> bool:
    # By identity: a temperature of 0.0 equals False and was very much said.
    return value is None or value is False or value == {}


_PLACES = {
    "request": REQUEST,
    "transport": TRANSPORT,
    "call": CALL,
    "filters": FILTERS,
    "orchestration": ORCHESTRATION,
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}


@lru_cache(256)
def _refuse_misplaced(name: str) -> None:
    if name in _PROVIDER:
        return
    if name in ENGINE:
        raise TypeError(
            f"{name!r} belongs to the engine, not to a call: use Engine({name}=…) or engine.merge({name}=…)"
        )
    if name in _ADAPTERS:
        raise TypeError(
            f"{name!r} belongs in adapter_opts, of the engine or of the call: adapter_opts={{{name!r}: …}}"
        )
    if name == "timeout":
        raise TypeError(
            "there is no option 'timeout'; request_timeout bounds a model call, stream_timeout its silences, and "
            "tool_timeout a tool, all in seconds"
        )
    if name == "system":
        raise TypeError(
            "there is no option 'system'; begin the messages with allm.system('…'), or a session's with "
            "host.session(…, system='…')"
        )
    ratio, known = max((SequenceMatcher(None, name, known).ratio(), known) for known in KNOWN)
    if ratio >= _NEAR:
        raise TypeError(
            f"there is no option {name!r}; did you mean {known!r}? (A provider's own option of that name goes in the "
            f"options of a request: allm.request(messages, options={{{name!r}: …}}))"
        )
