"""Thoughts that are bound to what came before them: a conversation whose beginning has changed goes on without them."""

import json

import pytest

from allm_actors.data import Message, Request, ToolCall
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects.anthropic import chat as anthropic
from allm_actors.engine.dialects.bedrock import chat as bedrock
from allm_actors.engine.dialects.claude import BETA, binds_thoughts

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
    assert told(provider, sent(provider, thinking="much"))[0] == "much"


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
