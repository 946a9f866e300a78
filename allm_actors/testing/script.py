"""Entries of a script for the fake provider: one function per kind.

Rule of this file: an entry is a plain tuple with its kind first, so that a script is data: it can be
compared, stored with its engine, and written by hand where that is shorter. Times are seconds.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from allm_actors.data import AdapterError, AllmError, FinishReason, StreamError, Usage
from allm_actors.engine.script import counted

__all__ = [
    "Entry",
    "delay",
    "error",
    "finish",
    "ok",
    "preflight_error",
    "raw_chunk",
    "retry_until_call",
    "text",
    "tool_call",
    "tool_call_delta",
    "usage",
]

Entry = tuple[Any, ...]


def text(fragment: str) -> Entry:
    """The model writes a fragment of text."""
    return ("text", fragment)


def tool_call(
    name: str,
    arguments: dict[str, Any] | None = None,
    *,
    id: str | None = None,
    raw_arguments: str | None = None,
) -> Entry:
    """The model calls a tool. Without an `id` calls are numbered through a script: `c0`, `c1`, …, past those it gives.

    `raw_arguments` is the JSON text the model wrote; text that is not a JSON object makes a call with
    `metadata["arguments_error"]`.
    """
    fields = {"id": id, "name": name, "arguments": arguments, "raw_arguments": raw_arguments}
    return ("tool_call", {key: value for key, value in fields.items() if value is not None})


def tool_call_delta(id: str, fragment: str) -> Entry:
    """The model writes a fragment of a call's arguments."""
    return ("tool_call_delta", {"id": id, "arguments_delta": fragment})


def usage(**fields: Any) -> Entry:
    """What the call consumed; the last one counts.

    Raises TypeError for a name that `Usage` does not have, and for a count that is no number.
    """
    counted(Usage(**fields))
    return ("usage", fields)


def finish(reason: FinishReason) -> Entry:
    """The model stops; what follows in the script is never played."""
    return ("finish", reason)


def error(reason: str | AllmError, **fields: Any) -> Entry:
    """The stream fails here: with an `AdapterError` reason and its fields, or with an error of yours.

    Another reason is played as `unknown`, with itself as the cause. Raises ValueError for one that looks misspelt.
    """
    _check_spelling(reason)
    return ("error", reason, fields) if fields else ("error", reason)


def preflight_error(reason: str, **fields: Any) -> Entry:
    """The call itself is refused with `AdapterError(reason, **fields)`; the first entry of a script.

    Raises ValueError as `error` does.
    """
    _check_spelling(reason)
    return ("preflight_error", reason, fields)


def raw_chunk(payload: Any) -> Entry:
    """The provider sends something that has no event of its own."""
    return ("raw_chunk", payload)


def delay(seconds: float) -> Entry:
    """Time passes, in real or virtual time."""
    return ("delay", seconds)


def ok(value: Any, **fields: Any) -> Entry:
    """For calls that are not chat: the response, or a value it is made from; `fields` are its other fields."""
    return ("ok", value, fields) if fields else ("ok", value)


def retry_until_call(n: int) -> Entry:
    """For calls that are not chat: `rate_limited` for the first n - 1 calls; then the next entry is played."""
    return ("retry_until_call", n)


def _check_spelling(reason: object) -> None:
    if not isinstance(reason, str):
        return
    kinds: list[type[AllmError]] = [AdapterError, *AdapterError.__subclasses__(), StreamError]
    known = sorted(frozenset().union(*(kind.reasons for kind in kinds)))
    near = [] if reason in known else get_close_matches(reason, known, n=1, cutoff=0.85)
    if near:
        raise ValueError(f"no error has the reason {reason!r}; did you mean {near[0]!r}?")
