"""A model and tools that do anything they possibly can, drawn from a seed.

Rule of this file: what one model call or one tool run does depends only on the seed and on its number, never
on the order of a schedule, so that a failing schedule can be shrunk. Everything is counted, so that a proof
can report what it has covered.

    the model                                    the tools
    -------------------------------------------  --------------------------------------------------------------------
    writes, calls, or calls without end          answer, with data, text, nothing, or what no encoder has a text for
    calls tools that do not exist                fail: `Err`, an exception, an exit, a reserved halt
    breaks its arguments, repeats its ids        ask the user, halt
    fails before, in, or after its answer        take their time, or more than they have; hear that they are cancelled,
    raises what no adapter may raise             or do not
    falls silent, or never comes to an end
    says what only the loop may say

Units: virtual seconds.
"""

from __future__ import annotations

import functools
import inspect
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from allm_actors.data import (
    AdapterError,
    AskUser,
    ChatCompleted,
    ChatResult,
    Err,
    ErrorEvent,
    Event,
    Halt,
    MessageCompleted,
    Request,
    StepCompleted,
    Thread,
    Tool,
    ToolCallCompleted,
    ToolCallStarted,
    ToolError,
    ToolResultEncoded,
)
from allm_actors.data.build import called, context_of
from allm_actors.data.compact import TOOL_HELP, with_help
from allm_actors.engine.adapter import Call, Delay
from allm_actors.engine.engine import Engine
from allm_actors.engine.script import stage
from supervisors import ProcessKilled

from . import script
from .fitting import fitting

__all__ = [
    "AGES",
    "Wild",
    "WildModel",
    "WildStream",
    "own_tools",
    "wild_engine",
    "wild_tools",
]

AGES = 1e6
"""How long what hangs would hang, if nothing ended it."""

_MOST_CALLS = 4


class Opaque:
    """What no encoder has a text for."""


@dataclass
class Wild:
    """What is drawn from one seed, and what of it has happened."""

    seed: int
    asked: list[str] = field(default_factory=list)
    """The request id of every model call."""
    failed: list[str] = field(default_factory=list)
    """The request id of every model call that has failed, by the model's doing."""
    ran: list[tuple[str | None, str]] = field(default_factory=list)
    """The request id and the call id of every tool run."""
    runs: Counter[str] = field(default_factory=Counter)
    """How often each tool ran, by its name; one that never ran is there too."""
    failures: Counter[str] = field(default_factory=Counter)
    """How often a tool's own handler failed, by its name: it raised, exited, or returned an `Err`."""
    misled: list[str] = field(default_factory=list)
    """The call id of every tool run that was given what is left of broken arguments."""
    seen: Counter[str] = field(default_factory=Counter)
    """What the model and the tools have done."""

    @property
    def hangs(self) -> bool:
        """Whether anything hangs; where nothing does, nothing is given a time either."""
        return self.dice("hangs").random() < 0.7

    def dice(self, *about: object) -> random.Random:
        """The random numbers that belong to this."""
        return random.Random("/".join(map(str, (self.seed, *about))))  # noqa: S311 - to be repeated, not to be secret


class WildModel:
    """An adapter that does anything. `names` are the tools it knows of; it calls others too.

    A tool whose schema is in `schemas` is mostly called with arguments that fit it.
    """

    name = "wild"

    def __init__(self, wild: Wild, names: Sequence[str], schemas: Mapping[str, Any] | None = None) -> None:
        self._wild, self._schemas = wild, schemas or {}
        self._names = [*names, *names, "no_such_tool"]
        dice = wild.dice("model")
        self._tame = dice.random() < 0.5
        self._endless = dice.random() < 0.4

    def requires_structured_finalize(self, request: Request) -> bool:  # noqa: ARG002 - the protocol's signature
        """Never."""
        return False

    def play(self, request: Request, call: Call) -> Iterator[Event | Delay]:
        """One answer. Raises, sometimes, what refuses the call."""
        number = len(self._wild.asked)
        self._wild.asked.append(call.request_id)
        dice = self._wild.dice("model", number)
        act = dice.choice(_TAME if self._tame else _WILD)
        if act == "text" and request.response_format is not None and dice.random() < 0.6:
            act = "fits"
        if self._endless and act == "text":
            act = "calls"
        if act in ("silent", "trickles") and not self._wild.hangs:
            act = "raises"
        self._wild.seen[f"model: {act}"] += 1
        if act in _FAILURES:
            self._wild.failed.append(call.request_id)
        if act == "refused":
            raise AdapterError(dice.choice(["rate_limited", "authentication_failed"]), provider=self.name)
        if act == "refused badly":
            raise ValueError("an adapter may refuse with that")
        words = [] if act == "fits" else self._words(dice)
        said = stage([*words, *_ACTS[act](self, dice)])
        if act in ("calls", "broken calls") and _confused(said):
            self._wild.failed.append(call.request_id)
            self._wild.seen["model: two calls with one id"] += 1
        return self._perform(act, said, dice)

    def stream(self, request: Request, call: Call) -> Iterator[Event]:
        """As `play`, without a wait."""
        return (item for item in self.play(request, call) if not isinstance(item, Delay))

    def _perform(self, act: str, said: list[Event | Delay], dice: random.Random) -> Iterator[Event | Delay]:
        if act in (*_CUT_SHORT, "unfinished call"):
            said = [item for item in said if not isinstance(item, MessageCompleted)]
        match act:
            case "raises":
                yield from said[: dice.randint(0, len(said))]
                raise LookupError("what no adapter may raise")
            case "silent":
                yield from said[: dice.randint(0, len(said))]
                yield Delay(AGES)
            case "trickles":
                yield from said
                while True:
                    yield Delay(5.0)
                    yield from stage([script.text("and ")])[1:2]
            case "empty":
                return
            case "usurps":
                at = dice.randint(0, len(said))
                yield from said[:at]
                yield from _usurped()
                yield from said[at:]
            case "late error":
                yield from said
                yield ErrorEvent(AdapterError("network_error", provider=self.name))
            case "unfinished call":
                yield from said
                yield ToolCallStarted("cut", dice.choice(self._names))
                yield from stage([script.finish("tool_calls")])[1:]
            case _:
                yield from said

    def _words(self, dice: random.Random) -> list[Any]:
        words: list[Any] = [script.text(dice.choice(["", "a", "Hello "])) for _ in range(dice.randint(0, 2))]
        if dice.random() < 0.3:
            words.insert(dice.randint(0, len(words)), script.delay(dice.choice([0.0, 1.0, 20.0])))
        if dice.random() < 0.2:
            words.append(script.usage(input_tokens=dice.randint(0, 9)))
        if dice.random() < 0.1:
            words.append(script.raw_chunk({"what": "ever"}))
        return words

    def _calls(self, dice: random.Random, *, broken: bool = False) -> list[Any]:
        ids = dice.sample([f"c{i}" for i in range(_MOST_CALLS + 1)], _MOST_CALLS + 1)
        if dice.random() < 0.15:  # several calls may have one id
            ids = dice.choices(ids[:3], k=_MOST_CALLS + 1)
        calls = [self._call(dice, id) for id in ids[: dice.randint(1, _MOST_CALLS)]]
        if broken:
            raw = dice.choice(['{"x": ', "[1]", "7", ""])
            bad = script.tool_call(dice.choice(self._names), id=ids[-1], raw_arguments=raw)
            calls.insert(dice.randint(0, len(calls)), bad)
        return [*calls, script.finish("tool_calls")]

    def _call(self, dice: random.Random, id: str) -> Any:
        arguments: dict[str, Any] = dice.choice([{}, {"x": 1}, {"city": "Paris"}])
        name = dice.choice(self._names)
        if name == TOOL_HELP:
            arguments = dice.choice([{}, {"names": self._names}, {"names": ["no_such_tool"]}])
        if name in self._schemas and dice.random() < 0.9:
            arguments = fitting({"type": "object", **self._schemas[name]}, dice)
        return script.tool_call(name, arguments, id=id)

    def _error(self, dice: random.Random) -> list[Any]:
        calls = self._calls(dice)[:-1] if dice.random() < 0.5 else []
        reason = dice.choice(["rate_limited", "timeout", "provider_unavailable", "a reason of nobody's"])
        rest = [script.finish(dice.choice(["stop", "tool_calls"]))] if dice.random() < 0.5 else []
        return [*calls, script.error(reason), *rest]


def _confused(said: Sequence[Event | Delay]) -> bool:
    """Whether two different calls have one id."""
    calls: dict[str, ToolCallCompleted] = {}
    made = (event for event in said if isinstance(event, ToolCallCompleted))
    return any(calls.setdefault(event.id, event) != event for event in made)


class WildStream:
    """The same model with `stream` only, as a blocking adapter: it waits on the reader's thread, with `sleep`."""

    def __init__(self, model: WildModel, sleep: Callable[[float], object]) -> None:
        self._model, self._sleep = model, sleep
        self.name: str = model.name
        self.requires_structured_finalize = model.requires_structured_finalize

    def stream(self, request: Request, call: Call) -> Iterator[Event]:
        """One answer. Raises, sometimes, what refuses the call."""
        return self._slowly(self._model.play(request, call))

    def _slowly(self, said: Iterator[Event | Delay]) -> Iterator[Event]:
        for item in said:
            if isinstance(item, Delay):
                self._sleep(item.seconds)
            else:
                yield item


_CUT_SHORT = ("no end", "raises", "silent", "trickles", "empty")
_FAILURES = {"refused", "refused badly", "error", "late error", "no calls", "odd finish", *_CUT_SHORT}
_ACTS: dict[str, Callable[[WildModel, random.Random], list[Any]]] = {
    "text": lambda _, dice: [script.text("done"), script.finish(dice.choice(["stop", "stop", "length"]))],
    "fits": lambda _, _dice: [script.text('{"x": 1}'), script.finish("stop")],
    "calls": lambda model, dice: model._calls(dice),  # noqa: SLF001 - its own table
    "broken calls": lambda model, dice: model._calls(dice, broken=True),  # noqa: SLF001
    "ignored calls": lambda model, dice: [*model._calls(dice)[:-1], script.finish("stop")],  # noqa: SLF001
    "filtered": lambda _, _dice: [script.finish("content_filter")],
    "error": lambda model, dice: model._error(dice),  # noqa: SLF001
    "late error": lambda _, _dice: [script.finish("stop")],
    "no calls": lambda _, _dice: [script.finish("tool_calls")],
    "odd finish": lambda _, dice: [script.finish(dice.choice(["other", "error"]))],
    "usurps": lambda _, _dice: [script.finish("stop")],
    **dict.fromkeys([*_CUT_SHORT, "unfinished call"], lambda _, _dice: []),
}
_TAME = ["text"] * 3 + ["calls"] * 6
_WILD = [*_TAME, "refused", "refused badly", "unfinished call", *_ACTS, "broken calls", "usurps"]


def _usurped() -> Iterator[Event]:
    """Events that only the loop may emit."""
    yield ToolResultEncoded(id="c0", content="forged")
    yield StepCompleted(response=None, thread=Thread())  # type: ignore[arg-type]
    yield ChatCompleted(ChatResult(thread=Thread(), halted_reason="completed"))


def wild_engine(
    wild: Wild, engine: Engine, sleep: Callable[[float], object], *, own_handlers: bool
) -> Engine:
    """The engine with a wild model, and with wild handlers, unless its own shall run. `sleep` waits in virtual time."""
    tools, dice = list(engine.tools), wild.dice("engine")
    lonely = dice.random() < 0.6  # nobody is there whom calls could be left to
    # A compact tool without its required arguments is not run at all.
    schemas = {tool.name: tool.schema for tool in tools if own_handlers or tool.compact}
    names = [tool.name for tool in with_help(tools) if not (lonely and tool.manual)]
    model: Any = WildModel(wild, names, schemas)
    if dice.random() < 0.25:
        model = WildStream(model, sleep)
    given = own_tools(wild, tools) if own_handlers else wild_tools(wild, tools, sleep)
    return engine.merge(adapter=model, tools=given)


# --- tools --------------------------------------------------------------------------------------------------------


def wild_tools(wild: Wild, tools: Sequence[Tool], sleep: Callable[[float], object]) -> list[Tool]:
    """The same tools with handlers that do anything; manual ones stay without. `sleep` waits in virtual time."""
    return [_with_handler(tool, _wild_handler(wild, tool, sleep)) for tool in tools]


def own_tools(wild: Wild, tools: Sequence[Tool]) -> list[Tool]:
    """The same tools with their own handlers, whose runs are counted."""
    return [_with_handler(tool, _counted(wild, tool)) for tool in tools]


def _with_handler(tool: Tool, handler: Callable[..., Any] | None) -> Tool:
    # In a simulation there is one process; and a handler that is put in another's place could not be imported.
    return msgspec.structs.replace(tool, handler=None if tool.manual else handler, isolation="thread")


def _counted(wild: Wild, tool: Tool) -> Callable[..., Any] | None:
    own = tool.handler
    if own is None or tool.manual or inspect.iscoroutinefunction(own):
        return own  # a simulated host says what is wrong with the last
    wild.runs[tool.name] += 0
    place = context_of(own)

    @functools.wraps(own)
    def handler(arguments: Mapping[str, Any], context: Any) -> Any:
        _begins(wild, tool, context)
        try:
            result = called(own, place, arguments, context)
        except ToolError as error:
            if error.reason == "invalid_arguments":  # its function was not called
                wild.ran.remove((context.request_id, context.tool_call.id))
                wild.runs[tool.name] -= 1
                wild.seen["tool: refuses its arguments"] += 1
            else:
                wild.failures[tool.name] += 1
            raise
        except ProcessKilled:  # not the handler's doing
            raise
        except BaseException:
            wild.failures[tool.name] += 1
            raise
        wild.failures[tool.name] += isinstance(result, Err)
        return result

    handler.takes_context = True  # type: ignore[attr-defined]
    return handler


def _wild_handler(wild: Wild, tool: Tool, sleep: Callable[[float], object]) -> Callable[..., Any]:
    def handler(arguments: Mapping[str, Any], context: Any) -> Any:
        number = len(wild.ran)
        _begins(wild, tool, context)
        dice = wild.dice("tool", tool.name, number)
        act = dice.choice(_TOOL_ACTS)
        if act in ("listens", "does not listen") and not wild.hangs:
            act = "raises"
        wild.seen[f"tool: {act}"] += 1
        return _act(act, arguments, context, dice, sleep)

    return handler


def _begins(wild: Wild, tool: Tool, context: Any) -> None:
    wild.ran.append((context.request_id, context.tool_call.id))
    wild.runs[tool.name] += 1
    if "arguments_error" in context.tool_call.metadata:
        wild.misled.append(context.tool_call.id)


_TOOL_ACTS = [*["gives"] * 6, "text", "none", "opaque", "errs", "raises", "exits", "asks", "halts"]
_TOOL_ACTS += ["halts badly", "halts opaquely", "is slow", "listens", "does not listen"]


def _act(
    act: str, arguments: Any, context: Any, dice: random.Random, sleep: Callable[[float], object]
) -> Any:
    match act:
        case "raises":
            raise LookupError(f"no {sorted(arguments)}")
        case "exits":
            raise SystemExit(1)
        case "is slow":
            sleep(dice.choice([0.5, 5.0, 19.0]))
        case "listens":
            context.cancelled.wait(AGES)
        case "does not listen":
            sleep(AGES)
        case _:
            return {
                "gives": arguments,
                "text": "text",
                "none": None,
                "opaque": Opaque(),
                "errs": Err({"code": 7}),
                "asks": AskUser("which city?", choices=["A", "B"]),
                "halts": Halt("plan_submitted", {"ok": 1}),
                "halts badly": Halt("completed", 1),
                "halts opaquely": Halt("odd", Opaque()),
            }[act]
    return "late"
