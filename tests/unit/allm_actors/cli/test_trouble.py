"""An error is one line with advice for whoever types commands, and an exit code that scripts can use."""

import pytest

from allm_actors.cli.trouble import Misuse, exit_code, line
from allm_actors.data import AdapterError, EngineError, StoreError
from allm_actors.engine.catalog import unknown_adapter


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Misuse("no"), 2),
        (EngineError("unknown_adapter", provider="x"), 2),
        (EngineError("missing_key", provider="openai"), 1),
        (AdapterError("rate_limited"), 1),
        (StoreError("not_a_store", path="x"), 1),
        (ValueError("a mistake of ours"), 0),
    ],
    ids=repr,
)
def test_exit_codes_say_whose_turn_it_is(error: Exception, code: int) -> None:
    assert exit_code(error) == code


def test_a_missing_key_names_its_variable() -> None:
    assert "set GROQ_API_KEY" in line(EngineError("missing_key", provider="groq"))


def test_an_unknown_adapter_names_the_nearest() -> None:
    assert "did you mean openai" in line(unknown_adapter("opnai", ["openai", "groq"]))
    assert "`allm providers`" in line(unknown_adapter("zzz", ["openai", "groq"]))


def test_a_file_that_is_no_store_is_named() -> None:
    assert line(StoreError("not_a_store", path="notes.txt")).startswith("notes.txt is not a session store")


def test_what_another_program_has_changed_is_asked_again() -> None:
    text = line(
        StoreError("conflict", path="s.db", message="has a newer session; ask again to go on from there")
    )
    assert text.endswith("ask again")


def test_a_file_in_the_way_is_named() -> None:
    error = PermissionError(13, "Permission denied", "/root/x")
    assert (exit_code(error), line(error)) == (1, "/root/x: Permission denied")


def test_every_error_is_one_harmless_line() -> None:
    assert line(AdapterError("unknown", message="first\n  second \x1b[2J")) == "first second ␛[2J"
