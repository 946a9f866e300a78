"""An error is one line with advice for whoever types commands, and an exit code that scripts can use."""

import pytest

from allm_actors.cli.trouble import Misuse, exit_code, is_empty, line, shortcoming
from allm_actors.data import (
    AdapterError,
    ChatResult,
    EngineError,
    Message,
    Response,
    StepResult,
    StoreError,
    Thread,
)
from allm_actors.engine.catalog import unknown_adapter


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Misuse("no"), 2),
        (EngineError("unknown_adapter", provider="x"), 2),
        (EngineError("missing_adapter"), 2),
        (EngineError("missing_model"), 2),
        (EngineError("invalid_engine"), 2),
        (EngineError("missing_key", provider="openai"), 1),
        (AdapterError("rate_limited"), 1),
        (StoreError("not_a_store", path="x"), 1),
        (ValueError("a mistake of ours"), 0),
        (OSError("of no file"), 0),
    ],
    ids=repr,
)
def test_exit_codes_say_whose_turn_it_is(error: Exception, code: int) -> None:
    assert exit_code(error) == code


def test_a_missing_key_names_its_variable() -> None:
    assert "set GROQ_API_KEY" in line(EngineError("missing_key", provider="groq"))


def test_every_variable_of_a_key_is_named() -> None:
    assert "set GEMINI_API_KEY or GOOGLE_API_KEY. For a server that needs no key, use --adapter" in line(
        EngineError("missing_key", provider="gemini")
    )
    assert "set its environment variable" in line(EngineError("missing_key", provider="nobody"))


def test_a_wrong_key_is_looked_for_where_it_came_from() -> None:
    error = AdapterError("authentication_failed", provider="groq", message="no. Check the key in api_key=")
    assert line(error) == "no. Check the key in GROQ_API_KEY"


def test_what_took_too_long_may_take_longer() -> None:
    limited = AdapterError("timeout", message="took 3 s; request_timeout allows more, in seconds")
    assert line(limited) == "took 3 s; --timeout allows more, in seconds"
    assert line(AdapterError("timeout", message="no byte in 3 s")) == "no byte in 3 s"


def test_an_error_without_words_is_named_by_its_kind() -> None:
    assert line(RuntimeError()) == "RuntimeError"


def test_an_answer_is_empty_when_it_is_over_and_says_nothing() -> None:
    def result(content: str, finish: str = "stop", halted: str = "completed") -> ChatResult:
        message = Message(role="assistant", content=content)
        response = Response(message=message, finish_reason=finish)
        return ChatResult(
            steps=[StepResult(thread=Thread(), response=response)],
            final_response=response,
            halted_reason=halted,
        )

    assert is_empty(result(""))
    assert is_empty(result(" \n"))
    assert not is_empty(result("yes"))
    assert not is_empty(result("", finish="length"))
    assert not is_empty(result("", halted="cancelled"))
    assert shortcoming(result("", finish="length", halted="cancelled")) is None
    assert shortcoming(result("ye", finish="length")) is not None


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
