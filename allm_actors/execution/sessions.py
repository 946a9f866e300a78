"""Which operations a session's status allows, and which status a result leads to.

Rule of this file: pure functions of the session value; a new value or an error, never a change. Two tables decide.

Allowed operations: `run`; `raise` SessionStatusError, a mistake in the program; `error`, the SessionError for
a session that ended in an error; `unknown`, the SessionError for an id that is not pending. A session is
`pending` while calls wait for the caller's results, whatever its status: operations that would call the model
have to wait for them.

    session         start  reply  continue  continue   continue  step   submit
                                  (user)    (another)  (None)
    --------------  -----  -----  --------  ---------  --------  -----  -------
    idle            run    run    run       run        run       run    raise
    completed       run    run    run       run        run       run    raise
    awaiting_user   raise  run    run       raise      raise     raise  raise
    awaiting_tools  raise  raise  raise     raise      run       raise  unknown
    pending         raise  raise  raise     raise      raise     raise  run
    error           error  error  error     error      error     error  error

The session after a result: `LANDINGS`. The thread is the result's, its metadata is merged over the session's
(values that cannot be stored become text), and calls that it left to the caller become pending. A step's row
is named as the reason that halts a chat, or `going on`.

    the result         status          with calls left  question  metadata["error"]
    -----------------  --------------  ---------------  --------  -----------------
    ask_user           awaiting_user   awaiting_user    asked     -
    manual_tool_calls  awaiting_tools  awaiting_tools   none      -
    tool_error         error           error            none      set
    error              error           error            none      set
    cancelled          idle            idle             kept      -
    interrupted        idle            idle             kept      -
    going on           idle            awaiting_tools   none      -
    any other          completed       awaiting_tools   none      -
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import msgspec

from allm_actors.data import (
    ChatResult,
    Message,
    Ok,
    Part,
    Response,
    Session,
    SessionError,
    SessionStatus,
    SessionStatusError,
    StepResult,
    StreamError,
    Thread,
    ToolCall,
    ValidationError,
)
from allm_actors.data.build import utf8_parts
from allm_actors.data.predicates import all_of, one_of
from allm_actors.data.rules.pairing import open_calls
from allm_actors.data.rules.validate import has_whole_calls, validate

from .answers import INTERRUPTED, question
from .storable import storable
from .tools import AWAITING_USER, encode_tool_result, repair

__all__ = [
    "ANY_OTHER",
    "GOING_ON",
    "LANDINGS",
    "OPERATIONS",
    "RULES",
    "Landing",
    "Operation",
    "Rule",
    "apply",
    "apply_chat_result",
    "apply_step_result",
    "begin",
    "halted_reason_of",
    "opened",
    "recover",
    "replace_messages",
    "said_by_user",
    "spoken",
    "submit_tool_result",
    "submit_tool_results",
]

Operation = Literal["start", "reply", "continue", "step"]
Rule = Literal["run", "raise", "error", "unknown"]

OPERATIONS: Final = ("start", "reply", "continue_user", "continue_other", "continue_none", "step", "submit")
RULES: Final[dict[str, tuple[Rule, ...]]] = {
    "idle": ("run", "run", "run", "run", "run", "run", "raise"),
    "completed": ("run", "run", "run", "run", "run", "run", "raise"),
    "awaiting_user": ("raise", "run", "run", "raise", "raise", "raise", "raise"),
    "awaiting_tools": ("raise", "raise", "raise", "raise", "run", "raise", "unknown"),
    "pending": ("raise", "raise", "raise", "raise", "raise", "raise", "run"),
    "error": ("error", "error", "error", "error", "error", "error", "error"),
}


class Landing(msgspec.Struct, frozen=True):
    """The session after a result: one row of the second table."""

    status: SessionStatus
    with_calls_left: SessionStatus
    question: Literal["asked", "kept", "none"] = "none"
    failed: bool = False


GOING_ON: Final = "going on"
ANY_OTHER: Final = "any other"
LANDINGS: Final[dict[str, Landing]] = {
    "ask_user": Landing("awaiting_user", "awaiting_user", "asked"),
    "manual_tool_calls": Landing("awaiting_tools", "awaiting_tools"),
    "tool_error": Landing("error", "error", failed=True),
    "error": Landing("error", "error", failed=True),
    "cancelled": Landing("idle", "idle", "kept"),
    "interrupted": Landing("idle", "idle", "kept"),
    GOING_ON: Landing("idle", "awaiting_tools"),
    ANY_OTHER: Landing("completed", "awaiting_tools"),
}
_STOPPED: Final = ("cancelled", "interrupted")
_REASONS: Final = frozenset(LANDINGS) - {GOING_ON, ANY_OTHER}  # a tool's own halt reason is `ANY_OTHER`


def opened(start: object) -> Session:
    """The session for the argument of a start: a session, a thread, or a list of messages.

    Raises: ValidationError `invalid_session_input` for anything else.
    """
    if isinstance(start, Session):
        return start
    if isinstance(start, Thread):
        return Session(thread=start)
    if isinstance(start, (list, tuple)) and all_of(start, Message):
        return Session(thread=Thread.from_messages(start))
    raise ValidationError("invalid_session_input", [("session_input", "invalid_type")]).explained(
        [f"expected a list of messages, such as [allm.user('…')], or a Thread, got {type(start).__name__}"]
    )


def begin(session: Session, operation: Operation, messages: Sequence[Message] = ()) -> Session:
    """The session to run an operation with: `idle`, its thread ready for the model, the messages appended.

    A pending question stays until the run's result is applied, so that a run that is cancelled does not lose it.
    Raises: SessionStatusError or SessionError, as the table says; TypeError or ValidationError for what is no session.
    """
    _check(session)
    _allow(session, _column(operation, messages), operation)
    thread = repair(session.thread)
    asked = _unasked_question(session, thread)
    if asked or messages:
        thread = thread.add(*asked, *messages)
    return msgspec.structs.replace(session, thread=thread, status="idle")


def spoken(message: str | Message) -> Message:
    """A message, or a text as a user's message. Raises TypeError for anything else."""
    given: object = message
    if isinstance(given, Message):
        return given
    if isinstance(given, str):
        return Message(role="user", content=given)
    wrap = "; wrap it: allm.user([…])" if isinstance(given, list | tuple | Part) else ""
    raise TypeError(f"expected the message as text or a Message, got {type(given).__name__}{wrap}")


def said_by_user(message: str | Message) -> Message:
    """A text, or a user's message, as a message. Raises TypeError, and ValueError for a message of another role."""
    said = spoken(message)
    if said.role != "user":
        raise ValueError(f"reply takes a user message, got a {said.role!r} message; see continue_(…)")
    return said


def apply(session: Session, result: Response | StepResult | ChatResult) -> Session:
    """The session after a run that `begin` allowed; a bare response does not change it."""
    match result:
        case ChatResult():
            return apply_chat_result(session, result)
        case StepResult():
            return apply_step_result(session, result)
        case Response():
            return session


def apply_chat_result(session: Session, result: ChatResult) -> Session:
    """The session after a chat."""
    reason, metadata = result.halted_reason, result.metadata
    thread = result.thread if result.thread is not None else session.thread
    left = metadata.get("manual_tool_calls")
    if not left and reason == "manual_tool_calls" and result.final_response is not None:
        left = result.final_response.tool_calls
    asked = (result.pending_question, result.pending_tool_call_id)
    error = _what_failed(metadata)
    row = reason if reason in _REASONS else ANY_OTHER
    return _land(session, row, thread, metadata, left, asked, error)


def apply_step_result(session: Session, result: StepResult) -> Session:
    """The session after a step."""
    metadata, failure = result.metadata, _failure(result)
    asked = (metadata.get("pending_question"), metadata.get("pending_tool_call_id"))
    error = _what_failed(metadata) if failure is None else failure
    left = _left_to_the_caller(result)
    return _land(session, _came_to(result), result.thread, metadata, left, asked, error)


def halted_reason_of(result: Response | StepResult | ChatResult) -> str | None:
    """Why the run with this result ended, in a chat's words; None if a chat would go on, or did not run."""
    match result:
        case ChatResult():
            return result.halted_reason
        case StepResult():
            row = _came_to(result)
            if row not in (GOING_ON, ANY_OTHER):
                return row
            if _left_to_the_caller(result):
                return "manual_tool_calls"
            return None if row == GOING_ON else result.metadata.get("halted_reason") or "completed"
        case Response():
            return None


def submit_tool_result(session: Session, id: str, content: object) -> Session:
    """The session with the caller's result for the pending call of this id; then `idle`, or still waiting for
    the user or for other results.

    Shape: text and message parts are kept unchanged, `Ok(x)` counts as x, `Err(e)` becomes `{"error": …}`, and
    everything else JSON.
    Raises: SessionError `unknown_tool_call_id`; SessionStatusError when no call is pending; TypeError for a bad id.
    """
    return submit_tool_results(session, [(id, content)])


def _submitted(session: Session, call_id: str, content: object) -> Session:
    if call_id not in [call.id for call in session.pending_tool_calls]:
        raise _unknown(session, call_id)
    message = Message(role="tool", content=_content(content), tool_call_id=call_id)
    rest = [call for call in session.pending_tool_calls if call.id != call_id]
    session = msgspec.structs.replace(session, thread=session.thread.add(message), pending_tool_calls=rest)
    return session if rest else msgspec.structs.replace(session, status=_settled_status(session))


def submit_tool_results(session: Session, results: Iterable[tuple[str, object]]) -> Session:
    """The session with several results, in order; all of them, or an error and none. No results are always allowed.

    Raises: what `submit_tool_result` raises; TypeError for what is no pair.
    """
    _check(session)
    before = session
    for pair in results:
        given: Any = pair
        # A text of two letters could be unpacked, too.
        if not isinstance(given, list | tuple) or len(given) != 2:
            raise TypeError(f"tool results must be a list of (id, content), got: {given!r}")
        call_id, content = given
        if not isinstance(call_id, str):
            raise TypeError(f"a tool call id must be a string, got: {call_id!r}")
        _allow(before, "submit", "submit_tool_result")
        session = _submitted(session, call_id, content)
    return session


def recover(session: Session) -> Session:
    """An `error` session made usable again: `idle`, or waiting for pending results. Any other session is unchanged.

    An empty answer that the error left at the end of the thread is removed, and open calls that are not
    pending are answered.
    Raises: TypeError or ValidationError for what is no session.
    """
    _check(session)
    if session.status != "error":
        return session
    thread = _without_empty_failure(session.thread)
    pending = [call.id for call in session.pending_tool_calls]
    return msgspec.structs.replace(
        session,
        thread=repair(thread, keep=pending),
        status="awaiting_tools" if pending else "idle",
        metadata={key: value for key, value in session.metadata.items() if key != "error"},
    )


def replace_messages(session: Session, messages: Sequence[Message]) -> Session:
    """The session with these messages in place of its own: to ask again for an answer, to take back or reword what was
    said, to shorten the conversation, or to change its system prompt. Its error, if it ended in one, is gone.

    A session whose last message stays goes on waiting for the user, and for the results of calls that are still
    open. Any other is `idle`, and waits for nothing: open calls are answered with an error. An empty answer at the
    end, which an error left, is removed.
    Raises: ValidationError for what no model would accept; TypeError for what is no session.
    """
    session = recover(session)
    thread = Thread(messages=opened(messages).thread.messages, metadata=session.thread.metadata)
    validate(thread)
    thread = _without_empty_failure(thread)
    if thread.last is None or thread.last != session.thread.last:
        session = Session(id=session.id, context=session.context, metadata=session.metadata)
    left = {call.id for calls in open_calls(thread.messages).values() for call in calls}
    pending = [call for call in session.pending_tool_calls if call.id in left]
    return msgspec.structs.replace(
        session,
        thread=repair(thread, keep={call.id for call in pending}),
        status=_settled_status(session) if session.pending_tool_calls and not pending else session.status,
        pending_tool_calls=pending,
    )


# --- allowed operations -------------------------------------------------------------------------------------------


def _check(session: object) -> None:
    """Raises for a value in which the tables cannot be looked up."""
    if not isinstance(session, Session):
        raise TypeError(f"expected a Session, got {type(session).__name__}")
    pending: object = session.pending_tool_calls  # constructors check nothing
    if not (one_of(session.status, RULES) and all_of(pending or [], ToolCall) and _is_thread(session.thread)):
        validate(session)


def _is_thread(thread: object) -> bool:
    return (
        isinstance(thread, Thread)
        and all_of(thread.messages, Message)
        and all(map(has_whole_calls, thread.messages))
    )


def _column(operation: Operation, messages: Sequence[Message]) -> str:
    if operation != "continue":
        return operation
    if not messages:
        return "continue_none"
    return "continue_user" if messages[0].role == "user" else "continue_other"


def _allow(session: Session, column: str, operation: str) -> None:
    row = "pending" if session.pending_tool_calls and session.status != "error" else session.status
    match RULES[row][OPERATIONS.index(column)]:
        case "run" | "unknown":  # which calls are pending, `_submitted` knows
            return
        case "raise":
            raise _illegal(session, operation)
        case "error":
            raise SessionError(
                "session_in_error_state",
                message=(
                    f"{operation}: session {session.id!r} ended in an error; recover it to use it again: "
                    "session.recover() in a host, allm.session.recover(session) for a value"
                ),
                metadata={"error": session.metadata.get("error")},
            )


def _illegal(session: Session, operation: str) -> SessionStatusError:
    pending = [call.id for call in session.pending_tool_calls]
    if operation == "submit_tool_result":
        advice = "no tool call is pending"
    elif pending:
        advice = f"submit the results of {', '.join(pending)} first"
    elif session.status == "awaiting_tools":
        advice = "all results are submitted; continue without a message"
    else:
        advice = "answer the pending question with reply"
    message = f"Session.{operation} is illegal on session status {session.status!r}: {advice}"
    return SessionStatusError(
        "illegal_for_status", message=message, operation=operation, status=session.status
    )


def _unknown(session: Session, call_id: str) -> SessionError:
    pending = ", ".join(call.id for call in session.pending_tool_calls) or "none"
    return SessionError(
        "unknown_tool_call_id",
        message=f"tool_call_id {call_id!r} not in pending_tool_calls ({pending})",
        metadata={"tool_call_id": call_id},
    )


def _unasked_question(session: Session, thread: Thread) -> tuple[Message, ...]:
    """The question that a tool asked, if the thread does not have it yet, as after steps and chats with open calls."""
    text, call_id = session.pending_question, session.pending_tool_call_id
    if text is None or call_id is None:
        return ()
    message = question(text, call_id)
    for earlier in reversed(thread.messages):
        if earlier == message:
            return ()
        if earlier.tool_call_id == call_id and earlier.content == AWAITING_USER:
            return (message,)
    return ()


# --- the session after a result -----------------------------------------------------------------------------------


def _failure(step: StepResult) -> object:
    return None if step.response is None else step.response.metadata.get("error")


def _what_failed(metadata: dict[str, Any]) -> object:
    named = (metadata.get("on_tool_error_exception"), metadata.get("error"))
    return next((error for error in named if error is not None), metadata)  # an exception may be false


def _left_to_the_caller(step: StepResult) -> object:
    left = step.metadata.get("manual_tool_calls")
    if not left and step.metadata.get("mode") == "manual" and step.response is not None:
        return step.response.tool_calls
    return left


def _came_to(step: StepResult) -> str:
    """The row of a step's result in the second table."""
    reason, response, failure = step.metadata.get("halted_reason"), step.response, _failure(step)
    if reason in ("ask_user", "tool_error", *_STOPPED):
        return str(reason)
    if isinstance(failure, StreamError) and failure.reason == "cancelled":
        return "interrupted" if INTERRUPTED in failure.metadata else "cancelled"
    if response is not None and response.finish_reason == "error":
        return "error"
    return ANY_OTHER if step.done else GOING_ON


def _land(
    session: Session,
    row: str,
    thread: Thread,
    metadata: dict[str, Any],
    left: object,
    asked: tuple[str | None, str | None],
    error: object,
) -> Session:
    landing = LANDINGS[row]
    calls = [call for call in left if isinstance(call, ToolCall)] if isinstance(left, list) else []
    pending = _still_open(thread, calls) if calls else []
    questions = {
        "asked": asked,
        "kept": (session.pending_question, session.pending_tool_call_id),
        "none": (None, None),
    }
    question, call_id = questions[landing.question]
    return msgspec.structs.replace(
        session,
        thread=thread,
        status=landing.with_calls_left if pending else landing.status,
        pending_tool_calls=pending,
        pending_question=question,
        pending_tool_call_id=call_id,
        metadata={**session.metadata, **storable(metadata | ({"error": error} if landing.failed else {}))},
    )


def _still_open(thread: Thread, calls: list[ToolCall]) -> list[ToolCall]:
    answered: set[str | None] = set()
    for message in reversed(thread.messages):
        if message.tool_calls:
            break
        if message.role == "tool":
            answered.add(message.tool_call_id)
    return [call for call in calls if call.id not in answered]


def _settled_status(session: Session) -> SessionStatus:
    return "idle" if session.pending_question is None else "awaiting_user"


def _content(content: object) -> str | list[Any]:
    if isinstance(content, Ok):  # as of a handler that the caller has run himself
        content = content.value
    if isinstance(content, list) and content and all_of(content, Part):
        return utf8_parts(content)
    try:
        return encode_tool_result(content)
    except Exception:  # noqa: BLE001 - a result that cannot be encoded is better sent as text than lost
        return encode_tool_result(str(content))


def _without_empty_failure(thread: Thread) -> Thread:
    message = thread.last
    if message is None or message.role != "assistant" or message.content or message.tool_calls:
        return thread
    if message.metadata.get("finish_reason") != "error":
        return thread
    return Thread(messages=thread.messages[:-1], metadata=thread.metadata)
