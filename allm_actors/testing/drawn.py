"""The options of a simulated wild call: those that the user gave are kept, the others are drawn from the seed.

Rule of this file: drawn are the options that affect the loop or the model's request, and, if anything may
hang, the timeouts that end it.

Units: virtual seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from allm_actors.data import Err
from allm_actors.data.build import json_schema
from allm_actors.engine.engine import Engine
from allm_actors.execution.options import DEFAULT_MAX_RETRIES

from .wild import AGES, Opaque, Wild

__all__ = ["PATIENCE", "drawn_options", "option_of", "passes_of", "retries_of"]

PATIENCE = {"stream_timeout": 30.0, "request_timeout": 90.0, "tool_timeout": 20.0}
"""What a wild run is given, so that nothing that hangs can hold it up."""

_FORMS = frozenset({"response_format", "response_model", "max_retries", "structured_finalize"})


def drawn_options(
    wild: Wild,
    engine: Engine,
    given: Mapping[str, Any],
    sleep: Callable[[float], object],
    *,
    own_handlers: bool,
) -> dict[str, Any]:
    """The options of a call of this engine: those that are given, and those that neither they nor the engine say.

    `sleep` waits in virtual time: what is drawn may hang, where it has a time.
    """
    told = {name for name in (*engine.params, *given) if option_of(engine, given, name) is not None}
    if engine.tool_result_encoder is not None:
        told.add("tool_result_encoder")
    if told & _FORMS:  # an answer has one form
        told |= _FORMS
    if own_handlers or engine.tool_executor is not None or "tool_executor" in told:
        told.add("tool_timeout")  # they wait as long as they may, and that is for their user to say
    ends = option_of(engine, given, "tool_timeout") != math.inf
    drawn = _drawn(wild, engine, _hanging(sleep) if wild.hangs and ends else None)
    return {**{name: value for name, value in drawn.items() if name not in told}, **given}


def option_of(engine: Engine, options: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """What a call with these options goes by: theirs, else the engine's."""
    for value in (options.get(name), engine.params.get(name)):
        if value is not None:
            return value
    return default


def retries_of(engine: Engine, options: Mapping[str, Any]) -> int:
    """How often an answer may be asked for again, because it does not fit."""
    if option_of(engine, options, "response_model") is None:
        return 0
    return int(option_of(engine, options, "max_retries", DEFAULT_MAX_RETRIES))


def passes_of(engine: Engine, options: Mapping[str, Any]) -> int:
    """How often the model is asked for a whole answer: twice where the last one gives it a form."""
    formed = any(
        option_of(engine, options, name) is not None for name in ("response_format", "response_model")
    )
    return 2 if formed and option_of(engine, options, "structured_finalize") else 1


def _drawn(wild: Wild, engine: Engine, hanging: _Hanging | None) -> dict[str, Any]:
    dice = wild.dice("options")
    options: dict[str, Any] = dict(PATIENCE if wild.hangs else {"tool_timeout": math.inf})
    if dice.random() < 0.8:
        options["max_turns"] = dice.randint(1, 4)
    if dice.random() < 0.15:
        options["mode"] = "manual"
    if dice.random() < 0.5:
        options["max_concurrency"] = dice.randint(1, 3)
    if dice.random() < 0.5:
        options["on_tool_error"] = dice.choice([*_POLICIES, *([hanging.policy] if hanging else [])])
    if dice.random() < 0.3:
        options["halt_when"] = dice.choice([*_PREDICATES, *([hanging.predicate] if hanging else [])])
    if dice.random() < 0.2:
        options["tool_result_encoder"] = _shout
    if dice.random() < 0.2:
        options |= {"structured_finalize": True, "response_format": json_schema("answer", {"type": "object"})}
    if dice.random() < 0.25:
        options.pop("response_format", None)  # a type brings its own
        models = [*_MODELS, *([hanging.model] if hanging else [])]
        options |= {"response_model": dice.choice(models), "max_retries": dice.randint(0, 2)}
    if dice.random() < 0.2:
        must = ["required", *(tool.name for tool in engine.tools)] if engine.tools else []
        options["tool_choice"] = dice.choice(["auto", "none", *must])
    if dice.random() < 0.2:
        options["prompt_cache"] = dice.choice([True, False, {"key": "k", "retention": "long"}])
    return options


@dataclass
class Answer:
    """What an answer may have to fit."""

    x: int


@dataclass
class Unmakeable:
    """A type whose own code fails, whatever the answer."""

    x: int

    def __post_init__(self) -> None:
        _raises(self)


class _Hanging(NamedTuple):
    """Functions, and a type, of the user's that never come to an end."""

    policy: Callable[..., Any]
    predicate: Callable[..., Any]
    model: type


def _hanging(sleep: Callable[[float], object]) -> _Hanging:
    def hang(*_: object) -> None:
        sleep(AGES)

    @dataclass
    class Endless:
        x: int

        def __post_init__(self) -> None:
            hang()

    return _Hanging(hang, hang, Endless)


def _raises(_call: object, _error: object = None) -> Any:
    raise RuntimeError("a function of the user's")


def _shout(value: Any) -> str:
    if isinstance(value, Err):
        raise TypeError("this encoder has no word for errors")
    return str(value).upper()


_POLICIES: list[Any] = [
    "continue",
    "halt",
    lambda call, _error: ("continue", {"instead": call.name}),
    lambda _call, _error: ("continue", Opaque()),
    lambda _call, _error: "halt",
    _raises,
    lambda _call, _error: 42,
]
_MODELS: list[Any] = [Answer, Answer, Answer, Unmakeable]
_PREDICATES: list[Any] = [
    lambda _step: False,
    lambda step: bool(step.tool_results),
    lambda _step: "truthy",
    _raises,
]
