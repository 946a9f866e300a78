r"""Anthropic's stream events to events.

Rule of this file: total. No bytes make the decoder raise; what it cannot read is one `ErrorEvent`, and nothing follows
that. An answer is whole at `message_stop`; only then is a tool call complete.

    on the wire                                    events
    message_start                                  id, model and the first usage; a second one in mid-answer is an error
    a text block's text_delta                      TextDelta
    a thinking block                               RawChunk(("thinking_start", {"index": …})), even without thoughts
    its thinking_delta                             RawChunk(("thinking_delta", {"index": …, "delta": …}))
    a tool_use block, its input_json_delta         ToolCallStarted, ToolCallDelta per fragment
    a tool_use of `respond_with_json_…`, which is  TextDelta per fragment: it is the answer, not a call; another one in
    none of the user's tools                       the same answer is ignored. Without a fragment it is `{}`
    message_delta                                  stop_reason and usage
    message_stop                                   RawChunk(("usage", …)), ToolCallCompleted per call, TextCompleted,
                                                   MessageCompleted
    error                                          ErrorEvent
    an event that is none of these                 RawChunk(("unknown_event", name, data))
    the end before message_stop                    ErrorEvent(network_error), metadata partial

When the answer has blocks besides text and calls (signed thoughts, the provider's own tools and their
results), all blocks are kept in order as `provider_state`, because the provider wants them back; except the
call that is the answer, which is the message's text.

Source: https://docs.anthropic.com/en/api/messages-streaming, and recorded streams.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, Final

import msgspec

from allm_actors.data import Event, FinishReason, read_arguments
from allm_actors.data.encoding import json_text
from allm_actors.engine.catalog import Provider
from allm_actors.engine.dialects.answer import PartialCall
from allm_actors.engine.dialects.chat import EventDecoder
from allm_actors.engine.dialects.failures import wire_error
from allm_actors.engine.dialects.lenient import (
    count_of,
    dict_of,
    dicts_of,
    read_object,
    text_of,
)
from allm_actors.engine.sse import ServerEvent

__all__ = ["JSON_TOOL", "STATE", "Decoder", "usage_fields"]

JSON_TOOL: Final = "respond_with_json_"
"""The prefix of the name of the tool that forces a structured answer."""

STATE: Final = "anthropic"

_FINISHES: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_CUT_OFF = ("length", "content_filter")
_PLAIN = ("text", "tool_use")
_SILENT = ("content_block_stop", "ping")


class Delta(msgspec.Struct, gc=False):
    """What an event adds to a block, or to the message."""

    type: str | None = None
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    content: Any = None
    citation: Any = None
    stop_reason: str | None = None
    stop_details: Any = None
    container: Any = None


class Wire(msgspec.Struct, gc=False):
    """One event. Only what is read is declared."""

    type: str | None = None
    index: int | None = None
    delta: Delta | None = None
    content_block: dict[str, Any] | None = None
    message: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_WIRE = msgspec.json.Decoder(Wire)


class Block:
    """One content block while it arrives; `wire` is its beginning, as it came."""

    __slots__ = (
        "call",
        "citations",
        "fragments",
        "is_answer",
        "kind",
        "signature",
        "text",
        "thinking",
        "wire",
    )

    def __init__(self, wire: dict[str, Any]) -> None:
        self.wire = wire
        self.kind = text_of(wire.get("type")) or "unknown"
        self.call: PartialCall | None = None
        self.is_answer = False
        self.text: list[str] = []
        self.thinking: list[str] = []
        self.signature: list[str] = []
        self.citations: list[Any] = []
        self.fragments: list[str] = []

    def whole(self) -> dict[str, Any]:
        """The block as it would have come in one piece."""
        wire = dict(self.wire)
        for name in ("text", "thinking", "signature"):
            pieces = getattr(self, name)
            if pieces:
                wire[name] = "".join([text_of(wire.get(name)) or "", *pieces])
        if self.citations:
            wire["citations"] = [*(wire.get("citations") or ()), *self.citations]
        if self.fragments:
            wire["input"], _ = read_arguments("".join(self.fragments))
        if self.call is not None and self.call.new_id is not None:
            wire["id"] = self.call.new_id
        return wire


class Decoder(EventDecoder[Wire]):
    """One response's decoder; `own` are the names of the user's tools."""

    __slots__ = ("_blocks", "_order", "_own", "_started", "_stop", "_structure")

    def __init__(self, row: Provider, own: Container[str] = ()) -> None:
        super().__init__(row, _WIRE, usage_fields)
        self._own = own
        self._blocks: dict[int, Block] = {}
        self._order: list[Block] = []
        self._structure: Block | None = None  # the first block that is the answer
        self._started = False
        self._stop: str | None = None

    def _on_body(self, body: bytes, events: list[Event]) -> None:
        wire = read_object(body)
        failed = wire is not None and wire.get("type") == "error"
        if (
            wire is None
            or wire.get("type") not in _BODIES
            or not (failed or isinstance(wire.get("content"), list))
        ):
            self._answer.unreadable("JSON that is neither a message nor an error", events)
            return
        if failed:
            self._answer.fail(wire_error(wire.get("error"), self._row), events)
            return
        self._on_start(wire)
        for index, block in enumerate(dicts_of(wire.get("content"))):
            self._on_block(index, block, events)
        self._on_stop_reason(wire)
        self._complete(events)

    # --- events -------------------------------------------------------------------------------------------------------

    def _on_event(self, wire: Wire, frame: ServerEvent, events: list[Event]) -> None:
        kind = wire.type or frame.event
        if kind == "content_block_delta":
            block = self._blocks.get(wire.index or 0)
            if block is not None and wire.delta is not None:
                self._on_delta(block, wire.index or 0, wire.delta, events)
        elif kind == "content_block_start":
            self._on_block(wire.index or 0, wire.content_block or {}, events)
        elif kind == "message_start":
            if not self._started:
                self._on_start(wire.message or {})
            elif self._order:
                self._answer.malformed("the stream began another message in the middle of one", events)
        elif kind == "message_delta":
            self._on_usage(wire.usage)
            delta = wire.delta or Delta()
            self._on_stop_reason(msgspec.structs.asdict(delta))
        elif kind == "message_stop":
            self._complete(events)
        elif kind == "error" or wire.error:
            self._answer.fail(wire_error(wire.error, self._row), events)
        elif kind and kind not in _SILENT:
            self._answer.pass_on(kind, read_object(frame.data) or {}, events)

    def _on_start(self, message: dict[str, Any]) -> None:
        self._started = True
        if message.get("input_transformations"):  # thoughts that were left out
            self._answer.metadata["input_transformations"] = message["input_transformations"]
        self._answer.id = text_of(message.get("id"))
        self._answer.model = text_of(message.get("model"))
        self._on_usage(dict_of(message.get("usage")))

    def _on_usage(self, usage: dict[str, Any] | None) -> None:
        # Later counts are totals, too, and omit what has not changed.
        said = {name: value for name, value in (usage or {}).items() if value is not None}
        if said:
            self._answer.usage = (self._answer.usage or {}) | said

    def _on_stop_reason(self, wire: Mapping[str, Any]) -> None:
        self._stop = text_of(wire.get("stop_reason")) or self._stop
        for name in ("stop_sequence", "stop_details", "container"):
            if wire.get(name):
                self._answer.metadata[name] = wire[name]

    def _on_block(self, index: int, wire: dict[str, Any], events: list[Event]) -> None:
        block = self._blocks[index] = Block(wire)
        self._order.append(block)
        match block.kind:
            case "text":
                self._answer.say(text_of(wire.get("text")) or "", events)
            case "thinking":
                self._answer.begin_thinking(events, index)
                self._answer.think(text_of(wire.get("thinking")), events, index)
            case "tool_use":
                self._on_tool_use(block, wire, events)
            case _:
                pass

    def _on_tool_use(self, block: Block, wire: dict[str, Any], events: list[Event]) -> None:
        name = text_of(wire.get("name"))
        if name is not None and name.startswith(JSON_TOOL) and name not in self._own:
            block.is_answer = True
            self._structure = self._structure or block
            return
        block.call = self._answer.call()
        self._answer.name(block.call, events, id=text_of(wire.get("id")), name=name)

    def _on_delta(self, block: Block, index: int, delta: Delta, events: list[Event]) -> None:
        if delta.text and block.kind == "text":
            block.text.append(delta.text)
            self._answer.say(delta.text, events)
        elif delta.partial_json:
            self._on_json(block, delta.partial_json, events)
        elif delta.thinking:
            block.thinking.append(delta.thinking)
            self._answer.think(delta.thinking, events, index)
        elif delta.signature:
            block.signature.append(delta.signature)
        elif delta.citation is not None:
            block.citations.append(delta.citation)
        elif delta.content is not None:  # the summary of a compaction comes in one piece
            block.wire = {**block.wire, "content": delta.content}

    def _on_json(self, block: Block, fragment: str, events: list[Event]) -> None:
        block.fragments.append(fragment)
        if block is self._structure:
            self._answer.say(fragment, events)
        elif block.call is not None:
            self._answer.extend(block.call, fragment, events)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _complete(self, events: list[Event]) -> None:
        for block in self._order:
            given = block.wire.get("input")
            if given and not block.fragments and block.kind == "tool_use":
                self._on_json(block, json_text(given), events)  # it came at once, in the block's beginning
        finish = None if self._stop is None else _FINISHES.get(self._stop, "other")
        if self._structure is not None:
            if finish not in _CUT_OFF and not "".join(self._structure.fragments).strip():
                # `{}` is streamed as no text at all.
                self._on_json(self._structure, json_text(self._structure.wire.get("input") or {}), events)
            self._tell_structured(self._structure)
            finish = "stop" if finish == "tool_calls" else finish
        self._keep_state()
        self._answer.complete(finish, self._stop, events)

    def _tell_structured(self, answer: Block) -> None:
        # Text beside the structured answer is not part of it.
        self._answer.text = ["".join(answer.fragments)]
        self._answer.metadata["structured_output_tool"] = True

    def _keep_state(self) -> None:
        blocks = [block.whole() for block in self._order if not block.is_answer]
        citations = [item for block in self._order for item in block.citations]
        if citations:
            self._answer.metadata["citations"] = citations
        if any(block.get("type") not in _PLAIN for block in blocks):
            self._answer.provider_state[STATE] = [block for block in blocks if block.get("text") != ""]


_BODIES = ("message", "error", None)


def usage_fields(wire: Mapping[str, Any]) -> dict[str, Any]:
    """`Usage` fields of a wire's usage; tokens read from a cache, or written to one, are added to the input."""
    extra = dict(wire)
    uncached = count_of(extra.pop("input_tokens", None))
    read = count_of(extra.pop("cache_read_input_tokens", None))
    written = count_of(extra.pop("cache_creation_input_tokens", None))
    output = count_of(extra.pop("output_tokens", None))
    inputs = None if uncached is None else uncached + (read or 0) + (written or 0)
    if uncached is not None:
        extra["uncached_input_tokens"] = uncached
    return {
        "input_tokens": inputs,
        "output_tokens": output,
        "cached_input_tokens": read,
        "cache_write_input_tokens": written,
        "total_tokens": None if inputs is None or output is None else inputs + output,
        "extra": extra,
    }
