"""Error responses of providers, as `AdapterError`.

Rule of this file: the reason is one of our closed set, the provider's own words are quoted, bounded and
redacted, and the message says what to do. A body is never part of an error: only its error message, which is
meant for people.

Source: https://platform.openai.com/docs/guides/error-codes, RFC 9110 10.2.3 (Retry-After).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from allm_actors.data import AdapterError
from allm_actors.data.redaction import redact
from allm_actors.engine.catalog import Provider
from allm_actors.engine.dialects.lenient import dict_of, dicts_of, text_of
from allm_actors.engine.ratelimits import date_of, server_time
from allm_actors.engine.wire import HttpAnswer

__all__ = ["advised_anew", "detail_text", "http_error", "provider_request_id", "retry_after_ms", "wire_error"]

_MAX_WORDS = 500
_CODES = {
    "context_length_exceeded": "context_length_exceeded",
    "rate_limit_exceeded": "rate_limited",
    "rate_limit_error": "rate_limited",
    "rate_limited": "rate_limited",
    "insufficient_quota": "rate_limited",
    "tokens": "rate_limited",
    "over_capacity": "provider_unavailable",
    "overloaded_error": "provider_unavailable",
    "server_error": "provider_unavailable",
    "internal_server_error": "provider_unavailable",
    "service_unavailable": "provider_unavailable",
    "timeout": "timeout",
    "vector_store_timeout": "timeout",
    "invalid_api_key": "authentication_failed",
    "authentication_error": "authentication_failed",
    "permission_error": "authentication_failed",
    "model_not_found": "invalid_request",
    "invalid_prompt": "invalid_request",
    "invalid_request_error": "invalid_request",
    "not_found_error": "invalid_request",
    "request_too_large": "invalid_request",
    "api_error": "provider_unavailable",
    "timeout_error": "timeout",
    "billing_error": "authentication_failed",
    # Google's words, RPC codes.
    "RESOURCE_EXHAUSTED": "rate_limited",
    "UNAVAILABLE": "provider_unavailable",
    "INTERNAL": "provider_unavailable",
    "DEADLINE_EXCEEDED": "timeout",
    "UNAUTHENTICATED": "authentication_failed",
    "PERMISSION_DENIED": "authentication_failed",
    "API_KEY_INVALID": "authentication_failed",
    "INVALID_ARGUMENT": "invalid_request",
    "FAILED_PRECONDITION": "invalid_request",
    "NOT_FOUND": "invalid_request",
    "tool_use_failed": "invalid_request",
    # AWS's exceptions.
    "ThrottlingException": "rate_limited",
    "ServiceQuotaExceededException": "rate_limited",
    "ModelNotReadyException": "rate_limited",
    "AccessDeniedException": "authentication_failed",
    "UnrecognizedClientException": "authentication_failed",
    "ExpiredTokenException": "authentication_failed",
    "InvalidSignatureException": "authentication_failed",
    "ValidationException": "invalid_request",
    "ResourceNotFoundException": "invalid_request",
    "ConflictException": "invalid_request",
    "ModelTimeoutException": "timeout",
    "ModelErrorException": "provider_unavailable",
    "ModelStreamErrorException": "provider_unavailable",
    "InternalServerException": "provider_unavailable",
    "ServiceUnavailableException": "provider_unavailable",
    # Cohere's, at the end of an answer.
    "ERROR": "provider_unavailable",
    "TIMEOUT": "timeout",
}
# The wording of providers that have no code for it.
# Source: their answers, as quoted in https://github.com/earendil-works/pi/issues/4943 (OpenRouter),
# https://github.com/ggml-org/llama.cpp/pull/15780, and in the clients of the others.
_TOO_LONG = re.compile(
    r"prompt is too long|context window|context length|exceed context limit"
    r"|input token count|input is too long|exceeds the maximum number of tokens"
    r"|maximum prompt length is|exceeds the available context size|exceeded model token limit"
    r"|maximum allowed input length|too many tokens:|max input tokens|`inputs` tokens \+ `max_new_tokens` must be"
    r"|longer than the maximum model length|range of input length should be",
    re.IGNORECASE,
)
# Codes of content that a policy refuses, and the wording of providers that have none for it, or that of a wrong key.
# Source: https://github.com/camel-ai/owl/issues/432 and https://github.com/QwenLM/Qwen/issues/938 (Alibaba),
# https://openrouter.ai/docs/api/reference/errors-and-debugging (`flagged_input`),
# https://github.com/deepseek-ai/awesome-deepseek-integration/issues/13; xAI's is from its answers.
_FILTERED = re.compile(r"content_filter|policy|moderation|data_?inspection|flagged_input")
_UNWANTED = re.compile(r"violates usage guidelines|content exists risk", re.IGNORECASE)
_USED_UP = frozenset({"insufficient_quota", "ServiceQuotaExceededException"})  # waiting does not help
_WRONG_KEY = re.compile(r"(?:incorrect|invalid) api[ _-]?key", re.IGNORECASE)
_REQUEST_IDS = ("x-request-id", "request-id", "x-amzn-requestid")
_ERROR_TYPE = "x-amzn-errortype"  # AWS names the exception beside the body: `Name`, or `Name:http://…`
_REDIRECTS = range(300, 400)
_STATUSES = {
    401: "authentication_failed",
    403: "authentication_failed",
    408: "timeout",
    429: "rate_limited",
    **dict.fromkeys((400, 402, 404, 405, 409, 410, 411, 413, 415, 422, 431), "invalid_request"),
}


def http_error(
    failure: HttpAnswer, row: Provider, wire: Mapping[str, Any] | None = None, reason: str | None = None
) -> AdapterError:
    """The error for a response that is not a success.

    `wire` is what describes it, and `reason` overrides the tables here, where a format has its own way of saying so.
    """
    headers = {name.lower(): value for name, value in failure.headers.items()}
    wait = retry_after_ms(headers, failure.now)
    wire = _error_object(failure.body) if wire is None else wire
    if headers.get(_ERROR_TYPE):
        wire = {"code": headers[_ERROR_TYPE].partition(":")[0], **wire}
    error = wire_error(wire, row, status=failure.status, wait_ms=wait, reason=reason)
    provider_id = provider_request_id(headers)
    if provider_id:
        error.metadata["provider_request_id"] = provider_id
    return error


def provider_request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's id of the request, from lower-case `headers`, or None."""
    said = next((headers[name] for name in _REQUEST_IDS if headers.get(name)), None)
    return redact(said)[:200] if said else None


def wire_error(
    wire: Any,
    row: Provider,
    *,
    status: int | None = None,
    wait_ms: int | None = None,
    reason: str | None = None,
) -> AdapterError:
    """The error for a provider's error object, or for its text, with the HTTP status it came with, if any.

    `reason` overrides the tables here, for callers that know it better.
    """
    if not isinstance(wire, Mapping):
        wire = {"message": wire}
    code, kind = (
        text_of(wire.get("code")) or _detail_reason(wire),
        text_of(wire.get("type")) or text_of(wire.get("status")),
    )
    wait_ms = _retry_info_ms(wire) if wait_ms is None else wait_ms
    status = status if status is not None and status >= 400 else _status_in(wire) or status
    said = text_of(wire.get("message")) or ""
    marks = f"{code or ''} {kind or ''} {_moderation_marks(wire)}".lower()
    reason = reason or _own_reason(row, status, code) or _reason(status, code, kind, marks, said)
    words = redact(said).strip()[:_MAX_WORDS]
    metadata: dict[str, Any] = {
        name: redact(value)[:100] for name, value in (("code", code), ("type", kind)) if value
    }
    if {code, kind} & _USED_UP:
        metadata["retry"] = False
    did = "reported an error" if status is None or 200 <= status < 300 else f"answered {status}"
    message = f"{row.label} {did}{': ' + words if words else ''}"
    advice = f"Wait {wait_ms / 1000:g} s." if wait_ms and reason in _PASSING else _advice(reason, status, row)
    return AdapterError(
        reason,
        provider=row.name,
        status=status,
        retry_after_ms=wait_ms,
        message=f"{message.rstrip('.')}. {advice}" if advice else message,
        metadata=metadata,
    )


def advised_anew(message: str, reason: str, instead: str) -> str:
    """The message with the advice for `reason` at its end replaced by that for `instead`."""
    old, new = _ADVICE.get(reason, ""), _ADVICE.get(instead, "")
    if not old or reason == instead or not message.endswith(old):
        return message
    return f"{message.removesuffix(old)}{new}".rstrip()


def retry_after_ms(headers: Mapping[str, str], now: float) -> int | None:
    """Milliseconds the server asks to wait, from lower-case `headers`; `now` is our clock, seconds since the epoch.

    A date is read by the server's clock if the answer has a `Date`.
    """
    exact = _number(headers.get("retry-after-ms"))
    if exact is not None:
        return int(exact)
    value = headers.get("retry-after", "")
    seconds = _number(value.partition(",")[0])  # of several values, the first
    if seconds is not None:
        return int(seconds * 1000)
    at = date_of(value)
    return None if at is None else max(0, int((at - server_time(headers, now)) * 1000))


def _error_object(body: bytes) -> Mapping[str, Any]:
    """What describes the error in a body: `{"error": {…}}`, `{"error": "…"}`, `{"message": …}`, `{"detail": …}`."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return {}
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return {}
    error = value.get("error", value)
    if isinstance(error, str):
        return {**value, "message": error}
    if not isinstance(error, dict):
        return {}
    return (
        _unwrapped(error)
        if text_of(error.get("message"))
        else {**error, "message": detail_text(error.get("detail"))}
    )


def detail_text(detail: Any) -> str | None:
    """The text of a `detail`, which may be a list, as a web framework gives what is wrong with a request."""
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):
        loc = detail[0].get("loc")
        parts = loc if isinstance(loc, list) else [loc]
        where = ".".join(str(part) for part in parts if isinstance(part, str | int))
        return f"{where}: {text_of(detail[0].get('msg')) or 'invalid'}"
    return text_of(detail)


def _detail_reason(wire: Mapping[str, Any]) -> str | None:
    """Google's more exact reason: without it a bad key, for example, is only an invalid argument."""
    reasons = (text_of(item.get("reason")) for item in dicts_of(wire.get("details")))
    return next((reason for reason in reasons if reason in _CODES), None)


def _retry_info_ms(wire: Mapping[str, Any]) -> int | None:
    """Google's `RetryInfo`, such as `{"retryDelay": "34.4s"}`."""
    for item in dicts_of(wire.get("details")):
        delay = text_of(item.get("retryDelay"))
        seconds = _number(delay.removesuffix("s")) if delay is not None else None
        if seconds is not None:
            return int(seconds * 1000)
    return None


def _unwrapped(error: dict[str, Any]) -> dict[str, Any]:
    """A broker's error with that of the provider behind it, which OpenRouter puts into `metadata.raw`.

    Only if that is JSON with an error message: plain text may be anything, even a part of the request.
    """
    metadata = dict_of(error.get("metadata"))
    raw = metadata.get("raw")
    behind = _error_object(raw.encode()) if isinstance(raw, str) else {}
    said = text_of(behind.get("message"))
    if said is None:
        return error
    name = text_of(metadata.get("provider_name"))
    words = f"{error['message']} ({name or 'the provider behind it'}: {said})"
    return {**behind, "status": None, **{k: v for k, v in error.items() if k != "metadata"}, "message": words}


def _status_in(wire: Mapping[str, Any]) -> int | None:
    """The HTTP status that some servers put into the error object of a stream that began with 200, or None."""
    for name in ("status_code", "status", "code"):
        value = wire.get(name)
        if isinstance(value, str) and value.isdecimal() and len(value) == 3:
            value = int(value)
        if isinstance(value, int) and 400 <= value <= 599:
            return value
    return None


def _moderation_marks(wire: Mapping[str, Any]) -> str:
    """What a broker's error says of the moderation: an `error_type`, and what was flagged."""
    metadata = dict_of(wire.get("metadata"))
    return f"{text_of(metadata.get('error_type')) or ''} {'flagged_input' if 'flagged_input' in metadata else ''}"


def _own_reason(row: Provider, status: int | None, code: str | None) -> str | None:
    own = row.quirks.reasons
    return own.get(code or "") or own.get(status or 0)


def _reason(status: int | None, code: str | None, kind: str | None, marks: str, words: str) -> str:
    if status in (None, 400, 413, 422, 403) or (status < 500 and status not in _STATUSES):
        if (
            "context_length" in marks
            or "context_size" in marks
            or (status != 403 and _TOO_LONG.search(words))
        ):
            return "context_length_exceeded"
        if _FILTERED.search(marks) or _UNWANTED.search(words):
            return "content_filter"
    if status == 400 and _WRONG_KEY.search(words):
        return "authentication_failed"
    if status is not None and 500 <= status <= 599:
        return "provider_unavailable"
    if status in _STATUSES:
        return _CODES.get(code or "", _STATUSES[status]) if status == 400 else _STATUSES[status]
    return _CODES.get(code or "") or _CODES.get(kind or "") or "unknown"


def _advice(reason: str, status: int | None, row: Provider) -> str:
    variable = row.key_names[0] if row.key_names else "its environment variable"
    if reason == "authentication_failed" and row.signer is not None:
        return f"Check {variable}, or the credentials that sign, and their permissions."
    if reason == "authentication_failed":
        return f"Check the key: {variable}, or api_key= of the call."
    if status in _REDIRECTS:
        return (
            "Redirects are not followed, so that the key is sent nowhere else; check base_url "
            f"({row.base_url_name})."
        )
    if status == 404:
        ours = f", by default {row.base_url}" if row.base_url and "{" not in row.base_url else ""
        return f"Check the model's name, and base_url ({row.base_url_name}{ours})."
    if status == 402:
        return "Check the account's balance."
    if status == 407:
        return "It is a proxy that wants to know who you are: check the proxy settings, such as HTTP_PROXY."
    return _ADVICE.get(reason, "")


_PASSING = frozenset({"rate_limited", "provider_unavailable"})  # reasons that pass with time
_ADVICE = {
    "rate_limited": "Wait, or send fewer requests at once; check the account's limits and quota.",
    "context_length_exceeded": "Send fewer or shorter messages, or ask a model with a longer context.",
    "content_filter": "The provider's policy refuses this content.",
    "provider_unavailable": "The fault is on the provider's side; try again later.",
    "timeout": "Try again, or allow more time.",
}


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    # Bounded, so that it can be multiplied and cast; no retry waits that long anyway. `nan` gives None.
    return min(value, 1e9) if value >= 0 else None
