"""What may be typed, and what it means."""

import pytest

from allm_actors.cli.arguments import parse
from allm_actors.cli.equipment import engine_for


def test_words_and_the_dash_stay_in_order_around_options() -> None:
    assert parse(["run", "Review", "this:", "--json", "-"]).prompt == ["Review", "this:", "-"]


def test_words_behind_two_dashes_are_words_wherever_they_stand() -> None:
    assert parse(["run", "hi", "--model", "m", "--", "-"]).prompt == ["hi", "-"]
    assert parse(["run", "hi", "--json", "--", "--help", "--", "-x"]).prompt == ["hi", "--help", "--", "-x"]
    assert parse(["run", "--", "-x"]).prompt == ["-x"]


def test_tools_are_collected() -> None:
    assert parse(["chat", "--tools", "a.py", "--tools", "b:c"]).tools == ["a.py", "b:c"]


def test_the_environment_names_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLM_ADAPTER", "groq")
    assert parse(["chat"]).adapter == "groq"
    assert parse(["chat", "--adapter", "xai"]).adapter == "xai"
    monkeypatch.setenv("ALLM_ADAPTER", "")
    assert parse(["chat"]).adapter is None


@pytest.mark.parametrize(
    ("words", "model"),
    [
        ([], "llama"),
        (["--adapter", "fake"], "llama"),
        (["--adapter", "fake:typed"], "typed"),
        (["--model", ""], "llama"),
        (["--adapter", "fake:typed", "--model", ""], "typed"),
        (["--model", "named"], "named"),
        (["--adapter", "fake:typed", "--model", "named"], "named"),
    ],
    ids=["environment", "adapter", "both in one", "no model", "no model beside one", "model", "all"],
)
def test_what_was_typed_wins_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, words: list[str], model: str
) -> None:
    monkeypatch.setenv("ALLM_ADAPTER", "fake")
    monkeypatch.setenv("ALLM_MODEL", "llama")
    assert engine_for(parse(["chat", *words])).model == model


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["dance"],
        ["chat", "hello"],
        ["run", "x", "--jsno"],
        ["run", "x", "--timeout", "0"],
        ["run", "x", "--timeout", "soon"],
        ["run", "x", "--timeout", "nan"],
        ["run", "x", "--max-tokens", "²"],
        ["run", "x", "--max-tokens", "0"],
        ["run", "x", "--max-tokens", "1_000"],
        ["chat", "--max-tokens", "99999999999999999999"],
        ["run", "x", "--jsno", "--", "y"],
        ["chat", "--session", " "],
        ["run", "x", "--mod", "abbreviated"],
    ],
    ids=" ".join,
)
def test_what_means_nothing_is_refused_with_usage(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refusal:
        parse(words)
    assert refusal.value.code == 2
    assert "usage: allm" in capsys.readouterr().err


def test_some_options_have_one_letter() -> None:
    assert parse(["sessions", "-l"]).long
    assert parse(["run", "-v", "hi"]).verbose


def test_a_word_too_many_is_no_misspelt_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["sessions", "stores", "-long"])
    assert "did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["chat"], ["run"], ["sessions"], ["providers"]], ids=" ".join)
def test_everything_has_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([*words, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: allm")
    assert words == ["providers"] or "examples:" in said
