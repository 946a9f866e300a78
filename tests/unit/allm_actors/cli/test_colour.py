"""Who wants colour gets it, everybody else the same text without it, and no text steers the terminal."""

import io
import json

import pytest

from allm_actors.cli.colour import Paint, escaped, harmless, harmless_name, wants_colour


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "wanted"),
    [
        pytest.param(Screen(), {}, True, id="a terminal"),
        pytest.param(io.StringIO(), {}, False, id="a file"),
        pytest.param(Screen(), {"NO_COLOR": "1"}, False, id="NO_COLOR"),
        pytest.param(Screen(), {"NO_COLOR": ""}, True, id="NO_COLOR, empty"),
        pytest.param(io.StringIO(), {"FORCE_COLOR": "1"}, True, id="FORCE_COLOR"),
        pytest.param(Screen(), {"FORCE_COLOR": "0"}, False, id="FORCE_COLOR=0"),
        pytest.param(io.StringIO(), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, id="both"),
        pytest.param(Screen(), {"TERM": "dumb"}, False, id="a dumb terminal"),
    ],
)
def test_colour_is_for_those_who_want_it(stream: io.StringIO, environ: dict[str, str], wanted: bool) -> None:
    assert wants_colour(stream, environ) is wanted


def test_painting_wraps_the_text_and_leaves_it_whole() -> None:
    assert Paint(True)("done", "bold", "green") == "\x1b[1;32mdone\x1b[0m"


@pytest.mark.parametrize(("text", "styles"), [("done", ("bold",)), ("done", ()), ("", ("bold",))])
def test_nothing_is_added_where_nothing_is_wanted(text: str, styles: tuple[str, ...]) -> None:
    assert Paint(not styles or not text)(text, *styles) == text  # type: ignore[arg-type]
    assert Paint(False)(text, *styles) == text  # type: ignore[arg-type]


def test_control_characters_are_shown_instead_of_obeyed() -> None:
    assert harmless("\x1b]0;title\x07 a\r\x7f\x9b b") == "␛]0;title␇ a␍␡\ufffd b"
    assert harmless("a\u202etxt.exe\u2066") == "a\ufffdtxt.exe\ufffd"


def test_lines_and_tabs_and_letters_stay_as_they_are() -> None:
    assert harmless("one\n\ttwo 水 é 👩\u200d🔬") == "one\n\ttwo 水 é 👩\u200d🔬"


def test_a_name_is_on_one_line_and_of_one_piece() -> None:
    assert harmless_name("one\n\ttwo\x1b") == "one␊␉two␛"


def test_what_cannot_be_seen_is_escaped_in_json() -> None:
    text = '{"é": "\u202e\u200b\x9b\u2028\U000e0041",\n "b": 1}'
    assert escaped(text) == '{"é": "\\u202e\\u200b\\u009b\\u2028\\udb40\\udc41",\n "b": 1}'
    assert json.loads(escaped(text)) == json.loads(text)
