"""The command `allm`: talk to a model, ask it once, list sessions and providers.

Rule of this file: importing it costs no more than argparse; what a command needs is imported when it runs. An
expected failure is one line that says what to do; only a bug in this program itself shows a traceback.

    0 it worked    1 the provider or the turn failed    2 the command line is wrong    130 Ctrl-C
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from .arguments import parse

if TYPE_CHECKING:
    from .arguments import Options
    from .terminal import Terminal

__all__ = ["main"]

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Thread: the main one, because Ctrl-C is a signal."""
    from .terminal import Terminal, Unwritable, fill_in

    closed = fill_in()
    terminal = Terminal()  # first: the help, too, has to be printable in a narrow locale
    if "stdout" in closed:
        terminal.complain(
            "stdout is closed, so nothing can be printed; redirect it to /dev/null if you do not need the "
            "output"
        )
        return 1
    try:
        options = parse(argv)
    except SystemExit as ended:  # argparse has said why, on stderr or, for --help, on stdout
        return ended.code if isinstance(ended.code, int) else 2
    try:
        code = _perform(options, terminal)
        terminal.flush()
    except KeyboardInterrupt:
        if terminal.interactive:
            terminal.say()
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone. Nothing more may be written, not even by the interpreter at exit.
        _write_no_more()
        return 1
    except Unwritable as error:
        _write_no_more()
        terminal.complain(str(error))
        return 1
    return code


def _write_no_more() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _perform(options: Options, terminal: Terminal) -> int:
    from .terminal import Unwritable

    command = import_module(f".{options.command}", __name__)
    try:
        code: int = command.perform(options, terminal)
    except (KeyboardInterrupt, BrokenPipeError, Unwritable):
        raise
    except Exception as error:
        from .trouble import exit_code, line

        code = exit_code(error)
        if not code:
            raise
        terminal.complain(line(error))
    return code
