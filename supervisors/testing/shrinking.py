"""Makes a list of choices with which a scenario fails small.

The rule of this file: pure. 0 is the plain choice, so smaller is: fewer that are not 0, then a lower sum,
then shorter. A result still fails. The tries are limited: a small result soon beats the smallest one never.

Source: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (delta debugging).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["shrink"]


def shrink(choices: Sequence[int], fails: Callable[[list[int]], list[int] | None], tries: int) -> list[int]:
    """A smaller list that still fails, found in at most `tries` runs.

    `fails(candidate)` runs a list, and returns the choices that were really made, or None if it passed.
    """
    search = _Search(_trimmed(choices), fails, tries)
    while search.tries > 0 and search.one_pass():
        pass
    return search.best


class _Search:
    def __init__(self, best: list[int], fails: Callable[[list[int]], list[int] | None], tries: int) -> None:
        self.best = best
        self.tries = tries
        self._fails = fails

    def one_pass(self) -> bool:
        """Try every reduction once; True if anything became smaller."""
        before = self.best
        self._cut()
        size = max(1, len(self.best))
        while size >= 1:
            self._calm(size)
            size //= 2
        self._lower()
        return self.best != before

    def _cut(self) -> None:
        # Cut off the end first: choices made after the failure was decided do not matter.
        keep = 0
        while keep < len(self.best):
            if self._try(self.best[:keep]):
                return
            keep = keep * 2 + 1

    def _calm(self, size: int) -> None:
        # From the end, so that taking one out moves nothing that is still to be tried.
        for start in range((len(self.best) - 1) // size * size, -1, -size):
            part = self.best[start : start + size]
            if not any(part):
                continue
            if size == 1 and self._try(self.best[:start] + self.best[start + 1 :]):
                continue
            self._try([*self.best[:start], *([0] * len(part)), *self.best[start + size :]])

    def _lower(self) -> None:
        for at in range(len(self.best)):
            if at < len(self.best) and self.best[at] > 1:
                self._try([*self.best[:at], 1, *self.best[at + 1 :]])

    def _try(self, candidate: list[int]) -> bool:
        candidate = _trimmed(candidate)
        if self.tries <= 0 or not _smaller(candidate, self.best):
            return False
        self.tries -= 1
        made = self._fails(candidate)
        if made is None:
            return False
        made = _trimmed(made)
        self.best = made if _smaller(made, candidate) else candidate
        return True


def _trimmed(choices: Sequence[int]) -> list[int]:
    end = len(choices)
    while end and choices[end - 1] == 0:
        end -= 1
    return list(choices[:end])


def _smaller(one: Sequence[int], other: Sequence[int]) -> bool:
    return _size(one) < _size(other)


def _size(choices: Sequence[int]) -> tuple[int, int, int]:
    return sum(1 for choice in choices if choice), sum(choices), len(choices)
