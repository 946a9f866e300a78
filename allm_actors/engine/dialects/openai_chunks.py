r"""OpenAI's chat completion chunks to events.

Rule of this file: total. No bytes make the decoder raise; what it cannot read is one `ErrorEvent`, and
nothing follows that. An answer counts as whole when its `finish_reason` or `[DONE]` was seen, and only then
is a tool call complete.

    on the wire                                    events
    delta.content                                  TextDelta
    delta.reasoning_content, delta.reasoning       RawChunk(("thinking_delta", {"index": 0, "delta": …}))
    delta.tool_calls, once id and name are known   ToolCallStarted, then ToolCallDelta per fragment
    delta.refusal                                  kept; the finish becomes content_filter
    [DONE], or the end after a finish_reason       RawChunk(("usage", …)), ToolCallCompleted per call, TextCompleted,
                                                   MessageCompleted
    an error object, finish_reason content_filter  RawChunk(("usage", …)) if it came, ErrorEvent
    the end before a finish_reason                 ErrorEvent(network_error), metadata partial

Chunks are decoded into typed structs, and only a chunk that does not fit them is read leniently, field by
field.

Source: https://platform.openai.com/docs/api-reference/chat-streaming, and recorded streams of eight
providers.
"""

from __future__ import annotations

from typing import Any

import msgspec

from allm_actors.data import (
    AdapterError,
    AllmError,
    ErrorEvent,
    Event,
    FinishReason,
    Message,
    MessageCompleted,
    RawChunk,
    StreamError,
    TextCompleted,
    TextDelta,
    ToolCall,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from allm_actors.engine.arguments import read_arguments
from allm_actors.engine.catalog import Provider
from allm_actors.engine.dialects.failures import wire_error
from allm_actors.engine.dialects.openai_wire import (
    UNREADABLE,
    Call,
    Choice,
    Chunk,
    Function,
    decode,
    read_leniently,
    text_of,
    usage_fields,
)
from allm_actors.engine.sse import SseDecoder

__all__ = ["Decoder"]


_FINISHES: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "model_length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
_BROKEN_FINISHES = ("error", "insufficient_system_resource")


class _Slot:
    """A tool call while it arrives."""

    __slots__ = ("fragments", "id", "name", "started", "wire_id")

    def __init__(self) -> None:
        self.wire_id: str | None = None
        self.id: str | None = None  # the wire's, unless another call has it
        self.name: str | None = None
        self.fragments: list[str] = []
        self.started = False


class Decoder:
    """One response's decoder."""

    def __init__(self, row: Provider) -> None:
        self._row = row
        self._sse = SseDecoder()
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._slots: list[_Slot] = []
        self._by_index: dict[int, _Slot] = {}
        self._finish: str | None = None
        self._usage: dict[str, Any] | None = None
        self._id: str | None = None
        self._model: str | None = None
        self.done = False

    def feed(self, chunk: bytes) -> list[Event]:
        """What `chunk` completes."""
        events: list[Event] = []
        for item in self._sse.feed(chunk) if not self.done else ():
            if not self.done:
                self._on_data(item.data, events)
        if self._sse.overflowed and not self.done:
            limit = self._sse.max_event_bytes
            self._malformed(events, f"an event of {self._row.label}'s stream is larger than {limit} bytes")
        return events

    def end(self) -> list[Event]:
        """What the end of the body completes: the answer, when its finish was seen, or an error."""
        events: list[Event] = []
        if not self.done:
            if self._finish is None:
                self._fail(events, self._truncated())
            else:
                self._complete(events)
        return events

    def body(self, body: bytes) -> list[Event]:
        """The events of an answer that came whole, as one JSON object."""
        events: list[Event] = []
        chunk = read_leniently(body)
        if chunk is None or (not chunk.choices and chunk.error is None):
            why = f"{self._row.label} answered with JSON that is neither a chat completion nor an error"
            self._fail(events, AdapterError("malformed_response", provider=self._row.name, message=why))
            return events
        self._on_chunk(chunk, events)
        if not self.done:
            self._complete(events)
        return events

    def _on_data(self, data: bytes, events: list[Event]) -> None:
        try:
            chunk: Chunk | None = decode(data)
        except UNREADABLE:
            word = data.strip()
            if not word:
                return
            if word == b"[DONE]":
                self._complete(events)
                return
            chunk = read_leniently(data)
        if chunk is None:
            self._malformed(events, f"an event of {self._row.label}'s stream is not a JSON object")
        else:
            self._on_chunk(chunk, events)

    def _on_chunk(self, chunk: Chunk, events: list[Event]) -> None:
        if not self._id:  # the first chunk of some servers has none
            self._id = chunk.id
        if not self._model:
            self._model = chunk.model
        choices = chunk.choices
        if choices:
            for choice in choices:
                if not choice.index:  # one answer is read: asking for more is the request's own doing
                    self._on_choice(choice, events)
        if chunk.usage is not None:
            self._usage = chunk.usage
        groq = chunk.x_groq
        if groq is not None:
            self._usage = self._usage or groq.usage
        error = chunk.error or (groq.error if groq is not None else None)
        if error:
            self._fail(events, self._reported(error))

    def _on_choice(self, choice: Choice, events: list[Event]) -> None:
        delta = choice.delta or choice.message
        if choice.finish_reason is not None:
            self._finish = choice.finish_reason
        if delta is None:
            return
        thought = delta.reasoning_content or delta.reasoning
        if thought:
            self._think(thought, events)
        content = delta.content
        if content:
            if isinstance(content, str):
                self._text.append(content)
                events.append(TextDelta(content))
            else:
                self._on_parts(content, events)
        if delta.tool_calls:
            for fragment in delta.tool_calls:
                self._on_call(fragment, events)
        if delta.refusal:
            self._refusal.append(delta.refusal)

    def _on_parts(self, parts: list[Any], events: list[Event]) -> None:
        for part in parts:
            if not isinstance(part, dict):
                continue
            text, thoughts = part.get("text"), part.get("thinking")
            if isinstance(text, str) and text:
                self._text.append(text)
                events.append(TextDelta(text))
            if isinstance(thoughts, str):
                self._think(thoughts, events)
            elif isinstance(thoughts, list):
                for thought in thoughts:
                    self._think(text_of(thought.get("text")) if isinstance(thought, dict) else None, events)

    def _think(self, thought: str | None, events: list[Event]) -> None:
        if thought:
            self._reasoning.append(thought)
            events.append(RawChunk(("thinking_delta", {"index": 0, "delta": thought})))

    def _on_call(self, fragment: Call, events: list[Event]) -> None:
        function = fragment.function or Function()
        slot = self._slot(fragment, function)
        if slot.id is None and fragment.id:
            slot.wire_id = fragment.id
            slot.id = self._unique(fragment.id)
        if slot.name is None and function.name:
            slot.name = function.name
        arguments = function.arguments
        if arguments is not None and not isinstance(arguments, str):
            arguments = msgspec.json.encode(arguments).decode()
        if arguments:
            slot.fragments.append(arguments)
        if slot.started:
            if arguments and slot.id is not None:
                events.append(ToolCallDelta(slot.id, arguments))
        elif slot.id is not None and slot.name is not None:
            self._start(slot, slot.id, slot.name, events)

    def _slot(self, fragment: Call, function: Function) -> _Slot:
        """The call a fragment belongs to. A new id with a name is a new call, whatever its index says."""
        index = fragment.index
        slot = self._by_index.get(index) if index is not None else (self._slots[-1] if self._slots else None)
        if slot is None or (fragment.id and slot.wire_id and function.name and fragment.id != slot.wire_id):
            slot = _Slot()
            self._slots.append(slot)
        if index is not None:
            self._by_index[index] = slot
        return slot

    def _unique(self, call_id: str) -> str:
        taken = {slot.id for slot in self._slots}
        return call_id if call_id not in taken else f"{call_id}_{len(self._slots)}"

    def _start(self, slot: _Slot, call_id: str, name: str, events: list[Event]) -> None:
        slot.started = True
        events.append(ToolCallStarted(call_id, name))
        buffered = "".join(slot.fragments)
        if buffered:
            events.append(ToolCallDelta(call_id, buffered))

    def _complete(self, events: list[Event]) -> None:
        if self._finish == "content_filter":
            why = f"{self._row.label} stopped the answer: its content filter was triggered"
            self._fail(events, AdapterError("content_filter", provider=self._row.name, message=why))
        elif self._finish in _BROKEN_FINISHES:
            why = f"{self._row.label} broke the answer off (finish_reason {self._finish!r}). Try again later."
            self._fail(events, self._partial("provider_unavailable", why))
        elif any(slot.name is None for slot in self._slots):
            why = f"{self._row.label} sent a tool call without a name"
            self._fail(events, AdapterError("malformed_response", provider=self._row.name, message=why))
        else:
            self._answer(events)

    def _answer(self, events: list[Event]) -> None:
        self.done = True
        finish, raw_finish = self._finish_reason()
        self._report_usage(events)
        calls = [self._call(slot, events, cut_off=finish == "length") for slot in self._slots]
        text = "".join(self._text)
        if text:
            events.append(TextCompleted(text))
        message = Message(role="assistant", content=text, metadata={"tool_calls": calls} if calls else {})
        metadata = {
            "id": self._id or None,
            "model": self._model or None,
            "raw_finish_reason": raw_finish,
            "usage": Usage(**usage_fields(self._usage)) if self._usage else None,
            "refusal": "".join(self._refusal) or None,
            "reasoning": {"text": "".join(self._reasoning)} if self._reasoning else None,
        }
        kept = {name: value for name, value in metadata.items() if value is not None}
        events.append(MessageCompleted(message, finish, kept))

    def _finish_reason(self) -> tuple[FinishReason | None, str | None]:
        if self._refusal:
            return "content_filter", "refusal"
        if self._finish is None:
            return None, None
        finish = _FINISHES.get(self._finish, "other")
        # A forced tool choice finishes with `stop`, and so do some servers always; the calls are there all the same.
        return "tool_calls" if finish == "stop" and self._slots else finish, self._finish

    def _call(self, slot: _Slot, events: list[Event], *, cut_off: bool) -> ToolCall:
        name = slot.name or ""
        if slot.id is None:
            slot.id = self._unique(f"call_{self._id or 'unnamed'}_{self._slots.index(slot)}")
        if not slot.started:
            self._start(slot, slot.id, name, events)
        raw = "".join(slot.fragments)
        arguments, metadata = read_arguments(raw, cut_off=cut_off)
        events.append(ToolCallCompleted(slot.id, name, arguments, raw, metadata))
        return ToolCall(id=slot.id, name=name, arguments=arguments, raw_arguments=raw, metadata=metadata)

    def _report_usage(self, events: list[Event]) -> None:
        if self._usage:
            events.append(RawChunk(("usage", usage_fields(self._usage))))

    def _malformed(self, events: list[Event], why: str) -> None:
        self._fail(events, StreamError("malformed_event", provider=self._row.name, message=why))

    def _truncated(self) -> AdapterError:
        return self._partial(
            "network_error", f"{self._row.label}'s stream ended before the answer was complete. Try again."
        )

    def _partial(self, reason: str, message: str) -> AdapterError:
        return AdapterError(reason, provider=self._row.name, message=message, metadata={"partial": True})

    def _reported(self, error: Any) -> AdapterError:
        return wire_error(error if isinstance(error, dict) else {"message": text_of(error)}, self._row)

    def _fail(self, events: list[Event], error: AllmError) -> None:
        self.done = True
        self._report_usage(events)
        events.append(ErrorEvent(error))
