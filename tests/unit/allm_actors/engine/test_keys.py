"""Keys are found at five levels, in order, and never shown."""

import copy
import inspect
import os
import pickle
import re
import threading
from pathlib import Path

import pytest

from allm_actors.data import EngineError
from allm_actors.engine import keys
from allm_actors.engine.keys import Secret
from allm_actors.engine.secret import Remembered

NAMES = ("TEST_PROVIDER_API_KEY", "TEST_PROVIDER_OTHER_KEY")


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    keys.clear()
    yield
    keys.clear()


def found(**options):
    secret_and_level = keys.find("p", NAMES, **options)
    return secret_and_level and (secret_and_level[0].reveal(), secret_and_level[1])


def test_the_first_level_that_has_a_key_wins(monkeypatch, tmp_path):
    assert found() is None
    (tmp_path / ".env").write_text(f"{NAMES[0]}=dotenv")
    keys.configure(load_dotenv=True, dotenv_path=tmp_path / ".env")
    assert found() == ("dotenv", "dotenv")
    monkeypatch.setenv(NAMES[1], "second")
    assert found() == ("second", "env")
    monkeypatch.setenv(NAMES[0], "env")
    assert found() == ("env", "env")
    keys.configure({"p": "config"})
    assert found() == ("config", "app_config")
    keys.put("p", "runtime")
    assert found() == ("runtime", "runtime")
    assert found(api_key="call") == ("call", "opts")
    assert found(api_key=lambda: "asked") == ("asked", "opts")
    assert found(api_key=Secret("hidden")) == ("hidden", "opts")
    keys.delete("p")
    assert found() == ("config", "app_config")


@pytest.mark.parametrize(
    "nothing", ["", None, lambda: "", lambda: None], ids=["empty", "none", "says empty", "says none"]
)
def test_an_empty_key_is_no_key(nothing, monkeypatch):
    monkeypatch.setenv(NAMES[0], "")
    keys.put("p", "")
    assert found(api_key=nothing) is None


def test_a_missing_key_says_where_it_was_looked_for():
    with pytest.raises(EngineError) as missing:
        keys.fetch("p", NAMES)
    error = missing.value
    assert (error.reason, error.provider) == ("missing_key", "p")
    assert error.metadata["checked_sources"] == ["opts", "runtime", "app_config", "env"]
    assert error.metadata["variables"] == [*NAMES]
    assert error.message == (
        f"no API key for 'p': set {NAMES[0]} or {NAMES[1]}, or pass api_key= with the call (looked in: opts, "
        "runtime, app_config, env)"
    )
    keys.configure(load_dotenv=True, dotenv_path="does-not-exist.env")
    with pytest.raises(EngineError, match=r"'p': set its environment variable, .*, env, dotenv\)$"):
        keys.fetch("p", ())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: keys.put("p", None), r"got NoneType; keys\.delete\('p'\) removes one"),
        (lambda: keys.put("p", 4), "keys.put takes a key that is text or a Secret, got int$"),
        (
            lambda: keys.put("", "x"),
            "keys.put takes the name of a provider, such as 'openai', got an empty text",
        ),
        (lambda: keys.put(None, "x"), "keys.put takes the name of a provider"),
        (lambda: keys.configure({"p": b"x"}), "the key of 'p' must be text or a Secret, got bytes"),
        (lambda: keys.configure({3: "x"}), "keys.configure takes the name of a provider"),
        (
            lambda: keys.configure([("p", "x")]),
            r"by provider as a mapping, such as \{\"openai\": key\}, got list",
        ),
        (lambda: keys.configure("sk-123"), "by provider as a mapping.*got str"),
    ],
    ids=range(8),
)
def test_what_is_no_key_or_no_name_is_refused(call, message):
    with pytest.raises(TypeError, match=message):
        call()
    assert found() is None


def test_the_space_around_a_key_is_no_part_of_it(monkeypatch):
    for key in (" k \n", Secret(" k \n")):
        assert found(api_key=key) == ("k", "opts")
        keys.put("p", key)
        assert found() == ("k", "runtime")
        keys.clear()
        keys.configure({"p": key})
        assert found() == ("k", "app_config")
        keys.clear()
    monkeypatch.setenv(NAMES[0], " k ")
    assert found() == ("k", "env")


def test_what_is_cleared_is_forgotten_at_every_level(tmp_path):
    (tmp_path / ".env").write_text(f"{NAMES[0]}=dotenv")
    keys.put("p", "runtime")
    keys.configure({"p": "config"}, load_dotenv=True, dotenv_path=tmp_path / ".env")
    keys.clear()
    assert found() is None


async def too_late(key):
    return key


def leave():
    raise SystemExit("sk-123")


@pytest.mark.parametrize(
    ("source", "trouble"),
    [
        (lambda: 5, "returned int"),
        (lambda: too_late("k"), "returned coroutine"),
        (lambda: 1 / 0, "failed with ZeroDivisionError"),
        (Remembered(leave), "exited with SystemExit"),
    ],
    ids=["a number", "a coroutine", "an error", "an exit"],
)
def test_a_source_that_gives_no_key_is_spoken_of(source, trouble):
    with pytest.raises(EngineError, match=rf"^the api_key= function for 'p' {trouble}.*; it must") as caught:
        found(api_key=source)
    assert (caught.value.reason, caught.value.provider) == ("missing_key", "p")
    assert keys.unanswered("p", 30.0).message == caught.value.message.replace(
        trouble, "did not answer within 30 s"
    )


def test_a_coroutine_that_is_no_key_is_closed():
    coming = too_late("k")
    with pytest.raises(EngineError):
        found(api_key=lambda: coming)
    assert inspect.getcoroutinestate(coming) == inspect.CORO_CLOSED


def test_a_configured_key_of_none_is_none():
    keys.configure({"p": None})
    assert found() is None


@pytest.mark.parametrize(
    "said",
    [lambda: keys.put("opnai", "x"), lambda: keys.configure({"opnai": "x"})],
    ids=["put", "configured"],
)
def test_a_key_of_a_misspelt_provider_is_spoken_of(said):
    said()
    with pytest.raises(EngineError, match="there is a key for 'opnai': is one of the two misspelled"):
        keys.fetch("openai", NAMES)
    keys.put("opnai", "")
    keys.configure({})
    with pytest.raises(EngineError) as caught:
        keys.fetch("openai", NAMES)
    assert "misspelled" not in caught.value.message


@pytest.mark.parametrize(
    ("first", "second", "key"),
    [
        ("a", "b", "a"),
        ("a", None, "a"),
        (None, "b", "b"),
        ("", "b", "b"),
        (Secret("a"), "b", "a"),
        (lambda: "a", "b", "a"),
        (lambda: "a", lambda: pytest.fail("it was not needed"), "a"),
        (lambda: None, "b", "b"),
        (lambda: "", lambda: "b", "b"),
        (lambda: Secret("a"), "b", "a"),
        ("", lambda: "b", "b"),
        (lambda: Secret(""), "b", "b"),
        (Secret(""), "b", "b"),
        (" ", "b", "b"),
        (lambda: " ", "b", "b"),
    ],
    ids=range(15),
)
def test_the_second_of_two_sources_is_for_where_the_first_has_none(first, second, key):
    assert found(api_key=keys.either(first, second)) == (key, "opts")


@pytest.mark.parametrize("wrong", [5, ["a"]])
def test_a_source_that_is_none_stays_to_be_refused(wrong):
    with pytest.raises(TypeError, match="api_key"):
        found(api_key=wrong)
    assert keys.either(wrong, "b") is wrong
    assert keys.either(lambda: wrong, "b")() is wrong


def test_a_secret_never_shows_itself():
    secret = Secret("sk-123")
    assert "sk-123" not in f"{secret} {secret!r} {secret:>30} {[secret]}"
    assert secret == Secret("sk-123")
    assert secret != "sk-123"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.deepcopy(secret)


@pytest.mark.parametrize("text", ["\ufeff{}=dotenv", '{}=" dotenv "', "{} = dotenv "])
def test_what_editors_add_to_a_dotenv_is_no_part_of_the_key(tmp_path, text):
    (tmp_path / ".env").write_text(text.format(NAMES[0]), encoding="utf-8")
    keys.configure(load_dotenv=True, dotenv_path=tmp_path / ".env")
    assert found() == ("dotenv", "dotenv")


def test_a_key_of_spaces_is_none(tmp_path):
    (tmp_path / ".env").write_text(f'{NAMES[0]}="  "')
    keys.configure(load_dotenv=True, dotenv_path=tmp_path / ".env")
    assert found() is None


def test_every_variable_may_be_in_the_dotenv(tmp_path):
    (tmp_path / ".env").write_text(f"{NAMES[1]}=dotenv")
    keys.configure(load_dotenv=True, dotenv_path=tmp_path / ".env")
    assert found() == ("dotenv", "dotenv")


@pytest.mark.parametrize("before", [None, "", f"{NAMES[0]}=first"], ids=["none", "empty", "a key"])
def test_a_dotenv_is_read_once(tmp_path, before):
    file = tmp_path / ".env"
    if before is not None:
        file.write_text(before)
    keys.configure(load_dotenv=True, dotenv_path=file)
    first = found()
    file.write_text(f"{NAMES[0]}=second")
    assert found() == first
    keys.configure(load_dotenv=True, dotenv_path=file)
    assert found() == ("second", "dotenv")


def test_the_dotenv_grammar():
    text = (
        "# A=comment\n\nexport A=1\r\n B = spaced \nC=\"quo ted\"\nD='single'\nE=a=b#c\n1F=no\nG\nH=\n"
        'I="\nJ=""\nA_B2=last\nK = " in "\n  export L=1\nM=first\nM=second\rN="half\r\n'
        "O=a\u2028P=no\nQ=b\x0bc\x85d"
    )
    assert keys.parse_dotenv(text) == {
        "A": "1",
        "B": "spaced",
        "C": "quo ted",
        "D": "'single'",
        "E": "a=b#c",
        "H": "",
        "I": '"',
        "J": "",
        "A_B2": "last",
        "K": " in ",
        "L": "1",
        "M": "second",
        "N": '"half',
        "O": "a\u2028P=no",
        "Q": "b\x0bc\x85d",
    }


@pytest.mark.parametrize("path", ["", "no\0path", "file/.env"])
def test_a_dotenv_that_cannot_be_read_is_spoken_of(tmp_path, path):
    (tmp_path / "file").write_text("a file, and no directory")
    keys.configure(load_dotenv=True, dotenv_path=tmp_path / path)
    assert keys.find("p", NAMES) is None  # who needs no key asks without one
    with pytest.raises(EngineError, match=r"looked in: .*dotenv; .* with dotenv_path=\)") as caught:
        keys.fetch("p", NAMES)
    assert (caught.value.reason, caught.value.provider) == ("missing_key", "p")
    keys.configure({"p": "config"})
    assert keys.fetch("p", NAMES).reveal() == "config"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_dotenv_of_another_encoding_is_spoken_of_and_not_quoted(tmp_path, encoding):
    file = tmp_path / ".env"
    file.write_text(f"# Schlüssel für alle\n{NAMES[0]}=sk-verysecret\n", encoding=encoding)
    keys.configure(load_dotenv=True, dotenv_path=file)
    with pytest.raises(
        EngineError, match=rf"{re.escape(str(file))} is not UTF-8.*: save it as UTF-8"
    ) as caught:
        keys.fetch("p", NAMES)
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    assert "verysecret" not in repr(error) + repr(error.to_fields())


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no endless file here")
def test_a_dotenv_without_end_is_spoken_of():
    keys.configure(load_dotenv=True, dotenv_path="/dev/zero")
    with pytest.raises(EngineError, match=r"/dev/zero has more than 1,048,576 bytes: name another file"):
        keys.fetch("p", NAMES)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_nobody_but_the_caller_waits_for_a_dotenv_that_is_a_pipe(tmp_path):
    os.mkfifo(tmp_path / ".env")
    configuring = threading.Thread(
        target=lambda: keys.configure(load_dotenv=True, dotenv_path=tmp_path / ".env"), daemon=True
    )
    configuring.start()
    keys.put("p", "mine")
    assert found() == ("mine", "runtime")
    keys.delete("p")
    assert found() is None
    (tmp_path / ".env").write_text(f"{NAMES[0]}=dotenv")  # whoever opens one end waits for the other
    configuring.join(10)
    assert found() == ("dotenv", "dotenv")


def test_a_dotenv_that_is_read_no_more_is_spoken_of_no_more(tmp_path):
    keys.configure(load_dotenv=True, dotenv_path=tmp_path)
    assert found() is None
    keys.configure({})
    with pytest.raises(EngineError) as caught:
        keys.fetch("p", NAMES)
    assert "dotenv" not in caught.value.message


def test_the_dotenv_is_that_of_the_directory_in_which_it_was_configured(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text(f"{NAMES[0]}=dotenv")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    keys.configure(load_dotenv=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert found() == ("dotenv", "dotenv")
