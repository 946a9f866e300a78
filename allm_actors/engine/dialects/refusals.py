"""Errors of calls that are not chat, as the capability's own error type.

Rule of this file: `failures` reads the error response; here it gets the capability's type, and the reasons
that only some capabilities have. The table below is tried from the top; a mark is searched for in the
provider's code, type and text.

Source: the error pages of OpenAI, Google, Voyage, Cohere and Ollama, and recorded refusals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from allm_actors.data import AdapterError, Audio, Image, ValidationError
from allm_actors.engine.dialects.body import json_body
from allm_actors.engine.dialects.failures import advised_anew, http_error
from allm_actors.engine.dialects.lenient import read_object
from allm_actors.engine.services import Service
from allm_actors.engine.wire import HttpAnswer, HttpRequest

__all__ = ["answered_object", "as_refusal", "check_count", "json_request", "media_bytes", "refusal"]

_MARKS: Final[Mapping[str, tuple[tuple[re.Pattern[str], str], ...]]] = {
    "embed": (
        (
            re.compile(
                r"max_tokens_per_request|context_length|context window|too many tokens|max allowed tokens",
                re.IGNORECASE,
            ),
            "context_length_exceeded",
        ),
    ),
    "speech": ((re.compile(r"string_too_long|text_too_long", re.IGNORECASE), "context_length_exceeded"),),
}
# A prompt that is too long for an image is not a context that is too long.
_OTHERS: Final[Mapping[tuple[str, str], str]] = {("image", "context_length_exceeded"): "invalid_request"}


def refusal(failure: HttpAnswer, row: Service) -> AdapterError:
    """The capability's error for an error response."""
    return as_refusal(http_error(failure, row.provider), row)


def as_refusal(error: AdapterError, row: Service) -> AdapterError:
    """Any adapter's error as the capability's own."""
    reason = error.reason
    if error.status in (400, 422):
        said = " ".join(map(str, (error.metadata.get("code"), error.metadata.get("type"), error.message)))
        reason = next((made for mark, made in _MARKS.get(row.span, ()) if mark.search(said)), reason)
    reason = _OTHERS.get((row.span, reason), reason)
    told = row.error(
        reason,
        advised_anew(error.message, error.reason, reason),
        status=error.status,
        retry_after_ms=error.retry_after_ms,
        metadata=error.metadata,
    )
    told.cause = error.cause
    return told


def answered_object(answer: HttpAnswer, row: Service) -> dict[str, Any]:
    """The JSON object in an answer. Raises `malformed_response`, or the error that a 2xx answer contains."""
    wire = read_object(answer.body)
    if wire is None:
        raise row.malformed("it is not a JSON object")
    if wire.get("error"):
        raise refusal(answer, row)
    return wire


def json_request(url: str, body: Mapping[str, Any], row: Service, **headers: str) -> HttpRequest:
    """The request that sends this as JSON. Raises `invalid_request` for invalid Unicode; TypeError for a value that is
    not plain data.
    """
    try:
        sent = json_body(body)
    except ValidationError as error:
        raise row.error("invalid_request", error.message) from None
    return HttpRequest(url=url, body=sent, headers={"content-type": "application/json", **headers})


def media_bytes(media: Audio | Image, what: str, row: Service, **about: str) -> bytes:
    """The bytes to send. Raises `invalid_request` if they cannot be read; `about` is its metadata."""
    try:
        return media.to_bytes()
    except ValueError as error:
        why = str(error)
    except OSError as error:  # not its own text, which contains the path: that may be private
        why = f"the file cannot be read ({type(error).__name__})"
    raise row.error("invalid_request", f"{what} cannot be sent: {why}", metadata=about)


def check_count(inputs: Any, row: Service) -> None:
    """Raises `invalid_request` or `batch_too_large` unless there are inputs, and not too many."""
    if not isinstance(inputs, list):
        message = f"input must be a list, got {type(inputs).__name__}"
        raise row.error("invalid_request", message, metadata={"field": "input"})
    if not inputs:
        raise row.error(
            "invalid_request", "there is no input; give at least one", metadata={"field": "input"}
        )
    if row.most is not None and len(inputs) > row.most:
        sizes = {"count": len(inputs), "max": row.most}
        message = (
            f"{row.provider.label} takes {row.most} inputs at once, got {len(inputs)}; send them in parts"
        )
        raise row.error("batch_too_large", message, metadata=sizes)
