"""What Claude wants at every provider: thoughts that fit what came before them, and schemas that it can be held to."""

import json

import msgspec
import pytest

from allm_actors.data import Message, Request, ToolCall
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects.anthropic import chat as anthropic
from allm_actors.engine.dialects.bedrock import chat as bedrock
from allm_actors.engine.dialects.claude import (
    BETA,
    binds_thoughts,
    can_be_forced,
    constrained,
    thinks_unasked,
)

DROPPING = {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}}
THOUGHTS = {
    "anthropic": {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
    "bedrock": {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
}
DIALECTS = {"anthropic": anthropic.DIALECT, "bedrock": bedrock.DIALECT}
MODELS = {"anthropic": "claude-fable-5-2", "bedrock": "us.anthropic.claude-fable-5-2-v1:0"}
both = pytest.mark.parametrize("provider", ["anthropic", "bedrock"])


def sent(provider, *, model=None, thought=True, **options):
    """The request of a conversation in which a model has thought, called a tool, and heard its answer."""
    call = ToolCall(id="t1", name="look", arguments={})
    used = {
        "anthropic": {"type": "tool_use", "id": "t1", "name": "look", "input": {}},
        "bedrock": {"toolUse": {"toolUseId": "t1", "name": "look", "input": {}}},
    }
    state = {provider: [THOUGHTS[provider], used[provider]]} if thought else {}
    messages = [
        Message(role="user", content="a"),
        Message(role="assistant", content="", metadata={"tool_calls": [call], "provider_state": state}),
        Message(role="tool", content="x", tool_call_id="t1"),
    ]
    request = Request(messages=messages, model=model or MODELS[provider], options=options)
    return DIALECTS[provider].encode(request, PROVIDERS[provider], "https://x")


def told(provider, http):
    """What the request says of thinking, and its beta features."""
    body = json.loads(http.body)
    if provider == "anthropic":
        return body.get("thinking"), http.headers.get("anthropic-beta")
    extra = body.get("additionalModelRequestFields", {})
    return extra.get("thinking"), ",".join(extra.get("anthropic_beta", ())) or None


@pytest.mark.parametrize(
    ("model", "binds"),
    [
        *[(f"claude-{name}", True) for name in ("fable-5-1", "fable-5-2", "mythos-5-1", "opus-5-5")],
        *[(f"claude-{name}", True) for name in ("sonnet-5-5", "haiku-5-5-20261001", "opus-6", "opus-10-1")],
        ("us.anthropic.claude-fable-5-1-v1:0", True),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-opus-6-20270101", True),
        *[(f"claude-{name}", False) for name in ("opus-5", "opus-5-20260901", "fable-5", "sonnet-4-6")],
        *[(name, False) for name in ("claude-3-7-sonnet-latest", "claude", "gpt-5.1", "", None)],
    ],
)
def test_which_models_bind_their_thoughts(model, binds):
    assert binds_thoughts(model) is binds


@pytest.mark.parametrize(
    ("model", "can"),
    [
        *[(f"claude-{name}", False) for name in ("opus-5-5", "sonnet-5-5", "sonnet-5-5-20261101", "opus-6")],
        *[(f"claude-{name}", False) for name in ("sonnet-6", "opus-10-1", "fable-5-1", "mythos-5")],
        ("us.anthropic.claude-sonnet-5-5-v1:0", False),
        *[
            (f"claude-{name}", True)
            for name in ("opus-5", "opus-5-20260901", "sonnet-5", "sonnet-5-20260901")
        ],
        *[(f"claude-{name}", True) for name in ("haiku-5-5", "opus-4-8", "sonnet-4-6", "3-7-sonnet-latest")],
        *[(name, True) for name in ("claude", "", None)],
    ],
)
def test_which_models_can_be_forced_to_call_a_tool(model, can):
    assert can_be_forced(model) is can


@pytest.mark.parametrize(
    ("model", "thinks"),
    [
        *[(f"claude-{name}", True) for name in ("opus-5", "opus-5-5", "sonnet-5-20260901", "sonnet-5-5")],
        *[
            (f"claude-{name}", True)
            for name in ("haiku-5-5", "fable-5", "mythos-preview", "haiku-6", "opus-10-1")
        ],
        *[(f"claude-{name}", False) for name in ("opus-4-8", "sonnet-4-20250514", "haiku-4-5")],
        *[(name, False) for name in ("claude-3-5-haiku-latest", "claude", "our-claude", "", None)],
    ],
)
def test_which_models_think_unless_told_not_to(model, thinks):
    assert thinks_unasked(model) is thinks


@both
def test_a_thought_whose_beginning_has_changed_is_left_out_by_the_server(provider):
    http = sent(provider)
    assert told(provider, http) == (DROPPING, BETA)
    assert THOUGHTS[provider] in json.loads(http.body)["messages"][1]["content"]


@both
def test_what_the_caller_says_of_thinking_stays(provider):
    shown = {"type": "adaptive", "display": "summarized"}
    assert told(provider, sent(provider, thinking=shown)) == ({**shown, **DROPPING}, BETA)
    strict = {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "error"}}
    assert told(provider, sent(provider, thinking=strict)) == (strict, BETA)


@both
def test_what_the_caller_says_of_stale_thoughts_may_be_said_before_there_are_any(provider):
    strict = {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "error"}}
    for model in (None, MODELS[provider].replace("fable-5-2", "opus-5")):
        http = sent(provider, model=model, thought=False, thinking=strict)
        assert told(provider, http) == (strict, BETA)


@both
@pytest.mark.parametrize(
    "thinking", [{"type": "between_tools"}, {"type": "enabled", "budget_tokens": 9}, "much"]
)
def test_nothing_is_said_of_thoughts_beside_another_way_of_thinking_than_adaptive(provider, thinking):
    assert told(provider, sent(provider, thinking=thinking)) == (thinking, None)


@both
def test_thinking_of_no_type_is_adaptive(provider):
    shown = {"display": "summarized"}
    assert told(provider, sent(provider, thinking=shown)) == ({**DROPPING, **shown}, BETA)


@both
def test_nothing_is_said_where_there_is_no_thought_or_it_is_not_bound(provider):
    assert told(provider, sent(provider, thought=False)) == (None, None)
    older = MODELS[provider].replace("fable-5-2", "opus-5")
    assert told(provider, sent(provider, model=older)) == (None, None)


@both
def test_a_request_without_thinking_has_no_thoughts_either(provider):
    off = {"type": "disabled"}
    http = sent(provider, thinking=off)
    assert told(provider, http) == (off, None)
    turns = json.loads(http.body)["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert len(turns[1]["content"]) == 1


def test_other_beta_features_stay_at_bedrock():
    http = sent("bedrock", anthropic_beta=["context-1m-2025-08-07"])
    assert told("bedrock", http) == (DROPPING, f"context-1m-2025-08-07,{BETA}")


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        *[
            (f"claude-{name}", False)
            for name in ("opus-4-7", "sonnet-4-8", "opus-5", "sonnet-5-5", "haiku-5-5")
        ],
        *[(f"claude-{name}", False) for name in ("fable-5", "mythos-5-2", "sonnet-6", "opus-10-1")],
        *[(f"claude-{name}", True) for name in ("opus-4-6", "sonnet-4-6", "opus-4-20250514", "haiku-4-5")],
        *[(name, True) for name in ("claude-3-7-sonnet-latest", "glm-5.3", "m")],
    ],
)
def test_newer_models_are_not_told_how_to_sample(model, takes):
    asked = Request(messages=[Message(role="user", content="a")], model=model, temperature=0.2, max_tokens=9)
    given = {"temperature": 0.2, "top_p": 0.5, "top_k": 3}

    def body(provider, name=model, **options):
        request = msgspec.structs.replace(asked, model=name, options=options)
        return json.loads(DIALECTS[provider].encode(request, PROVIDERS[provider], "https://x").body)

    for wire in (
        body("anthropic", top_p=0.5, top_k=3),
        body("anthropic", "m", model=model, top_p=0.5, top_k=3),
    ):
        assert {name: wire[name] for name in given if name in wire} == (given if takes else {})
    for wire in (
        body("bedrock", f"us.anthropic.{model}-v1:0", topP=0.5, top_k=3),
        body(
            "bedrock",
            f"anthropic.{model}",
            inferenceConfig={"topP": 0.5},
            additionalModelRequestFields={"top_k": 3},
        ),
    ):
        sampling = {"temperature": 0.2, "topP": 0.5} if takes else {}
        assert wire["inferenceConfig"] == {"maxTokens": 9} | sampling
        assert wire.get("additionalModelRequestFields") == ({"top_k": 3} if takes else None)


# --- schemas ------------------------------------------------------------------------------------------------------

TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
CITY = {"type": "object", "properties": {"name": TEXT}, "required": ["name"]}


def closed(**properties):
    return {"type": "object", "properties": properties, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "form"),
    [
        (CITY, {**CITY, "additionalProperties": False}),
        (closed(a={**NUMBER, "default": 3}), closed(a=NUMBER)),
        (closed(a={**NUMBER, "minimum": 1}), closed(a={**NUMBER, "description": "minimum: 1"})),
        (
            closed(a={**TEXT, "pattern": "^x", "maxLength": 3, "description": "A."}),
            closed(a={**TEXT, "description": "A. (pattern: ^x, maxLength: 3)"}),
        ),
        (closed(a={**TEXT, "format": "date"}), closed(a={**TEXT, "format": "date"})),
        (closed(a={**TEXT, "format": "iri"}), closed(a={**TEXT, "description": "format: iri"})),
        (
            closed(a={"type": "array", "items": TEXT, "minItems": 1}),
            closed(a={"type": "array", "items": TEXT, "minItems": 1}),
        ),
        (
            closed(a={"type": "array", "items": TEXT, "minItems": 2}),
            closed(a={"type": "array", "items": TEXT, "description": "minItems: 2"}),
        ),
        (closed(a={"oneOf": [TEXT, NUMBER]}), closed(a={"anyOf": [TEXT, NUMBER]})),
        (
            closed(a={"oneOf": [TEXT], "anyOf": [TEXT, NUMBER]}),
            closed(a={"anyOf": [TEXT, NUMBER], "description": "oneOf: [{'type': 'string'}]"}),
        ),
        (
            {**closed(a={"$ref": "#/$defs/N", "anyOf": [NUMBER]}), "$defs": {"N": NUMBER}},
            {**closed(a={"anyOf": [NUMBER], "allOf": [{"$ref": "#/$defs/N"}]}), "$defs": {"N": NUMBER}},
        ),
        (closed(minimum=NUMBER), closed(minimum=NUMBER)),  # a property of that name
        (
            {"$ref": "#/$defs/City", "$defs": {"City": CITY}},
            {"$ref": "#/$defs/City", "$defs": {"City": {**CITY, "additionalProperties": False}}},
        ),
        (
            {**closed(a={"$ref": "#/$defs/N", "description": "A."}), "$defs": {"N": NUMBER}},
            {**closed(a={"anyOf": [{"$ref": "#/$defs/N"}], "description": "A."}), "$defs": {"N": NUMBER}},
        ),
    ],
)
def test_what_a_schema_cannot_say_is_said_in_words(schema, form):
    assert constrained(schema) == form


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "additionalProperties": NUMBER},
        {"type": "object"},
        {**CITY, "additionalProperties": True},
        closed(a={}),
        closed(a={"type": "array"}),
        {"$ref": "#/$defs/T", "$defs": {"T": closed(next={"anyOf": [{"$ref": "#/$defs/T"}, TEXT]})}},
        closed(child={"$ref": "#"}),
    ],
    ids=str,
)
def test_a_schema_that_no_answer_can_be_held_to(schema):
    assert constrained(schema) is None


def wanted(schema, provider="anthropic", model="claude-opus-5-5", **options):
    """The body of a request for an answer in this form."""
    form = {"type": "json_schema", "name": "n", "schema": schema}
    asked = Request(
        messages=[Message(role="user", content="a")], model=model, response_format=form, options=options
    )
    return json.loads(DIALECTS[provider].encode(asked, PROVIDERS[provider], "https://x").body)


@pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-sonnet-5-5"])
def test_a_model_that_cannot_be_forced_is_held_to_a_schema(model):
    form = {"type": "json_schema", "schema": {**CITY, "additionalProperties": False}}
    body = wanted(CITY, model=model, output_config={"effort": "low"})
    assert body["output_config"] == {"effort": "low", "format": form}
    assert not {"tools", "tool_choice"} & body.keys()
    own = {"format": {"type": "json_schema", "schema": {}}}
    assert wanted(CITY, model=model, output_config=own)["output_config"] == own


def test_where_it_cannot_be_held_to_it_there_is_a_tool():
    body = wanted({"type": "object"}, output_config={"effort": "low"})
    assert body["output_config"] == {"effort": "low"}
    assert [tool["name"] for tool in body["tools"]] == ["respond_with_json_n"]
    assert "output_config" not in wanted(CITY, model="claude-opus-4-8")


def test_bedrock_gets_what_it_takes_of_a_schema():
    def sent_schema(schema):
        text = wanted(schema, "bedrock", "m")["outputConfig"]["textFormat"]["structure"]["jsonSchema"][
            "schema"
        ]
        return json.loads(text)

    told = closed(a={**NUMBER, "description": "minimum: 1"})
    assert sent_schema(closed(a={**NUMBER, "minimum": 1})) == told
    assert sent_schema({"type": "object"}) == {"type": "object"}  # its refusal says more than we could
