"""What users type: calls whole and streamed, awaited and not, with tools from functions; and what an import costs."""

import asyncio
import contextlib
import dataclasses
import gc
import inspect
import itertools
import logging
import os
import re
import subprocess
import sys
import threading
import traceback
from typing import Literal

import pytest
import structlog

import allm_actors as allm
from allm_actors import aio, facade
from allm_actors.actors import default_host
from allm_actors.data import (
    AdapterError,
    ChatCompleted,
    ErrorEvent,
    MessageStarted,
    RawChunk,
    StepCompleted,
    StreamError,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
)
from allm_actors.engine import keys
from allm_actors.engine.fake import FakeAdapter
from allm_actors.testing import Counter, script
from allm_actors.testing.exchanges import chat_completions, refusal
from allm_actors.testing.loopback import LoopbackServer, Reply
from tests.integration.stage import until

TENANT_KEY = "tenant.ada/of-no-known-form"  # which nothing but the call can know for a key

SOON = 5.0
HI = [allm.user("hi")]
HELLO = [script.text("Hello "), script.text("there"), script.finish("stop")]


@allm.tool
def get_weather(city: str, unit: Literal["c", "f"] = "c") -> dict:
    """Say what the weather is like.

    Args:
        city: Where.
    """
    return {"city": city, "degrees": 21 if unit == "c" else 70}


@allm.tool
async def think(about: str) -> str:
    """Think about something."""
    await asyncio.sleep(0)
    return f"thought about {about}"


def calls(name, id="c0", **arguments):
    return [script.tool_call(name, arguments, id=id), script.finish("tool_calls")]


def fake(*scripts, tools=(), **opts):
    return allm.Engine(
        adapter="fake", tools=tools, adapter_opts={"scripts": list(scripts) or [HELLO] * 3, **opts}
    )


def weather():
    return fake(calls("get_weather", city="Paris"), HELLO, tools=[get_weather])


def tags(events):
    return [event.tag for event in events]


STEP_WITH_TOOL = [
    "message_started",
    "tool_call_started",
    "tool_call_completed",
    "message_completed",
    "tool_execution_started",
    "tool_execution_completed",
    "tool_result_encoded",
    "step_completed",
]
WHOLE_CHAT = [
    *STEP_WITH_TOOL,
    "message_started",
    "text_delta",
    "text_delta",
    "text_completed",
    "message_completed",
    "step_completed",
    "chat_completed",
]


# --- whole --------------------------------------------------------------------------------------------------------


def test_generate_gives_a_response():
    response = allm.generate(fake(), allm.request("hi"))
    assert (response.output_text, response.finish_reason) == ("Hello there", "stop")
    assert len(response.request_id) == 22
    assert allm.unwrap(response) == "Hello there"
    assert allm.generate(fake(), HI).text() == "Hello there"


BY = {
    "generate": allm.generate,
    "stream_generate": lambda *given, **options: allm.stream_generate(*given, **options).result(),
    "aio.generate": lambda *given, **options: asyncio.run(allm.aio.generate(*given, **options)),
    "aio.stream_generate": lambda *given, **options: asyncio.run(
        allm.aio.stream_generate(*given, **options).aresult()
    ),
}


@pytest.mark.parametrize("generate", BY.values(), ids=BY)
def test_a_request_says_what_it_asks_for_unless_the_call_says_otherwise(generate):
    asked = []
    own = allm.tool(name="own", description="", schema={})
    request = allm.request("hi", temperature=0.5, model="own", tools=[own], options={"seed": 2, "user": "u"})
    engine = fake(record=asked).merge(params={"temperature": 0.9, "max_tokens": 9, "top_p": 0.1})
    generate(engine, request)
    generate(engine, request, model="call", temperature=0.0, max_tokens=7, seed=3, tools=[get_weather])
    (plain, _), (called, _) = asked
    assert (plain.model, plain.temperature, plain.max_tokens) == ("own", 0.5, 9)
    assert (plain.options, [tool.name for tool in plain.tools]) == (
        {"seed": 2, "user": "u", "top_p": 0.1},
        ["own"],
    )
    assert (called.model, called.temperature, called.max_tokens) == ("own", 0.0, 7)
    assert called.options == {"seed": 3, "user": "u", "top_p": 0.1}
    assert [tool.name for tool in called.tools] == ["own", "get_weather"]


def test_step_runs_the_tools_of_one_answer():
    result = allm.step(weather(), HI)
    assert result.done is False
    assert [message.role for message in result.thread.messages] == ["user", "assistant", "tool"]
    assert result.tool_results[0].content == '{"city":"Paris","degrees":21}'


def test_chat_goes_on_until_there_is_an_answer():
    result = allm.chat(weather(), allm.Thread.from_messages(HI))
    assert (result.halted_reason, result.halted) == ("completed", False)
    assert result.final_response.output_text == "Hello there"
    assert [step.done for step in result.steps] == [False, True]
    assert result.metadata == {}


def test_a_tool_is_described_by_its_function():
    asked = []
    engine = fake(calls("get_weather", city="Rome", unit="f"), HELLO, tools=[get_weather], record=asked)
    result = allm.chat(engine, HI)
    (tool,) = asked[0].request.tools
    assert (tool.name, tool.description) == ("get_weather", "Say what the weather is like.")
    assert tool.schema["required"] == ["city"]
    assert tool.schema["properties"]["unit"]["enum"] == ["c", "f"]
    assert result.thread.messages[2].content == '{"city":"Rome","degrees":70}'


def test_arguments_that_do_not_fit_are_told_to_the_model():
    result = allm.chat(fake(calls("get_weather", town=3), HELLO, tools=[get_weather]), HI)
    answer = result.thread.messages[2].content
    assert "argument city" in answer
    assert "argument town" in answer
    assert result.halted_reason == "completed"


@dataclasses.dataclass
class Account:
    iban: str

    def __post_init__(self):
        raise ValueError(f"{self.iban} is not an IBAN")


def test_what_a_type_says_of_an_argument_is_for_the_model_and_not_for_a_log():
    @allm.tool
    def pay(to: Account) -> str:
        """Pay."""
        return to.iban

    logs = [structlog.testing.CapturingLogger() for _ in range(2)]
    engine = fake(calls("pay", to={"iban": "DE89-ADA"}, ADA="?"), HELLO, tools=[pay])
    with allm.telemetry.log_events(logs[0]), allm.telemetry.log_events(logs[1], content=True):
        result = allm.chat(engine, HI)
    assert "DE89-ADA is not an IBAN; expected Account; argument ADA" in result.thread.messages[2].content
    plain, whole = ([line.kwargs for line in log.calls if "outcome" in line.kwargs] for log in logs)
    assert plain[0]["error.message"] == (
        "argument to: does not fit; expected Account; an argument that is unexpected; the arguments are: to"
    )
    assert (plain[0]["error.type"], plain[0]["gen_ai.tool.name"]) == ("invalid_arguments", "pay")
    assert "ADA" not in repr(logs[0].calls)
    assert "DE89-ADA is not an IBAN" in whole[0]["error.message"]


def test_a_tool_knows_the_call_it_works_for():
    seen = []

    @allm.tool
    def look(context) -> str:
        """Look around."""
        seen.append(context)
        return "seen"

    engine = fake(calls("look"), HELLO, tools=[look]).put_context("tenant", "blue")
    allm.chat(engine, HI, context={"user": "ann"}, session_id="s1", request_id="r1")
    (context,) = seen
    assert context.context == {"tenant": "blue", "user": "ann"}
    assert (context.session_id, context.request_id, context.tool_call.id) == ("s1", "r1", "c0")
    assert context.engine is engine
    assert not context.cancelled


def test_tools_of_one_step_run_at_the_same_time():
    together = threading.Barrier(3)

    def meet(_):
        together.wait(SOON)
        return "met"

    tools = [allm.Tool(name=f"t{i}", description="", schema={}, handler=meet) for i in range(3)]
    asked = [script.tool_call(f"t{i}", id=f"c{i}") for i in range(3)]
    engine = fake([*asked, script.finish("tool_calls")], HELLO, tools=tools)
    result = allm.chat(engine, HI, max_concurrency=3)  # by default a machine of one core has two
    assert [message.content for message in result.thread.messages[2:5]] == ["met"] * 3


def test_no_more_tools_at_once_than_allowed():
    running, most = Counter(), []

    def work(_):
        most.append(running.take())
        running.value -= 1
        return ""

    tool = allm.Tool(name="work", description="", schema={}, handler=work)
    asked = [script.tool_call("work", id=f"c{i}") for i in range(5)]
    allm.chat(fake([*asked, script.finish("tool_calls")], HELLO, tools=[tool]), HI, max_concurrency=1)
    assert most == [0] * 5


@pytest.mark.parametrize("params", [{}, {"max_concurrency": None}], ids=["unsaid", "None"])
def test_where_nobody_says_how_many_tools_run_at_once_for_each_core_two_do(params):
    allowed = 2 * os.cpu_count()
    full, lock, running, most = threading.Event(), threading.Lock(), set(), []

    def work(_):
        with lock:
            running.add(threading.get_ident())
            most.append(len(running))
        if len(most) >= allowed:
            full.set()
        assert full.wait(SOON)
        with lock:
            running.remove(threading.get_ident())
        return ""

    tool = allm.Tool(name="work", description="", schema={}, handler=work)
    asked = [script.tool_call("work") for _ in range(3 * allowed)]
    engine = fake([*asked, script.finish("tool_calls")], HELLO, tools=[tool], params=params)
    result = allm.chat(engine, HI)
    assert len(result.thread.messages) == 3 * allowed + 3
    assert max(most) == allowed


def test_a_tool_that_takes_too_long():
    release = threading.Event()

    @allm.tool
    def sleep(context) -> str:
        """Sleep."""
        context.cancelled.wait(SOON)
        release.set()
        return "late"

    result = allm.chat(fake(calls("sleep"), HELLO, tools=[sleep]), HI, tool_timeout=0.05)
    assert "0.05" in result.thread.messages[2].content
    assert result.halted_reason == "completed"
    assert release.wait(SOON)


def test_what_the_engine_says_holds_unless_the_call_says_otherwise():
    def fails(_):
        raise LookupError("nothing")

    tool = allm.Tool(name="fails", description="", schema={}, handler=fails)
    asked = [calls("fails"), calls("fails"), calls("fails"), HELLO]

    def instead(_call, _error):
        return ("continue", "instead")

    engine = fake(*asked, tools=[tool]).put_param("on_tool_error", instead).put_param("max_turns", 2)
    result = allm.chat(engine, HI)
    assert (result.halted_reason, result.metadata) == ("max_turns", {"max_turns": 2})
    assert result.thread.messages[2].content == "instead"
    assert allm.chat(engine, HI, on_tool_error="halt").halted_reason == "tool_error"


class Mute:
    """An adapter that keeps no time itself: it says one word, and nothing more until it is let go."""

    name = "mute"

    def __init__(self):
        self.left = threading.Event()

    def stream(self, request, call):
        yield MessageStarted()
        yield TextDelta(id="t", delta="One ")
        self.left.wait(SOON)


@pytest.mark.parametrize("held_by", ["engine", "call", "option"])
@pytest.mark.parametrize(("name", "phase"), [("stream_timeout", "idle"), ("request_timeout", "total")])
@pytest.mark.parametrize("form", ["fake", "mute"])
def test_a_time_holds_for_every_adapter_wherever_it_was_said(form, name, phase, held_by):
    mute, said = Mute(), {name: 0.05}
    engine = allm.Engine(mute)
    if form == "fake":
        engine = fake([script.text("One "), script.delay(60), script.finish("stop")])
    options = {"option": said, "call": {"adapter_opts": said}, "engine": {}}[held_by]
    if held_by == "engine":
        engine = engine.merge(adapter_opts=said)
    try:
        response = allm.generate(engine, HI, **options)
    finally:
        mute.left.set()
    error = response.metadata["error"]
    assert (error.reason, error.provider, error.metadata) == ("timeout", form, {"phase": phase})
    assert f"0.05 s; {name} allows more, in seconds" in str(error)
    assert response.text() == "One "


def test_halt_when_sees_each_step_and_an_error_of_its_own_is_data():
    seen = []

    def enough(step):
        seen.append(len(step.thread.messages))
        return len(seen) == 2

    asked = [calls("get_weather", city="Rome")] * 3
    result = allm.chat(fake(*asked, tools=[get_weather]), HI, halt_when=enough)
    assert (result.halted_reason, seen) == ("halt_when", [3, 5])

    def breaks(_):
        raise LookupError("predicate")

    result = allm.chat(fake(*asked, tools=[get_weather]), HI, halt_when=breaks)
    assert result.halted_reason == "error"
    assert "halt_when raised LookupError: predicate" in str(result.metadata["error"])
    assert allm.to_json(result)


def test_a_structured_answer_in_two_passes():
    schema = allm.json_schema("weather", {"type": "object", "properties": {"degrees": {"type": "integer"}}})
    asked = []
    final = [script.text('{"degrees": 21}'), script.finish("stop")]
    engine = fake(calls("get_weather", city="Rome"), HELLO, final, tools=[get_weather], record=asked)
    result = allm.chat(engine, HI, response_format=schema, structured_finalize=True)
    assert result.final_response.output_text == '{"degrees": 21}'
    assert result.metadata == {"structured_finalize": {"pass_1_halted": "completed"}}
    assert [bool(call.request.tools) for call in asked] == [True, True, False]
    assert [call.request.response_format for call in asked] == [None, None, schema]


# --- streamed -----------------------------------------------------------------------------------------------------


def test_a_stream_shows_everything_in_order():
    assert tags(allm.stream(weather(), HI)) == WHOLE_CHAT
    assert tags(allm.stream_step(weather(), HI)) == STEP_WITH_TOOL
    assert tags(allm.stream_generate(fake(), HI)) == [
        "message_started",
        "text_delta",
        "text_delta",
        "text_completed",
        "message_completed",
    ]


def test_a_stream_can_be_matched():
    said = []
    for event in allm.stream(weather(), HI):
        match event:
            case TextDelta(delta=text):
                said.append(text)
            case ChatCompleted(result=result):
                said.append(result.halted_reason)
    assert said == ["Hello ", "there", "completed"]


def test_nothing_is_sent_before_the_first_pull():
    with LoopbackServer([Reply(chunks=chat_completions(text="hi"))]) as server:
        engine = allm.Engine(adapter="openai:gpt-4.1-mini", adapter_opts={"base_url": server.url})
        stream = allm.stream(engine, HI, api_key="sk-loopback-0123456789")
        assert server.connections == 0
        assert isinstance(next(stream), MessageStarted)
        assert stream.result().final_response.output_text == "hi"
        assert len(server.requests) == 1


def test_a_tool_is_chosen_in_any_shape_and_only_if_it_is_there():
    forced = {"type": "function", "function": {"name": "get_weather"}}
    shapes = ["get_weather", ("tool", "get_weather"), {"type": "tool", "name": "get_weather"}, forced]
    with LoopbackServer([Reply(chunks=chat_completions(text="hi"))] * len(shapes)) as server:
        engine = allm.Engine(adapter="openai:gpt-4.1-mini", adapter_opts={"base_url": server.url})
        engine = engine.merge(tools=[get_weather])
        for shape in shapes:
            allm.generate(engine, HI, api_key="sk-loopback-0123456789", tool_choice=shape)
        assert [request.json["tool_choice"] for request in server.requests] == [forced] * len(shapes)
        for adapter in ("openai:m", "anthropic:m", "gemini:m", "cohere:m", "groq:m"):
            asked = allm.Engine(adapter=adapter, adapter_opts={"base_url": server.url})
            for tools, choice in [([], "required"), ([], "get_weather"), ([get_weather], "get_wether")]:
                with pytest.raises(allm.ValidationError, match="tool_choice"):
                    allm.chat(asked, HI, api_key="k", tools=tools, tool_choice=choice)
        assert len(server.requests) == len(shapes)


def test_a_choice_of_tool_means_the_same_to_every_adapter():
    shapes = [
        "get_weather",
        ("tool", "get_weather"),
        {"type": "function", "function": {"name": "get_weather"}},
    ]
    for api in (allm.generate, allm.step, allm.chat):
        asked = []
        opts = {"scripts": [[script.text("hi"), script.finish("stop")]] * len(shapes), "record": asked}
        engine = allm.Engine(adapter="fake", tools=[get_weather], adapter_opts=opts)
        for shape in shapes:
            api(engine, HI, tool_choice=shape)
        assert [recorded.request.tool_choice for recorded in asked] == ["get_weather"] * len(shapes)
        for wrong in ("get_wether", 5):
            with pytest.raises(allm.ValidationError, match="tool_choice"):
                api(engine, HI, tool_choice=wrong)
        with pytest.raises(allm.ValidationError, match="tool_choice"):
            api(allm.Engine(adapter="fake", adapter_opts=opts), HI, tool_choice="required")
        assert len(asked) == len(shapes)


def test_no_tool_runs_before_its_reader_comes_for_more():
    ran = threading.Event()
    tool = allm.Tool(name="act", description="", schema={}, handler=lambda _: ran.set())
    stream = allm.stream(fake(calls("act"), HELLO, tools=[tool]), HI)
    read = [next(stream) for _ in range(4)]
    assert read[-1].tag == "message_completed"
    assert not ran.is_set()
    assert next(stream).tag == "tool_execution_started"
    assert ran.wait(SOON)
    assert next(stream).tag == "tool_execution_completed"
    stream.close()


class Endless:
    """A provider that never stops talking, and counts how often it was asked to go on."""

    name = "endless"

    def __init__(self):
        self.said = 0
        self.closed = threading.Event()

    def play(self, _request, _call):
        yield MessageStarted()
        try:
            for self.said in itertools.count(1):
                yield TextDelta("x")
        finally:
            self.closed.set()

    stream = play

    def requires_structured_finalize(self, _request):
        return False


def test_a_stream_never_runs_far_ahead_of_its_reader():
    provider = Endless()
    with allm.stream(allm.Engine(adapter=provider), HI) as stream:
        for _ in range(2000):
            next(stream)
        assert provider.said < 4000
    assert provider.closed.wait(SOON)
    assert provider.said < 4000
    assert stream.result().halted_reason == "cancelled"


def test_the_result_after_some_events_is_the_whole_result():
    stream = allm.stream(weather(), HI)
    first = [next(stream) for _ in range(3)]
    assert tags(first) == STEP_WITH_TOOL[:3]
    result = stream.result()
    assert result.final_response.output_text == "Hello there"
    assert len(result.steps) == 2
    assert stream.result() is result
    assert list(stream) == []


def test_a_stream_that_is_closed_before_it_began():
    cleanups = Counter()
    stream = allm.stream(fake(HELLO, cleanup_observer=cleanups), HI)
    stream.close()
    stream.close()
    assert list(stream) == []
    result = stream.result()
    assert (result.halted_reason, result.thread.messages) == ("cancelled", HI)
    assert allm.stream_generate(fake(), HI).close() is None
    del stream
    gc.collect()
    assert cleanups.value == 1


def test_a_stream_that_is_closed_in_the_middle():
    cleanups = Counter()
    stream = allm.stream(fake([script.text("Hel"), script.delay(60)], cleanup_observer=cleanups), HI)
    with stream:
        assert [next(stream).tag for _ in range(2)] == ["message_started", "text_delta"]
    result = stream.result()
    assert result.halted_reason == "cancelled"
    assert result.thread.messages[-1].content == "Hel"
    assert result.thread.messages[-1].metadata["partial"] is True
    assert list(stream) == []
    until(lambda: cleanups.value == 1)  # the adapter's own process does that, after the end is told


def test_the_last_reference_closes_a_stream():
    closed = threading.Event()
    stream = allm.stream(fake([script.text("Hel"), script.delay(60)], cleanup_observer=closed.set), HI)
    next(stream)
    del stream
    gc.collect()
    assert closed.wait(SOON)


def test_breaking_out_of_a_loop_before_a_tool_began_is_in_time():
    ran = threading.Event()
    tool = allm.Tool(name="act", description="", schema={}, handler=lambda _: ran.set())
    with allm.stream(fake(calls("act"), tools=[tool]), HI) as stream:
        for event in stream:
            if event.tag == "message_completed":
                break
    assert "cancelled" in stream.result().thread.messages[2].content
    assert not ran.is_set()


def test_closing_from_another_thread_stops_the_tools_and_ends_the_reader():
    started, stopped = threading.Event(), threading.Event()

    @allm.tool
    def wait(context) -> str:
        """Wait."""
        started.set()
        if context.cancelled.wait(SOON):
            stopped.set()
        return ""

    stream = allm.stream(fake(calls("wait"), tools=[wait]), HI)
    read = []
    reader = threading.Thread(target=lambda: read.extend(stream), daemon=True)
    reader.start()
    assert started.wait(SOON)
    stream.close()
    reader.join(SOON)
    assert not reader.is_alive()
    assert stopped.wait(SOON)
    assert tags(read) in (STEP_WITH_TOOL[:4], STEP_WITH_TOOL[:5])  # the tool began before its start was shown
    result = stream.result()
    assert result.halted_reason == "cancelled"
    assert "cancelled" in result.thread.messages[2].content


def test_filters_hide_and_change_nothing():
    said = [
        script.raw_chunk({"own": 1}),
        script.raw_chunk(("usage", {"input_tokens": 3})),
        script.tool_call_delta("c9", "{"),
        *HELLO,
    ]
    shown = tags(allm.stream_generate(fake(said), HI, emit_text_deltas=False, emit_tool_deltas=False))
    assert shown == ["message_started", "raw_chunk", "text_completed", "message_completed"]
    everything = list(allm.stream_generate(fake(said), HI, include_raw_chunks=True))
    assert next(event.payload for event in everything if isinstance(event, RawChunk)) == {"own": 1}
    assert any(isinstance(event, ToolCallDelta) for event in everything)
    response = allm.generate(fake(said), HI, emit_text_deltas=False)
    assert (response.output_text, response.usage.input_tokens) == ("Hello there", 3)


def test_an_observer_sees_the_provider_before_the_filters():
    seen = []
    shown = list(allm.stream(weather(), HI, on_event=seen.append, emit_text_deltas=False))
    provider = [
        tag for tag in WHOLE_CHAT if not tag.startswith(("tool_execution", "tool_result", "step", "chat"))
    ]
    assert tags(seen) == provider
    assert not any(isinstance(event, TextDelta) for event in shown)
    allm.chat(weather(), HI, on_event=seen.append)
    assert tags(seen) == provider * 2


def test_an_observer_that_fails_is_logged_once_a_call_and_breaks_nothing(caplog):
    told = []

    def breaks(event):
        told.append(event)
        raise LookupError("observer")

    with caplog.at_level(logging.ERROR, logger="allm_actors"):
        assert tags(allm.stream(weather(), HI, on_event=breaks)) == WHOLE_CHAT
        (record,) = caplog.records
        assert (record.name, record.exc_info[0]) == ("allm_actors", LookupError)
        assert len(told) > 3
        allm.chat(weather(), HI, on_event=breaks)
        assert len(caplog.records) == 2


def test_an_error_in_the_middle_is_data():
    broken = [script.text("Hel"), script.error("rate_limited", retry_after_ms=500)]
    events = list(allm.stream(fake(broken), HI))
    (failure,) = [event.error for event in events if isinstance(event, ErrorEvent)]
    result = events[-1].result
    assert (failure.reason, failure.retry_after_ms) == ("rate_limited", 500)
    assert (result.halted_reason, result.metadata["error"]) == ("error", failure)
    response = allm.generate(fake(broken), HI)
    assert response.finish_reason == "error"
    with pytest.raises(allm.AdapterError, match="rate_limited"):
        allm.unwrap(response)


def test_an_error_before_the_first_event_is_raised():
    refused = [script.preflight_error("authentication_failed", status=401)]
    for call in (allm.generate, allm.stream_generate, allm.step, allm.stream_step, allm.chat, allm.stream):
        with pytest.raises(allm.AdapterError, match="authentication_failed"):
            call(fake(refused), HI)


def test_an_error_before_a_later_turn_ends_the_chat():
    engine = fake(
        calls("get_weather", city="Rome"), [script.preflight_error("rate_limited")], tools=[get_weather]
    )
    result = allm.chat(engine, HI)
    assert (result.halted_reason, result.metadata["error"].reason) == ("error", "rate_limited")
    assert len(result.steps) == 1


class Careless:
    """An adapter that breaks its contract: it raises while it is read."""

    name = "careless"

    def __init__(self, form):
        setattr(self, form, self.say)

    def say(self, _request, _call):
        yield MessageStarted()
        yield TextDelta("Hel")
        raise ZeroDivisionError("adapter")

    def requires_structured_finalize(self, _request):
        return False


@pytest.mark.parametrize("form", ["play", "stream"])
def test_an_adapter_that_raises_gives_one_error(form, caplog):
    provider = Careless(form)
    provider.stream = provider.say
    events = list(allm.stream(allm.Engine(adapter=provider), HI))
    (failure,) = [event.error for event in events if isinstance(event, ErrorEvent)]
    assert isinstance(failure, StreamError)
    assert failure.reason == "adapter_error"
    assert "division" in str(failure) or "adapter" in str(failure)
    assert events[-1].result.halted_reason == "error"
    assert TextDelta("Hel") in events


class Clumsy:
    """An adapter whose code fails where it should have begun, or at its first event."""

    name = "clumsy"

    def __init__(self, error, *, begins):
        self._error, self._begins = error, begins

    def stream(self, _request, call):
        key = call.api_key
        return self._events() if self._begins else self._fail(key)

    def _events(self):
        yield MessageStarted()
        raise self._error

    def _fail(self, _key):
        try:
            {}["model"]
        except KeyError:
            raise self._error  # noqa: B904 - what failed before is what a traceback shows


def locals_of(error):
    """What the frames of an error hold, and of those that led to it."""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            yield from frame.f_locals.values()
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    "error", [TypeError("object of type 'int' has no len()"), ValueError("no")], ids=repr
)
def test_an_adapter_that_fails_before_it_begins_says_where_and_holds_no_key(error):
    with allm.Host() as host:
        session = host.session("s", allm.Engine(Clumsy(error, begins=False)), api_key=KEY)
        with pytest.raises(StreamError) as caught:
            session.reply("hi").result()
    said = f"{type(error).__name__}: {error}"
    assert (str(caught.value), caught.value.cause) == (f"the adapter failed before it began: {said}", said)
    assert caught.value.__cause__ is error
    told = "".join(traceback.format_exception(caught.value))
    assert "in _fail" in told
    assert "KeyError: 'model'" in told
    held = list(locals_of(caught.value.__cause__))
    assert held == []


@pytest.mark.parametrize("in_engine", [False, True])
@pytest.mark.parametrize("way", [allm.chat, allm.step])
def test_a_tool_that_the_caller_has_forbidden_does_not_run(way, in_engine):
    ran = []

    @allm.tool
    def transfer(amount: int) -> str:
        """Transfer money."""
        ran.append(amount)
        return "done"

    choice = {"tool_choice": "none"}
    engine = fake(calls("transfer", amount=1000), HELLO, tools=[transfer])
    if in_engine:
        engine = engine.merge(params=choice)
    result = way(engine, HI, **({} if in_engine else choice))
    answer = result.thread.messages[2]
    assert (answer.tool_call_id, ran) == ("c0", [])
    assert "there are no tools to call" in answer.content


def calls_with_options():
    """All public functions that take a call's options."""
    for module in (facade, aio, allm.session, aio.session):
        for name in module.__all__:
            given = getattr(module, name)
            if inspect.isfunction(given) and "options" in inspect.signature(given).parameters:
                yield pytest.param(given, id=f"{module.__name__}.{name}")


def key_in_frames(error):
    frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    return [frame.name for frame in frames if KEY in repr(frame.locals) and "/allm_actors/" in frame.filename]


@pytest.mark.parametrize("call", list(calls_with_options()))
def test_a_call_that_is_refused_has_no_key_in_a_frame_of_the_library(call):
    needed = [
        each
        for each in inspect.signature(call).parameters.values()
        if each.kind is each.POSITIONAL_OR_KEYWORD and each.default is each.empty
    ]

    async def awaited():
        return await call(*[None for _ in needed], api_key=KEY)

    with pytest.raises((TypeError, allm.AllmError)) as refused:
        asyncio.run(awaited())
    assert key_in_frames(refused.value) == []


def test_a_call_that_fails_has_no_key_in_a_frame_of_the_library():
    with LoopbackServer(lambda _: refusal(401, "no")) as server:
        engine = allm.Engine(embed_adapter="openai:m", adapter_opts={"base_url": server.url}, retry=False)
        for call in (allm.embed, lambda *args, **given: asyncio.run(aio.embed(*args, **given))):
            with pytest.raises(allm.AllmError) as failed:
                call(engine, "x", api_key=KEY)
            assert key_in_frames(failed.value) == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda _, session: session.reply(3, api_key=KEY),
        lambda _, session: session.continue_(3, api_key=KEY),
        lambda _, session: session.step(mode="walk", api_key=KEY),
        lambda host, _: host.session("t", fake(), when_busy="never", api_key=KEY),
    ],
    ids=["reply", "continue_", "step", "session"],
)
def test_a_session_that_refuses_has_no_key_in_a_frame_of_the_library(ask):
    with allm.Host() as host:
        session = host.session("s", fake(), api_key=KEY)
        assert KEY not in repr(vars(session))
        with pytest.raises((TypeError, ValueError)) as refused:
            ask(host, session)
    assert key_in_frames(refused.value) == []


@pytest.mark.parametrize(
    ("error", "said"), [(KeyError("model"), "KeyError: 'model'"), (MemoryError(), "MemoryError")], ids=repr
)
def test_a_call_that_broke_off_says_what_was_raised(error, said):
    response = allm.generate(allm.Engine(Clumsy(error, begins=True)), HI)
    failure = response.metadata["error"]
    assert (str(failure), failure.cause) == (f"the model call ended early: {said}", said)


def test_a_refusal_of_ours_stays_what_it_is():
    refusal = allm.ValidationError("unsupported_capability", [("tools", "not_supported")])
    with allm.Host() as host:
        session = host.session("s", allm.Engine(Clumsy(refusal, begins=False)))
        with pytest.raises(allm.ValidationError) as caught:
            session.reply("hi").result()
    assert caught.value is refusal


KEY = "key-of-nobody-0123456789"


def _caused(key):
    raise RuntimeError("the header cannot be written") from ValueError(f"b'Bearer {key}'")


def _told(key):
    yield ErrorEvent(AdapterError("unknown", message=f"not accepted: {key}", metadata={"sent": [key]}))


def _raised(error):
    raise error


TALES = {
    "an error of its own": lambda key: _raised(RuntimeError(f"not accepted: {key}")),
    "its cause": _caused,
    "a misuse": lambda key: _raised(ValueError(f"not accepted: {key}")),
    "one of ours": lambda key: _raised(AdapterError("unknown", message=f"not accepted: {key}")),
    "an event": _told,
    "an event with a text": lambda key: [ErrorEvent(f"not accepted: {key}")],
}


class Talkative:
    """An adapter that tells everybody with which key it was called: at once, or after its first event."""

    name = "talkative"

    def __init__(self, form, tale, *, at_once):
        self._tale, self._at_once = TALES[tale], at_once
        setattr(self, form, {"stream": self.say, "play": self.say, "batches": self.asay}[form])
        self.stream = getattr(self, form)

    def requires_structured_finalize(self, _request):
        return False

    def say(self, _request, call):
        key = call.api_key() if callable(call.api_key) else call.api_key.reveal()
        if self._at_once:
            self._tale(key)
        return self._events(key)

    def _events(self, key):
        yield MessageStarted()
        yield from self._tale(key) or ()

    def asay(self, request, call):
        events = self.say(request, call)

        async def batches():
            for event in events:
                yield [event]

        return batches()


@pytest.mark.parametrize("given", ["boom", RuntimeError("boom")], ids=["text", "exception"])
def test_an_error_event_without_an_error_of_ours_has_one_when_it_is_read(given):
    class Adapter:
        name = "mine"

        def stream(self, _request, _call):
            yield MessageStarted()
            yield ErrorEvent(given)

    stream = allm.stream_generate(allm.Engine(Adapter()), HI)
    (error,) = [event.error for event in stream if isinstance(event, ErrorEvent)]
    assert (type(error), error.reason) == (StreamError, "unknown")
    assert "boom" in error.message
    assert stream.result().metadata["error"] == error


@pytest.mark.parametrize("given", [KEY, lambda: KEY], ids=["key", "function"])
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
@pytest.mark.parametrize("form", ["stream", "play", "batches"])
@pytest.mark.parametrize("tale", TALES)
def test_an_adapter_that_quotes_its_key_is_not_quoted(tale, form, at_once, given, caplog):
    engine = allm.Engine(adapter=Talkative(form, tale, at_once=at_once))
    with allm.Host() as host:
        chat = host.session("s", engine, api_key=given)
        for ask in (lambda: allm.chat(engine, HI, api_key=given), lambda: chat.reply("hi").result()):
            try:
                result = ask()
            except Exception as error:  # noqa: BLE001 - whatever it is
                shown = "".join(traceback.format_exception(error))
            else:
                assert result.halted_reason == "error"
                shown = repr(result) + allm.to_json(result)
            assert KEY not in shown
        assert KEY not in allm.to_json(chat.value)
    assert KEY not in caplog.text


NO_KEY = {
    "none": None,
    "empty": "",
    "blank": "  ",
    "an empty secret": keys.Secret(""),
    "a function of none": lambda: None,
    "a function of an empty one": lambda: "",
}


@pytest.mark.parametrize("given", NO_KEY.values(), ids=NO_KEY)
@pytest.mark.parametrize("own", ["the-tenants-key", lambda: "the-tenants-key"], ids=["key", "function"])
def test_a_turn_without_a_key_has_its_sessions_and_never_the_programs(own, given, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "the-operators-key")
    answer = Reply(chunks=chat_completions(text="Hello."))
    with LoopbackServer(itertools.repeat(answer)) as server, allm.Host() as host:
        engine = allm.Engine(
            "openai:gpt-4o", adapter_opts={"base_url": server.url, "endpoint": "chat_completions"}
        )
        chat = host.session("tenant", engine, api_key=own)
        chat.reply("hi", api_key=given).result()
        chat.reply("hi", api_key="another-key").result()
        sent = [request.headers["authorization"] for request in server.requests]
    assert sent == ["Bearer the-tenants-key", "Bearer another-key"]


@pytest.mark.parametrize(
    "source",
    [
        TENANT_KEY,
        keys.Secret(TENANT_KEY),
        lambda: TENANT_KEY,
        itertools.cycle([TENANT_KEY, "another-key-for-the-second-call"]).__next__,
    ],
    ids=["a text", "a secret", "a function", "a new one for each model call"],
)
@pytest.mark.parametrize("with_call", [False, True], ids=["of the session", "of the call"])
def test_a_log_of_what_was_said_has_no_key_that_the_turn_was_given(source, with_call):
    @allm.tool
    def leak(of: str) -> dict[str, list[str]]:
        """Say what must not be said."""
        if of == TENANT_KEY:
            raise ValueError(f"{of} is wrong")
        return {"environment": [f"KEY={TENANT_KEY}", "HOME=/"]}

    given = {"api_key": source}
    called = [ToolCall(id=str(n), name="leak", arguments={"of": of}) for n, of in enumerate(["", TENANT_KEY])]
    answers = [chat_completions(tool_calls=called), chat_completions(text=["It is ", f"{TENANT_KEY}."])]
    log, events = structlog.testing.CapturingLogger(), []
    with (
        LoopbackServer([Reply(chunks=answer) for answer in answers]) as server,
        allm.Host() as host,
        allm.telemetry.log_events(log, content=True),
        heard(events.append),
    ):
        engine = allm.Engine(
            "openai:gpt-4o",
            adapter_opts={"base_url": server.url, "endpoint": "chat_completions"},
            tools=[leak],
        )
        chat = host.session("tenant", engine, **({} if with_call else given))
        assert chat.reply("hi", **(given if with_call else {})).result().halted_reason == "completed"
    said = [str(value) for line in log.calls for value in line.kwargs.values()]
    assert any("KEY=[REDACTED]" in text and "HOME=/" in text for text in said)
    assert {"It is [REDACTED].", "{'of': '[REDACTED]'}"} <= set(said)
    assert any("[REDACTED] is wrong" in text for text in said)
    assert TENANT_KEY not in repr(log.calls)
    assert not any("api_key" in event.metadata for event in events)


@contextlib.contextmanager
def heard(handler):
    allm.telemetry.attach("heard", handler)
    try:
        yield
    finally:
        allm.telemetry.detach("heard")


def test_a_turn_whose_key_is_none_of_the_kinds_is_refused():
    with allm.Host() as host, pytest.raises(TypeError, match="api_key"):
        host.session("s", fake(), api_key="k").reply("hi", api_key=42)


def test_a_cache_that_is_switched_off_is_off_everywhere():
    seen = []
    scripts = [[script.text("ok"), script.finish("stop")]] * 20
    opts = {"scripts": scripts, "record": lambda one: seen.append(one.request.prompt_cache)}
    engine = allm.Engine(adapter="fake", adapter_opts=opts, params={"prompt_cache": True})
    with allm.Host() as host:
        chat, value = host.session("s", engine), allm.Session()
        ways = [
            lambda **options: allm.chat(engine, HI, **options),
            lambda **options: allm.generate(engine, HI, **options),
            lambda **options: allm.session.start(engine, HI, **options),
            lambda **options: allm.session.reply(engine, value, "hi", **options),
            lambda **options: chat.reply("hi", **options).result(),
        ]
        for ask in ways:
            ask()
            ask(prompt_cache=None)
            ask(prompt_cache=False)
            on, *off = (seen.pop(0) for _ in "123")
            assert on is not None
            assert off == [None, None]


# --- awaited ------------------------------------------------------------------------------------------------------


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, SOON))


async def collect(stream):
    return [event async for event in stream]


def test_the_same_calls_awaited():
    async def main():
        assert (await allm.aio.generate(fake(), HI)).output_text == "Hello there"
        assert (await allm.aio.step(weather(), HI)).done is False
        assert (await allm.aio.chat(weather(), HI)).halted_reason == "completed"
        assert tags([event async for event in allm.aio.stream(weather(), HI)]) == WHOLE_CHAT
        assert (await allm.aio.stream(weather(), HI)).halted_reason == "completed"
        async with allm.aio.stream_step(weather(), HI) as stream:
            assert isinstance(await anext(stream), MessageStarted)
            assert (await stream.aresult()).tool_results

    run(main())


def test_what_was_awaited_may_be_asked_for_again_without_waiting():
    async def main():
        stream = allm.aio.stream(weather(), HI)
        result = await stream
        assert stream.result() is result
        assert list(stream) == []

    run(main())


def test_asynchronous_tools_run_on_the_callers_loop():
    where = []

    @allm.tool
    async def look() -> str:
        """Look where it runs."""
        where.append(asyncio.get_running_loop())
        return "seen"

    async def main():
        await allm.aio.chat(fake(calls("look"), HELLO, tools=[look]), HI)
        assert where == [asyncio.get_running_loop()]

    run(main())
    allm.chat(fake(calls("look"), HELLO, tools=[look]), HI)
    assert len(where) == 2


def test_an_asynchronous_tool_can_be_stopped():
    started, stopped = asyncio.Event(), threading.Event()

    @allm.tool
    async def wait() -> str:
        """Wait."""
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()
        return ""

    result = allm.chat(fake(calls("wait"), HELLO, tools=[wait]), HI, tool_timeout=0.05)
    assert result.halted_reason == "completed"
    assert stopped.wait(SOON)
    stopped.clear()

    async def main():
        stream = allm.aio.stream(fake(calls("wait"), tools=[wait]), HI)
        reading = asyncio.create_task(collect(stream))
        await started.wait()
        await stream.aclose()
        assert await asyncio.to_thread(stopped.wait, SOON)
        # As above: the tool began before its start was shown.
        assert tags(await reading) in (STEP_WITH_TOOL[:4], STEP_WITH_TOOL[:5])
        assert (await stream).halted_reason == "cancelled"

    started.clear()
    run(main())


def test_a_reader_may_lose_patience_and_come_back():
    async def main():
        stream = allm.aio.stream(fake([script.delay(0.05), *HELLO]), HI)
        read = []
        while len(read) < 7:
            with contextlib.suppress(TimeoutError):
                read.append(await asyncio.wait_for(anext(stream), 0.001))
        assert tags(read) == WHOLE_CHAT[8:]

    run(main())


def test_cancelling_the_task_ends_the_call():
    closed = threading.Event()

    async def main():
        engine = fake([script.text("Hel"), script.delay(60)], cleanup_observer=closed.set)
        task = asyncio.create_task(allm.aio.chat(engine, HI))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert closed.wait(SOON)


def test_a_call_that_is_cancelled_at_once_is_cleaned_up_and_not_only_collected():
    allm.chat(fake(), HI)  # the host is there

    async def main(pauses):
        closed = threading.Event()
        engine = fake([script.text("Hel"), script.delay(60)], cleanup_observer=closed.set)
        task = asyncio.create_task(allm.aio.chat(engine, HI))
        for _ in range(pauses):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return closed

    collects = gc.isenabled()
    gc.disable()
    try:
        for pauses in [*range(1, 6)] * 5:
            assert run(main(pauses)).wait(SOON), f"cancelled after {pauses} pauses"
    finally:
        if collects:
            gc.enable()


def test_many_calls_on_one_loop():
    async def main():
        results = await asyncio.gather(*(allm.aio.chat(weather(), HI) for _ in range(100)))
        assert {result.halted_reason for result in results} == {"completed"}

    run(main())


def test_waiting_on_ones_own_loop_is_refused():
    async def main():
        stream = allm.aio.stream(weather(), HI)
        await anext(stream)
        with pytest.raises(RuntimeError, match="await"):
            stream.result()
        assert (await stream).halted_reason == "completed"

    run(main())


def test_a_blocking_call_works_inside_a_coroutine():
    async def main():
        return allm.chat(fake(calls("think", about="it"), HELLO, tools=[think]), HI)

    assert run(main()).thread.messages[2].content == "thought about it"


def test_a_tool_may_ask_a_model_itself():
    @allm.tool
    def delegate(question: str) -> str:
        """Ask somebody else."""
        return allm.unwrap(allm.generate(fake(), [allm.user(question)]))

    result = allm.chat(fake(calls("delegate", question="why?"), HELLO, tools=[delegate]), HI)
    assert result.thread.messages[2].content == "Hello there"


def test_events_fold_to_what_the_call_gives():
    events = list(allm.stream(weather(), HI, request_id="r1"))
    assert allm.fold(events).chat_result() == allm.chat(weather(), HI, request_id="r1")
    assert allm.fold(events[:-1]).chat_result().halted_reason == "cancelled"
    last = [event for event in events if isinstance(event, StepCompleted)][-1]
    assert allm.fold(events).step_result().thread == last.thread
    assert [e.name for e in events if isinstance(e, ToolCallStarted)] == ["get_weather"]


# --- the package --------------------------------------------------------------------------------------------------


def python(code):
    """Run code in a fresh interpreter; what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_is_light():
    said = python(
        "import sys, threading, allm_actors as allm\n"
        "names = {'httpx', 'pykka', 'asyncio', 'sqlite3', 'ssl', 'structlog', 'supervisors', 'hypothesis'}\n"
        "print(sorted(names & set(sys.modules)), threading.active_count())\n"
        "allm.Engine(adapter='fake'); allm.user('hi'); allm.Tool\n"
        "print(sorted({'httpx', 'pykka', 'supervisors', 'sqlite3'} & set(sys.modules)), threading.active_count())\n"
        "from allm_actors.testing import script\n"
        "opts = {'script': [script.text('x'), script.finish('stop')]}\n"
        "stream = allm.stream(allm.Engine(adapter='fake', adapter_opts=opts), [allm.user('hi')])\n"
        "print(threading.active_count())\n"
        "print(stream.result().halted_reason, 'httpx' in sys.modules)\n"
        "print(all(thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()))\n"
    )
    assert said.splitlines() == ["[] 1", "[] 1", "1", "completed False", "True"]


@pytest.mark.parametrize(
    "module",
    [
        "allm_actors",
        "allm_actors.data",
        "allm_actors.testing",
        "allm_actors.testing.strategies",
        "supervisors",
    ],
)
def test_all_is_what_is_promised(module):
    said = python(
        f"import {module} as m\n"
        "names = m.__all__\n"
        "assert len(set(names)) == len(names), 'twice'\n"
        "missing = [name for name in names if not hasattr(m, name)]\n"
        "assert not missing, missing\n"
        f"from {module} import *\n"
        "assert set(names) <= set(dir()) and set(names) <= set(dir(m)), set(names) - set(dir())\n"
        "print(len(names))\n"
    )
    assert int(said) >= 5


TOP = """
    Message TextPart ImagePart Image Tool ToolCall Request Response Usage Thread StepResult ChatResult Session
    EngineError AdapterError StreamError ToolError ValidationError SessionError SessionStatusError SessionBusy
    MessageStarted TextDelta ToolCallStarted ErrorEvent StepCompleted ChatCompleted
    generate stream_generate step stream_step chat stream fold unwrap tool system user assistant tool_result request
    json_schema Engine Host Turn EventStream Adapter Call ToolContext Ok Err AskUser Halt aio to_json from_json
    to_msgpack from_msgpack validate
"""


def test_the_top_has_the_names_that_users_type():
    assert set(TOP.split()) <= set(allm.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        allm.no_such_name  # noqa: B018 - it is the access that fails


def test_the_default_host_ends_with_the_interpreter():
    said = python(
        "import allm_actors as allm, asyncio\n"
        "from allm_actors.testing import script as s\n"
        "async def slow(args): await asyncio.sleep(60)\n"
        "tool = allm.Tool(name='slow', description='', schema={}, handler=slow)\n"
        "opts = {'script': [s.tool_call('slow', id='c'), s.finish('tool_calls')]}\n"
        "stream = allm.stream(allm.Engine(adapter='fake', tools=[tool], adapter_opts=opts), [allm.user('hi')])\n"
        "for event in stream:\n"
        "    if event.tag == 'tool_execution_started': break\n"
        "print('leaving')\n"
    )
    assert said == "leaving\n"


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_a_host_of_its_own():
    said = python(
        "import os, warnings, allm_actors as allm\n"
        "warnings.simplefilter('ignore')\n"
        "from allm_actors.testing import script as s\n"
        "def ask():\n"
        "    opts = {'script': [s.text('x'), s.finish('stop')]}\n"
        "    return allm.chat(allm.Engine(adapter='fake', adapter_opts=opts), [allm.user('hi')]).halted_reason\n"
        "ask()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if ask() == 'completed' else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), ask())\n"
    )
    assert said == "0 completed\n"


def test_interrupting_a_wait_is_possible():
    code = (
        "import os, signal, threading, allm_actors as allm\n"
        "from allm_actors.testing import script as s\n"
        "stream = allm.stream(allm.Engine(adapter='fake', adapter_opts={'script': [s.delay(60)]}), [allm.user('hi')])\n"
        "next(stream)\n"
        "threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try: stream.result()\n"
        "except KeyboardInterrupt: print('interrupted')\n"
    )
    assert python(code) == "interrupted\n"


def test_help_for_compact_tools_is_ours_and_everything_else_the_executors():
    ran = []

    class Executor:
        def execute(self, tool, arguments, context):
            ran.append(tool.name)
            return "executed"

    small = allm.Tool(name="small", description="Small.", schema={"required": ["x"]}, compact=True)
    asked = [calls("tool_help", names=["small"]), calls("small", y=1), calls("small", x=1), HELLO]
    result = allm.chat(fake(*asked, tools=[small]), HI, tool_executor=Executor())
    told = [message.content for message in result.thread.messages if message.role == "tool"]
    assert told[0].startswith("## small\nSmall.\nParameters")
    assert "missing required argument(s): x" in told[1]
    assert told[2] == "executed"
    assert ran == ["small"]
    assert len(result.steps) == 4


class Noted(list):
    """An executor and an encoder that is empty, so false, until it has done something."""

    def execute(self, tool, arguments, context):
        self.append(tool.name)
        return "executed"

    def encode(self, value):
        self.append(value)
        return f"encoded {value}"


@pytest.mark.parametrize("where", ["call", "engine"])
def test_an_executor_and_an_encoder_count_even_if_they_are_empty(where):
    ran, executed, encoded = [], Noted(), Noted()
    pay = allm.tool(name="pay", description="", schema={}, handler=ran.append)
    own = {"tool_executor": executed, "tool_result_encoder": encoded}
    engine = fake(calls("pay"), HELLO, tools=[pay])
    if where == "call":
        result = allm.chat(engine, HI, **own)
    else:
        result = allm.chat(engine.merge(**own), HI)
    assert result.thread.messages[2].content == "encoded executed"
    assert (executed, encoded, ran) == (["pay"], ["executed"], [])


def test_what_a_compact_tool_lacks_is_an_error_of_the_tool():
    small = allm.Tool(name="small", description="Small.", schema={"required": ["x"]}, compact=True)
    halted = allm.chat(fake(calls("small"), tools=[small]), HI, on_tool_error="halt")
    assert (halted.halted_reason, halted.metadata["halt_tool_call_id"]) == ("tool_error", "c0")
    told = []
    policy = lambda call, error: told.append(error) or ("continue", "settled")  # noqa: E731
    settled = allm.chat(fake(calls("small"), HELLO, tools=[small]), HI, on_tool_error=policy)
    assert settled.steps[0].tool_results[0].content == "settled"
    assert told[0].reason == "invalid_arguments"


def test_in_manual_mode_the_caller_answers_for_tool_help():
    small = allm.Tool(name="small", description="Small.", schema={"required": ["x"]}, compact=True)
    engine = fake(calls("tool_help", names=["small"]), HELLO, tools=[small])
    with allm.Host() as host:
        session = host.session("s", engine)
        assert session.reply("hi", mode="manual").result().halted_reason == "manual_tool_calls"
        (call,) = session.pending_tool_calls
        session.submit_tool_result(call.id, allm.ToolHelp.answer(engine.tools, call))
        assert session.continue_().result().halted_reason == "completed"
        assert session.messages[2].content.startswith("## small")


def test_a_tool_called_tool_help_is_ordinary_without_compact_ones():
    own = allm.Tool(name="tool_help", description="", schema={}, handler=lambda _: "mine")
    result = allm.chat(fake(calls("tool_help"), HELLO, tools=[own]), HI)
    assert result.steps[0].tool_results[0].content == "mine"
    small = allm.Tool(name="small", description="", schema={}, compact=True)
    with pytest.raises(allm.ValidationError, match="tools: duplicate_name"):
        allm.chat(fake(tools=[own, small]), HI)


def test_what_is_known_of_a_model():
    ref = allm.ModelRef(id="m", capabilities={"tools": {"enabled": False}}, pricing={"input": 2, "output": 4})
    counted = [
        script.text("Hello"),
        script.usage(input_tokens=1000, output_tokens=500),
        script.finish("stop"),
    ]
    engine = fake(counted, counted, counted).with_model(ref)
    result = allm.chat(engine, HI)
    assert (result.final_response.usage.input_cost, result.final_response.usage.total_cost) == (0.002, 0.004)
    assert allm.fold(allm.stream_generate(engine, HI, model=ref)).response().usage.output_cost == 0.002
    assert allm.generate(engine, HI, model="other").usage.total_cost is None
    with pytest.raises(allm.ValidationError, match="tools_disabled") as caught:
        allm.chat(engine, HI, tools=[get_weather])
    assert caught.value.reason == "unsupported_capability"
    assert allm.from_json(allm.to_json(allm.Engine(adapter="fake", model=ref))).model == ref


def test_what_is_known_of_a_requests_model():
    ref = allm.ModelRef(id="m", capabilities={"tools": False}, pricing={"input": 2, "output": 4})
    counted = [script.text("Hi"), script.usage(input_tokens=1000, output_tokens=500), script.finish("stop")]
    sent = []
    engine = fake(counted).merge(model="other", adapter_opts={"record": sent})
    own = allm.request(HI, model=ref)
    assert allm.generate(engine, own).usage.total_cost == 0.004
    assert [each.request.model for each in sent] == ["m"]
    with pytest.raises(allm.ValidationError, match="tools_disabled"):
        allm.generate(engine, own, tools=[get_weather])


@pytest.mark.parametrize("model", [3, "", allm.ModelRef(id=""), {"id": "m"}])
def test_a_request_for_what_is_no_model_is_refused(model):
    words = re.escape(f"model must be a non-empty text, or a ModelRef, got: {model!r}")
    with pytest.raises(TypeError, match=words):
        allm.generate(fake(), allm.request(HI, model=model))
    for call, request in [
        (allm.generate_image, allm.ImageRequest(prompt="x", model=model)),
        (allm.embed, allm.EmbeddingRequest(input=["x"], model=model)),
    ]:
        with pytest.raises(TypeError, match=words):
            call(allm.Engine(image_adapter="fake", embed_adapter="fake"), request)


class Returns:
    """An adapter without a name, whose `stream` returns this."""

    def __init__(self, made):
        self.made = made

    def requires_structured_finalize(self, _request):
        return False

    def stream(self, _request, _call):
        return self.made()


async def coroutine():
    return iter(())


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: None, "returned None, not an iterator of events; make it a generator"),
        (lambda: [allm.TextDelta("hi")], "returned a list, not an iterator of events; make it a generator"),
        (coroutine, "returned a coroutine, not an iterator of events; an `async def` needs a `yield`"),
    ],
    ids=["nothing", "list", "coroutine"],
)
def test_an_adapter_that_returns_no_iterator_is_told_so_by_name(made, said):
    engine = allm.Engine(Returns(made))
    with pytest.raises(allm.EngineError, match=re.escape(f"adapter 'Returns': stream(request, call) {said}")):
        allm.generate(engine, [allm.user("hi")])
    with allm.Host() as host, pytest.raises(allm.EngineError, match="not an iterator of events"):
        host.session("s", engine).reply("hi").result()


def one_by_one():
    yield MessageStarted()


async def one_by_one_later():
    yield MessageStarted()


async def all_but_one():
    yield [MessageStarted(), {"say": "hi"}]


async def pieces():
    yield {"say": "hi"}


@pytest.mark.parametrize(
    ("form", "made", "said"),
    [
        (
            "batches",
            one_by_one,
            "batches(request, call) returned an iterator that is not asynchronous; make it",
        ),
        (
            "batches",
            one_by_one_later,
            "batches(request, call) yielded a MessageStarted, not a list of events; ",
        ),
        (
            "batches",
            all_but_one,
            "it yielded a dict, which is not an event; yield objects of the event classes",
        ),
        (
            "stream",
            pieces,
            "it yielded a dict, which is not an event; yield objects of the event classes: allm.",
        ),
        (
            "stream",
            lambda: iter([{}]),
            "it yielded a dict, which is not an event; yield objects of the event",
        ),
        (
            "stream",
            lambda: iter([MessageStarted, MessageStarted()]),
            "it yielded the class MessageStarted, which is not an event",
        ),
        ("play", lambda: iter(["hi"]), "it yielded a str, which is not an event; yield objects of the event"),
    ],
)
def test_an_adapter_whose_events_are_none_is_told_what_they_must_be(form, made, said):
    adapter = Returns(made)
    setattr(adapter, form, lambda _request, _call: made())
    engine = allm.Engine(adapter)
    with allm.Host() as host:
        session = host.session("s", engine)
        for ask in (
            lambda: allm.generate(engine, HI),
            lambda: allm.chat(engine, HI),
            lambda: session.reply("hi"),
        ):
            with pytest.raises(allm.EngineError, match=re.escape(f"adapter 'Returns': {said}")) as caught:
                ask().result()
            assert caught.value.reason == "invalid_engine"


def test_what_an_adapter_said_before_it_said_what_is_no_event_is_kept():
    said = [
        MessageStarted(),
        allm.TextDelta("hi"),
        {"say": "ho"},
        allm.MessageCompleted(allm.assistant(""), "stop"),
    ]
    result = allm.chat(allm.Engine(Returns(lambda: iter(said))), HI)
    assert (result.halted_reason, result.text()) == ("error", "hi")
    assert "yielded a dict" in str(result.metadata["error"])


def test_an_adapter_that_ends_in_its_own_way_is_told_which_ways_there_are():
    ended = allm.MessageCompleted(allm.assistant("hi"), "end_turn")
    result = allm.chat(allm.Engine(Returns(lambda: iter([MessageStarted(), ended]))), HI)
    assert str(result.metadata["error"]).endswith(
        "(finish reason 'end_turn'; an adapter must give 'stop', 'length', 'tool_calls' or 'content_filter')"
    )


def test_an_adapter_without_a_name_is_shown_by_its_type():
    assert "adapter='Returns'" in repr(allm.Engine(Returns(lambda: iter(()))))
    response = allm.generate(allm.Engine(Returns(lambda: iter([allm.TextDelta("hi")]))), [allm.user("hi")])
    assert response.text() == "hi"


def test_an_adapter_may_say_all_of_its_text_at_the_end():
    said = allm.Message(role="assistant", content="hi there")
    engine = allm.Engine(Returns(lambda: iter([MessageStarted(), allm.MessageCompleted(said, "stop")])))
    assert allm.generate(engine, HI).text() == "hi there"
    result = allm.chat(engine, HI)
    assert (result.halted_reason, result.final_response.text()) == ("completed", "hi there")
    assert [message.content for message in result.thread.messages] == ["hi", "hi there"]
    events = list(allm.stream(engine, HI))
    assert allm.fold(events[:-1], allm.Thread(messages=HI)).chat_result().steps == events[-1].result.steps


class Scribbler(FakeAdapter):
    """An adapter that writes into the options of its call."""

    def __init__(self, *scripts):
        super().__init__(scripts=scripts)
        self.given = []

    def play(self, request, call):
        self.given.append(dict(call.options))
        call.options["mine"] = len(self.given)
        return super().play(request, call)


def test_what_an_adapter_writes_into_its_options_is_not_in_the_next_call():
    adapter = Scribbler(calls("get_weather", city="Paris"), HELLO)
    engine = allm.Engine(adapter, tools=[get_weather], adapter_opts={"usage": {"input_tokens": 3}})
    assert allm.chat(engine, HI).halted_reason == "completed"
    first, second = adapter.given
    assert second == first
    assert "mine" not in engine.adapter_opts


# --- whose thread it is ---------------------------------------------------------------------------------------------


class Where:
    """Notes on which threads the user's code runs."""

    def __init__(self):
        self.threads = {}

    def note(self, name):
        self.threads.setdefault(name, []).append(threading.current_thread() is threading.main_thread())


@pytest.mark.parametrize("tool", [get_weather, think], ids=["def", "async def"])
def test_an_executor_decides_where_a_tool_runs(tool):
    where = Where()

    class Blocking:
        def execute(self, tool, arguments, context):
            where.note("blocking")
            return "done"

    class Waiting:
        async def execute(self, tool, arguments, context):
            await asyncio.sleep(0)
            where.note("waiting")
            return "done"

    async def main():
        for executor in (Blocking(), Waiting()):
            result = await allm.aio.chat(
                fake(calls(tool.name), HELLO, tools=[tool]), HI, tool_executor=executor
            )
            assert result.steps[0].tool_results[0].content == "done"

    asyncio.run(main())
    assert where.threads == {"blocking": [False], "waiting": [True]}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_code_that_may_block_never_runs_on_the_callers_loop(asynchronous):
    where = Where()

    def fails():
        """Fail."""
        raise ValueError("no")

    async def afails():
        """Fail."""
        raise ValueError("no")

    def policy(call, error):
        where.note("policy")
        return "continue"

    def encoder(value):
        where.note("encoder")
        return repr(value)

    tool = allm.tool(afails if asynchronous else fails, name="fails")

    async def main():
        options = {"on_tool_error": policy, "tool_result_encoder": encoder}
        return await allm.aio.chat(fake(calls("fails"), HELLO, tools=[tool]), HI, **options)

    assert "no" in asyncio.run(main()).steps[0].tool_results[0].content
    assert where.threads == {"policy": [False], "encoder": [False]}


def test_a_blocking_call_in_an_asynchronous_tool_says_what_it_would_wait_for():
    @allm.tool
    async def agent() -> str:
        """Ask another agent."""
        return str(allm.chat(fake(calls("think", about="rain"), HELLO, tools=[think]), HI))

    result = allm.chat(fake(calls("agent"), HELLO, tools=[agent]), HI)
    assert "use `await allm.aio.…`" in result.steps[0].tool_results[0].content


def test_a_blocking_call_in_an_asynchronous_tool_is_fine_without_asynchronous_tools():
    @allm.tool
    async def agent() -> str:
        """Ask another agent."""
        return allm.chat(
            fake(calls("get_weather", city="Paris"), HELLO, tools=[get_weather]), HI
        ).halted_reason

    result = allm.chat(fake(calls("agent"), HELLO, tools=[agent]), HI)
    assert result.steps[0].tool_results[0].content == "completed"


@pytest.mark.parametrize("ends", [True, False])
def test_an_adapter_that_notices_late_that_nobody_reads_crashes_nobody(caplog, ends):
    goes_on, over = threading.Event(), threading.Event()

    class Late:
        name = "late"

        def stream(self, _request, _call):
            try:
                yield MessageStarted()
                goes_on.wait(10)
                if ends:
                    yield allm.MessageCompleted(allm.assistant("x"), "stop")
            finally:
                over.set()

    with caplog.at_level(logging.WARNING):
        stream = allm.stream_generate(allm.Engine(adapter=Late()), HI)
        next(stream)
        stream.close()
        goes_on.set()
        assert over.wait(10)
        host = default_host()
        until(lambda: not [ref for ref in host.system.processes() if "Adapter" in ref.actor_class.__name__])
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
