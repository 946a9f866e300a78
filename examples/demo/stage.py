"""What the demo prints on, and how it keeps its word: a line with a tick was checked when it was printed.

Rule of this file: nothing is told as a fact that was not observed. What does not hold ends the demo with that line.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
import time
from typing import TextIO

from allm_actors.cli.colour import Paint, Style, wants_colour

__all__ = ["DoesNotHold", "Stage"]

_INDENT = "    "
_MARGIN = 8
_WORDS = re.compile(r"\n|[^\S\n]+|\S+")


class DoesNotHold(Exception):
    """An observation failed: the demo says which, and exits with 1."""


class Stage:
    """A stream of acts: headlines, what is said, and what was observed."""

    def __init__(self, out: TextIO, environ: dict[str, str]) -> None:
        self._out = out
        self.paint = Paint(wants_colour(out, environ))
        self.width = min(shutil.get_terminal_size((100, 24)).columns, 100)
        self.observed = 0
        self._column = 0  # where the words of a speaker are; 0 when nobody speaks
        self._gap = ""  # blanks that are written when another word follows on this line
        self._act = 0
        self._begun = self._act_begun = time.monotonic()

    def title(self, text: str, below: str) -> None:
        """What this is."""
        self.line()
        self.line(self.paint(textwrap.fill(text, self.width), "bold"))
        self.line(self.paint(textwrap.fill(below, self.width), "dim"))

    def act(self, text: str) -> None:
        """A headline."""
        self._act, self._act_begun = self._act + 1, time.monotonic()
        rule = "─" * max(self.width - len(text) - 6, 3)
        self.line()
        self.line(
            f"{self.paint(f'{self._act} ', 'bold', 'magenta')}{self.paint(text, 'bold')} {self.paint(rule, 'dim')}"
        )

    def say(self, who: str, text: str) -> None:
        """Somebody's words, whole."""
        self.speaker(who)
        self.token(text)
        self.line()

    def speaker(self, who: str) -> None:
        """Whose words follow, token by token."""
        self.line()
        colour: Style = "cyan" if who == "you" else "magenta"
        self._write(f"  {self.paint(who.ljust(_MARGIN - 2), 'bold', colour)}")
        self._column, self._gap = _MARGIN, ""

    def token(self, text: str) -> None:
        """A piece of what somebody says, now."""
        for word in _WORDS.findall(text):
            if word == "\n":
                self._break()
            elif word.isspace():
                self._gap += word
            else:
                if self._column + len(self._gap) + len(word) > self.width:
                    self._break()
                self._write(self._gap + word)
                self._column += len(self._gap) + len(word)
                self._gap = ""
        self._out.flush()

    def line(self, text: str = "") -> None:
        """A line; ends one that was begun."""
        if self._column:
            self._write("\n")
            self._column = 0
            if not text:
                return
        self._write(f"{text}\n")
        self._out.flush()

    def note(self, text: str) -> None:
        """What is being done."""
        self._end_words()
        self.line(f"  {self.paint('·', 'dim')} {self.paint(self._wrapped(text), 'dim')}")

    def happened(self, text: str, *, mark: str = "⚙", bad: bool = False) -> None:
        """An event, as it came."""
        self._end_words()
        self.line(f"  {self.paint(mark, 'red' if bad else 'cyan')} {text}")

    def picture(self, text: str) -> None:
        """Something drawn, such as a tree."""
        self._end_words()
        for each in text.splitlines():
            self.line(_INDENT + each)

    def observe(self, holds: bool, text: str) -> None:
        """A fact, ticked. Raises DoesNotHold if it is none."""
        self._end_words()
        if not holds:
            raise DoesNotHold(text)
        self.observed += 1
        self.line(f"  {self.paint('✓', 'bold', 'green')} {self._wrapped(text)}")

    def end(self) -> None:
        """How many facts there were, and how long they took."""
        took = time.monotonic() - self._begun
        self.line()
        self.line(
            self.paint(f"  {self.observed} observations, and all of them held.", "bold", "green")
            + self.paint(f"  {took:.1f} s", "dim")
        )

    def fail(self, why: str) -> None:
        """The line that ends a demo which does not hold."""
        self._end_words()
        self.line()
        print(f"{self.paint('✗ this does not hold:', 'bold', 'red')} {why}", file=sys.stderr, flush=True)

    def _wrapped(self, text: str) -> str:
        return textwrap.fill(text, self.width - len(_INDENT), subsequent_indent=_INDENT)

    def _end_words(self) -> None:
        if self._column:
            self.line()

    def _break(self) -> None:
        self._write("\n" + " " * _MARGIN)
        self._column, self._gap = _MARGIN, ""

    def _write(self, text: str) -> None:
        self._out.write(text)
