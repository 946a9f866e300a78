"""The three standard streams of a command.

Rule of this file: only this file reads from and writes to streams. Control characters in text that a model or
a tool wrote are made visible on a terminal; a file or a pipe gets the text unchanged.
"""

from __future__ import annotations

import io
import os
import select
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO

from .colour import Paint, harmless, harmless_name, wants_colour

__all__ = ["Terminal", "Unwritable", "fill_in"]

_STDOUT = 1


class Unwritable(Exception):
    """Output could not be written: a full disk, a device that is gone."""


def fill_in() -> list[str]:
    """Open the null device for standard streams that are closed, before another file gets their descriptors.
    Returns their names.
    """
    closed = []
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - to our end
            closed.append(name)
    return closed


class Terminal:
    """Where a command reads and writes."""

    def __init__(
        self,
        out: TextIO | None = None,
        err: TextIO | None = None,
        keys: TextIO | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.out, self.err, self.keys = out or sys.stdout, err or sys.stderr, keys or sys.stdin
        self.environ = environ
        for stream in (self.out, self.err, self.keys):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(
                    errors="replace"
                )  # neither a locale without UTF-8 nor an invalid byte may end a conversation
        self.paint = Paint(wants_colour(self.out, environ))
        self.paint_err = Paint(wants_colour(self.err, environ))

    @property
    def interactive(self) -> bool:
        """Whether a person types the input and sees the output."""
        return self.keys.isatty() and self.out.isatty()

    @property
    def piped(self) -> bool:
        """Whether the input comes from something other than a person at a terminal."""
        return not self.keys.isatty()

    @property
    def unread(self) -> bool:
        """Whether something was piped in that nobody has read."""
        try:
            kind = os.fstat(self.keys.fileno()).st_mode
            if (
                not (stat.S_ISFIFO(kind) or stat.S_ISREG(kind))
                or not select.select([self.keys], [], [], 0)[0]
            ):
                return False
            buffer: Any = self.keys.buffer
            return bool(buffer.peek(1))  # at its end a pipe is readable, too
        except (OSError, ValueError, AttributeError):
            return False  # no descriptor, or a system that cannot wait for a pipe

    @property
    def width(self) -> int:
        """How many columns a line has."""
        return shutil.get_terminal_size().columns if self.out.isatty() else 100

    def show(self, text: str) -> None:
        """Print our own text, colours and all, without ending the line."""
        with _writing():
            self.out.write(text)

    def say(self, text: str = "") -> None:
        """Print a line of our own."""
        with _writing():
            self.out.write(f"{text}\n")

    def tell(self, text: str) -> None:
        """Print what a model wrote, now: tokens are seen as they arrive."""
        with _writing():
            self.out.write(self.shown(text))
            self.out.flush()

    def shown(self, text: str) -> str:
        """Foreign text for stdout: control characters made visible for a terminal, unchanged for a file or a pipe."""
        return harmless(text) if self.out.isatty() else text

    def name(self, text: str) -> str:
        """A name for stdout: on a terminal with control characters made visible, and on one line."""
        return harmless_name(text) if self.out.isatty() else text

    def complain(self, text: str) -> None:
        """Print a line on stderr: what went wrong and what to do."""
        self.flush()
        self.err.write(f"{self.paint_err('allm:', 'bold', 'red')} {text}\n")
        self.err.flush()

    def note(self, text: str) -> None:
        """Print a line on stderr that is not an answer and not an error."""
        said = harmless(text) if self.err.isatty() else text
        self.err.write(f"{self.paint_err(said, 'dim')}\n")
        self.err.flush()

    def flush(self) -> None:
        """Flush stdout. Raises Unwritable."""
        with _writing():
            self.out.flush()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A block in which only we write to stdout: what others print, child processes included, goes to stderr."""
        with redirect_stdout(self.err), self._stdout_apart():
            yield

    def read(self) -> str:
        """All that is piped in."""
        return self.keys.read()

    def ask(self, prompt: str, *styles: Any) -> str:
        """A line from the person, without its newline. Raises EOFError at the end and KeyboardInterrupt for Ctrl-C."""
        self.flush()
        if self.keys is sys.stdin and self.interactive:
            return input(self._prompt(prompt, *styles))
        line = self.keys.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")

    @contextmanager
    def _stdout_apart(self) -> Iterator[None]:
        number = _number(self.err)
        if number is None or _number(self.out) != _STDOUT:
            # Another program's stream, which no child inherits.
            yield
            return
        self.flush()
        out, kept = self.out, os.dup(_STDOUT)
        self.out = os.fdopen(kept, "w", encoding=out.encoding, errors=out.errors)
        os.dup2(number, _STDOUT)
        try:
            yield
        finally:
            os.dup2(kept, _STDOUT)
            with suppress(OSError):  # a failed write has been reported already
                self.out.close()
            self.out = out

    def _prompt(self, prompt: str, *styles: Any) -> str:
        # readline counts columns; these two characters tell it that the codes between them take no space.
        if not self.paint.on:
            return prompt
        before, _, after = self.paint("\0", *styles).partition("\0")
        return f"\x01{before}\x02{prompt}\x01{after}\x02"


def _number(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Unwritable(f"the answer cannot be printed: {error.strerror or error}") from error
