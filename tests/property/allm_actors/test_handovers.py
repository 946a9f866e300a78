"""What one dialect's answer becomes in every other dialect's next request: nothing that the other would refuse.

The answers are those of `tests/exchanges`, with ids, names and texts of any kind; each asks for two cities, and each
was thought about where its wire can say so. The rules are the providers' own.
"""

import functools
import itertools
import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.data import Message, Request, Tool
from allm_actors.data.build import user
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects import find_dialect
from allm_actors.engine.dialects.histories import fitted
from allm_actors.engine.remote.options import base_url_of
from allm_actors.engine.routes import dialect_of
from tests.property.allm_actors.test_dialects import ROWS, decode, sample

THINKS = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
# Who is asked next, what for, and which of a call's ids it takes.
TARGETS = {
    "anthropic": ("anthropic", "claude-sonnet-4-5", THINKS, r"[a-zA-Z0-9_-]{1,64}"),
    "bedrock": ("bedrock", "anthropic.claude-sonnet-4-5", THINKS, r"[a-zA-Z0-9_-]{1,64}"),
    "bedrock-nova": ("bedrock", "us.amazon.nova-pro-v1:0", {}, r"[a-zA-Z0-9_.:-]{1,64}"),
    "cohere": ("cohere", "command-a", {}, None),
    "gemini": ("gemini", "gemini-3-pro", {}, None),
    "mistral": ("mistral", "mistral-large", {}, r"[a-zA-Z0-9]{9}"),
    "ollama": ("ollama", "qwen3", {}, None),
    "openai_chat": ("openai", "gpt-4.1", {}, r"(?s:.{1,40})"),
    "openai_responses": ("openai", "gpt-5", {}, r"(?s:.{1,64})"),
}
TOOL_NAME = r"[a-zA-Z0-9_-]{1,64}"
WEATHER = Tool(name="weather", description="", schema={"type": "object", "properties": {}})

pairs = pytest.mark.parametrize(("maker", "target"), list(itertools.product(sorted(ROWS), TARGETS)))
ids = st.sampled_from(["call_unnamed_0", "functions.weather:0", "x" * 70, "", "abcdefgh1"]) | st.text(
    max_size=50
)
names = st.sampled_from(["weather", "weather<|channel|>", "a.b", "n" * 80, "日本"])
texts = st.sampled_from(["", " ", "\n\n", "Let me look."])


@functools.cache
def said(maker):
    return decode(maker, sample(maker))[-1].message


def changed(message, turn):
    """The message with other ids and names, and another text, if the turn says so."""
    given_ids, given_names, text = turn
    calls = [
        msgspec.structs.replace(call, id=id, name=name)
        for call, id, name in zip(message.tool_calls, given_ids, given_names, strict=True)
    ]
    return msgspec.structs.replace(message, content=text, metadata={**message.metadata, "tool_calls": calls})


def asked(target, messages):
    provider, model, options, _ = TARGETS[target]
    request = Request(messages=messages, model=model, tools=[WEATHER], max_tokens=4096, options=options)
    row = PROVIDERS[provider]
    encode = find_dialect(dialect_of(row, model, None)).encode
    http = encode(fitted(request, row), row, base_url_of(row, dict.fromkeys(row.places, "eu-west-1")))
    return json.loads(http.body)


def blocks_of(target, body):
    """The conversation on any wire, as `(role, kind, value)`: texts, thoughts, calls and answers in their order."""
    match target:
        case "openai_responses":
            return list(itertools.chain.from_iterable(map(of_item, body["input"])))
        case "gemini":
            return [(c["role"], *of_gemini(part)) for c in body["contents"] for part in c["parts"]]
        case "anthropic":
            return [(m["role"], *of_anthropic(b)) for m in body["messages"] for b in listed(m["content"])]
        case "bedrock" | "bedrock-nova":
            return [(m["role"], *of_bedrock(b)) for m in body["messages"] for b in m["content"]]
        case _:
            return list(itertools.chain.from_iterable(map(of_chat, body["messages"])))


def listed(content):
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def of_item(item):
    match item.get("type"):
        case "function_call":
            yield "assistant", "call", (item["call_id"], item["name"])
        case "function_call_output":
            yield "user", "answer", item["call_id"]
        case "reasoning":
            yield "assistant", "thought", item["encrypted_content"]
        case _:
            yield item["role"], "text", item["content"]


def of_gemini(part):
    if "functionCall" in part:
        call = part["functionCall"]
        return "call", (call.get("id"), call["name"], part.get("thoughtSignature"))
    if "functionResponse" in part:
        return "answer", (part["functionResponse"].get("id"), part["functionResponse"]["name"])
    return ("thought" if part.get("thought") else "text"), part["text"]


def of_anthropic(block):
    match block["type"]:
        case "tool_use":
            return "call", (block["id"], block["name"])
        case "tool_result":
            return "answer", block["tool_use_id"]
        case "thinking":
            return "thought", block["signature"]
        case _:
            return "text", block["text"]


def of_bedrock(block):
    if "toolUse" in block:
        return "call", (block["toolUse"]["toolUseId"], block["toolUse"]["name"])
    if "toolResult" in block:
        return "answer", block["toolResult"]["toolUseId"]
    if "reasoningContent" in block:
        return "thought", block["reasoningContent"]["reasoningText"].get("signature")
    return "text", block["text"]


def of_chat(message):
    role = message["role"]
    if role == "tool":
        yield role, "answer", message.get("tool_call_id", message.get("tool_name"))
        return
    for name in ("tool_plan", "reasoning_content", "reasoning", "thinking"):
        if (message.get(name) or "").strip():
            yield role, "thought", message[name]
    yield role, "text", message.get("content")
    for call in message.get("tool_calls", ()):
        yield role, "call", (call.get("id"), call["function"]["name"])


def assert_taken(target, body, *, own):
    blocks = blocks_of(target, body)
    kinds = [kind for _, kind, _ in blocks]
    calls = [value for _, kind, value in blocks if kind == "call"]
    answers = [value for _, kind, value in blocks if kind == "answer"]
    assert all(re.fullmatch(TOOL_NAME, call[1]) for call in calls)
    if target == "ollama":
        assert answers == [name for _, name in calls]  # it has names alone
    elif target == "gemini":
        assert answers == [call[:2] for call in calls]
    else:
        made = [id for id, _ in calls]
        assert answers == made
        assert len(set(made)) == len(made)
        takes = TARGETS[target][3]
        assert takes is None or all(re.fullmatch(takes, id) for id in made)
    if target in ("anthropic", "bedrock", "bedrock-nova"):
        assert all(value.strip() for _, kind, value in blocks if kind == "text")
    if "thought" in kinds:
        assert own
    assert_thinking(target, body, blocks)
    assert_order(target, body, blocks)


def assert_thinking(target, body, blocks):
    """Who thinks began with a thought; who signs has a signature on the first call of each answer."""
    if target in ("anthropic", "bedrock"):
        fields = body if target == "anthropic" else body.get("additionalModelRequestFields", {})
        spoken = [index for index, (role, _, _) in enumerate(blocks) if role == "user"]
        step = [kind for _, kind, _ in blocks[spoken[0] + 1 :]]
        assert ("thinking" in fields) == (step[0] == "thought")
    if target == "gemini":
        before = ""
        for _, kind, value in blocks:
            assert kind != "call" or before == "call" or value[2]
            before = kind


def assert_order(target, body, blocks):
    roles = [role for role, _ in itertools.groupby(role for role, _, _ in blocks)]
    if target in ("bedrock", "bedrock-nova", "anthropic", "gemini"):
        assert all(one != other for one, other in itertools.pairwise(roles))
    if target == "mistral":
        assert ("tool", "user") not in itertools.pairwise(message["role"] for message in body["messages"])


def answered(message, *, named):
    return [
        Message(role="tool", content="21", tool_call_id=call.id, name=call.name if named else None)
        for call in message.tool_calls
    ]


@pairs
def test_the_next_provider_takes_what_the_last_one_left(maker, target):
    message = said(maker)
    body = asked(target, [user("?"), message, *answered(message, named=False)])
    own = ROWS[maker].name == TARGETS[target][0]
    assert_taken(target, body, own=own)
    told = json.dumps(body, ensure_ascii=False)
    assert "Let me look at Zürich and 東京." in told
    if maker == target and "provider_state" in message.metadata:
        assert "Two cities…" in told or target == "openai_responses"


@pytest.mark.parametrize("maker", sorted(ROWS))
def test_calls_whose_ids_came_again_go_back_with_what_was_thought(maker):
    """They are made of the state that the provider wants back, and not in its place."""
    messages = [user("?")]
    for _ in range(3):
        message = decode(maker, sample(maker), conversation=messages)[-1].message
        messages += [message, *answered(message, named=False)]
    body = asked(maker, messages)
    assert_taken(maker, body, own=True)
    first = decode(maker, sample(maker))[-1].message
    one = asked(maker, [messages[0], first, *answered(first, named=False)])
    kinds, before = ([kind for _, kind, _ in blocks_of(maker, each)[1:]] for each in (body, one))
    assert kinds == 3 * before
    if maker not in ("ollama", "gemini"):  # which have no ids here
        ids = [call.id for message in messages for call in message.tool_calls]
        assert [value[0] for _, kind, value in blocks_of(maker, body) if kind == "call"] == ids


@pairs
@given(
    turns=st.lists(
        st.tuples(
            st.lists(ids, min_size=2, max_size=2, unique=True),
            st.lists(names, min_size=2, max_size=2),
            texts,
        ),
        min_size=1,
        max_size=3,
    ),
    named=st.booleans(),
)
def test_and_whatever_its_calls_are_called(maker, target, turns, named):
    messages = [user("?")]
    for turn in turns:
        message = changed(said(maker), turn)
        messages += [message, *answered(message, named=named)]
    body = asked(target, messages)
    assert_taken(target, body, own=False)
    # What was sent before is the beginning of what is sent now: a provider has it in its cache.
    earlier = asked(target, messages[:4])
    begin, whole = blocks_of(target, earlier), blocks_of(target, body)
    assert whole[: len(begin)] == begin


@pytest.mark.parametrize("target", TARGETS)
def test_a_user_may_speak_after_a_tool(target):
    message = said("ollama")
    body = asked(target, [user("?"), message, *answered(message, named=False), user("Stop.")])
    blocks = blocks_of(target, body)
    assert blocks[-1][1:] == ("text", "Stop.")
    if target == "mistral":
        assert blocks[-2][0] == "assistant"
        assert blocks[-2][2].strip()
