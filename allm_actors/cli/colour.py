"""Colour for terminals: which streams want it, and how a text gets it.

Rule of this file: pure. Without colour the text is the same, and what a model or a tool wrote can never
control the terminal.

Source: https://no-color.org; https://force-color.org; ECMA-48, "SGR, Select Graphic Rendition".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Literal, TextIO

__all__ = ["Paint", "Style", "escaped", "harmless", "harmless_name", "wants_colour"]

Style = Literal["bold", "dim", "italic", "red", "green", "yellow", "blue", "magenta", "cyan"]

_CODES: Mapping[Style, int] = {
    "bold": 1,
    "dim": 2,
    "italic": 3,
    "red": 31,
    "green": 32,
    "yellow": 33,
    "blue": 34,
    "magenta": 35,
    "cyan": 36,
}
# Everything a terminal acts on instead of showing it: C0 without tab and newline, DEL, C1, and what turns the direction
# of the text after it, so that it reads otherwise than it is. Source: https://www.unicode.org/reports/tr9, 2.
_ORDERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Paint:
    """Puts text into colour, or leaves it alone: `paint("done", "bold", "green")`."""

    __slots__ = ("on",)

    def __init__(self, on: bool) -> None:
        self.on = on

    def __call__(self, text: str, *styles: Style) -> str:
        if not self.on or not styles or not text:
            return text
        codes = ";".join(str(_CODES[style]) for style in styles)
        return f"\x1b[{codes}m{text}\x1b[0m"


def wants_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether text for this stream should have colour: NO_COLOR says no, FORCE_COLOR yes, else terminals get it."""
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return environ["FORCE_COLOR"] != "0"
    return environ.get("TERM") != "dumb" and stream.isatty()


def harmless(text: str) -> str:
    """The text with control characters made visible, so that an answer cannot move the cursor or set a title."""
    return _ORDERS.sub(_picture, text)


def harmless_name(text: str) -> str:
    """The same on one line: a name with a line end in it would look like two."""
    return harmless(text).translate({9: 0x2409, 10: 0x240A})


def escaped(text: str) -> str:
    """A text of JSON with every character that cannot be seen as `\\uXXXX`: it still means the same."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c < "\x7f" else json.dumps(c)[1:-1] for c in text)


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)  # Unicode's "Control Pictures" block has one for each
    return "\u2421" if code == 0x7F else "\ufffd"
