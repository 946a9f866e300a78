"""What may go wrong in a simulated run, and how likely it is.

The rule of this file: a fault is a choice like any other. Whether it happens is drawn, written down and replayed, so a
failing run says which of the faults it needed.

Units: probabilities from 0 to 1; seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, final

from supervisors.errors import BadSpec, SupervisorError
from supervisors.runtime.choices import Choices
from supervisors.spec import is_count, is_number

if TYPE_CHECKING:
    from supervisors.runtime.ref import Ref

__all__ = ["Faults", "InjectedFault", "Mishaps", "Who"]

Who: TypeAlias = "type[Any] | Callable[[Ref[Any]], bool] | str | None"
"""Which processes: those of a class, those whose ref a function accepts, the one of that name; None: none."""


class InjectedFault(SupervisorError):
    """What a start fails with when the simulation wants it to fail."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The faults of a run: by default none, and never more than `at_most`.

    Who matches `kill` may be killed before or after each message (only the `nth`, from 1, if given), with
    probability `kill_chance`; who matches `fail_start` may fail in `init`, with `fail_chance`. `late_timers`
    is the probability that a timer is up to `late_by` seconds late, `cut_timeouts` that a wait with a
    timeout, or a sleep, ends early.
    """

    kill: Who = None
    nth: int | None = None
    kill_chance: float = 0.1
    fail_start: Who = None
    fail_chance: float = 0.1
    late_timers: float = 0.0
    late_by: float = 1.0
    cut_timeouts: float = 0.0
    at_most: int = 3

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises: `BadSpec("invalid_faults")`.
        """
        for name in ("kill_chance", "fail_chance", "late_timers", "cut_timeouts"):
            chance = getattr(self, name)
            self._check(name, is_number(chance) and 0 <= chance <= 1, "a probability from 0 to 1")
        for name in ("kill", "fail_start"):
            who = getattr(self, name)
            fits = who is None or isinstance(who, str) or callable(who)
            self._check(name, fits, "a class, a name, a function of a ref, or None")
        self._check("late_by", is_number(self.late_by) and self.late_by >= 0, "seconds >= 0")
        self._check(
            "nth", self.nth is None or (is_count(self.nth) and self.nth > 0), "a number >= 1, or None"
        )
        self._check("at_most", is_count(self.at_most), "a number of faults >= 0")

    def _check(self, name: str, fits: bool, wanted: str) -> None:
        if not fits:
            value = getattr(self, name)
            raise BadSpec("invalid_faults", (name, value), f"{name}={value!r} of Faults must be {wanted}")


class Mishaps:
    """The faults of one run, as they are drawn."""

    def __init__(self, faults: Faults | None, choices: Choices) -> None:
        self._faults = faults if faults is not None else Faults()
        self._choices = choices
        self._left = self._faults.at_most
        self._handled: dict[Ref[Any], int] = {}

    @property
    def kills(self) -> bool:
        """Whether anybody may be killed at all."""
        return self._faults.kill is not None

    def killed_before(self, ref: Ref[Any]) -> bool:
        """Whether the process dies before the message it would handle now, which is counted."""
        number = self._handled[ref] = self._handled.get(ref, 0) + 1
        return self._killed(ref, number, "before")

    def killed_after(self, ref: Ref[Any]) -> bool:
        """Whether the process dies after the message it has just handled."""
        return self._killed(ref, self._handled[ref], "after")

    def start_fails(self, ref: Ref[Any]) -> bool:
        """Whether this start fails."""
        faults = self._faults
        return _is_meant(faults.fail_start, ref) and self._happens(
            faults.fail_chance, f"{ref} fails to start"
        )

    def lateness(self) -> float:
        """By how many seconds the next timer is late."""
        faults = self._faults
        if faults.late_timers > 0 and self._happens(faults.late_timers, "a timer is late"):
            return faults.late_by * (1.0 - self._choices.fraction())
        return 0.0

    def patience(self, timeout: float) -> float:
        """How many seconds a wait for `timeout` seconds really waits."""
        faults = self._faults
        if faults.cut_timeouts > 0 and self._happens(faults.cut_timeouts, "a timeout is cut short"):
            return timeout * self._choices.fraction()
        return timeout

    def _killed(self, ref: Ref[Any], number: int, when: str) -> bool:
        faults = self._faults
        if faults.nth not in (None, number) or not _is_meant(faults.kill, ref):
            return False
        return self._happens(faults.kill_chance, f"{ref} is killed {when} its message {number}")

    def _happens(self, probability: float, what: str) -> bool:
        if self._left <= 0 or not self._choices.chance(probability, what):
            return False
        self._left -= 1
        return True


def _is_meant(who: Who, ref: Ref[Any]) -> bool:
    match who:
        case None:
            return False
        case str():
            return ref.name == who
        case type():
            return issubclass(ref.actor_class, who)
        case _:
            return who(ref)
