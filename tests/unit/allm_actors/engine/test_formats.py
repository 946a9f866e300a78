"""Which server takes JSON, a schema, and either beside tools; what it does not take is told in the prompt."""

import json

import pytest

import allm_actors as allm
from allm_actors.data import Message, Request, TextPart, Tool
from allm_actors.engine.adapter import Call
from allm_actors.engine.adapters import find_adapter
from allm_actors.testing.loopback import LoopbackServer, Reply

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
FORM = {
    "type": "json_schema",
    "name": "cat",
    "schema": {**SCHEMA, "additionalProperties": False},
    "strict": True,
}
JSON = {"type": "json_object"}
LOOK = Tool(name="look", description="Looks.", schema=SCHEMA)
USER, SYSTEM = Message(role="user", content="A cat?"), Message(role="system", content="Be brief.")
AT_AWS = "arn:aws:bedrock:us-east-1:123456789012"


def body(adapter, model="m", *, messages=(USER,), form=FORM, **fields):
    """The JSON that this provider is sent."""
    request = Request(messages=list(messages), model=model, response_format=form, **fields)
    places = {
        "bedrock": {"region": "us-east-1"},
        "vertex": {"region": "us", "project": "p"},
        "openai-compatible": {"base_url": "http://host/v1"},
    }
    call = Call(request_id="r", api_key="k", options=places.get(adapter, {}))
    return json.loads(find_adapter(adapter).prepare_request(request, call).body)


def form_of(wire):
    """What the body asks for: a schema, any JSON, or nothing; and whether the prompt tells a schema."""
    sent = json.dumps(
        [wire.get(name) for name in ("response_format", "format", "outputConfig", "generationConfig")]
    )
    form = "schema" if "age" in sent else "json" if "json" in sent else None
    messages = json.dumps([wire.get(name) for name in ("messages", "system", "systemInstruction")])
    return form, "must match this JSON schema" in messages


NATIVE, TOLD, TOLD_AS_JSON = ("schema", False), (None, True), ("json", True)


@pytest.mark.parametrize(
    ("adapter", "model", "form"),
    [
        *[("groq", name, NATIVE) for name in ("openai/gpt-oss-20b", "moonshotai/kimi-k2-instruct-0905")],
        *[
            ("groq", name, TOLD_AS_JSON)
            for name in ("llama-3.3-70b-versatile", "qwen/qwen3-32b", "groq/compound")
        ],
        *[(name, "m", TOLD_AS_JSON) for name in ("deepseek", "zai")],
        *[
            (name, "m", NATIVE)
            for name in ("openai", "gemini", "vertex", "cohere", "ollama", "vllm", "cerebras")
        ],
        *[
            ("bedrock", f"anthropic.claude-{name}-v1:0", NATIVE)
            for name in ("haiku-4-5-20251001", "opus-4-6")
        ],
        *[
            ("bedrock", f"anthropic.claude-{name}", NATIVE)
            for name in ("sonnet-4-6", "sonnet-5", "sonnet-5-20260901")
        ],
        *[
            ("bedrock", f"anthropic.claude-{name}", TOLD)
            for name in (
                "3-7-sonnet-20250219-v1:0",
                "opus-4-1-20250805-v1:0",
                "opus-4-7",
                "sonnet-5-5",
                "opus-5",
            )
        ],
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", NATIVE),
        ("bedrock", f"{AT_AWS}:inference-profile/eu.anthropic.claude-opus-4-5-20251101-v1:0", NATIVE),
        *[
            ("bedrock", name, NATIVE)
            for name in ("mistral.mistral-large-3-675b-instruct", "qwen.qwen3-32b-v1:0")
        ],
        *[("bedrock", name, TOLD) for name in ("amazon.nova-pro-v1:0", "us.meta.llama3-3-70b-instruct-v1:0")],
        *[
            ("bedrock", name, TOLD)
            for name in ("cohere.command-r-plus-v1:0", "mistral.mistral-large-2402-v1:0")
        ],
        ("bedrock", f"{AT_AWS}:application-inference-profile/abc123", TOLD),
    ],
)
def test_a_schema_is_told_in_the_prompt_where_a_model_is_held_to_none(adapter, model, form):
    assert form_of(body(adapter, model)) == form
    assert form_of(body(adapter, "other", options={"model": model})) == form


def test_a_managed_prompt_has_no_place_to_be_told_in():
    wire = body("bedrock", f"{AT_AWS}:prompt/PROMPT12345:1", messages=[])
    assert form_of(wire) == NATIVE


def test_a_model_of_unknown_name_can_be_held_to_a_schema_by_option():
    own = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": "{}"}}}}
    wire = body("bedrock", f"{AT_AWS}:application-inference-profile/abc123", options={"outputConfig": own})
    assert wire["outputConfig"] == own


@pytest.mark.parametrize(
    ("adapter", "model", "form"),
    [
        *[("gemini", name, TOLD) for name in ("gemini-2.5-flash", "gemini-2.0-flash-lite", "gemini-1.5-pro")],
        *[
            ("gemini", name, NATIVE)
            for name in ("gemini-3-pro-preview", "gemini-3.5-flash", "gemini-flash-latest")
        ],
        ("vertex", "gemini-2.5-pro", TOLD),
        ("vertex", "gemini-3.1-pro-preview", NATIVE),
        *[("groq", name, TOLD) for name in ("openai/gpt-oss-120b", "llama-3.3-70b-versatile")],
        *[(name, "m", TOLD) for name in ("cohere", "ollama", "cerebras", "vllm")],
        *[(name, "m", TOLD_AS_JSON) for name in ("deepseek", "zai")],
        *[(name, "m", NATIVE) for name in ("openai", "mistral", "xai", "openrouter", "openai-compatible")],
        ("bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0", NATIVE),
        ("bedrock", "amazon.nova-pro-v1:0", TOLD),
    ],
)
def test_tools_are_offered_and_a_format_that_does_not_go_with_them_is_told(adapter, model, form):
    wire = body(adapter, model, tools=[LOOK])
    assert form_of(wire) == form
    assert wire.keys() & {"tools", "toolConfig"}
    any_json = body(adapter, model, tools=[LOOK], form=JSON)
    if form == TOLD and adapter != "bedrock":  # which has no such format, with tools or without
        assert form_of(any_json) == (None, False)
        assert "the text of a JSON object, and nothing else." in json.dumps(any_json)
    if adapter == "groq":
        assert wire["stream"] is any_json["stream"] is True


@pytest.mark.parametrize("choice", ["required", "look"])
@pytest.mark.parametrize("adapter", ["gemini", "vertex"])
def test_a_call_that_is_forced_goes_with_no_format(adapter, choice):
    wire = body(adapter, "gemini-3-pro-preview", tools=[LOOK], tool_choice=choice)
    assert form_of(wire) == TOLD
    assert wire["toolConfig"]["functionCallingConfig"]["mode"] == "ANY"
    assert form_of(body("openai", tools=[LOOK], tool_choice=choice)) == NATIVE


@pytest.mark.parametrize(
    ("adapter", "model"), [("groq", "openai/gpt-oss-20b"), ("gemini", "gemini-2.5-pro"), ("ollama", "m")]
)
def test_tools_that_may_not_be_called_give_way_to_the_format(adapter, model):
    wire = body(adapter, model, tools=[LOOK], tool_choice="none")
    assert form_of(wire) == NATIVE
    assert not wire.keys() & {"tools", "tool_choice", "toolConfig"}


def test_tools_in_the_providers_own_shape_are_tools():
    searching = body("gemini", "gemini-2.5-pro", options={"tools": [{"google_search": {}}]})
    assert form_of(searching) == TOLD
    assert searching["tools"] == [{"google_search": {}}]
    unasked = body("gemini", "gemini-2.5-pro", tool_choice="none", options={"tools": [{"google_search": {}}]})
    assert form_of(unasked) == TOLD
    none = body("gemini", "gemini-2.5-pro", options={"tools": []})
    assert form_of(none) == NATIVE


def test_what_is_told_comes_behind_what_the_system_has_to_say():
    def first(*messages, **fields):
        return body("deepseek", messages=messages, **fields)["messages"][0]["content"]

    told = first(USER)
    assert told.startswith("Answer with a JSON object, and nothing else. It must match this JSON schema:\n{")
    assert json.loads(told.partition("\n")[2]) == FORM["schema"]
    assert first(SYSTEM, USER) == f"Be brief.\n\n{told}"
    parts = Message(role="system", content=[TextPart(text="Be brief.")])
    assert first(parts, USER) == f"Be brief.\n{told}"
    assert first(USER, tools=[LOOK]).startswith("Call the tools that you need.")
    for other in (JSON, {"type": "text"}, None):
        plain = body("deepseek", form=other)
        assert (plain.get("response_format"), len(plain["messages"])) == (other, 1)


def test_an_answer_that_is_held_to_a_schema_is_not_streamed_where_that_is_refused():
    wire = body("groq", "openai/gpt-oss-20b")
    assert wire["stream"] is False
    assert "stream_options" not in wire
    for model, form in [
        ("openai/gpt-oss-20b", JSON),
        ("openai/gpt-oss-20b", None),
        ("llama-3.3-70b-versatile", FORM),
    ]:
        assert body("groq", model, form=form)["stream"] is True
    assert body("groq", "openai/gpt-oss-20b", options={"stream": True})["stream"] is True
    assert body("openai")["stream"] is True


def test_the_silence_before_an_answer_in_one_piece_is_no_silence_of_a_stream():
    said = {"index": 0, "message": {"role": "assistant", "content": '{"age": 3}'}, "finish_reason": "stop"}
    answer = json.dumps({"id": "c", "model": "m", "choices": [said]}).encode()
    slow = Reply(body=answer, first_byte_delay=0.6)
    with LoopbackServer([slow, slow, slow]) as server:
        engine = allm.Engine("groq:openai/gpt-oss-20b", adapter_opts={"base_url": server.url})
        asked = {"api_key": "k", "stream_timeout": 0.2, "retry": False}
        held = allm.generate(engine, [USER], response_format=FORM, **asked)
        whole = allm.generate(engine.merge(params={"stream": False}), [USER], **asked)
        streamed = allm.generate(engine, [USER], **asked)
    assert [held.text(), whole.text()] == ['{"age": 3}'] * 2
    assert streamed.metadata["error"].reason == "timeout"
