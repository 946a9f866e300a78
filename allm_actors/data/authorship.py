"""Which errors of tools the library has worded, and not the tool's own code, which may word an error of the same class.

Rule of this file: the mark is on the object and is neither stored nor compared, so that an error that was read back, or
made by anybody else, has none.
"""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = ["is_ours", "ours"]

E = TypeVar("E", bound=BaseException)

_MARK = "_worded_by_the_library"


def ours(error: E) -> E:
    """The same error, marked as worded by the library: its text is no content of a conversation."""
    error.__dict__[_MARK] = True
    return error


def is_ours(error: Any) -> bool:
    """Whether the error was marked with `ours`."""
    return _MARK in getattr(error, "__dict__", ())
