"""A conversation that others have led so far, as the next provider takes it.

Rule of this file: pure, and nothing changes that fits already. Who made an answer is told with what its provider wants
back (`provider_state`), which goes back to nobody else; the rest of a message is everybody's.

    what the conversation has                       what is sent
    ----------------------------------------------  -----------------------------------------------------------------
    a state of another provider's, or family's      the message without it: its text and its calls
    sealed thoughts, to a model that does not think nothing of them
    the id of a call that the row does not take,    one made of it, for the call and its answer alike
    or that was used before
    the name of a call that is no tool's name       the name with `_` for what may not stand in one

Source: the patterns are those of the providers' own refusals; see the rows of `catalog`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

import msgspec

from allm_actors.data import Message, Request, ToolCall
from allm_actors.engine.catalog import Provider

__all__ = ["MADE_BY", "fitted"]

MADE_BY = "made_by"
"""The key of `provider_state` under which provider and model stand."""

_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME = 64
_VENDOR = re.compile(r"(?:^|[./])(?:[a-z]{2,6}\.)?([a-z0-9]+)\.[a-z0-9]")


def fitted(request: Request, row: Provider) -> Request:
    """The request with a conversation that this provider takes."""
    if all(message.role != "assistant" for message in request.messages):
        return request
    model = str(request.options.get("model", request.model) or "")
    messages = list(_fitted(request.messages, row, model))
    same = all(one is other for one, other in zip(messages, request.messages, strict=True))
    return request if same else msgspec.structs.replace(request, messages=messages)


def _fitted(messages: Iterable[Message], row: Provider, model: str) -> Iterable[Message]:
    ids = _Ids(row.quirks.call_ids)
    for message in messages:
        if message.role == "assistant":
            yield ids.of_calls(_without_foreign(message, row, model))
        elif message.role == "tool":
            yield ids.of_answer(message)
        else:
            yield message


def _without_foreign(message: Message, row: Provider, model: str) -> Message:
    state = message.metadata.get("provider_state")
    if not isinstance(state, Mapping):
        return message
    kept: Any = state
    if not _is_own(state.get(MADE_BY), row, model):
        kept = None
    elif row.quirks.sealed_reasoning is not None and not re.match(row.quirks.sealed_reasoning, model):
        kept = {name: _without_thoughts(items) for name, items in state.items()}
    if kept == state:
        return message
    metadata = {name: value for name, value in message.metadata.items() if name != "provider_state"}
    return msgspec.structs.replace(
        message, metadata=metadata if kept is None else {**metadata, "provider_state": kept}
    )


def _is_own(made_by: Any, row: Provider, model: str) -> bool:
    if not (isinstance(made_by, list | tuple) and len(made_by) == 2):
        return True  # nobody said who it was
    provider, made = made_by
    return provider == row.name and (not row.quirks.many_vendors or _vendor(str(made)) == _vendor(model))


def _vendor(model: str) -> str:
    """Who makes a model, of those names that say so, such as `eu.anthropic.claude-…`, or the end of an ARN."""
    found = _VENDOR.search(model.rpartition("/")[2])
    return found[1] if found else ""


def _without_thoughts(items: Any) -> Any:
    if not isinstance(items, list):
        return items
    return [item for item in items if not (isinstance(item, Mapping) and item.get("type") == "reasoning")]


class _Ids:
    """The ids of the calls so far, and what has become of those that wait for an answer."""

    def __init__(self, pattern: str | None) -> None:
        self._takes = None if pattern is None else re.compile(pattern)
        self._used: set[str] = set()
        self._open: dict[str, str] = {}

    def of_calls(self, message: Message) -> Message:
        """An assistant's message."""
        calls = message.tool_calls
        made = [msgspec.structs.replace(call, id=self._id(call), name=_name(call)) for call in calls]
        if all(one.id == other.id and one.name == other.name for one, other in zip(made, calls, strict=True)):
            return message
        return msgspec.structs.replace(message, metadata={**message.metadata, "tool_calls": made})

    def of_answer(self, message: Message) -> Message:
        """A tool's message."""
        given = message.tool_call_id
        taken = self._open.get(given or "")
        return message if taken in (None, given) else msgspec.structs.replace(message, tool_call_id=taken)

    def _id(self, call: ToolCall) -> str:
        id, takes = call.id, self._takes
        if takes is None:
            return id
        fits, number = id, 0
        while not takes.fullmatch(fits) or fits in self._used:
            fits = _made_of(f"{id}#{number}" if number else id, takes)
            number += 1
        self._used.add(fits)
        self._open[id] = fits
        return fits


def _made_of(id: str, takes: re.Pattern[str]) -> str:
    digest = sha256(id.encode("utf-8", "surrogatepass")).hexdigest()
    return next(made for made in (f"call_{digest[:24]}", digest[:9]) if takes.fullmatch(made))


def _name(call: ToolCall) -> str:
    return _NO_NAME.sub("_", call.name)[:_LONGEST_NAME] or "unnamed"
