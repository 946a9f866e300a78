"""Keys are taken out of whatever an error holds, and nothing else is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.data import AdapterError, EngineError, StreamError
from allm_actors.engine.secret import (
    SECRET_HEADERS,
    Remembered,
    Secret,
    hidden_in,
    scrub,
    without_key,
    without_keys,
)
from supervisors import ProcessKilled

KEY = "plain-secret-4711"


class Shows:
    """An object of somebody else's."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return f"<shows {self.text}>"


class Broken:
    def __repr__(self):
        raise RuntimeError("no")


WORDS = st.text(max_size=9)


def holding(text):
    """Values of every kind with `text` at their leaves."""
    leaves = text.flatmap(
        lambda word: st.sampled_from(
            [word, word.encode("utf-8", "replace"), bytearray(word.encode("utf-8", "replace")), Shows(word)]
        )
    )
    nested = st.recursive(
        leaves | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False),
        lambda inside: (
            st.lists(inside, max_size=3)
            | st.lists(inside, max_size=3).map(tuple)
            | st.dictionaries(text, inside, max_size=3)
            | st.frozensets(text, max_size=3)
            | st.sets(text, max_size=3)
            | inside.map(lambda each: AdapterError("unknown", message="it failed", metadata={"held": each}))
        ),
        max_leaves=6,
    )
    return st.builds(lambda each, more: [each, more], nested, nested)


def shown(value):
    """All that a log would show."""
    if isinstance(value, AdapterError):
        return f"{value!r} {shown(value.to_fields())}"
    if isinstance(value, dict):
        return " ".join(f"{shown(name)} {shown(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return " ".join(map(shown, value))
    return f"{value!r} {value}"


@given(holding(st.tuples(WORDS, st.booleans()).map(lambda pair: pair[0] + (KEY if pair[1] else ""))))
def test_a_key_is_nowhere_in_what_is_told(value):
    assert KEY not in shown(scrub(value, Secret(KEY)))


@given(holding(WORDS))
def test_what_holds_no_key_stays_the_same_object(value):
    assert scrub(value, Secret(KEY)) is value


def test_a_key_in_what_is_nested_too_deep_takes_all_of_it_along():
    value = [KEY]
    for _ in range(100):
        value = [value]
    assert KEY not in repr(scrub(value, Secret(KEY)))
    circle = [KEY]
    circle.append(circle)
    assert KEY not in repr(scrub(circle, Secret(KEY)))


def test_what_cannot_be_shown_shows_nothing():
    broken = Broken()
    assert scrub([broken], Secret(KEY)) == [broken]


@pytest.mark.parametrize("key", ["lmstudio", "network_error", "order-4711-42", "provider"])
def test_a_key_that_is_a_word_of_ours_is_none_there(key):
    error = AdapterError(
        "network_error",
        provider="lmstudio",
        request_id="order-4711-42",
        message=f"said {key}",
        metadata={"a": (key,)},
    )
    told = without_keys(error, Secret(key), metadata={"request_id": key})
    assert (told.reason, told.provider, told.request_id) == ("network_error", "lmstudio", "order-4711-42")
    assert (told.message, told.metadata) == ("said [REDACTED]", {"a": ("[REDACTED]",), "request_id": key})


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (AdapterError("unknown", message=f"no {KEY}"), AdapterError),
        (StreamError("adapter_error", message="no", metadata={"headers": [("x-api-key", KEY)]}), StreamError),
        (
            EngineError(
                "invalid_engine", message="no", metadata={"inner": AdapterError("unknown", message=KEY)}
            ),
            EngineError,
        ),
        (TypeError(f"no {KEY}"), TypeError),
        (ValueError(f"no {KEY}"), ValueError),
    ],
)
def test_what_an_adapter_raises_stays_what_it_is_without_the_key(raised, kind):
    told = without_key(raised, KEY)
    assert type(told) is kind
    assert KEY not in str(told) + repr(told) + repr(getattr(told, "metadata", ""))
    assert without_key(raised, "another-secret") is raised


def test_who_asks_is_a_secret_of_recordings_and_not_of_errors():
    headers = {"OpenAI-Organization": "acme-and-sons", "x-session-id": "conversation-1", "x-api-key": KEY}
    assert [secret.reveal() for secret in hidden_in(headers)] == [KEY]
    assert {secret.reveal() for secret in hidden_in(headers, "", SECRET_HEADERS)} == set(headers.values())


def test_credentials_have_many_names():
    names = [
        "authorization",
        "x-goog-api-key",
        "x-amz-security-token",
        "cookie",
        "x-auth",
        "proxy-authorization",
        "jwt",
    ]
    for name in names:
        assert hidden_in({name: "words"}) == [Secret("words")]
    assert hidden_in({"accept": "words", "x-request-id": "words"}) == []
    assert not re.search("words", repr(hidden_in({"cookie": "words"})))


def test_a_function_that_is_killed_while_it_is_asked_is_not_taken_for_one_that_leaves():
    def killed():
        raise ProcessKilled("the worker is over")

    with pytest.raises(ProcessKilled):
        Remembered(killed)()
