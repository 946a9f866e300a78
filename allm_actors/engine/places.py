"""Where every option of a call goes: to exactly one place.

    place           options
    request         typed fields of the request: model, tools, tool_choice, response_format, temperature, max_tokens, …
    transport       how long to wait
    call            request and session ids, the key, adapter options
    filters         which events of the stream the reader wants to see
    orchestration   how the loop runs: mode, max_turns, tool_timeout, …
    provider        everything else, verbatim in `request.options`: the provider knows what it means

Rule of this file: an option whose name is nearly one of ours is refused: it would be sent to the provider and
have no effect. So is one that would replace what the library itself writes into a request, such as the messages.
The `options` of a `Request` are not checked here, so that anything can be sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any

import msgspec

from allm_actors.engine.capabilities import CAPABILITIES

__all__ = ["CALL", "INSTEAD", "KNOWN", "SYSTEM", "TRANSPORT", "TWINS", "Parts", "split"]

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
# The other name of an option that has two.
TWINS: Mapping[str, str] = {
    "first_byte_timeout": "receive_timeout",
    "receive_timeout": "first_byte_timeout",
    "connect_timeout": "pool_timeout",
    "pool_timeout": "connect_timeout",
}
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
# Options of adapters, such as where a request goes: given to a call they would be sent as a parameter of the model.
ADAPTERS = frozenset(
    {"base_url", "endpoint", "headers", "organization", "project", "query", "region", "transport"}
)
SYSTEM = "begin the messages with allm.system('…'), or a session's with host.session(…, system='…')"
_CONVERSATION = (
    "the conversation is the argument after the engine, as in allm.chat(engine, [allm.user('…')]), and a session "
    "has its own"
)
_PARSED = "give the type of the answer as response_model=…, with the call or in the params of an engine"
# What to do instead of an option that other libraries have, or that would replace the conversation.
INSTEAD: Mapping[str, str] = {
    "timeout": "request_timeout limits a model call, stream_timeout the pauses in its stream, and tool_timeout a "
    "tool, all in seconds",
    "system": SYSTEM,
    "api_base": "give it as adapter_opts={'base_url': …}, of the engine or of the call",
    "extra_headers": "give them as adapter_opts={'headers': …}, of the engine or of the call",
    "extra_query": "give it as adapter_opts={'query': …}, of the engine or of the call",
    "extra_body": "give each of its entries as an option: what is unknown here goes to the provider unchanged",
    **dict.fromkeys(("messages", "input", "contents"), _CONVERSATION),
    **dict.fromkeys(("output_type", "result_type"), _PARSED),
}
_ONE_ANSWER = "a call has one answer; for several, make several calls"
# Providers' own options of which only one value can be read here, and what to do instead of any other.
_ONLY: Mapping[str, tuple[object, str]] = {
    "stream": (
        False,
        "answers are streamed anyway: to read one while it is written, use allm.stream(…)",
    ),
    **dict.fromkeys(("n", "candidateCount"), (1, _ONE_ANSWER)),
}
_NEAR = 0.85
# Providers' own names that happen to look like ours.
_PROVIDER = frozenset({"models", "prompt_cache_key"})


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """Options sorted by where they go; see the table above."""

    request: Mapping[str, Any] = {}
    transport: Mapping[str, Any] = {}
    call: Mapping[str, Any] = {}
    filters: Mapping[str, Any] = {}
    orchestration: Mapping[str, Any] = {}
    provider: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        # Without the options, which may hold keys.
        return "Parts(…)"


def split(options: Mapping[str, Any]) -> Parts:
    """Sort `options` by where they go.

    Raises TypeError for a near miss of a known name and for an option that belongs elsewhere, naming what is right,
    and ValueError for a value that no answer could be read with.
    """
    places: dict[str, dict[str, Any]] = {name: {} for name in ("provider", *_PLACES)}
    for name, value in options.items():
        place = _PLACE_OF.get(name, "provider")
        if place == "provider":
            _refuse_misplaced(name)
            if name in _ONLY:
                _refuse_other_values(name, value)
        places[place][name] = value
    return Parts(**places)


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
    if name in ADAPTERS:
        raise TypeError(
            f"{name!r} belongs in adapter_opts, of the engine or of the call: adapter_opts={{{name!r}: …}}"
        )
    if name in INSTEAD:
        raise TypeError(f"there is no option {name!r}; {INSTEAD[name]}")
    ratio, known = max((SequenceMatcher(None, name, known).ratio(), known) for known in KNOWN)
    if ratio >= _NEAR:
        raise TypeError(
            f"there is no option {name!r}; did you mean {known!r}? (A provider's own option of that name goes in the "
            f"options of a request: allm.request(messages, options={{{name!r}: …}}))"
        )


def _refuse_other_values(name: str, value: object) -> None:
    only, instead = _ONLY[name]
    if value is not None and value != only:
        raise ValueError(f"{name} can only be {only!r} here, got: {value!r}; {instead}")
