"""What a provider refused with becomes a reason, a message that helps, and nothing that should not be shown."""

import json
import re
import time

import pytest

from allm_actors.data.redaction import redact
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects.failures import http_error, retry_after_ms, wire_error
from allm_actors.engine.wire import HttpAnswer

NOON = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


def refused(status, body=b"", headers=None, provider="openai"):
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    return http_error(
        HttpAnswer(status=status, headers=headers or {}, body=body, now=NOON), PROVIDERS[provider]
    )


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (401, {}, "authentication_failed"),
        (403, {}, "authentication_failed"),
        (429, {}, "rate_limited"),
        (400, {}, "invalid_request"),
        (400, {"code": "context_length_exceeded"}, "context_length_exceeded"),
        (400, {"type": "content_filter_error"}, "content_filter"),
        (400, {"code": "content_policy_violation"}, "content_filter"),
        (400, {"code": "insufficient_quota"}, "rate_limited"),
        *[(status, {}, "invalid_request") for status in (402, 404, 409, 413, 422)],
        (408, {}, "timeout"),
        *[(status, {}, "provider_unavailable") for status in (500, 501, 502, 503, 504, 529)],
        (418, {}, "unknown"),
        (451, {"code": "content_policy_violation"}, "content_filter"),
        (301, {}, "unknown"),
    ],
)
def test_reasons(status, error, reason):
    got = refused(status, {"error": {"message": "because", **error}})
    assert (got.reason, got.status, got.provider) == (reason, status, "openai")
    assert "because" in got.message


def test_messages_say_what_to_do():
    assert "GROQ_API_KEY" in refused(401, provider="groq").message
    assert (
        "model's name, and base_url (OPENAI_BASE_URL, by default https://api.openai.com/v1)"
        in refused(404).message
    )
    assert "by default https://api.anthropic.com)" in refused(404, provider="anthropic").message
    assert "Wait 2 s" in refused(429, headers={"Retry-After": "2"}).message
    assert "balance" in refused(402).message
    assert "proxy settings" in refused(407).message
    assert "answered 101" in refused(101).message
    unasked = refused(401, headers={"Retry-After": "2"})
    assert "Check the key" in unasked.message
    assert unasked.retry_after_ms == 2000


def test_a_wrong_key_is_one_whatever_the_status():
    assert refused(400, {"error": "Incorrect API key provided"}).reason == "authentication_failed"


def test_who_is_not_allowed_so_long_a_request_may_not_do_it():
    words = "your plan has no such context window"
    assert refused(403, {"error": {"message": words}}).reason == "authentication_failed"
    assert refused(400, {"error": {"message": words}}).reason == "context_length_exceeded"


@pytest.mark.parametrize(
    ("provider", "status", "words"),
    [
        ("xai", 400, "This model's maximum prompt length is 131072 but the request contains 537812 tokens."),
        ("llamacpp", 400, "the request exceeds the available context size, try increasing it"),
        ("moonshotai", 400, "Your request exceeded model token limit: 262144 (requested: 291351)"),
        ("openrouter", 400, "Input length 131393 exceeds the maximum allowed input length of 131040 tokens."),
        ("cohere", 400, "too many tokens: size limit exceeded by 3000 tokens. Try using shorter inputs"),
        ("together", 422, "`inputs` tokens + `max_new_tokens` must be <= 4097. Given: 5000 `inputs` tokens"),
        ("vllm", 400, "The decoder prompt (length 3000) is longer than the maximum model length of 2048."),
        ("bedrock", 400, "Too many input tokens. Max input tokens: 8192, request input token count: 9000"),
        ("alibaba", 400, "Range of input length should be [1, 30000]"),
    ],
)
def test_a_prompt_that_is_too_long_is_one_in_every_providers_words(provider, status, words):
    assert (
        refused(status, {"error": {"message": words}}, provider=provider).reason == "context_length_exceeded"
    )


def test_too_many_tokens_a_minute_are_no_prompt_that_is_too_long():
    wire = {"message": "Too many tokens, please wait before trying again.", "code": "ThrottlingException"}
    assert refused(429, wire, provider="bedrock").reason == "rate_limited"
    assert wire_error(wire, PROVIDERS["bedrock"]).reason == "rate_limited"


@pytest.mark.parametrize(
    ("provider", "status", "wire"),
    [
        ("openrouter", 403, {"message": "flagged", "metadata": {"reasons": ["x"], "flagged_input": "y"}}),
        ("openrouter", 403, {"message": "no", "metadata": {"error_type": "content_policy_violation"}}),
        ("xai", 403, "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"),
        ("alibaba", 400, {"message": "inappropriate", "code": "data_inspection_failed"}),
        ("alibaba", 400, {"message": "inappropriate", "code": "DataInspectionFailed"}),
        ("zai", 400, {"message": "potentially unsafe or sensitive content", "code": "1301"}),
        ("deepseek", 400, {"message": "Content Exists Risk", "code": "invalid_request_error"}),
    ],
)
def test_a_prompt_that_moderation_refuses_is_no_wrong_key(provider, status, wire):
    error = refused(status, {"error": wire}, provider=provider)
    assert (error.reason, error.status) == ("content_filter", status)
    assert "key" not in error.message
    assert refused(403, {"error": "no"}, provider=provider).reason == "authentication_failed"


@pytest.mark.parametrize(
    ("provider", "reason"),
    [("cohere", "content_filter"), ("groq", "provider_unavailable"), ("openai", "unknown")],
)
def test_a_status_of_a_providers_own_means_what_it_says(provider, reason):
    assert refused(498, {"error": {"message": "no"}}, provider=provider).reason == reason


def test_the_context_of_a_server_of_ones_own_is_known_by_its_code():
    wire = {"error": {"message": "no", "code": 400, "type": "exceed_context_size_error"}}
    assert refused(400, wire, provider="llamacpp").reason == "context_length_exceeded"


def test_the_error_behind_a_brokers_error_is_told_and_counts():
    raw = '{"error":{"message":"maximum context length is 8"}}'
    behind = {"raw": raw, "provider_name": "Acme"}
    wire = {"message": "Provider returned error", "code": 400, "metadata": behind}
    got = refused(400, {"error": wire}, provider="openrouter")
    assert got.reason == "context_length_exceeded"
    assert "Provider returned error (Acme: maximum context length is 8)" in got.message
    for nothing in ({"raw": None}, {"raw": "context length"}, {"raw": "{}"}, None, "x"):
        got = refused(400, {"error": {**wire, "metadata": nothing}}, provider="openrouter")
        assert got.reason == "invalid_request"


def test_the_status_of_the_error_behind_a_brokers_error_is_not_the_brokers_type():
    raw = json.dumps({"error": {"message": "too much", "status": "INVALID_ARGUMENT"}})
    wire = {"message": "Provider returned error", "code": 429, "metadata": {"raw": raw}}
    assert "type" not in refused(429, {"error": wire}, provider="openrouter").metadata


@pytest.mark.parametrize(
    "body",
    [
        {"error": "too bad"},
        {"message": "too bad", "object": "error"},
        {"detail": "too bad"},
        {"detail": [{"loc": ["body", "model"], "msg": "too bad"}]},
        {"detail": [{"loc": 7, "msg": "too bad"}]},
        {"detail": [{"loc": {}, "msg": "too bad"}]},
        [{"error": {"message": "too bad"}}],
    ],
    ids=[
        "string",
        "top level",
        "detail",
        "list of details",
        "detail of a number",
        "detail of no place",
        "list",
    ],
)
def test_words_are_found_wherever_servers_put_them(body):
    assert "too bad" in refused(400, json.dumps(body).encode()).message


def test_a_place_that_is_told_as_a_text_is_kept():
    body = json.dumps({"detail": [{"loc": "body.model", "msg": "too bad"}]}).encode()
    assert "body.model: too bad" in refused(400, body).message


@pytest.mark.parametrize(
    "body", [b"", b"<html>secret</html>", b"\xff\xfe", b"[]", b"12", b'{"error": 7}', b"[" * 100_000]
)
def test_a_body_that_is_no_json_object_leaves_the_status(body):
    error = refused(503, body)
    assert (error.reason, error.message) == (
        "provider_unavailable",
        "OpenAI answered 503. The fault is on the provider's side; try again later.",
    )


def test_keys_in_the_providers_words_are_redacted_and_long_words_are_cut():
    error = refused(
        401, {"error": {"message": "bad key sk-proj-abcdef***123 " + "x" * 5000, "code": "sk-abcdefgh"}}
    )
    assert "abcdef" not in repr(error.to_fields())
    assert len(error.message) < 700
    assert (
        redact("Bearer abcdefghij and gsk_0123456789 and task-list")
        == "[REDACTED] and [REDACTED] and task-list"
    )


@pytest.mark.parametrize(
    "secret",
    [
        "apikey_AbCdEfGhIjKlMnOp",
        "apikey-0123456789abcdef",
        'api_key: "A1b2C3d4"',
        "x-api-key=0a1b2c3d4e",
        "APIKEY = k9x8y7z6",
        "xi-api-key: 0a1b2c3d",
    ],
)
def test_what_is_called_a_key_is_redacted(secret):
    shown = redact(f"the {secret} is wrong")
    assert re.search(r"[A-Za-z0-9]*\d[A-Za-z0-9]*|AbCd", shown) is None
    assert "[REDACTED]" in shown
    assert shown.endswith(" is wrong")


@pytest.mark.parametrize(
    "words", ["api_key: Field required", "apikey_invalid", "the API key provided: none", "api_key_id of 12"]
)
def test_what_only_speaks_of_keys_is_left_alone(words):
    assert redact(words) == words


def test_the_providers_request_id_is_kept():
    assert refused(500, headers={"X-Request-Id": "req_1"}).metadata["provider_request_id"] == "req_1"


@pytest.mark.parametrize("name", ["code", "type"])
def test_an_empty_account_is_not_worth_another_try(name):
    assert refused(429, {"error": {name: "insufficient_quota"}}).metadata["retry"] is False
    assert refused(400, {"error": {name: "ServiceQuotaExceededException"}}).metadata["retry"] is False
    assert "retry" not in refused(429, {"error": {name: "rate_limit_exceeded"}}).metadata


@pytest.mark.parametrize(
    ("headers", "ms"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3000),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "1.5"}, 1500),
        ({"retry-after": "2, 9"}, 2000),
        ({"retry-after": "9", "retry-after-ms": "250"}, 250),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:25 GMT"}, 5000),
        ({"retry-after": "Tue, 14 Nov 2023 22:00:00 GMT"}, 0),
        # By the clock of the server, where it is another hour or another day.
        ({"retry-after": "Tue, 14 Nov 2023 21:00:07 GMT", "date": "Tue, 14 Nov 2023 21:00:00 GMT"}, 7000),
        ({"retry-after": "Thu, 16 Nov 2023 00:00:07 GMT", "date": "Thu, 16 Nov 2023 00:00:00 GMT"}, 7000),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:25 GMT", "date": "yesterday"}, 5000),
        ({"retry-after": "3", "date": "Thu, 16 Nov 2023 00:00:00 GMT"}, 3000),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "99999999999999"}, 1_000_000_000_000),
        ({"retry-after": "Tue, 99 Nov 2023 99:99:99 GMT"}, None),
    ],
)
def test_retry_after(headers, ms):
    assert retry_after_ms(headers, NOON) == ms


@pytest.mark.parametrize(
    "date", ["Tue, 14 Nov 2023 22:13:25", "Tue Nov 14 22:13:25 2023", "Tue, 14 Nov 2023 22:13:25 -0000"]
)
def test_a_date_without_a_zone_is_of_greenwich(monkeypatch, date):
    with monkeypatch.context() as there:
        there.setenv("TZ", "EST5EDT")
        time.tzset()
        assert retry_after_ms({"retry-after": date}, NOON) == 5000
    time.tzset()
