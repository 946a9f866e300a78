"""OpenAI's own SDK reads the recorded answers as we do. It is no dependency: `make oracles` brings it."""

import json

import httpx
import pytest

from allm_actors.data import ErrorEvent
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects import find_dialect
from tests.conformance.traffic import cases, exchanges

openai = pytest.importorskip("openai", reason="OpenAI's SDK is not installed: make oracles")

# The SDK wants a message in a choice, and a response where one was recorded.
UNREADABLE = ("azure/otl-chat-content-filtering__01of04", "azure/vercel-azure-deepseek-reasoning-1")
FOLDERS = (
    *("alibaba", "azure", "bedrock", "cerebras", "crusoe", "deepseek", "groq", "huggingface", "lmstudio"),
    *(
        "mistral",
        "moonshotai",
        "openai",
        "openai-compatible",
        "openrouter",
        "snowflake",
        "together",
        "xai",
        "zai",
    ),
)


def dialect_of(exchange):
    path = exchange.request["url"].split("?")[0]
    if path.endswith("/chat/completions"):
        return "openai_chat"
    return "openai_responses" if path.endswith("/responses") else None


def is_answer(exchange):
    return (b'"choices"' in exchange.body or b'"output"' in exchange.body) and exchange.name not in UNREADABLE


def is_stream(exchange):
    return b"data:" in exchange.body[:2000]


answers = [
    each
    for each in exchanges(FOLDERS)
    if dialect_of(each) and each.response["status"] < 400 and is_answer(each)
]
every_chat = cases(each for each in answers if dialect_of(each) == "openai_chat")
every_response = cases(each for each in answers if dialect_of(each) == "openai_responses")


def asked(exchange):
    """The SDK's client, which gets the recorded bytes for an answer."""
    kind = "text/event-stream" if is_stream(exchange) else "application/json"
    answer = httpx.Response(200, headers={"content-type": kind}, content=exchange.body)
    http = httpx.Client(transport=httpx.MockTransport(lambda request: answer))
    return openai.OpenAI(api_key="none", base_url="http://x/v1", max_retries=0, http_client=http)


def ours(exchange):
    dialect, row = find_dialect(dialect_of(exchange)), PROVIDERS["openai"]
    if not is_stream(exchange):
        return dialect.decode_body(exchange.body, row)[-1]
    decoder = dialect.decoder(row)
    return (decoder.feed(exchange.body) + decoder.end())[-1]


def theirs(ask):
    """What the SDK says, and the error that it raised, if any."""
    try:
        return ask(), None
    except openai.APIError as refused:
        return None, refused.message


@every_chat
def test_a_chat_completion(exchange):
    streamed = is_stream(exchange)
    with asked(exchange) as client:
        create = client.chat.completions.create
        said, refused = theirs(lambda: read_chat(create(model="m", messages=[], stream=streamed)))
    last = ours(exchange)
    if refused is not None:
        assert isinstance(last, ErrorEvent)
        assert refused in last.error.message
        return
    assert not isinstance(last, ErrorEvent), last
    assert last.message.content == said["text"]
    assert [(call.name, call.raw_arguments) for call in last.message.tool_calls] == said["calls"]
    assert (last.metadata.get("raw_finish_reason") or None) in (said["finish"] or None, "refusal")
    assert counts(last.metadata.get("usage")) == said["usage"]


@every_response
def test_a_response(exchange):
    streamed = is_stream(exchange)
    with asked(exchange) as client:
        create = client.responses.create
        response, refused = theirs(lambda: whole(create(model="m", input="", stream=streamed), streamed))
    last = ours(exchange)
    if refused is not None:
        assert isinstance(last, ErrorEvent)
        assert refused in last.error.message
        return
    assert not isinstance(last, ErrorEvent), last
    calls = [item for item in response.output if item.type == "function_call"]
    assert said_of(exchange, response) in (None, last.message.content)
    assert [(call.id, call.name, call.arguments) for call in last.message.tool_calls] == [
        (call.call_id, call.name, json.loads(call.arguments)) for call in calls
    ]
    usage = response.usage
    assert counts(last.metadata["usage"]) == (usage.input_tokens, usage.output_tokens, usage.total_tokens)
    assert last.metadata["usage"].reasoning_tokens == usage.output_tokens_details.reasoning_tokens


def said_of(exchange, response):
    """The response's text; None for a recording from which deltas were taken out."""
    shortened = ("openai/vercel-openai-phase-1-stream", "openai/vercel-openai-shell-container-1-stream")
    return None if exchange.name in shortened else response.output_text


def whole(found, streamed):
    if not streamed:
        return found
    for event in found:
        if event.type == "response.completed":
            return event.response
    raise AssertionError("no recorded stream ends like this")


def counts(usage):
    return usage and (usage.input_tokens, usage.output_tokens, usage.total_tokens)


def read_chat(found):
    if isinstance(found, openai.types.chat.ChatCompletion):
        message = found.choices[0].message
        calls = [(call.function.name, call.function.arguments) for call in message.tool_calls or []]
        return told(plain(message.content), calls, found.choices[0].finish_reason, found.usage)
    text, calls, finish, usage = "", [], None, None
    for chunk in found:
        usage = chunk.usage or getattr(chunk, "x_groq", {}).get("usage") or usage
        for choice in chunk.choices or []:
            text += plain(choice.delta.content)
            finish = choice.finish_reason or finish
            for call in choice.delta.tool_calls or []:
                if call.id and call.id not in [known[0] for known in calls]:
                    calls.append([call.id, call.index, "", ""])
                known = [each for each in calls if each[1] == call.index][-1]
                known[2] += call.function.name or ""
                known[3] += call.function.arguments or ""
    return told(text, [(name, raw) for _, _, name, raw in calls], finish, usage)


def plain(content):
    """The text of a content; Mistral's may be a list of parts, which the SDK passes on."""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content)
    return content or ""


def told(text, calls, finish, usage):
    if isinstance(usage, dict):
        usage = openai.types.CompletionUsage(**usage)
    numbers = usage and (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    return {"text": text, "calls": calls, "finish": finish, "usage": numbers}
