"""The outcome of a tool call: its answer to the model, its event, and whether the chat goes on.

Rule of this file: every way a call can end is a row, and every row leaves exactly one tool message.

    the handler                          the call's answer                      the event            the chat
    ---------------------------------    -----------------------------------    -----------------    ----------------
    returns a value, or Ok(value)        encode(value)                          ToolResultEncoded    goes on
    returns a value without an encoding  policy(ToolError encoding_failed)
    returns Err(reason)                  policy(reason)
    raises                               policy(ToolError handler_raised)
    leaves (SystemExit and the like)     policy(ToolError handler_exit)
    returns AskUser(question)            <awaiting user response>               AskUserRequested     halts: ask_user
    returns Halt(reason, result)         encode(result)                         ToolHalt             halts: reason
    returns Halt(a reserved reason)      policy(ToolError invalid_return)

    the policy                           the call's answer                      the event            the chat
    ---------------------------------    -----------------------------------    -----------------    ----------------
    "continue"                           encode(Err(error))                     ToolResultEncoded    goes on
    "halt"                               encode(Err(error))                     ToolHalt             halts: tool_error
    a function: ("continue", x)          encode(x)                              ToolResultEncoded    goes on
    a function: "continue" or "halt"     as that policy
    a function: raises, or anything else as "halt", with ToolError invalid_return

The policy function is called only here, once for a failing call, in the worker, which calls `settle`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final, Literal, TypeAlias

import msgspec

from allm_actors.data import (
    AskUser,
    AskUserRequested,
    Err,
    Halt,
    HandlerResult,
    Message,
    Ok,
    Thread,
    ToolCall,
    ToolError,
    ToolHalt,
    ToolResultEncoded,
)
from allm_actors.data.encoding import json_text
from allm_actors.data.rules.pairing import open_calls
from allm_actors.data.schemas.signature import signature_as_written
from allm_actors.data.utf8 import utf8_of

from .tool_errors import call_cancelled, describe, handler_raised, invalid_return, not_encoded, policy_raised

__all__ = [
    "AWAITING_USER",
    "RESERVED_HALTS",
    "AnswerEvent",
    "Encoder",
    "Policy",
    "ToolOutcome",
    "answer_message",
    "as_policy",
    "encode_tool_result",
    "failure",
    "halt_metadata",
    "repair",
    "settle",
    "settle_error",
]

Encoder: TypeAlias = Callable[[Any], str]
PolicyFunction: TypeAlias = Callable[[ToolCall, Any], Any]
Policy: TypeAlias = Literal["continue", "halt"] | PolicyFunction
AnswerEvent: TypeAlias = ToolResultEncoded | AskUserRequested | ToolHalt

AWAITING_USER: Final = "<awaiting user response>"
RESERVED_HALTS: Final = frozenset(
    {
        "ask_user",
        "cancelled",
        "completed",
        "error",
        "halt_when",
        "interrupted",
        "manual_tool_calls",
        "max_turns",
        "tool_error",
    }
)


class ToolOutcome(msgspec.Struct, frozen=True):
    """How a call ended: the handler's result, and the event that answers the call."""

    raw: HandlerResult
    event: AnswerEvent

    @property
    def message(self) -> Message:
        """The tool message that answers the call."""
        return answer_message(self.event)

    @property
    def halt(self) -> dict[str, Any]:
        """The metadata with which the chat halts; empty if it goes on."""
        return halt_metadata(self.event)


# --- the table ----------------------------------------------------------------------------------------------------


def encode_tool_result(value: Any) -> str:
    """The built-in `tool_result_encoder`: a string unchanged, all else as compact JSON.

    Equal values give equal texts, except for sets with items that cannot be ordered, such as numbers and
    texts, in a field of a class, and for dataclasses that msgspec has made for you, without their defaults.

    Shape: `Ok(x)` is `{"ok": x}`; `Err(e)` is `{"error": text of e}`; NaN and the infinities, as in JavaScript, null.
    A lone surrogate, as a file name may contain, becomes U+FFFD: it could not be sent, in this or any later
    turn.
    Raises: TypeError or another exception for what JSON cannot express.
    """
    if isinstance(value, str):
        return utf8_of(value)
    if isinstance(value, Ok):
        value = {"ok": value.value}
    elif isinstance(value, Err):
        value = {"error": describe(value.reason)}
    try:
        return json_text(value, _JSON)
    except (TypeError, UnicodeEncodeError):  # keys of mixed types cannot be sorted
        return json_text(utf8_of(_builtins(value)), _JSON)


def as_policy(value: object) -> Policy:
    """The `on_tool_error` option as a policy; None is `continue`.

    Raises: ValueError for anything but `continue`, `halt` and a function of two arguments.
    """
    if value is None or value == "continue":
        return "continue"
    if value == "halt":
        return "halt"
    if callable(value) and _takes_two(value):
        return value
    raise ValueError(
        f"on_tool_error must be 'continue', 'halt' or a function of (tool_call, error); got: {value!r}"
    )


def settle(
    call: ToolCall, result: object, encoder: Encoder = encode_tool_result, policy: Policy = "continue"
) -> ToolOutcome:
    """The outcome of a call whose handler returned `result`, or raised it."""
    match result:
        case BaseException() | Err():
            return settle_error(call, failure(call, result), encoder, policy)
        case AskUser():
            return _asked(call, result, encoder, policy)
        case Halt():
            return _halted(call, result, encoder, policy)
        case _:
            return _answered(call, result if isinstance(result, Ok) else Ok(result), encoder, policy)


def failure(call: ToolCall, result: object) -> Any:
    """The error of a call whose handler returned `result`, or raised it; None if it did not fail."""
    reason = result.reason if isinstance(result, Err) else result
    if isinstance(reason, BaseException):
        return handler_raised(call, reason)
    return reason if isinstance(result, Err) else None


def settle_error(
    call: ToolCall, error: Any, encoder: Encoder = encode_tool_result, policy: Policy = "continue"
) -> ToolOutcome:
    """The outcome of a call that failed with `error`: a `ToolError`, an `EngineError`, or the reason of an `Err`."""
    if policy == "continue":
        content = _error_content(error, encoder)
        return ToolOutcome(Err(error), ToolResultEncoded(id=call.id, content=content))
    if policy == "halt":
        content = _error_content(error, encoder)
        event = ToolHalt(tool_call_id=call.id, reason="tool_error", result=error, content=content)
        return ToolOutcome(Err(error), event)
    return _decided(call, error, encoder, policy)


def answer_message(event: AnswerEvent) -> Message:
    """The tool message for an answering event."""
    match event:
        case ToolResultEncoded(id=call_id, content=content):
            return Message(role="tool", content=content, tool_call_id=call_id)
        case AskUserRequested(tool_call_id=call_id):
            return Message(role="tool", content=AWAITING_USER, tool_call_id=call_id)
        case ToolHalt(tool_call_id=call_id, content=content, result=result):
            text = content if content is not None else encode_tool_result(describe(result))
            return Message(role="tool", content=text, tool_call_id=call_id)


def halt_metadata(event: AnswerEvent) -> dict[str, Any]:
    """The metadata of a step or chat that an answering event halts; empty if it does not halt."""
    match event:
        case ToolResultEncoded():
            return {}
        case AskUserRequested(tool_call_id=call_id, question=question, opts=opts):
            return {
                "halted_reason": "ask_user",
                "pending_question": question,
                "pending_tool_call_id": call_id,
                "ask_user_opts": opts,
            }
        case ToolHalt(tool_call_id=call_id, reason="tool_error", result=error):
            halt = {"halted_reason": "tool_error", "halt_tool_call_id": call_id}
            return halt | _lifted(error)
        case ToolHalt(tool_call_id=call_id, reason=reason, result=result):
            return {"halted_reason": reason, "halt_tool_call_id": call_id, "halt_result": result}


def repair(thread: Thread, keep: Collection[str] = ()) -> Thread:
    """The thread with every open call answered, by an error that says that its outcome is unknown.

    Calls named in `keep` stay open. Returns the same thread if nothing is open.
    """
    left = {
        index: [call for call in calls if call.id not in keep]
        for index, calls in open_calls(thread.messages).items()
    }
    if not any(left.values()):
        return thread
    messages: list[Message] = []
    open_here: list[ToolCall] = []
    for index, message in enumerate(thread.messages):
        if message.role != "tool":
            messages += map(_interrupted, open_here)
            open_here = left.get(index, [])
        messages.append(message)
    messages += map(_interrupted, open_here)
    return Thread(messages=messages, metadata=thread.metadata)


# --- the rows -----------------------------------------------------------------------------------------------------


def _answered(call: ToolCall, result: Ok, encoder: Encoder, policy: Policy) -> ToolOutcome:
    try:
        content = _encoded(result.value, encoder)
    except Exception as error:  # noqa: BLE001 - an encoder is user code; whatever it raises is its row of the table
        return settle_error(call, not_encoded(call, error), encoder, policy)
    return ToolOutcome(result, ToolResultEncoded(id=call.id, content=content))


def _asked(call: ToolCall, result: AskUser, encoder: Encoder, policy: Policy) -> ToolOutcome:
    question: object = result.question
    if not isinstance(question, str):
        error = invalid_return(call, f"{call.name} asked the user, but its question is not a text")
        return settle_error(call, error, encoder, policy)
    event = AskUserRequested(
        tool_call_id=call.id, tool_name=call.name, question=utf8_of(question), opts=result.options
    )
    return ToolOutcome(result, event)


def _halted(call: ToolCall, result: Halt, encoder: Encoder, policy: Policy) -> ToolOutcome:
    reason: object = result.reason
    if not isinstance(reason, str) or not reason or reason in RESERVED_HALTS:
        shown = repr(reason) if isinstance(reason, str) else describe(reason)
        message = f"{call.name} must not halt with the reason {shown}"
        error = invalid_return(call, message, reserved_halt_atom=describe(reason))
        return settle_error(call, error, encoder, policy)
    try:
        content = _encoded(result.result, encoder)
    except Exception as error:  # noqa: BLE001 - as for a plain value
        return settle_error(call, not_encoded(call, error), encoder, policy)
    event = ToolHalt(tool_call_id=call.id, reason=reason, result=result.result, content=content)
    return ToolOutcome(result, event)


def _decided(call: ToolCall, error: Any, encoder: Encoder, function: PolicyFunction) -> ToolOutcome:
    try:
        decision = function(call, error)
    except Exception as raised:  # noqa: BLE001 - the policy is user code; a failing policy halts
        return settle_error(call, policy_raised(call, raised), encoder, "halt")
    match decision:  # by type first: other objects may define `==`, as arrays do
        case str("continue" | "halt" as policy):
            return settle_error(call, error, encoder, policy)
        case (str("continue"), value) | Ok(value):
            return _answered(call, Ok(value), encoder, "halt")
        case _:
            message = (
                f"on_tool_error must return ('continue', value) or 'halt', got: {type(decision).__name__}"
            )
            failure = invalid_return(call, message, on_tool_error_invalid=True)
            return settle_error(call, failure, encoder, "halt")


def _encoded(value: Any, encoder: Encoder) -> str:
    content: object = encoder(value)
    if not isinstance(content, str):
        raise TypeError(f"the encoder gave {type(content).__name__}, not text")
    return utf8_of(content)


def _error_content(error: Any, encoder: Encoder) -> str:
    if isinstance(error, ToolError) and error.reason == "encoding_failed":
        return encode_tool_result(Err(error.message))
    try:
        return _encoded(Err(error), encoder)
    except Exception:  # noqa: BLE001 - an error always gets a text, even if the encoder fails
        return encode_tool_result(Err(error))


def _lifted(error: Any) -> dict[str, Any]:
    raised = error.metadata.get("on_tool_error_exception") if isinstance(error, ToolError) else None
    return {} if raised is None else {"on_tool_error_exception": raised}


def _builtins(value: Any) -> Any:
    ordered = partial(msgspec.to_builtins, str_keys=True, order="deterministic", enc_hook=_plain)
    try:
        return ordered(value)
    except TypeError:  # a set whose items cannot be ordered is still a valid answer
        value = _in_order(value)
    try:
        return ordered(value)
    except TypeError:  # it is in a field of a class
        return msgspec.to_builtins(value, str_keys=True, enc_hook=_plain)


def _in_order(value: Any) -> Any:
    """The value with each of its sets as a list, sorted by the texts of the items."""
    if isinstance(value, set | frozenset):
        return sorted(map(_in_order, value), key=encode_tool_result)
    if isinstance(value, list | tuple):
        return [_in_order(each) for each in value]
    if isinstance(value, dict):
        return {key: _in_order(each) for key, each in value.items()}
    return value


def _plain(value: Any) -> Any:
    """The plain data of an object that msgspec does not know, such as a pydantic model."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        raise TypeError("a generator has no JSON form, and it was not run; return a list")
    raise TypeError(
        f"{type(value).__name__} has no JSON form; return text, plain data, a dataclass or a pydantic model, "
        "or give a tool_result_encoder"
    )


_JSON: Final = msgspec.json.Encoder(order="deterministic", enc_hook=_plain)


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        signature_as_written(function).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # some builtins have no signature to look at
        return True
    return True


def _interrupted(call: ToolCall) -> Message:
    error = call_cancelled(call, "interrupted", started=True)
    return Message(role="tool", content=encode_tool_result(Err(error)), tool_call_id=call.id)
