"""What is wrong gives one typed error that says what to do, in time, with nothing lost and no key shown.

Every call here runs under a deadline, against real sockets and real files. The key is a distinctive one, the servers
repeat it wherever a server could, and everything that was said anywhere is searched for it.
"""

import asyncio
import dataclasses
import itertools
import logging
import math
import os
import socket
import sqlite3
import threading
import traceback

import msgspec
import pytest

import allm_actors as allm
from allm_actors.actors.store import SQLiteStore
from allm_actors.data import ChatCompleted, ErrorEvent
from allm_actors.testing import script
from allm_actors.testing.exchanges import FAULTS, chat_completions, refusal, sse
from allm_actors.testing.loopback import LoopbackServer, Reply

SOON = 10.0
KEY = "canary-7f3a9b2c4d5e6f70819"  # not of a provider's shape, so that only knowing it can hide it
HI = [allm.user("hi")]
ANSWER = [script.text("fine"), script.finish("stop")]
FAST = {"base_delay": 0.001, "jitter": 0.0}


def within(call, seconds=SOON):
    """What `call()` returns or raises, if it does so in time."""
    came = []

    def run():
        try:
            came.append((call(), None))
        except BaseException as error:  # noqa: BLE001 - carried over to the thread of the test
            came.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert came, f"nothing came of it within {seconds} s"
    result, error = came[0]
    if error is not None:
        raise error
    return result


def refused(call, kind, *words):
    """The error that the call raises, in time, and whose message says all of the words."""
    with pytest.raises(kind) as caught:
        within(call)
    assert type(caught.value) is kind
    for word in words:
        assert word in str(caught.value)
    return caught.value


def fake(*scripts, tools=(), adapter_opts=None, **fields):
    """An engine that plays these scripts, and then answers."""
    opts = {"scripts": [*scripts, *[ANSWER] * 4], **(adapter_opts or {})}
    return allm.Engine(adapter="fake", tools=tools, adapter_opts=opts, **fields)


@pytest.fixture
def host():
    with allm.Host() as running:
        yield running


# --- the wrong thing in the wrong place ---------------------------------------------------------------------------

CALLS = ("generate", "stream_generate", "step", "stream_step", "chat", "stream")
DOORS = [(module, name) for module in ("facade", "aio") for name in CALLS]


def door(module, name):
    """A public function, as one that returns or raises in the calling thread."""
    if module == "facade":
        return getattr(allm, name)
    function = getattr(allm.aio, name)

    def call(*arguments, **options):
        async def run():
            made = function(*arguments, **options)
            return await made if asyncio.iscoroutine(made) else made

        return asyncio.run(run())

    return call


@pytest.mark.parametrize(("module", "name"), DOORS)
@pytest.mark.parametrize("engine", [None, "fake", {}, allm.Engine], ids=repr)
def test_what_is_not_an_engine(module, name, engine):
    refused(lambda: door(module, name)(engine, HI), TypeError, "expected an Engine first", "allm.Engine(")


NOT_MESSAGES = {
    "None": None,
    "a text": "hi",
    "a number": 42,
    "a dict": {"messages": []},
    "a message": allm.user("hi"),
    "a list of dicts": [{"role": "user", "content": "hi"}],
    "a list with a text": [allm.user("hi"), "there"],
}


@pytest.mark.parametrize(("module", "name"), DOORS)
@pytest.mark.parametrize("messages", list(NOT_MESSAGES))
def test_what_is_not_a_conversation(module, name, messages):
    call = door(module, name)
    error = refused(
        lambda: call(fake(), NOT_MESSAGES[messages]), allm.ValidationError, "a Thread or a list of Message"
    )
    assert error.errors == [("thread", "invalid_type")]
    assert "[allm.user('…')]" in str(error)


@pytest.mark.parametrize("module", ["facade", "aio"])
@pytest.mark.parametrize("messages", list(NOT_MESSAGES))
def test_what_is_not_a_conversation_in_a_request(module, messages):
    call = door(module, "generate")
    refused(
        lambda: call(fake(), allm.Request(messages=NOT_MESSAGES[messages])),
        allm.ValidationError,
        "a Thread or a list of Message",
    )


def test_parts_are_told_to_be_wrapped(host):
    session = host.session("s", fake())
    for parts in ([allm.TextPart(text="hi")], (allm.TextPart(text="hi"),), allm.TextPart(text="hi"), ["hi"]):
        for call in (session.reply, session.continue_):
            refused(lambda c=call, p=parts: c(p), TypeError, "wrap it: allm.user([…])")
    assert "wrap" not in str(refused(lambda: session.reply(3), TypeError, "got int"))


@pytest.mark.parametrize("name", ["step", "stream_step", "chat", "stream"])
def test_a_request_is_for_generate(name):
    refused(lambda: getattr(allm, name)(fake(), allm.request("hi")), allm.ValidationError, "Request")


@pytest.mark.parametrize("name", CALLS)
def test_nothing_to_send(name):
    error = refused(lambda: getattr(allm, name)(fake(), []), allm.ValidationError, "messages: empty")
    assert error.reason == "invalid_request"


def test_a_message_that_no_provider_takes():
    odd = allm.Message(role="nobody", content=None)
    error = refused(lambda: allm.chat(fake(), [odd]), allm.ValidationError, "role", "content")
    assert len(error.errors) == 2


def test_messages_with_an_open_call():
    open_call = allm.Message(
        role="assistant",
        content="",
        metadata={"tool_calls": [allm.ToolCall(id="c0", name="echo", arguments={})]},
    )
    refused(lambda: allm.chat(fake(), [*HI, open_call]), allm.ValidationError, "unanswered")


async def _asynchronous(*_arguments):
    raise AssertionError("nobody awaits this")


CALL = allm.ToolCall(id="c0", name="echo", arguments={})
TWO = [allm.Tool(name="echo", description="", schema={}, handler=len)] * 2
WRONG_OPTIONS = [
    ("max_turns", 0, ValueError, "positive integer"),
    ("max_turns", True, ValueError, "positive integer"),
    ("max_turns", "8", ValueError, "positive integer"),
    ("max_turns", 1.5, ValueError, "positive integer"),
    ("mode", "sideways", ValueError, "'auto', 'manual'"),
    ("max_concurrency", 0, ValueError, "positive integer"),
    ("tool_timeout", "3", ValueError, "seconds"),
    ("tool_timeout", 0, ValueError, "seconds"),
    ("tool_timeout", True, ValueError, "seconds"),
    ("tool_timeout", math.nan, ValueError, "seconds"),
    ("stream_timeout", "x", ValueError, "seconds"),
    ("request_timeout", -1, ValueError, "seconds"),
    ("halt_when", "x", TypeError, "function of one StepResult"),
    ("halt_when", 42, TypeError, "function of one StepResult"),
    ("on_event", "x", TypeError, "function of one event"),
    ("on_tool_error", "nope", ValueError, "'continue', 'halt'"),
    ("on_tool_error", ("continue",), ValueError, "'continue', 'halt'"),
    ("on_tool_error", lambda call: call, ValueError, "(tool_call, error)"),
    ("on_tool_error", _asynchronous, TypeError, "not an asynchronous one"),
    ("on_event", _asynchronous, TypeError, "not an asynchronous one"),
    ("tool_result_encoder", _asynchronous, TypeError, "to text"),
    ("tools", "echo", TypeError, "allm.tool"),
    ("tools", [len], TypeError, "allm.tool"),
    ("tools", TWO[0], TypeError, "list of Tool"),
    ("tools", TWO, allm.ValidationError, "rename"),
    ("tool_executor", "x", TypeError, "execute("),
    ("tool_result_encoder", "x", TypeError, "encode("),
    ("context", "x", TypeError, "mapping"),
    ("adapter_opts", [1], TypeError, "mapping"),
    ("metadata", "x", TypeError, "mapping"),
    ("model", 42, TypeError, "text"),
    ("request_id", 42, TypeError, "text"),
    ("session_id", "", TypeError, "text"),
    ("retry", "often", TypeError, "'default', False or a mapping"),
    ("retry", {"attempts": 3}, TypeError, "max_attempts"),
    ("emit_text_deltas", "no", TypeError, "True or False"),
    ("structured_finalize", "yes", TypeError, "True or False"),
    ("structured_finalize", True, allm.ValidationError, "requires_json_schema"),
    ("structured_finalize_nudge", 42, TypeError, "text"),
    ("temperature", 3, allm.ValidationError, "temperature"),
    ("max_tokens", 0, allm.ValidationError, "max_tokens"),
    ("response_format", "json", allm.ValidationError, "response_format"),
    ("prompt_cache", "bogus", allm.ValidationError, "prompt_cache"),
    ("prompt_cache", {"retention": None}, allm.ValidationError, "prompt_cache: invalid_shape"),
    ("prompt_cache", {"time": 3}, allm.ValidationError, "prompt_cache: invalid_shape"),
    ("max_turn", 3, TypeError, "'max_turns'"),
    ("temprature", 1, TypeError, "'temperature'"),
    ("halt_wen", len, TypeError, "'halt_when'"),
    ("apikey", KEY, TypeError, "'api_key'"),
    ("adapter", "openai", TypeError, "belongs to the engine"),
    ("system", "Be brief.", TypeError, "allm.system("),
    ("messages", [{"role": "user", "content": "evil"}], TypeError, "argument after the engine"),
    ("api_base", "http://x", TypeError, "adapter_opts={'base_url': …}"),
    ("n", 2, ValueError, "several calls"),
    ("stream", True, ValueError, "allm.stream("),
    ("when_busy", "queue", TypeError, "host.session"),
]


@pytest.mark.parametrize(
    ("name", "value", "kind", "words"), WRONG_OPTIONS, ids=[f"{o[0]}={o[1]!r:.20}" for o in WRONG_OPTIONS]
)
def test_a_wrong_option(name, value, kind, words, host):
    engine = fake()
    for call in (allm.chat, allm.stream, door("aio", "chat")):
        error = refused(lambda call=call: call(engine, HI, **{name: value}), kind, name, words)
        assert KEY not in str(error)
    session = host.session("s", engine)
    before = session.value
    refused(lambda: session.reply("hi", **{name: value}).result(), kind, name, words)
    assert session.value == before
    assert within(lambda: session.reply("hi").result()).final_response.output_text == "fine"


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, value, kind, _ in WRONG_OPTIONS if name in ("max_turns", "mode", "halt_when")],
)
def test_a_wrong_option_among_the_engines_params(name, value):
    refused(
        lambda: allm.chat(fake(params={name: value}), HI),
        ValueError if name != "halt_when" else TypeError,
        name,
    )


@pytest.mark.parametrize("value", ["x", 0, -1, True, math.nan], ids=repr)
@pytest.mark.parametrize("name", ["stream_timeout", "request_timeout"])
def test_a_wrong_time_among_an_adapters_options(name, value, host):
    wrong = {name: value}
    for opts, engine in (({}, fake(adapter_opts=wrong)), ({"adapter_opts": wrong}, fake())):
        for call in (allm.chat, allm.stream, door("aio", "chat")):
            refused(lambda c=call, e=engine, o=opts: c(e, HI, **o), ValueError, name, "seconds")
        session = host.session(f"s{len(opts)}", engine)
        refused(lambda s=session, o=opts: s.reply("hi", **o), ValueError, name, "seconds")
    slot = allm.Engine(embed_adapter="fake", adapter_opts={"request_timeout": "soon"})
    refused(lambda: allm.embed(slot, "hi"), ValueError, "request_timeout", "seconds")


OURS = [o for o in WRONG_OPTIONS if not issubclass(o[2], allm.ValidationError)]


@pytest.mark.parametrize(("name", "value", "kind", "words"), OURS, ids=[f"{o[0]}={o[1]!r:.20}" for o in OURS])
def test_a_wrong_option_is_told_before_a_missing_adapter_key_or_message(
    name, value, kind, words, monkeypatch
):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    unanswered = [allm.Message(role="assistant", content="", metadata={"tool_calls": [CALL]}), *HI]
    for engine in (allm.Engine(), allm.Engine("nobody"), allm.Engine("openai"), allm.Engine("openai:m")):
        for messages in (HI, [], unanswered):
            for call in (allm.chat, allm.step, allm.stream):
                refused(lambda c=call, e=engine, m=messages: c(e, m, **{name: value}), kind, name, words)
        refused(lambda e=engine: allm.generate(e, allm.request([]), **{name: value}), kind, name, words)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("request_timeout", -1, "seconds"),
        ("retry", {"attempts": 3}, "max_attempts"),
        ("request_id", 42, "text"),
        ("adapter_opts", [1], "mapping"),
        ("telemetry_metadata", 3, "mapping"),
        ("sizes", 3, "size"),
        ("n", "3", "whole number"),
    ],
    ids=str,
)
def test_a_wrong_option_of_a_picture_is_told_before_a_missing_adapter(name, value, words):
    for engine in (allm.Engine(), allm.Engine(image_adapter="nobody"), allm.Engine(image_adapter="openai:m")):
        with pytest.raises((TypeError, ValueError)) as caught:
            within(lambda e=engine: allm.generate_image(e, "a cat", **{name: value}))
        assert name in str(caught.value)
        assert words in str(caught.value)


def test_what_an_engine_refuses():
    refused(lambda: allm.Engine(adapter=42), TypeError, "adapter must be a name")
    refused(lambda: allm.Engine(adaptor="fake"), TypeError, "did you mean 'adapter'")
    refused(lambda: allm.Engine(tools=[len]), TypeError, "allm.tool")
    refused(lambda: allm.Engine(tools=TWO), allm.EngineError, "'echo'", "Rename")
    assert KEY not in str(refused(lambda: allm.Engine(api_key=KEY), TypeError, "never holds a key"))
    assert KEY not in str(
        refused(lambda: allm.Engine(params={"api_key": KEY}), TypeError, "never holds a key")
    )


def test_an_adapter_that_nobody_knows():
    error = refused(lambda: allm.chat(allm.Engine(adapter="opneai"), HI), allm.EngineError, "'openai'")
    assert error.reason == "unknown_adapter"
    error = refused(lambda: allm.chat(allm.Engine(), HI), allm.EngineError, "adapter=")
    assert error.reason == "missing_adapter"


def test_a_provider_without_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    engine = allm.Engine(adapter="openai:gpt-4.1-mini")
    error = refused(lambda: allm.chat(engine, HI), allm.EngineError, "OPENAI_API_KEY", "api_key=")
    assert error.reason == "missing_key"
    error = refused(lambda: allm.chat(engine, HI, api_key=lambda: None), allm.EngineError, "OPENAI_API_KEY")
    with allm.Host() as host:
        session = host.session("s", engine)
        before = session.value
        assert refused(lambda: session.reply("hi").result(), allm.EngineError, "api_key=") == error
        assert session.value == before


def test_a_source_of_keys_that_fails(host):
    def vault():
        raise RuntimeError(f"cannot unwrap {KEY}")

    engine = allm.Engine(adapter="openai:gpt-4.1-mini")
    session = host.session("s", engine, api_key=vault)
    for call in (lambda: allm.chat(engine, HI, api_key=vault), lambda: session.reply("hi").result()):
        error = refused(call, allm.EngineError, "api_key=", "RuntimeError")
        assert KEY not in "".join(traceback.format_exception(error))
    assert (session.status, session.messages) == ("idle", [])


@pytest.mark.parametrize(
    ("params", "kind", "words"),
    [
        ({"max_turn": 1}, TypeError, "'max_turns'"),
        ({"system": "x"}, TypeError, "allm.system("),
        ({"messages": []}, TypeError, "argument after the engine"),
        ({"n": 2}, ValueError, "several calls"),
        ({"tool_timeout": -1}, ValueError, "seconds"),
        ({"model": "m"}, TypeError, "Engine(model=…)"),
        ({"tools": []}, TypeError, "Engine(tools=…)"),
        ({"context": {}}, TypeError, "Engine(context=…)"),
        ({"adapter_opts": {}}, TypeError, "Engine(adapter_opts=…)"),
        ({"retry": False}, TypeError, "Engine(retry=…)"),
        ({"request_id": "r"}, TypeError, "with the call"),
        ({"when_busy": "queue"}, TypeError, "host.session("),
    ],
    ids=str,
)
def test_params_that_no_call_could_take_are_refused_with_the_engine(params, kind, words):
    refused(lambda: allm.Engine("fake", params=params), kind, words)
    ((name, value),) = params.items()
    refused(lambda: allm.Engine("fake").put_param(name, value), kind, words)
    refused(lambda: allm.Engine("fake").merge(params=params), kind, words)


def test_a_hosts_timeout_that_means_nothing():
    for timeout in (-1, "10", None, True):
        refused(
            lambda timeout=timeout: allm.Host(shutdown_timeout=timeout),
            ValueError,
            "shutdown_timeout",
            "seconds",
        )


async def _asks_a_vault():
    return KEY


def _returns_a_coroutine():
    return _asks_a_vault()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (3, "got int"),
        (KEY.encode(), "bytes"),
        ([KEY], "got list"),
        (_asks_a_vault, "an asynchronous function"),
    ],
    ids=["int", "bytes", "list", "async"],
)
def test_what_is_no_key_is_refused_at_once(host, source, words):
    engine = allm.Engine(adapter="openai:gpt-4.1-mini")
    session = host.session("s", engine)
    for call in (
        lambda: allm.chat(engine, HI, api_key=source),
        lambda: allm.stream(engine, HI, api_key=source),
        lambda: allm.embed(allm.Engine(embed_adapter="openai"), "a", model="m", api_key=source),
        lambda: host.session("t", engine, api_key=source),
        lambda: session.reply("hi", api_key=source),
    ):
        assert KEY not in str(refused(call, TypeError, "api_key=", words))
    assert "t" not in host.session_ids()


def test_a_source_of_keys_that_gives_something_else():
    engine = allm.Engine(adapter="openai:gpt-4.1-mini")
    embeds = allm.Engine(embed_adapter="openai")
    for source, kind in ((KEY.encode, "bytes"), (_returns_a_coroutine, "coroutine")):
        for call in (
            lambda source=source: allm.chat(engine, HI, api_key=source),
            lambda source=source: allm.embed(embeds, "a", model="m", api_key=source),
        ):
            error = refused(call, allm.EngineError, f"returned {kind}; it must return a key, or None")
            assert error.reason == "missing_key"


def test_a_provider_without_a_model():
    engine = allm.Engine(adapter="openai")
    error = refused(lambda: allm.chat(engine, HI, api_key=KEY), allm.EngineError, "model=")
    assert error.reason == "missing_model"


# --- tools --------------------------------------------------------------------------------------------------------


def test_a_tool_without_a_handler_says_so_to_the_model():
    tool = allm.Tool(name="later", description="", schema={})
    call = [script.tool_call("later", id="c0"), script.finish("tool_calls")]
    result = within(lambda: allm.chat(fake(call, tools=[tool]), HI))
    assert result.halted_reason == "completed"
    assert "no handler" in result.thread.messages[2].content


def test_a_tool_with_an_impossible_timeout():
    for timeout in ("3", 0, -1.5, True, math.nan):
        refused(
            lambda timeout=timeout: allm.tool(name="slow", description="", schema={}, timeout=timeout),
            ValueError,
            "'slow'",
            "timeout must be a positive number of seconds",
        )


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("effect", "zork", "'once', 'idempotent' or 'pure'"),
        ("isolation", "container", "'thread' or 'process'"),
    ],
)
def test_a_tool_with_a_word_that_means_nothing(field, value, words):
    def plain():
        return allm.Tool(name="odd", description="", schema={}, **{field: value})

    def built():
        return allm.tool(name="odd", description="", schema={}, **{field: value})

    def decorated():
        @allm.tool(name="odd", **{field: value})
        def odd() -> str:
            return ""

        return odd

    for make in (plain, built, decorated):
        refused(make, ValueError, "'odd'", f"{field} must be {words}, got: {value!r}")


def test_a_tool_may_take_for_ever():
    tool = allm.Tool(name="slow", description="", schema={}, handler=lambda _: "done", timeout=math.inf)
    call = [script.tool_call("slow", id="c0"), script.finish("tool_calls")]
    result = within(lambda: allm.chat(fake(call, tools=[tool]), HI, tool_timeout=math.inf))
    assert result.thread.messages[2].content == "done"


EXITS = [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), MemoryError()]


@pytest.mark.parametrize("error", EXITS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_tool_that_leaves_takes_nobody_along(error, asynchronous):
    def leave(_):
        raise error

    async def leave_later(_):
        await asyncio.sleep(0)
        raise error

    async def stay(_):
        return "stayed"

    leaves = allm.Tool(
        name="leaves", description="", schema={}, handler=leave_later if asynchronous else leave
    )
    stays = allm.Tool(name="stays", description="", schema={}, handler=stay)
    both = [script.tool_call("leaves", id="c0"), script.finish("tool_calls")]
    then = [script.tool_call("stays", id="c1"), script.finish("tool_calls")]
    result = within(lambda: allm.chat(fake(both, then, tools=[leaves, stays]), HI))
    assert type(error).__name__ in result.thread.messages[2].content
    assert result.thread.messages[4].content == "stayed"
    assert result.halted_reason == "completed"


def test_a_tool_cannot_change_what_was_said():
    def spoil(arguments):
        arguments["list"].append("spoilt")
        return "ok"

    tool = allm.Tool(name="spoil", description="", schema={}, handler=spoil)
    call = [script.tool_call("spoil", {"list": []}, id="c0"), script.finish("tool_calls")]
    result = within(lambda: allm.chat(fake(call, tools=[tool]), HI))
    assert result.thread.messages[1].tool_calls[0].arguments == {"list": []}


def test_a_predicate_may_be_asynchronous():
    async def enough(step):
        await asyncio.sleep(0)
        return bool(step.tool_results)

    tool = allm.Tool(name="look", description="", schema={}, handler=lambda _: "")
    call = [script.tool_call("look", id="c0"), script.finish("tool_calls")]
    assert (
        within(lambda: allm.chat(fake(call, tools=[tool]), HI, halt_when=enough)).halted_reason == "halt_when"
    )


# --- the network --------------------------------------------------------------------------------------------------

HELLO = Reply(chunks=chat_completions(text="Hello there"))
ECHO = f"You sent {KEY}, which is wrong."
HTML = {"content-type": "text/html; charset=utf-8"}
MANY = 6

# What the server does, how long it may take, and what the one error is and says.
NETWORK = {
    "401": ([refusal(401, ECHO, code="invalid_api_key")], {}, "authentication_failed", "OPENAI_API_KEY"),
    "403": ([refusal(403, ECHO)], {}, "authentication_failed", "OPENAI_API_KEY"),
    "404": ([refusal(404, ECHO)], {}, "invalid_request", "base_url"),
    "429 for long": (
        [refusal(429, ECHO, headers={"retry-after": "3600"})],
        {},
        "rate_limited",
        "Wait 3600 s",
    ),
    "429 until the attempts are used up": (
        [refusal(429, ECHO, headers={"retry-after": "0.001"})] * MANY,
        {},
        "rate_limited",
        "Wait",
    ),
    "500": ([refusal(500, ECHO)] * MANY, {}, "provider_unavailable", "try again later"),
    "503": ([refusal(503, ECHO)] * MANY, {}, "provider_unavailable", "try again later"),
    "HTML with 200": ([Reply(headers=HTML, body=ECHO.encode())], {}, "malformed_response", "base_url"),
    "HTML with 502": (
        [Reply(status=502, headers=HTML, body=ECHO.encode())] * MANY,
        {},
        "provider_unavailable",
        "later",
    ),
    "never answers": (
        [Reply(first_byte_delay=math.inf)] * MANY,
        {"adapter_opts": {"first_byte_timeout": 0.1}},
        "timeout",
        "first_byte_timeout",
    ),
    "is silent": ([FAULTS["never answers"]] * MANY, {"stream_timeout": 0.1}, "timeout", "did not begin"),
    "stalls": ([FAULTS["stalls mid-stream"]], {"stream_timeout": 0.1}, "timeout", "stream_timeout"),
    "drips": (
        [Reply(chunks=[b": \n\n"] * 1000, pace=0.01)],
        {"request_timeout": 0.2},
        "timeout",
        "request_timeout",
    ),
    "resets": ([FAULTS["resets mid-stream"]], {}, "network_error", ""),
    "is cut": ([FAULTS["closes mid-stream"]], {}, "network_error", ""),
    "ends without a finish": ([FAULTS["ends without a finish"]], {}, "network_error", ""),
    "is cut in an event": ([FAULTS["closes mid-event"]], {}, "network_error", ""),
    "an endless line": ([FAULTS["8 MiB line"]], {}, "malformed_event", ""),
    "something that is not JSON": ([FAULTS["event that is not JSON"]], {}, "malformed_event", ""),
    "an empty body": ([FAULTS["empty body"]] * MANY, {}, "malformed_response", ""),
    "an empty body that is called JSON": (
        [Reply(headers={"content-type": "application/json"}, body=b" ")] * MANY,
        {},
        "malformed_response",
        "OpenAI answered with an empty body",
    ),
    "a picture": (
        [Reply(headers={"content-type": "image/png"}, body=b"\x89PNG")],
        {},
        "malformed_response",
        "image/png",
    ),
    "an error in the stream": (
        [Reply(chunks=[*chat_completions(text="Hel")[:2], *sse({"error": {"message": ECHO}}, done=False)])],
        {},
        "unknown",
        "",
    ),
}


def everything(*values):
    """All that a program, an operator or a debugger could see of these values."""
    for value in values:
        yield repr(value)
        yield str(value)
        if isinstance(value, BaseException):
            yield "".join(traceback.format_exception(value))
            yield repr(value.to_fields())
        elif isinstance(value, msgspec.Struct) and not hasattr(value, "tag"):
            yield allm.to_json(value)
            yield repr(allm.to_msgpack(value))


def shows_no_key(caplog, capfd, *values):
    """Nothing that was said, stored or logged holds the key."""
    for text in everything(*values):
        assert KEY not in text
    assert KEY not in caplog.text
    for record in caplog.records:
        assert KEY not in repr(record.__dict__)
    said = capfd.readouterr()
    assert KEY not in said.out
    assert KEY not in said.err


def openai(server, **opts):
    """An engine whose provider is this server."""
    url = server if isinstance(server, str) else server.url
    return allm.Engine(
        adapter="openai:gpt-4.1-mini", retry=FAST, adapter_opts={"base_url": f"{url}/v1", **opts}
    )


@pytest.mark.parametrize("fault", list(NETWORK))
def test_a_provider_that_fails(fault, caplog, capfd):
    replies, options, reason, words = NETWORK[fault]
    caplog.set_level(logging.DEBUG)
    with LoopbackServer(replies) as server:
        events = within(lambda: list(allm.stream(openai(server), HI, api_key=KEY, **options)))
        server.wait_for(lambda s: s.connections <= 1)
    failures = [event.error for event in events if isinstance(event, ErrorEvent)]
    result = events[-1].result
    assert isinstance(events[-1], ChatCompleted)
    assert [error.reason for error in failures] == [reason]
    assert words in str(failures[0])
    assert failures[0].provider == "openai"
    assert result.halted_reason == "error"
    assert result.metadata["error"] == failures[0]
    assert result.thread.messages[:1] == HI
    shows_no_key(caplog, capfd, result, *events, *failures, server.requests)


@pytest.mark.parametrize("fault", ["401", "HTML with 502", "stalls", "resets", "an endless line"])
def test_a_session_outlives_its_provider(fault, caplog, capfd, tmp_path):
    replies, options, reason, _ = NETWORK[fault]
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "sessions.db"
    replies = replies[: 3 if replies[0].status >= 500 else 1]
    with LoopbackServer([*replies, HELLO]) as server, allm.Host(store=path) as host:
        session = host.session("s", openai(server), api_key=lambda: KEY)
        result = within(session.reply("hi", **options).result)
        assert (result.halted_reason, session.status) == ("error", "error")
        assert session.value.metadata["error"].reason == reason
        error = refused(lambda: session.reply("again?").result(), allm.SessionError, "recover")
        assert error.reason == "session_in_error_state"
        within(session.recover)
        again = within(session.reply("again?").result)
        assert again.final_response.output_text == "Hello there"
        assert [m.content for m in session.messages if m.role == "user"] == ["hi", "again?"]
        shows_no_key(caplog, capfd, result, again, session.value, session, error)
        kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"again?" in kept
    assert KEY.encode() not in kept


def test_an_unreachable_port(caplog, capfd):
    engine = openai("http://127.0.0.1:9")
    result = within(lambda: allm.chat(engine, HI, api_key=KEY))
    assert result.metadata["error"].reason == "network_error"
    assert "127.0.0.1:9" in str(result.metadata["error"])
    shows_no_key(caplog, capfd, result, engine)


def test_a_base_url_that_is_none():
    error = refused(
        lambda: allm.chat(openai("ftp://example.org"), HI, api_key=KEY), allm.EngineError, "http://"
    )
    assert error.reason == "invalid_engine"


def test_429_is_waited_for_when_that_is_short():
    busy = refusal(429, "slow down", headers={"retry-after": "0.05"})
    with LoopbackServer([busy, HELLO]) as server:
        events = within(lambda: list(allm.stream(openai(server), HI, api_key=KEY)))
    assert events[-1].result.final_response.output_text == "Hello there"
    assert not any(isinstance(event, ErrorEvent) for event in events)


def test_what_came_before_the_fault_is_kept():
    with LoopbackServer([FAULTS["resets mid-stream"]]) as server:
        result = within(lambda: allm.chat(openai(server), HI, api_key=KEY))
    said = result.thread.messages[-1]
    assert (said.role, said.metadata["finish_reason"]) == ("assistant", "error")
    assert said.content == "Hello there, "


def test_a_key_is_asked_for_at_each_model_call_and_kept_nowhere(caplog, capfd, tmp_path):
    caplog.set_level(logging.DEBUG)
    keys = (f"{KEY}-{number}" for number in itertools.count())
    call = allm.ToolCall(id="c0", name="spy", arguments={})
    seen = []

    def spy(arguments, context):
        seen.append(repr(context))
        return "seen"

    tool = allm.Tool(name="spy", description="", schema={}, handler=spy)
    turns = [Reply(chunks=chat_completions(tool_calls=[call])), HELLO]
    with LoopbackServer(turns) as server, allm.Host(store=tmp_path / "s.db") as host:
        session = host.session("s", openai(server).put_tools(tool), api_key=lambda: next(keys))
        result = within(session.reply("hi").result)
        sent = [request.headers["authorization"] for request in server.requests]
        shows_no_key(caplog, capfd, result, session, session.value, session.engine, *seen, host.tree())
    assert sent == [f"Bearer {KEY}-0", f"Bearer {KEY}-1"]
    assert len(seen) == 1


# --- the store ----------------------------------------------------------------------------------------------------


def opens(store):
    """Start a host over this store, and stop it."""
    with allm.Host(store=store):
        pass


def test_what_is_not_a_store():
    refused(lambda: allm.Host(store=42), TypeError, "None, a path or a Store")
    refused(lambda: allm.Host(dispatcher="fast"), ValueError, "'loop', 'pool', 'threads'")


def test_a_file_that_is_no_database(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("my notes " * 200)
    error = refused(lambda: opens(path), allm.StoreError, str(path), "another path")
    assert error.reason == "not_a_store"
    assert path.read_text() == "my notes " * 200


def test_a_database_of_another_program(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE accounts (id)")
    db.close()
    before = path.read_bytes()
    assert refused(lambda: opens(path), allm.StoreError, "another program").reason == "not_a_store"
    assert path.read_bytes() == before


def test_a_store_of_a_newer_version(tmp_path):
    path = tmp_path / "sessions.db"
    opens(path)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    assert refused(lambda: opens(path), allm.StoreError, "99", "upgrade").reason == "newer_schema"


@pytest.mark.parametrize("place", ["missing/sessions.db", "."])
def test_a_place_that_cannot_be_written(place, tmp_path):
    error = refused(lambda: opens(tmp_path / place), allm.StoreError, "folder")
    assert error.reason == "unavailable"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    assert refused(lambda: opens(tmp_path / "s.db"), allm.StoreError, "written").reason == "unavailable"


def test_a_store_that_another_program_holds(tmp_path):
    path = tmp_path / "sessions.db"
    with allm.Host(store=SQLiteStore(path, patience=0.05)) as host:
        session = host.session("s", fake())
        within(session.reply("one").result)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        before = session.value
        error = refused(lambda: session.reply("two"), allm.StoreError, "another process")
        assert error.reason == "locked"
        assert session.value == before
        other.execute("ROLLBACK")
        other.close()
        assert within(session.reply("three").result).halted_reason == "completed"
        expected = session.value
    with allm.Host(store=path) as host:
        assert host.session("s", fake()).value == expected


def test_a_session_that_was_damaged_does_not_hurt_the_others_and_is_one_error_in_the_log(tmp_path, caplog):
    path = tmp_path / "sessions.db"
    with allm.Host(store=path) as host:
        within(host.session("bad", fake()).reply("hi").result)
    db = sqlite3.connect(path)
    db.execute("UPDATE messages SET body = x'00ff'")
    db.commit()
    db.close()
    with allm.Host(store=path) as host:
        error = refused(lambda: host.session("bad", fake()), allm.StoreError, "'bad'")
        assert error.reason == "corrupt"
        assert within(host.session("good", fake()).reply("hi").result).halted_reason == "completed"
    (line,) = (record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)
    assert line.startswith("start_error: SessionActor#")
    assert "('sessions', 'bad') StoreError('corrupt'" in line
    assert "child 'bad' of Crowd#" in line


def test_a_message_that_cannot_be_stored(tmp_path):
    odd = allm.Message(role="user", content="hi", metadata={"window": object()})
    with allm.Host(store=tmp_path / "s.db") as host:
        session = host.session("s", fake())
        before = session.value
        refused(lambda: session.reply(odd).result(), TypeError, "window")
        assert session.value == before
        assert within(session.reply("hi").result).halted_reason == "completed"


# --- sessions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["", None, 42, b"s"], ids=repr)
def test_a_session_without_a_name(id, host):
    refused(lambda: host.session(id, fake()), TypeError, "must be a non-empty text")
    session = host.session("s", fake())
    refused(lambda: session.fork(id), TypeError, "must be a non-empty text")


def test_a_session_of_the_wrong_kind(host):
    refused(lambda: host.session("s", "fake"), TypeError, "allm.Engine(")
    refused(lambda: host.session("s", fake(), when_busy="wait"), ValueError, "'queue', 'reject'")
    refused(lambda: host.session("s", fake(), queue_limit="many"), ValueError, "whole number")


@pytest.mark.parametrize("message", [None, 42, ["hi"], {}, b"hi"], ids=repr)
def test_a_reply_that_is_no_text(message, host):
    session = host.session("s", fake())
    refused(lambda: session.reply(message), TypeError, "text or a Message")
    assert (session.status, session.messages) == ("idle", [])


def test_a_reply_of_somebody_else(host):
    session = host.session("s", fake())
    for message in (allm.assistant("no"), allm.system("no"), allm.tool_result("c0", "no")):
        refused(lambda message=message: session.reply(message), ValueError, message.role, "continue_")
    assert session.messages == []


def test_a_message_that_cannot_be_sent_leaves_the_session_as_it_was(host):
    session = host.session("s", fake())
    odd = allm.Message(role="user", content=None)
    refused(lambda: session.reply(odd).result(), allm.ValidationError, "content")
    assert (session.status, session.messages) == ("idle", [])
    assert within(session.reply("hi").result).halted_reason == "completed"


MANUAL = allm.Tool(name="approve", description="", schema={}, manual=True)
ASKS = allm.Tool(name="asks", description="", schema={}, handler=lambda _: allm.AskUser("which?"))


def test_what_awaits_tools_takes_nothing_but_their_results(host):
    call = [script.tool_call("approve", id="m1"), script.finish("tool_calls")]
    session = host.session("s", fake(call, tools=[MANUAL]))
    within(session.reply("hi").result)
    before = session.value
    assert before.status == "awaiting_tools"
    for operation in (
        lambda: session.reply("well?"),
        session.step,
        session.continue_,
        lambda: session.continue_("well?"),
    ):
        refused(lambda operation=operation: operation().result(), allm.SessionStatusError, "m1")
    unknown = refused(lambda: session.submit_tool_result("m2", "x"), allm.SessionError, "m2", "m1")
    assert unknown.reason == "unknown_tool_call_id"
    refused(lambda: session.submit_tool_results([("m1", "x"), ("m1", "x")]), allm.SessionError, "pending")
    for wrong in (42, None, "m1", [42], [("m1",)], [(42, "x")]):
        refused(lambda wrong=wrong: session.submit_tool_results(wrong), TypeError, "got")
    assert session.value == before
    within(lambda: session.submit_tool_result("m1", "x"))
    assert session.status == "idle"


def test_what_awaits_the_user_takes_nothing_but_a_reply(host):
    call = [script.tool_call("asks", id="c0"), script.finish("tool_calls")]
    session = host.session("s", fake(call, tools=[ASKS]))
    within(session.reply("hi").result)
    before = session.value
    assert before.status == "awaiting_user"
    for operation in (session.step, session.continue_, lambda: session.continue_(allm.assistant("no"))):
        refused(lambda operation=operation: operation().result(), allm.SessionStatusError, "reply")
    refused(lambda: session.submit_tool_result("c0", "x"), allm.SessionStatusError, "no tool call is pending")
    assert session.value == before


def test_what_ended_in_an_error_says_how_to_go_on(host):
    session = host.session("s", fake([script.error("timeout")]))
    within(session.reply("hi").result)
    before = session.value
    assert before.status == "error"
    for operation in (
        lambda: session.reply("well?").result(),
        lambda: session.step().result(),
        lambda: session.continue_().result(),
        lambda: session.submit_tool_result("c0", "x"),
    ):
        assert refused(operation, allm.SessionError, "recover").reason == "session_in_error_state"
    assert session.value == before


def test_submitting_where_nothing_is_pending(host):
    session = host.session("s", fake())
    refused(lambda: session.submit_tool_result("c0", "x"), allm.SessionStatusError, "no tool call is pending")


def test_a_fork_over_another_session(host):
    one, two = host.session("one", fake()), host.session("two", fake())
    within(two.reply("mine").result)
    before = two.value
    refused(lambda: one.fork("two"), allm.SessionError, "'two'", "another name")
    refused(lambda: one.fork("one"), allm.SessionError, "'one'", "another name")
    host.session("silent", fake())
    refused(lambda: one.fork("silent"), allm.SessionError, "'silent'", "another name")
    assert two.value == before


# --- hosts --------------------------------------------------------------------------------------------------------


def test_a_host_that_was_not_started():
    host = allm.Host()
    for use in (
        lambda: host.session("s", fake()),
        host.session_ids,
        host.stored_sessions,
        host.tree,
        lambda: host.system,
    ):
        refused(use, allm.EngineError, "`with`")
    within(host.stop)


def test_a_host_that_was_stopped():
    with allm.Host() as host:
        session = host.session("s", fake())
        within(session.reply("hi").result)
        unread, queued = session.reply("more"), session.reply("and more")
    for turn in (unread, queued):
        assert within(turn.result).halted_reason == "interrupted"
        assert isinstance(list(turn), list)
    for use in (
        lambda: session.reply("hi"),
        session.continue_,
        session.step,
        lambda: host.session("s", fake()),
    ):
        refused(use, allm.EngineError, "`with`")
    for use in (lambda: session.submit_tool_result("c0", "x"), lambda: session.fork("t"), session.recover):
        refused(use, allm.SessionError, "host.session(")
    within(session.cancel)
    within(session.stop)
    within(host.stop)
    assert [m.content for m in session.messages if m.role == "user"] == ["hi", "more"]
    with host:
        again = host.session("s", fake())
        assert within(again.reply("there").result).halted_reason == "completed"


def test_a_stopped_host_on_the_callers_loop():
    async def run():
        async with allm.Host() as host:
            session = host.session("s", fake())
            await session.reply("hi")
            unread = session.reply("more")
        assert (await unread).halted_reason == "interrupted"
        with pytest.raises(allm.EngineError, match="with"):
            session.reply("hi")
        with pytest.raises(allm.SessionError, match="get it again with host"):
            await session.submit_tool_result("c0", "x")

    within(lambda: asyncio.run(run()))


def test_a_name_that_no_file_can_hold_is_refused_and_harms_nobody(tmp_path):
    with allm.Host(store=tmp_path / "s.db") as host:
        session = host.session("good", fake())
        for bad in ("", None, 5):
            refused(lambda bad=bad: host.session(bad, fake()), TypeError, "a session's id")
        for call in (lambda: host.session("a\ud800", fake()), lambda: session.fork("a\ud800")):
            refused(call, ValueError, "'a\\ud800'")
        assert within(session.reply("hi").result).halted_reason == "completed"


@pytest.mark.parametrize("manual", [False, True])
def test_a_file_whose_name_is_no_text_may_be_told_of_and_the_talk_goes_on(tmp_path, manual):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / os.fsdecode(b"caf\xe9.txt")).touch()  # a name in Latin-1, as an old disk has it

    def listed(*_):
        return "\n".join(path.name for path in (tmp_path / "docs").iterdir())

    look = allm.Tool(name="look", description="", schema={}, handler=listed, manual=manual)
    call = allm.ToolCall(id="c1", name="look", arguments={})
    asks = Reply(chunks=chat_completions(tool_calls=[call]))
    with LoopbackServer([asks, HELLO, HELLO, HELLO]) as server, allm.Host(store=tmp_path / "s.db") as host:
        options = {"base_url": server.url}
        session = host.session(
            "s", allm.Engine("openai-compatible:m", tools=[look], adapter_opts=options), api_key=KEY
        )
        ended = within(session.reply("What is there?").result)
        if manual:
            assert ended.halted_reason == "manual_tool_calls"
            session.submit_tool_result("c1", listed())
            ended = within(session.continue_().result)
        assert ended.halted_reason == "completed"
        assert within(session.reply("Thank you.").result).halted_reason == "completed"
        assert [each.content for each in session.messages if each.role == "tool"] == ["caf\ufffd.txt"]
        assert "caf\ufffd.txt" in server.requests[-1].body.decode()


@pytest.mark.parametrize("tools", [["x"], "x", 7, [None]])
def test_the_tools_of_a_request_are_tools(tools):
    engine = allm.Engine("fake", adapter_opts={"script": [script.finish("stop")]})
    with pytest.raises(TypeError, match="tools must be a list of Tool values"):
        allm.generate(engine, allm.request("hi", tools=tools))


# --- the likeliest first mistakes ---------------------------------------------------------------------------------


@dataclasses.dataclass
class Cat:
    name: str


@dataclasses.dataclass
class Dog:
    name: str


def pets(pet: Cat | Dog) -> str:
    """Look after a pet."""
    return pet.name


def scripted(*entries):
    return allm.Engine("fake", adapter_opts={"script": entries})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: allm.Engine("openai", base_url="http://x"), "give it in adapter_opts={'base_url': …}"),
        (lambda: allm.Engine("openai", stream_timeout=1), "give it in adapter_opts={'stream_timeout': …}"),
        (
            lambda: allm.Engine("openai", temperature=0.5),
            "give it in params={'temperature': …}, or with the call",
        ),
        (lambda: allm.Engine("openai", max_turns=3), "give it in params={'max_turns': …}, or with the call"),
        (lambda: allm.Engine("openai", tool=[]), "did you mean 'tools'?"),
        (lambda: allm.Engine("openai", system="Be brief."), "has no field 'system'; begin the messages with"),
        (
            lambda: allm.Engine("openai", instructions="Be brief."),
            "no field 'instructions'; begin the messages",
        ),
        (lambda: allm.Engine("openai", system_prompt="Be brief."), "a session's with host.session("),
        (lambda: allm.Engine("openai", name="agent"), "host.session(name, engine)"),
        (lambda: allm.Engine("openai", output_type=Cat), "response_model=…"),
        (lambda: allm.Engine("openai", result_type=Cat), "give the type of the answer as response_model="),
        (lambda: allm.Engine("openai", api_base="http://x"), "adapter_opts={'base_url': …}"),
        (lambda: allm.tool(pets), "make the union a field of a pydantic model"),
        (
            lambda: allm.generate(scripted(*ANSWER), HI, response_model=Cat("a")),
            "it is a value; give its class, Cat",
        ),
    ],
)
def test_the_first_mistakes_are_told_what_to_do(call, words):
    refused(call, TypeError, words)


def test_a_field_like_no_other_is_told_the_main_ones():
    said = str(
        refused(lambda: allm.Engine("openai", zzz=1), TypeError, "params, context", "help(allm.Engine)")
    )
    assert "transcription_model" not in said


def test_what_engines_are_told_to_do_works():
    engine = allm.Engine(
        "fake", params={"temperature": 0.5, "max_turns": 3}, adapter_opts={"stream_timeout": 1}
    )
    assert engine.params == {"temperature": 0.5, "max_turns": 3}


def test_a_script_without_an_end_says_how_to_end_it():
    result = allm.chat(scripted(script.text("x")), HI)
    assert "a script ends with script.finish(…)" in str(result.metadata["error"])


def test_https_to_a_server_that_speaks_http_says_so():
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer():
            connection, _ = plain.accept()
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        url = f"https://127.0.0.1:{plain.getsockname()[1]}"
        response = within(lambda: allm.generate(openai(url), HI, api_key=KEY, retry=False))
    assert "the server probably speaks http:// and not https://" in str(response.metadata["error"])


def test_a_session_in_an_error_is_told_how_to_recover():
    with allm.Host() as host:
        session = host.session("s", scripted(script.error("timeout")))
        session.reply("hi").result()
        refused(lambda: session.reply("hi").result(), allm.SessionError, "session.recover() in a host")
