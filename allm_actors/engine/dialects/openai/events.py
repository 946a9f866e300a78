r"""OpenAI's response events to events.

Rule of this file: total. No bytes make the decoder raise; what it cannot read is one `ErrorEvent`, and nothing follows
that. An answer is whole at `response.completed` or `response.incomplete`, and only then is a tool call complete.

    on the wire                                    events
    response.created                               id and model
    response.output_text.delta                     TextDelta
    response.output_item.added, a reasoning        RawChunk(("thinking_start", {"index": …})), even if no text follows
    response.reasoning_summary_text.delta,         RawChunk(("thinking_delta", {"index": …, "delta": …})), parts joined
    response.reasoning_text.delta                  with an empty line; the index is that of the item
    response.output_item.added, a function_call    ToolCallStarted
    response.function_call_arguments.delta         ToolCallDelta
    response.refusal.delta                         kept; the finish becomes content_filter
    response.output_item.done                      the parts of the item that no delta brought, as if one had
    response.completed, response.incomplete        RawChunk(("usage", …)), ToolCallCompleted per call, TextCompleted,
                                                   MessageCompleted
    response.failed, error, response.error         RawChunk(("usage", …)) if it came, ErrorEvent
    the end before any of these                    ErrorEvent(network_error), metadata partial
    any other event                                RawChunk(("unknown_event", name, data)): progress of the provider's
                                                   own tools, and events added to the format later

When the answer has items besides plain text and calls (sealed reasoning, the provider's own tools, messages in phases),
all items are kept in order as `provider_state`, because the provider wants them back. In the response's
metadata, `citations` has what messages cite, and `reasoning` has `text` (all thoughts that were sent),
`summary` (those sent as a summary) and `effort` (as the provider reports it).

Source: https://platform.openai.com/docs/api-reference/responses-streaming, and recorded streams of five providers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from allm_actors.data import Event, FinishReason
from allm_actors.engine.catalog import Provider
from allm_actors.engine.dialects.answer import PartialCall
from allm_actors.engine.dialects.chat import EventDecoder
from allm_actors.engine.dialects.failures import wire_error
from allm_actors.engine.dialects.lenient import (
    dict_of,
    dicts_of,
    read_object,
    text_of,
)
from allm_actors.engine.dialects.openai import items
from allm_actors.engine.dialects.openai.items import Wire
from allm_actors.engine.sse import ServerEvent

__all__ = ["STATE", "Decoder"]

STATE: Final = "openai_responses"

_INCOMPLETE: dict[str, FinishReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}
_SILENT = frozenset(
    {
        # Their content comes in deltas, and again with the end of the item.
        *("response.content_part.added", "response.content_part.done"),
        *("response.output_text.done", "response.refusal.done", "response.function_call_arguments.done"),
        *("response.reasoning_summary_part.added", "response.reasoning_summary_part.done"),
        *("response.reasoning_summary_text.done", "response.reasoning_summary.done"),
        *("response.reasoning_text.done", "keepalive"),
    }
)
_UNDECIDED = ("in_progress", "queued")


class Item:
    """One item of the output while it arrives; `wire` is the latest version of the whole item."""

    __slots__ = ("call", "refused", "said", "thought", "whole", "wire")

    def __init__(self, wire: dict[str, Any]) -> None:
        self.wire = wire
        self.call: PartialCall | None = None
        self.said = False
        self.refused = False
        self.whole = False
        self.thought: tuple[str, int] | None = None  # the part of its thoughts that came last

    def going_back(self) -> dict[str, Any]:
        """The item as it is sent back: a call under our id."""
        new = None if self.call is None else self.call.new_id
        return self.wire if new is None else {**self.wire, "call_id": new}


class Decoder(EventDecoder[Wire]):
    """One response's decoder."""

    __slots__ = ("_by_id", "_items", "_notes", "_summary")

    def __init__(self, row: Provider) -> None:
        super().__init__(row, items.WIRE, items.usage_fields)
        self._items: dict[int, Item] = {}
        self._by_id: dict[str, int] = {}
        self._notes: list[Any] = []
        self._summary: list[str] = []

    def _on_body(self, body: bytes, events: list[Event]) -> None:
        wire = read_object(body)
        if wire is None or not (isinstance(wire.get("output"), list) or wire.get("error")):
            self._answer.unreadable("JSON that is neither a response nor an error", events)
        elif not isinstance(wire.get("output"), list):
            self._answer.fail(wire_error(wire.get("error"), self._row), events)
        else:
            self._on_end(wire, events)

    # --- events -------------------------------------------------------------------------------------------------------

    def _on_event(self, wire: Wire, frame: ServerEvent, events: list[Event]) -> None:
        kind = wire.type or frame.event or ""
        handler = self._handlers.get(kind)
        if handler is not None:
            handler(self, kind, wire, events)
        elif wire.error:
            self._on_failure(kind, wire, events)
        elif wire.response is not None:
            self._on_response(wire.response)
        elif kind and kind not in _SILENT:
            self._answer.pass_on(kind, read_object(frame.data) or {}, events)

    def _on_text(self, _kind: str, wire: Wire, events: list[Event]) -> None:
        if wire.delta:
            self._item(wire).said = True
            self._answer.say(wire.delta, events)

    def _on_fragment(self, _kind: str, wire: Wire, events: list[Event]) -> None:
        call = self._item(wire).call
        if call is not None:
            self._answer.extend(call, wire.delta, events)

    def _on_refusal(self, _kind: str, wire: Wire, _events: list[Event]) -> None:
        if wire.delta:
            self._item(wire).refused = True
            self._answer.refusal.append(wire.delta)

    def _on_note(self, _kind: str, wire: Wire, _events: list[Event]) -> None:
        if wire.annotation:
            self._notes.append(wire.annotation)

    def _on_added(self, _kind: str, wire: Wire, events: list[Event]) -> None:
        self._on_item(wire, wire.item or {}, events)

    def _on_done(self, _kind: str, wire: Wire, events: list[Event]) -> None:
        self._on_whole(self._on_item(wire, wire.item or {}, events), events)

    def _on_finished(self, kind: str, wire: Wire, events: list[Event]) -> None:
        self._on_end(wire.response or {}, events, kind.removeprefix("response."))

    def _on_response(self, response: Mapping[str, Any]) -> None:
        self._answer.id = self._answer.id or text_of(response.get("id"))
        self._answer.model = self._answer.model or text_of(response.get("model"))
        self._answer.usage = dict_of(response.get("usage")) or self._answer.usage
        effort = text_of(dict_of(response.get("reasoning")).get("effort"))
        if effort:
            self._answer.reasoning_about["effort"] = effort

    def _on_thought(self, kind: str, wire: Wire, events: list[Event]) -> None:
        if not wire.delta:
            return
        self._item(wire)
        part = (kind, wire.summary_index or wire.content_index or 0)
        self._think(self._place(wire), part, wire.delta, events)

    def _think(self, place: int, part: tuple[str, int], thought: str, events: list[Event]) -> None:
        """More of a part of an item's thoughts; the part's kind says whether it belongs to the summary."""
        item = self._items[place]
        apart = "\n\n" if item.thought != part else ""
        item.thought = part
        if "summary" in part[0]:
            self._summary.append(apart + thought if self._summary else thought)
        self._answer.think(apart + thought if self._answer.reasoning else thought, events, place)

    def _on_failure(self, _kind: str, wire: Wire, events: list[Event]) -> None:
        response = wire.response or {}
        self._on_response(response)
        error = wire.error or response.get("error") or {"code": wire.code, "message": wire.message}
        self._answer.fail(wire_error(error, self._row), events)

    # --- items --------------------------------------------------------------------------------------------------------

    def _place(self, wire: Wire) -> int:
        known = self._by_id.get(wire.item_id or "")
        return known if known is not None else wire.output_index or 0

    def _item(self, wire: Wire) -> Item:
        """The item that an event is about, made if need be: some servers never announce it."""
        place = self._place(wire)
        item = self._items.get(place)
        if item is None:
            item = self._items[place] = Item({})
        return item

    def _on_item(self, wire: Wire, item: dict[str, Any], events: list[Event]) -> int:
        known = self._by_id.get(text_of(item.get("id")) or "")
        at = wire.output_index if wire.output_index is not None else known
        place = len(self._items) if at is None else at
        if text_of(item.get("id")):
            self._by_id.setdefault(item["id"], place)
        kept = self._items.setdefault(place, Item({}))
        kept.wire = item
        if item.get("type") == "function_call":
            if kept.call is None:
                kept.call = self._answer.call()
            call_id = text_of(item.get("call_id")) or text_of(item.get("id"))
            self._answer.name(kept.call, events, id=call_id, name=text_of(item.get("name")))
        if item.get("type") == "reasoning":
            self._answer.begin_thinking(events, place)
        return place

    def _on_whole(self, place: int, events: list[Event]) -> None:
        """The item is complete: report what no delta has brought."""
        kept = self._items[place]
        kept.whole = True
        item = kept.wire
        if kept.call is not None:
            self._on_arguments(kept.call, text_of(item.get("arguments")), events)
        if item.get("type") == "message":
            if not kept.said:
                kept.said = True
                self._answer.say(items.spoken(item), events)
            if not kept.refused:
                kept.refused = True
                self._answer.refusal.extend(filter(None, [items.refusal(item)]))
        if item.get("type") == "reasoning" and kept.thought is None:
            summaries = len(items.summaries(item))
            for index, thought in enumerate(items.thoughts(item)):
                self._think(place, ("summary" if index < summaries else "whole", index), thought, events)

    def _on_arguments(self, call: PartialCall, arguments: str | None, events: list[Event]) -> None:
        told = "".join(call.fragments)
        if arguments is None or arguments == told:
            return
        if arguments.startswith(told):
            self._answer.extend(call, arguments[len(told) :], events)
        else:
            call.fragments = [arguments]  # the final arguments count, not the fragments

    # --- the end ------------------------------------------------------------------------------------------------------

    def _on_end(self, response: dict[str, Any], events: list[Event], said: str = "completed") -> None:
        self._on_response(response)
        for index, item in enumerate(dicts_of(response.get("output"))):
            place = self._by_id.get(text_of(item.get("id")) or "", index)
            if place not in self._items or not self._items[place].whole:
                self._on_whole(self._on_item(Wire(output_index=place), item, events), events)
        if response.get("incomplete_details"):
            self._answer.metadata["incomplete_details"] = response["incomplete_details"]
        status = text_of(response.get("status")) or said
        if status == "failed" or response.get("error"):
            self._answer.fail(wire_error(response.get("error"), self._row), events, status)
        elif status == "cancelled":
            self._answer.broken_off(events, "cancelled the answer", status)
        else:
            self._keep_state()
            if self._summary:
                self._answer.reasoning_about["summary"] = "".join(self._summary)
            self._answer.complete(*_finish(status, response), events)

    def _keep_state(self) -> None:
        output = [self._items[place].going_back() for place in sorted(self._items)]
        notes = [note for item in output for note in items.citations(item)] or self._notes
        if notes:
            self._answer.metadata["citations"] = notes
        if not all(map(items.is_plain, filter(None, output))):
            self._answer.provider_state[STATE] = [item for item in output if item]

    _handlers: ClassVar[dict[str, Callable[[Decoder, str, Wire, list[Event]], None]]] = {
        "response.output_text.delta": _on_text,
        "response.function_call_arguments.delta": _on_fragment,
        "response.reasoning_summary_text.delta": _on_thought,
        "response.reasoning_text.delta": _on_thought,
        "response.reasoning_summary.delta": _on_thought,
        "response.refusal.delta": _on_refusal,
        "response.output_text.annotation.added": _on_note,
        "response.output_item.added": _on_added,
        "response.output_item.done": _on_done,
        "response.completed": _on_finished,
        "response.incomplete": _on_finished,
        "response.failed": _on_failure,
        "response.error": _on_failure,
        "error": _on_failure,
    }


def _finish(status: str, response: Mapping[str, Any]) -> tuple[FinishReason | None, str]:
    if status == "completed":
        return "stop", status
    if status == "incomplete":
        reason = text_of(dict_of(response.get("incomplete_details")).get("reason"))
        return _INCOMPLETE.get(reason or "", "other"), reason or status
    return (None if status in _UNDECIDED else "other"), status
