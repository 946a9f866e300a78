"""Runs a scenario in many orders, and finds a small order in which it fails.

The rule of this file: a scenario depends on its `Sim` and on nothing else; a run that fails is repeated with
fewer and fewer choices, until those that are left are the ones that matter.

Source: FoundationDB; loom; Hypothesis ("falsifying example").
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from supervisors.errors import BadSpec
from supervisors.runtime.choices import Choice
from supervisors.runtime.faults import Faults
from supervisors.runtime.sim import Sim, silence
from supervisors.testing.shrinking import shrink

__all__ = ["ScenarioFailed", "check_scenario", "explore", "run_in_sim"]

T = TypeVar("T")


class ScenarioFailed(AssertionError):
    """A scenario failed under `seed`; `choices` is the smallest list found that makes it fail the same way.

    `trace` is what happens in that run, whose exception is the `__cause__`. `run_in_sim(scenario,
    replay=error.choices)`, with the same faults, repeats it.
    """

    def __init__(
        self, seed: int, error: BaseException, choices: Sequence[int], trace: Sequence[Choice]
    ) -> None:
        self.seed = seed
        self.choices: list[int] = list(choices)
        self.trace: list[Choice] = list(trace)
        super().__init__(
            f"seed {seed}: {type(error).__name__}: {str(error) or _line_of(error)}\n"
            f"{_told(self.trace)}\n"
            f"again: run_in_sim(scenario, replay={self.choices})"
        )

    def __reduce__(self) -> Any:
        # As it is: the error of which it was made is not among the arguments.
        return type(self).__new__, (type(self), *self.args), vars(self)


def run_in_sim(
    scenario: Callable[[Sim], T],
    *,
    seed: int = 0,
    replay: Sequence[int] | None = None,
    faults: Faults | None = None,
    **options: Any,
) -> T:
    """Run the scenario once, in a simulation of its own, and return its result. Options as for `Sim`.

    Raises: what the scenario raises; `BadSpec("invalid_scenario")` unless it is a plain function.
    """
    check_scenario(scenario)
    with Sim(seed, replay=replay, faults=faults, **options) as sim:
        return scenario(sim)


def explore(
    scenario: Callable[[Sim], object],
    *,
    seeds: Iterable[int] = range(200),
    faults: Faults | None = None,
    shrinks: int = 300,
    **options: Any,
) -> None:
    """Run the scenario once for each seed, in a simulation of its own; stop at the first failure and make it small.

    `shrinks` is how many runs making it small may take. A run in which a handler blocked its thread stays as
    it is: each repetition would take its `real_patience` again. The log of the processes is silent meanwhile.
    Other options as for `Sim`. Raises: `ScenarioFailed`; `BadSpec("invalid_scenario")` for invalid arguments,
    or no seeds.
    """
    _check(scenario, seeds, faults)
    attempt = _Attempt(scenario, faults, options)
    tried = False
    with silence():
        for seed in seeds:
            tried = True
            error = attempt.run(seed, None)
            if error is not None:
                _report(attempt, seed, error, shrinks)
    if not tried:
        raise BadSpec(
            "invalid_scenario",
            "seeds",
            "there were no seeds, so nothing was tried; give some, such as range(200)",
        )


class _Attempt:
    def __init__(
        self, scenario: Callable[[Sim], object], faults: Faults | None, options: dict[str, Any]
    ) -> None:
        self._scenario = scenario
        self._faults = faults
        self._options = options
        self.choices: list[int] = []
        self.trace: list[Choice] = []
        self.broken = False

    def run(self, seed: int, replay: Sequence[int] | None) -> BaseException | None:
        sim = Sim(seed, replay=replay, faults=self._faults, **self._options)
        error: BaseException | None = None
        try:
            with sim:
                self._scenario(sim)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:  # noqa: BLE001 - pytest's failures are not Exceptions
            error = exc
        self.choices, self.trace, self.broken = sim.choices, sim.trace, sim.broken
        return error


def _report(attempt: _Attempt, seed: int, error: BaseException, shrinks: int) -> None:
    def fails(candidate: list[int]) -> list[int] | None:
        return attempt.choices if _is_same(attempt.run(seed, candidate), error) else None

    choices, trace = attempt.choices, attempt.trace
    if attempt.broken:  # each further run would take `real_patience` too, and leave one more thread behind
        raise ScenarioFailed(seed, error, choices, trace) from error
    if fails(choices) is None:
        failure = ScenarioFailed(seed, error, choices, trace)
        failure.add_note(
            "The same choices did not fail in the same way again: the failure depends on something outside the "
            "run."
        )
        raise failure from error
    smallest = shrink(choices, fails, shrinks)
    again = attempt.run(seed, smallest) or error
    raise ScenarioFailed(seed, again, smallest, attempt.trace) from again


def _is_same(error: BaseException | None, first: BaseException) -> bool:
    """Whether it is the same failure: of the same type, and from the same line."""
    return error is not None and type(error) is type(first) and _raised_at(error) == _raised_at(first)


def _raised_at(error: BaseException) -> tuple[str, int | None]:
    frames = traceback.extract_tb(error.__traceback__)
    return (frames[-1].filename, frames[-1].lineno) if frames else ("", None)


def check_scenario(scenario: object) -> None:
    """Refuse what cannot be called, or would do nothing when called, as a coroutine function.

    Raises: `BadSpec("invalid_scenario")`.
    """
    kind = type(scenario).__name__
    if not callable(scenario):
        raise BadSpec(
            "invalid_scenario", kind, f"a scenario must be a function that takes a Sim, not a {kind}"
        )
    for test in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        if test(scenario):
            text = (
                f"{scenario!r} would do nothing when called; a scenario must be a plain function that takes a "
                "Sim"
            )
            raise BadSpec("invalid_scenario", kind, text)


def _check(scenario: object, seeds: object, faults: object) -> None:
    check_scenario(scenario)
    if not isinstance(seeds, Iterable):
        raise BadSpec(
            "invalid_scenario", seeds, f"seeds must be an iterable such as range(200), not {seeds!r}"
        )
    if not (faults is None or isinstance(faults, Faults)):
        kind = type(faults).__name__
        raise BadSpec("invalid_scenario", kind, f"faults must be Faults(...) or None, not a {kind}")


def _line_of(error: BaseException) -> str:
    # A bare `assert` says nothing: then its line does.
    frames = traceback.extract_tb(error.__traceback__)
    return f"in the line: {frames[-1].line}" if frames else ""


def _told(trace: Sequence[Choice]) -> str:
    return "\n".join(f"{nth:>4}  {choice}" for nth, choice in enumerate(trace, 1))
