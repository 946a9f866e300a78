"""What a remote adapter refuses before it touches the network."""

import asyncio
import gc
import json
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace
from urllib.parse import urlsplit
from weakref import ref

import httpx
import msgspec
import pytest

from allm_actors.data import (
    AdapterError,
    EmbeddingRequest,
    EngineError,
    ErrorEvent,
    Image,
    ImagePart,
    Message,
    MessageStarted,
    RawChunk,
    Request,
    Tool,
    ToolCall,
    ValidationError,
)
from allm_actors.engine import keys
from allm_actors.engine.adapter import Call
from allm_actors.engine.adapters import find_adapter, find_capable
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.http.transport import HttpxTransport
from allm_actors.engine.remote.options import base_url_of, deadlines_of

ASK = Request(messages=[Message(role="user", content="hi")], model="m")


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    keys.clear()
    for row in PROVIDERS.values():
        places = (name for names in row.places.values() for name in names)
        for name in (*row.key_names, row.base_url_name, *places):
            monkeypatch.delenv(name, raising=False)


def opened(adapter="openai", request=ASK, **fields):
    fields.setdefault("api_key", "sk-x")
    return find_adapter(adapter).batches(request, Call(request_id="r", **fields))


def test_a_missing_key_is_refused_by_the_call_itself():
    with pytest.raises(EngineError, match="OPENAI_API_KEY") as refused:
        opened(api_key=None)
    assert refused.value.reason == "missing_key"


@pytest.mark.parametrize("adapter", ["openai", "anthropic", "gemini", "azure"])
@pytest.mark.parametrize("name", ["Authorization", "X-API-Key", None], ids=["bearer", "gateway", "own"])
def test_a_key_in_the_callers_headers_is_a_key(adapter, name):
    name = name or PROVIDERS[adapter].key_header
    options = {"base_url": "http://gateway.test", "headers": {name: "Bearer gateway-key"}}
    call = Call(request_id="r", options=options)
    sent = find_adapter(adapter).prepare_request(ASK, call).headers
    assert sent[name.lower()] == "Bearer gateway-key"
    ours = {"authorization", "x-api-key", PROVIDERS[adapter].key_header}
    assert ours & sent.keys() == {name.lower()}
    for others in ({name: " "}, {"x-tenant": "ada"}):
        with pytest.raises(EngineError, match="no API key"):
            opened(adapter, api_key=None, options=options | {"headers": others})


def test_what_is_not_chat_takes_a_key_in_the_callers_headers_too():
    embeds = find_capable(CAPABILITIES["embed"], "openai")
    call = Call(request_id="r", options={"headers": {"authorization": "Bearer gateway-key"}})
    sent = embeds.prepare_request(EmbeddingRequest(input=["x"], model="m"), call)
    assert sent.headers["authorization"] == "Bearer gateway-key"


def test_a_missing_model_is_refused_by_the_call_itself():
    nameless = Request(messages=ASK.messages)
    with pytest.raises(EngineError, match="openai:") as refused:
        opened(request=nameless)
    assert refused.value.reason == "missing_model"
    opened("openai-compatible", request=nameless, options={"base_url": "http://localhost:1/v1"})


def test_the_key_is_asked_for_at_each_call():
    asked = []
    for _ in range(2):
        opened(api_key=lambda: asked.append(1) or "sk-x")
    assert len(asked) == 2


def test_pictures_are_checked_by_the_call_itself():
    picture = ImagePart(image=Image.from_bytes(b"a", "image/bmp"))
    with pytest.raises(ValidationError):
        opened(request=Request(model="m", messages=[Message(role="user", content=[picture])]))


def test_a_compatible_server_needs_a_base_url_and_no_key(monkeypatch):
    with pytest.raises(EngineError, match="base_url"):
        opened("openai-compatible", api_key=None)
    opened("openai-compatible", api_key=None, options={"base_url": "http://localhost:1234/v1"})
    monkeypatch.setenv("OPENAI_COMPATIBLE_BASE_URL", "http://localhost:1234/v1")
    opened("openai-compatible", api_key=None)


@pytest.mark.parametrize("provider", ["anthropic", "cohere", "gemini", "ollama"])
def test_openais_words_are_not_said_to_who_has_none_for_them(provider):
    words = {"reasoning_effort": "high", "reasoning_summary": "auto", "verbosity": "low"}
    plain = asked(provider, msgspec.structs.replace(ASK, options={"top_k": 3}), {}).body
    assert asked(provider, msgspec.structs.replace(ASK, options={"top_k": 3, **words}), {}).body == plain
    assert b"reasoning_effort" in asked("groq", msgspec.structs.replace(ASK, options=words), {}).body


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (5, "a text, not int"),
        ("localhost:80", "begin with http"),
        ("ftp://host", "begin with http"),
        ("http:///v1", "no host"),
        ("http://[::1/v1", "neither a name"),
        ("http://host:99999/v1", "up to 65535"),
        ("http://me:pass/word@host/v1", "up to 65535"),
        ("http://a b/v1", "not allowed in a URL"),
        ("http://host/v 1", "not allowed in a URL"),
        ("http://host/v1?version=1", "query="),
        ("http://host/v1#part", "query="),
        ("http://host/v1?", "query="),
        ("http://host/v1#", "query="),
    ],
)
def test_a_base_url_that_cannot_work_is_refused_before_anything_is_sent(url, why):
    with pytest.raises(EngineError, match=why) as refused:
        opened("openai", options={"base_url": url})
    assert refused.value.reason == "invalid_engine"
    assert "pass" not in refused.value.message


@pytest.mark.parametrize("url", [" http://host/v1\n", "http://host/v1/", "http://host/v1"])
def test_space_around_a_base_url_and_its_last_slash_do_not_count(monkeypatch, url):
    row = PROVIDERS["openai"]
    assert base_url_of(row, {"base_url": url}) == "http://host/v1"
    monkeypatch.setenv(row.base_url_name, url)
    assert base_url_of(row, {}) == "http://host/v1"


@pytest.mark.parametrize(
    "url", ["http://[::1]:8080", "https://me:pw@host:1/a/b", "HTTPS://host/v1", "http://bücher.example/v1"]
)
def test_every_base_url_that_can_work_is_taken(url):
    assert base_url_of(PROVIDERS["openai"], {"base_url": url}) == url


def test_the_base_url_of_the_options_wins_over_the_environments(monkeypatch):
    row = PROVIDERS["openai"]
    assert base_url_of(row, {}) == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://proxy/v1/")
    assert base_url_of(row, {}) == "http://proxy/v1"
    assert base_url_of(row, {"base_url": "http://mine/"}) == "http://mine"
    with pytest.raises(EngineError, match="http://"):
        base_url_of(row, {"base_url": "localhost:80"})


def test_a_region_comes_from_the_options_then_the_environment(monkeypatch):
    row = PROVIDERS["bedrock"]

    def url(**options):
        return base_url_of(row, options)

    assert url(region="eu-west-1") == "https://bedrock-runtime.eu-west-1.amazonaws.com"
    assert url(base_url="http://localhost:1/") == "http://localhost:1"
    for wrong in ({}, {"region": "x.evil.example/"}, {"region": 1}):
        with pytest.raises(EngineError, match="AWS_REGION or AWS_DEFAULT_REGION"):
            url(**wrong)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    assert url() == "https://bedrock-runtime.us-west-2.amazonaws.com"
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert url() == "https://bedrock-runtime.us-east-1.amazonaws.com"
    with pytest.raises(TypeError, match="openai does not take; leave it out"):
        opened(options={"region": "eu-west-1"})


def test_the_model_or_the_caller_chooses_the_endpoint():
    def path(model="m", adapter="openai", **options):
        http = asked(adapter, Request(messages=ASK.messages, model=model), options)
        return urlsplit(http.url).path

    assert path("gpt-5") == "/v1/responses"
    assert path("gpt-4o") == "/v1/chat/completions"
    assert path("gpt-5", endpoint="chat_completions") == "/v1/chat/completions"
    assert path("deepseek-v4", "deepseek", endpoint="responses") == "/v1/responses"
    with pytest.raises(EngineError, match="endpoint must be"):
        path(endpoint="completions")


def test_a_query_goes_over_that_of_the_row(monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com/")
    plain = asked("azure", ASK, {})
    assert (
        plain.url
        == "https://mine.openai.azure.com/openai/deployments/m/chat/completions?api-version=2024-10-21"
    )
    assert plain.headers["api-key"] == "sk-x"
    assert "authorization" not in plain.headers
    query = {"api-version": "2025-01-01-preview", "x": "a b"}
    assert urlsplit(asked("azure", ASK, {"query": query}).url).query == "api-version=2025-01-01-preview&x=a+b"
    for wrong in ({"api-version": 2025}, {2025: "api-version"}):
        with pytest.raises(TypeError, match="query must be a mapping"):
            asked("azure", ASK, {"query": wrong})


def asked(adapter, request, options):
    """The HTTP request that a call sends."""
    transport = Recorder()
    batches = opened(adapter, request, options=options, transport=transport, retry=False)

    async def read():
        return [events async for events in batches]

    asyncio.run(read())
    return transport.sent


class Recorder:
    """A transport that remembers the request, and has no network."""

    sent = None

    @asynccontextmanager
    async def open(self, request, deadlines):
        self.sent = request
        raise AdapterError("network_error")
        yield


@pytest.mark.parametrize("name", ["content-length", "Content-Length", "Transfer-Encoding"])
def test_a_header_that_would_say_another_length_is_refused(name):
    with pytest.raises(TypeError, match=f"adapter_opts headers must not have '{name}'"):
        asked("openai", ASK, {"headers": {name: "3"}})


def test_deadlines_come_from_the_call_then_the_options():
    def seconds(**fields):
        found = deadlines_of(Call(request_id="r", **fields))
        return found.connect, found.first_byte, found.idle, found.total

    assert seconds() == (10.0, 60.0, 60.0, None)
    assert seconds(stream_timeout=5) == (10.0, 5.0, 5.0, None)
    assert seconds(request_timeout=9, options={"stream_timeout": 7}) == (10.0, 7.0, 7.0, 9.0)
    options = {
        "connect_timeout": 1,
        "first_byte_timeout": 2,
        "stream_timeout": float("inf"),
        "request_timeout": 4,
    }
    assert seconds(options=options) == (1.0, 2.0, None, 4.0)
    assert seconds(options={"pool_timeout": 3, "receive_timeout": 2}) == (3.0, 2.0, 60.0, None)


class Overloaded:
    """A transport that is always refused, and whose waiting is a matter of its clock."""

    def __init__(self):
        self.waited, self.spent = 0.0, []

    def monotonic(self):
        return time.monotonic() + self.waited

    async def sleep(self, seconds):
        self.waited += seconds

    @asynccontextmanager
    async def open(self, _request, deadlines):
        self.spent.append(deadlines.spent)
        raise AdapterError("provider_unavailable", status=503)
        yield


def test_the_time_for_the_whole_call_is_that_of_all_attempts_and_what_is_between_them(monkeypatch):
    transport = Overloaded()
    clock = SimpleNamespace(monotonic=transport.monotonic, time=time.time)
    monkeypatch.setattr("allm_actors.engine.remote.adapter.time", clock)
    retry = {"max_attempts": 5, "base_delay": 10.0, "jitter": 0.0}
    batches = opened(transport=transport, request_timeout=25.0, retry=retry)

    async def read():
        return [event async for events in batches for event in events]

    assert asyncio.run(read())[-1].error.status == 503  # to wait for 20 more would be too long
    assert transport.spent == pytest.approx([0, 10], abs=5)


@pytest.mark.parametrize("wrong", [0, -1, "5", True, float("nan")])
def test_a_deadline_that_cannot_be_is_refused_by_the_call_itself(wrong):
    with pytest.raises(ValueError, match="stream_timeout must be seconds"):
        opened(stream_timeout=wrong)


def test_a_transport_that_was_given_is_not_kept():
    given = httpx.MockTransport(lambda _request: httpx.Response(200))
    opened(options={"transport": given})
    known = ref(given)
    del given
    gc.collect()
    assert known() is None


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        (httpx.HTTPTransport(), "HTTPTransport"),
        (httpx.AsyncClient(), "AsyncClient"),
        ("http://me:canary@proxy:3128", "str"),
        (httpx.AsyncHTTPTransport, "the class AsyncHTTPTransport"),
        (HttpxTransport, "the class HttpxTransport"),
        ([], "list"),
    ],
)
def test_what_is_no_transport_is_refused_by_the_call_itself(wrong, got):
    made = f"adapter_opts transport must be an allm.HttpxTransport, .*httpx.AsyncHTTPTransport.*, got: {got}$"
    with pytest.raises(TypeError, match=made) as refused:
        opened(options={"transport": wrong})
    assert "canary" not in str(refused.value)


def test_a_transport_around_one_that_is_not_asynchronous_is_refused_when_it_is_made():
    with pytest.raises(TypeError, match="must be an asynchronous transport of httpx"):
        HttpxTransport(httpx.HTTPTransport())


def test_a_transport_that_needs_no_key_counts_even_if_it_is_empty():
    class Replies(list):
        needs_no_key = True
        open = Recorder.open

    opened(api_key=None, options={"transport": Replies()})


def test_tools_and_a_schema_need_two_passes():
    tools = [Tool(name="a", description="", schema={})]
    schema = {"type": "json_schema", "name": "n", "schema": {}}
    adapter = find_adapter("openai")
    for request, needed in [
        (Request(messages=[], tools=tools, response_format=schema), True),
        (Request(messages=[], tools=tools), False),
        (Request(messages=[], response_format=schema), False),
        (Request(messages=[], tools=tools, response_format={"type": "json_object"}), False),
    ]:
        assert adapter.requires_structured_finalize(request) is needed


def test_nothing_of_an_adapter_shows_a_key():
    assert repr(find_adapter("openai")) == "RemoteAdapter('openai')"


def test_headers_that_options_and_variables_fill(monkeypatch):
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENROUTER_APP_NAME", "OPENROUTER_APP_URL"):
        monkeypatch.delenv(name, raising=False)
    sent = asked("openai", ASK, {"organization": "acme", "project": "moon"}).headers
    assert (sent["openai-organization"], sent["openai-project"]) == ("acme", "moon")
    assert not {"openai-organization", "openai-project"} & asked("openai", ASK, {}).headers.keys()
    sent = asked("openrouter", ASK, {"app_name": "Mine", "app_url": "https://mine.example"}).headers
    assert (sent["x-title"], sent["http-referer"]) == ("Mine", "https://mine.example")
    monkeypatch.setenv("OPENAI_ORG_ID", "env-org")
    monkeypatch.setenv("OPENROUTER_APP_NAME", "Theirs")
    assert asked("openai", ASK, {}).headers["openai-organization"] == "env-org"
    assert asked("openai", ASK, {"organization": "acme"}).headers["openai-organization"] == "acme"
    assert asked("openrouter", ASK, {}).headers["x-title"] == "Theirs"
    assert asked("openrouter", ASK, {"headers": {"X-Title": "Call's"}}).headers["x-title"] == "Call's"
    assert "x-title" not in asked("groq", ASK, {}).headers


def test_beta_features_of_the_caller_come_beside_those_that_are_needed():
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    state = {"anthropic": [thought, {"type": "text", "text": "b"}]}
    answer = Message(role="assistant", content="b", metadata={"provider_state": state})
    went_on = Request(messages=[*ASK.messages, answer, *ASK.messages], model="claude-opus-5-5")
    needed = asked("anthropic", went_on, {}).headers["anthropic-beta"]
    given = {"headers": {"Anthropic-Beta": "mine-2026-01-01", "anthropic-version": "2024-01-01"}}
    headers = asked("anthropic", went_on, given).headers
    assert headers["anthropic-beta"] == f"{needed},mine-2026-01-01"
    assert headers["anthropic-version"] == "2024-01-01"
    assert asked("anthropic", ASK, given).headers["anthropic-beta"] == "mine-2026-01-01"


@pytest.mark.parametrize(
    ("adapter", "option"),
    [
        *[(adapter, "organization") for adapter in ("groq", "mistral", "azure", "openrouter", "anthropic")],
        ("groq", "project"),
        ("openai", "app_name"),
        ("openai", "app_url"),
    ],
)
def test_an_option_that_a_provider_does_not_have_is_refused(adapter, option):
    with pytest.raises(TypeError, match=f"an? {option}, which {adapter} does not take; leave it out"):
        opened(adapter, options={option: "x"})


def test_an_option_that_fills_a_header_is_a_text():
    with pytest.raises(TypeError, match="organization must be a text"):
        opened(options={"organization": 5})


def test_what_would_be_sent_can_be_had_unsent():
    options = {"organization": "acme", "query": {"v": "2"}}
    ready = find_adapter("openai").prepare_request(ASK, Call(request_id="r", api_key="sk-x", options=options))
    sent = asked("openai", ASK, options)
    assert ready == sent
    assert (ready.url, ready.headers["authorization"]) == (sent.url, "Bearer sk-x")
    assert "sk-x" not in repr(ready)


CITY = {"type": "object", "properties": {"name": {"type": "string"}}}
NESTED = {"type": "object", "properties": {"a": {"$ref": "#/$defs/City"}}, "$defs": {"City": CITY}}


@pytest.mark.parametrize(
    ("adapter", "model", "spelled"),
    [
        *[("groq", name, True) for name in ("openai/gpt-oss-120b", "GPT-OSS-20b")],
        *[("zai", name, True) for name in ("glm-5.3", "zai-org/GLM-5.3-FP8")],
        ("mistral", "zai-glm-5-3", True),
        ("fireworks", "accounts/fireworks/models/glm-5p3", True),
        *[("zai", name, False) for name in ("glm-5.2", "glm-5.30", "glm-5")],
        ("openai", "gpt-4.1", False),
    ],
)
def test_a_tools_types_are_spelled_out_for_a_model_that_reads_no_definitions(adapter, model, spelled):
    tool = Tool(name="t", description="", schema=NESTED)
    call = Call(request_id="r", api_key="k")
    given = [{"model": model}, {"model": "m", "options": {"model": model}}]
    for fields in given:
        asked = msgspec.structs.replace(ASK, tools=[tool], **fields)
        body = json.loads(find_adapter(adapter).prepare_request(asked, call).body)
        form = {"type": "object", "properties": {"a": CITY}} if spelled else NESTED
        assert body["tools"][0]["function"]["parameters"] == form


def test_what_cannot_be_sent_is_refused_when_it_is_prepared():
    call = Call(request_id="r")
    with pytest.raises(EngineError, match="OPENAI_API_KEY"):
        find_adapter("openai").prepare_request(ASK, call)
    forced = Request(model="m", messages=ASK.messages, tool_choice="required")
    with pytest.raises(ValidationError, match="tool_choice"):
        find_adapter("openai").prepare_request(forced, Call(request_id="r", api_key="sk-x"))


# --- what a stream has an error instead of --------------------------------------------------------------------

COST = {"input_tokens": 9, "output_tokens": 1}
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
BEGUN = {"type": "message_start", "message": {"id": "a", "content": [], "usage": COST}}
SAID = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "so"}}
THOUGHT = {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "Hm"}}
FAILED = {"error": {"code": "server_error", "message": "x"}, "usage": COST}
CHOICE = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}


def tried(adapter, model, *wires, apart=False, breaks=False, request=ASK):
    """The events of a call whose provider answers every attempt with these, and how many attempts there were."""
    pieces = [f"data: {json.dumps(wire)}\n\n".encode() for wire in wires]
    asked = []

    async def sent():
        for piece in pieces if apart else [b"".join(pieces)]:
            yield piece
        if breaks:
            raise httpx.ReadError("reset")

    def answer(request):
        asked.append(request)
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=sent())

    request = msgspec.structs.replace(request, model=model)
    options = {"transport": httpx.MockTransport(answer)}
    batches = opened(adapter, request, options=options, retry={"base_delay": 0.0, "jitter": 0.0})

    async def read():
        return [event async for events in batches for event in events]

    return asyncio.run(read()), len(asked)


@pytest.mark.parametrize(
    ("adapter", "model", "wires", "attempts"),
    [
        ("anthropic", "m", [OVERLOADED], 3),
        ("anthropic", "m", [BEGUN, OVERLOADED], 3),
        ("anthropic", "m", [BEGUN, {"type": "ping"}, OVERLOADED], 3),
        ("anthropic", "m", [BEGUN, SAID, OVERLOADED], 1),
        ("anthropic", "m", [BEGUN, THOUGHT, OVERLOADED], 1),
        ("openai", "gpt-5", [{"type": "response.failed", "response": FAILED}], 3),
        ("openai", "gpt-4o", [{"choices": [CHOICE]}], 3),
    ],
    ids=["alone", "begun", "after a ping", "said", "thought", "failed", "broken off"],
)
@pytest.mark.parametrize("apart", [False, True], ids=["in one read", "in a read each"])
def test_an_overload_is_tried_again_while_there_is_nothing_of_an_answer(
    adapter, model, wires, attempts, apart
):
    events, asked = tried(adapter, model, *wires, apart=apart)
    assert asked == attempts
    error = events[-1].error
    assert (error.reason, error.request_id) == ("provider_unavailable", "r")
    assert error.metadata.get("partial", False) is (attempts == 1)
    assert [type(event) for event in events].count(MessageStarted) == 1
    assert [type(event) for event in events].count(ErrorEvent) == 1


def test_what_the_last_attempt_cost_is_told():
    for wires in ([BEGUN, OVERLOADED], [BEGUN, SAID, OVERLOADED], [BEGUN]):
        for apart in (False, True):
            events, _ = tried("anthropic", "m", *wires, apart=apart)
            (count,) = (event.payload[1] for event in events if isinstance(event, RawChunk))
            assert count["input_tokens"] == 9


def test_what_a_connection_cost_that_broke_before_the_answer_is_told_and_it_is_not_tried_again():
    events, asked = tried("anthropic", "m", BEGUN, apart=True, breaks=True)
    (count,) = (event.payload[1] for event in events if isinstance(event, RawChunk))
    assert (count["input_tokens"], events[-1].error.reason, asked) == (9, "network_error", 1)


def test_a_tool_of_the_users_is_called_whatever_its_name_is():
    """Also where such a name is that of a structured answer."""
    tool = Tool(name="respond_with_json_report", description="Reports.", schema={"type": "object"})
    request = msgspec.structs.replace(ASK, tools=[tool])
    block = {"type": "tool_use", "id": "1", "name": tool.name, "input": {"x": 1}}
    called = {"type": "content_block_start", "index": 0, "content_block": block}
    events, _ = tried("anthropic", "m", BEGUN, called, {"type": "message_stop"}, request=request)
    assert [call.name for call in events[-1].message.tool_calls] == [tool.name]


def test_an_id_that_the_conversation_has_already_comes_with_a_number():
    """Also if the provider was told another, because it does not accept the one that the conversation has."""
    before = Message(
        role="assistant",
        content="",
        metadata={"tool_calls": [ToolCall(id="refund:0", name="refund", arguments={})]},
    )
    given = Message(role="tool", content="given", tool_call_id="refund:0")
    request = msgspec.structs.replace(ASK, messages=[*ASK.messages, before, given])
    block = {"type": "tool_use", "id": "refund:0", "name": "refund", "input": {}}
    called = {"type": "content_block_start", "index": 0, "content_block": block}
    events, _ = tried("anthropic", "m", BEGUN, called, {"type": "message_stop"}, request=request)
    assert [call.id for call in events[-1].message.tool_calls] == ["refund:0_1"]


def test_a_stream_that_just_ends_is_a_part_and_is_not_tried_again():
    events, asked = tried("openai", "m")
    assert (events[-1].error.reason, events[-1].error.metadata) == ("network_error", {"partial": True})
    assert asked == 1
