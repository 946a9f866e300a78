"""The closed set of stream events: sixteen classes, so that users write `match`.

Rule of this file: an event says what happened, once, in order. One model call is `MessageStarted`, any of the text,
tool call and raw events, an `ErrorEvent` at most once, and `MessageCompleted` unless it failed. A step adds one
started, completed and answered event per executed tool and ends with `StepCompleted`; a chat is steps and one
`ChatCompleted`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from .messages import Message, ToolCall
from .responses import FinishReason, Response
from .results import ChatResult
from .threads import Thread
from .tools import HandlerResult

__all__ = [
    "EVENTS",
    "TAGS",
    "AskUserRequested",
    "ChatCompleted",
    "ErrorEvent",
    "Event",
    "MessageCompleted",
    "MessageStarted",
    "RawChunk",
    "StepCompleted",
    "TextCompleted",
    "TextDelta",
    "ToolCallCompleted",
    "ToolCallDelta",
    "ToolCallStarted",
    "ToolExecutionCompleted",
    "ToolExecutionStarted",
    "ToolHalt",
    "ToolResultEncoded",
]


class MessageStarted(msgspec.Struct, frozen=True):
    """The request was sent; nothing of the answer has come yet."""

    tag: ClassVar[Literal["message_started"]] = "message_started"
    message: Message = msgspec.field(default_factory=lambda: Message(role="assistant", content=""))


class TextDelta(msgspec.Struct, frozen=True, gc=False):
    """A fragment of text; never empty. `id` tells text blocks apart where a provider has several."""

    tag: ClassVar[Literal["text_delta"]] = "text_delta"
    delta: str
    id: str | None = None


class TextCompleted(msgspec.Struct, frozen=True, gc=False):
    """The whole text of a block; it replaces what the deltas add up to."""

    tag: ClassVar[Literal["text_completed"]] = "text_completed"
    text: str
    id: str | None = None


class ToolCallStarted(msgspec.Struct, frozen=True, gc=False):
    """The model begins to write a call."""

    tag: ClassVar[Literal["tool_call_started"]] = "tool_call_started"
    id: str
    name: str


class ToolCallDelta(msgspec.Struct, frozen=True, gc=False):
    """A fragment of a call's JSON arguments; never empty."""

    tag: ClassVar[Literal["tool_call_delta"]] = "tool_call_delta"
    id: str
    arguments_delta: str


class ToolCallCompleted(msgspec.Struct, frozen=True):
    """A call is complete. If `raw_arguments`, the text that the model wrote, is not a JSON object, `arguments` is `{}`
    and `metadata["arguments_error"]` says why: `read_arguments` gives both.
    """

    tag: ClassVar[Literal["tool_call_completed"]] = "tool_call_completed"
    id: str
    name: str
    arguments: dict[str, Any]
    raw_arguments: str = ""
    metadata: dict[str, Any] = {}


class MessageCompleted(msgspec.Struct, frozen=True):
    """The provider's answer is complete. `metadata` may carry `usage`, `id`, `model` and `raw_finish_reason`."""

    tag: ClassVar[Literal["message_completed"]] = "message_completed"
    message: Message
    finish_reason: FinishReason | None = None
    metadata: dict[str, Any] = {}


class RawChunk(msgspec.Struct, frozen=True):
    """Provider data that has no event of its own; the payload `("usage", {…})` carries `Usage` fields."""

    tag: ClassVar[Literal["raw_chunk"]] = "raw_chunk"
    payload: Any


class ErrorEvent(msgspec.Struct, frozen=True):
    """The stream failed; `error` is an `AdapterError`, a `StreamError` or another error of this library."""

    tag: ClassVar[Literal["error"]] = "error"
    error: Any


class ToolExecutionStarted(msgspec.Struct, frozen=True):
    """A tool's handler starts now."""

    tag: ClassVar[Literal["tool_execution_started"]] = "tool_execution_started"
    id: str
    name: str
    arguments: dict[str, Any]


class ToolExecutionCompleted(msgspec.Struct, frozen=True):
    """A tool's handler ended; `result` is `Ok`, `Err`, `AskUser` or `Halt`."""

    tag: ClassVar[Literal["tool_execution_completed"]] = "tool_execution_completed"
    id: str
    name: str
    result: HandlerResult


class ToolResultEncoded(msgspec.Struct, frozen=True, gc=False):
    """The text that answers a call, as the model gets it."""

    tag: ClassVar[Literal["tool_result_encoded"]] = "tool_result_encoded"
    id: str
    content: str


class AskUserRequested(msgspec.Struct, frozen=True):
    """A tool needs a person; the chat halts after this step."""

    tag: ClassVar[Literal["ask_user_requested"]] = "ask_user_requested"
    tool_call_id: str
    tool_name: str
    question: str
    opts: dict[str, Any] = {}


class ToolHalt(msgspec.Struct, frozen=True):
    """A tool ended the loop, or failed under `on_tool_error="halt"` (`reason` is then `tool_error`)."""

    tag: ClassVar[Literal["tool_halt"]] = "tool_halt"
    tool_call_id: str
    reason: str
    result: Any = None
    content: str | None = None


class StepCompleted(msgspec.Struct, frozen=True):
    """A step is over: the response, the thread with every tool result, and the calls that are left to the caller."""

    tag: ClassVar[Literal["step_completed"]] = "step_completed"
    response: Response
    thread: Thread
    mode: Literal["auto", "manual"] = "auto"
    manual_tool_calls: list[ToolCall] = []


class ChatCompleted(msgspec.Struct, frozen=True):
    """The chat is over. Always the last event, exactly once."""

    tag: ClassVar[Literal["chat_completed"]] = "chat_completed"
    result: ChatResult


Event = (
    MessageStarted
    | TextDelta
    | TextCompleted
    | ToolCallStarted
    | ToolCallDelta
    | ToolCallCompleted
    | MessageCompleted
    | RawChunk
    | ErrorEvent
    | ToolExecutionStarted
    | ToolExecutionCompleted
    | ToolResultEncoded
    | AskUserRequested
    | ToolHalt
    | StepCompleted
    | ChatCompleted
)
EVENTS: tuple[type[Any], ...] = Event.__args__
TAGS: tuple[str, ...] = tuple(event.tag for event in EVENTS)
