"""Every choice of a simulated run: drawn from a seed, written down, and made again.

The rule of this file: nothing else decides anything in a simulation. What is chosen is always an index; 0 is
the plain thing (the oldest goes first, no fault), so a run of nothing but zeros is the calmest one, and in a
run of almost all zeros the few others are what matters.

Source: FoundationDB, "Simulation and Testing"; Hypothesis, "Internals" (a test case is a list of choices).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import final

__all__ = ["Choice", "Choices"]


@final
@dataclass(frozen=True, slots=True)
class Choice:
    """Of `count` things, the one at index `picked` was taken: `what`. With `count` 1 there was no choice."""

    picked: int
    count: int
    what: str

    def __str__(self) -> str:
        return self.what if self.picked == 0 else f"{self.what}   (choice {self.picked} of {self.count})"


class Choices:
    """Choices drawn from a seed, or replayed from an earlier run's list; beyond its end everything is 0."""

    def __init__(self, seed: int, replay: Sequence[int] | None = None) -> None:
        # The point is to be repeatable, not to be unpredictable.
        self._random = Random(seed)  # noqa: S311
        self._replay = replay
        self._calm = False
        self.trace: list[Choice] = []
        self.taken: list[int] = []

    def pick(self, count: int, name: Callable[[int], str]) -> int:
        """One of `count` indices; `name` says what an index means."""
        picked = 0 if count == 1 else self._take(count, lambda: self._random.randrange(count))
        if not self._calm:
            self.trace.append(Choice(picked, count, name(picked)))
        return picked

    def chance(self, probability: float, what: str) -> bool:
        """Whether something optional happens, with this probability; it is in the trace only if it does."""
        happens = self._take(2, lambda: int(self._random.random() < probability)) == 1
        if happens:
            self.trace.append(Choice(1, 2, what))
        return happens

    def fraction(self) -> float:
        """A number from 0 up to, not including, 1."""
        return self._take(16, lambda: self._random.randrange(16)) / 16

    def calm_down(self) -> None:
        """From now on everything is 0, and nothing is written down."""
        self._calm = True

    def _take(self, count: int, draw: Callable[[], int]) -> int:
        if self._calm:
            return 0
        at = len(self.taken)
        if self._replay is None:
            taken = draw()
        else:
            # A shorter list, or another number of things than last time: stay within what there is.
            taken = min(self._replay[at], count - 1) if at < len(self._replay) else 0
        self.taken.append(taken)
        return taken
