"""The end of a turn that cannot end by itself: its session died, was shut down, or never began it.

Rule of this file: pure. Whatever happened, the reader sees one last event and gets one result. The result has
the thread as it was last kept, with an answer to every call that is not left to the caller, and the steps
that were shown; apart from that it is the one of a turn that is cut off before its model has answered.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from allm_actors.data import (
    ChatCompleted,
    ChatResult,
    ErrorEvent,
    Event,
    Response,
    StepCompleted,
    StepResult,
    StoreError,
    StreamError,
    Thread,
    ToolCall,
)
from allm_actors.execution.answers import as_error, stopped
from allm_actors.execution.fold import Fold, step_of
from allm_actors.execution.tools import repair
from supervisors import is_clean

from .spec import TurnSpec

__all__ = ["ending", "unadmitted", "unstored"]


def ending(
    spec: TurnSpec, thread: Thread, reason: object, pending: Iterable[ToolCall] = ()
) -> tuple[Any, tuple[Event, ...]]:
    """The result and the last events of a turn that ended because of `reason`; None means that it was cancelled.

    The `pending` calls of its session wait for their caller, as before.
    """
    halted = "cancelled" if reason is None else "interrupted" if is_clean(reason) else "error"
    error = _error(halted, reason)
    if reason is not None:  # nobody is left to answer its open calls
        thread = repair(thread, keep={call.id for call in pending})
    match spec.options.kind:
        case "chat":
            metadata: dict[str, Any] = {"error": error} if halted == "error" else {}
            if spec.options.two_passes:
                metadata["structured_finalize"] = {"pass_1_halted": halted}
            steps = list(spec.channel.steps)
            said = steps[-1].response if steps else None
            result = ChatResult(
                thread=thread, final_response=said, halted_reason=halted, steps=steps, metadata=metadata
            )
            return result, (ErrorEvent(error), ChatCompleted(result))
        case "step":
            completed = StepCompleted(_response(spec, error), thread)
            return step_of(completed, {}), (ErrorEvent(error), completed)
        case _:
            return _response(spec, error), (ErrorEvent(error),)


def unadmitted(reason: object) -> StoreError:
    """The refusal of a turn whose session died, for `reason`, before the store had confirmed the turn's message."""
    text = (
        f"the session ended ({reason}) while this turn's message was being stored: whether it is stored is not known; "
        "look at the session's messages: reply again if it is not there, and call continue_() if it is"
    )
    return StoreError("unconfirmed", message=text)


def unstored(result: Any, last: tuple[Event, ...], error: StoreError) -> tuple[Any, tuple[Event, ...]]:
    """The result and the last events of a turn whose end could not be stored: its own, with that error.

    Unchanged for a turn that has ended because the store failed: it has shown why.
    """
    if isinstance(_error_of(result), StoreError):
        return result, last
    match result:
        case ChatResult():
            metadata = {**result.metadata, "error": error}
            result = msgspec.structs.replace(result, halted_reason="error", metadata=metadata)
            return result, (ErrorEvent(error), ChatCompleted(result))
        case StepResult():
            result = msgspec.structs.replace(result, metadata={**result.metadata, "error": error})
        case _:  # a `Response` has no place for the error
            pass
    return result, (ErrorEvent(error), *last)


def _error_of(result: Any) -> Any:
    """The error that the turn has ended with, or None."""
    told = result.response if isinstance(result, StepResult) else result
    return None if told is None else told.metadata.get("error")


def _response(spec: TurnSpec, error: StreamError) -> Response:
    response = as_error(Fold().response(), error)
    return msgspec.structs.replace(response, request_id=spec.options.request_id)


def _error(halted: str, reason: object) -> StreamError:
    match halted:
        case "cancelled":
            return stopped("cancelled", "the turn was cancelled before it began")
        case "interrupted":
            return stopped("interrupted", "the host was shut down during the turn; reply again to go on")
        case _:
            text = (
                f"the session ended during the turn ({reason}); what was stored is intact, so reply again to "
                "go on"
            )
            return StreamError("adapter_error", message=text, cause=str(reason))
