r"""Bedrock's Converse frames to events.

Rule of this file: total. No bytes make the decoder raise; what it cannot read is one `ErrorEvent`, and nothing follows
that. An answer is whole at `messageStop`; `metadata`, which follows it, brings the usage and is waited for.

    on the wire                                    events
    a text block's deltas                          TextDelta
    reasoningContent, except redacted parts        RawChunk(("thinking_start", {"index": …})), with or without text,
                                                   RawChunk(("thinking_delta", {"index": …, "delta": …}))
    a toolUse block, its input's deltas            ToolCallStarted, ToolCallDelta per fragment
    messageStop, then metadata or the end          RawChunk(("usage", …)), ToolCallCompleted per call, TextCompleted,
                                                   MessageCompleted; metadata metrics, and trace of guardrails
    a frame of type exception or error             ErrorEvent, by the exception's name
    an event that is none of these                 RawChunk(("unknown_event", name, data))
    a frame with a wrong checksum                  ErrorEvent(malformed_event)
    the end before messageStop                     ErrorEvent(network_error), metadata partial

When the answer has blocks besides text and calls (thoughts and their signatures, tools that ran on the server
and their results, citations), all blocks are kept in order as `provider_state`, because the provider wants
them back. This format has neither an id of the answer nor its model; only a prompt router names the model
that it chose.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html, and recorded streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from allm_actors.data import AdapterError, Event, FinishReason, read_arguments
from allm_actors.data.encoding import json_text
from allm_actors.engine.catalog import Provider
from allm_actors.engine.dialects.answer import PartialCall
from allm_actors.engine.dialects.chat import AnswerDecoder
from allm_actors.engine.dialects.failures import wire_error
from allm_actors.engine.dialects.lenient import (
    OBJECTS,
    count_of,
    dict_of,
    dicts_of,
    read_object,
    text_of,
)
from allm_actors.engine.eventstream import EventStreamDecoder, Frame

__all__ = ["STATE", "Decoder", "usage_fields"]

STATE: Final = "bedrock"

_FINISHES: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
_BROKEN_FINISHES = ("malformed_model_output", "malformed_tool_use")
_ABOUT = ("metrics", "trace", "performanceConfig", "serviceTier", "additionalModelResponseFields")
_PLAIN = ("text", "toolUse")


class Block:
    """One content block while it arrives. `kind` is its field on the wire, `wire` the data of its start."""

    __slots__ = ("call", "citations", "fragments", "kind", "results", "signature", "text", "wire")

    def __init__(self, kind: str, wire: dict[str, Any]) -> None:
        self.kind = kind
        self.wire = wire
        self.call: PartialCall | None = None
        self.text: list[str] = []
        self.signature: list[str] = []
        self.fragments: list[str] = []
        self.results: list[Any] = []
        self.citations: list[Any] = []

    @property
    def is_plain(self) -> bool:
        """Whether a `Message` can hold everything that is in the block."""
        return self.kind in _PLAIN and not self.citations and (self.kind == "text" or self.call is not None)

    def whole(self) -> dict[str, Any]:
        """The block as it would have come in one piece."""
        text = "".join(self.text)
        match self.kind:
            case "text" if self.citations:
                cited = {"content": [{"text": text}], "citations": self.citations}
                return {"citationsContent": cited}
            case "text":
                return {"text": text}
            case "reasoningContent" if self.text or self.signature:
                signed = {"signature": "".join(self.signature)} if self.signature else {}
                return {"reasoningContent": {"reasoningText": {"text": text, **signed}}}
            case "toolUse":
                arguments, _ = read_arguments("".join(self.fragments))
                # The API sends this type but refuses it when it is sent back.
                said = {k: v for k, v in self.wire.items() if (k, v) != ("type", "tool_use")}
                if self.call is not None and self.call.new_id is not None:
                    said["toolUseId"] = self.call.new_id
                return {"toolUse": {**said, "input": arguments}}
            case "toolResult" if self.results:
                return {"toolResult": {**self.wire, "content": self.results}}
            case _:
                return {self.kind: self.wire}


class Decoder(AnswerDecoder[Frame, dict[str, Any]]):
    """One response's decoder."""

    __slots__ = ("_blocks", "_order", "_stop", "_stopped")

    def __init__(self, row: Provider) -> None:
        super().__init__(row, EventStreamDecoder(), OBJECTS, usage_fields)
        self._blocks: dict[int, Block] = {}
        self._order: list[Block] = []
        self._stopped = False
        self._stop: str | None = None

    def _on_body(self, body: bytes, events: list[Event]) -> None:
        wire = read_object(body)
        message = dict_of(dict_of((wire or {}).get("output")).get("message"))
        if wire is None or not message:
            self._answer.unreadable("JSON that is no Converse answer", events)
            return
        for index, block in enumerate(dicts_of(message.get("content"))):
            self._on_whole(index, block, events)
        self._on_stop(wire)
        self._complete(events)

    def _on_end_of_body(self, events: list[Event]) -> None:
        if self._stopped:
            self._complete(events)
        else:
            self._answer.truncated(events)

    # --- events -------------------------------------------------------------------------------------------------------

    def _on_misfit(self, frame: Frame, events: list[Event]) -> None:
        if _is_failure(frame):
            self._on_event(read_object(frame.data) or {}, frame, events)
        else:
            super()._on_misfit(frame, events)

    def _on_event(self, wire: dict[str, Any], frame: Frame, events: list[Event]) -> None:
        if _is_failure(frame):
            self._answer.fail(self._reported(frame, wire), events)
            return
        index = count_of(wire.get("contentBlockIndex")) or 0
        match kind := frame.text(":event-type"):
            case "contentBlockDelta":
                self._on_delta(index, dict_of(wire.get("delta")), events)
            case "contentBlockStart":
                for name, begun in dict_of(wire.get("start")).items():
                    self._on_start(index, name, dict_of(begun), events)
            case "messageStart":
                if self._order or self._stopped:
                    self._answer.malformed("the stream began another message in the middle of one", events)
            case "messageStop":
                self._on_stop(wire)
            case "metadata":
                self._on_about(wire)
                if self._stopped:
                    self._complete(events)
            case None | "" | "contentBlockStop":
                pass
            case _:
                self._answer.pass_on(kind, wire, events)

    def _on_start(self, index: int, name: str, wire: dict[str, Any], events: list[Event]) -> Block:
        block = self._blocks[index] = Block(name, wire)
        self._order.append(block)
        if name == "toolUse" and wire.get("type") != "server_tool_use":
            block.call = self._answer.call()
            self._answer.name(
                block.call, events, id=text_of(wire.get("toolUseId")), name=text_of(wire.get("name"))
            )
        return block

    def _on_delta(self, index: int, delta: Mapping[str, Any], events: list[Event]) -> None:
        for name, value in delta.items():
            match name:
                case "text":
                    self._on_text(self._block(index, "text", events), text_of(value), events)
                case "reasoningContent":
                    block = self._block(index, "reasoningContent", events)
                    self._on_reasoning(block, index, dict_of(value), events)
                case "toolUse":
                    self._on_input(index, text_of(dict_of(value).get("input")), events)
                case "toolResult":
                    self._block(index, "toolResult", events).results += dicts_of(value)
                case "image":
                    block = self._block(index, "image", events)
                    block.wire = block.wire | dict_of(value)
                case "citation" if isinstance(value, dict):
                    self._block(index, "text", events).citations.append(value)
                case _:
                    pass

    def _block(self, index: int, kind: str, events: list[Event]) -> Block:
        """The block at `index`, made if need be: texts and thoughts have no start event in this format."""
        block = self._blocks.get(index)
        return block if block is not None and block.kind == kind else self._on_start(index, kind, {}, events)

    def _on_text(self, block: Block, text: str | None, events: list[Event]) -> None:
        if text:
            block.text.append(text)
            self._answer.say(text, events)

    def _on_reasoning(self, block: Block, index: int, wire: Mapping[str, Any], events: list[Event]) -> None:
        thought, signature = text_of(wire.get("text")), text_of(wire.get("signature"))
        if thought or signature:
            self._answer.begin_thinking(events, index)
        if thought:
            block.text.append(thought)
            self._answer.think(thought, events, index)
        if signature:
            block.signature.append(signature)
        if text_of(wire.get("redactedContent")):
            block.wire = {"redactedContent": wire["redactedContent"]}

    def _on_input(self, index: int, fragment: str | None, events: list[Event]) -> None:
        block = self._blocks.get(index)
        if block is not None and block.kind == "toolUse" and fragment:
            block.fragments.append(fragment)
            if block.call is not None:
                self._answer.extend(block.call, fragment, events)

    def _on_whole(self, index: int, wire: Mapping[str, Any], events: list[Event]) -> None:
        """A block that came in one piece."""
        for name, value in wire.items():
            if name == "text":
                self._on_text(self._block(index, "text", events), text_of(value), events)
                continue
            inner = dict_of(value)
            block = self._on_start(index, name, inner, events)
            match name:
                case "reasoningContent":
                    self._on_reasoning(block, index, inner | dict_of(inner.get("reasoningText")), events)
                case "toolUse":
                    self._on_input(index, json_text(dict_of(inner.get("input"))), events)
                case "citationsContent":
                    for said in dicts_of(inner.get("content")):
                        self._answer.say(text_of(said.get("text")) or "", events)
                case _:
                    pass

    def _reported(self, frame: Frame, wire: Mapping[str, Any]) -> AdapterError:
        name = frame.text(":exception-type") or frame.text(":error-code") or ""
        words = text_of(wire.get("message")) or text_of(wire.get("Message")) or frame.text(":error-message")
        return wire_error({"code": name[:1].upper() + name[1:], "message": words}, self._row)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _on_stop(self, wire: Mapping[str, Any]) -> None:
        self._stopped = True
        self._stop = text_of(wire.get("stopReason"))
        self._on_about(wire)

    def _on_about(self, wire: Mapping[str, Any]) -> None:
        answer = self._answer
        answer.usage = dict_of(wire.get("usage")) or answer.usage
        answer.metadata |= {name: wire[name] for name in _ABOUT if wire.get(name)}
        router = dict_of(dict_of(wire.get("trace")).get("promptRouter"))
        answer.model = text_of(router.get("invokedModelId")) or answer.model

    def _complete(self, events: list[Event]) -> None:
        answer, stop = self._answer, self._stop
        if stop in _BROKEN_FINISHES:
            why = f"{self._row.label}'s model wrote an answer that cannot be used ({stop}). Try again."
            answer.fail(
                AdapterError("malformed_response", provider=self._row.name, message=why), events, stop
            )
            return
        citations = [item for block in self._order for item in block.citations]
        citations += [
            item
            for block in self._order
            if block.kind == "citationsContent"
            for item in dicts_of(block.wire.get("citations"))
        ]
        if citations:
            answer.metadata["citations"] = citations
        if not all(block.is_plain for block in self._order):
            blocks = [block.whole() for block in self._order]
            answer.provider_state[STATE] = [block for block in blocks if block.get("text") != ""]
        answer.complete(None if stop is None else _FINISHES.get(stop, "other"), stop, events)


def _is_failure(frame: Frame) -> bool:
    return frame.text(":message-type") in ("exception", "error")


def usage_fields(wire: Mapping[str, Any]) -> dict[str, Any]:
    """`Usage` fields of a wire's usage; tokens read from a cache, or written to one, are added to the input."""
    extra = dict(wire)
    for name in ("cacheReadInputTokenCount", "cacheWriteInputTokenCount"):
        extra.pop(name, None)  # duplicates under older names
    uncached = count_of(extra.pop("inputTokens", None))
    read = count_of(extra.pop("cacheReadInputTokens", None))
    written = count_of(extra.pop("cacheWriteInputTokens", None))
    if uncached is not None:
        extra["uncached_input_tokens"] = uncached
    return {
        "input_tokens": None if uncached is None else uncached + (read or 0) + (written or 0),
        "output_tokens": count_of(extra.pop("outputTokens", None)),
        "cached_input_tokens": read,
        "cache_write_input_tokens": written,
        "total_tokens": count_of(extra.pop("totalTokens", None)),
        "extra": extra,
    }
