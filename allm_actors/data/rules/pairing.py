"""Which tool messages answer which calls; a provider refuses a conversation where they do not match.

Rule of this file: a tool message answers the nearest earlier call with its id that is still open. A later
message may use an id again, but the calls of one message must have different ids: one answer cannot be for
two.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from allm_actors.data.messages import Message, ToolCall

__all__ = ["are_paired", "behind_their_calls", "open_calls", "unpaired"]

_Place = tuple[int, int]  # of a call: the index of its message, and its own among the calls of that


def unpaired(messages: Any, *, may_be_open: bool) -> Iterator[tuple[list[Any], str]]:
    """Every answer without a call, then every call without an answer, as `(path, code)`.

    `may_be_open` allows open calls in the last assistant message, as while a person or the caller answers
    them.
    """
    if not isinstance(messages, list) or are_paired(messages):
        return
    calls, failures = _sort(messages)
    yield from failures
    last = max((i for i, m in enumerate(messages) if _is(m, "assistant")), default=None)
    for index, missing in calls.items():
        if not (may_be_open and index == last):
            yield from ((["messages", index, "tool_calls"], "unanswered_tool_call") for _ in missing)


def are_paired(messages: list[Any]) -> bool:
    """Whether every answer comes after its call and no call is left open: then no further check is needed."""
    waiting: set[Any] = set()
    for message in messages:
        if type(message) is not Message:
            return False
        role = message.role
        if role == "tool":
            if type(message.tool_call_id) is not str or message.tool_call_id not in waiting:
                return False
            waiting.remove(message.tool_call_id)
        elif role == "assistant" and message.metadata:
            for call in _calls(message):
                if type(call.id) is not str or call.id in waiting:
                    return False
                waiting.add(call.id)
    return not waiting


def open_calls(messages: list[Message]) -> dict[int, list[ToolCall]]:
    """The calls that a message could answer and none does, by the index of the message that makes them."""
    if are_paired(messages):
        return {}
    left = _sort(messages)[0]
    return {
        index: [call for id, call in calls.items() if isinstance(id, str)]
        for index, calls in left.items()
        if calls
    }


def behind_their_calls(messages: list[Message]) -> list[Message]:
    """The messages with each late answer moved directly after its call, and answers in the order of their calls.

    Hardly any provider accepts an answer after other messages, such as a user's. If moving would put a
    message of the model's last, for it to continue, nothing is moved. Where a provider has no ids for calls,
    the order alone tells which call an answer is for.
    """
    steps: list[list[Message]] = []  # a message that is no answer, then the answers to its calls
    callers: dict[Any, list[list[Message]]] = {}  # by the id of a call; the last one is the nearest
    late = False
    for message in messages:
        if message.role == "tool":
            waiting = callers.get(message.tool_call_id)
            step = waiting.pop() if waiting else steps[-1] if steps else None
            if step is not None:
                late = late or step is not steps[-1]
                step.append(message)
                continue
        steps.append([message])
        if message.role == "assistant":
            for call in _calls(message):
                callers.setdefault(call.id, []).append(steps[-1])
    if not late and all(map(_is_as_called, steps)):
        return messages
    moved = [message for step in steps for message in step]
    goes_on = moved[-1].role == "assistant" and messages[-1].role == "tool"
    return _as_called(messages if goes_on or not late else moved)


def _is_as_called(step: list[Message]) -> bool:
    """Whether a message with calls is followed by one answer to each, in their order, or by one at most."""
    return len(step) < 3 or [each.tool_call_id for each in step[1:]] == [call.id for call in _calls(step[0])]


def _as_called(messages: list[Message]) -> list[Message]:
    """The messages with the answers to one message's calls that follow each other in the order of the calls."""
    open_calls: dict[Any, list[_Place]] = {}  # by id; the next to be answered is last
    placed: list[tuple[_Place | None, Message]] = []  # each message with the call that it answers
    before, jumbled = None, False
    for index, message in enumerate(messages):
        place = None
        if message.role == "tool":
            waiting = open_calls.get(message.tool_call_id)
            place = waiting.pop() if waiting else before  # an answer to nothing stays where it is
        elif message.role == "assistant":
            calls = _calls(message)
            for at in reversed(range(len(calls))):
                open_calls.setdefault(calls[at].id, []).append((index, at))
        jumbled = jumbled or bool(place and before and place[0] == before[0] and place < before)
        placed.append((place, message))
        before = place
    if not jumbled:
        return messages
    runs = groupby(placed, key=lambda each: each[0] and each[0][0])
    return [
        message
        for caller, run in runs
        for _, message in (run if caller is None else sorted(run, key=itemgetter(0)))
    ]


def _sort(messages: list[Any]) -> tuple[dict[int, dict[Any, ToolCall]], list[tuple[list[Any], str]]]:
    """The open calls by the index of their message, and the answers that answer none of them."""
    calls: dict[int, dict[Any, ToolCall]] = {}
    known: set[Any] = set()
    failures: list[tuple[list[Any], str]] = []
    for index, message in enumerate(messages):
        if _is(message, "assistant"):
            calls[index] = _by_id(_calls(message))
            known |= calls[index].keys()
        elif _is(message, "tool") and message.tool_call_id is not None:
            id = message.tool_call_id if isinstance(message.tool_call_id, str) else object()
            made = next((i for i in reversed(calls) if id in calls[i]), None)
            if made is not None:
                del calls[made][id]
            else:
                code = "already_answered" if id in known else "unknown_tool_call_id"
                failures.append((["messages", index, "tool_call_id"], code))
    return calls, failures


def _by_id(calls: list[ToolCall]) -> dict[Any, ToolCall]:
    """The calls of a message by id. One with an invalid or duplicate id gets a key that no answer can match."""
    found: dict[Any, ToolCall] = {}
    for call in calls:
        id: object = call.id
        found[id if isinstance(id, str) and id not in found else object()] = call
    return found


def _is(message: Any, role: str) -> bool:
    return isinstance(message, Message) and message.role == role


def _calls(message: Any) -> list[ToolCall]:
    calls = message.metadata.get("tool_calls") if isinstance(message.metadata, dict) else None
    if not isinstance(calls, list):
        return []
    return [call for call in calls if isinstance(call, ToolCall)]
