"""Whether a call's answer is a value of the requested type.

Rule of this file: it only looks at a result, and raises what that result already says. The type's own code runs here
only if the call itself had no `response_model`: otherwise a worker has parsed the answer.
"""

from __future__ import annotations

from typing import Any

from allm_actors.data import AllmError, ChatResult, Response, StepResult
from allm_actors.data.schemas.structured import misfit, parse
from allm_actors.data.unwrap import unwrap

__all__ = ["check_fits"]

_WITHOUT_ANSWER = (None, "tool_calls")  # a call that was abandoned or cancelled, or that halts at its tools


def check_fits(result: Response | StepResult | ChatResult, model: Any, *, parsed: bool = False) -> None:
    """Raises the error of a failed call, UnwrapError for an answer that was cut short, and ValidationError
    for an answer that is no value of the type. `parsed`: the call has parsed the answer itself. A call that
    halted has no answer, so nothing is raised.
    """
    metadata = getattr(result, "metadata", {})
    passes = metadata.get("structured_finalize") or {}
    for error in (metadata.get("error"), passes.get("pass_2_error")):
        if isinstance(error, AllmError):
            raise error
    if isinstance(result, ChatResult) and result.halted_reason != "completed":
        return
    response = result if isinstance(result, Response) else _response_of(result)
    if response is None or response.parsed is not None or response.finish_reason in _WITHOUT_ANSWER:
        return
    text = unwrap(response)
    if parsed:
        return
    try:
        parse(text, model)
    except ValueError as problem:
        raise misfit(str(problem), 0) from None


def _response_of(result: StepResult | ChatResult) -> Response | None:
    return result.response if isinstance(result, StepResult) else result.final_response
