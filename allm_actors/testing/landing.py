"""What a session is after an operation: the documented tables once more, so that a session can be held to them.

Rule of this file: only values are compared, that of before, the result and that of after; a function raises
AssertionError with what differs. Nothing of the code that makes these values is used.

    a turn     the earlier messages, what was said, once, and what the result has; the status that its reason leads to
    refused    nothing has changed
    submit     one more message, the result as it was given, for a call that is pending no longer
    recover    an `error` is gone, and with it an empty answer that it left; any other session is as it was
    rewind     exactly those messages; a session whose last message went waits for nothing
    fork       everything, under another name
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Any, Final

import msgspec

from allm_actors.data import ChatResult, Message, Session, SessionStatus, Thread, ToolCall

__all__ = ["check_landing", "check_recovered", "check_rewound", "check_submitted", "same"]

_LANDINGS: Final[dict[str, SessionStatus]] = {
    "ask_user": "awaiting_user",
    "manual_tool_calls": "awaiting_tools",
    "tool_error": "error",
    "error": "error",
    "cancelled": "idle",
    "interrupted": "idle",
}
_STOPPED: Final = ("cancelled", "interrupted")


def same(found: Session, wanted: Session, what: str) -> None:
    """Raises AssertionError with the first field in which they differ; `what` says how they came to be."""
    for name in Session.__struct_fields__:
        one, other = getattr(found, name), getattr(wanted, name)
        if one != other and name == "thread" and one.messages != other.messages:
            pairs = enumerate(zip_longest(one.messages, other.messages))
            at, (told, should) = next((at, pair) for at, pair in pairs if pair[0] != pair[1])
            raise AssertionError(f"{what}: its messages[{at}] should be {should!r}, and is {told!r}")
        assert one == other, f"{what}: its {name} should be {other!r}, and is {one!r}"


def check_landing(before: Session, said: str | None, result: ChatResult, after: Session) -> None:
    """Where a turn that no crash has disturbed leaves a session; `said` is the user's message, if it had one."""
    what = f"a turn ended with {result.halted_reason!r}"
    thread, reason = result.thread, result.halted_reason
    assert thread is not None
    _check_said(before, said, thread.messages)
    pending = _left(result, thread.messages)
    status = _LANDINGS.get(reason or "", "completed")
    if status == "completed" and pending:
        status = "awaiting_tools"
    asked: tuple[str | None, str | None] = (None, None)
    if reason == "ask_user":
        asked = result.pending_question, result.pending_tool_call_id
        called = {call.id for message in thread.messages for call in message.tool_calls}
        assert asked[1] in called, f"{what}: the question is of {asked[1]!r}, and no call has that id"
    elif reason in _STOPPED:
        asked = before.pending_question, before.pending_tool_call_id
    # What cannot be stored becomes text, and an error may come from elsewhere in the result.
    told = before.metadata.keys() | result.metadata.keys() | ({"error"} if status == "error" else set())
    assert after.metadata.keys() == told, (
        f"{what}: its metadata should have {sorted(told)}, and has {sorted(after.metadata)}"
    )
    kept = {key: value for key, value in before.metadata.items() if key not in result.metadata}
    if status == "error":
        kept.pop("error", None)
    wanted = msgspec.structs.replace(
        before,
        thread=thread,
        status=status,
        pending_tool_calls=pending,
        pending_question=asked[0],
        pending_tool_call_id=asked[1],
        metadata=after.metadata | kept,
    )
    same(after, wanted, what)


def check_submitted(before: Session, call: ToolCall, content: Any, after: Session) -> None:
    """A pending call was answered by the caller."""
    what = f"the result of {call.id!r} was submitted"
    assert after.messages, f"{what}: the session is empty"
    answer = after.messages[-1]
    told: Any = answer.content
    if not isinstance(content, str):
        with suppress(ValueError):
            told = json.loads(told)
    assert told == content, f"{what}: the caller said {content!r}, the session has {answer.content!r}"
    rest = [other for other in before.pending_tool_calls if other.id != call.id]
    settled: SessionStatus = "idle" if before.pending_question is None else "awaiting_user"
    wanted = msgspec.structs.replace(
        before,
        thread=before.thread.add(Message(role="tool", content=answer.content, tool_call_id=call.id)),
        status=before.status if rest else settled,
        pending_tool_calls=rest,
    )
    same(after, wanted, what)


def check_recovered(before: Session, after: Session) -> None:
    """It was recovered: from an error, or from nothing."""
    same(after, _recovered(before), f"a session that was {before.status!r} was recovered")


def check_rewound(before: Session, kept: Sequence[Message], after: Session) -> None:
    """The first messages were put in place of all."""
    what = f"of {len(before.messages)} messages, {len(kept)} were kept"
    base = _recovered(before)
    messages = _without_failure(kept)
    thread = msgspec.structs.replace(base.thread, messages=messages)
    stays = messages[-1:] == base.messages[-1:]
    if stays and len(messages) < len(base.messages):
        assert after.thread == thread, f"{what}: the session has {after.messages!r}"
        return  # another message says the same: the session may wait for what that one has asked
    idle: dict[str, Any] = {
        "status": "idle",
        "pending_tool_calls": [],
        "pending_question": None,
        "pending_tool_call_id": None,
    }
    gone = {} if stays and messages else idle
    same(after, msgspec.structs.replace(base, thread=thread, **gone), what)


# Private: in order of use.


def _check_said(before: Session, said: str | None, messages: Sequence[Message]) -> None:
    kept = before.messages
    assert messages[: len(kept)] == kept, "a turn has changed the earlier messages"
    new = list(messages[len(kept) :])
    question = before.pending_question
    if new and question is not None and (new[0].role, new[0].content) == ("assistant", question):
        new.pop(0)  # a step or a chat with open calls leaves it to the next turn
    if said is None:
        return
    heard = [message for message in new if message.role == "user" and message.content == said]
    assert len(heard) == 1, f"the user said {said!r} once, and the session has it {len(heard)} times"
    assert new[0] == heard[0], f"the user said {said!r}, and before it the turn has {new[0]!r}"


def _left(result: ChatResult, messages: Sequence[Message]) -> list[ToolCall]:
    """The calls that the result leaves to the caller and that its thread has no answer for."""
    left = result.metadata.get("manual_tool_calls")
    if not left and result.halted_reason == "manual_tool_calls" and result.final_response is not None:
        left = result.final_response.tool_calls
    calls = max((at for at, message in enumerate(messages) if message.tool_calls), default=0)
    answered = {message.tool_call_id for message in messages[calls:] if message.role == "tool"}
    return [call for call in left or () if call.id not in answered]


def _recovered(session: Session) -> Session:
    if session.status != "error":
        return session
    return msgspec.structs.replace(
        session,
        thread=Thread(messages=_without_failure(session.messages), metadata=session.thread.metadata),
        status="awaiting_tools" if session.pending_tool_calls else "idle",
        metadata={key: value for key, value in session.metadata.items() if key != "error"},
    )


def _without_failure(messages: Sequence[Message]) -> list[Message]:
    """These messages, less an empty answer at their end that an error has left."""
    if not messages:
        return []
    last = messages[-1]
    failed = last.role == "assistant" and last.metadata.get("finish_reason") == "error"
    empty = failed and not last.content and not last.tool_calls
    return list(messages[:-1] if empty else messages)
