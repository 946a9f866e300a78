"""Error messages for stored data that cannot be read: where it is, and what was found there.

Rule of this file: it runs off the fast path. A place is `$.messages[2].role`, which skips the envelopes. Of
what was found only short words and numbers are shown; anything longer may be a secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from allm_actors.data.errors import AllmError

__all__ = ["UNREADABLE", "Misread", "found", "kind_of", "place", "unknown_word", "why"]

_LONGEST_WORD, _LONGEST_WHY, _STEPS = 24, 160, 12


UNREADABLE = (AllmError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError)
"""Exceptions that building a value from data of any shape may raise."""


class Misread(Exception):
    """Something in the data cannot be read: the failure as `(field, code)` pairs, what is wrong, and the path to it.

    `path` has the innermost step first: each reader that the error passes through appends its own.
    """

    def __init__(self, failures: list[Any], what: str, *path: str | int) -> None:
        super().__init__(what)
        self.failures = failures
        self.what = what
        self.path: list[str | int] = list(reversed(path))

    def __str__(self) -> str:
        return f"{place(reversed(self.path))} {self.what}"


def place(steps: Iterable[Any]) -> str:
    """A path in words: names of fields and keys, and indices."""
    words = [_step(step) for step in steps]
    if len(words) > _STEPS:
        words = [*words[: _STEPS // 2], "…", *words[-_STEPS // 2 :]]
    return "".join(["$", *words])


def kind_of(value: Any) -> str:
    """Describes a value where no word was expected: of a text only its length is shown."""
    return f"a text of length {len(value)}" if isinstance(value, str) else found(value)


def found(value: Any) -> str:
    """Describes a value: a short word or a number itself, of anything else its kind and size."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return repr(value) if len(value) <= _LONGEST_WORD else kind_of(value)
    if isinstance(value, (int, float)):
        return repr(value) if abs(value) < 2**64 else "a very large number"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        tag = value.get("__type__")
        return f"an object tagged {found(tag)}" if isinstance(tag, str) else "an object"
    return f"a value of the type {type(value).__name__}"


def unknown_word(value: Any, known: Iterable[str]) -> str:
    """Says that a value is none of the known words, and lists them."""
    words = sorted(known)
    near = get_close_matches(value, words, n=1) if isinstance(value, str) and len(value) < 100 else []
    advice = f"did you mean {near[0]!r}?" if near else f"it must be one of {', '.join(map(repr, words))}"
    return f"is {found(value)}, which is not a known value there; {advice}"


def why(error: Exception) -> str:
    """An error's type and text, shortened, and without long values from the data."""
    text = " ".join(str(error).split())
    said, got, value = text.rpartition(", got: ")
    if got and len(value) > _LONGEST_WORD:
        text = said
    shown = text if len(text) <= _LONGEST_WHY else f"{text[:_LONGEST_WHY]}…"
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__


def _step(step: Any) -> str:
    if not isinstance(step, str):
        return f"[{found(step)}]"
    short = step if len(step) <= _LONGEST_WORD else f"{step[: _LONGEST_WORD - 1]}…"
    return f".{short}" if step.removesuffix("?").isidentifier() else f"[{short!r}]"
