"""Script entries to events.

Rule of this file: pure, and strict: an entry that is not in the table is refused before anything is played, and so is
one with too many, too few or wrong values. The explanation is made only when an error is caught, so that a
valid script pays nothing for it.
"""

from __future__ import annotations

import reprlib
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
    read_arguments,
)
from allm_actors.data.predicates import is_number, one_of
from allm_actors.data.responses import COUNTED
from allm_actors.engine.adapter import Delay

__all__ = ["count_calls", "counted", "preflight", "stage"]

_FINISHES = get_args(FinishReason)
_FAKE = "fake"
_UNPLAYABLE = (TypeError, ValueError, AttributeError, OverflowError, RecursionError)


def preflight(entries: Sequence[Any]) -> AllmError | None:
    """The error with which the call itself is refused, if the script begins with one. Raises as `stage`."""
    try:
        if not entries or _tag(entries[0]) != "preflight_error":
            return None
        return _adapter_error(*_reason(entries[0]))
    except _UNPLAYABLE as error:
        raise _explained(entries, entries[0], error) from None


def count_calls(entries: Sequence[Any]) -> int:
    """How many tool calls these entries, of one script or several, make."""
    try:
        return [entry[0] for entry in entries].count("tool_call")
    except (IndexError, KeyError, TypeError):
        # Another call's script: playing it will say what is wrong with it.
        tags = [entry[0] for entry in entries if entry and isinstance(entry, (tuple, list))]
        return tags.count("tool_call")


def stage(
    entries: Sequence[Any],
    *,
    usage: Usage | None = None,
    first_call: int = 0,
    request_id: str | None = None,
) -> list[Event | Delay]:
    """All events and delays of a script. Raises ValueError or TypeError, naming the entry, for an invalid one.

    `usage` is used in place of the script's; calls without an id are numbered from `first_call` by their places
    among the calls, past ids that the script gives to others; the completed message carries the `request_id`.
    """
    stage = _play(entries, _Stage(usage, first_call, request_id))
    if stage.own:
        renamed = _renamed(range(first_call, stage.next_call), stage.own)
        if renamed:
            stage = _play(entries, _Stage(usage, first_call, request_id, renamed))
    return stage.events


def _play(entries: Sequence[Any], stage: _Stage) -> _Stage:
    entry: Any = None
    try:
        for entry in entries:
            perform = _ENTRIES.get(_tag(entry))
            if perform is None:
                raise ValueError(f"entries begin with one of: {', '.join(_ENTRIES)}")
            if not stage.finished:
                perform(stage, entry)
    except _UNPLAYABLE as error:
        raise _explained(entries, entry, error) from None
    if not stage.finished:
        stage.finish(None)
    return stage


def _renamed(places: Sequence[int], own: Mapping[int, str]) -> dict[str, str]:
    """New ids for numbered calls whose id another call of the script has been given explicitly.

    They get the numbers that calls with an explicit id leave unused, of which there are enough: so all
    numbers stay within the script's range and do not clash with the next script's.
    """
    taken = set(own.values())
    clashing = [f"c{place}" for place in places if place not in own and f"c{place}" in taken]
    spare = [f"c{place}" for place in own if f"c{place}" not in taken]
    return dict(zip(clashing, spare, strict=False))


class _Stage:
    """The events made so far."""

    def __init__(
        self,
        usage: Usage | None,
        next_call: int,
        request_id: str | None,
        renamed: Mapping[str, str] | None = None,
    ) -> None:
        self.events: list[Event | Delay] = [MessageStarted()]
        self.text: list[str] = []
        self.calls: list[ToolCall] = []
        self.fixed_usage = usage
        self.usage: Usage | None = None
        self.next_call = next_call
        self.own: dict[int, str] = {}  # explicit ids, by the number of their call
        self.renamed = renamed
        self.request_id = request_id
        self.finished = False

    def say(self, fragment: str) -> None:
        if not isinstance(fragment, str):
            raise TypeError(f"a text entry must hold a string, got: {fragment!r}")
        if fragment:
            self.text.append(fragment)
            self.events.append(TextDelta(fragment))

    def identify(self, given: str | None) -> str:
        """The id of the next call."""
        if given:
            self.own[self.next_call] = given
            return given
        id = f"c{self.next_call}"
        return id if self.renamed is None else self.renamed.get(id, id)

    def call(self, call: ToolCall) -> None:
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
        if not is_number(seconds) or not seconds >= 0:
            raise ValueError(f"a delay must be seconds >= 0, got: {seconds!r}")
        self.events.append(Delay(float(seconds)))

    def sleep(self, seconds: Any) -> None:
        text = "the script entry ('sleep', seconds) is deprecated: use script.delay(seconds) instead"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        self.wait(seconds)

    def consume(self, fields: Any) -> None:
        self.usage = counted(fields if isinstance(fields, Usage) else Usage(**fields))


def counted(usage: Usage, name: str = "a usage") -> Usage:
    """The usage. Raises TypeError for a count, or a cost, that is no number; `name` is the usage's, for the message."""
    for field in COUNTED:
        value = getattr(usage, field)
        if value is not None and not is_number(value):
            raise TypeError(f"{field} of {name} must be a number, got: {value!r}")
    return usage


def _refuse_late_preflight(_stage: _Stage, _entry: Sequence[Any]) -> None:
    raise ValueError("preflight_error must be the first entry of a script")


def _tool_call(
    stage: _Stage, id: Any = None, name: Any = None, arguments: Any = None, raw_arguments: Any = None
) -> None:
    if not isinstance(name, str):
        raise TypeError(f"a tool_call must have a name, got: {name!r}")
    if id is not None and not isinstance(id, str):
        raise TypeError(f"the id of a tool_call must be a string, got: {id!r}")
    if arguments is None:
        arguments = {}
    elif not isinstance(arguments, dict):
        raise TypeError(f"arguments must be a dict (JSON text goes into raw_arguments), got: {arguments!r}")
    metadata: dict[str, Any] = {}
    if raw_arguments is None:
        raw_arguments = msgspec.json.encode(arguments).decode()
    elif not isinstance(raw_arguments, str):
        raise TypeError(f"raw_arguments must be JSON text, got: {raw_arguments!r}")
    elif not arguments:
        arguments, metadata = read_arguments(raw_arguments)
    stage.call(
        ToolCall(
            id=stage.identify(id),
            name=name,
            arguments=arguments,
            raw_arguments=raw_arguments,
            metadata=metadata,
        )
    )


def _tool_call_delta(stage: _Stage, id: Any, arguments_delta: Any) -> None:
    if not isinstance(id, str) or not isinstance(arguments_delta, str):
        raise TypeError(
            f"a tool_call_delta must have an id and a fragment of text, got: {id!r}, {arguments_delta!r}"
        )
    stage.events.append(ToolCallDelta(id, arguments_delta))


_ENTRIES: dict[str, Callable[[_Stage, Any], None]] = {
    "text": lambda stage, entry: stage.say(_only(entry)),
    "text_delta": lambda stage, entry: stage.say(_only(entry)),
    "tool_call": lambda stage, entry: _spread(_tool_call, stage, entry),
    "tool_call_delta": lambda stage, entry: _spread(_tool_call_delta, stage, entry),
    "usage": lambda stage, entry: stage.consume(_only(entry)),
    "raw_chunk": lambda stage, entry: stage.events.append(RawChunk(_only(entry))),
    "delay": lambda stage, entry: stage.wait(_only(entry)),
    "sleep": lambda stage, entry: stage.sleep(_only(entry)),
    "error": lambda stage, entry: stage.error(_adapter_error(*_reason(entry))),
    "error_event": lambda stage, entry: stage.error(_adapter_error(*_reason(entry))),
    "stream_error": lambda stage, entry: stage.error(_stream_error(*_reason(entry))),
    "finish": lambda stage, entry: stage.finish(_only(entry)),
    "preflight_error": _refuse_late_preflight,
}
_WRITTEN = {
    "text": "text(fragment)",
    "text_delta": "text(fragment)",
    "tool_call": "tool_call(name, arguments, id=…, raw_arguments=…)",
    "tool_call_delta": "tool_call_delta(id, fragment)",
    "usage": "usage(**fields)",
    "raw_chunk": "raw_chunk(payload)",
    "delay": "delay(seconds)",
    "sleep": "delay(seconds)",
    "error": "error(reason, **fields)",
    "error_event": "error(reason, **fields)",
    "stream_error": "error(StreamError(reason, **fields))",
    "finish": "finish(reason)",
    "preflight_error": "preflight_error(reason, **fields)",
}


def _tag(entry: Any) -> str:
    if isinstance(entry, (tuple, list)) and entry and isinstance(entry[0], str):
        return entry[0]
    raise TypeError("an entry must be a tuple that begins with its kind, such as ('text', 'hi')")


def _explained(entries: Sequence[Any], entry: Any, error: Exception) -> Exception:
    """The error for an invalid entry: where it is, what is wrong with it, and what is expected."""
    place = next(at for at, each in enumerate(entries) if each is entry)
    text = f"script entry [{place}], {reprlib.repr(entry)}, cannot be played: {error}"
    if isinstance(entry, (tuple, list)) and entry and one_of(entry[0], _WRITTEN):
        text += f"; it is written as script.{_WRITTEN[entry[0]]}"
    return TypeError(text) if isinstance(error, TypeError | AttributeError) else ValueError(text)


def _only(entry: Sequence[Any]) -> Any:
    """The one value of an entry."""
    if len(entry) != 2:
        raise ValueError(f"it takes one value, got: {len(entry) - 1}")
    return entry[1]


def _spread(perform: Callable[..., None], stage: _Stage, entry: Sequence[Any]) -> None:
    """Perform an entry in either form: `(tag, {…})` or `(tag, value, value, …)`."""
    if len(entry) == 2 and isinstance(entry[1], (dict, Mapping)):
        perform(stage, **entry[1])
    else:
        perform(stage, *entry[1:])


def _reason(entry: Sequence[Any]) -> tuple[Any, dict[str, Any]]:
    if not 2 <= len(entry) <= 3:
        raise ValueError(f"it takes a reason and, optionally, fields, got: {len(entry) - 1} values")
    return entry[1], dict(entry[2]) if len(entry) > 2 else {}


def _adapter_error(reason: Any, fields: dict[str, Any]) -> AllmError:
    if isinstance(reason, AllmError):
        return reason
    if not one_of(reason, AdapterError.reasons):
        reason, fields = "unknown", {"cause": reason, **fields}
    cause = fields.get("cause")
    if isinstance(cause, BaseException) and not isinstance(cause, AllmError):
        fields = {**fields, "cause": repr(cause)}  # text, which can be stored
    return AdapterError(reason, **{"provider": _FAKE, **fields})


def _stream_error(reason: Any, fields: dict[str, Any]) -> AllmError:
    return reason if isinstance(reason, AllmError) else StreamError(reason, **{"provider": _FAKE, **fields})
