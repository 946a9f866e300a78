"""Spans nest as calls do, each ends once, and whoever measures changes nothing."""

import threading
from collections import Counter
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import allm_actors as allm
from allm_actors import telemetry
from allm_actors.telemetry import bus
from allm_actors.telemetry.names import EVENTS, METADATA
from allm_actors.testing import script

from . import drivers
from .drivers import HI, Pure, cases, outcome

law = settings(max_examples=60, derandomize=True)
PARENTS = {"chat": None, "step": "chat", "generate": "step", "stream": "generate", "tool": "step"}


@contextmanager
def measured(handler=None):
    heard = []
    telemetry.attach("law", handler or heard.append)
    try:
        yield heard
    finally:
        telemetry.detach("law")


def check(events, kind):
    """The events of one call: each span within its parent, one end for each start, all of one request."""
    assert len({event.metadata["request_id"] for event in events}) <= 1
    open_spans = Counter()
    for event in events:
        assert event.metadata.keys() <= METADATA
        _, name, phase = event.name.split(".")
        if phase == "start":
            parent = PARENTS[name]
            if parent is not None and parent != "chat" and not (kind == "generate" and name == "generate"):
                assert open_spans[parent] == 1, event
            open_spans[name] += 1
            assert name == "tool" or open_spans[name] == 1
        else:
            assert not any(count for child, count in open_spans.items() if PARENTS[child] == name), event
            open_spans[name] -= 1
            assert open_spans[name] >= 0
    assert not any(open_spans.values()), open_spans


@pytest.mark.parametrize("kind", ["generate", "step", "chat"])
def test_spans_nest_and_end_once(kind):
    @law
    @given(cases(kind))
    def holds(case):
        with measured() as events:
            came = outcome(drivers.whole, kind, case)
        assert came == outcome(Pure(kind, case))
        check(events, kind)
        if came[0] != "raised":
            assert Counter(event.name for event in events)[f"allm.{kind}.stop"] == (
                1 if kind != "generate" else len(events) // 4
            )

    holds()


@law
@given(cases("chat"))
def test_a_handler_that_raises_changes_nothing(case):
    def breaks(event):
        raise RuntimeError(event.name)

    with measured(breaks):
        assert outcome(drivers.whole, "chat", case) == outcome(Pure("chat", case))


IDS = st.sampled_from(["a", "b", "c", "d"])
SOME = sorted(EVENTS)[:3]


@law
@given(st.lists(st.tuples(IDS, st.none() | st.lists(st.sampled_from(SOME)))))
def test_each_event_is_heard_by_those_who_want_it_in_the_order_in_which_they_came(changes):
    """Whoever is there is detached, whoever is not is attached; what others hear is not even copied."""
    wanted, told = {}, []
    try:
        for id, given_names in changes:
            names = wanted.get(id, given_names)
            before = dict(bus._heard)
            if id in wanted:
                del wanted[id]
                assert telemetry.detach(id)
            else:
                assert not telemetry.detach(id)
                telemetry.attach(id, lambda _, id=id: told.append(id), names)
                wanted[id] = names
            for name in SOME:
                listens = [each for each, theirs in wanted.items() if theirs is None or name in theirs]
                told.clear()
                bus.emit(name, {}, {})
                assert told == listens
                if names is not None and name not in names:
                    assert bus._heard.get(name) is before.get(name)
            assert bus.listening() == any(theirs is None or theirs for theirs in wanted.values())
    finally:
        for id in wanted:
            telemetry.detach(id)


def test_one_turn_tells_its_spans_in_order():
    engine = allm.Engine(
        adapter="fake",
        adapter_opts={
            "scripts": [
                [script.tool_call("echo", {"x": 1}), script.finish("tool_calls")],
                [script.text("done"), script.finish("stop")],
            ]
        },
        tools=[allm.tool(name="echo", description="", schema={}, handler=lambda arguments: arguments)],
    )
    with measured() as events:
        result = allm.chat(engine, HI, request_id="r1")
    asked = ["step.start", "generate.start", "stream.start", "stream.stop", "generate.stop"]
    expected = [
        "chat.start",
        *asked,
        "tool.start",
        "tool.stop",
        "step.stop",
        *asked,
        "step.stop",
        "chat.stop",
    ]
    assert [event.name.removeprefix("allm.") for event in events] == expected
    assert {event.metadata["request_id"] for event in events} == {"r1"}
    steps = [event.metadata["step_result"] for event in events if event.name == "allm.step.stop"]
    assert steps == result.steps
    assert events[-1].metadata["chat_result"] == result


@pytest.mark.parametrize("call", [allm.chat, allm.step])
def test_a_call_that_is_refused_ends_with_an_exception(call):
    engine = allm.Engine(adapter="fake", adapter_opts={"script": [script.preflight_error("rate_limited")]})
    with measured() as events, pytest.raises(allm.AdapterError):
        call(engine, HI)
    *_, last = events
    assert last.name == f"allm.{call.__name__}.exception"
    assert last.metadata["kind"] == "error"
    assert last.metadata["reason"].reason == "rate_limited"
    check(events, call.__name__)


@pytest.mark.parametrize("call", [allm.chat, allm.step, allm.generate])
def test_the_response_of_a_model_call_says_what_it_cost_and_for_whom_it_is(call):
    counted = [script.text("Hi."), script.usage(input_tokens=4000, output_tokens=1000), script.finish("stop")]
    model = allm.ModelRef(id="tiny-1", pricing={"input": 0.25, "output": 2.0})
    engine = allm.Engine(adapter="fake", model=model, adapter_opts={"script": counted})
    with measured() as events:
        result = call(engine, HI, request_id="r1")
    whole = {allm.chat: lambda: result.final_response, allm.step: lambda: result.response}
    (told,) = [event.metadata["response"] for event in events if event.name == "allm.generate.stop"]
    assert told == whole.get(call, lambda: result)()
    assert (told.usage.total_cost, told.request_id) == (0.003, "r1")


NESTED = ["chat", "step", "generate", "stream"]
UNANSWERED = [allm.Message(role="tool", content="?", tool_call_id="nobody")]


@pytest.mark.parametrize(
    ("engine", "messages", "kind"),
    [
        (allm.Engine(), HI, allm.EngineError),
        (allm.Engine("nobody"), HI, allm.EngineError),
        (allm.Engine("fake"), [], allm.ValidationError),
        (allm.Engine("fake"), UNANSWERED, allm.ValidationError),
    ],
    ids=["no adapter", "an unknown adapter", "no messages", "messages that cannot be sent"],
)
@pytest.mark.parametrize(
    "name", ["chat", "stream", "step", "stream_step", "generate", "stream_generate"], ids=str
)
def test_what_is_refused_before_it_began_has_its_spans(name, engine, messages, kind):
    outermost = {"stream": "chat", "stream_step": "step", "stream_generate": "generate"}.get(name, name)
    spans = NESTED[NESTED.index(outermost) :]
    with measured() as events, pytest.raises(kind) as raised:
        getattr(allm, name)(engine, messages, request_id="r1", model="m", session_id="s1")
    names = [event.name.removeprefix("allm.") for event in events]
    assert names == [f"{span}.start" for span in spans] + [f"{span}.exception" for span in spans[::-1]]
    for event in events:
        about = event.metadata
        assert (about["request_id"], about["model"], about["session_id"]) == ("r1", "m", "s1")
        assert about["engine"] is engine
    assert {event.metadata["reason"] for event in events[len(spans) :]} == {raised.value}
    check(events, outermost)


def test_a_sessions_turn_that_is_refused_has_its_spans():
    with allm.Host() as host, measured() as events:
        session = host.session("s1", allm.Engine())
        for act in (lambda: session.reply("hi"), session.step):
            with pytest.raises(allm.EngineError):
                act()
    ends = [event.name.split(".")[1] for event in events if event.name.endswith(".exception")]
    assert ends == [*NESTED[::-1], *NESTED[:0:-1]]
    assert {event.metadata["session_id"] for event in events} == {"s1"}


def test_options_that_mean_nothing_are_no_call_to_tell_of():
    with measured() as events, pytest.raises(ValueError, match="max_turns"):
        allm.chat(allm.Engine(), HI, max_turns=0)
    assert events == []


def test_a_tool_that_takes_too_long_ends_with_an_exception():
    def waits(arguments, context):
        context.cancelled.wait(10)

    engine = allm.Engine(
        adapter="fake",
        adapter_opts={
            "scripts": [
                [script.tool_call("waits", {}), script.finish("tool_calls")],
                [script.text("done"), script.finish("stop")],
            ]
        },
        tools=[allm.tool(name="waits", description="", schema={}, handler=waits)],
    )
    with measured() as events:
        allm.chat(engine, HI, tool_timeout=0.05)
    (ended,) = [event for event in events if event.name == "allm.tool.exception"]
    assert (ended.metadata["kind"], ended.metadata["reason"]) == ("exit", "timeout")
    check(events, "chat")


@pytest.mark.parametrize("call", [allm.stream, allm.stream_step])
def test_spans_nest_when_the_reader_leaves_in_the_middle_of_a_tool(call):
    begun, left = threading.Event(), threading.Event()

    def waits(_arguments):
        begun.set()
        left.wait(10)

    tool = allm.Tool(name="waits", description="", schema={}, handler=waits)
    asks = [script.tool_call("waits"), script.finish("tool_calls")]
    engine = allm.Engine("fake", tools=[tool], adapter_opts={"script": asks})
    with measured() as events:
        with call(engine, HI) as stream:
            next(event for event in stream if event.tag == "tool_execution_started")
            assert begun.wait(10)
        stream.result()
    left.set()
    check(events, "chat" if call is allm.stream else "step")
    assert "allm.tool.exception" in [event.name for event in events]
