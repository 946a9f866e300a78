"""A call that is not chat, checked and resolved until it can be begun: its gates, in order.

    1  the options mean something        TypeError, ValueError
    2  the engine's slot has an adapter  EngineError
    3  the request can be sent           ValidationError (not for pictures: providers differ)
    4  the model can do it               ValidationError, where its `ModelRef` says that it cannot
    5  the adapter opens a stream        what it refuses

Rule of this file: whatever is wrong with a call is raised here, in the caller's own thread, before anything
is started. Its telemetry span begins before gate 2, so that a refusal is recorded, too.
"""

from __future__ import annotations

import contextvars
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from allm_actors.actors.streams.channel import Channel
from allm_actors.actors.turns.turn import new_id
from allm_actors.actors.workers.adapter import no_iterator
from allm_actors.data import AllmError, EngineError, ModelRef, StreamError
from allm_actors.data.rules.validate import validate
from allm_actors.engine.adapter import Call
from allm_actors.engine.adapters import find_capable
from allm_actors.engine.calls import patient
from allm_actors.engine.capabilities import CAPABILITIES, Capability, request_of
from allm_actors.engine.engine import Engine
from allm_actors.engine.kinds import check_kinds, check_times
from allm_actors.engine.places import TRANSPORT
from allm_actors.engine.preflight import check_capabilities
from allm_actors.engine.resolve import call_for, resolve_adapter_opts
from allm_actors.engine.retry import RetryPolicy, policy_of
from allm_actors.engine.secret import Remembered, Secret, keys_of, without_keys
from allm_actors.engine.wire import Transport
from allm_actors.telemetry import Span
from allm_actors.telemetry.names import METADATA

__all__ = ["DIED", "CallSpec", "call_spec", "failed", "signed"]

DIED = "adapter_died"  # in an error's metadata, as `cause`: the call's worker died
_OPTIONS = frozenset(
    {"request_id", "api_key", "adapter_opts", "retry", "telemetry_metadata", "model"} | TRANSPORT
)
_TAKEN = METADATA - {"session_id"}  # a call may say to which conversation it belongs


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSpec:
    """One call, checked and resolved. `opened` is the adapter's stream, if it has one; `patience` is in seconds, and
    `pricing` in USD per million tokens.
    """

    capability: Capability
    adapter: Any
    request: Any
    call: Call = field(repr=False)
    policy: RetryPolicy
    patience: float | None
    batch_size: int | None
    pricing: Mapping[str, Any]
    span: Span
    channel: Channel
    opened: Any = None
    context: contextvars.Context | None = field(default=None, repr=False)


def call_spec(
    name: str,
    engine: Engine,
    given: Any,
    options: Mapping[str, Any],
    *,
    transport: Transport,
    streamed: bool = False,
) -> CallSpec:
    """One call of the capability `name`, checked and resolved.

    Raises: TypeError and ValueError for invalid options, EngineError for a slot without a usable adapter,
    ValidationError for a request that cannot be sent or that the model is known not to support.
    """
    if not isinstance(engine, Engine):
        raise TypeError(
            f"expected an Engine first, got {type(engine).__name__}; see allm.Engine({name}_adapter=…)"
        )
    capability = CAPABILITIES[name]
    said = {option: value for option, value in options.items() if value is not None}
    if name == "image":
        said.pop("stream", None)  # ALLM accepts it and ignores it
    fields = {option: said.pop(option) for option in list(said) if option not in _OPTIONS}
    request = request_of(capability, given, fields, _OPTIONS)
    told = said.pop("telemetry_metadata", {})
    model = _model(capability, engine, request, said.pop("model", None))
    _check(engine, said, told)
    request_id = said.setdefault("request_id", new_id())
    request = msgspec.structs.replace(request, model=model.id if isinstance(model, ModelRef) else model)
    about = {"request_id": request_id, "engine": engine, "model": request.model, **capability.about(request)}
    context = contextvars.copy_context()
    span = Span(capability.span, {**told, **about}, context)
    try:
        adapter = find_capable(capability, getattr(engine, capability.slot))
        if capability.validated:
            validate(request)
        check_capabilities(model, request)
        call = _call(engine, said, request_id, transport)
        policy = patient(policy_of(call.retry))
        patience = _patience(call, None if streamed else capability)
        call = replace(call, request_timeout=patience, retry=False)  # retries are ours, not the adapter's
        method = capability.stream_method if streamed else capability.method
        _check_method(adapter, capability, method or "")
        opened = _open(adapter, method or "", request, call) if streamed else None
        batch_size = _batch_size(adapter)
    except (AllmError, TypeError, ValueError) as error:
        failed(span.start(), capability, error)
        raise
    return CallSpec(
        capability=capability,
        adapter=adapter,
        request=request,
        call=call,
        policy=policy,
        patience=patience,
        batch_size=batch_size,
        pricing=(model.pricing or {}) if isinstance(model, ModelRef) else {},
        span=span,
        channel=Channel(),
        opened=opened,
        context=context,
    )


def signed(spec: CallSpec, error: AllmError) -> AllmError:
    """`error` with the request's id, and without the API key that the caller, or a function of theirs, gave."""
    keys, request_id = keys_of(spec.call.api_key), spec.call.request_id
    if hasattr(error, "request_id"):
        return without_keys(error, *keys, request_id=error.request_id or request_id)
    return without_keys(error, *keys, metadata={"request_id": error.metadata.get("request_id", request_id)})


def failed(span: Span, capability: Capability, error: Exception) -> None:
    """End the span of a call without a response: an `AllmError` stops it, a dead worker or another error breaks it."""
    if isinstance(error, StreamError) or getattr(error, "metadata", {}).get("cause") == DIED:
        span.exception("exit", error)
    elif isinstance(error, AllmError):
        empty = {"image_count": 0} if capability.span == "image" else {}
        span.stop(empty, response=None, usage=None, error=error)
    else:
        span.exception("error", error)


def _model(capability: Capability, engine: Engine, request: Any, given: Any) -> str | ModelRef | None:
    for model in (request.model, given):
        check_kinds({"model": model})
    slot = getattr(engine, capability.model_slot)
    for model in (request.model, given, slot, engine.model if capability.engine_model else None):
        if model is not None:
            return model
    return None


def _check(engine: Engine, said: Mapping[str, Any], told: Any) -> None:
    check_kinds(said)
    check_times(resolve_adapter_opts(engine, said))
    if not isinstance(told, Mapping):
        raise TypeError(f"telemetry_metadata must be a mapping, got: {told!r}")
    if "api_key" in told:
        raise TypeError(
            "telemetry_metadata must not have an api_key, because every telemetry handler sees it; pass "
            "api_key= to the call"
        )
    taken = sorted(told.keys() & _TAKEN)
    if taken:
        names = ", ".join(map(repr, taken))
        raise TypeError(
            f"telemetry_metadata must not have {names}: events have that themselves, and handlers would take yours "
            "for theirs; use another name"
        )


def _call(engine: Engine, said: Mapping[str, Any], request_id: str, transport: Transport) -> Call:
    call = call_for(engine, said, request_id, transport)
    key: Any = call.api_key
    if isinstance(key, str) and key:
        key = Secret(key)
    elif callable(key):
        key = Remembered(key)
    return replace(call, api_key=key)


def _check_method(adapter: Any, capability: Capability, method: str) -> None:
    if callable(getattr(adapter, method, None)):
        return
    reason = "missing_stream_adapter" if method == capability.stream_method else capability.missing
    name = getattr(adapter, "name", type(adapter).__name__)
    message = f"{capability.slot} {name!r} has no {method}(request, call)"
    raise EngineError(reason, provider=str(name), message=message)


def _open(adapter: Any, method: str, request: Any, call: Call) -> Any:
    opened = getattr(adapter, method)(request, call)
    if not (hasattr(opened, "__iter__") or hasattr(opened, "__aiter__")):
        raise no_iterator(adapter, method, opened)
    return aiter(opened) if hasattr(opened, "__aiter__") else iter(opened)


def _batch_size(adapter: Any) -> int | None:
    size = getattr(adapter, "max_batch_size", None)
    size = size() if callable(size) else size
    if size is None or (isinstance(size, int) and size > 0):
        return size
    raise TypeError(f"max_batch_size of {adapter!r} must be a whole number above zero, got: {size!r}")


def _patience(call: Call, capability: Capability | None) -> float | None:
    """Seconds that a call may take: what the call says, or its engine, or the capability; None is no limit."""
    default = None if capability is None else capability.patience
    for seconds in (call.request_timeout, default):
        if seconds is not None:
            return None if seconds == math.inf else float(seconds)
    return None
