"""Adapts a conversation that other providers have taken part in to the next provider.

Rule of this file: pure. What fits already is not changed, and the result for a message does not depend on
later ones. `provider_state`, which a provider wants back, records which provider and model made an answer,
and a digest of it. It is sent back only to that provider, and only if the message was not edited; the rest of
a message goes to any provider.

    what the conversation has                       what is sent
    ----------------------------------------------  -----------------------------------------------------------------
    state of another provider or model vendor       the message without it: its text and its calls
    state of a message that was edited since        the same; removing a call is no edit
    sealed thoughts, to a model that does not think the state without them
    the id of a call that the row does not accept,  an id derived from it, for the call and its answer alike
    or that was used before
    a call of an unknown tool, with a name that no  the name with `_` for characters that are not allowed
    tool can have
    an answer that comes after other messages       the answer right after its call, then those messages
    answers in another order than their calls       in the order of the calls

Source: the patterns are those of the providers' own refusals; see the rows of `catalog`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from allm_actors.data import Message, Request, ToolCall
from allm_actors.data.encoding import json_text
from allm_actors.data.rules.pairing import behind_their_calls
from allm_actors.engine.catalog import Provider
from allm_actors.engine.dialects.body import flat_text

__all__ = [
    "MADE_BY",
    "MADE_OF",
    "another_id",
    "began_without_thoughts",
    "fitted",
    "made_of",
    "vendor_of",
    "without_loose_ends",
]

MADE_BY = "made_by"
"""The key in `provider_state` of the provider and the model."""
MADE_OF = "made_of"
"""The key in `provider_state` of the message's digests, see `made_of`."""

_SORTED = msgspec.json.Encoder(order="sorted")

_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME = 64
_LONGEST_ID = 64
_VENDOR = re.compile(r"(?:^|[./])(?:[a-z]{2,6}\.)?([a-z0-9]+)\.[a-z0-9]")
_SIGNATURE = "thoughtSignature"


def made_of(text: str, calls: Iterable[ToolCall]) -> dict[str, Any]:
    """Digests that tell whether a message was edited: of its text, and of each call by its id."""
    return {"text": _digest(text), "calls": {call.id: _call_digest(call) for call in calls}}


def another_id(id: str, number: int, row: Provider) -> str:
    """An id for a call whose own `id` is taken: with the number appended, if the provider accepts that."""
    end = f"_{number}"
    other = id[: max(_LONGEST_ID, len(id)) - len(end)] + end
    if row.quirks.call_ids is None:
        return other
    takes = re.compile(row.quirks.call_ids)
    return _made_of_id(other, takes) if takes.fullmatch(id) and not takes.fullmatch(other) else other


def fitted(request: Request, row: Provider) -> Request:
    """The request with its conversation adapted to this provider; itself if nothing changes."""
    if all(message.role != "assistant" for message in request.messages):
        return request
    messages = list(_fitted(request, behind_their_calls(request.messages), row))
    same = all(one is other for one, other in zip(messages, request.messages, strict=True))
    return request if same else msgspec.structs.replace(request, messages=messages)


def vendor_of(model: str) -> str:
    """The vendor in a model's name; empty if the name does not say it.

    `anthropic/claude-…`, `eu.anthropic.claude-…` and an ARN that ends so name one; `openrouter/auto` does
    not.
    """
    first, slash, last = model.rpartition("/")
    if slash and not model.startswith("arn:"):
        return "" if first == "openrouter" else first
    found = _VENDOR.search(last)
    return found[1] if found else ""


def began_without_thoughts(turns: Sequence[tuple[str, Sequence[str]]]) -> bool:
    """Whether the last step of a conversation has calls, but does not begin with a thought.

    A turn is its role and the kinds of its blocks, of which `thought`, `call` and `result` matter. The step
    is everything after the user's last own message: one thought may lead to several rounds of calls.
    """
    began: Sequence[str] | None = None
    for role, kinds in reversed(turns):
        if role == "assistant":
            if "call" not in kinds:
                break
            began = kinds
        elif began is not None and "result" not in kinds:
            break
    return began is not None and began[0] != "thought"


def without_loose_ends(
    blocks: Iterable[dict[str, Any]], read: Callable[[Mapping[str, Any]], tuple[str, Any]], *, goes_on: bool
) -> list[dict[str, Any]]:
    """An answer's blocks without what its end cut off: server-side calls without a result, and thoughts at the
    end. An answer that `goes_on` does not end with white space, which Anthropic refuses.

    `read` gives a block's kind, of which `thought`, `call`, `served` and `result` matter, and the id of its
    call. A server-side call may still get its result if the answer `goes_on`, or waits for a result of the
    caller's.
    """
    told = [(block, *read(block)) for block in blocks]
    waits = goes_on or any(kind == "call" for _, kind, _ in told)
    brought = [id for _, kind, id in told if kind == "result"]
    kept = [(block, kind) for block, kind, id in told if kind != "served" or waits or id in brought]
    while kept and kept[-1][1] == "thought":
        kept.pop()
    left = [block for block, _ in kept]
    if goes_on and left and isinstance(left[-1].get("text"), str):
        left[-1] = {**left[-1], "text": left[-1]["text"].rstrip()}
    return left


def _fitted(request: Request, messages: Iterable[Message], row: Provider) -> Iterable[Message]:
    model = str(request.options.get("model", request.model) or "")
    ids = row.quirks.call_ids_of.get(vendor_of(model), row.quirks.call_ids)
    calls = _Calls(ids, frozenset(tool.name for tool in request.tools))
    for message in messages:
        if message.role == "assistant":
            made = _without_foreign(message, row, model)
            yield calls.made(made, here=_is_made_here(made))
        elif message.role == "tool":
            yield calls.answered(message)
        else:
            yield message


# --- what a provider wants back -----------------------------------------------------------------------------------


def _without_foreign(message: Message, row: Provider, model: str) -> Message:
    state = message.metadata.get("provider_state")
    if not isinstance(state, Mapping):
        return message
    if not _is_own(state.get(MADE_BY), row, model):
        return _without_signatures(_without_state(message))
    if not _is_unchanged(message, state.get(MADE_OF)):
        return _without_state(message)
    if row.quirks.knows("reasoning_effort", model):
        return message
    kept = {name: _without_thoughts(items) for name, items in state.items()}
    return message if kept == state else _with_metadata(message, provider_state=kept)


def _is_made_here(message: Message) -> bool:
    """Whether this provider made the message: foreign state was removed, so any left is its own. It accepts its ids."""
    state = message.metadata.get("provider_state")
    return isinstance(state, Mapping) and state.get(MADE_BY) is not None


def _is_own(made_by: Any, row: Provider, model: str) -> bool:
    if not (isinstance(made_by, list | tuple) and len(made_by) == 2):
        return True  # its maker was not recorded
    provider, made = made_by
    if provider != row.name:
        return False
    if not row.quirks.many_vendors:
        return True
    theirs, ours = vendor_of(str(made or "")), vendor_of(model)
    return not theirs or not ours or theirs == ours


def _is_unchanged(message: Message, was: Any) -> bool:
    if not isinstance(was, Mapping):
        return True  # no digests were recorded
    calls = was.get("calls")
    known = calls if isinstance(calls, Mapping) else {}
    return was.get("text") == _digest(flat_text(message)) and all(
        known.get(call.id) == _call_digest(call) for call in message.tool_calls
    )


def _call_digest(call: ToolCall) -> str:
    try:
        arguments = json_text(call.arguments, _SORTED)
    except (TypeError, ValueError, RecursionError):
        arguments = ""
    return _digest("\n".join((call.name, call.raw_arguments or "", arguments)))


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _without_thoughts(items: Any) -> Any:
    if not isinstance(items, list):
        return items
    return [item for item in items if not (isinstance(item, Mapping) and item.get("type") == "reasoning")]


def _without_signatures(message: Message) -> Message:
    calls = message.tool_calls
    if all(_SIGNATURE not in call.metadata for call in calls):
        return message
    return _with_metadata(message, tool_calls=[_unsigned(call) for call in calls])


def _unsigned(call: ToolCall) -> ToolCall:
    metadata = {name: value for name, value in call.metadata.items() if name != _SIGNATURE}
    return msgspec.structs.replace(call, metadata=metadata)


def _without_state(message: Message) -> Message:
    metadata = {name: value for name, value in message.metadata.items() if name != "provider_state"}
    return msgspec.structs.replace(message, metadata=metadata)


def _with_metadata(message: Message, **metadata: Any) -> Message:
    return msgspec.structs.replace(message, metadata={**message.metadata, **metadata})


# --- calls --------------------------------------------------------------------------------------------------------


class _Calls:
    """The calls so far, and the new ids of those that wait for an answer.

    The names of the request's tools are never changed: the provider accepts or refuses them with the tools.
    """

    def __init__(self, pattern: str | None, tools: frozenset[str]) -> None:
        self._takes = re.compile(r"(?s:.*)" if pattern is None else pattern)
        self._tools = tools
        self._used: set[str] = set()
        self._open: dict[str, list[str]] = {}  # by an id in the conversation: the ids that are sent for it

    def made(self, message: Message, *, here: bool) -> Message:
        """Adapt an assistant's message; if it was made `here`, this provider accepts its ids."""
        calls = message.tool_calls
        for call in calls:
            self._open[call.id] = []
        made = [self._call(call, here=here) for call in calls]
        if all(one is other for one, other in zip(made, calls, strict=True)):
            return message
        return _without_items(_with_metadata(message, tool_calls=made))

    def answered(self, message: Message) -> Message:
        """Adapt a tool message to its call's new id and name."""
        waiting = self._open.get(message.tool_call_id or "", [])
        id = message.tool_call_id
        if waiting:
            id = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        name = None if message.name is None else self._name(message.name)
        if id == message.tool_call_id and name == message.name:
            return message
        return msgspec.structs.replace(message, tool_call_id=id, name=name)

    def _call(self, call: ToolCall, *, here: bool) -> ToolCall:
        id, name = self._id(call.id, here=here), self._name(call.name)
        self._open[call.id].append(id)
        return call if (id, name) == (call.id, call.name) else msgspec.structs.replace(call, id=id, name=name)

    def _id(self, id: str, *, here: bool) -> str:
        fits, number = id, 0
        while fits in self._used or not (self._takes.fullmatch(fits) or (here and fits == id)):
            fits = _made_of_id(f"{id}#{number}" if number else id, self._takes)
            number += 1
        self._used.add(fits)
        return fits

    def _name(self, name: str) -> str:
        return name if name in self._tools else _NO_NAME.sub("_", name)[:_LONGEST_NAME] or "unnamed"


def _made_of_id(id: str, takes: re.Pattern[str]) -> str:
    digest = sha256(id.encode("utf-8", "surrogatepass")).hexdigest()
    for made in (f"call_{digest[:24]}", digest[:9]):
        if takes.fullmatch(made):
            return made
    raise ValueError(
        f"call_ids {takes.pattern!r} of a provider's row must take 'call_' and 24 digits, or 9 digits"
    )


def _without_items(message: Message) -> Message:
    """The message without state that contains its calls under their old ids and names."""
    state = message.metadata.get("provider_state")
    if not isinstance(state, Mapping):
        return message
    about = (MADE_BY, MADE_OF)
    kept = {name: items for name, items in state.items() if name in about or not isinstance(items, list)}
    return message if kept == state else _with_metadata(message, provider_state=kept)
