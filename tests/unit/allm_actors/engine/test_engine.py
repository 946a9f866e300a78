"""An engine is configuration: immutable, checked, and without a key."""

import json
import math
import pickle
import re
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.data import EngineError, ModelRef, Tool, ValidationError
from allm_actors.data.codec import from_json, from_msgpack, to_json, to_msgpack
from allm_actors.engine import Engine
from allm_actors.engine.adapters import find_adapter, find_capable
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.engine.fake import FakeAdapter
from allm_actors.engine.kinds import check_kinds
from allm_actors.engine.retry import RetryPolicy, policy_of
from allm_actors.testing.script import text, tool_call


def tool(name, description=""):
    return Tool(name=name, description=description, schema={})


class Executor:
    def execute(self, tool, arguments, context):
        return None


def test_engines_have_ids_of_their_own_and_keep_them_when_derived():
    one, two = Engine(), Engine()
    assert 0 < one.id < two.id
    assert one != two
    derived = one.put_tools([tool("a")]).put_param("temperature", 0.2).put_context("user", 7).with_model("m")
    assert derived.id == one.id
    assert (one.tools, one.params, one.context, one.model) == ((), {}, {}, None)
    assert (derived.params, derived.context, derived.model) == ({"temperature": 0.2}, {"user": 7}, "m")


def test_the_fields_may_be_given_in_their_order():
    tool = Tool(name="a", description="", schema={})
    engine = Engine("fake", "m", [tool], {"max_turns": 2}, {"user": "ada"}, {"script": []}, False)
    assert (engine.adapter, engine.model, engine.tools) == ("fake", "m", (tool,))
    assert (engine.params, engine.context) == ({"max_turns": 2}, {"user": "ada"})
    assert (engine.adapter_opts, engine.retry) == ({"script": []}, False)


def test_an_adapter_name_may_carry_the_model():
    engine = Engine("openrouter:meta-llama/llama-3:free")
    assert (engine.adapter, engine.model) == ("openrouter", "meta-llama/llama-3:free")
    assert Engine("openai:gpt-4.1", model="o3").model == "o3"
    assert Engine(adapter="openai").model is None


def test_merge_replaces_tools_in_place_and_merges_mappings():
    engine = Engine(tools=[tool("a"), tool("b"), tool("c")], params={"x": 1, "y": 1}, model="m")
    merged = engine.merge(tools=[tool("b", "new"), tool("d")], params={"y": 2}, model="n", retry=False)
    assert [(t.name, t.description) for t in merged.tools] == [("a", ""), ("b", "new"), ("c", ""), ("d", "")]
    assert (merged.params, merged.model, merged.retry, merged.id) == ({"x": 1, "y": 2}, "n", False, engine.id)


@pytest.mark.parametrize(
    ("slot", "model"),
    [("adapter", "model"), *((each.slot, each.model_slot) for each in CAPABILITIES.values())],
)
def test_merge_takes_the_model_that_an_adapters_name_says_and_else_keeps_its_own(slot, model):
    engine = Engine(**{slot: "openai:old"})

    def merged(**options):
        made = engine.merge(**options)
        return getattr(made, slot), getattr(made, model)

    assert merged(**{slot: "groq:new"}) == ("groq", "new")
    assert merged(**{slot: "groq:new", model: None}) == ("groq", "new")
    assert merged(**{slot: "groq:new", model: "other"}) == ("groq", "other")
    assert merged(**{slot: "groq"}) == merged(**{slot: "groq:"}) == ("groq", "old")
    assert merged(params={"top_p": 1}) == ("openai", "old")
    assert merged(**{model: None}) == ("openai", None)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"modle": "x"}, ["modle", "model"]),
        ({"tool": []}, ["tool", "tools"]),
        ({"api_key": "sk-1"}, ["api_key", "never holds a key"]),
        ({"adapter_opts": {"api_key": "sk-1"}}, ["adapter_opts", "api_key="]),
        ({"params": []}, ["params", "mapping"]),
        ({"tools": [print]}, ["Tool"]),
        ({"adapter": FakeAdapter}, ["FakeAdapter", "call it"]),
        ({"adapter": 7}, ["7", "stream"]),
        ({"retry": {"max_attempt": 3}}, ["max_attempt", "max_attempts"]),
        ({"retry": {"base_delay_ms": 3}}, ["base_delay_ms", "base_delay", "seconds"]),
        ({"retry": "often"}, ["often"]),
        ({"retry": []}, ["retry", "mapping", "[]"]),
        ({"retry": 1}, ["retry", "mapping", "1"]),
        ({"retry": 0}, ["retry", "mapping", "0"]),
        ({"model": 3}, ["model", "ModelRef", "3"]),
        ({"model": ""}, ["model", "non-empty"]),
        ({"tool_executor": 3}, ["tool_executor", "execute(tool, arguments, context)", "3"]),
        ({"tool_executor": "mine"}, ["tool_executor", "execute(", "'mine'"]),
        ({"tool_executor": Executor}, ["tool_executor", "an object with execute("]),
        ({"tool_result_encoder": 3}, ["tool_result_encoder", "encode(value)", "3"]),
        ({"tool_result_encoder": "json"}, ["tool_result_encoder", "encode(value)", "'json'"]),
        ({"tools": 3}, ["tools", "list of Tool", "int"]),
        ({"tools": "echo"}, ["tools", "list of Tool", "str"]),
        ({"tools": tool("a")}, ["tools", "list of Tool", "Tool"]),
        ({"id": "x"}, ["id", "whole number", "'x'"]),
        ({"id": True}, ["id", "whole number", "True"]),
    ],
)
def test_what_cannot_be_is_refused_when_the_engine_is_built(arguments, names):
    with pytest.raises(TypeError) as refused:
        Engine(**arguments)
    assert all(name in str(refused.value) for name in names)
    assert "sk-1" not in str(refused.value)


def test_a_class_whose_execute_needs_no_object_executes():
    class Own:
        execute = staticmethod(lambda tool, arguments, context: None)

    class Bound:
        @classmethod
        def execute(cls, tool, arguments, context):
            return None

    for executor in (Own, Bound, Executor()):
        assert Engine(tool_executor=executor).tool_executor is executor


def test_what_is_no_tool_is_refused_when_it_is_added():
    for tools in (3, "echo", [print]):
        with pytest.raises(TypeError, match=r"see allm\.tool"):
            Engine().put_tools(tools)
        with pytest.raises(TypeError, match=r"see allm\.tool"):
            Engine().merge(tools=tools)


def test_two_tools_of_one_name_are_refused():
    with pytest.raises(EngineError, match="two tools are named 'a'") as refused:
        Engine(tools=[tool("a"), tool("a")])
    assert refused.value.reason == "invalid_engine"
    with pytest.raises(EngineError):
        Engine(tools=[tool("a")]).put_tools(tool("a"))


def test_what_is_given_is_copied():
    params = {"x": 1}
    engine = Engine(params=params)
    params["x"] = 2
    assert engine.params == {"x": 1}
    with pytest.raises(AttributeError):
        engine.model = "m"


def test_repr_shows_no_values_that_could_be_secret():
    engine = Engine("openai:m", adapter_opts={"headers": {"x": "sk-secret"}}, params={"user": "sk-secret"})
    assert "sk-secret" not in repr(engine)
    assert "'headers': …" in repr(engine)


def test_an_engine_that_is_refused_has_a_repr_for_those_who_show_the_variables_of_a_traceback():
    with pytest.raises(TypeError) as refused:
        Engine("openai", model=3)
    shown = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
    assert "Engine that was not made" in "".join(shown.format())


@pytest.mark.parametrize(
    "there_and_back",
    [lambda e: from_json(to_json(e)), lambda e: from_msgpack(to_msgpack(e))],
    ids=["json", "msgpack"],
)
def test_an_engine_is_stored_like_any_value(there_and_back):
    engine = Engine(
        "fake:m",
        tools=[tool("a")],
        adapter_opts={"script": [text("hi"), tool_call("a", {"n": 1})]},
        retry={"max_attempts": 2},
        context={"user": 7},
    )
    assert there_and_back(engine) == engine
    assert pickle.loads(pickle.dumps(engine)) == engine


def test_an_engine_with_handlers_or_objects_is_not_stored():
    for engine in (
        Engine(tools=[Tool(name="a", description="", schema={}, handler=print)]),
        Engine(FakeAdapter()),
        Engine(tool_result_encoder=str),
    ):
        with pytest.raises(TypeError):
            to_json(engine)


def test_an_engine_of_the_elixir_library_is_read_and_written_as_it_writes_it():
    text = to_json(Engine("fake", adapter_opts={"request_timeout": 1000}, id=17, retry={"max_attempts": 2}))
    assert '"adapter":"Elixir.ALLM.Providers.Fake"' in text
    assert '"adapter_opts":[["request_timeout",1000]]' in text
    assert '"retry":[["max_attempts",2]]' in text
    fields = {
        "adapter": "Elixir.ALLM.Providers.OpenAI",
        "tool_executor": "Elixir.ALLM.ToolExecutor.Default",
        "tool_result_encoder": "Elixir.ALLM.ToolResultEncoder.JSON",
        "adapter_opts": [["a", 1]],
        "middleware": [],
        "retry": "default",
        "id": None,
    }
    engine = from_json(json.dumps({"__type__": "ALLM.Engine", "data": fields}))
    assert (engine.adapter, engine.tool_executor, engine.adapter_opts) == ("openai", None, {"a": 1})


def read(**fields):
    return from_json(json.dumps({"__type__": "ALLM.Engine", "data": fields}))


MODULES = [
    ("adapter", "fake", "Fake"),
    ("adapter", "openai", "OpenAI"),
    ("adapter", "anthropic", "Anthropic"),
    ("adapter", "gemini", "Gemini"),
    ("image_adapter", "fake", "FakeImages"),
    ("image_adapter", "openai", "OpenAI.Images"),
    ("image_adapter", "gemini", "Gemini.Images"),
    ("embed_adapter", "fake", "FakeEmbeddings"),
    ("embed_adapter", "voyage", "Voyage.Embeddings"),
    ("moderation_adapter", "openai", "OpenAI.Moderation"),
    ("speech_adapter", "elevenlabs", "ElevenLabs.Speech"),
    ("transcription_adapter", "gemini", "Gemini.Transcription"),
    ("classification_adapter", "fake", "FakeClassification"),
]


@pytest.mark.parametrize(("slot", "name", "module"), MODULES, ids=[module for *_, module in MODULES])
def test_adapters_are_modules_to_the_elixir_library(slot, name, module):
    text = f"Elixir.ALLM.Providers.{module}"
    assert json.loads(to_json(Engine(**{slot: name})))["data"][slot] == text
    assert getattr(read(**{slot: text}), slot) == name
    assert find(slot, name) is not None


def find(slot, name):
    row = next((row for row in CAPABILITIES.values() if row.slot == slot), None)
    return find_adapter(name) if row is None else find_capable(row, name)


def test_an_adapter_without_a_module_is_written_by_its_name():
    engine = Engine("groq:m", embed_adapter="cohere")
    assert json.loads(to_json(engine))["data"]["embed_adapter"] == "cohere"
    assert from_json(to_json(engine)) == engine


def test_the_retry_of_an_elixir_engine_is_read_in_seconds():
    theirs = [
        ["max_attempts", 5],
        ["base_delay_ms", 500],
        ["max_delay_ms", 30_000],
        ["jitter_ms", 250],
        ["retry_on", [429, "timeout"]],
        ["respect_retry_after", False],
    ]
    engine = read(retry=theirs)
    assert policy_of(engine.retry) == RetryPolicy(
        max_attempts=5,
        base_delay=0.5,
        max_delay=30.0,
        jitter=0.25,
        retry_on=(429, "timeout"),
        respect_retry_after=False,
    )
    assert json.loads(to_json(engine))["data"]["retry"] == theirs
    assert policy_of(read(retry=[]).retry) == policy_of("default")
    assert read(retry=False).retry is False


@pytest.mark.parametrize("fields", [{}, {"id": None}], ids=str)
def test_an_engine_that_is_read_without_an_id_has_none(fields):
    script = [["script", [text("hi"), ["finish", "stop"]]]]
    engine, again = (read(adapter="fake", adapter_opts=script, **fields) for _ in range(2))
    assert engine.id is None
    assert (engine, hash(engine)) == (again, hash(again))
    derived = engine.put_param("temperature", 0.5)
    assert (derived.id, derived.merge(params={"temperature": 0.5})) == (None, derived)
    assert from_json(to_json(derived)) == from_msgpack(to_msgpack(derived)) == derived
    assert pickle.loads(pickle.dumps(derived)) == derived
    assert "id=None" in repr(engine)
    assert Engine("fake").id is not None


def test_params_of_an_elixir_engine_that_mean_nothing_are_left_out():
    idle = {"model": "m", "tools": [], "context": {}, "adapter_opts": [], "retry": False, "request_id": "r"}
    engine = read(params={**idle, "when_busy": "queue", "temperature": 0.5, "session_id": "s", "seed": 1})
    assert engine.params == {"temperature": 0.5, "session_id": "s", "seed": 1}
    assert engine.put_param("max_turns", 3).params["max_turns"] == 3
    with pytest.raises(ValidationError, match="never holds a key"):
        read(params={"api_key": "sk-canary"})


@given(
    st.dictionaries(
        st.sampled_from(["base_delay", "max_delay", "jitter"]),
        st.floats(0, 1e12) | st.integers(0, 10**12) | st.just(math.inf),
    )
)
def test_no_delay_changes_on_the_way(retry):
    engine = Engine(retry=retry)
    assert from_json(to_json(engine)) == engine


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"retry": [["base_delay_ms", "x"]]}, ["base_delay must be seconds", "'x'"]),
        ({"retry": [["base_delays", 1]]}, ["'base_delays'", "'base_delay'"]),
        ({"retry": [1]}, ["ALLM.Engine"]),
        (
            {"adapter": "Elixir.My.Adapter"},
            [
                "its adapter is Elixir.My.Adapter",
                "an Elixir module that has no counterpart here; use another adapter",
            ],
        ),
        (
            {"image_adapter": "Elixir.ALLM.Providers.OpenAI"},
            ["its image_adapter is Elixir.ALLM.Providers.OpenAI"],
        ),
    ],
    ids=range(5),
)
def test_an_elixir_engine_that_cannot_be_says_why(fields, words):
    with pytest.raises(ValidationError) as refused:
        read(**fields)
    assert str(refused.value).startswith("invalid JSON for from_json: $ cannot be ALLM.Engine")
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ({"adapter": "Elixir.My.Adapter"}, ("_unknown", "atom_decode_failed")),
        ({"tools": [tool("a"), tool("a")]}, ("data", "malformed_struct")),
        ({"adapter": 5}, ("data", "malformed_struct")),
        ({"adapter_opts": [1]}, ("data", "malformed_struct")),
    ],
)
def test_an_engine_that_cannot_be_is_refused_when_it_is_read(fields, failure):
    stored = {**fields, "tools": [json.loads(to_json(each)) for each in fields.get("tools", [])]}
    with pytest.raises(ValidationError) as refused:
        from_json(json.dumps({"__type__": "ALLM.Engine", "data": stored}))
    assert refused.value.errors == [failure]


def test_a_stored_id_is_never_given_to_another_engine():
    stored = Engine(id=Engine().id + 2)
    assert stored.id not in {Engine().id for _ in range(5)}


def test_an_engine_with_a_key_in_a_header_is_not_stored():
    engine = Engine("openai:m", adapter_opts={"headers": {"Authorization": "Bearer sk-canary"}})
    with pytest.raises(TypeError, match="with the call"):
        to_json(engine)
    for name in ("params", "context", "adapter_opts", "metadata"):
        with pytest.raises(TypeError, match="never holds a key"):
            Engine("openai:m", **{name: {"api_key": "sk-canary"}})


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"base_url": "https://ada:sk-canary@h/v1"}, "base_url"),
        ({"base_url": "https://sk-canary@h/v1"}, "base_url"),
        ({"base_url": "https://h/v1?key=sk-canary"}, "base_url"),
        ({"query": {"key": "sk-canary"}}, "query"),
        ({"query": {"X-Amz-Signature": "sk-canary"}}, "query"),
        *(
            ({"headers": {name: "sk-canary"}}, "headers")
            for name in ("X-Auth-Token", "Cookie", "My-Key", "x-secret", "Ocp-Apim-Subscription-Key")
        ),
        *(
            ({name: "sk-canary"}, name)
            for name in (
                "key",
                "token",
                "secret",
                "apikey",
                "password",
                "secret_key",
                "aws_secret_access_key",
            )
        ),
    ],
    ids=str,
)
def test_an_engine_with_a_key_in_its_options_is_not_stored(options, place):
    for write in (to_json, to_msgpack):
        with pytest.raises(
            TypeError, match=rf"stored without keys.* in {place}; pass it with the call"
        ) as refused:
            write(Engine("openai:m", adapter_opts=options))
        assert "sk-canary" not in str(refused.value)


def test_an_engine_with_options_that_are_no_key_is_stored():
    options = {
        "base_url": "https://h:8080/v1",
        "query": {"api-version": "2024-10-21"},
        "headers": {"x-request-source": "a", "accept": "b"},
        "cursor_key": 5,
        "max_tokens": 5,
        "token": None,
        "stream_timeout": 3.0,
    }
    for engine in (
        Engine("openai:m", adapter_opts=options),
        Engine("openai:m", adapter_opts={"base_url": "http://["}),
    ):
        assert from_json(to_json(engine)) == from_msgpack(to_msgpack(engine)) == engine


def test_an_engine_that_was_unpickled_keeps_its_id_to_itself():
    stored = pickle.dumps(Engine("fake", id=Engine("fake").id + 2))
    held = pickle.loads(stored)
    assert held.id not in {Engine("fake").id for _ in range(4)}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"capabilities": ["vision"]}, "capabilities of the ModelRef 'm' must be a mapping, got: "),
        ({"limits": 5}, "limits of the ModelRef 'm' must be a mapping, got: 5"),
        ({"pricing": [1, 2]}, "pricing of the ModelRef 'm' must be a mapping, got: "),
        ({"pricing": {"input": "cheap"}}, "must have a number of USD as its 'input', got: 'cheap'"),
        ({"pricing": {"input": math.nan}}, "must have a number of USD as its 'input', got: nan"),
        ({"pricing": {"output": -1}}, "must have a number of USD as its 'output', got: -1"),
        ({"pricing": {"output": True}}, "must have a number of USD as its 'output', got: True"),
        (
            {"pricing": {"input_tokens": 1.0}},
            "pricing of the ModelRef 'm' has no 'input_tokens'; it has 'input', 'output', 'cached_input' and ",
        ),
        ({"pricing": {"input": 1, "cached_input": "no"}}, "a number of USD as its 'cached_input', got: 'no'"),
    ],
)
def test_a_model_whose_fields_are_of_another_kind_is_refused(fields, words):
    model = ModelRef(id="m", **fields)
    for slot in ("model", "embed_model", "image_model"):
        with pytest.raises(TypeError, match=re.escape(words)):
            Engine("fake", **{slot: model})
    with pytest.raises(TypeError, match=re.escape(words)):
        Engine("fake").with_model(model)


@pytest.mark.parametrize("slot", ["model", "embed_model"])
def test_a_stored_model_with_prices_that_another_version_knows_still_loads(slot):
    data = {"id": "m", "pricing": {"input": 1.0, "output": 2.0, "batch_input": 0.1}}
    model = {"__type__": "ALLM.ModelRef", "data": data}
    assert from_json(json.dumps(model)).pricing == data["pricing"]
    engine = from_json(json.dumps({"__type__": "ALLM.Engine", "data": {"adapter": "fake", slot: model}}))
    assert getattr(engine, slot).pricing == {"input": 1.0, "output": 2.0}


@pytest.mark.parametrize("model", ["a\udcff", ModelRef(id="a\udcff")])
def test_a_model_whose_name_cannot_be_sent_is_refused(model):
    words = re.escape(r"text that can be encoded as UTF-8, got: 'a\udcff'")
    for slot in ("model", "embed_model", "image_model"):
        with pytest.raises(ValueError, match=words):
            Engine("fake", **{slot: model})
    with pytest.raises(ValueError, match=words):
        check_kinds({"model": model})


@pytest.mark.parametrize("name", [None, "", 5, ["a"]])
def test_an_option_that_is_put_has_a_name(name):
    with pytest.raises(TypeError, match="put_param takes an option and its value"):
        Engine("fake").put_param(name, 1)


@pytest.mark.parametrize(
    "name", ["adapter", "model", "tools", "params", "context", "adapter_opts", "metadata", "id"]
)
def test_what_is_null_in_a_stored_engine_is_not_there(name):
    stored = json.dumps({"__type__": "ALLM.Engine", "data": {name: None}})
    assert getattr(from_json(stored), name) == getattr(
        from_json('{"__type__": "ALLM.Engine", "data": {}}'), name
    )
