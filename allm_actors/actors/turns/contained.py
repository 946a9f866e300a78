"""Keeps exits raised by user code (`SystemExit`, a cancellation, …) from ending a thread or an event loop.

Rule of this file: in code that answers a question an exit is a failure like any other. Only a kill of the
process that runs it passes through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from supervisors import ProcessKilled

__all__ = ["contained"]

P = ParamSpec("P")
T = TypeVar("T")


def contained(function: Callable[P, T]) -> Callable[P, T]:
    """The same function; an exit that it raises (`SystemExit`, a cancellation, …) is a RuntimeError that says so."""

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except (Exception, ProcessKilled):
            raise
        except BaseException as left:
            text = f": {left}" if str(left) else ""
            raise RuntimeError(f"exited with {type(left).__name__}{text}") from left

    return call
