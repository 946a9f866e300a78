"""What the runtime tells operators: the standard library's logger `supervisors`.

The rule of this file: logging harms nobody. If a filter or a handler of the program fails, that is shown on
stderr, as `logging` does for its own handlers, and the caller goes on.
Source: https://docs.python.org/3/library/logging.html#logging.raiseExceptions
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from contextlib import suppress
from typing import Any

__all__ = ["log"]

_logger = logging.getLogger("supervisors")


class _Log:
    """The methods of the logger that are used here; they raise nothing but Ctrl-C on the main thread."""

    def info(self, words: str, *args: object, exc_info: Any = None) -> None:
        self._say(logging.INFO, words, *args, exc_info=exc_info)

    def warning(self, words: str, *args: object) -> None:
        self._say(logging.WARNING, words, *args)

    def error(self, words: str, *args: object, exc_info: Any = None) -> None:
        self._say(logging.ERROR, words, *args, exc_info=exc_info)

    def exception(self, words: str, *args: object) -> None:
        self._say(logging.ERROR, words, *args, exc_info=True)

    def critical(self, words: str, *args: object) -> None:
        self._say(logging.CRITICAL, words, *args)

    def log(self, level: int, words: str, *args: object, exc_info: Any = None) -> None:
        self._say(level, words, *args, exc_info=exc_info)

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - as logging calls it
        return _logger.isEnabledFor(level)

    def _say(self, level: int, words: str, *args: object, exc_info: Any = None) -> None:
        try:
            _logger.log(level, words, *args, exc_info=exc_info, stacklevel=3)
        except BaseException as failure:
            if (
                isinstance(failure, KeyboardInterrupt)
                and threading.current_thread() is threading.main_thread()
            ):
                raise
            _show(failure)


def _show(failure: BaseException) -> None:
    if logging.raiseExceptions and sys.stderr:
        with suppress(Exception):
            sys.stderr.write("--- Logging error ---\n")  # the words of `logging.Handler.handleError`
            traceback.print_exception(failure)


log: _Log = _Log()
