"""One answer of a model while it is being received.

Rule of this file: deltas are collected and joined only when text is read, because there are far more deltas
than reads.

    event                   what it changes
    --------------------    --------------------------------------------------------------------------------------
    TextDelta               its block grows
    TextCompleted           its block is replaced; without an id, all of the text is
    ToolCallStarted         a call is known by its id, in the order of first sight
    ToolCallDelta           the raw arguments of the call grow; they are never parsed from fragments
    ToolCallCompleted       the call is replaced by the complete one and keeps its place; arguments that are nested too
                            deeply to be stored, or that were not read from a text that is no JSON object, become
                            `{}`, and its metadata says so
    MessageCompleted        message, finish reason, usage, id, model and raw finish reason; the message's text is the
                            answer's if no other event has any
    RawChunk("usage", …)    usage, field by field: later values replace earlier ones, missing ones stay
    ErrorEvent              the first error stays, and the finish reason is `error` whatever comes later; its metadata
                            may have the answer's response_id, model and raw_finish_reason
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

import msgspec

from allm_actors.data import (
    AllmError,
    ErrorEvent,
    FinishReason,
    Message,
    MessageCompleted,
    RawChunk,
    Response,
    StreamError,
    TextCompleted,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
    read_arguments,
)
from allm_actors.data.depth import ARGUMENTS_TOO_DEEP, DEEPEST, is_deeper
from allm_actors.data.predicates import as_number

from .tool_errors import describe

__all__ = ["Receiving", "error_in", "text_of"]

_USAGE_FIELDS: Final = frozenset(Usage.__struct_fields__)
_CARRIED: Final = ("id", "model", "request_id", "raw_finish_reason")

# Fields of a failed answer, and their names in its error's metadata.
_TOLD: Final = {"id": "response_id", "model": "model", "raw_finish_reason": "raw_finish_reason"}


class Receiving:
    """The events of one answer, folded; `error` and `metadata` carry over from an earlier answer of the same stream.

    Thread: not safe to share; one reader owns it.
    """

    __slots__ = (
        "_blocks",
        "_calls",
        "_carried",
        "_finish_reason",
        "_message",
        "_usage",
        "error",
        "metadata",
        "repeated",
    )

    def __init__(self, error: Any = None, metadata: dict[str, Any] | None = None) -> None:
        self.error = error
        self.metadata = metadata if metadata is not None else {}
        self.repeated: str | None = None  # an id that two different calls have
        self._blocks: dict[str | None, list[str]] = {}
        self._calls: dict[str, _Call] = {}
        self._carried: dict[str, Any] = {}
        self._finish_reason: FinishReason | None = None
        self._message: Message | None = None
        self._usage: dict[str, Any] = {}

    @property
    def finish_reason(self) -> FinishReason | None:
        """How the answer ended, or None so far."""
        return "error" if self.error is not None else self._finish_reason

    @property
    def begun(self) -> bool:
        """Whether anything of the answer has come."""
        return (
            bool(self._blocks or self._calls) or self._finish_reason is not None or self._message is not None
        )

    @property
    def unfinished_calls(self) -> frozenset[str]:
        """The ids of the calls that began and were never completed."""
        return frozenset(call.id for call in self._calls.values() if call.complete is None)

    def response(self) -> Response:
        """The answer so far."""
        failed = {} if self.error is None else {"error": self.error}
        blocks = [_joined(block) for block in self._blocks.values()]
        return Response(
            message=self._message,
            output_text="".join(blocks) if blocks else text_of(self._message),
            tool_calls=[call.value() for call in self._calls.values()],
            finish_reason=self.finish_reason,
            usage=Usage(**self._usage),
            metadata=self.metadata | failed,
            **self._carried,
        )

    # --- one rule for each event ----------------------------------------------------------------------------------

    def _text_delta(self, event: TextDelta) -> None:
        block = self._blocks.get(event.id)
        if block is None:
            block = self._blocks[event.id] = []
        block.append(event.delta)

    def _text_completed(self, event: TextCompleted) -> None:
        text: object = event.text
        if not isinstance(text, str):
            return
        if event.id is None:
            self._blocks = {None: [text]}
        else:
            self._blocks[event.id] = [text]
            self._blocks.pop(None, None)

    def _tool_call_started(self, event: ToolCallStarted) -> None:
        if event.id not in self._calls:
            self._calls[event.id] = _Call(event.id, event.name)

    def _tool_call_delta(self, event: ToolCallDelta) -> None:
        call = self._calls.get(event.id)
        if call is None:
            call = self._calls[event.id] = _Call(event.id, "")
        call.fragments.append(event.arguments_delta)

    def _tool_call_completed(self, event: ToolCallCompleted) -> None:
        call = self._calls.get(event.id)
        if call is None:
            call = self._calls[event.id] = _Call(event.id, event.name)
        name: object = event.name
        metadata: object = event.metadata
        complete = ToolCall(
            id=event.id,
            name=name if isinstance(name, str) else str(name),
            arguments=event.arguments,
            raw_arguments=event.raw_arguments,
            metadata=metadata if isinstance(metadata, dict) else {},
        )
        if problem := _problem(complete):
            said = {**complete.metadata, **problem}
            complete = msgspec.structs.replace(complete, arguments={}, metadata=said)
        if call.complete is not None and call.complete != complete:
            self.repeated = event.id
        call.complete = complete

    def _message_completed(self, event: MessageCompleted) -> None:
        metadata = dict(event.metadata)
        self._merge_usage(metadata.pop("usage", None))
        for name in _CARRIED:
            if name in metadata:
                self._carried[name] = metadata.pop(name)
        message: object = event.message
        self._message = message if isinstance(message, Message) else None
        reason: object = event.finish_reason
        if isinstance(reason, str):
            self._finish_reason = event.finish_reason
        self.metadata = self.metadata | metadata

    def _raw_chunk(self, event: RawChunk) -> None:
        match event.payload:
            case ("usage", usage):
                self._merge_usage(usage)
            case _:
                pass

    def _error_event(self, event: ErrorEvent) -> None:
        if self.error is None:
            self.error = error_in(event)
            about: object = self.error.metadata
            for name, key in _TOLD.items():
                told = about.get(key) if isinstance(about, Mapping) else None
                if isinstance(told, str):
                    self._carried.setdefault(name, told)
        self._finish_reason = "error"

    def _merge_usage(self, usage: object) -> None:
        if isinstance(usage, Usage):
            usage = msgspec.structs.asdict(usage)
        if not isinstance(usage, Mapping):
            return
        for field, value in usage.items():
            if field in ("tool_usage", "extra"):
                self._usage[field] = {**self._usage.get(field, {}), **value}
            elif field not in _USAGE_FIELDS:
                self._usage["extra"] = {**self._usage.get("extra", {}), field: value}
            elif (number := as_number(value)) is not None:
                self._usage[field] = number

    rules: ClassVar[Mapping[type, Callable[[Receiving, Any], None]]] = {
        TextDelta: _text_delta,
        TextCompleted: _text_completed,
        ToolCallStarted: _tool_call_started,
        ToolCallDelta: _tool_call_delta,
        ToolCallCompleted: _tool_call_completed,
        MessageCompleted: _message_completed,
        RawChunk: _raw_chunk,
        ErrorEvent: _error_event,
    }
    """By event class; looked up by whoever applies events, once per event."""


class _Call(msgspec.Struct):
    """A call while it is being written."""

    id: str
    name: str
    fragments: list[str] = []
    complete: ToolCall | None = None

    def value(self) -> ToolCall:
        if self.complete is not None:
            return self.complete
        return ToolCall(id=self.id, name=self.name, arguments={}, raw_arguments=_joined(self.fragments))


def error_in(event: ErrorEvent) -> AllmError:
    """The event's error; if an adapter has put anything else there, a StreamError that quotes it."""
    error: object = event.error
    if isinstance(error, AllmError):
        return error
    if error is None:
        return StreamError("unknown")
    return StreamError("unknown", message=f"the adapter failed: {describe(error)}")


def _problem(call: ToolCall) -> dict[str, Any]:
    """What its metadata must say of its arguments; empty if they are sound, or if it says that they are not."""
    if is_deeper(call.arguments, DEEPEST):
        return {"arguments_error": ARGUMENTS_TOO_DEEP}
    raw: object = call.raw_arguments
    if call.arguments or not raw or not isinstance(raw, str) or "arguments_error" in call.metadata:
        return {}
    return read_arguments(raw)[1]


def text_of(message: object) -> str:
    """All text of a message; "" where there is none."""
    match message:
        case Message(content=str(text)):
            return text
        case Message(content=list(parts)):
            return _joined([part.text for part in parts if isinstance(part, TextPart)])
        case _:
            return ""


def _joined(fragments: list[str]) -> str:
    try:
        return "".join(fragments)
    except TypeError:  # an adapter may have sent fragments that are no text
        texts: list[object] = [*fragments]
        return "".join([text for text in texts if isinstance(text, str)])
