"""Call over engine, a request's own values over both; every option goes to one place."""

import re
from typing import Any

import pytest

from allm_actors.data import Message, ModelRef, Request, Thread, Tool
from allm_actors.engine import Engine
from allm_actors.engine.places import split
from allm_actors.engine.remote.options import deadlines_of
from allm_actors.engine.resolve import (
    call_for,
    complete_request,
    parts_of,
    prompt_cache_of,
    resolve_adapter_opts,
    resolve_model,
    resolve_model_ref,
    resolve_params,
    resolve_tools,
    step_request,
)

HI = [Message(role="user", content="hi")]


def tool(name, description=""):
    return Tool(name=name, description=description, schema={})


def test_the_model_of_request_then_call_then_engine_wins():
    engine = Engine(model="engine")
    assert resolve_model(engine, {}) == "engine"
    assert resolve_model(engine, {"model": None}) == "engine"
    assert resolve_model(engine, {"model": "call"}) == "call"
    assert resolve_model(engine, {"model": "call"}, Request(messages=HI, model="request")) == "request"


def test_what_is_known_of_a_model_is_the_requests_then_the_calls_then_the_engines():
    of_engine, of_call, of_request = (
        ModelRef(id="m", provider=name) for name in ("engine", "call", "request")
    )
    engine = Engine(model=of_engine)

    def known(options, model=None):
        request = Request(messages=HI, model=model)
        assert complete_request(engine, request, options).model == "m"
        return resolve_model_ref(engine, options, request)

    assert known({}) is known({}, "m") is of_engine
    assert known({"model": of_call}) is known({"model": of_call}, "m") is of_call
    assert known({}, of_request) is known({"model": of_call}, of_request) is of_request
    assert known({"model": "m"}) is None
    assert resolve_model_ref(engine, {}, Request(messages=HI, model="n")) is None


def test_call_tools_replace_in_place_and_follow():
    engine = Engine(tools=[tool("a"), tool("b"), tool("c")])
    resolved = resolve_tools(engine, {"tools": [tool("b", "new"), tool("d")]})
    assert [(t.name, t.description) for t in resolved] == [("a", ""), ("b", "new"), ("c", ""), ("d", "")]
    assert [t.name for t in resolve_tools(engine, {"tools": None})] == ["a", "b", "c"]


def test_call_options_win_over_params_and_none_does_not():
    engine = Engine(params={"temperature": 0.1, "top_p": 0.5, "max_turns": 3})
    assert resolve_params(engine, {"temperature": 0.9, "top_p": None, "model": "m", "api_key": "k"}) == {
        "temperature": 0.9,
        "top_p": 0.5,
        "max_turns": 3,
    }


def test_params_that_are_none_are_not_sent():
    engine = Engine(params={"top_p": None, "temperature": None, "seed": 0, "max_turns": None})
    assert resolve_params(engine, {}) == {"seed": 0}
    assert step_request(engine, HI, {}).options == {"seed": 0}
    assert complete_request(engine, Request(messages=HI), {}).options == {"seed": 0}


def test_adapter_opts_of_the_call_win_and_none_does_not():
    engine = Engine(adapter_opts={"base_url": "a", "x": 1, "y": None})
    assert resolve_adapter_opts(engine, {"adapter_opts": {"base_url": "b"}}) == {"base_url": "b", "x": 1}
    options = {"adapter_opts": {"base_url": None, "x": 0, "y": False, "z": None}}
    assert resolve_adapter_opts(engine, options) == {"base_url": "a", "x": 0, "y": False}


@pytest.mark.parametrize("name", ["stream_timeout", "connect_timeout"])
def test_a_time_that_is_none_leaves_it_to_the_next_place(name):
    engine = Engine(params={name: 1.0}, adapter_opts={name: None})
    assert call_for(engine, {name: None, "adapter_opts": {name: None}}, "r").options == {name: 1.0}


def test_every_option_goes_to_one_place():
    parts = split(
        {
            "temperature": 0,
            "mode": "auto",
            "stream_timeout": 2.0,
            "on_event": print,
            "api_key": "k",
            "top_p": 1,
            "seed": 0,
        }
    )
    assert parts.request == {"temperature": 0}
    assert parts.orchestration == {"mode": "auto"}
    assert parts.transport == {"stream_timeout": 2.0}
    assert parts.filters == {"on_event": print}
    assert parts.call == {"api_key": "k"}
    assert parts.provider == {"top_p": 1, "seed": 0}
    assert "'k'" not in repr(parts)


@pytest.mark.parametrize(
    ("near", "meant"),
    [
        ("temprature", "temperature"),
        ("maxturns", "max_turns"),
        ("tool_choise", "tool_choice"),
        ("tools_timeout", "tool_timeout"),
    ],
)
def test_a_near_miss_names_what_was_meant(near, meant):
    with pytest.raises(TypeError, match=f"'{near}'.*'{meant}'"):
        split({near: 1})


@pytest.mark.parametrize(
    ("param", "options", "cache"),
    [
        ({"retention": "long"}, {"session_id": "s1"}, {"key": "s1", "retention": "long"}),
        ({"retention": "long"}, {"prompt_cache": {"key": "x"}}, {"key": "x", "retention": "short"}),
        (None, {"prompt_cache": True}, {"key": None, "retention": "short"}),
        (None, {"prompt_cache": {}, "session_id": "s1"}, {"key": "s1", "retention": "short"}),
        (None, {"prompt_cache": {"key": "k"}, "session_id": "s1"}, {"key": "k", "retention": "short"}),
        (None, {"prompt_cache": [], "session_id": ""}, {"key": None, "retention": "short"}),
        (True, {"prompt_cache": None}, None),
        (True, {"prompt_cache": False}, None),
        (False, {}, None),
        (None, {"session_id": "s1"}, None),
        (None, {"prompt_cache": {"key": "k", "retention": None}}, {"key": "k", "retention": None}),
        (None, {"prompt_cache": {"ttl": 1}}, {"key": None, "retention": "short", "ttl": 1}),
        (None, {"prompt_cache": "bogus"}, "bogus"),
    ],
)
def test_the_prompt_cache_is_the_calls_or_else_the_engines(param, options, cache):
    engine = Engine(params={} if param is None else {"prompt_cache": param})
    assert prompt_cache_of(engine, options) == cache
    for request in (
        step_request(engine, HI, options),
        complete_request(engine, Request(messages=HI), options),
    ):
        assert request.prompt_cache == cache
        assert request.options == {}


def test_a_requests_own_prompt_cache_stays_unless_the_call_says_otherwise():
    own = {"key": "r", "retention": "long"}
    engine, asked = Engine(params={"prompt_cache": True}), Request(messages=HI, prompt_cache=own)
    assert complete_request(engine, asked, {}).prompt_cache == own
    called = complete_request(engine, asked, {"prompt_cache": True})
    assert called.prompt_cache == {"key": None, "retention": "short"}
    for off in (None, False):
        assert complete_request(engine, asked, {"prompt_cache": off}).prompt_cache is None


def test_requests_have_compact_tools_as_stubs_except_a_forced_one():
    compact = Tool(name="a", description="Does.", schema={"properties": {}}, compact=True)
    engine = Engine(tools=[compact, tool("b")])
    for options, said in [({}, "Does. Args: none"), ({"tool_choice": "a"}, "Does.")]:
        asked = step_request(engine, HI, options), complete_request(engine, Request(messages=HI), options)
        for request in asked:
            assert [(t.name, t.description) for t in request.tools][:2] == [("a", said), ("b", "")]
            assert request.tools[2].name == "tool_help"
    assert step_request(engine, HI, {}, tools=[]).tools == []


def test_what_belongs_to_the_engine_is_refused_in_a_call():
    with pytest.raises(TypeError, match="belongs to the engine"):
        split({"adapter": "openai"})


@pytest.mark.parametrize("name", ["base_url", "endpoint", "headers", "organization", "region", "transport"])
def test_where_a_request_goes_is_no_parameter_of_the_model(name):
    with pytest.raises(TypeError, match=f"adapter_opts={{'{name}'"):
        split({name: "x"})


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        *((name, "the argument after the engine") for name in ("messages", "input", "contents")),
        ("api_base", "adapter_opts={'base_url': …}"),
        ("extra_headers", "adapter_opts={'headers': …}"),
        ("extra_query", "adapter_opts={'query': …}"),
        ("extra_body", "each of its entries as an option"),
        ("output_type", "response_model=…"),
        ("result_type", "response_model=…"),
    ],
)
def test_options_of_other_libraries_say_what_to_do_instead(name, instead):
    with pytest.raises(TypeError, match=f"there is no option '{name}'; .*{re.escape(instead)}"):
        split({name: "x"})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("stream", True, "allm.stream(…)"),
        ("n", 2, "several calls"),
        ("n", "3", "several calls"),
        ("candidateCount", 3, "several calls"),
    ],
)
def test_providers_own_options_that_no_answer_could_be_read_with_are_refused(name, value, words):
    with pytest.raises(ValueError, match=f"{name} can only be .*, got: {value!r}; .*{re.escape(words)}"):
        split({name: value})
    with pytest.raises(ValueError, match=name):
        Engine("fake", params={name: value})


def test_an_answer_may_be_asked_for_in_one_piece_and_without_telling_how_many():
    given = {
        "stream": False,
        "n": None,
        "candidateCount": 1,
        "stream_options": {"include_obfuscation": False},
    }
    assert split(given).provider == given


def test_the_options_of_a_request_are_not_refused():
    own = {"messages": [], "n": 2, "stream": True}
    assert complete_request(Engine(), Request(messages=HI, options=own), {}).options == own


@pytest.mark.parametrize(
    "name", ["top_p", "n", "stop", "models", "prompt_cache_key", "max_completion_tokens", "reasoning_effort"]
)
def test_providers_own_options_pass(name):
    assert split({name: 1}).provider == {name: 1}


def test_a_step_asks_with_the_thread_the_tools_and_the_models_options():
    engine = Engine(model="m", tools=[tool("a")], params={"temperature": 0.5, "top_p": 0.9, "max_turns": 2})
    options = {
        "max_tokens": 9,
        "tool_choice": "required",
        "structured_finalize": "yes",
        "mode": "manual",
        "logprobs": True,
    }
    request = step_request(engine, Thread(messages=HI), options)
    assert request == Request(
        messages=HI,
        model="m",
        tools=[tool("a")],
        tool_choice="required",
        temperature=0.5,
        max_tokens=9,
        stream=True,
        options={"top_p": 0.9, "logprobs": True},
    )
    assert step_request(engine, HI, {"structured_finalize": True}).structured_finalize is True


def test_what_is_done_to_the_lists_of_a_request_is_done_to_nothing_else():
    engine, thread = Engine(tools=[tool("a")], params={"top_p": 0.9}), Thread(messages=[*HI])
    given, parts = [tool("b")], parts_of(engine, {})
    for request in (
        step_request(engine, thread, {}),
        step_request(engine, thread, {}, tools=given, parts=parts),
    ):
        request.messages.clear()
        request.tools.clear()
        request.options.clear()
    assert (thread.messages, given, parts.provider) == (HI, [tool("b")], {"top_p": 0.9})
    assert (resolve_tools(engine, {}), engine.params) == ([tool("a")], {"top_p": 0.9})


def test_a_step_without_tools_makes_no_choice_of_tool():
    request = step_request(Engine(tools=[tool("a")]), HI, {"tool_choice": "required"}, tools=[])
    assert (request.tools, request.tool_choice) == ([], None)


def test_a_choice_where_there_are_no_tools_is_kept_for_whoever_refuses_it():
    assert step_request(Engine(), HI, {"tool_choice": "required"}).tool_choice == "required"


def test_a_step_with_other_tools_keeps_the_choice_among_them():
    request = step_request(Engine(), HI, {"tool_choice": "required"}, tools=[tool("b")])
    assert (request.tools, request.tool_choice) == ([tool("b")], "required")


def test_a_request_gets_the_parameters_that_only_its_provider_knows():
    engine = Engine(params={"top_p": 0.9, "logprobs": True})
    asked = Request(messages=HI, options={"top_p": 0.1})
    assert complete_request(engine, asked, {}).options == {"top_p": 0.1, "logprobs": True}


def test_a_request_is_for_a_stream_whatever_it_says_itself():
    assert complete_request(Engine(), Request(messages=HI, stream=False), {}).stream is True


def test_a_request_keeps_what_it_says_and_gets_the_rest():
    engine = Engine(model="m", params={"temperature": 0.5, "top_p": 0.9}, tools=[tool("a")])
    asked = Request(messages=HI, temperature=0.0, options={"top_p": 0.1})
    got = complete_request(engine, asked, {"max_tokens": 5, "model": "n"})
    assert (got.temperature, got.max_tokens, got.model, got.options) == (0.0, 5, "n", {"top_p": 0.1})
    assert got.tools == [tool("a")]
    assert complete_request(engine, Request(messages=HI, tools=[tool("z")]), {}).tools == [tool("z")]
    unsaid = Engine(params={"structured_finalize": True, "metadata": {"of": "engine"}})
    got = complete_request(unsaid, Request(messages=HI), {})
    assert (got.structured_finalize, got.metadata) == (True, {"of": "engine"})


def test_a_call_says_otherwise_than_a_request_but_for_its_model():
    engine = Engine(params={"temperature": 0.5, "seed": 1, "top_p": 0.9}, tools=[tool("z")])
    asked = Request(
        messages=HI,
        model="r",
        temperature=0.1,
        tool_choice="none",
        response_format={"type": "json_object"},
        structured_finalize=True,
        metadata={"of": "request"},
        options={"seed": 2, "top_p": 0.2, "user": "r"},
        tools=[tool("a"), tool("b"), tool("c")],
    )
    options = {
        "model": "c",
        "temperature": 0.0,
        "tool_choice": "auto",
        "response_format": "text",
        "structured_finalize": False,
        "metadata": {"of": "call"},
        "seed": 3,
        "top_p": None,
        "tools": [tool("b", "the call's"), tool("d")],
    }
    got = complete_request(engine, asked, options)
    assert (got.model, got.temperature, got.tool_choice, got.response_format) == ("r", 0.0, "auto", "text")
    assert (got.structured_finalize, got.metadata) == (False, {"of": "call"})
    assert got.options == {"seed": 3, "top_p": 0.2, "user": "r"}
    assert got.tools == [tool("a"), tool("b", "the call's"), tool("c"), tool("d")]


def test_tools_that_a_request_has_twice_stay_so_for_validation_to_say():
    asked = Request(messages=HI, tools=[tool("a"), tool("a")])
    for options in ({}, {"tools": [tool("a", "new"), tool("b")]}):
        names = [each.name for each in complete_request(Engine(), asked, options).tools]
        assert names.count("a") == 2


@pytest.mark.parametrize("name", ["stream_timeout", "request_timeout"])
def test_a_time_may_be_an_option_or_one_of_the_adapters(name):
    def time(options, **engine):
        call = call_for(Engine(**engine), options, "r")
        assert getattr(call, name) == call.options.get(name)
        return getattr(call, name)

    held = {"params": {name: 1.0}, "adapter_opts": {name: 2.0}}
    assert time({}) is None
    assert time({}, params={name: 1.0}) == 1.0
    assert time({}, **held) == 2.0
    assert time({"adapter_opts": {name: 3.0}}, **held) == 3.0
    assert time({"adapter_opts": {name: 3.0}, name: 4.0}, **held) == 4.0


@pytest.mark.parametrize(
    ("main", "other"), [("first_byte_timeout", "receive_timeout"), ("connect_timeout", "pool_timeout")]
)
def test_the_first_place_that_sets_a_time_by_either_of_its_names_counts(main, other):
    def time(options, **engine):
        deadlines = deadlines_of(call_for(Engine(**engine), options, "r"))
        return deadlines.first_byte if main == "first_byte_timeout" else deadlines.connect

    for one, two in [(main, other), (other, main)]:
        params, opts = {"params": {one: 1.0}}, {"adapter_opts": {one: 2.0}}
        assert time({}, adapter_opts={two: 3.0}, **params) == 3.0
        assert time({"adapter_opts": {two: 3.0}}, **params, **opts) == 3.0
        assert time({two: 3.0}, **params, **opts) == 3.0
        assert time({two: 3.0, "adapter_opts": {one: 4.0}}) == 3.0
        assert time({two: None, "adapter_opts": {two: None}}, **params, **opts) == 2.0
    both = {other: 5.0, main: 6.0}
    assert time(both) == time({"adapter_opts": both}) == time({}, params=both) == 6.0


def test_a_call_knows_who_asks_and_hides_the_key():
    engine = Engine(adapter_opts={"base_url": "u", "stream_timeout": 9.0}, retry=False)
    call = call_for(engine, {"api_key": "sk-1", "stream_timeout": 2.0, "adapter_opts": {"headers": {}}}, "r1")
    assert (call.request_id, call.cursor_key, call.retry, call.stream_timeout) == (
        "r1",
        engine.id,
        False,
        2.0,
    )
    assert call.options == {"base_url": "u", "stream_timeout": 2.0, "headers": {}}
    assert call.api_key == "sk-1"
    assert "sk-1" not in repr(call)
    assert call_for(engine, {"retry": {"max_attempts": 2}}, "r").retry == {"max_attempts": 2}
    way: Any = object()
    assert call_for(engine, {}, "r", way).transport is way
