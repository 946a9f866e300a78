"""What of an exchange is written down: neither who asked nor with which key.

Rule of this file: pure, and the same for a request that is recorded and for one that is looked up, so that the two can
be compared. Of headers only those are kept that mean something to a test; everything else may be a secret. A secret in
a body is replaced by as many bytes, so that chunk boundaries stay where they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from allm_actors.engine.secret import SECRET_HEADERS, is_secret, secrets_of
from allm_actors.engine.wire import HttpRequest

__all__ = ["Redact", "kept_request", "kept_response_headers", "masked", "secrets_in"]

Redact = Callable[[dict[str, Any]], "dict[str, Any] | None"]
"""A user's hook: is given an exchange as plain data (when one is looked up, only its request), changes it in place or
returns another."""

_REQUEST_HEADERS = re.compile(r"accept|content-type|.*-version|.*-beta")
_RESPONSE_HEADERS = re.compile(
    r"content-type|retry-after(?:-ms)?|.*ratelimit.*|.*request-?id|.*-processing-ms|server-timing"
)
_SECRET_PATH = re.compile(r"(?<=/)(projects|organizations)/[^/]+")
# Narrower than what errors leave out: a tool may be called `org_chart`, and is still called that when it is replayed.
_SECRETS = re.compile(
    rb"\b(?:sk|rk|pk|org|proj|gsk|csk|xai|tgp|tvly|pa|hf|user|apikey)[-_](?=[A-Za-z0-9_-]*[0-9])[A-Za-z0-9_-]{16,}"
    rb"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[A-Za-z0-9_-]{20,}|\bya29\.[A-Za-z0-9_.-]{16,}|(?i:\bbearer\s+)[A-Za-z0-9_.=+/-]{16,}"
)
_MARK = b"[REDACTED]"
_SHORTEST = 8  # a shorter key is made up, and may be a word


def kept_request(request: HttpRequest) -> dict[str, Any]:
    """What is written of a request: `method`, `url`, `headers`, and `body` (JSON or text) or `body_b64`."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    secrets = secrets_in(headers, request.url)
    kept = {name: value for name, value in headers.items() if _REQUEST_HEADERS.fullmatch(name)}
    body = request.body
    boundary = re.search(r'boundary="?([^";]+)', headers.get("content-type", ""))
    if boundary:  # it is drawn anew for every request
        body = body.replace(boundary[1].encode(), b"boundary")
        kept["content-type"] = kept["content-type"].replace(boundary[1], "boundary")
    return {
        "method": request.method,
        "url": _url(request.url),
        "headers": kept,
        **_body(masked(body, secrets)),
    }


def kept_response_headers(headers: Mapping[str, str], secrets: Iterable[bytes] = ()) -> dict[str, str]:
    """The headers of a response that mean something to a test, in lower case, without these secrets."""
    lower = ((name.lower(), value) for name, value in headers.items())
    kept = {name: value for name, value in lower if _RESPONSE_HEADERS.fullmatch(name)}
    return {
        name: masked(value.encode("utf-8", "replace"), secrets).decode("utf-8", "replace")
        for name, value in kept.items()
    }


def secrets_in(headers: Mapping[str, str], url: str = "") -> list[bytes]:
    """The values that a request hides in its headers and in its URL, without the word in front of a key."""
    found = (secret.reveal() for secret in secrets_of(headers, url, SECRET_HEADERS))
    return [text.encode() for text in found if len(text) >= _SHORTEST]


def masked(body: bytes, secrets: Iterable[bytes]) -> bytes:
    """`body` of the same length, without these secrets and without what certainly looks like one."""
    for secret in secrets:
        body = body.replace(secret, _mask(len(secret)))
    return _SECRETS.sub(lambda found: _mask(len(found[0])), body)


def _mask(size: int) -> bytes:
    return _MARK.ljust(size, b"*")[:size]


def _body(body: bytes) -> dict[str, Any]:
    if not body:
        return {"body": None}
    try:
        return {"body": msgspec.json.decode(body)}
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        import base64

        return {"body_b64": base64.b64encode(body).decode()}


def _url(url: str) -> str:
    parts = urlsplit(url)
    query = [
        (name, "REDACTED" if is_secret(name, value) else value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    return urlunsplit(
        parts._replace(
            netloc=parts.netloc.rpartition("@")[2],
            path=_SECRET_PATH.sub(r"\1/REDACTED", parts.path),
            query=urlencode(query),
            fragment="",
        )
    )
