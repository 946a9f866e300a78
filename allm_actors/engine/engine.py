"""Engines: adapter, model, tools and defaults as one immutable value.

Rule of this file: an engine is configuration. It opens nothing, knows no key, and every change is a new
engine with the same `id`, by which scripted adapters tell engines apart. An engine decoded from data without
an `id` has none, so that decoding the same data again gives an equal one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from itertools import count
from typing import Any, Self, TypedDict, TypeVar, Unpack

import msgspec

from allm_actors.data import EngineError, ModelRef, Tool, ValidationError
from allm_actors.data.codec import register
from allm_actors.engine import elixir
from allm_actors.engine.adapter import Adapter, ToolExecutor, ToolResultEncoder, ToolResultEncoderFunction
from allm_actors.engine.behaviours import (
    ClassificationAdapter,
    EmbeddingAdapter,
    ImageAdapter,
    ModerationAdapter,
    SpeechAdapter,
    SpeechStreamAdapter,
    TranscriptionAdapter,
    TranscriptionStreamAdapter,
)
from allm_actors.engine.capabilities import CAPABILITIES, Capability
from allm_actors.engine.kinds import PRICES, check_kinds, check_model
from allm_actors.engine.places import (
    ADAPTERS,
    CALL,
    FILTERS,
    INSTEAD,
    ORCHESTRATION,
    REQUEST,
    SYSTEM,
    TRANSPORT,
    split,
)
from allm_actors.engine.secret import secret_option

__all__ = ["Engine", "EngineOptions"]

_MAPPINGS = ("params", "context", "adapter_opts", "metadata")
_MODEL_OF = {
    "adapter": "model",
    **{capability.slot: capability.model_slot for capability in CAPABILITIES.values()},
}
_CHECKED = ("retry", "model", "tool_executor", "tool_result_encoder")
_KEYS = ("api_key", "key", "token", "secret")
# Not allowed in `params`: options that an engine has a field for, and those of a single call or session.
_NO_PARAMS = CALL | {"when_busy"}
_OBJECTS = (*_MODEL_OF, "tool_executor", "tool_result_encoder")
# What to do instead of a field that engines, or agents, of other libraries have.
_INSTEAD = {
    **INSTEAD,
    **dict.fromkeys(("instructions", "system_prompt"), SYSTEM),
    "name": "a session has one: host.session(name, engine)",
}
_MAIN = ("adapter", "model", "tools", "params", "context", "adapter_opts", "retry", "metadata")


class EngineOptions(TypedDict, total=False):
    """The fields of an `Engine`, as it takes them by name; for editors and type checkers."""

    id: int | None
    adapter: str | Adapter | None
    model: str | ModelRef | None
    tools: Iterable[Tool]
    params: Mapping[str, Any] | None
    context: Mapping[str, Any] | None
    adapter_opts: Mapping[str, Any] | None
    retry: Any
    image_adapter: str | ImageAdapter | None
    image_model: str | ModelRef | None
    embed_adapter: str | EmbeddingAdapter | None
    embed_model: str | ModelRef | None
    moderation_adapter: str | ModerationAdapter | None
    moderation_model: str | ModelRef | None
    speech_adapter: str | SpeechAdapter | SpeechStreamAdapter | None
    speech_model: str | ModelRef | None
    transcription_adapter: str | TranscriptionAdapter | TranscriptionStreamAdapter | None
    transcription_model: str | ModelRef | None
    classification_adapter: str | ClassificationAdapter | None
    classification_model: str | ModelRef | None
    tool_executor: ToolExecutor | None
    tool_result_encoder: ToolResultEncoder | ToolResultEncoderFunction | None
    metadata: Mapping[str, Any] | None


class _NoOthers(TypedDict):
    """What a type checker lets through besides the fields; at run time a wrong name gets an error that says more."""


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Engine:
    """Configuration for model calls.

    `adapter` is a name (`"openai"`), a name with a model (`"openai:gpt-4.1-mini"`) or an `Adapter`. `params` are
    default options of every call, `context` is passed to tool handlers, `adapter_opts` to the adapter
    (`base_url`, `headers`, …). `retry` is `"default"`, False or a mapping such as
    `{"max_attempts": 5, "max_delay": 60.0}`; delays are seconds. `model` is a name, or a `ModelRef` of your
    own: then a request that the model cannot serve is refused before it is sent, and costs are filled in.
    Capabilities besides chat have slots of their own, an adapter and a model each: `image_adapter` and
    `image_model`, `embed_adapter`, …; `"openai:gpt-image-2.6-flare"` as an adapter sets both.

    Raises TypeError for an unknown field, a value of the wrong kind, or a key (pass `api_key=` with the call), and
    `EngineError("invalid_engine")` for two tools of one name.
    """

    id: int | None
    adapter: str | Adapter | None
    model: str | ModelRef | None
    tools: tuple[Tool, ...]
    params: Mapping[str, Any]
    context: Mapping[str, Any]
    adapter_opts: Mapping[str, Any]
    retry: Any
    image_adapter: str | Any | None
    image_model: str | ModelRef | None
    embed_adapter: str | Any | None
    embed_model: str | ModelRef | None
    moderation_adapter: str | Any | None
    moderation_model: str | ModelRef | None
    speech_adapter: str | Any | None
    speech_model: str | ModelRef | None
    transcription_adapter: str | Any | None
    transcription_model: str | ModelRef | None
    classification_adapter: str | Any | None
    classification_model: str | ModelRef | None
    tool_executor: ToolExecutor | None
    tool_result_encoder: ToolResultEncoder | ToolResultEncoderFunction | None
    metadata: Mapping[str, Any]

    def __init__(
        self,
        adapter: str | Adapter | None = None,
        model: str | ModelRef | None = None,
        tools: Iterable[Tool] = (),
        params: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        adapter_opts: Mapping[str, Any] | None = None,
        retry: Any = "default",
        image_adapter: str | ImageAdapter | None = None,
        tool_executor: ToolExecutor | None = None,
        tool_result_encoder: ToolResultEncoder | ToolResultEncoderFunction | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        image_model: str | ModelRef | None = None,
        embed_adapter: str | EmbeddingAdapter | None = None,
        embed_model: str | ModelRef | None = None,
        moderation_adapter: str | ModerationAdapter | None = None,
        moderation_model: str | ModelRef | None = None,
        speech_adapter: str | SpeechAdapter | SpeechStreamAdapter | None = None,
        speech_model: str | ModelRef | None = None,
        transcription_adapter: str | TranscriptionAdapter | TranscriptionStreamAdapter | None = None,
        transcription_model: str | ModelRef | None = None,
        classification_adapter: str | ClassificationAdapter | None = None,
        classification_model: str | ModelRef | None = None,
        id: int | None = None,
        **unknown: Unpack[_NoOthers],
    ) -> None:
        if unknown:
            raise TypeError(_unknown_field(next(iter(unknown))))
        adapter, named = _apart(adapter)
        values = {
            "id": _ids.take(id),
            "adapter": _adapter(adapter),
            "model": named if model is None else model,
            "tools": _tools(tools),
            "params": _params(params),
            "context": _mapping("context", context),
            "adapter_opts": _mapping("adapter_opts", adapter_opts),
            "retry": retry,
            **_slot("image", image_adapter, image_model),
            **_slot("embed", embed_adapter, embed_model),
            **_slot("moderate", moderation_adapter, moderation_model),
            **_slot("speech", speech_adapter, speech_model),
            **_slot("transcribe", transcription_adapter, transcription_model),
            **_slot("classify", classification_adapter, classification_model),
            "tool_executor": tool_executor,
            "tool_result_encoder": tool_result_encoder,
            "metadata": _mapping("metadata", metadata),
        }
        check_kinds({name: values[name] for name in _CHECKED})
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setstate__(self, state: list[Any]) -> None:
        # It may come from another process, where its id was free: no engine made later may get the same id.
        for name, value in zip(self.__dataclass_fields__, state, strict=True):
            object.__setattr__(self, name, value)
        _ids.take(self.id)

    def put_tools(self, tools: Tool | Iterable[Tool]) -> Self:
        """This engine with `tools` after its own. Raises `EngineError` when a name is taken."""
        return self._with(tools=(*self.tools, *([tools] if isinstance(tools, Tool) else _tools(tools))))

    def put_param(self, name: str, value: Any) -> Self:
        """This engine with one default option set."""
        named: object = name
        if not isinstance(named, str) or not named:
            raise TypeError(
                f"put_param takes an option and its value, such as ('temperature', 0.0), got: {name!r}"
            )
        return self._with(params={**self.params, name: value})

    def put_context(self, name: str, value: Any) -> Self:
        """This engine with one context entry set."""
        return self._with(context={**self.context, name: value})

    def with_model(self, model: str | ModelRef | None) -> Self:
        """This engine with another model."""
        return self._with(model=model)

    def merge(self, **options: Unpack[EngineOptions]) -> Self:
        """This engine with `options` over its fields: mappings are merged, tools of the same name replaced in place.

        `adapter="groq:openai/gpt-oss-120b"` replaces the model, too; `adapter="groq"` keeps it.
        """
        merged: dict[str, Any] = {**options}
        for name in _MAPPINGS:
            if name in options:
                merged[name] = {**getattr(self, name), **_mapping(name, merged[name])}
        if "tools" in options:
            merged["tools"] = merge_tools(self.tools, _tools(options["tools"]))
        return self._with(**merged)

    def _with(self, **changes: Any) -> Self:
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        for slot, model in _MODEL_OF.items():
            if _apart(changes.get(slot))[1] is not None:
                held[model] = None
        held |= changes
        return _with_id(type(self)(**held), held["id"])

    def __hash__(self) -> int:
        return hash((Engine, self.id))

    def __repr__(self) -> str:
        # What shows the variables of a traceback sees a refused engine without its fields.
        if not hasattr(self, "metadata"):
            return "<Engine that was not made>"
        name: Any = self.adapter
        if not isinstance(name, str | None):
            name = getattr(name, "name", type(name).__name__)
        model = self.model.id if isinstance(self.model, ModelRef) else self.model
        shown = [f"id={self.id}", f"adapter={name!r}", f"model={model!r}"]
        if self.tools:
            shown.append(f"tools={[tool.name for tool in self.tools]}")
        if self.adapter_opts:
            shown.append(f"adapter_opts={{{', '.join(map(repr, self.adapter_opts))}: …}}")
        return f"Engine({', '.join(shown)})"


def merge_tools(tools: Iterable[Tool], over: Iterable[Tool]) -> list[Tool]:
    """`tools` with those of `over` in the place of a tool of the same name, or at the end."""
    new = {tool.name: tool for tool in over}
    return [*(new.pop(tool.name, tool) for tool in tools), *new.values()]


class _Ids:
    """Ids that are unique among the engines of this process; an engine that was stored keeps its own.

    Thread: safe; each line below is atomic in the interpreter.
    """

    def __init__(self) -> None:
        self._counter = count(1)
        self._last = 0
        self._given: set[int] = set()

    def take(self, given: int | None) -> int:
        if given is not None:
            if isinstance(given, bool) or not isinstance(given, int):
                raise TypeError(f"id must be a whole number, got: {given!r}")
            if given > self._last:
                self._given.add(given)
            return given
        taken = next(self._counter)
        while taken in self._given:
            taken = next(self._counter)
        self._last = taken
        return taken


_ids = _Ids()
_E = TypeVar("_E", bound=Engine)


def _with_id(engine: _E, id: int | None) -> _E:
    """The engine with this id, or None as its id, which the constructor would replace by a new one."""
    object.__setattr__(engine, "id", id)
    return engine


def _unknown_field(name: str) -> str:
    if name in _KEYS:
        return (
            f"an Engine never holds a key, got {name!r}; pass api_key= with the call, or set the provider's "
            "environment variable"
        )
    if name in ADAPTERS or name in TRANSPORT:
        return f"Engine has no field {name!r}; give it in adapter_opts={{{name!r}: …}}"
    if name in REQUEST or name in ORCHESTRATION or name in FILTERS:
        return f"Engine has no field {name!r}; give it in params={{{name!r}: …}}, or with the call"
    if name in _INSTEAD:
        return f"Engine has no field {name!r}; {_INSTEAD[name]}"
    near = get_close_matches(name, [field.name for field in fields(Engine)], n=1, cutoff=0.5)
    if near:
        return f"Engine has no field {name!r}; did you mean {near[0]!r}?"
    return f"Engine has no field {name!r}. Its main fields: {', '.join(_MAIN)}; help(allm.Engine) lists all"


def _apart(adapter: Any) -> tuple[Any, str | None]:
    """The adapter, and the model that its name says after a colon, if it does."""
    if not isinstance(adapter, str):
        return adapter, None
    name, _, model = adapter.partition(":")
    return name, model or None


def _adapter(value: Any) -> Any:
    if value is None or (isinstance(value, str) and value):
        return value
    if isinstance(value, type):
        raise TypeError(
            f"adapter must be a name or an object, got the class {value.__name__}; call it to make one"
        )
    if not callable(getattr(value, "stream", None)):
        raise TypeError(f"adapter must be a name or have stream(request, call), got: {value!r}")
    return value


def _slot(span: str, adapter: Any, model: Any) -> dict[str, Any]:
    capability = CAPABILITIES[span]
    adapter, named = _apart(adapter)
    model = named if model is None else model
    if isinstance(adapter, type):
        raise TypeError(
            f"{capability.slot} must be a name or an object, got the class {adapter.__name__}; call it to make one"
        )
    if not (adapter is None or (isinstance(adapter, str) and adapter) or _offers(capability, adapter)):
        form = f"{capability.method}(request, call)"
        raise TypeError(f"{capability.slot} must be a name or have {form}, got: {adapter!r}")
    if not isinstance(model, str | ModelRef | None):
        raise TypeError(f"{capability.model_slot} must be a name or a ModelRef, got: {model!r}")
    check_model(model)
    return {capability.slot: adapter, capability.model_slot: model}


def _offers(capability: Capability, adapter: object) -> bool:
    methods = (capability.method, capability.stream_method or capability.method)
    return any(callable(getattr(adapter, method, None)) for method in methods)


def _tools(tools: Iterable[Tool]) -> tuple[Tool, ...]:
    given: object = tools
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise TypeError(f"tools must be a list of Tool values (see allm.tool), got: {type(given).__name__}")
    held = tuple(tools)
    names: set[str] = set()
    for tool in held:
        if not isinstance(tool, Tool):
            raise TypeError(f"tools must be Tool values (see allm.tool), got: {tool!r}")
        if tool.name in names:
            raise EngineError(
                "invalid_engine",
                message=f"two tools are named {tool.name!r}: a model could not tell them apart. Rename one, "
                "or replace it with engine.merge(tools=[…])",
                metadata={"tool_name": tool.name},
            )
        names.add(tool.name)
    return held


def _mapping(name: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, got: {type(value).__name__}")
    held = dict(value or {})
    if "api_key" in held:
        raise TypeError(f"an Engine never holds a key, got one in {name}; pass api_key= with the call")
    return held


def _params(value: Mapping[str, Any] | None) -> dict[str, Any]:
    held = _mapping("params", value)
    split(held)
    for name in held:
        if name in _NO_PARAMS:
            raise TypeError(f"{name!r} does nothing in the params of an Engine; {_place_of(name)}")
    check_kinds(held)
    return held


def _place_of(name: str) -> str:
    if name in Engine.__dataclass_fields__:
        return f"it is an argument of the Engine: Engine({name}=…)"
    return "pass it to host.session(…)" if name == "when_busy" else f"pass it with the call: {name}=…"


def _to_fields(engine: Engine) -> dict[str, Any]:
    for name in _OBJECTS:
        value = getattr(engine, name)
        if value is not None and not isinstance(value, str):
            raise TypeError(
                f"an Engine can be stored only if its {name} is given by name, and {value!r} is an object"
            )
    held = secret_option(engine.adapter_opts)
    if held is not None:
        raise TypeError(
            f"an Engine is stored without keys, and its adapter_opts have one in {held}; pass it with the call, "
            "as api_key= or in adapter_opts="
        )
    plain: dict[str, Any] = {field.name: getattr(engine, field.name) for field in fields(Engine)}
    plain["tools"] = list(engine.tools)
    for name in _OBJECTS:
        plain[name] = elixir.module_of(name, plain[name])
    plain["adapter_opts"] = [list(pair) for pair in engine.adapter_opts.items()]
    if isinstance(engine.retry, Mapping):
        plain["retry"] = elixir.delays_in_milliseconds(engine.retry)
    return plain


def _from_fields(stored: dict[str, Any]) -> Engine:
    known = {field.name: stored[field.name] for field in fields(Engine) if field.name in stored}
    if known.get("tools") is None:  # null counts as missing, as in every value
        known.pop("tools", None)
    for name in _MAPPINGS:
        if isinstance(known.get(name), list):
            known[name] = dict(known[name])
    if isinstance(known.get("params"), Mapping):  # the Elixir library accepts any name, and ignores these
        known["params"] = {
            name: value for name, value in known["params"].items() if name not in _NO_PARAMS - {"api_key"}
        }
    if isinstance(known.get("retry"), list):
        known["retry"] = elixir.delays_in_seconds(known["retry"])
    for name in _OBJECTS:
        known[name] = _named(name, known.get(name))
    for name in _MODEL_OF.values():
        known[name] = _with_known_prices(known.get(name))
    return _with_id(Engine(**known), known.get("id"))


def _with_known_prices(model: Any) -> Any:
    """A stored model without the prices that another version of the library may know, and this one refuses."""
    if not isinstance(model, ModelRef) or not isinstance(model.pricing, Mapping):
        return model
    return msgspec.structs.replace(
        model, pricing={name: price for name, price in model.pricing.items() if name in PRICES}
    )


def _named(slot: str, value: Any) -> Any:
    try:
        return elixir.name_of(slot, value)
    except LookupError:
        message = (
            f"its {slot} is {value[:80]}, an Elixir module that has no counterpart here; use another {slot}"
        )
        raise ValidationError(
            "invalid_request", [("_unknown", "atom_decode_failed")], message=message
        ) from None


register(Engine, "ALLM.Engine", to_fields=_to_fields, from_fields=_from_fields)
