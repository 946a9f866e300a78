"""A scenario on a simulated host, in many orders; and the smallest order in which it fails.

Rule of this file: a scenario is a function of a `SimHost` and of nothing else. What explores, shrinks and reports is
`supervisors.explore`; this only puts a host into each of its simulations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from supervisors import Faults, ScenarioFailed, Sim, explore
from supervisors.runtime.sim import silence
from supervisors.testing import run_in_sim
from supervisors.testing.exploration import check_scenario

from .simhost import SimHost

__all__ = ["ScenarioFailed", "explore_chat", "run_chat", "say_how"]

T = TypeVar("T")


def explore_chat(
    scenario: Callable[[SimHost], object],
    *,
    seeds: Iterable[int] = range(200),
    faults: Faults | None = None,
    store: Callable[[], Any] | None = None,
    shrinks: int = 300,
    **options: Any,
) -> None:
    """Run `scenario(host)` once for each seed, on a host of its own; stop at the first failure and make it small.

    `faults` are what may go wrong (`crashes(…)`), `store` makes the store of each run (default: memory),
    `shrinks` is how many runs may be spent on shrinking a failure; other options as for `Sim`.
    Raises: `ScenarioFailed`, with the seed, the smallest `choices` found, what happens in that run, and how to run it
    again; the scenario's own exception is the `__cause__`.
    """
    try:
        with quiet():
            explore(_on_a_host(scenario, store), seeds=seeds, faults=faults, shrinks=shrinks, **options)
    except ScenarioFailed as failure:
        more = ", with the same faults" if faults is not None else ""
        say_how(failure, f"run_chat(scenario, seed={failure.seed}, replay={failure.choices}){more}")
        raise


def say_how(failure: ScenarioFailed, again: str) -> None:
    """Add to the failure's message the code that runs it again."""
    told, _, _ = str(failure).rpartition("\nagain: ")
    failure.args = (f"{told}\nagain: {again}",)


def run_chat(
    scenario: Callable[[SimHost], T],
    *,
    seed: int = 0,
    replay: Sequence[int] | None = None,
    faults: Faults | None = None,
    store: Callable[[], Any] | None = None,
    **options: Any,
) -> T:
    """What the scenario returns, after one simulated run; with `replay`, the run that made these choices."""
    return run_in_sim(_on_a_host(scenario, store), seed=seed, replay=replay, faults=faults, **options)


def _on_a_host(scenario: Callable[[SimHost], T], store: Callable[[], Any] | None) -> Callable[[Sim], T]:
    check_scenario(scenario)
    if not (store is None or callable(store)):
        raise TypeError(
            f"store must be a function that returns a new store for each run, not a {type(store).__name__}"
        )

    def run(sim: Sim) -> T:
        with SimHost(sim=sim, store=None if store is None else store()) as host:
            return scenario(host)

    return run


def quiet() -> AbstractContextManager[None]:
    """Silence the library's log inside the block, where failures are intended."""
    return silence("allm_actors")
