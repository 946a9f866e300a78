"""Requests signed for AWS, by botocore.

Rule of this file: the only use of botocore, which is an extra and is imported when a request is signed.
Credentials are looked up for each request, the environment's first; then those of a profile, a single
sign-on, a container or an instance, as botocore finds and renews them. That may read files and use the
network, so it runs on a thread of its own.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html.
"""

from __future__ import annotations

import os
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

from allm_actors.data import AdapterError, EngineError
from allm_actors.data.redaction import redact
from allm_actors.engine.catalog import Provider
from allm_actors.engine.threads import on_thread
from allm_actors.engine.wire import HttpRequest, Sign

__all__ = ["signer"]

_SERVICE = "bedrock"


def signer(row: Provider, region: str) -> Sign:
    """A signer of requests to `row` in `region`. Raises `EngineError("missing_key")` if botocore is not installed.

    The signer raises `AdapterError("authentication_failed")` if there are no credentials.
    """
    if find_spec("botocore") is None:
        variables = " or ".join(row.key_names)
        message = (
            f"no API key for {row.name!r}: set {variables}, or pass api_key= with the call; to sign with AWS "
            "credentials instead, install botocore: pip install 'allm-actors[bedrock]'"
        )
        raise EngineError("missing_key", provider=row.name, message=message)

    async def sign(http: HttpRequest) -> HttpRequest:
        return await on_thread(partial(_signed, http, row, region))

    return sign


def _signed(http: HttpRequest, row: Provider, region: str) -> HttpRequest:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    try:
        credentials = _credentials()
    except Exception as error:  # noqa: BLE001 - profiles, processes, other services: each fails in its own way
        why = f"{type(error).__name__}: {redact(str(error))[:300].rstrip('.')}"
        raise _refusal(row, why) from None
    if credentials is None:
        raise _refusal(row, "no AWS credentials were found")
    request = AWSRequest(http.method, http.url, dict(http.headers), http.body)
    SigV4Auth(credentials, _SERVICE, region).add_auth(request)
    return http.with_headers({name.lower(): value for name, value in request.headers.items()})


def _credentials() -> Any:
    from botocore.credentials import ReadOnlyCredentials

    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        return ReadOnlyCredentials(key, secret, os.environ.get("AWS_SESSION_TOKEN"))
    found = _session(os.environ.get("AWS_PROFILE")).get_credentials()
    return None if found is None else found.get_frozen_credentials()


@cache
def _session(profile: str | None) -> Any:
    """Botocore's session, which keeps what it found and renews it."""
    from botocore.session import Session

    return Session(profile=profile)


def _refusal(row: Provider, why: str) -> AdapterError:
    variables = " or ".join(row.key_names)
    todo = f"Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or {variables}"
    message = f"the request to {row.label} cannot be signed: {why}. {todo}."
    return AdapterError("authentication_failed", provider=row.name, message=message)
