"""Requests are signed as AWS's rules say, with the credentials there are, and anew for each attempt."""

import asyncio
import hashlib
import hmac
import json
import re
import sys
import threading
from contextlib import aclosing
from urllib.parse import quote, urlsplit

import pytest

from allm_actors.data import EngineError, ErrorEvent, Message, MessageCompleted, Request
from allm_actors.engine import keys
from allm_actors.engine.adapter import Call
from allm_actors.engine.adapters import find_adapter
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.http.transport import HttpxTransport
from allm_actors.engine.remote import sigv4
from allm_actors.engine.wire import HttpRequest
from allm_actors.testing.loopback import LoopbackServer, Reply
from tests.conformance.aws_frames import event

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"  # the one of AWS's own examples
ASK = Request(messages=[Message(role="user", content="hi")], model="amazon.nova-micro-v1:0")
HELLO = Reply(
    headers={"content-type": "application/vnd.amazon.eventstream"},
    chunks=[
        event("contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":"Hello"}}')
        + event("messageStop", b'{"stopReason":"end_turn"}')
        + event("metadata", b'{"usage":{"inputTokens":1,"outputTokens":1,"totalTokens":2}}')
    ],
)


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """No credentials anywhere, and nobody asked for any."""
    keys.clear()
    sigv4._session.cache_clear()
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "DEFAULT_PROFILE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    for name in ("BEARER_TOKEN_BEDROCK", "ENDPOINT_URL_BEDROCK_RUNTIME", "REGION", "DEFAULT_REGION"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    yield
    sigv4._session.cache_clear()


@pytest.fixture
def botocore():
    return pytest.importorskip("botocore", reason="botocore is an extra")


@pytest.fixture
def somebody(monkeypatch, botocore):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def ask(server, *, retry=False, api_key=None, **options):
    async def run():
        transport = HttpxTransport()
        given = {"base_url": server.url, "region": "eu-west-1", **options}
        call = Call(request_id="r", retry=retry, api_key=api_key, transport=transport, options=given)
        try:
            async with aclosing(find_adapter("bedrock").stream(ASK, call)) as answer:
                return [event async for event in answer]
        finally:
            await transport.aclose()

    return asyncio.run(run())


def assert_signed(asked, url, key="AKIDEXAMPLE", secret=SECRET):
    """The signature is that of https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html."""
    parts = re.fullmatch(
        rf"AWS4-HMAC-SHA256 Credential={key}/(.*), SignedHeaders=(.*), Signature=(.*)",
        asked.headers["authorization"],
    )
    scope, names, signature = parts.groups()
    stamp = asked.headers["x-amz-date"]
    assert scope == f"{stamp[:8]}/eu-west-1/bedrock/aws4_request"
    assert {"host", "content-type", "x-amz-date"} <= set(names.split(";"))
    assert asked.headers["host"] == urlsplit(url).netloc
    canonical = "\n".join(
        [
            "POST",
            quote(asked.target, safe="/"),
            "",
            *[f"{name}:{asked.headers[name]}" for name in names.split(";")],
            "",
            names,
            hashlib.sha256(asked.body).hexdigest(),
        ]
    )
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    made = f"AWS4{secret}".encode()
    for piece in scope.split("/"):
        made = hmac.digest(made, piece.encode(), "sha256")
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashed}"
    assert hmac.digest(made, to_sign.encode(), "sha256").hex() == signature


def test_what_arrives_is_signed_and_the_answer_is_read(somebody):
    with LoopbackServer([HELLO]) as server:
        events = ask(server, headers={"x-team": "blue"})
    assert isinstance(events[-1], MessageCompleted)
    (asked,) = server.requests
    assert asked.target == "/model/amazon.nova-micro-v1%3A0/converse-stream"
    assert "x-team" in asked.headers["authorization"]
    assert_signed(asked, server.url)
    assert SECRET not in str(asked.headers)


def test_each_attempt_is_signed_anew_with_the_credentials_of_its_time(somebody, monkeypatch):
    def reply(asked):
        if "AKIDNEXT" in asked.headers["authorization"]:
            return HELLO
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNEXT")
        return Reply(status=503, body=b'{"message":"busy"}')

    with LoopbackServer(reply) as server:
        events = ask(server, retry={"max_attempts": 2, "base_delay": 0.001, "max_delay": 0.001})
    assert isinstance(events[-1], MessageCompleted)
    first, second = server.requests
    assert_signed(first, server.url)
    assert_signed(second, server.url, "AKIDNEXT")


def test_a_session_token_goes_along(somebody, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-1")
    with LoopbackServer([HELLO]) as server:
        ask(server)
    assert server.requests[0].headers["x-amz-security-token"] == "token-1"
    assert "x-amz-security-token" in server.requests[0].headers["authorization"]


def test_an_error_that_quotes_the_canonical_request_tells_no_token_and_no_signature(somebody, monkeypatch):
    token = "IQoJb3JpZ2luX2VjEXAMPLE//////////wEaCXVzLWVhc3Qt=="
    monkeypatch.setenv("AWS_SESSION_TOKEN", token)

    def reply(asked):
        quoted = (
            f"x-amz-security-token:{asked.headers['x-amz-security-token']} {asked.headers['authorization']}"
        )
        return Reply(status=403, body=json.dumps({"message": f"The Canonical String: {quoted}"}).encode())

    with LoopbackServer(reply) as server:
        error = ask(server)[-1].error
        authorization = server.requests[0].headers["authorization"]
    assert "Canonical String" in error.message
    assert token not in repr(error.to_fields())
    assert authorization.rpartition("=")[2] not in repr(error.to_fields())


def test_a_profile_signs(botocore, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_PROFILE", "work")
    (tmp_path / "credentials").write_text(
        "[work]\naws_access_key_id = AKIDWORK\naws_secret_access_key = s3\n"
    )
    with LoopbackServer([HELLO]) as server:
        ask(server)
    assert_signed(server.requests[0], server.url, "AKIDWORK", "s3")


def test_a_bearer_token_needs_no_signature_and_no_botocore(monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore", None)
    with LoopbackServer([HELLO]) as server:
        events = ask(server, api_key="bedrock-api-key-1", region=None)
    assert isinstance(events[-1], MessageCompleted)
    assert server.requests[0].headers["authorization"] == "Bearer bedrock-api-key-1"


def test_a_key_in_the_callers_headers_needs_no_signature_and_no_botocore(monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore", None)
    with LoopbackServer([HELLO]) as server:
        events = ask(server, region=None, headers={"Authorization": "Bearer of-a-gateway"})
    assert isinstance(events[-1], MessageCompleted)
    assert server.requests[0].headers["authorization"] == "Bearer of-a-gateway"


@pytest.mark.parametrize("profile", [None, "nobody"])
def test_without_credentials_nothing_is_sent_and_the_error_says_what_to_set(botocore, monkeypatch, profile):
    if profile:
        monkeypatch.setenv("AWS_PROFILE", profile)
    with LoopbackServer([HELLO]) as server:
        events = ask(server)
    assert server.requests == ()
    assert isinstance(events[-1], ErrorEvent)
    error = events[-1].error
    assert error.reason == "authentication_failed"
    assert "AWS_ACCESS_KEY_ID" in error.message
    assert (profile or "no AWS credentials were found") in error.message


def test_without_botocore_the_call_itself_is_refused_and_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(EngineError, match=r"allm-actors\[bedrock\]") as refused:
        find_adapter("bedrock").stream(ASK, Call(request_id="r", options={"region": "eu-west-1"}))
    assert refused.value.reason == "missing_key"
    assert "AWS_BEARER_TOKEN_BEDROCK" in refused.value.message


def test_credentials_that_hang_keep_no_event_loop_from_its_end(botocore, monkeypatch):
    hold = threading.Event()
    monkeypatch.setattr(sigv4, "_credentials", hold.wait)
    sign = sigv4.signer(PROVIDERS["bedrock"], "eu-west-1")

    async def run():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sign(HttpRequest(url="https://x.test/", body=b"{}")), 0.05)

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    thread.join(10)
    hangs = thread.is_alive()
    hold.set()
    assert not hangs
