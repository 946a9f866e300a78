"""Predicates and conversions of single values, for the rules of `validate` and the codecs.

Rule of this file: total. They take any value and never raise.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, TypeGuard

__all__ = ["all_of", "as_number", "as_price", "is_async", "is_count", "is_number", "is_positive", "one_of"]


def one_of(value: object, words: Iterable[str]) -> bool:
    """Whether it is one of these words."""
    return isinstance(value, str) and value in words


def all_of(values: object, kind: Any) -> bool:
    """Whether it is a list or a tuple of nothing but values of this class, or of these, as in `A | B`."""
    if not isinstance(values, list | tuple):
        return False
    # Most are of the class itself, which is quicker to see.
    return {kind}.issuperset(map(type, values)) or all(isinstance(value, kind) for value in values)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a number; a bool is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_count(value: object) -> TypeGuard[int]:
    """Whether it is a whole number, and not below zero."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_positive(value: object) -> TypeGuard[int]:
    """Whether it is a whole number above zero."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def as_number(value: object) -> int | float | None:
    """The value as a Python int or float, if it is a number of any kind (NumPy's, a Decimal); else None."""
    if is_number(value):
        return value
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return None
    return int(value) if isinstance(value, Integral) else float(value)


def as_price(value: object) -> float | None:
    """The value as USD: a number, or the text of one, that is finite and not below zero; else None."""
    try:
        price = float(value) if isinstance(value, str) else as_number(value)
        return float(price) if price is not None and math.isfinite(price) and price >= 0 else None
    except (ValueError, OverflowError):
        return None


def is_async(function: object) -> bool:
    """Whether it is a coroutine function or an asynchronous generator function, or an object that is called as one."""
    by_call = getattr(type(function), "__call__", None)  # noqa: B004 - an object whose `__call__` is asynchronous
    return any(
        test(each)
        for test in (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
        for each in (function, by_call)
    )
