"""Code of the user's that ends nothing but itself.

Rule of this file: what would end a thread or an event loop is, in code that answers a question, a failure like any
other. Only the kill of the process that runs it goes through.
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
