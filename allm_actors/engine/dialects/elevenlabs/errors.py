"""ElevenLabs' error responses.

Rule of this file: the error in the body comes before the status, which is 401 for an empty account as for a
wrong key.

    code, status or type in the body                                      reason
    --------------------------------------------------------------------  ------------------------
    quota_exceeded, insufficient_credits, payment_required                invalid_request
    (403) feature_not_available, insufficient_permissions,                unsupported_feature
      subscription_required, output_format_not_allowed,
      invalid_output_format
    (400, 401) type authentication_error                                  authentication_failed
    (400) text_too_long                                                   context_length_exceeded
    any other                                                             the status decides

Source: https://elevenlabs.io/docs/developers/resources/errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from allm_actors.data import AdapterError
from allm_actors.engine.dialects.failures import detail_text, http_error
from allm_actors.engine.dialects.lenient import read_object, text_of
from allm_actors.engine.dialects.refusals import as_refusal
from allm_actors.engine.services import Service
from allm_actors.engine.wire import HttpAnswer

__all__ = ["elevenlabs_refusal"]

_QUOTA: Final = frozenset({"quota_exceeded", "insufficient_credits", "payment_required"})
_PLAN: Final = frozenset(
    {"feature_not_available", "insufficient_permissions", "subscription_required"}
    | {"output_format_not_allowed", "invalid_output_format"}
)
_STATUSES: Final[Mapping[int, str]] = {
    **dict.fromkeys((401, 403), "authentication_failed"),
    **dict.fromkeys((400, 402, 404, 409, 413, 422), "invalid_request"),
    429: "rate_limited",
    **dict.fromkeys((500, 501, 502, 503, 504), "provider_unavailable"),
}


def elevenlabs_refusal(failure: HttpAnswer, row: Service) -> AdapterError:
    """The capability's error for an error response."""
    wire = read_object(failure.body) or {}
    told = wire.get("detail", wire)
    detail = told if isinstance(told, dict) else {"message": detail_text(told)}
    words = {text_of(detail.get(name)) for name in ("code", "status", "type")} - {None}
    code = text_of(detail.get("code")) or text_of(detail.get("status"))
    said = {"message": detail.get("message"), "code": code, "type": detail.get("type")}
    return as_refusal(http_error(failure, row.provider, said, _reason(failure.status, words)), row)


def _reason(status: int, words: set[Any]) -> str | None:
    if words & _QUOTA:
        return "invalid_request"
    if status == 403 and words & _PLAN:
        return "unsupported_feature"
    if status in (400, 401) and "authentication_error" in words:
        return "authentication_failed"
    if status == 400 and "text_too_long" in words:
        return "context_length_exceeded"
    return _STATUSES.get(status)
