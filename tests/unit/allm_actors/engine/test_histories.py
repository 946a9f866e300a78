"""What one provider's model has said, as another provider takes it."""

import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.data import (
    ImagePart,
    Message,
    Request,
    TextPart,
    Thread,
    Tool,
    ToolCall,
)
from allm_actors.data.build import assistant, tool_result, user
from allm_actors.data.codec.envelope import from_json, to_json
from allm_actors.data.media.images import Image
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects import find_dialect
from allm_actors.engine.dialects.histories import another_id, began_without_thoughts, fitted, made_of
from allm_actors.engine.remote.options import base_url_of
from allm_actors.engine.routes import dialect_of

WITH_RULES = sorted(name for name, row in PROVIDERS.items() if row.quirks.call_ids is not None)
IDS = ["call_1", "call_" + "x" * 60, "functions.look:0", "ünïcode", "a b", "", "abcdefgh1"]


def made(*calls, text="", state=None, made_by=None):
    metadata = {"tool_calls": [ToolCall(id=id, name=name, arguments={}) for id, name in calls]}
    if state is not None:
        metadata["provider_state"] = {**state, **({} if made_by is None else {"made_by": made_by})}
    return Message(role="assistant", content=text, metadata=metadata)


def request(*messages, **fields):
    return Request(messages=list(messages), **fields)


def body_of(provider, model, *messages, **fields):
    row = PROVIDERS[provider]
    asked = request(*messages, model=model, **fields)
    url = base_url_of(row, dict.fromkeys(row.places, "eu-west-1"))
    encoded = find_dialect(dialect_of(row, model, None)).encode(fitted(asked, row), row, url)
    return json.loads(encoded.body)


def test_who_asks_for_nothing_gets_the_very_same():
    asked = request(user("hi"), made(("call_1", "look")), tool_result("call_1", "seen"))
    for row in PROVIDERS.values():
        if row.name != "mistral":
            assert fitted(asked, row) is asked


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_an_answer_that_came_late_is_sent_behind_its_call(provider, monkeypatch):
    """Everyone but Ollama refuses a conversation in which something stands between the two; and Ollama, and Gemini
    for the calls that it gave no id, know an answer by its place among the others.
    """
    if PROVIDERS[provider].base_url is None:
        monkeypatch.setenv(PROVIDERS[provider].base_url_name, "http://x/v1")
    hi, hurry, calls = user("hi"), user("hurry"), made(*[(f"abcdefgh{n}", "look") for n in range(3)])
    calls.tool_calls[0].metadata["synthetic_id"] = calls.tool_calls[2].metadata["synthetic_id"] = True
    one, two, three = (tool_result(call.id, f"seen by {call.id}") for call in calls.tool_calls)
    in_order = body_of(provider, "m", hi, calls, one, two, three, hurry)
    assert body_of(provider, "m", hi, calls, three, hurry, two, one) == in_order


@pytest.mark.parametrize("raw", ["", " ", "\n\t", "{", None])
@pytest.mark.parametrize("model", ["plain-1", "gpt-5.2"])
@pytest.mark.parametrize("provider", [name for name, row in PROVIDERS.items() if row.base_url])
def test_the_arguments_of_a_call_are_sent_as_json(provider, model, raw):
    metadata = {"arguments_error": "cut off"} if raw == "{" else {}
    call = ToolCall(id="call_1abc", name="look", arguments={}, raw_arguments=raw, metadata=metadata)
    item = {"type": "function_call", "id": "fc_1", "call_id": call.id, "name": "look", "arguments": raw or ""}
    state = {"openai_responses": {"output": [item]}} if model == "gpt-5.2" else {}
    asked = Message(role="assistant", content="", metadata={"tool_calls": [call], "provider_state": state})
    body = body_of(provider, model, user("hi"), asked, tool_result(call.id, "seen"))
    for arguments in everywhere(body, "arguments"):
        assert (json.loads(arguments) if isinstance(arguments, str) else arguments) == {}


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "cohere", "ollama", "bedrock"])
def test_an_option_that_has_no_json_is_named(provider):
    with pytest.raises(TypeError, match="of type object, cannot be sent as JSON: "):
        body_of(provider, "m", user("hi"), options={"mine": object()})


def everywhere(value, name):
    """What is called `name`, at any depth."""
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = [value[name]] if isinstance(value, dict) and name in value else []
    return own + [found for each in below for found in everywhere(each, name)]


@pytest.mark.parametrize("provider", WITH_RULES)
@given(
    turns=st.lists(
        st.lists(st.one_of(st.sampled_from(IDS), st.text(max_size=70)), max_size=3, unique=True), max_size=4
    )
)
def test_every_call_has_an_id_that_the_provider_takes_and_its_answer_has_the_same(provider, turns):
    row, messages = PROVIDERS[provider], [user("go")]
    for ids in turns:
        messages += [made(*[(id, "look") for id in ids]), *[tool_result(id, id) for id in ids]]
    sent = fitted(request(*messages), row).messages
    assert [message.role for message in sent] == [message.role for message in messages]
    seen = set()
    for message in sent:
        for call in message.tool_calls:
            assert re.fullmatch(row.quirks.call_ids, call.id)
            assert call.id not in seen
            seen.add(call.id)
    asked = [call.id for message in sent for call in message.tool_calls]
    answered = [message.tool_call_id for message in sent if message.role == "tool"]
    assert asked == answered
    assert fitted(request(*sent), row).messages == sent  # what fits is not changed once more
    assert sent == fitted(request(*messages), row).messages  # and it is the same each time


def test_an_id_that_comes_again_is_another_one():
    turn = [made(("call_unnamed_0", "look")), tool_result("call_unnamed_0", "seen")]
    sent = fitted(request(user("hi"), *turn, *turn), PROVIDERS["anthropic"]).messages
    first, second = (message.tool_calls[0].id for message in sent if message.role == "assistant")
    assert first == "call_unnamed_0" != second
    assert [message.tool_call_id for message in sent if message.role == "tool"] == [first, second]


@pytest.mark.parametrize("row", PROVIDERS.values(), ids=list(PROVIDERS))
@pytest.mark.parametrize("id", ["0", "look:0", "abcdefgh1", "x" * 40, "x" * 64, "x" * 100])
def test_another_id_is_one_that_the_provider_accepts_if_it_accepts_the_id(row, id):
    others = [another_id(id, number, row) for number in range(1, 12)]
    assert len({id, *others}) == 12
    takes = row.quirks.call_ids
    if takes is None or not re.fullmatch(takes, id):
        assert all(
            len(other) <= max(64, len(id)) and other.endswith(f"_{n}") for n, other in enumerate(others, 1)
        )
    else:
        assert all(re.fullmatch(takes, other) for other in others)


def test_a_name_that_a_model_made_up_is_one_that_may_be_sent():
    message = made(("c", "functions.look<|channel|>"), ("d", "x" * 80), ("e", ""))
    for row in PROVIDERS.values():
        names = [call.name for call in fitted(request(user("hi"), message), row).messages[1].tool_calls]
        assert names == ["functions_look__channel__", "x" * 64, "unnamed"]


SEALED = [
    {"type": "reasoning", "id": "rs_1", "encrypted_content": "sealed", "summary": []},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "It rains."}]},
]


@pytest.mark.parametrize(
    ("provider", "model", "sealed"),
    [
        ("openai", "gpt-5", True),
        ("openai", "o4-mini", True),
        ("azure", "gpt-5", False),
        ("xai", "grok-4", False),
    ],
)
def test_sealed_thoughts_go_back_to_who_sealed_them(provider, model, sealed):
    said = made(text="It rains.", state={"openai_responses": SEALED}, made_by=["openai", "gpt-5"])
    row = PROVIDERS[provider]
    asked = request(user("?"), said, user("And now?"), model=model)
    encoded = find_dialect("openai_responses").encode(fitted(asked, row), row, "https://h/v1")
    assert ("sealed" in encoded.body.decode()) is sealed
    assert "It rains." in encoded.body.decode()


def test_a_model_that_does_not_think_gets_no_thoughts():
    said = made(text="It rains.", state={"openai_responses": SEALED}, made_by=["openai", "gpt-5"])
    row = PROVIDERS["openai"]
    asked = request(user("?"), said, user("And now?"), model="gpt-4.1")
    encoded = json.loads(
        find_dialect("openai_responses").encode(fitted(asked, row), row, "https://h/v1").body
    )
    assert [item.get("type") for item in encoded["input"]] == [None, "message", None]


THOUGHT = {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "signed"}}}


@pytest.mark.parametrize(
    ("model", "signed"),
    [
        ("eu.anthropic.claude-sonnet-4-5-20250929-v1:0", True),
        ("anthropic.claude-opus-4-1", True),
        ("amazon.nova-pro-v1:0", False),
        ("us.amazon.nova-pro-v1:0", False),
        ("moonshot.kimi-k2-thinking", False),
    ],
)
def test_on_bedrock_thoughts_go_back_to_their_own_family(model, signed):
    said = made(
        text="It rains.",
        state={"bedrock": [THOUGHT, {"text": "It rains."}]},
        made_by=["bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0"],
    )
    told = json.dumps(body_of("bedrock", model, user("?"), said, user("And now?")))
    assert ("signed" in told) is signed
    assert "It rains." in told


def test_a_state_of_before_nobody_said_who_made_it_is_still_used():
    said = made(text="It rains.", state={"openai_responses": SEALED})
    assert fitted(request(user("?"), said, model="gpt-5"), PROVIDERS["openai"]).messages[1] is said


BLANK = ["", " ", "\n\n", "\t"]


@pytest.mark.parametrize("blank", BLANK)
def test_anthropic_gets_no_blank_text(blank):
    picture = ImagePart(image=Image.from_bytes(b"x", "image/png"))
    told = body_of(
        "anthropic",
        "claude-sonnet-4-5",
        Message(role="system", content=blank),
        Message(role="user", content=[TextPart(text=blank), picture]),
        made(("c", "look"), text=blank),
        tool_result("c", "seen"),
        assistant(blank),
        user("And?"),
    )
    assert "system" not in told
    blocks = [
        block
        for message in told["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
    ]
    assert [block["type"] for block in blocks] == ["image", "tool_use", "tool_result"]
    assert [message["role"] for message in told["messages"]] == ["user", "assistant", "user", "user"]


THINKS = {"thinking": {"type": "enabled", "budget_tokens": 2000}}


def test_anthropic_does_not_think_in_the_middle_of_a_step_that_began_without():
    step = [user("?"), made(("c", "look"), text="Let me look."), tool_result("c", "seen")]
    assert "thinking" not in body_of("anthropic", "claude-sonnet-4-5", *step, options=THINKS)
    own = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "tool_use", "id": "c", "name": "look"},
    ]
    thought = made(("c", "look"), state={"anthropic": own}, made_by=["anthropic", "claude-sonnet-4-5"])
    assert "thinking" in body_of("anthropic", "claude-sonnet-4-5", step[0], thought, step[2], options=THINKS)
    assert "thinking" in body_of(
        "anthropic", "claude-sonnet-4-5", *step, assistant("Seen."), user("And?"), options=THINKS
    )


@pytest.mark.parametrize(
    "model", ["gemini-3-pro", "gemini-flash-latest", "models/gemini-3.1-flash", "gemini-2.5-pro"]
)
@pytest.mark.parametrize("kept", [False, True])
def test_gemini_gets_a_sign_with_a_call_that_it_did_not_make(model, kept):
    part = {"functionCall": {"name": "look", "args": {}, "id": "c"}}
    state = {"state": {"gemini": [part]}, "made_by": ["gemini", "gemini-2.5-pro"]} if kept else {}
    told = body_of("gemini", model, user("?"), made(("c", "look"), **state), tool_result("c", "seen"))
    call = next(part for content in told["contents"] for part in content["parts"] if "functionCall" in part)
    assert ("thoughtSignature" in call) is (model != "gemini-2.5-pro")


def test_the_model_of_the_options_is_the_one_that_is_asked():
    told = body_of(
        "gemini",
        "gemini-2.5-pro",
        user("?"),
        made(("c", "look")),
        tool_result("c", "s"),
        options={"model": "gemini-3-pro"},
    )
    assert "thoughtSignature" in json.dumps(told)


def test_a_thread_stays_what_it_was():
    thread = Thread.from_messages(
        [user("?"), made(("functions.look:0", "look")), tool_result("functions.look:0", "s")]
    )
    before = msgspec.json.encode(thread)
    for row in PROVIDERS.values():
        fitted(request(*thread.messages), row)
    assert msgspec.json.encode(thread) == before


def test_where_nothing_is_said_of_ids_one_that_comes_again_is_another_one_too():
    turn = [made(("call_unnamed_0", "look")), tool_result("call_unnamed_0", "seen")]
    again = [made(("call_unnamed_0", "find")), tool_result("call_unnamed_0", "found")]
    told = body_of("gemini", "gemini-3-pro", user("hi"), *turn, *again)
    names = [
        part["functionResponse"]["name"]
        for content in told["contents"]
        for part in content["parts"]
        if "functionResponse" in part
    ]
    assert names == ["look", "find"]


def test_two_calls_of_one_id_get_an_answer_each():
    answers = [tool_result("c", "first"), tool_result("c", "second")]
    sent = fitted(
        request(user("hi"), made(("c", "look"), ("c", "look")), *answers), PROVIDERS["xai"]
    ).messages
    asked = [call.id for call in sent[1].tool_calls]
    assert [message.tool_call_id for message in sent[2:]] == asked
    assert len(set(asked)) == 2


def test_the_name_of_a_tool_that_there_is_stays_and_the_answer_has_that_of_its_call():
    tools = [Tool(name="server.look", description="", schema={})]
    answer = Message(role="tool", content="seen", tool_call_id="d", name="made up<|x|>")
    asked = request(user("hi"), made(("c", "server.look"), ("d", "made up<|x|>")), answer, tools=tools)
    sent = fitted(asked, PROVIDERS["gemini"]).messages
    assert [call.name for call in sent[1].tool_calls] == ["server.look", "made_up__x__"]
    assert sent[2].name == "made_up__x__"


def test_on_bedrock_ids_are_as_the_maker_of_the_model_takes_them():
    step = [user("?"), made(("functions.look:0", "look")), tool_result("functions.look:0", "seen")]
    kimi, claude = (
        body_of("bedrock", model, *step)["messages"][1]["content"][0]["toolUse"]["toolUseId"]
        for model in ("moonshot.kimi-k2-thinking", "eu.anthropic.claude-sonnet-4-5-20250929-v1:0")
    )
    assert kimi == "functions.look:0"
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", claude)


def test_an_id_goes_back_to_who_made_it_as_it_came():
    call, id = {"type": "function_call", "name": "look", "arguments": "{}"}, "resp_" + "x" * 50 + ":call_0"
    items = [SEALED[0], {**call, "call_id": id}]
    asked = [user("?"), made((id, "look"), state={"openai_responses": items}, made_by=["openai", "gpt-5"])]
    told = body_of("openai", "gpt-5", *asked, tool_result(id, "seen"))
    assert told["input"][1:3] == items
    assert told["input"][3]["call_id"] == id


UNSIGNED = {"reasoningContent": {"reasoningText": {"text": "hm"}}}


@pytest.mark.parametrize(
    ("model", "goes"),
    [
        ("eu.anthropic.claude-sonnet-4-5-20250929-v1:0", [THOUGHT]),
        ("moonshot.kimi-k2-thinking", [UNSIGNED]),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc", [THOUGHT, UNSIGNED]),
    ],
)
def test_on_bedrock_where_no_answer_says_its_model_only_claude_signs(model, goes):
    blocks = [THOUGHT, UNSIGNED, {"text": "It rains."}]
    said = made(text="It rains.", state={"bedrock": blocks}, made_by=["bedrock", None])
    told = body_of("bedrock", model, user("?"), said, user("And now?"))
    assert told["messages"][1]["content"] == [*goes, blocks[2]]


@pytest.mark.parametrize(
    ("model", "goes"),
    [("anthropic/claude-opus-4.1", True), ("openai/gpt-5", False), ("openrouter/auto", True)],
)
def test_on_openrouter_thoughts_go_back_to_their_own_family(model, goes):
    details = [{"type": "reasoning.text", "text": "hm", "signature": "signed"}]
    state = {"openai_chat": {"reasoning_details": details}}
    said = made(text="It rains.", state=state, made_by=["openrouter", "anthropic/claude-sonnet-4.5"])
    told = body_of("openrouter", model, user("?"), said, user("And now?"))
    assert told["messages"][1].get("reasoning_details") == (details if goes else None)


def test_a_deployment_of_any_name_gets_its_thoughts_back():
    said = made(text="It rains.", state={"openai_responses": SEALED}, made_by=["azure", "gpt-5-2025-08-07"])
    row = PROVIDERS["azure"]
    for model, goes in (("our-thinker", True), ("gpt-4.1", False)):
        sent = fitted(request(user("?"), said, model=model), row).messages[1]
        assert ("sealed" in str(sent.metadata)) is goes


CLAUDES = [
    {"type": "thinking", "thinking": "hm", "signature": "signed"},
    {"type": "text", "text": "Let me look."},
    {"type": "tool_use", "id": "c", "name": "look", "input": {"x": 1}},
    {"type": "tool_use", "id": "d", "name": "look", "input": {"x": 2}},
]


def of_claude(calls, text="Let me look."):
    known = [
        ToolCall(id="c", name="look", arguments={"x": 1}, raw_arguments='{"x":1}'),
        ToolCall(id="d", name="look", arguments={"x": 2}, raw_arguments='{"x":2}'),
    ]
    state = {
        "anthropic": CLAUDES,
        "made_by": ["anthropic", "claude"],
        "made_of": made_of("Let me look.", known),
    }
    metadata = {"tool_calls": [call for call in known if call.id in calls], "provider_state": state}
    return Message(role="assistant", content=text, metadata=metadata)


def test_a_state_does_not_outlive_an_edit():
    kept = body_of("anthropic", "claude", user("?"), of_claude("cd"))["messages"][1]["content"]
    assert kept == CLAUDES
    edited = body_of("anthropic", "claude", user("?"), of_claude("cd", text="[removed]"))
    assert [block.get("text") for block in edited["messages"][1]["content"]] == ["[removed]", None, None]
    told = of_claude("c")
    other = [msgspec.structs.replace(told.tool_calls[0], arguments={"x": 3}, raw_arguments=None)]
    told = msgspec.structs.replace(told, metadata={**told.metadata, "tool_calls": other})
    sent = body_of("anthropic", "claude", user("?"), told)["messages"][1]["content"]
    assert [block["type"] for block in sent] == ["text", "tool_use"]
    assert sent[1]["input"] == {"x": 3}


def test_a_call_that_was_put_in_is_an_edit():
    told = of_claude("cd")
    more = [*told.tool_calls, ToolCall(id="e", name="look", arguments={"x": 3})]
    told = msgspec.structs.replace(told, metadata={**told.metadata, "tool_calls": more})
    sent = body_of("anthropic", "claude", user("?"), told)["messages"][1]["content"]
    assert [block["type"] for block in sent] == ["text", "tool_use", "tool_use", "tool_use"]


def test_a_call_that_was_taken_out_is_no_edit():
    sent = body_of("anthropic", "claude", user("?"), of_claude("d"))["messages"][1]["content"]
    assert sent == [*CLAUDES[:2], CLAUDES[3]]


def test_parts_of_one_text_are_the_text():
    told = msgspec.structs.replace(of_claude("cd"), content=[TextPart(text="Let me look.")])
    assert body_of("anthropic", "claude", user("?"), told)["messages"][1]["content"] == CLAUDES


def test_what_is_stored_and_read_again_is_what_it_was():
    thread = Thread.from_messages([user("?"), of_claude("cd")])
    again = from_json(to_json(thread))
    assert fitted(request(*again.messages), PROVIDERS["anthropic"]).messages[1] is again.messages[1]


@pytest.mark.parametrize(
    ("kinds", "began_without"),
    [
        (["u", "a:thought,call", "u:result"], False),
        (["u", "a:call", "u:result"], True),
        (["u", "a:thought,call", "u:result", "a:call", "u:result"], False),
        (["u", "a:call", "u:result", "a:thought,call", "u:result"], True),
        (["u", "a:call", "u:result", "u"], True),
        (["u", "a:call", "u:result", "a", "u"], False),
        (["u", "a:call", "u:result", "a", "u", "a:thought,call", "u:result"], False),
        (["u"], False),
        ([], False),
    ],
)
def test_a_step_begins_after_what_a_user_says(kinds, began_without):
    roles = {"u": "user", "a": "assistant"}
    turns = [
        (roles[role], blocks.split(",") if blocks else ["text"])
        for role, _, blocks in (each.partition(":") for each in kinds)
    ]
    assert began_without_thoughts(turns) is began_without


def test_claude_on_bedrock_does_not_think_in_the_middle_of_a_step_that_began_without():
    step = [user("?"), made(("c", "look")), tool_result("c", "seen")]
    model = "anthropic.claude-sonnet-4-5"
    assert "additionalModelRequestFields" not in body_of("bedrock", model, *step, options=THINKS)
    told = body_of("bedrock", model, step[0], options=THINKS)
    assert told["additionalModelRequestFields"] == THINKS


@pytest.mark.parametrize("id", [["a"], {"a": 1}, None])
def test_an_id_of_any_kind_in_what_came_is_no_calls(id):
    for dialect, model, block in (
        ("anthropic", "claude", {"type": "tool_use", "id": id, "name": "look", "input": {}}),
        ("bedrock", "m", {"toolUse": {"toolUseId": id, "name": "look", "input": {}}}),
        ("openai_responses", "gpt-5", {"type": "function_call", "call_id": id, "id": id, "name": "look"}),
    ):
        provider = "openai" if dialect == "openai_responses" else dialect
        told = body_of(provider, model, user("?"), made(("c", "look"), text="so", state={dialect: [block]}))
        assert "look" not in json.dumps(told["messages" if "messages" in told else "input"])


def test_blank_text_that_claude_wrote_does_not_go_back():
    blocks = [CLAUDES[0], {"type": "text", "text": "\n\n"}, CLAUDES[2]]
    said = made(("c", "look"), text="\n\n", state={"anthropic": blocks})
    sent = body_of("anthropic", "claude", user("?"), said, tool_result("c", "seen"))["messages"][1]["content"]
    assert sent == [CLAUDES[0], CLAUDES[2]]
