r"""Cohere's stream events to events.

Rule of this file: total. No bytes make the decoder raise; what it cannot read is one `ErrorEvent`, and nothing follows
that. An answer is whole at `message-end`; only then is a tool call complete.

    on the wire                                    events
    message-start                                  the answer's id; this format does not name the model
    content-delta with text                        TextDelta
    content-delta with thinking, tool-plan-delta   RawChunk(("thinking_start", {"index": …})), once each,
                                                   RawChunk(("thinking_delta", {"index": …, "delta": …}))
    tool-call-start, tool-call-delta               ToolCallStarted, ToolCallDelta per fragment
    citation-start                                 metadata citations, in order
    message-end                                    RawChunk(("usage", …)), ToolCallCompleted per call, TextCompleted,
                                                   MessageCompleted; ErrorEvent when it finished with ERROR or TIMEOUT
    an object with only a message                  ErrorEvent
    an event that is none of these                 RawChunk(("unknown_event", name, data))
    the end before message-end                     ErrorEvent(network_error), metadata partial

A tool plan is what the model thinks before it calls, so it is reported as a thought. Both kinds of thought
are kept as `provider_state`, because the provider wants them back, each in its own field.

Source: https://docs.cohere.com/v2/docs/streaming, and recorded streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from allm_actors.data import Event, FinishReason
from allm_actors.engine.catalog import Provider
from allm_actors.engine.dialects.answer import PartialCall
from allm_actors.engine.dialects.chat import EventDecoder
from allm_actors.engine.dialects.failures import wire_error
from allm_actors.engine.dialects.lenient import (
    OBJECTS,
    count_of,
    dict_of,
    dicts_of,
    read_object,
    text_of,
)
from allm_actors.engine.sse import ServerEvent

__all__ = ["STATE", "Decoder", "usage_fields"]

STATE: Final = "cohere"

_FINISHES: dict[str, FinishReason] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
}
_BROKEN_FINISHES = ("ERROR", "TIMEOUT")
_SILENT = ("content-end", "tool-call-end", "citation-end")


class Content:
    """One block of content while it arrives: a text, or a thought."""

    __slots__ = ("kind", "pieces")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.pieces: list[str] = []

    def whole(self) -> dict[str, Any]:
        """The block as it would have come in one piece."""
        return {"type": self.kind, self.kind: "".join(self.pieces)}


class Decoder(EventDecoder[dict[str, Any]]):
    """One response's decoder."""

    __slots__ = ("_calls", "_citations", "_contents", "_plan")

    def __init__(self, row: Provider) -> None:
        super().__init__(row, OBJECTS, usage_fields)
        self._calls: dict[int, PartialCall] = {}
        self._contents: list[Content] = []
        self._citations: list[Any] = []
        self._plan: list[str] = []

    def _on_body(self, body: bytes, events: list[Event]) -> None:
        wire = read_object(body)
        if wire is None or not isinstance(wire.get("message"), dict | str):
            self._answer.unreadable("JSON that is neither a chat message nor an error", events)
            return
        if isinstance(wire["message"], str):
            self._answer.fail(wire_error(wire, self._row), events)
            return
        message = wire["message"]
        self._answer.id = text_of(wire.get("id"))
        for index, content in enumerate(dicts_of(message.get("content"))):
            self._on_content(index, content, events)
        self._on_plan(message, events)
        for index, call in enumerate(dicts_of(message.get("tool_calls"))):
            self._on_call(index, call, events)
        self._citations += dicts_of(message.get("citations"))
        self._on_end(wire, events)

    # --- events -------------------------------------------------------------------------------------------------------

    def _on_event(self, wire: dict[str, Any], _frame: ServerEvent, events: list[Event]) -> None:
        delta = dict_of(wire.get("delta"))
        message = dict_of(delta.get("message"))
        index = count_of(wire.get("index")) or 0
        match wire.get("type"):
            case "content-delta" | "content-start":
                self._on_content(index, dict_of(message.get("content")), events)
            case "tool-call-delta":
                self._on_arguments(index, dict_of(message.get("tool_calls")), events)
            case "tool-plan-delta":
                self._on_plan(message, events)
            case "tool-call-start":
                self._on_call(index, dict_of(message.get("tool_calls")), events)
            case "citation-start":
                cited = message.get("citations")
                self._citations += dicts_of(cited if isinstance(cited, list) else [cited])
            case "message-start":
                self._answer.id = self._answer.id or text_of(wire.get("id"))
            case "message-end":
                self._on_end(delta, events)
            case None | "error" if text_of(wire.get("message")):
                self._answer.fail(wire_error(wire, self._row), events)
            case str(kind) if kind not in _SILENT:
                self._answer.pass_on(kind, wire, events)
            case _:
                pass

    def _on_content(self, index: int, wire: Mapping[str, Any], events: list[Event]) -> None:
        text, thought = text_of(wire.get("text")), text_of(wire.get("thinking"))
        if thought:
            self._content("thinking").pieces.append(thought)
            self._answer.think(thought, events, index)
        if text:
            self._content("text").pieces.append(text)
            self._answer.say(text, events)

    def _content(self, kind: str) -> Content:
        if not self._contents or self._contents[-1].kind != kind:
            self._contents.append(Content(kind))
        return self._contents[-1]

    def _on_plan(self, message: Mapping[str, Any], events: list[Event]) -> None:
        plan = text_of(message.get("tool_plan"))
        if plan:
            self._plan.append(plan)
            self._answer.think(plan, events)

    def _on_call(self, index: int, wire: Mapping[str, Any], events: list[Event]) -> None:
        call = self._calls[index] = self._answer.call()
        name = text_of(dict_of(wire.get("function")).get("name"))
        self._answer.name(call, events, id=text_of(wire.get("id")), name=name)
        self._on_arguments(index, wire, events)

    def _on_arguments(self, index: int, wire: Mapping[str, Any], events: list[Event]) -> None:
        call = self._calls.get(index)
        if call is not None:
            fragment = text_of(dict_of(wire.get("function")).get("arguments"))
            self._answer.extend(call, fragment, events)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _on_end(self, wire: Mapping[str, Any], events: list[Event]) -> None:
        answer = self._answer
        answer.usage = dict_of(wire.get("usage")) or None
        finish = text_of(wire.get("finish_reason"))
        error = text_of(wire.get("error"))
        if error or finish in _BROKEN_FINISHES:
            why = error or "the answer was not finished"
            answer.fail(wire_error({"message": why, "code": finish}, self._row), events, finish)
            return
        if self._citations:
            answer.metadata["citations"] = self._citations
        kept: dict[str, Any] = {}
        if any(content.kind == "thinking" for content in self._contents):
            kept["content"] = [content.whole() for content in self._contents]
        if self._plan:
            kept["tool_plan"] = "".join(self._plan)
        if kept:
            answer.provider_state[STATE] = kept
        answer.complete(None if finish is None else _FINISHES.get(finish, "other"), finish, events)


def usage_fields(wire: Mapping[str, Any]) -> dict[str, Any]:
    """`Usage` fields of a wire's usage: the tokens that the model read and wrote. Billed units are kept in `extra`."""
    extra = dict(wire)
    tokens = dict_of(extra.pop("tokens", None))
    inputs, output = count_of(tokens.get("input_tokens")), count_of(tokens.get("output_tokens"))
    return {
        "input_tokens": inputs,
        "output_tokens": output,
        "cached_input_tokens": count_of(extra.pop("cached_tokens", None)),
        "total_tokens": None if inputs is None or output is None else inputs + output,
        "extra": extra,
    }
