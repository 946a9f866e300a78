"""Telemetry as log lines, with names from OpenTelemetry's semantic conventions: one for each ended span, each
response and each retry.

Rule of this file: the content of a conversation is logged only on request, and every text is first stripped
of its call's key, and of what looks like one. A line is plain data, so that any processor can render it.

Source: OpenTelemetry semantic conventions for generative AI (gen_ai.*, error.type) and for HTTP (http.*,
server.address); they have no names for rate limits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from itertools import count
from typing import Any

from allm_actors.data import AllmError, Err, Response, ToolCall, ToolError
from allm_actors.data.authorship import is_ours
from allm_actors.data.redaction import is_labelled, redact

from .bus import Event, attach, detach
from .hiding import hidden
from .names import EVENTS

__all__ = ["EventLog", "log_events"]

_LOGGED = tuple(name for name in EVENTS if not name.endswith(".start"))
_LONGEST = 300  # characters of a message
_numbers = count(1)


class EventLog(AbstractContextManager["EventLog"]):
    """Telemetry is being logged, until `close()` or the end of the `with` block."""

    def __init__(self, id: str) -> None:
        self._id = id

    def close(self) -> None:
        """Stop logging."""
        detach(self._id)

    def __exit__(self, *_exc: object) -> None:
        self.close()


def log_events(logger: Any = None, *, content: bool = False) -> EventLog:
    """Log telemetry from now on, with a structlog logger (None: structlog's own, as it is configured).

    Use the result in a `with` block, or `close()` it, to stop. Spans are logged at info, exceptions and retries
    at warning, responses of providers at debug.
    `content` adds texts, tool arguments and tool results. Raises TypeError for what is no structlog logger.
    """
    if logger is None:
        import structlog

        logger = structlog.get_logger("allm_actors")
    _check(logger)
    id = f"log_events-{next(_numbers)}"
    attach(id, lambda event: _log(logger, event, content=content), _LOGGED)
    return EventLog(id)


def _check(logger: Any) -> None:
    able = all(callable(getattr(logger, name, None)) for name in ("debug", "info", "warning"))
    if isinstance(logger, (logging.Logger, logging.LoggerAdapter)) or not able:
        advice = (
            "pass structlog.get_logger(…); structlog.stdlib writes to the loggers of the standard library"
        )
        raise TypeError(f"log_events needs a structlog logger, got {type(logger).__name__}; {advice}")


def _log(logger: Any, event: Event, *, content: bool) -> None:
    fields = {name: value for name, value in line_of(event, content=content).items() if value is not None}
    if event.name == "allm.adapter.response":
        write = logger.debug
    else:
        trouble = not event.name.endswith(".stop") or "error.type" in fields
        write = logger.warning if trouble else logger.info
    write(event.name, **fields)


def line_of(event: Event, *, content: bool) -> dict[str, Any]:
    """The fields of one line; None for what is not known."""
    about = event.metadata
    line: dict[str, Any] = {
        "request_id": about.get("request_id"),
        "gen_ai.conversation.id": about.get("session_id"),
        "gen_ai.operation.name": event.name.split(".")[1],
        "gen_ai.request.model": about.get("model"),
        "duration": event.measurements.get("duration"),
        "image_count": event.measurements.get("image_count"),
    }
    for name, describe in _DESCRIBED.items():
        if about.get(name) is not None:
            line |= describe(about[name], content)
    return {name: _without_keys(hidden(value)) for name, value in line.items()}


def _response(response: Response, content: bool) -> dict[str, Any]:
    failure = response.metadata.get("error")
    line = {
        "gen_ai.response.finish_reasons": [response.finish_reason] if response.finish_reason else None,
        **_tokens(response.usage),
        "error.type": _type_of(failure) if failure is not None else None,
    }
    return line | ({"gen_ai.output.text": response.output_text} if content else {})


def _tokens(usage: Any) -> dict[str, Any]:
    return {
        "gen_ai.usage.input_tokens": getattr(usage, "input_tokens", None),
        "gen_ai.usage.output_tokens": getattr(usage, "output_tokens", None),
    }


def _chat(result: Any, _content: bool) -> dict[str, Any]:
    failure = result.metadata.get("error")
    return {
        "halted_reason": result.halted_reason,
        "steps": len(result.steps),
        "error.type": _type_of(failure) if failure is not None else None,
    }


def _call(call: ToolCall, content: bool) -> dict[str, Any]:
    line = {"gen_ai.tool.name": call.name, "gen_ai.tool.call.id": call.id}
    return line | ({"gen_ai.tool.call.arguments": call.arguments} if content else {})


def _result(result: Any, content: bool) -> dict[str, Any]:
    line = {"outcome": type(result).__name__}
    if isinstance(result, Err):
        line |= _tool_failure(result.reason, content)
    return line | ({"gen_ai.tool.call.result": _told(repr, result)} if content else {})


def _tool_failure(reason: Any, content: bool) -> dict[str, Any]:
    """Why a tool failed: the library's own text, and that of the tool's code only with `content`."""
    if not isinstance(reason, BaseException):
        return {"error.type": "Err"}
    raised = reason.__cause__
    return {
        "error.type": _type_of(reason),
        "exception.type": type(raised).__name__ if raised is not None else None,
        "error.message": _short(_told(str, reason)) if content else _our_words(reason),
    }


def _our_words(reason: BaseException) -> str | None:
    """The text of an error that the library itself wrote, without what it quotes, or None."""
    if not isinstance(reason, ToolError) or reason.cause is not None:
        return None
    unquoted = reason.metadata.get("unquoted")  # arguments that do not fit, without what the model sent
    if isinstance(unquoted, str):
        return _short(unquoted)
    return _short(_told(str, reason)) if is_ours(reason) else None


def _told(how: Callable[[Any], str], value: Any) -> str:
    try:
        return how(value)
    except Exception:  # noqa: BLE001 - `__repr__` and `__str__` are the user's code
        return f"<{type(value).__name__}>"


def _short(text: str) -> str:
    text = redact(hidden(text))  # before it is cut: half a key is not known as one
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


_DESCRIBED: Mapping[str, Callable[[Any, bool], dict[str, Any]]] = {
    "response": lambda value, content: _response(value, content) if isinstance(value, Response) else {},
    "chat_result": _chat,
    "usage": lambda usage, _content: _tokens(usage),
    "error": lambda error, _content: {"error.type": _type_of(error)},
    "tool_call": _call,
    "result": _result,
    "kind": lambda kind, _content: {"kind": kind},
    "reason": lambda reason, _content: {"error.type": _type_of(reason)},
    "attempt": lambda attempt, _content: {"attempt": attempt},
    "delay_ms": lambda delay, _content: {"delay_ms": delay},
    "status": lambda status, _content: {"http.response.status_code": status},
    "server": lambda server, _content: {"server.address": server},
    "provider_request_id": lambda id, _content: {"provider_request_id": id},
    "retry_after_ms": lambda wait, _content: {"retry_after_ms": wait},
    "rate_limits": lambda limits, _content: {
        f"rate_limit.{of}.{what}": number for of, said in limits.items() for what, number in said.items()
    },
    "provider": lambda provider, _content: {"gen_ai.provider.name": provider},
}


def _type_of(failure: Any) -> str:
    """OpenTelemetry's error.type: the reason of our errors, otherwise the class; `exit` for a process that ended."""
    if isinstance(failure, BaseException) and not isinstance(failure, AllmError):
        return type(failure).__name__  # others' reasons are sentences
    reason = getattr(failure, "reason", failure)
    if not isinstance(reason, str):
        return type(failure).__name__
    return reason if reason.isidentifier() else "exit"


def _without_keys(value: Any, name: str = "") -> Any:
    """`value`, of the field `name`, without what looks like a key, or is named one."""
    match value:
        case bool():
            return value
        case str() | int() | float() if is_labelled(name, str(value)):
            return "[REDACTED]"
        case str():
            return redact(value)
        case Mapping():
            return {_without_keys(each): _without_keys(item, str(each)) for each, item in value.items()}
        case list() | tuple():
            return [_without_keys(item, name) for item in value]
        case _:
            return value
