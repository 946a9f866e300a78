"""What a session may do, and where a result leaves it.

Rule of this file: pure functions of the session value; a new value or an error, never a change. Two tables decide.

What may be done: `run`; `raise` SessionStatusError, a mistake in the program; `error`, the SessionError that says that
the session ended in one; `unknown`, the SessionError for an id that nobody waits for. A session is `pending` while
calls wait for the caller's results, whatever its status: what would ask the model has to wait for them.

    session         start  reply  continue  continue   continue  step   submit
                                  (user)    (another)  (None)
    --------------  -----  -----  --------  ---------  --------  -----  -------
    idle            run    run    run       run        run       run    raise
    completed       run    run    run       run        run       run    raise
    awaiting_user   raise  run    run       raise      raise     raise  raise
    awaiting_tools  raise  raise  raise     raise      run       raise  unknown
    pending         raise  raise  raise     raise      raise     raise  run
    error           error  error  error     error      error     error  error

Where a result leaves it. The thread is the result's, its metadata is merged over the session's, and calls that it left
to the caller become pending.

    a chat halted by, or a step         status           besides
    ----------------------------------  ---------------  -------------------------------------------------------------
    ask_user                            awaiting_user    pending_question, pending_tool_call_id
    manual_tool_calls                   awaiting_tools
    tool_error, error                   error            metadata["error"]
    cancelled, interrupted              idle             a question that was pending stays so
    any other reason, calls left        awaiting_tools
    any other reason, or done           completed
    a step that is not done             idle
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import msgspec

from allm_actors.data import (
    ChatResult,
    ImagePart,
    Message,
    Response,
    Session,
    SessionError,
    SessionStatus,
    SessionStatusError,
    StepResult,
    StreamError,
    TextPart,
    Thread,
    ToolCall,
    ValidationError,
)

from .answers import question
from .tools import AWAITING_USER, encode, repair

__all__ = [
    "OPERATIONS",
    "RULES",
    "Operation",
    "Rule",
    "apply",
    "apply_chat_result",
    "apply_step_result",
    "begin",
    "opened",
    "recover",
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
_STOPPED: Final = ("cancelled", "interrupted")


def opened(start: object) -> Session:
    """The session that a start is given: a session, a thread, or a list of messages.

    Raises: ValidationError `invalid_session_input` for anything else.
    """
    if isinstance(start, Session):
        return start
    if isinstance(start, Thread):
        return Session(thread=start)
    if isinstance(start, (list, tuple)) and all(isinstance(message, Message) for message in start):
        return Session(thread=Thread.from_messages(start))
    raise ValidationError("invalid_session_input", [("session_input", "invalid_type")])


def begin(session: Session, operation: Operation, messages: Sequence[Message] = ()) -> Session:
    """The session to run an operation with: `idle`, its thread ready for the model, the messages appended.

    A pending question stays until the run's result is applied, so that a run that is cancelled does not lose it.
    Raises: SessionStatusError or SessionError, as the table says.
    """
    _allow(session, _column(operation, messages), operation)
    thread = repair(session.thread)
    asked = _unasked_question(session, thread)
    if asked or messages:
        thread = thread.add(*asked, *messages)
    return msgspec.structs.replace(session, thread=thread, status="idle")


def apply(session: Session, result: Response | StepResult | ChatResult) -> Session:
    """The session after a run that `begin` allowed; a bare response leaves it as it is."""
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
    after = _after(session, thread, metadata, left)
    match reason:
        case "ask_user":
            return _ask(after, result.pending_question, result.pending_tool_call_id)
        case "manual_tool_calls":
            return msgspec.structs.replace(after, status="awaiting_tools")
        case "tool_error" | "error":
            return _fail(after, metadata.get("on_tool_error_exception") or metadata.get("error") or metadata)
        case "cancelled" | "interrupted":
            return _stop(after, session)
        case _:
            return _rest(after, "completed")


def apply_step_result(session: Session, result: StepResult) -> Session:
    """The session after a step."""
    reason, metadata, response = result.metadata.get("halted_reason"), result.metadata, result.response
    left = metadata.get("manual_tool_calls")
    if not left and metadata.get("mode") == "manual" and response is not None:
        left = response.tool_calls
    after = _after(session, result.thread, metadata, left)
    failure = response.metadata.get("error") if response is not None else None
    if reason == "ask_user":
        return _ask(after, metadata.get("pending_question"), metadata.get("pending_tool_call_id"))
    if reason == "tool_error":
        return _fail(after, metadata.get("on_tool_error_exception") or metadata.get("error") or metadata)
    if reason in _STOPPED or (isinstance(failure, StreamError) and failure.reason == "cancelled"):
        return _stop(after, session)
    if response is not None and response.finish_reason == "error":
        return _fail(after, failure or metadata)
    return _rest(after, "completed" if result.done else "idle")


def submit_tool_result(session: Session, call_id: str, content: object) -> Session:
    """The session with the caller's result for a call that was left to it; `idle`, or still waiting for the user or for
    other results.

    Shape: text and message parts are kept as they are, everything else becomes JSON.
    Raises: SessionError `unknown_tool_call_id`; SessionStatusError when no call is pending; TypeError for a bad id.
    """
    if not isinstance(call_id, str):
        raise TypeError(f"a tool call id is a string, got: {call_id!r}")
    _allow(session, "submit", "submit_tool_result", call_id)
    if call_id not in [call.id for call in session.pending_tool_calls]:
        raise _unknown(session, call_id)
    message = Message(role="tool", content=_content(content), tool_call_id=call_id)
    rest = [call for call in session.pending_tool_calls if call.id != call_id]
    session = msgspec.structs.replace(session, thread=session.thread.add(message), pending_tool_calls=rest)
    return session if rest else msgspec.structs.replace(session, status=_settled_status(session))


def submit_tool_results(session: Session, results: Iterable[tuple[str, object]]) -> Session:
    """The session with several results, in order; all of them, or an error and none. Nothing to submit is always right.

    Raises: what `submit_tool_result` raises.
    """
    for call_id, content in results:
        session = submit_tool_result(session, call_id, content)
    return session


def recover(session: Session) -> Session:
    """An `error` session made usable again: `idle`, or waiting for the results it still waits for; others as they are.

    An empty answer that the error left at the end of the thread goes, and every call that nobody waits for is answered.
    """
    if session.status != "error":
        return session
    thread = session.thread
    if thread.last is not None and _is_empty_failure(thread.last):
        thread = Thread(messages=thread.messages[:-1], metadata=thread.metadata)
    pending = [call.id for call in session.pending_tool_calls]
    return msgspec.structs.replace(
        session,
        thread=repair(thread, keep=pending),
        status="awaiting_tools" if pending else "idle",
        metadata={key: value for key, value in session.metadata.items() if key != "error"},
    )


# --- what may be done ---------------------------------------------------------------------------------------------


def _column(operation: Operation, messages: Sequence[Message]) -> str:
    if operation != "continue":
        return operation
    if not messages:
        return "continue_none"
    return "continue_user" if messages[0].role == "user" else "continue_other"


def _allow(session: Session, column: str, operation: str, call_id: str = "") -> None:
    row = "pending" if session.pending_tool_calls and session.status != "error" else session.status
    match RULES[row][OPERATIONS.index(column)]:
        case "run":
            return
        case "raise":
            raise _illegal(session, operation)
        case "unknown":
            raise _unknown(session, call_id)
        case "error":
            raise SessionError(
                "session_in_error_state",
                message=f"{operation}: session {session.id!r} ended in an error; recover(session) lets it go on",
                metadata={"error": session.metadata.get("error")},
            )


def _illegal(session: Session, operation: str) -> SessionStatusError:
    pending = [call.id for call in session.pending_tool_calls]
    if operation == "submit_tool_result":
        advice = "no tool call is pending"
    elif pending:
        advice = f"submit the results of {', '.join(pending)} first"
    elif session.status == "awaiting_tools":
        advice = "the results are all there; continue without a message"
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
    """The question that a tool asked, if the thread does not show it yet: steps, and chats with calls left, do not."""
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


# --- where a result leaves it -------------------------------------------------------------------------------------


def _after(session: Session, thread: Thread, metadata: dict[str, Any], left: object) -> Session:
    """The session with a result's thread and metadata, nothing pending but the calls that were left and are open."""
    calls = [call for call in left if isinstance(call, ToolCall)] if isinstance(left, list) else []
    return msgspec.structs.replace(
        session,
        thread=thread,
        pending_tool_calls=_still_open(thread, calls) if calls else [],
        pending_question=None,
        pending_tool_call_id=None,
        metadata={**session.metadata, **metadata},
    )


def _still_open(thread: Thread, calls: list[ToolCall]) -> list[ToolCall]:
    answered: set[str | None] = set()
    for message in reversed(thread.messages):
        if message.tool_calls:
            break
        if message.role == "tool":
            answered.add(message.tool_call_id)
    return [call for call in calls if call.id not in answered]


def _ask(session: Session, text: str | None, call_id: str | None) -> Session:
    return msgspec.structs.replace(
        session, status="awaiting_user", pending_question=text, pending_tool_call_id=call_id
    )


def _fail(session: Session, error: object) -> Session:
    return msgspec.structs.replace(session, status="error", metadata={**session.metadata, "error": error})


def _stop(session: Session, before: Session) -> Session:
    return msgspec.structs.replace(
        session,
        status="idle",
        pending_question=before.pending_question,
        pending_tool_call_id=before.pending_tool_call_id,
    )


def _rest(session: Session, status: SessionStatus) -> Session:
    return msgspec.structs.replace(session, status="awaiting_tools" if session.pending_tool_calls else status)


def _settled_status(session: Session) -> SessionStatus:
    return "idle" if session.pending_question is None else "awaiting_user"


def _content(content: object) -> str | list[Any]:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, (TextPart, ImagePart)) for part in content):
        return content
    try:
        return encode(content)
    except Exception:  # noqa: BLE001 - whatever the caller found out is better told in some form than not at all
        return str(content)


def _is_empty_failure(message: Message) -> bool:
    failed = message.role == "assistant" and message.metadata.get("finish_reason") == "error"
    return failed and not message.content and not message.tool_calls
