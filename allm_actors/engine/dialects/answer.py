"""One answer while it arrives: what every dialect collects of it, and the events that report it.

Rule of this file: total, and the same for every wire format. An answer ends once, with `complete` or with
`fail`, and no events follow. A tool call is complete only when the answer is. The ids of one conversation's calls
are unique: providers number theirs anew in each answer, or give none, and an approval, a late result and an
idempotency key go by the id alone.

    say(text)                    TextDelta
    begin_thinking()             RawChunk(("thinking_start", {"index": …})), once for each index
    think(text)                  the same, then RawChunk(("thinking_delta", {"index": …, "delta": …}))
    pass_on(name, data)          RawChunk(("unknown_event", name, data))
    a call's id and name         ToolCallStarted, once both are known; then ToolCallDelta per fragment
    count()                      RawChunk(("usage", …)), before the end, for a reader who leaves early
    complete(finish)             RawChunk(("usage", …)), ToolCallCompleted per call, TextCompleted, MessageCompleted
    fail(error)                  RawChunk(("usage", …)) if it came, ErrorEvent with the answer's id and model, and
                                 `partial` if part of the answer came, or the stream just ended

Usage that has not changed is not reported again.

What a provider wants back with the next request (signed thoughts, for example) is `provider_state`, by
dialect. It stays in the assistant's message in the thread, with its provider, its model and a digest of the
message, see `histories`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

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
    read_arguments,
)
from allm_actors.engine.catalog import Provider
from allm_actors.engine.dialects.histories import MADE_BY, MADE_OF, another_id, made_of

__all__ = ["Answer", "PartialCall", "UsageFields", "provider_state"]

UsageFields = Callable[[Mapping[str, Any]], dict[str, Any]]


class PartialCall:
    """A tool call while it arrives. `wire_id` is the id the wire used; `id` is ours, unique in the conversation."""

    __slots__ = ("fragments", "id", "metadata", "name", "started", "wire_id")

    def __init__(self) -> None:
        self.wire_id: str | None = None
        self.id: str | None = None
        self.name: str | None = None
        self.fragments: list[str] = []
        self.metadata: dict[str, Any] = {}
        self.started = False

    @property
    def new_id(self) -> str | None:
        """Our id, if the wire used another: what goes back to the provider has to be changed to it."""
        return self.id if self.id != self.wire_id else None

    @property
    def is_whole(self) -> bool:
        """Whether its arguments so far are a complete JSON object."""
        raw = "".join(self.fragments)
        return bool(raw.strip()) and not read_arguments(raw)[1]


class Answer:
    """What has arrived of one answer. `usage_fields` turns the wire's usage into the fields of a `Usage`;
    None, and an empty `extra`, is what the wire does not say. `conversation` is what came before the answer.
    """

    __slots__ = (
        "_row",
        "_taken",
        "_thinking",
        "_usage_fields",
        "calls",
        "conversation",
        "counted",
        "done",
        "id",
        "metadata",
        "model",
        "provider_state",
        "reasoning",
        "reasoning_about",
        "refusal",
        "text",
        "usage",
    )

    def __init__(self, row: Provider, usage_fields: UsageFields) -> None:
        self._row = row
        self._usage_fields = usage_fields
        self._thinking: list[int] = []
        self._taken: set[str] | None = None  # looked up for the first call: most answers have none
        self.conversation: Iterable[Message] = ()
        self.id: str | None = None
        self.model: str | None = None
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.reasoning_about: dict[str, Any] = {}
        self.refusal: list[str] = []
        self.calls: list[PartialCall] = []
        self.usage: dict[str, Any] | None = None
        self.counted: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.provider_state: dict[str, Any] = {}
        self.done = False

    # --- while it arrives ---------------------------------------------------------------------------------------------

    def say(self, text: str, events: list[Event]) -> None:
        """More text."""
        if text:
            self.text.append(text)
            events.append(TextDelta(text))

    def begin_thinking(self, events: list[Event], index: int = 0) -> None:
        """The model begins to think; its thoughts may or may not be sent."""
        if index not in self._thinking:
            self._thinking.append(index)
            events.append(RawChunk(("thinking_start", {"index": index})))

    def think(self, thought: str | None, events: list[Event], index: int = 0) -> None:
        """More of the model's thoughts."""
        if thought:
            self.begin_thinking(events, index)
            self.reasoning.append(thought)
            events.append(RawChunk(("thinking_delta", {"index": index, "delta": thought})))

    def pass_on(self, name: str, data: Mapping[str, Any], events: list[Event]) -> None:
        """Pass on an event that the dialect does not know, such as one added to the wire format later."""
        events.append(RawChunk(("unknown_event", name, data)))

    def call(self) -> PartialCall:
        """Begin another tool call."""
        call = PartialCall()
        self.calls.append(call)
        return call

    def name(self, call: PartialCall, events: list[Event], *, id: str | None, name: str | None) -> None:
        """Give a call its id and name, as far as the wire has sent them; the first value of each stays."""
        if call.id is None and id:
            call.wire_id = id
            call.id = self._unique(id)
        if call.name is None and name:
            call.name = name
        if not call.started and call.id is not None and call.name is not None:
            self._start(call, call.id, call.name, events)

    def extend(self, call: PartialCall, fragment: str | None, events: list[Event]) -> None:
        """More of a call's arguments, as JSON text."""
        if fragment:
            call.fragments.append(fragment)
            if call.started and call.id is not None:
                events.append(ToolCallDelta(call.id, fragment))

    def count(self, events: list[Event]) -> None:
        """Report the usage so far, if it is known and has changed."""
        usage = self._used()
        if usage and usage != self.counted:
            self.counted = usage
            events.append(RawChunk(("usage", usage)))

    # --- the end ------------------------------------------------------------------------------------------------------

    def complete(self, finish: FinishReason | None, raw_finish: str | None, events: list[Event]) -> None:
        """The answer is complete. With a refusal it ends as `content_filter`; with calls, `stop` means `tool_calls`."""
        if any(call.name is None for call in self.calls):
            why = f"{self._row.label} sent a tool call without a name"
            self.fail(AdapterError("malformed_response", provider=self._row.name, message=why), events)
            return
        self.done = True
        if self.refusal:
            finish, raw_finish = "content_filter", "refusal"
        elif finish == "stop" and self.calls:
            # A forced tool choice finishes with `stop`, and some servers always do, even with calls.
            finish = "tool_calls"
        self.count(events)
        cut_off = finish == "length"
        calls = [self._completed(at, call, events, cut_off=cut_off) for at, call in enumerate(self.calls)]
        text = "".join(self.text)
        if text:
            events.append(TextCompleted(text))
        said: dict[str, Any] = {"tool_calls": calls} if calls else {}
        if self.provider_state:
            made = {MADE_BY: [self._row.name, self.model], MADE_OF: made_of(text, calls)}
            said["provider_state"] = self.provider_state | made
        message = Message(role="assistant", content=text, metadata=said)
        events.append(MessageCompleted(message, finish, self._metadata(raw_finish)))

    def fail(self, error: AllmError, events: list[Event], raw_finish: str | None = None) -> None:
        """End the answer with this error; its metadata gets the answer's id and model, and whether part of it came."""
        self.done = True
        self.count(events)
        known = {"response_id": self.id, "model": self.model, "raw_finish_reason": raw_finish}
        begun = {"partial": True} if self.text or self.calls or self.refusal or self._thinking else {}
        told = {name: value for name, value in known.items() if value}
        error.metadata = {**begun, **error.metadata, **told}
        events.append(ErrorEvent(error))

    def malformed(self, what: str, events: list[Event]) -> None:
        """Fail because something unreadable came; `what` names it, as in "an event of the stream is no JSON object"."""
        message = f"{self._row.label}: {what}"
        self.fail(StreamError("malformed_event", provider=self._row.name, message=message), events)

    def unreadable(self, what: str, events: list[Event]) -> None:
        """Fail because a whole body is not a valid answer; `what` says what it is."""
        message = f"{self._row.label} answered with {what}"
        self.fail(AdapterError("malformed_response", provider=self._row.name, message=message), events)

    def filtered(
        self,
        events: list[Event],
        why: str = "its content filter was triggered",
        raw_finish: str | None = None,
        **metadata: str,
    ) -> None:
        """Fail because the provider's content policy ended the answer."""
        message = f"{self._row.label} stopped the answer: {why}"
        error = AdapterError("content_filter", provider=self._row.name, message=message, metadata=metadata)
        self.fail(error, events, raw_finish)

    def broken_off(self, events: list[Event], why: str, raw_finish: str) -> None:
        """Fail because the provider itself gave up."""
        message = f"{self._row.label} {why}. Try again later."
        error = AdapterError("provider_unavailable", provider=self._row.name, message=message)
        self.fail(error, events, raw_finish)

    def truncated(self, events: list[Event]) -> None:
        """Fail because the stream ended before the answer was complete; marked `partial`, even if nothing came."""
        message = f"{self._row.label}'s stream ended before the answer was complete. Try again."
        partial = {"partial": True}
        self.fail(
            AdapterError("network_error", provider=self._row.name, message=message, metadata=partial), events
        )

    def _metadata(self, raw_finish: str | None) -> dict[str, Any]:
        thought = {"text": "".join(self.reasoning)} if self.reasoning else {}
        metadata = {
            "id": self.id or None,
            "model": self.model or None,
            "raw_finish_reason": raw_finish,
            "usage": Usage(**self._used()) if self.usage else None,
            "refusal": "".join(self.refusal) or None,
            "reasoning": thought | self.reasoning_about or None,
        }
        return self.metadata | {name: value for name, value in metadata.items() if value is not None}

    def _used(self) -> dict[str, Any]:
        fields = self._usage_fields(self.usage) if self.usage else {}
        return {name: value for name, value in fields.items() if value is not None and value != {}}

    def _unique(self, call_id: str) -> str:
        """The id, with a number appended if the conversation, or this answer, has it already."""
        if self._taken is None:
            self._taken = set(_ids_in(self.conversation))
        unique, number = call_id, len(self.calls)
        while unique in self._taken:
            unique, number = another_id(call_id, number, self._row), number + 1
        self._taken.add(unique)
        return unique

    def _start(self, call: PartialCall, call_id: str, name: str, events: list[Event]) -> None:
        call.started = True
        events.append(ToolCallStarted(call_id, name))
        buffered = "".join(call.fragments)
        if buffered:
            events.append(ToolCallDelta(call_id, buffered))

    def _completed(self, at: int, call: PartialCall, events: list[Event], *, cut_off: bool) -> ToolCall:
        name = call.name or ""
        if call.id is None:
            call.id = self._unique(f"call_{self.id or 'unnamed'}_{at}")
        if not call.started:
            self._start(call, call.id, name, events)
        raw = "".join(call.fragments)
        arguments, problem = read_arguments(raw, cut_off=cut_off)
        metadata = {**call.metadata, **problem}
        events.append(ToolCallCompleted(call.id, name, arguments, raw, metadata))
        return ToolCall(id=call.id, name=name, arguments=arguments, raw_arguments=raw, metadata=metadata)


def _ids_in(conversation: Iterable[Message]) -> Iterable[str]:
    for message in conversation:
        yield from (call.id for call in message.tool_calls)
        if message.tool_call_id is not None:
            yield message.tool_call_id


def provider_state(message: Message, dialect: str) -> Any:
    """What `dialect` kept in an assistant's message to send back with it, or None."""
    state = message.metadata.get("provider_state")
    return state.get(dialect) if isinstance(state, Mapping) else None
