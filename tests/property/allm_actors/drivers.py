"""Every way to run the loop, over generated worlds; and what of a result has to agree.

A case is a script, handlers by behaviour and options. A driver runs a case and says what came of it: the shape of the
result, or of what was raised. `pure` is the reference: the machine of `allm_actors.execution`, with no actor near it.
"""

import asyncio
import dataclasses
import itertools
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import strategies as st

import allm_actors as allm
from allm_actors import facade
from allm_actors.data import AllmError, ErrorEvent, Message, Request, Thread
from allm_actors.data.compact import with_help
from allm_actors.data.schemas.structured import parse
from allm_actors.engine.adapter import Call
from allm_actors.engine.fake import FakeAdapter
from allm_actors.execution import loop, sessions
from allm_actors.execution.effects import (
    AskHalt,
    CallModel,
    Emit,
    Finish,
    ParseAnswer,
    Refused,
    RunTool,
    SettleError,
)
from allm_actors.execution.inputs import (
    AnswerParsed,
    HaltAnswered,
    ModelEnded,
    ModelEvents,
    ModelFailed,
    ToolReturned,
)
from allm_actors.execution.tools import as_policy, encode_tool_result, settle, settle_error
from allm_actors.testing import SimHost, script

PATIENCE = 10.0
HI = [allm.user("hi")]
_callers = ThreadPoolExecutor(4, thread_name_prefix="caller")
_numbers = itertools.count()


# --- the world ----------------------------------------------------------------------------------------------------


class Opaque:
    """What no encoder has a text for."""

    def __repr__(self):
        return "<opaque>"


def _raises(arguments):
    raise LookupError(f"no {sorted(arguments)}")


async def _async(arguments):
    await asyncio.sleep(0)
    return {"async": arguments}


async def _async_raises(arguments):
    await asyncio.sleep(0)
    raise LookupError("async")


HANDLERS = {
    "gives": lambda arguments: arguments,
    "gives_text": lambda _: "text",
    "gives_none": lambda _: None,
    "raises": _raises,
    "errs": lambda _: allm.Err("no such city"),
    "errs_data": lambda _: allm.Err({"code": 7}),
    "asks": lambda _: allm.AskUser("which city?", choices=["A", "B"]),
    "halts": lambda _: allm.Halt("plan_submitted", {"ok": 1}),
    "halts_reserved": lambda _: allm.Halt("completed", 1),
    "halts_opaque": lambda _: allm.Halt("odd", Opaque()),
    "opaque": lambda _: Opaque(),
    "async": _async,
    "async_raises": _async_raises,
    "no_handler": None,
    "manual": None,
}
TOOLS = [
    allm.Tool(name=name, description="", schema={}, handler=handler, manual=name == "manual")
    for name, handler in HANDLERS.items()
]
SMALL = {"properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS.append(allm.Tool(name="small", description="Small.", schema=SMALL, handler=lambda a: a, compact=True))


def _policy_raises(call, error):
    raise RuntimeError("policy")


def _predicate_raises(step):
    raise RuntimeError("predicate")


def _shout(value):
    if isinstance(value, allm.Err):
        raise TypeError("this encoder has no word for errors")
    return encode_tool_result(value).upper()


POLICIES = {
    "continue": "continue",
    "halt": "halt",
    "replaces": lambda call, error: ("continue", {"instead": call.name}),
    "replaces_opaque": lambda call, error: ("continue", Opaque()),
    "decides_halt": lambda call, error: "halt",
    "raises": _policy_raises,
    "nonsense": lambda call, error: 42,
}
PREDICATES = {
    "never": lambda step: False,
    "with_results": lambda step: bool(step.tool_results),
    "always": lambda step: "truthy",
    "raises": _predicate_raises,
}


@dataclass
class Answer:
    """What an answer may have to fit."""

    x: int


FORMAT = allm.json_schema("answer", {"type": "object", "properties": {}})


@dataclass(frozen=True)
class Case:
    """One world."""

    scripts: list
    options: Mapping = field(default_factory=dict)
    filters: Mapping = field(default_factory=dict)
    tools: list = field(default_factory=lambda: TOOLS, repr=False)

    def engine(self, record=None):
        return allm.Engine(
            adapter="fake",
            tools=self.tools,
            adapter_opts={"scripts": self.scripts} | ({} if record is None else {"record": record}),
        )

    @property
    def all_options(self):
        return {**_functions(self.options), **self.filters}


def _functions(options):
    """Options as they are passed: what was drawn by name becomes the function."""
    tables = {"on_tool_error": POLICIES, "halt_when": PREDICATES, "tool_result_encoder": {"shouts": _shout}}
    tables["response_model"] = {"answer": Answer}
    return {name: tables[name][value] if name in tables else value for name, value in options.items()}


_NAMES = [*["gives", "asks", "halts", "manual", "async", "small"] * 2, *HANDLERS, "missing", "tool_help"]


def _calls(ids):
    arguments = st.sampled_from([{}, {"x": 1}, {"city": "Paris", "unit": "c"}, {"names": ["small", "nope"]}])
    return st.builds(script.tool_call, st.sampled_from(_NAMES), arguments, id=ids)


def _broken_calls(ids):
    raw = st.sampled_from(['{"x": ', "[1]", "7", ""])
    malformed = st.builds(script.tool_call, st.sampled_from(_NAMES), id=ids, raw_arguments=raw)
    return malformed | st.builds(script.tool_call_delta, ids, st.sampled_from(['{"x"', ": 1}"]))


def _errors():
    reasons = st.sampled_from(["rate_limited", "timeout", "provider_unavailable", "a reason of nobody's"])
    return st.builds(script.error, reasons)


@st.composite
def turns(draw):
    """What the model says in one turn: mostly well formed calls or text, sometimes with a fault in it."""
    ids = st.sampled_from(["c0", "c1", "c2", "c3"])
    texts = st.builds(
        script.text, st.sampled_from(["", "a", "Hello ", "wörld", "\n", '{"x": 1}', '{"x": "1"}'])
    )
    usage = st.builds(script.usage, input_tokens=st.integers(0, 9), output_tokens=st.integers(0, 9))
    raw = st.builds(script.raw_chunk, st.sampled_from([{"a": 1}, ("usage", {"input_tokens": 3}), None]))
    entries = draw(st.lists(st.one_of(texts, usage, raw), max_size=3))
    calls = draw(st.lists(_calls(ids), max_size=3))
    finish = "tool_calls" if calls else draw(st.sampled_from(["stop", "stop", "length"]))
    faults = ["none"] * 8 + ["refused", "error", "broken call", "finish", "no finish"]
    fault = draw(st.sampled_from(faults))
    match fault:
        case "refused":
            return [script.preflight_error(draw(st.sampled_from(["rate_limited", "authentication_failed"])))]
        case "error":
            calls.insert(draw(st.integers(0, len(calls))), draw(_errors()))
        case "broken call":
            calls.insert(draw(st.integers(0, len(calls))), draw(_broken_calls(ids)))
            finish = "tool_calls"
        case "finish":
            finish = draw(st.sampled_from(["stop", "tool_calls", "content_filter", "other", "error"]))
        case "no finish":
            return entries + calls
    return [*entries, *calls, script.finish(finish)]


def _options(kind):
    known = {
        "max_turns": st.integers(1, 4),
        "mode": st.sampled_from(["auto", "auto", "manual"]),
        "on_tool_error": st.sampled_from(sorted(POLICIES)),
        "halt_when": st.sampled_from(sorted(PREDICATES)),
        "max_concurrency": st.integers(1, 3),
        "tool_result_encoder": st.just("shouts"),
    }
    fits = {"response_model": st.just("answer")}
    model = st.fixed_dictionaries(fits, optional={"max_retries": st.integers(0, 2)})
    drawn = st.builds(dict.__or__, st.fixed_dictionaries({}, optional=known), st.just({}) | model)
    if kind != "chat":
        return drawn
    finalize = {"structured_finalize": True, "response_format": FORMAT}
    nudge = st.sampled_from([{}, {}, {}, finalize, {**finalize, "structured_finalize_nudge": ""}])
    return st.builds(_finalized, drawn, nudge)


def _finalized(options, finalize):
    finalize = {**options, **finalize}
    if "response_model" in options:  # it makes its own
        finalize.pop("response_format", None)
    return finalize


def filters():
    """What of the stream the reader wants to see."""
    names = ("emit_text_deltas", "emit_tool_deltas", "include_raw_chunks")
    return st.fixed_dictionaries({}, optional={name: st.booleans() for name in names})


def cases(kind):
    """A world for `generate`, `step` or `chat`."""
    return st.builds(
        Case, st.lists(turns(), min_size=1 if kind != "chat" else 2, max_size=5), _options(kind), filters()
    )


# --- what has to agree --------------------------------------------------------------------------------------------


def shape(value):
    """A value as plain data, without request ids, and with tool messages that stand together in the order of calls."""
    match value:
        case AllmError():
            return (type(value).__name__, shape(value.to_fields()))
        case BaseException():
            return repr(value)
        case msgspec.Struct():
            fields = {name: getattr(value, name) for name in value.__struct_fields__ if name != "request_id"}
            return (type(value).__name__, shape(fields))
        case Mapping():
            return {key: shape(item) for key, item in value.items() if key != "request_id"}
        case list() | tuple():
            return _in_order([shape(item) for item in value])
        case Opaque():
            return repr(value)
        case _:
            return value


def _in_order(items):
    ordered, together = [], []
    for item in items:
        if isinstance(item, tuple) and item[0] == "Message" and item[1]["role"] == "tool":
            together.append(item)
            continue
        ordered += [*sorted(together, key=lambda one: one[1]["tool_call_id"]), item]
        together = []
    return ordered + sorted(together, key=lambda one: one[1]["tool_call_id"])


def shown(events):
    """Events as plain data; those of tools that ran at the same time in the order of calls."""
    ordered, together = [], []
    for event in events:
        if event.tag in ("tool_execution_started", "tool_execution_completed", "tool_result_encoded"):
            together.append((event.id, event))
        elif event.tag in ("ask_user_requested", "tool_halt"):
            together.append((event.tool_call_id, event))
        else:
            ordered += [*_by_call(together), event]
            together = []
    return [shape(event) for event in ordered + _by_call(together)]


def _by_call(pairs):
    return [event for _, event in sorted(pairs, key=lambda pair: pair[0])]


def outcome(run, *arguments, **options):
    """The shape of what `run` gives or raises, in time."""

    def call():
        try:
            return ("gave", shape(run(*arguments, **options)))
        except (AllmError, RuntimeError, ValueError, TypeError) as error:
            return ("raised", shape(error))

    return _callers.submit(call).result(PATIENCE)


# --- the drivers --------------------------------------------------------------------------------------------------


@dataclass
class Pure:
    """The reference: the machine of `execution`, its effects performed one after the other."""

    kind: str
    case: Case
    events: list = field(default_factory=list)
    asked: int = 0

    def __call__(self):
        options = _functions(self.case.options)
        self.policy = as_policy(options.get("on_tool_error"))
        self.encoder = options.get("tool_result_encoder", encode_tool_result)
        self.halt_when = options.get("halt_when")
        self.model = FakeAdapter(scripts=self.case.scripts)
        named = ("max_turns", "mode", "max_concurrency", "max_retries")
        rules = {name: options[name] for name in named if name in options}
        self.state, effects = loop.start(
            loop.Options(
                kind=self.kind,
                on_tool_error=self.policy if isinstance(self.policy, str) else "function",
                custom_encoder="tool_result_encoder" in options,
                halt_when=self.halt_when is not None,
                tools={tool.name: tool for tool in with_help(TOOLS)},
                structured_finalize="structured_finalize" in options,
                nudge=options.get("structured_finalize_nudge"),
                parses="response_model" in options,
                **rules,
            ),
            Thread.from_messages(HI),
        )
        todo = deque(effects)
        while todo:
            effect = todo.popleft()
            if isinstance(effect, Finish):
                assert not todo, "nothing follows the end"
                return self.end(effect.result)
            for news in self.perform(effect):
                self.state, more = loop.step(self.state, news)
                todo.extend(more)
        raise AssertionError("the machine stopped without an end")

    def end(self, result):
        if isinstance(result, Refused):
            raise result.error
        return result

    def perform(self, effect):
        match effect:
            case Emit(events):
                self.events += events
            case CallModel(turn):
                return self.answer(turn)
            case RunTool(call, tool, _, _, turn):
                settled = settle(call, self.handled(tool, call), self.encoder, self.policy)
                return [ToolReturned(call.id, settled, turn)]
            case SettleError(call, error, _, turn):
                return [ToolReturned(call.id, settle_error(call, error, self.encoder, self.policy), turn)]
            case AskHalt(turn, result):
                return [HaltAnswered(turn, _tried(self.halt_when, result))]
            case ParseAnswer(turn, text):
                made = _tried(lambda text: parse(text, Answer), text)
                return [
                    AnswerParsed(turn, problem=str(made))
                    if isinstance(made, ValueError)
                    else AnswerParsed(turn, made)
                ]
        return []

    def answer(self, turn):
        self.asked += 1
        try:
            said = list(self.model.play(Request(messages=HI), Call(request_id="r")))
        except AllmError as error:
            return [ModelFailed(turn, error, preflight=True)]
        half = len(said) // 2
        return [ModelEvents(turn, said[:half]), ModelEvents(turn, said[half:]), ModelEnded(turn)]

    def handled(self, tool, call):
        if tool.handler is None:
            why = f"tool {tool.name!r} has no handler; give it one, or make it manual"
            return allm.ToolError("not_found", tool_name=tool.name, tool_call_id=call.id, message=why)
        result = _tried(tool.handler, dict(call.arguments))
        return _tried(asyncio.run, result) if asyncio.iscoroutine(result) else result


def _tried(function, argument):
    try:
        return function(argument)
    except Exception as error:  # noqa: BLE001 - user code
        return error


SYNC = {"generate": allm.generate, "step": allm.step, "chat": allm.chat}
STREAM = {"generate": allm.stream_generate, "step": allm.stream_step, "chat": allm.stream}
FOLDED = {"generate": "response", "step": "step_result", "chat": "chat_result"}


def whole(kind, case):
    """The synchronous call."""
    return SYNC[kind](case.engine(), HI, **case.all_options)


def folded(kind, case):
    """The stream, read to its end and folded by its reader."""
    events = list(STREAM[kind](case.engine(), HI, **case.all_options))
    return fold_as(kind, events)


def fold_as(kind, events):
    """What a reader makes of events."""
    return getattr(allm.fold(events, Thread.from_messages(HI)), FOLDED[kind])()


class Loop:
    """An asyncio loop that lives as long as the tests, and a host that was entered on it."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="test-loop", daemon=True)
        self.thread.start()
        self.host = allm.Host()
        self.run(self.host.__aenter__())

    def close(self):
        self.run(self.host.__aexit__(None, None, None))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)
        self.loop.close()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(coroutine, PATIENCE), self.loop).result()

    def whole(self, kind, case):
        """The awaited call."""
        return self.run(getattr(allm.aio, kind)(case.engine(), HI, **case.all_options))

    def folded(self, kind, case):
        """The asynchronous stream, read to its end and folded by its reader."""

        async def read():
            name = {"generate": "stream_generate", "step": "stream_step", "chat": "stream"}[kind]
            stream = getattr(allm.aio, name)(case.engine(), HI, **case.all_options)
            return [event async for event in stream]

        return fold_as(kind, self.run(read()))

    def replied(self, case):
        """A turn of a session in the host on this loop, and the session after it."""

        async def reply():
            session = self.host.session(f"s{next(_numbers)}", case.engine())
            try:
                return session, await session.reply("hi", **case.all_options)
            finally:
                await session.stop()

        return checked(*self.run(reply()))


def replied(host, case):
    """A turn of a new session, and the session after it."""
    session = host.session(f"s{next(_numbers)}", case.engine())
    try:
        return checked(session, session.reply("hi", **case.all_options).result())
    finally:
        session.stop()


@contextmanager
def instead(host):
    """Inside the block, the calls of no session run on this host."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facade, "default_host", lambda: host)
        yield


def whole_in_sim(seed, kind, case):
    """The synchronous call on a simulated host."""
    with SimHost(seed=seed) as host, instead(host):
        return whole(kind, at_once(case))


def folded_in_sim(seed, kind, case):
    """The stream on a simulated host, folded by its reader."""
    with SimHost(seed=seed) as host, instead(host):
        return folded(kind, at_once(case))


def simulated(seed, case):
    """The same turn in a session of a simulated host."""
    with SimHost(seed=seed) as host:
        return replied(host, at_once(case))


def at_once(case):
    """The case for a simulated host, where no event loop runs: its tools do at once what others await."""
    handlers = {"async": lambda arguments: {"async": arguments}, "async_raises": _raises_at_once}
    tools = [
        msgspec.structs.replace(tool, handler=handlers[tool.name]) if tool.name in handlers else tool
        for tool in TOOLS
    ]
    return dataclasses.replace(case, tools=tools)


def _raises_at_once(arguments):
    raise LookupError("async")


def checked(session, result):
    """The result, if the session is what the tables make of it."""
    begun = sessions.begin(allm.Session(id=session.id), "reply", [Message(role="user", content="hi")])
    expected = sessions.apply(begun, result)
    stored = {name: _stored(value) for name, value in expected.metadata.items()}
    assert shape(session.value) == shape(msgspec.structs.replace(expected, metadata=stored))
    return result


def _stored(value):
    """What a session keeps of what a user's function raised."""
    return str(value) if isinstance(value, Exception) and not isinstance(value, AllmError) else value


def observed(case, kind):
    """What the provider said, as the observer was told, and as the unfiltered stream shows it."""
    seen = []
    list(STREAM[kind](case.engine(), HI, **{**case.all_options, "on_event": seen.append}))
    return seen


def unfiltered(case, kind):
    """The stream with everything in it."""
    everything = {"emit_text_deltas": True, "emit_tool_deltas": True, "include_raw_chunks": True}
    return list(STREAM[kind](case.engine(), HI, **{**case.all_options, **everything}))


def has_error(events):
    """Whether the stream said that something failed."""
    return any(isinstance(event, ErrorEvent) for event in events)
