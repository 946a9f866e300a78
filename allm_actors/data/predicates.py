"""What the rules of `validate`, and the codecs, ask of a single value.

Rule of this file: total. Any value at all may come, and the answer is yes or no.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["is_number", "is_positive", "one_of"]


def one_of(value: object, words: Iterable[str]) -> bool:
    """Whether it is one of these words."""
    return isinstance(value, str) and value in words


def is_number(value: object) -> bool:
    """Whether it is a number, which True is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_positive(value: object) -> bool:
    """Whether it is a whole number above zero."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
