"""Every span and event, and its metadata.

    span        metadata of its stop, besides that of its start
    ----------  ---------------------------------------------------------------------------------------------------
    chat        chat_result
    step        step_result (None if the step did not complete)
    generate    response (None if the model call did not complete)
    stream      -
    tool        result (a handler's outcome); its start has tool and tool_call
    image       response, usage, error; its start has operation and n; measures image_count
    embed, moderate, speech, transcribe, classify        response, usage, error

A call that is not chat emits `stop` even when it failed: with the library's error in `error`, and None as the
response.

A span emits `allm.<span>.start` {system_time, monotonic_time}, then `allm.<span>.stop` or `allm.<span>.exception`
{duration, monotonic_time}. Metadata always has request_id, engine and model, and in a session session_id; an exception
adds kind (`error`: it was raised; `exit`: the process that ran it was stopped or died), reason and
stacktrace.

    event                 measurements               metadata
    --------------------  -------------------------  ----------------------------------------------------------------
    allm.adapter.response system_time, duration      request_id, provider, model, attempt, status, server,
                                                     provider_request_id, rate_limits, retry_after_ms
    allm.adapter.retry    system_time                request_id, provider, model, attempt, delay_ms, reason

A response is reported when its head has come; `duration` is from the request to its head, `attempt` counts
from 1 (None for calls that are not chat, whose attempts are counted elsewhere), `server` is the host,
`rate_limits` are read from its headers (see `engine.ratelimits`), `retry_after_ms` is the wait that it asks
for.

Units: seconds; `system_time` since the epoch. Source: the telemetry of the Elixir library ALLM, with the same
names; its stream span ends when the lazy stream is made, ours when the provider's answer is over.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final

__all__ = ["EVENTS", "METADATA", "SPANS", "check_event", "check_span"]

SPANS: Final = (
    "chat",
    "step",
    "generate",
    "stream",
    "tool",
    "image",
    "embed",
    "moderate",
    "speech",
    "transcribe",
    "classify",
)
_PHASES: Final = ("start", "stop", "exception")
EVENTS: Final = (
    *(f"allm.{span}.{phase}" for span in SPANS for phase in _PHASES),
    "allm.adapter.response",
    "allm.adapter.retry",
)
METADATA: Final = frozenset(
    {
        *("request_id", "session_id", "engine", "model", "operation", "n", "tool", "tool_call"),
        *(
            "chat_result",
            "step_result",
            "response",
            "result",
            "usage",
            "error",
            "kind",
            "reason",
            "stacktrace",
        ),
        *("provider", "attempt", "delay_ms", "status", "server", "provider_request_id"),
        *("rate_limits", "retry_after_ms"),
    }
)
"""Every name in the metadata of the library's own events."""


def check_span(name: str) -> None:
    """Raises ValueError for a span that does not exist."""
    _check(name, SPANS, "span")


def check_event(name: object) -> None:
    """Raises ValueError for an event that does not exist."""
    _check(name, EVENTS, "event")


def _check(name: object, known: tuple[str, ...], what: str) -> None:
    if name not in known:
        near = get_close_matches(str(name), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; the names are {', '.join(known)}"
        raise ValueError(f"there is no telemetry {what} {name!r}{hint}")
