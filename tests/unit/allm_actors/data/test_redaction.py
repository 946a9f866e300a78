"""Texts without what looks like a key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.data.redaction import redact

SECRETS = [
    "sk-proj-abc123def456",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "github_pat_11ABCDEFG0abcdefghijkl_mnop",
    "glpat-1234567890abcdefghij",
    "xoxb-2345678901-abcdefghijkl",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "whsec_abcdefghij1234567890",
    "pplx-abcdefghijkl1234567890",
    "fw_3ZabcdefGHIJklmn",
    "AQ.Ab8RN6Labcdefghijklmnop",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEow==\n-----END RSA PRIVATE KEY-----",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "it is {}, he said", '{{"token": "{}"}}', "x={}&y=1"])
def test_a_key_is_gone_wherever_it_stands(secret: str, around: str) -> None:
    told = redact(around.format(secret))
    assert "[REDACTED]" in told
    assert secret not in told
    assert "MIIEow" not in told


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("postgres://app:hunter2@db/prod", "postgres://[REDACTED]@db/prod"),
        ("password=hunter2&user=ada", "[REDACTED]&user=ada"),
        ('{"client_secret": "a-b-c-d"}', '{"[REDACTED]"}'),
        ("token: abcdefgh123, please", "[REDACTED], please"),
        ("{'secret': 'hunter22', 'x': 1}", "{'[REDACTED]', 'x': 1}"),
        ("csrf_token=9f8e7d6c", "csrf_[REDACTED]"),
        ("Authorization: Basic dXNlcjpwYXNz, sent", "[REDACTED], sent"),
        ("{'authorization': 'Basic dXNlcjpwYXNz'}", "{'[REDACTED]'}"),
        ("(b'Authorization', b'Basic dXNlcjpwYXNz')", "(b'[REDACTED]')"),
        ('{\\"Authorization\\":  \\"Basic dXNlcjpwYXNz\\"}', '{\\"[REDACTED]\\"}'),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "AWS_[REDACTED]"),
    ],
)
def test_a_password_is_gone_and_what_is_around_it_is_not(said: str, told: str) -> None:
    assert redact(said) == told


@pytest.mark.parametrize(
    "said",
    [
        "the password is required",
        "set api_key: it is missing",
        "unexpected token: expected a name",
        "max_tokens: 4096000",
        "the secret: be kind",
        "https://example.com:8080/path?x=1",
        "mail ada@example.com at 10:30",
        "a task-force of 12 people",
        "eyJ is how it begins",
        "model pplx-70b-online is gone, fw_version_2 and fw-rules-config-file are here",
        "a basic understanding of authorization: basic, not deep",
    ],
)
def test_what_is_no_key_stays(said: str) -> None:
    assert redact(said) == said


@given(st.text())
def test_it_is_total_and_says_the_same_twice(said: str) -> None:
    once = redact(said)
    assert redact(once) == once
