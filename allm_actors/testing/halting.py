"""Tests that an agent halts, whatever its model says, whatever its tools do, and whichever process crashes.

    proof = prove_halting(engine, schedules=500)
    assert proof.turns > 500

Rule of this file: the engine's tools, names, bounds and options are the user's. The model is replaced by one
that does anything (`wild`), and so are the handlers, unless the user wants the real ones to run: then the
arguments mostly fit their schemas. A schedule is a conversation with a few turns on a host of its own:
seeded, with crashes, in virtual time; after each turn all of `laws` must hold.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from allm_actors.actors.turns.turn import turn_spec
from allm_actors.data.predicates import is_positive
from allm_actors.engine.engine import Engine
from supervisors import Faults

from .exploring import ScenarioFailed, explore_chat, say_how
from .schedule import Proof, Schedule
from .simhost import SimHost, crashes
from .watching import watched

__all__ = ["Proof", "prove_halting"]


def prove_halting(
    engine: Engine,
    *,
    schedules: int = 200,
    seed: int = 0,
    crash: bool = True,
    handlers: Literal["wild", "own"] = "wild",
    store: Callable[[], Any] | None = None,
    shrinks: int = 100,
    **options: Any,
) -> Proof:
    """Run that many schedules, the first with `seed`, and return statistics about them.

    `options` are those of `reply`; they override those that a schedule draws (with `max_turns=3` it is 3 in
    all of them). `handlers="own"` runs the engine's own handlers, which must not wait for anything but the
    simulation, with arguments that mostly fit their schemas; `proof.runs` counts the runs of each, and a
    warning names those that never ran. Raises: `ScenarioFailed` for the first schedule that breaks a law,
    shrunk; TypeError, ValueError and EngineError for what cannot be scheduled, such as a misspelt option, or
    an asynchronous handler with `handlers="own"`. A handler that waits for the real world blocks the proof;
    after 20 seconds its stack is printed on stderr.
    """
    _check(engine, schedules, handlers, options)
    if options.get("tools"):
        engine = engine.merge(tools=options.pop("tools"))  # they are the agent's, whoever says it
    proof = Proof()

    def schedule(host: SimHost) -> None:
        conversation = Schedule(host, engine, options, proof, crash=crash, own=handlers == "own")
        conversation.run()
        proof.schedules += 1
        proof.crashed += conversation.deaths > 0

    half = seed + (schedules // 2 if crash else schedules)
    again = 2 if crash else 1  # of two, the first is without faults
    parts = ((range(seed, half), None, again), (range(half, seed + schedules), _faults(), 1))
    with watched(lambda: (proof.schedules, proof.turns)):
        for seeds, faults, alone in filter(lambda part: part[0], parts):
            try:
                explore_chat(schedule, seeds=seeds, faults=faults, store=store, shrinks=shrinks)
            except ScenarioFailed as failure:
                _say_how(failure, alone, crash, handlers)
                raise
    if proof.never_run:
        executor = options.get("tool_executor", engine.tool_executor)
        warnings.warn(_unproved(proof, executor), stacklevel=2)
    return proof


def _check(engine: Engine, schedules: int, handlers: str, options: dict[str, Any]) -> None:
    if not isinstance(engine, Engine):
        raise TypeError(f"expected an Engine, got {type(engine).__name__}; see allm.Engine(adapter=…)")
    if "seeds" in options:  # as `explore_chat` has it; it would be taken for an option of the provider's
        raise TypeError(
            "prove_halting takes no seeds; give it schedules=…, how many, and seed=…, the first one"
        )
    if handlers not in ("wild", "own"):
        raise ValueError(f"handlers must be 'wild' or 'own', got: {handlers!r}")
    if not is_positive(schedules):
        raise ValueError(
            f"schedules must be 1 or more, got: {schedules!r}; without schedules nothing is proved"
        )
    here = [msgspec.structs.replace(tool, isolation="thread") for tool in engine.tools]
    spec = turn_spec("chat", engine.merge(adapter="fake", tools=here), options, operation="reply")
    if handlers == "own":
        SimHost().check_turn(spec)


def _unproved(proof: Proof, executor: object) -> str:
    ways = ["run more schedules", "check that the function takes what the tool's schema allows"]
    if executor is not None and not proof.tool_runs:
        ways[0] = f"check that {type(executor).__name__}.execute() calls tool.run(arguments, context)"
    never = ", ".join(proof.never_run)
    return f"in {proof.schedules} schedules these handlers never ran: {never}; {', or '.join(ways)}"


def _say_how(failure: ScenarioFailed, schedules: int, crash: bool, handlers: str) -> None:
    more = ("" if crash else ", crash=False") + ("" if handlers == "wild" else f", handlers={handlers!r}")
    say_how(
        failure,
        f"prove_halting(engine, schedules={schedules}, seed={failure.seed}{more}), with the same options",
    )


def _faults() -> Faults:
    return crashes("adapter", "session", "store", "supervisor", chance=0.01, at_most=2)
