"""Texts without what looks like a key."""

import json
from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.data.redaction import is_labelled, redact

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
        ('{"accessToken": "abcdef", "user": "ada"}', '{"[REDACTED]", "user": "ada"}'),
        ("clientSecret=abcdef; x", "[REDACTED]; x"),
        ("{'dbPassword': 'hunter22', 'privateKey': 'abc123def'}", "{'db[REDACTED]', '[REDACTED]'}"),
        ("PGPASSWORD=hunter22 psql", "PG[REDACTED] psql"),
        ("Server=db;User=ada;Pwd=hunter22;", "Server=db;User=ada;[REDACTED];"),
        ('secret_key="abc123def456", access_key=abc123def456', '[REDACTED]", [REDACTED]'),
        ("SharedAccessKey=abc123def456=;AccountKey=abc123def456==", "Shared[REDACTED];[REDACTED]"),
        ('"{\\"password\\": \\"hunter22\\", \\"a\\": 1}"', '"{\\"[REDACTED]\\", \\"a\\": 1}"'),
        ('"{\\"api_key\\": \\"abc123def456\\"}"', '"{\\"[REDACTED]\\"}"'),
        ('password = "correct horse, battery"; pwd="a,b c"', '[REDACTED]"; [REDACTED]"'),
        ('{"password": "it\'s \\"so\\"", "a": 1}', '{"[REDACTED]", "a": 1}'),
        ("password: 'correct horse and no end\nnext", "[REDACTED]\nnext"),
        ("access_token: Bearer abcdefgh, please", "[REDACTED], please"),
        ("access_token=" + "a.b-c_" * 500, "[REDACTED]"),
        ("passphrase: -----BEGIN PRIVATE KEY-----\nMIIEow==\n", "passphrase: [REDACTED]"),
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
        '{"max_tokens": 100, "prompt_tokens": 128000, "token_count": 128000, "tokenizer": "o200k_base"}',
        '{"key": "value", "primary_key": "user_1234567", "public_key": "abc123def456", "monkey": "1234567"}',
        '{"password_policy": "at least 8 characters", "secretary": "ada1234", "passwords": 1234567}',
        '{"password": {"type": "string", "minLength": 8}, "required": ["password", "token"]}',
        '{"token": "see page 1234567", "secret": "in the vault", "api_key": null}',
        "private key: missing, secret key: not found, accesskey",
        'pwd="" and password = ""',
    ],
)
def test_what_is_no_key_stays(said: str) -> None:
    assert redact(said) == said


@given(st.text())
def test_it_is_total_and_says_the_same_twice(said: str) -> None:
    once = redact(said)
    assert redact(once) == once


PASSWORDS = [
    "password",
    "dbPassword",
    "PGPASSWORD",
    "db_passwd",
    "DB_PASS",
    "Pwd",
    "clientSecret",
    "refresh_token",
    "accessToken",
]
KEYS = [
    "api_key",
    "apiKey",
    "X-Api-Key",
    "token",
    "csrfToken",
    "secret",
    "secretKey",
    "access_key",
    "privateKey",
]
OTHERS = [
    "key",
    "tokens",
    "max_tokens",
    "token_count",
    "password_policy",
    "keyboard",
    "secretary",
    "first_pass",
    "BYPASS",
    "public_key",
    "user",
]
NAMES = st.sampled_from(PASSWORDS + KEYS + OTHERS)
WORDS = st.text(ascii_letters + digits, min_size=1, max_size=12)


@given(st.sampled_from(PASSWORDS), st.text("xyz" + digits + " ,;&{}:=@'é\n", min_size=4), st.integers(1, 4))
def test_a_password_is_gone_from_json_however_deep_and_what_follows_it_is_not(name, password, depth):
    said = {"user": "Ada", name: password, "note": "it is hers"}
    quoted = password
    for _ in range(depth):
        said, quoted = json.dumps(said), json.dumps(quoted)[1:-1]
    told = redact(said)
    assert quoted not in told
    assert told.count("[REDACTED]") == 1
    assert "Ada" in told
    assert "it is hers" in told


@given(NAMES, WORDS)
def test_a_value_is_labelled_if_it_is_gone_from_a_text_with_its_name(name, value):
    gone = redact(json.dumps({name: value})) != json.dumps({name: value})
    assert is_labelled(name, value) is gone
    assert not (gone and name in OTHERS)


@pytest.mark.parametrize("piece", ["eyJ-", "password='a", 'secret=\\"'])
def test_a_long_text_takes_no_longer_than_several_short_ones(piece):
    redact(piece * (400_000 // len(piece)))  # for minutes if the work were quadratic
