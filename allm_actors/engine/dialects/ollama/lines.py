r"""Ollama's lines of JSON to events.

Rule of this file: total. No bytes make the decoder raise; what it cannot read is one `ErrorEvent`, and nothing follows
that. An answer is complete with the line that says `done`; calls come whole, and without ids. What the model
thought is `provider_state`, for the next request.

    on the wire                                    events
    message.content                                TextDelta
    message.thinking                               RawChunk(("thinking_start", {"index": 0})), once, and
                                                   RawChunk(("thinking_delta", {"index": 0, "delta": …}))
    message.tool_calls                             ToolCallStarted, and a ToolCallDelta with all arguments
    done                                           RawChunk(("usage", …)), ToolCallCompleted per call, TextCompleted,
                                                   MessageCompleted
    error                                          ErrorEvent
    the end before done                            ErrorEvent(network_error), metadata partial

Source: https://github.com/ollama/ollama/blob/main/docs/api.md, and recorded streams.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from allm_actors.data import Event, FinishReason
from allm_actors.data.encoding import json_text
from allm_actors.engine.catalog import Provider
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
from allm_actors.engine.lines import LineDecoder

__all__ = ["STATE", "Decoder", "usage_fields"]

STATE: Final = "ollama"

_FINISHES: dict[str, FinishReason] = {"stop": "stop", "length": "length"}
_COUNTS = ("prompt_eval_count", "eval_count")
_TIMES = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")  # nanoseconds
_NO_NAME = re.compile(r"[^A-Za-z0-9]")


class Decoder(AnswerDecoder[bytes, dict[str, Any]]):
    """One response's decoder."""

    __slots__ = ("_lines", "_made_at")

    def __init__(self, row: Provider) -> None:
        self._lines = LineDecoder()
        super().__init__(row, self._lines, OBJECTS, usage_fields)
        self._made_at = ""

    def _on_body(self, body: bytes, events: list[Event]) -> None:
        wire = read_object(body)
        if wire is None or not (isinstance(wire.get("message"), dict) or wire.get("error")):
            self._answer.unreadable("JSON that is neither a chat message nor an error", events)
            return
        self._on_event(wire | {"done": True}, body, events)

    def _on_end_of_body(self, events: list[Event]) -> None:
        for line in self._lines.end():
            if read_object(line) is not None:  # and not just the beginning of one
                self._on_frame(line, events)
        self._let_go(events)
        if not self._answer.done:
            self._answer.truncated(events)

    def _on_event(self, wire: dict[str, Any], _line: bytes, events: list[Event]) -> None:
        answer = self._answer
        error = wire.get("error")
        if error:
            answer.fail(wire_error(error, self._row), events)
            return
        answer.model = answer.model or text_of(wire.get("model"))
        self._made_at = self._made_at or _NO_NAME.sub("", text_of(wire.get("created_at")) or "")
        message = dict_of(wire.get("message"))
        answer.think(text_of(message.get("thinking")), events)
        answer.say(text_of(message.get("content")) or "", events)
        for call in dicts_of(message.get("tool_calls")):
            self._on_call(call, events)
        if wire.get("done") is True:
            self._complete(wire, events)

    def _on_call(self, wire: dict[str, Any], events: list[Event]) -> None:
        function = dict_of(wire.get("function"))
        call = self._answer.call()
        # The time of the answer makes ids unique in a conversation.
        made = f"call_{self._made_at or 'unnamed'}_{len(self._answer.calls) - 1}"
        self._answer.name(
            call, events, id=text_of(wire.get("id")) or made, name=text_of(function.get("name"))
        )
        given = function.get("arguments")
        # Arguments that are no object are kept unchanged: `read_arguments` reports them before any tool is run.
        self._answer.extend(
            call, given if isinstance(given, str) else json_text({} if given is None else given), events
        )

    def _complete(self, wire: dict[str, Any], events: list[Event]) -> None:
        self._answer.usage = {name: wire[name] for name in (*_COUNTS, *_TIMES) if wire.get(name) is not None}
        reason = text_of(wire.get("done_reason"))
        finish = _FINISHES.get(reason or "stop", "other")
        if self._answer.reasoning:
            self._answer.provider_state[STATE] = {"thinking": "".join(self._answer.reasoning)}
        self._answer.complete(finish, reason, events)


def usage_fields(wire: Mapping[str, Any]) -> dict[str, Any]:
    """`Usage` fields of the last line; durations are kept in `extra`, in nanoseconds."""
    inputs, outputs = (count_of(wire.get(name)) for name in _COUNTS)
    return {
        "input_tokens": inputs,
        "output_tokens": outputs,
        "total_tokens": None if inputs is None or outputs is None else inputs + outputs,
        "extra": {name: wire[name] for name in _TIMES if name in wire},
    }
