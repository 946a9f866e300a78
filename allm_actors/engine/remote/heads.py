"""Telemetry of a provider's answer, as soon as its head has come.

Rule of this file: only done while somebody listens; headers are read, never passed on.
"""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from allm_actors.engine.dialects.failures import provider_request_id, retry_after_ms
from allm_actors.engine.ratelimits import rate_limits
from allm_actors.engine.secret import Secret, hidden_in, scrub
from allm_actors.engine.wire import HttpRequest, HttpResponse
from allm_actors.telemetry import bus as telemetry

__all__ = ["tell_response"]


def tell_response(
    http: HttpRequest, response: HttpResponse, began: float, key: Secret | None, **about: object
) -> None:
    """Emit `allm.adapter.response`: `http` was sent at `began` (`time.monotonic()`), and `response` has begun.

    `about` is the request id, the provider, the model and the attempt.
    """
    if not telemetry.listening():
        return
    now, headers = time.time(), {name.lower(): value for name, value in response.headers.items()}
    answer = {
        "status": response.status,
        "server": urlsplit(http.url).hostname,
        "provider_request_id": provider_request_id(headers),
        "rate_limits": rate_limits(headers, now),
        "retry_after_ms": retry_after_ms(headers, now),
    }
    measured = {"system_time": now, "duration": time.monotonic() - began}
    told = scrub(answer, key, *hidden_in(http.headers, http.url))
    telemetry.emit("allm.adapter.response", measured, {**about, **told})
