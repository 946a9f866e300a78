"""A provider's answer as data: its head, its body up to a limit, and what telemetry is told of it.

Rule of this file: the names of headers are in lower case. Telemetry is only told while somebody listens, and never a
header as it came.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import aclosing
from urllib.parse import urlsplit

from allm_actors.data import AdapterError
from allm_actors.engine.dialects.failures import provider_request_id, retry_after_ms
from allm_actors.engine.ratelimits import rate_limits
from allm_actors.engine.secret import Secret, scrub, secrets_of
from allm_actors.engine.wire import HttpAnswer, HttpRequest, HttpResponse
from allm_actors.telemetry import bus as telemetry

__all__ = ["head_of", "refusal_in", "tell_response", "whole_body"]

_MAX_ERROR_BYTES = 64 * 1024
_MAX_ERROR_SECONDS = 5.0


def head_of(response: HttpResponse, body: bytes = b"") -> HttpAnswer:
    """The answer with this body, come now."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return HttpAnswer(status=response.status, headers=headers, body=body, now=time.time())


async def refusal_in(response: HttpResponse) -> HttpAnswer:
    """An error response, with the beginning of its body."""
    return head_of(response, await response.body(_MAX_ERROR_BYTES, _MAX_ERROR_SECONDS))


async def whole_body(response: HttpResponse, most: int, too_long: Callable[[], AdapterError]) -> bytes:
    """All of the body. Raises `AdapterError` when it breaks off, or `too_long` when it has more than `most` bytes."""
    held = bytearray()
    async with aclosing(response.chunks()) as chunks:
        async for chunk in chunks:
            held += chunk
            if len(held) > most:
                raise too_long()
    return bytes(held)


def tell_response(
    http: HttpRequest, response: HttpResponse, began: float, key: Secret | None, **about: object
) -> None:
    """Emit `allm.adapter.response`: `http` was sent at `began` (`time.monotonic()`), and `response` has begun.

    `about` is the request id, the provider, the model and the attempt.
    """
    if not telemetry.listening():
        return
    head = head_of(response)
    answer = {
        "status": head.status,
        "server": urlsplit(http.url).hostname,
        "provider_request_id": provider_request_id(head.headers),
        "rate_limits": rate_limits(head.headers, head.now),
        "retry_after_ms": retry_after_ms(head.headers, head.now),
    }
    measured = {"system_time": head.now, "duration": time.monotonic() - began}
    told = scrub(answer, key, *secrets_of(http.headers, http.url))
    telemetry.emit("allm.adapter.response", measured, {**about, **told})
