r"""OpenAI's chat completion chunks to events.

Rule of this file: total. No bytes make the decoder raise; what it cannot read is one `ErrorEvent`, and
nothing follows that. An answer counts as whole when its `finish_reason` or `[DONE]` was seen, and only then
is a tool call complete.

    on the wire                                    events
    delta.content                                  TextDelta
    delta.reasoning_content, .reasoning,           RawChunk(("thinking_start", {"index": 0})), once, and
    .reasoning_details                             RawChunk(("thinking_delta", {"index": 0, "delta": …}))
    delta.tool_calls, once id and name are known   ToolCallStarted, then ToolCallDelta per fragment
    delta.refusal                                  kept; the finish becomes content_filter
    [DONE], or the end after a finish_reason       RawChunk(("usage", …)), ToolCallCompleted per call, TextCompleted,
                                                   MessageCompleted
    an error object, content_filter, sensitive     RawChunk(("usage", …)) if it came, ErrorEvent
    the end before a finish_reason                 ErrorEvent(network_error), metadata partial

Chunks are decoded into typed structs, and only a chunk that does not fit them is read leniently, field by
field. Citations and search results are in the response's metadata. If the row says that a server wants the
model's thoughts back, they are `provider_state`.

Source: https://platform.openai.com/docs/api-reference/chat-streaming, and recorded streams of sixteen providers.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any, Final

from allm_actors.data import Event, FinishReason, TextDelta
from allm_actors.data.encoding import json_text
from allm_actors.engine.catalog import Provider
from allm_actors.engine.dialects.answer import PartialCall
from allm_actors.engine.dialects.chat import EventDecoder
from allm_actors.engine.dialects.failures import wire_error
from allm_actors.engine.dialects.lenient import dicts_of, read_leniently, read_object, text_of
from allm_actors.engine.dialects.openai.wire import (
    CHUNK,
    FOUND,
    Call,
    Choice,
    Chunk,
    Delta,
    Function,
    merge_content,
    merge_details,
    usage_fields,
)
from allm_actors.engine.sse import ServerEvent

__all__ = ["STATE", "Decoder"]

STATE: Final = "openai_chat"

_FINISHES: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "model_length": "length",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
# Z.AI's besides OpenAI's. Source: https://docs.z.ai/api-reference/llm/chat-completion,
# https://github.com/anomalyco/opencode/pull/18814.
_FILTERED_FINISHES = ("content_filter", "sensitive")
_BROKEN_FINISHES = ("error", "insufficient_system_resource", "network_error")


class Decoder(EventDecoder[Chunk]):
    """One response's decoder."""

    __slots__ = ("_by_index", "_details", "_finish", "_parts")

    def __init__(self, row: Provider) -> None:
        super().__init__(row, CHUNK, usage_fields)
        self._by_index: dict[int, PartialCall] = {}
        self._details: list[dict[str, Any]] = []
        self._finish: str | None = None
        # The parts that are no text, and how many texts came before each.
        self._parts: list[tuple[dict[str, Any], int]] = []

    def _on_body(self, body: bytes, events: list[Event]) -> None:
        chunk = read_leniently(body, Chunk)
        if chunk is None or (not chunk.choices and chunk.error is None):
            self._answer.unreadable("JSON that is neither a chat completion nor an error", events)
            return
        self._on_event(chunk, ServerEvent(body), events)
        if not self._answer.done:
            self._complete(events)

    def _on_end_of_body(self, events: list[Event]) -> None:
        if self._finish is None:
            self._answer.truncated(events)
        else:
            self._complete(events)

    def _on_end_of_events(self, events: list[Event]) -> None:
        self._complete(events)

    def _on_event(self, wire: Chunk, frame: ServerEvent, events: list[Event]) -> None:
        answer = self._answer
        if frame.event == "error" and not (wire.error or wire.choices):
            # As some gateways report an error.
            answer.fail(wire_error(read_object(frame.data), self._row), events)
            return
        if not answer.id:  # the first chunk of some servers has none
            answer.id = wire.id
        if not answer.model:
            answer.model = wire.model
        choices = wire.choices
        if choices:
            for choice in choices:
                if not choice.index:  # only the first choice is read, whatever was asked for
                    self._on_choice(choice, events)
        if wire.usage:
            answer.usage = wire.usage
        if wire.citations or wire.search_results or wire.images or wire.related_questions:
            answer.metadata |= {name: getattr(wire, name) for name in FOUND if getattr(wire, name)}
        groq = wire.x_groq
        if groq is not None:
            answer.usage = answer.usage or groq.usage
        error = wire.error or (groq.error if groq is not None else None)
        if error:
            answer.fail(wire_error(error, self._row), events)

    def _on_choice(self, choice: Choice, events: list[Event]) -> None:
        delta = choice.delta or choice.message
        if choice.usage:
            self._answer.usage = choice.usage
        if choice.finish_reason:
            self._finish = choice.finish_reason
        if delta is None:
            return
        thought = delta.reasoning_content or delta.reasoning
        if thought:
            self._answer.think(thought, events)
        if delta.reasoning_details or delta.annotations:
            self._on_details(delta, events, told=bool(thought))
        content = delta.content
        if content:
            if isinstance(content, str):
                self._answer.text.append(content)  # as `say` does, without the call: this is the hot path
                events.append(TextDelta(content))
            else:
                self._on_parts(content, events)
        if delta.tool_calls:
            for position, fragment in enumerate(delta.tool_calls):
                if choice.delta is None and fragment.index is None:
                    fragment.index = position  # in an answer that came whole, calls have no index
                self._on_call(fragment, events)
        if delta.refusal:
            self._answer.refusal.append(delta.refusal)

    def _on_details(self, delta: Delta, events: list[Event], *, told: bool) -> None:
        for detail in dicts_of(delta.reasoning_details):
            self._details.append(detail)
            if not told:
                self._answer.think(text_of(detail.get("text")) or text_of(detail.get("summary")), events)
        notes = dicts_of(delta.annotations)
        if notes:
            held = self._answer.metadata.get("citations")
            self._answer.metadata["citations"] = [*(held if isinstance(held, list) else ()), *notes]

    def _on_parts(self, parts: list[Any], events: list[Event]) -> None:
        for part in parts:
            if not isinstance(part, dict):
                continue
            text, thoughts = part.get("text"), part.get("thinking")
            if isinstance(text, str):
                self._answer.say(text, events)
            else:
                self._parts.append((part, len(self._answer.text)))
            if isinstance(thoughts, str):
                self._answer.think(thoughts, events)
            elif isinstance(thoughts, list):
                for thought in thoughts:
                    self._answer.think(
                        text_of(thought.get("text")) if isinstance(thought, dict) else None, events
                    )

    def _on_call(self, fragment: Call, events: list[Event]) -> None:
        function = fragment.function or Function()
        call = self._partial_call(fragment, function)
        arguments = function.arguments
        if arguments is not None and not isinstance(arguments, str):
            arguments = json_text(arguments)
        self._answer.extend(call, arguments, events)
        self._answer.name(call, events, id=fragment.id, name=function.name)

    def _partial_call(self, fragment: Call, function: Function) -> PartialCall:
        """The call a fragment belongs to. A new id with a name is a new call, whatever its index says."""
        index, calls = fragment.index, self._answer.calls
        call = self._by_index.get(index) if index is not None else (calls[-1] if calls else None)
        unnumbered = index is None and not fragment.id
        if call is not None and unnumbered and function.name and (call.is_whole or _differs(call, function)):
            call = None  # another call: the last one is complete, or of another function
        if call is None or (fragment.id and call.wire_id and function.name and fragment.id != call.wire_id):
            call = self._answer.call()
        if index is not None:
            self._by_index[index] = call
        return call

    def _complete(self, events: list[Event]) -> None:
        finish = self._finish
        if finish in _FILTERED_FINISHES:
            self._answer.filtered(events, raw_finish=finish)
        elif finish in _BROKEN_FINISHES:
            self._answer.broken_off(events, f"broke the answer off (finish_reason {finish!r})", finish)
        else:
            known = None if finish is None else _FINISHES.get(finish, "other")
            self._keep_thoughts()
            self._answer.complete(known, finish, events)

    def _keep_thoughts(self) -> None:
        field = self._row.quirks.thoughts_back
        if field == "reasoning_details":
            thoughts: Any = merge_details(self._details)
        elif field == "content":
            thoughts = self._content() if any("thinking" in part for part, _ in self._parts) else None
        else:
            thoughts = "".join(self._answer.reasoning)
        if field is not None and thoughts:
            self._answer.provider_state[STATE] = {field: thoughts}

    def _content(self) -> list[dict[str, Any]]:
        """All parts of the answer, in their order."""
        texts = (({"type": "text", "text": text}, at) for at, text in enumerate(self._answer.text))
        ordered = sorted([*self._parts, *texts], key=itemgetter(1))
        return merge_content(part for part, _ in ordered)


def _differs(call: PartialCall, function: Function) -> bool:
    return call.name is not None and function.name != call.name
