"""A scenario in simulated worlds: one test item, `[simulation]`, that is played once for each seed.

The rule of this file: each seed gets a `Sim` of its own and fresh ones of all fixtures of our own, so nothing of one
world reaches the next. Fixtures whose name begins with `_` are around the whole item. The seeds of an item follow from
its name: they are the same at each run.

    SEEDS=10000 pytest -m simulation          more seeds for each scenario
    SEED=1234 pytest 'path::name[simulation]' one seed, again
"""

from __future__ import annotations

import inspect
import os
import zlib
from collections.abc import Iterable
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from supervisors.testing import ScenarioFailed, Sim, explore

SEEDS = int(os.environ.get("SEEDS", "200"))
SEED = os.environ.get("SEED")

DRIVERS = {"sim", "clock"}
"""Fixtures that let time pass: they are the simulation itself, others its system."""


def is_simulated(item: pytest.Item) -> bool:
    """Whether a fixture of the item is that of a simulation."""
    return bool(_given(item))


def seeds_of(item: pytest.Item) -> Iterable[int]:
    """The seeds of this item."""
    first = zlib.crc32(item.nodeid.encode())
    return range(first, first + SEEDS) if SEED is None else [int(SEED)]


def leave_out(item: pytest.Function) -> None:
    """Keep pytest from making what each seed makes for itself."""
    for name in item.fixturenames:
        if _is_ours(item, name):
            item.funcargs[name] = None


def play(item: pytest.Function) -> None:
    """Play the scenario in one world after the other, up to the first in which it fails."""
    try:
        explore(lambda sim: _play(item, sim), seeds=seeds_of(item))
    except ScenarioFailed as failed:
        failed.add_note(f"again: SEED={failed.seed} pytest '{item.nodeid}'")
        raise


def _play(item: pytest.Function, sim: Sim) -> None:
    made = {name: sim if name in DRIVERS else sim.system for name in _given(item)}
    with ExitStack() as fixtures:
        for name in item.fixturenames:
            _make(item, name, made, fixtures)
        item.obj(**{name: made[name] for name in item._fixtureinfo.argnames})


def _make(item: pytest.Function, name: str, made: dict[str, Any], fixtures: ExitStack) -> Any:
    if name not in made and not _is_ours(item, name):
        made[name] = item.funcargs.get(name)
    if name not in made:
        function = item._fixtureinfo.name2fixturedefs[name][-1].func
        needed = {each: _make(item, each, made, fixtures) for each in inspect.signature(function).parameters}
        if inspect.isgeneratorfunction(function):
            made[name] = fixtures.enter_context(contextmanager(function)(**needed))
        else:
            made[name] = function(**needed)
    return made[name]


def _given(item: pytest.Item) -> list[str]:
    callspec = getattr(item, "callspec", None)
    return [] if callspec is None else [name for name, param in callspec.params.items() if param is Sim]


def _is_ours(item: pytest.Function, name: str) -> bool:
    definitions = item._fixtureinfo.name2fixturedefs.get(name, ())
    return bool(definitions) and definitions[-1].func.__module__.startswith("tests.") and name[0] != "_"
