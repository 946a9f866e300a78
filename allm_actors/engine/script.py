"""What the entries of a script mean: entries to events.

Rule of this file: pure, and strict: an entry that is not in the table is refused before anything is played.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import msgspec

from allm_actors.data import (
    AdapterError,
    AllmError,
    ErrorEvent,
    Event,
    FinishReason,
    Message,
    MessageCompleted,
    MessageStarted,
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
from allm_actors.engine.adapter import Delay
from allm_actors.engine.arguments import read_arguments

__all__ = ["count_calls", "preflight", "stage"]

_FINISHES = get_args(FinishReason)
_FAKE = "fake"


def preflight(entries: Sequence[Any]) -> AllmError | None:
    """The error with which the call itself is refused, when the script begins with one."""
    if not entries or _tag(entries[0]) != "preflight_error":
        return None
    return _adapter_error(*_reason(entries[0]))


def count_calls(entries: Sequence[Any]) -> int:
    """How many tool calls a script makes."""
    return [entry[0] for entry in entries if entry and isinstance(entry, (tuple, list))].count("tool_call")


def stage(
    entries: Sequence[Any],
    *,
    usage: Usage | None = None,
    first_call: int = 0,
    request_id: str | None = None,
) -> list[Event | Delay]:
    """All that a script plays. Raises ValueError or TypeError for an entry that cannot be played.

    `usage` is used in place of the script's; calls without an id are numbered from `first_call`; the completed message
    carries the `request_id`.
    """
    stage = _Stage(usage, first_call, request_id)
    for entry in entries:
        perform = _ENTRIES.get(_tag(entry))
        if perform is None:
            raise ValueError(
                f"unknown script entry {entry!r}; entries begin with one of: {', '.join(_ENTRIES)}"
            )
        if not stage.finished:
            perform(stage, entry)
    if not stage.finished:
        stage.finish(None)
    return stage.events


class _Stage:
    """What was played so far."""

    def __init__(self, usage: Usage | None, next_call: int, request_id: str | None) -> None:
        self.events: list[Event | Delay] = [MessageStarted()]
        self.text: list[str] = []
        self.calls: list[ToolCall] = []
        self.fixed_usage = usage
        self.usage: Usage | None = None
        self.next_call = next_call
        self.request_id = request_id
        self.finished = False

    def say(self, fragment: str) -> None:
        if not isinstance(fragment, str):
            raise TypeError(f"a text entry holds a string, got: {fragment!r}")
        if fragment:
            self.text.append(fragment)
            self.events.append(TextDelta(fragment))

    def call(self, fields: Mapping[str, Any]) -> None:
        call = _tool_call(fields, f"c{self.next_call}")
        self.next_call += 1
        self.calls.append(call)
        completed = ToolCallCompleted(
            call.id, call.name, call.arguments, call.raw_arguments or "", call.metadata
        )
        self.events += [ToolCallStarted(call.id, call.name), completed]

    def finish(self, reason: FinishReason | None) -> None:
        if reason is not None and reason not in _FINISHES:
            raise ValueError(f"finish reason must be one of {list(_FINISHES)}, got: {reason!r}")
        text = "".join(self.text)
        if text:
            self.events.append(TextCompleted(text))
        message = Message(
            role="assistant", content=text, metadata={"tool_calls": self.calls} if self.calls else {}
        )
        usage = self.usage if self.fixed_usage is None else self.fixed_usage
        known = {"usage": usage, "request_id": self.request_id}
        metadata = {name: value for name, value in known.items() if value is not None}
        self.events.append(MessageCompleted(message, reason, metadata))
        self.finished = True

    def error(self, error: AllmError) -> None:
        self.events.append(ErrorEvent(error))

    def wait(self, seconds: Any) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
            raise ValueError(f"a delay is seconds >= 0, got: {seconds!r}")
        self.events.append(Delay(float(seconds)))

    def sleep(self, seconds: Any) -> None:
        text = "a script entry ('sleep', seconds) is deprecated, and is a delay: say script.delay(seconds)"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        self.wait(seconds)

    def consume(self, fields: Any) -> None:
        self.usage = fields if isinstance(fields, Usage) else Usage(**fields)


def _refuse_late_preflight(_: _Stage, entry: Sequence[Any]) -> None:
    raise ValueError(f"preflight_error must be the first entry of a script, got: {entry!r}")


_ENTRIES: dict[str, Callable[[_Stage, Any], None]] = {
    "text": lambda stage, entry: stage.say(entry[1]),
    "text_delta": lambda stage, entry: stage.say(entry[1]),
    "tool_call": lambda stage, entry: stage.call(_fields("id name arguments raw_arguments", entry)),
    "tool_call_delta": lambda stage, entry: stage.events.append(
        ToolCallDelta(**_fields("id arguments_delta", entry))
    ),
    "usage": lambda stage, entry: stage.consume(entry[1]),
    "raw_chunk": lambda stage, entry: stage.events.append(RawChunk(entry[1])),
    "delay": lambda stage, entry: stage.wait(entry[1]),
    "sleep": lambda stage, entry: stage.sleep(entry[1]),
    "error": lambda stage, entry: stage.error(_adapter_error(*_reason(entry))),
    "error_event": lambda stage, entry: stage.error(_adapter_error(*_reason(entry))),
    "stream_error": lambda stage, entry: stage.error(_stream_error(*_reason(entry))),
    "finish": lambda stage, entry: stage.finish(entry[1]),
    "preflight_error": _refuse_late_preflight,
}


def _tag(entry: Any) -> str:
    if isinstance(entry, (tuple, list)) and entry and isinstance(entry[0], str):
        return entry[0]
    raise TypeError(
        f"a script entry is a tuple that begins with its kind, such as ('text', 'hi'), got: {entry!r}"
    )


def _fields(names: str, entry: Sequence[Any]) -> dict[str, Any]:
    """The fields of an entry in either form: `(tag, {…})` or `(tag, value, value, …)`."""
    if len(entry) == 2 and isinstance(entry[1], Mapping):
        return dict(entry[1])
    return dict(zip(names.split(), entry[1:], strict=False))


def _tool_call(fields: Mapping[str, Any], default_id: str) -> ToolCall:
    raw = fields.get("raw_arguments")
    arguments: dict[str, Any] = fields.get("arguments") or {}
    metadata: dict[str, Any] = {}
    if raw is None:
        raw = msgspec.json.encode(arguments).decode()
    elif not arguments:
        arguments, metadata = read_arguments(raw)
    return ToolCall(
        id=fields.get("id") or default_id,
        name=fields["name"],
        arguments=arguments,
        raw_arguments=raw,
        metadata=metadata,
    )


def _reason(entry: Sequence[Any]) -> tuple[Any, dict[str, Any]]:
    return entry[1], dict(entry[2]) if len(entry) > 2 else {}


def _adapter_error(reason: Any, fields: dict[str, Any]) -> AllmError:
    if isinstance(reason, AllmError):
        return reason
    if reason in AdapterError.reasons:
        return AdapterError(reason, **{"provider": _FAKE, **fields})
    return AdapterError("unknown", **{"provider": _FAKE, "cause": reason, **fields})


def _stream_error(reason: Any, fields: dict[str, Any]) -> AllmError:
    return reason if isinstance(reason, AllmError) else StreamError(reason, **{"provider": _FAKE, **fields})
