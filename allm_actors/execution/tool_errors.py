"""Errors of tool calls, with messages that a model can act on.

Rule of this file: an error names the tool, says what happened and, if anything can be done about it, what.
Its `cause` is text: errors are stored, and exceptions cannot be.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from allm_actors.data import AllmError, EngineError, StreamError, ToolCall, ToolError
from allm_actors.data.authorship import ours

__all__ = [
    "call_cancelled",
    "describe",
    "handler_raised",
    "help_needed",
    "invalid_arguments",
    "invalid_return",
    "not_begun",
    "not_encoded",
    "not_found",
    "not_settled",
    "policy_raised",
    "predicate_raised",
    "timed_out",
    "unknown_tool",
    "worker_crashed",
]

_FEW: Final = 5  # how many errors of an exception group are described
_LONGEST: Final = 10_000  # characters of an exception's text; some quote their whole input


def unknown_tool(call: ToolCall, known: tuple[str, ...] = ()) -> EngineError:
    """The model called a tool that it was not given."""
    listed = f"; the tools are: {', '.join(known)}" if known else "; there are no tools to call"
    return EngineError(
        "unknown_tool",
        message=f"tool {call.name} not in engine.tools{listed}",
        metadata={"tool_name": call.name, "tool_call_id": call.id},
    )


def invalid_arguments(call: ToolCall) -> ToolError:
    """The arguments of a call are no JSON object, so the handler never saw them."""
    why = call.metadata.get("arguments_error") or "they are not a JSON object"
    message = (
        f"{call.name} was not called because its arguments are invalid: {why}. Send one complete JSON object."
    )
    return _error("invalid_arguments", call, message)


def help_needed(call: ToolCall, why: str) -> ToolError:
    """A compact tool was called by its stub, without arguments it requires; `why` holds its schema."""
    return _error("invalid_arguments", call, why)


def not_found(call: ToolCall) -> ToolError:
    """The tool is known but has no handler to run."""
    return _error("not_found", call, f"tool {call.name!r} has no handler; give it one, or make it manual")


def timed_out(call: ToolCall, timeout: float | None = None) -> ToolError:
    """The handler did not answer in time. Units: `timeout` in seconds."""
    within = f" within {timeout:g} s" if timeout is not None else " in time"
    return _error("timeout", call, f"{call.name} did not answer{within}; whether it took effect is unknown")


def worker_crashed(call: ToolCall, reason: str) -> ToolError:
    """The worker that ran the handler is gone."""
    message = f"{call.name} crashed ({reason}); whether it took effect is unknown"
    return _error("handler_exit", call, message)


def not_begun(call: ToolCall, reason: str) -> ToolError:
    """No worker could be started for the call."""
    return _error("handler_exit", call, f"{call.name} was not started: {reason}")


def call_cancelled(call: ToolCall, why: str, *, started: bool) -> ToolError:
    """The run ended before the call did; `why` is `cancelled` or `interrupted`."""
    fate = "the outcome is unknown" if started else "the call was not started"
    return _error("interrupted", call, f"{why}: {fate}")


def handler_raised(call: ToolCall, error: BaseException) -> AllmError:
    """The handler raised; an error of this library is kept."""
    if isinstance(error, AllmError):
        return error
    reason, verb = (
        ("handler_raised", "raised") if isinstance(error, Exception) else ("handler_exit", "exited with")
    )
    failure = _error(reason, call, f"{call.name} {verb} {describe(error)}", cause=describe(error))
    failure.__cause__ = error  # for a policy function, which runs where the exception was raised
    return failure


def not_encoded(call: ToolCall, error: Exception) -> ToolError:
    """The handler's result could not be encoded as text."""
    message = f"the result of {call.name} cannot be encoded: {describe(error)}"
    failure = _error("encoding_failed", call, message, cause=describe(error))
    # Frames in its traceback and context hold the result, which may be a coroutine or a file.
    error.__context__ = None
    failure.__cause__ = error.with_traceback(None)
    return failure


def not_settled(call: ToolCall) -> ToolError:
    """The handler's result was lost, because the user's encoder or policy did not complete."""
    message = f"{call.name} answered, but encoding its answer as text did not finish; the answer is lost"
    return _error("encoding_failed", call, message)


def invalid_return(call: ToolCall, message: str, cause: str | None = None, **metadata: Any) -> ToolError:
    """A handler, or a policy, returned something invalid."""
    error = _error("invalid_return", call, message, cause=cause)
    error.metadata.update(metadata)
    return error


def policy_raised(call: ToolCall, raised: Exception) -> ToolError:
    """The user's `on_tool_error` function raised; what it raised is in the metadata, as an error that can be stored."""
    said = describe(raised)
    message = f"on_tool_error raised {said}"
    if not isinstance(raised, AllmError):
        raised = _error("handler_raised", call, message, cause=said)
    return invalid_return(call, message, said, on_tool_error_raised=True, on_tool_error_exception=raised)


def predicate_raised(raised: Exception) -> AllmError:
    """The user's `halt_when` raised: an error that can be stored, and what it raised as its cause."""
    if isinstance(raised, AllmError):
        return raised
    error = StreamError("unknown", message=f"halt_when raised {describe(raised)}", cause=describe(raised))
    error.__cause__ = raised
    return error


def describe(value: object) -> str:
    """A text for people and models: never raises, never empty for an error."""
    try:
        if isinstance(value, str):
            return value
        if isinstance(value, AllmError):
            return str(value)
        if isinstance(value, BaseExceptionGroup):
            told = "; ".join(map(describe, islice(_leaves(value), _FEW)))
            return f"{type(value).__name__}: {value}: {told}"
        if isinstance(value, BaseException):
            said, name = str(value), type(value).__name__
            if len(said) > _LONGEST:
                said = f"{said[:_LONGEST]}… ({len(said):,} characters)"
            return f"{name}: {said}" if said else name
        return repr(value)
    except Exception:  # noqa: BLE001 - __str__ and __repr__ are user code too
        return f"<{type(value).__name__}>"


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    """The leaf exceptions of a group, such as a TaskGroup's; the group itself says nothing useful."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _error(reason: str, call: ToolCall, message: str, cause: Any = None) -> ToolError:
    return ours(ToolError(reason, message=message, cause=cause, tool_name=call.name, tool_call_id=call.id))
