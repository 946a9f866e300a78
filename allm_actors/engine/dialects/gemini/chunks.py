r"""Gemini's stream of responses to events.

Rule of this file: total. No bytes make the decoder raise; what it cannot read is one `ErrorEvent`, and nothing follows
that. Every event of the stream is a whole response with the next parts. The answer is complete at the end of
the stream, if a `finishReason` was seen: token counts may still come after that.

    on the wire                                    events
    a part with text                               TextDelta
    a part with text and thought                   RawChunk(("thinking_start", {"index": 0})), once, and
                                                   RawChunk(("thinking_delta", {"index": 0, "delta": …}))
    a part with functionCall                       ToolCallStarted, and a ToolCallDelta with all arguments
    functionCall with willContinue, partialArgs    ToolCallStarted; the arguments when they are all there
    promptFeedback.blockReason                     ErrorEvent(content_filter)
    a finishReason that blames the model's call    ErrorEvent(malformed_response)
    an error object                                ErrorEvent
    the end after a finishReason                   RawChunk(("usage", …)), ToolCallCompleted per call, TextCompleted,
                                                   MessageCompleted
    the end before one                             ErrorEvent(network_error), metadata partial

When the answer has signed parts, or parts that are neither text nor calls, all parts are kept in order as
`provider_state`, because the provider wants them back.

Source: https://ai.google.dev/api/generate-content, https://ai.google.dev/gemini-api/docs/thought-signatures,
`FinishReason` of google-genai 3.6.1, and recorded streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from allm_actors.data import AdapterError, Event, FinishReason
from allm_actors.data.encoding import json_text
from allm_actors.engine.catalog import Provider
from allm_actors.engine.dialects.answer import PartialCall
from allm_actors.engine.dialects.chat import EventDecoder
from allm_actors.engine.dialects.failures import wire_error
from allm_actors.engine.dialects.gemini.arguments import PartialArguments
from allm_actors.engine.dialects.lenient import (
    OBJECTS,
    count_of,
    dict_of,
    dicts_of,
    read_object,
    text_of,
)
from allm_actors.engine.sse import ServerEvent

__all__ = ["BROKEN_FINISHES", "FINISHES", "STATE", "SYNTHETIC_ID", "Decoder", "usage_fields"]

STATE: Final = "gemini"
SYNTHETIC_ID: Final = "synthetic_id"
"""In a call's metadata: the id was made here, because the provider sent none."""

FINISHES: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    **dict.fromkeys(
        (
            *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
            *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "MODEL_ARMOR"),
            *("ESCALATION", "PUP_LIMITED_DISABLED"),
        ),
        "content_filter",
    ),
}
BROKEN_FINISHES = (
    *("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"),
    *("MISSING_THOUGHT_SIGNATURE", "MALFORMED_RESPONSE"),
)
_ABOUT = (
    *("groundingMetadata", "urlContextMetadata", "citationMetadata", "safetyRatings", "finishMessage"),
    "continuationToken",
)


class Part:
    """One part of the answer. Pieces of plain text that follow each other are one part."""

    __slots__ = ("texts", "wire")

    def __init__(self, wire: dict[str, Any]) -> None:
        self.wire = wire
        self.texts: list[str] = []

    def whole(self) -> dict[str, Any]:
        """The part as it would have come in one piece."""
        return {**self.wire, "text": "".join([self.wire["text"], *self.texts])} if self.texts else self.wire


class Decoder(EventDecoder[dict[str, Any]]):
    """One response's decoder."""

    __slots__ = ("_arguments", "_call", "_finish", "_parts")

    def __init__(self, row: Provider) -> None:
        super().__init__(row, OBJECTS, usage_fields)
        self._parts: list[Part] = []
        self._call: PartialCall | None = None  # the call whose arguments are still coming
        self._arguments = PartialArguments()
        self._finish: str | None = None

    def _on_body(self, body: bytes, events: list[Event]) -> None:
        wire = read_object(body)
        if wire is None or not any(name in wire for name in ("candidates", "promptFeedback", "error")):
            self._answer.unreadable("JSON that is neither a generated answer nor an error", events)
            return
        self._on_event(wire, ServerEvent(body), events)
        if not self._answer.done:
            if self._finish is None and not self._parts:
                self._answer.unreadable("an answer without candidates", events)
            else:
                self._complete(events)

    def _on_end_of_body(self, events: list[Event]) -> None:
        if self._finish is None:
            self._answer.truncated(events)
        else:
            self._complete(events)

    # --- responses ----------------------------------------------------------------------------------------------------

    def _on_event(self, wire: dict[str, Any], _frame: ServerEvent, events: list[Event]) -> None:
        answer = self._answer
        answer.id = answer.id or text_of(wire.get("responseId"))
        answer.model = answer.model or text_of(wire.get("modelVersion"))
        for candidate in dicts_of(wire.get("candidates")):
            if not candidate.get("index"):  # only the first candidate is read
                self._on_candidate(candidate, events)
        usage = wire.get("usageMetadata")
        if isinstance(usage, dict) and usage:
            answer.usage = {**(answer.usage or {}), **usage}
        error, block = wire.get("error"), text_of(dict_of(wire.get("promptFeedback")).get("blockReason"))
        if error:
            answer.fail(wire_error(error, self._row), events)
        elif block is not None:
            answer.filtered(events, f"the prompt was blocked ({block})", block_reason=block)

    def _on_candidate(self, candidate: dict[str, Any], events: list[Event]) -> None:
        for part in dicts_of(dict_of(candidate.get("content")).get("parts")):
            self._on_part(part, events)
        self._finish = text_of(candidate.get("finishReason")) or self._finish
        for name in _ABOUT:
            if candidate.get(name):
                self._answer.metadata[name] = candidate[name]

    def _on_part(self, part: dict[str, Any], events: list[Event]) -> None:
        text, call = text_of(part.get("text")), part.get("functionCall")
        if isinstance(call, dict):
            self._on_call(part, call, events)
            return
        if text is not None and part.get("thought") is True:
            self._answer.think(text, events)
        elif text is not None:
            self._answer.say(text, events)
        if text is not None or len(part) > 1 or "text" not in part:
            self._keep(part)

    def _keep(self, wire: dict[str, Any]) -> None:
        last = self._parts[-1].wire if self._parts else {}
        if _is_plain(wire) and _is_plain(last) and wire.get("thought") == last.get("thought"):
            self._parts[-1].texts.append(wire["text"])
        else:
            self._parts.append(Part(wire))

    # --- calls --------------------------------------------------------------------------------------------------------

    def _on_call(self, part: dict[str, Any], wire: dict[str, Any], events: list[Event]) -> None:
        name = text_of(wire.get("name"))
        if name is None:
            self._on_more(wire, events)
            return
        self._close_call(events)
        call = self._answer.call()
        signature = text_of(part.get("thoughtSignature"))
        if signature is not None:
            call.metadata["thoughtSignature"] = signature
        given = text_of(wire.get("id"))
        if given is None:
            call.metadata[SYNTHETIC_ID] = True
            given = f"call_{self._answer.id or 'unnamed'}_{len(self._answer.calls) - 1}"
        self._answer.name(call, events, id=given, name=name)
        if call.new_id is not None and SYNTHETIC_ID not in call.metadata:
            part = {**part, "functionCall": {**wire, "id": call.new_id}}
        self._parts.append(Part(part))
        if wire.get("willContinue") is True:
            self._call, self._arguments = call, PartialArguments()
            self._arguments.add(dicts_of(wire.get("partialArgs")))
        else:
            given = wire.get("args")
            self._answer.extend(call, json_text({} if given is None else given), events)

    def _on_more(self, wire: dict[str, Any], events: list[Event]) -> None:
        if self._call is None:
            return  # a call without a name, and none is open
        self._arguments.add(dicts_of(wire.get("partialArgs")))
        if wire.get("willContinue") is not True:
            self._close_call(events)

    def _close_call(self, events: list[Event]) -> None:
        call, self._call = self._call, None
        if call is None:
            return
        arguments = self._arguments.finish()
        self._answer.extend(call, json_text(arguments), events)
        for part in self._parts:
            if dict_of(part.wire.get("functionCall")).get("willContinue") is True:
                begun = dict_of(part.wire.get("functionCall"))
                kept = {
                    name: value
                    for name, value in begun.items()
                    if name not in ("partialArgs", "willContinue")
                }
                part.wire = {**part.wire, "functionCall": {**kept, "name": call.name, "args": arguments}}

    # --- the end ------------------------------------------------------------------------------------------------------

    def _complete(self, events: list[Event]) -> None:
        self._close_call(events)
        finish = self._finish
        if finish in BROKEN_FINISHES:
            why = f"{self._row.label}'s model made a call that cannot be used ({finish})"
            said = text_of(self._answer.metadata.get("finishMessage"))
            message = f"{why}: {said[:500]}" if said else why
            error = AdapterError("malformed_response", provider=self._row.name, message=message)
            self._answer.fail(error, events, finish)
            return
        if any(not _is_known(part.wire) for part in self._parts):
            self._answer.provider_state[STATE] = [part.whole() for part in self._parts]
        known = None if finish is None else FINISHES.get(finish, "other")
        self._answer.complete(known, finish, events)


def usage_fields(wire: Mapping[str, Any]) -> dict[str, Any]:
    """`Usage` fields of a wire's usage. The wire counts thoughts apart from the answer's output."""
    extra = dict(wire)
    answered = count_of(extra.pop("candidatesTokenCount", None))
    if answered is None:
        answered = count_of(extra.pop("responseTokenCount", None))
    return {
        "input_tokens": count_of(extra.pop("promptTokenCount", None)),
        "output_tokens": answered,
        "total_tokens": count_of(extra.pop("totalTokenCount", None)),
        "cached_input_tokens": count_of(extra.pop("cachedContentTokenCount", None)),
        "reasoning_tokens": count_of(extra.pop("thoughtsTokenCount", None)),
        "extra": extra,
    }


def _is_plain(part: Mapping[str, Any]) -> bool:
    """Whether a part is a piece of text that may be joined with the next one."""
    return isinstance(part.get("text"), str) and set(part) <= {"text", "thought"}


def _is_known(part: Mapping[str, Any]) -> bool:
    """Whether a `Message` can hold everything that is in the part."""
    return set(part) == {"text"} or set(part) == {"functionCall"}
