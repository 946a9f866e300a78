"""A request becomes OpenAI's JSON."""

import json

import msgspec
import pytest

from allm_actors.data import Image, ImagePart, Message, Request, TextPart, Tool, ToolCall, ValidationError
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects.body import parameters
from allm_actors.engine.dialects.openai.chat import encode


def body(provider="openai", **fields):
    fields.setdefault("messages", [Message(role="user", content="hi")])
    http = encode(Request(**fields), PROVIDERS[provider], "https://host/v1")
    if provider != "azure":  # its deployments are in the path
        assert http.url == "https://host/v1/chat/completions"
    return json.loads(http.body)


def sent(message):
    return body(messages=[message])["messages"][0]


def test_the_least_there_is():
    assert body(model="gpt-4.1") == {
        "model": "gpt-4.1",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("provider", "model", "name"),
    [
        *[
            ("openai", m, "max_completion_tokens")
            for m in ("gpt-4o-mini", "gpt-4.1", "gpt-5", "gpt-6-sol", "gpt-10", "o3")
        ],
        *[("openai", m, "max_tokens") for m in ("gpt-4", "gpt-3.5-turbo", "gpt-4-turbo", None)],
        ("groq", "openai/gpt-oss-120b", "max_tokens"),
        ("azure", "gpt-35-turbo-16k", "max_tokens"),
        ("azure", "gpt-5", "max_completion_tokens"),
        ("cerebras", "zai-glm-4.7", "max_completion_tokens"),
    ],
)
def test_the_name_of_the_token_limit(provider, model, name):
    assert body(provider, model=model, max_tokens=5)[name] == 5


def test_a_deployment_of_any_name_may_be_given_the_newer_limit():
    assert body("azure", model="prod", options={"max_completion_tokens": 5})["max_completion_tokens"] == 5


def test_tools_and_choices():
    tool = Tool(name="f", description="d", schema={"type": "object"})
    wire = body(tools=[tool], tool_choice="f")
    assert wire["tools"] == [
        {
            "type": "function",
            "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}},
        }
    ]
    assert wire["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert parameters(msgspec.structs.replace(tool, schema={})) == {"type": "object", "properties": {}}
    whole = {"properties": {"a": {}}, "type": "object"}
    assert parameters(msgspec.structs.replace(tool, schema=whole)) is whole
    strict = Tool(name="f", description="d", schema={}, metadata={"strict": True})
    assert body(tools=[strict])["tools"][0]["function"]["strict"] is True
    for choice in ("auto", "none", "required", {"type": "allowed_tools"}):
        assert body(tools=[tool], tool_choice=choice)["tool_choice"] == choice


EMPTY = Message(role="assistant", content=[TextPart(text=" ")])


def roles(provider, *messages):
    return [(wire["role"], wire["content"]) for wire in body(provider, messages=list(messages))["messages"]]


@pytest.mark.parametrize("provider", ["moonshotai", "mistral", "perplexity", "zai"])
def test_an_answer_without_anything_is_left_out_where_it_is_refused(provider):
    asked = [Message(role="user", content="a"), EMPTY]
    assert roles(provider, *asked) == [("user", "a")]
    assert roles("openai", *asked)[-1] == ("assistant", " ")
    call = ToolCall(id="c", name="f", arguments={})
    calling = Message(role="assistant", content="", metadata={"tool_calls": [call]})
    answer = Message(role="tool", content="", tool_call_id="c")
    assert [role for role, _ in roles(provider, asked[0], calling, answer)] == ["user", "assistant", "tool"]


def test_speakers_take_turns_where_they_have_to():
    said = [
        Message(role="system", content="s"),
        Message(role="user", content="a"),
        EMPTY,
        Message(role="user", content=[TextPart(text="b")]),
        Message(role="assistant", content="c"),
        Message(role="assistant", content="d"),
        Message(role="system", content="t"),
        Message(role="user", content="e"),
    ]
    assert roles("perplexity", *said) == [
        *[("system", "s"), ("system", "t")],
        *[("user", "a\nb"), ("assistant", "c\nd"), ("user", "e")],
    ]
    assert len(roles("openai", *said)) == len(said)


def test_system_messages_come_first_where_they_are_refused_behind_others():
    said = [Message(role=role, content=role[0]) for role in ("user", "assistant", "system", "user", "system")]
    ordered = [("system", "s"), ("system", "s"), ("user", "u"), ("assistant", "a"), ("user", "u")]
    assert roles("mistral", *said) == ordered
    assert roles("openai", *said) == [(message.role, message.content) for message in said]


@pytest.mark.parametrize(
    ("wanted", "wire"),
    [
        (None, None),
        ("text", None),
        ({"type": "json_object"}, {"type": "json_object"}),
        (
            {"type": "json_schema", "name": "n", "schema": {}, "strict": True},
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}},
        ),
        (
            {"type": "json_schema", "name": "a city, é", "schema": {}},
            {"type": "json_schema", "json_schema": {"name": "a_city___", "schema": {}}},
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "n"}},
            {"type": "json_schema", "json_schema": {"name": "n"}},
        ),
    ],
    ids=["none", "text", "object", "ours", "with odd letters", "theirs"],
)
def test_response_formats(wanted, wire):
    assert body(response_format=wanted).get("response_format") == wire


def test_options_have_the_last_word():
    wire = body(
        model="m", temperature=0.0, options={"temperature": 1, "top_p": 0.5, "stream_options": {"x": 1}}
    )
    assert (wire["temperature"], wire["top_p"]) == (1, 0.5)
    assert wire["stream_options"] == {"include_usage": True, "x": 1}
    assert body(temperature=0.0)["temperature"] == 0.0


def test_who_wants_no_stream_says_nothing_of_one():
    assert "stream_options" not in body("openai", options={"stream": False})


def test_servers_that_refuse_a_field_do_not_get_it():
    assert "stream_options" not in body("mistral")
    cache = {"key": "k", "retention": "long"}
    assert "prompt_cache_key" not in body("groq", prompt_cache=cache)
    assert (
        body(prompt_cache=cache).items() >= {"prompt_cache_key": "k", "prompt_cache_retention": "24h"}.items()
    )
    mistral = body("mistral", prompt_cache=cache)
    assert mistral["prompt_cache_key"] == "k"
    assert "prompt_cache_retention" not in mistral


def test_a_short_cache_without_a_key_says_nothing():
    wire = body(prompt_cache={"key": None, "retention": "short"})
    assert not wire.keys() & {"prompt_cache", "prompt_cache_key", "prompt_cache_retention"}


def test_messages():
    assert sent(Message(role="system", content="s")) == {"role": "system", "content": "s"}
    parts = [TextPart(text="a"), TextPart(text="b")]
    assert sent(Message(role="user", content=parts)) == {"role": "user", "content": "a\nb"}
    assert sent(Message(role="user", content=[])) == {"role": "user", "content": ""}
    assert sent(Message(role="user", content="u", name="kim"))["name"] == "kim"
    assert sent(Message(role="tool", content="42", tool_call_id="c")) == {
        "role": "tool",
        "content": "42",
        "tool_call_id": "c",
    }


@pytest.mark.parametrize(
    ("provider", "named"),
    [
        ("openai", ["system", "user", "assistant"]),
        ("xai", ["user"]),
        ("groq", []),
        ("mistral", []),
    ],
)
def test_a_name_is_sent_where_it_is_not_refused(provider, named):
    said = [Message(role=role, content="x", name="bob") for role in ("system", "user", "assistant")]
    told = body(provider, messages=said)["messages"]
    assert [message["role"] for message in told if message.get("name") == "bob"] == named


def test_pictures():
    url = ImagePart(image=Image.from_url("https://x/y.png"), detail="low")
    data = ImagePart(image=Image.from_bytes(b"ab", "image/png"))
    assert sent(Message(role="user", content=[TextPart(text="t"), url, data]))["content"] == [
        {"type": "text", "text": "t"},
        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,YWI=", "detail": "auto"}},
    ]


def test_every_picture_that_cannot_be_sent_is_listed():
    bad = [
        Image.from_bytes(b"a", "image/bmp"),
        Image.from_base64("!", "image/png"),
        Image(source=("binary", b"a")),
    ]
    huge = Image.from_bytes(bytes(20 * 1024 * 1024 + 1), "image/png")
    content = [ImagePart(image=image) for image in [*bad, huge, Image.from_file("/does/not/exist.png")]]
    with pytest.raises(ValidationError) as refused:
        body(messages=[Message(role="system", content=content[:1]), Message(role="user", content=content)])
    assert refused.value.errors == [
        (["messages", 0, "content"], "image_in_system_message"),
        (["content", 1, 0], "unsupported_image_format"),
        (["content", 1, 1], "unresolvable_image"),
        (["content", 1, 2], "missing_mime_type"),
        (["content", 1, 3], "image_too_large"),
        (["content", 1, 4], "unresolvable_image"),
    ]


def test_an_assistants_calls_travel_as_the_model_wrote_them():
    def arguments(**fields):
        call = ToolCall(id="c", name="f", **fields)
        wire = sent(Message(role="assistant", content="", metadata={"tool_calls": [call]}))
        assert (wire["content"], wire["tool_calls"][0]["id"], wire["tool_calls"][0]["type"]) == (
            "",
            "c",
            "function",
        )
        return wire["tool_calls"][0]["function"]["arguments"]

    assert arguments(arguments={"a": 1}, raw_arguments='{ "a":1 }') == '{ "a":1 }'
    assert arguments(arguments={"a": 1}) == '{"a":1}'
    assert arguments(arguments={}, raw_arguments='{"a"', metadata={"arguments_error": "cut"}) == "{}"


def test_thoughts_go_back_to_those_who_want_them():
    def thought(provider, state=None, calls=()):
        metadata = {"provider_state": {"openai_chat": state}} if state else {}
        said = Message(role="assistant", content="x", metadata={"tool_calls": list(calls), **metadata})
        return body(provider, messages=[said])["messages"][0]

    kept = {"reasoning_content": "hm", "reasoning_details": [{"text": "hm"}]}
    call = ToolCall(id="c", name="f", arguments={})
    assert thought("deepseek", kept)["reasoning_content"] == "hm"
    assert thought("openrouter", kept)["reasoning_details"] == [{"text": "hm"}]
    at_cerebras = thought("cerebras", {"reasoning": "hm"}, calls=[call])
    assert (at_cerebras["reasoning"], "reasoning_content" in at_cerebras) == ("hm", False)
    assert not set(kept) & set(thought("groq", kept))
    for silent in ("openrouter", "zai"):
        assert not set(kept) & set(thought(silent, calls=[call]))


def test_mistrals_thoughts_go_back_among_the_parts_of_the_answer():
    def content(parts, text="x", provider="mistral"):
        said = Message(
            role="assistant", content=text, metadata={"provider_state": {"openai_chat": {"content": parts}}}
        )
        return body(provider, messages=[said, Message(role="user", content="y")])["messages"][0]["content"]

    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True}
    said = {"type": "text", "text": "x"}
    assert content([thought, said]) == [thought, said]
    assert content([thought, {"type": "text", "text": "other"}]) == [thought, said]
    assert content("x") == "x"
    assert content([thought, said], provider="groq") == "x"
    call = ToolCall(id="D681PevKs", name="f", arguments={})
    state = {"provider_state": {"openai_chat": {"content": [thought]}}}
    asks = Message(role="assistant", content="", metadata={"tool_calls": [call], **state})
    sent = body("mistral", messages=[asks])["messages"][0]
    assert (sent["content"], len(sent["tool_calls"])) == ([thought], 1)


@pytest.mark.parametrize("provider", ["deepseek", "moonshotai"])
def test_an_answer_without_thoughts_has_a_blank_one_where_none_and_an_empty_one_are_refused(provider):
    call = ToolCall(id="c", name="f", arguments={})
    plain = Message(role="assistant", content="x")
    calling = Message(role="assistant", content="", metadata={"tool_calls": [call]})
    other = Message(role="assistant", content="x", metadata={"provider_state": {"cohere": {}}})
    told = body(provider, messages=[plain, calling, other, Message(role="user", content="y")])["messages"]
    assert [message.get("reasoning_content") for message in told] == [" ", " ", " ", None]


def test_text_that_is_no_unicode_is_refused_by_name():
    with pytest.raises(ValidationError, match="surrogates not allowed"):
        sent(Message(role="user", content="caf\udce9"))


def test_where_a_user_may_not_speak_after_a_tool_the_model_does_between():
    call = ToolCall(id="D681PevKs", name="look", arguments={})
    asks = Message(role="assistant", content="", metadata={"tool_calls": [call]})
    seen = Message(role="tool", content="seen", tool_call_id=call.id)
    says = Message(role="user", content="Stop.")
    answer = Message(role="assistant", content="It rains.")
    for provider, roles in (("mistral", "u a t t a u"), ("openai", "u a t t u")):
        told = body(provider, messages=[says, asks, seen, seen, says])["messages"]
        assert [message["role"][0] for message in told] == roles.split()
        assert all(message["content"] for message in told[4:])
    told = body("mistral", messages=[says, asks, seen, answer, says])["messages"]
    assert [message["content"] for message in told] == ["Stop.", "", "seen", "It rains.", "Stop."]
