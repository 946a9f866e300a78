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
    keys_of,
    scrub,
    secrets_of,
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


@pytest.mark.parametrize("linked", ["__cause__", "__context__"])
def test_a_key_in_what_led_to_an_error_is_taken_out_also_where_that_is_a_circle(linked):
    told, first = RuntimeError("it failed"), RuntimeError(f"no {KEY}")
    setattr(told, linked, first)
    setattr(first, linked, told)
    assert str(without_key(told, KEY)) == "RuntimeError: it failed"
    assert without_key(told, "another-secret") is told


def test_a_key_that_an_error_shows_in_its_repr_alone_is_taken_out():
    class Quoting(Exception):
        def __repr__(self):
            return f"Quoting({KEY})"

    assert str(without_key(Quoting("no"), KEY)) == "Quoting: no"


def test_what_we_say_of_a_call_wins_over_what_others_say_of_it():
    error = AdapterError("unknown", message="no", metadata={"host": "theirs", "more": 1})
    assert without_keys(error, Secret(KEY), metadata={"host": "ours"}).metadata == {"host": "ours", "more": 1}


def test_a_name_that_looks_like_a_key_taken_out_hides_no_key():
    assert scrub({"[REDACTED]": 1, KEY: 1}, Secret(KEY)) == {"[REDACTED]": 1}


def test_a_key_that_only_a_str_shows_is_taken_out():
    class Says:
        def __str__(self):
            return KEY

    assert scrub([Says()], Secret(KEY)) == ["[REDACTED]"]


def test_the_space_around_a_key_hides_it_from_nobody():
    assert scrub(f"no {KEY}!", Secret(f" {KEY}\n")) == "no [REDACTED]!"


def test_twelve_characters_of_a_key_are_no_accident_wherever_they_are_in_it():
    for at in range(len(KEY) - 11):
        assert scrub(f"no {KEY[at : at + 12]}!", Secret(KEY)) == "no [REDACTED]!"
        assert scrub(f"no {KEY[at : at + 11]}!", Secret(KEY)) == f"no {KEY[at : at + 11]}!"


def test_what_holds_another_key_is_taken_out_before_it():
    found = [secret.reveal() for secret in secrets_of({}, "https://user:password@host/?key=a%2Fb+c")]
    assert "user:password" in found
    assert [len(each) for each in found] == sorted(map(len, found), reverse=True)


def test_a_long_word_of_letters_and_digits_is_a_key_under_whatever_name():
    assert secrets_of({"x-trace": "a1" * 10}) == [Secret("a1" * 10)]
    assert secrets_of({"x-trace": "a1" * 9 + "a"}) == []


def test_who_asks_is_a_secret_of_recordings_and_not_of_errors():
    headers = {"OpenAI-Organization": "acme-and-sons", "x-session-id": "conversation-1", "x-api-key": KEY}
    assert [secret.reveal() for secret in secrets_of(headers)] == [KEY]
    assert {secret.reveal() for secret in secrets_of(headers, "", SECRET_HEADERS)} == set(headers.values())


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
        assert secrets_of({name: "words"}) == [Secret("words")]
    assert secrets_of({"accept": "words", "x-request-id": "words"}) == []
    assert not re.search("words", repr(secrets_of({"cookie": "words"})))


def test_a_function_that_is_killed_while_it_is_asked_is_not_taken_for_one_that_leaves():
    def killed():
        raise ProcessKilled("the worker is over")

    with pytest.raises(ProcessKilled):
        Remembered(killed)()


@pytest.mark.parametrize("key", [KEY, Secret(KEY)], ids=["text", "a Secret"])
def test_what_a_function_has_said_is_taken_out_of_errors(key):
    source = Remembered(lambda: key)
    assert source() is key
    assert str(without_key(RuntimeError(f"no {KEY}"), source)) == "RuntimeError: no [REDACTED]"


def test_the_last_keys_of_a_function_are_taken_out_and_not_all_that_it_ever_said():
    said = [f"{number}-is-its-key" for number in range(20)]
    source = Remembered(iter([*said, said[-1], None]).__next__)
    for _ in range(22):
        source()
    assert keys_of(source) == tuple(Secret(key) for key in said[:-9:-1])
    for key in said[-8:]:
        assert str(without_key(RuntimeError(f"no {key}"), source)) == "RuntimeError: no [REDACTED]"


def test_a_function_that_fails_is_asked_no_more():
    def fails():
        raise LookupError("no such vault")

    source = Remembered(fails)
    with pytest.raises(LookupError):
        source()
    assert not source.asking
