"""What is written of an exchange has no secret in it, and is as long as it was."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.engine.wire import HttpRequest
from allm_actors.testing.differing import differences
from allm_actors.testing.redacting import kept_request, kept_response_headers, masked, secrets_in

SECRETS = [
    "sk-proj-A1b2C3d4E5f6G7h8",
    "sk-ant-api03-A1b2C3d4E5f6G7h8",
    "gsk_A1b2C3d4E5f6G7h8J9",
    "org-A1b2C3d4E5f6G7h8J9",
    "AIzaSyA1b2C3d4E5f6G7h8J9k0L1m2N3",
    "ya29.A1b2C3d4E5f6G7h8J9",
    "AKIAIOSFODNN7EXAMPLE",
    "apikey_A1b2C3d4E5f6G7h8",
    "Bearer A1b2C3d4E5f6G7h8J9",
]
PLAIN = ["org_chart_of_everybody", "hf-transformers-library", "sk-learn", "pa-rental-agreement", "user-agent"]


@pytest.mark.parametrize("secret", SECRETS)
def test_what_certainly_is_a_secret_is_covered_by_as_many_bytes(secret):
    body = f'{{"text": "it is {secret}, they say"}}'.encode()
    covered = masked(body, [])
    assert secret.encode() not in covered
    assert len(covered) == len(body)
    assert "[REDACTED]" in json.loads(covered)["text"]


@pytest.mark.parametrize("word", PLAIN)
def test_a_word_that_only_begins_like_one_stays(word):
    assert masked(word.encode(), []) == word.encode()


def test_a_header_s_secret_is_found_wherever_it_is_repeated():
    headers = {
        "Authorization": "Bearer very-own-key-of-mine",
        "x-goog-api-key": "another one",
        "accept": "a/b",
    }
    assert secrets_in(headers) == [b"very-own-key-of-mine"]  # "one" may be a word
    request = HttpRequest(url="https://x/v1", headers=headers, body=b'{"echo": "very-own-key-of-mine"}')
    kept = kept_request(request)
    assert kept["headers"] == {"accept": "a/b"}
    assert "very-own" not in json.dumps(kept)


def test_of_a_url_the_parts_that_hide_something_are_covered():
    url = "https://user:pass@h/v1/projects/mine/models/m:go?key=abc&alt=sse&X-Amz-Signature=9#part"
    kept = kept_request(HttpRequest(url=url, body=b""))
    assert (
        kept["url"]
        == "https://h/v1/projects/REDACTED/models/m:go?key=REDACTED&alt=sse&X-Amz-Signature=REDACTED"
    )
    assert kept["body"] is None


def test_a_body_is_kept_as_json_as_text_or_in_base64_and_the_boundary_is_always_the_same():
    def body_of(body, kind="application/json"):
        kept = kept_request(HttpRequest(url="https://h/", body=body, headers={"content-type": kind}))
        return {name: kept[name] for name in ("body", "body_b64") if name in kept}

    assert body_of(b"[1]") == {"body": [1]}
    assert body_of(b"plain") == {"body": "plain"}
    assert body_of(b"\xff\x00") == {"body_b64": "/wA="}
    drawn = [
        body_of(b"--%b\r\nx" % mark, f"multipart/form-data; boundary={mark.decode()}")
        for mark in (b"a1", b"b22")
    ]
    assert drawn[0] == drawn[1] == {"body": "--boundary\r\nx"}


def test_of_a_response_only_headers_that_mean_something_are_kept():
    headers = {
        "Content-Type": "a/b",
        "Set-Cookie": "s=1",
        "X-Request-ID": "r",
        "x-ratelimit-limit-tokens": "5",
    }
    more = {"openai-organization": "mine", "retry-after": "1", "openai-processing-ms": "7", "server": "nginx"}
    kept = kept_response_headers(headers | more)
    assert sorted(kept) == [
        "content-type",
        "openai-processing-ms",
        "retry-after",
        "x-ratelimit-limit-tokens",
        "x-request-id",
    ]


@given(st.binary(), st.lists(st.binary(min_size=8, max_size=12), max_size=3))
def test_nothing_moves(body, secrets):
    assert len(masked(body, secrets)) == len(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON, JSON)
def test_a_difference_is_told_exactly_when_there_is_one(one, other):
    assert differences(one, one) == []
    assert bool(differences(one, other)) == (one != other)


def test_a_difference_is_told_by_its_place_and_shortly():
    told = differences({"a": [1, {"b": "x" * 500}], "c": 1}, {"a": [1, {"b": "y"}, 2]})
    assert told[0].startswith("a[1].b: recorded 'xxx")
    assert len(told[0]) < 200
    assert told[1:] == ["a[2]: recorded nothing, asked 2", "c: recorded 1, asked nothing"]
    assert differences(list(range(20)), [])[-1] == "… and 12 more"


def test_what_a_url_hides_is_covered_wherever_it_is_repeated():
    url = "https://somebody:pass%20phrase-0123@h/v1?auth=auth-canary-0123&alt=sse"
    secrets = secrets_in({}, url)
    assert {b"auth-canary-0123", b"somebody", b"pass phrase-0123"} < set(secrets)
    assert kept_request(HttpRequest(url=url, body=b""))["url"] == "https://h/v1?auth=REDACTED&alt=sse"
    headers = kept_response_headers({"x-request-id": "r-auth-canary-0123"}, secrets)
    assert headers == {"x-request-id": "r-[REDACTED]******"}


RANDOM = "f00dfacecafe0123456789"


@pytest.mark.parametrize(
    ("headers", "url", "forms"),
    [
        ({"Cookie": "a=1; sid=canary-0123"}, "", ["canary-0123"]),
        (
            {"authorization": "Basic c29tZWJvZHk6Y2FuYXJ5LTAxMjM="},
            "",
            ["somebody:canary-0123", "canary-0123"],
        ),
        ({}, "https://somebody:canary%200123@h", ["canary 0123", "c29tZWJvZHk6Y2FuYXJ5IDAxMjM="]),
        ({}, "https://h?pass=canary%2B0123", ["canary+0123", "canary%2B0123"]),
        ({"x-team-password": "canary-0123"}, "", ["canary-0123"]),
        ({"x-mine": RANDOM}, "", [RANDOM]),
        ({}, f"https://h?mine={RANDOM}", [RANDOM]),
    ],
)
def test_a_secret_is_covered_in_every_form_that_an_answer_may_quote(headers, url, forms):
    for form in forms:
        assert form not in masked(f"no such thing: {form}.".encode(), secrets_in(headers, url)).decode()


def test_a_parameter_that_looks_like_a_key_is_not_written_under_any_name():
    kept = kept_request(
        HttpRequest(url=f"https://h/v1?mine={RANDOM}&pwd=x&model=eleven_multilingual_v2", body=b"")
    )
    assert kept["url"] == "https://h/v1?mine=REDACTED&pwd=REDACTED&model=eleven_multilingual_v2"
