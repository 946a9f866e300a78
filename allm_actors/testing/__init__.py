"""Scripts, recordings, strategies, suites and a simulated host, shipped for those who test with this library.

    from allm_actors.testing import SimHost, prove_halting, script

Rule of this file: names only, each loaded at its first use. `strategies` and `SessionMachine` need Hypothesis to be
installed, `plugin` needs pytest, which loads it by itself.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allm_actors.engine.fake import Counter
    from allm_actors.testing import (
        conformance,
        exchanges,
        loopback,
        replies,
        sandbox,
        script,
        strategies,
    )
    from allm_actors.testing.exploring import ScenarioFailed, explore_chat, run_chat
    from allm_actors.testing.halting import Proof, prove_halting
    from allm_actors.testing.machine import SessionMachine
    from allm_actors.testing.player import Player
    from allm_actors.testing.recorder import Recorder
    from allm_actors.testing.simhost import SimHost, crashes

__all__ = [
    "Counter",
    "Player",
    "Proof",
    "Recorder",
    "ScenarioFailed",
    "SessionMachine",
    "SimHost",
    "conformance",
    "crashes",
    "exchanges",
    "explore_chat",
    "loopback",
    "prove_halting",
    "replies",
    "run_chat",
    "sandbox",
    "script",
    "strategies",
]

_HOME = {
    "Counter": ".engine.fake",  # beside this package
    "Player": "player",
    "Proof": "halting",
    "Recorder": "recorder",
    "ScenarioFailed": "exploring",
    "SessionMachine": "machine",
    "SimHost": "simhost",
    "crashes": "simhost",
    "explore_chat": "exploring",
    "prove_halting": "halting",
    "run_chat": "exploring",
}


if not TYPE_CHECKING:  # or every misspelt name would be known to a type checker

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name not in _HOME:
            return importlib.import_module(f"{__name__}.{name}")
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
