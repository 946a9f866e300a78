"""Every recorded stream of chat completions decodes, whatever the network does to it."""

import json

import pytest

from allm_actors.data import ErrorEvent, MessageCompleted, TextCompleted, TextDelta, ToolCallCompleted
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects.openai_chat import Decoder, OpenAIChat
from allm_actors.engine.wire import HttpFailure
from tests.conformance.traffic import (
    assert_calls_are_told_consistently,
    assert_cut_anywhere,
    assert_lines_may_end_in_any_way,
    assert_whole_streams_cut,
    cases,
    exchanges,
    thoughts,
)

NAMES = ("openai", "groq", "deepseek", "openrouter", "mistral", "xai", "together", "cerebras")


def is_chat(exchange):
    return "chat/completions" in exchange.request["url"]


def is_stream(exchange):
    return b"data:" in exchange.body[:2000]


def is_answer(exchange):
    return b'"choices"' in exchange.body or exchange.response["status"] >= 400


chats = [exchange for exchange in exchanges(NAMES) if is_chat(exchange)]
every_stream = cases(filter(is_stream, chats))
every_answer = cases(each for each in chats if not is_stream(each) and is_answer(each))


def decoder_for(exchange):
    return lambda: Decoder(PROVIDERS[exchange.provider])


@every_stream
def test_a_recorded_stream_says_what_its_json_says(exchange):
    said = read_independently(exchange.body)
    decoder = decoder_for(exchange)()
    events = decoder.feed(exchange.body) + decoder.end()

    assert "".join(e.delta for e in events if isinstance(e, TextDelta)) == said["text"]
    assert thoughts(events) == said["reasoning"]
    if said["error"]:
        assert isinstance(events[-1], ErrorEvent)
        assert said["error"] in events[-1].error.message
        assert not any(isinstance(e, MessageCompleted | ToolCallCompleted) for e in events)
        return
    last = events[-1]
    assert isinstance(last, MessageCompleted)
    assert last.metadata["raw_finish_reason"] == said["finish"]
    assert last.finish_reason == said["finish"]
    assert last.metadata["id"] == said["id"]
    assert last.metadata["model"] == said["model"]
    assert last.message.content == said["text"]
    assert [(c.name, c.raw_arguments) for c in last.message.tool_calls] == said["calls"]
    assert [c.arguments for c in last.message.tool_calls] == [
        json.loads(raw or "{}") for _, raw in said["calls"]
    ]
    assert_calls_are_told_consistently(events)
    usage = last.metadata.get("usage")
    assert (usage and usage.input_tokens) == said["usage"].get("prompt_tokens")
    assert (usage and usage.output_tokens) == said["usage"].get("completion_tokens")
    assert (usage and usage.total_tokens) == said["usage"].get("total_tokens")
    texts = [e.text for e in events if isinstance(e, TextCompleted)]
    assert texts == ([said["text"]] if said["text"] else [])


@pytest.mark.slow
@every_stream
def test_a_cut_anywhere_changes_nothing_and_an_early_end_is_one_error(exchange):
    frames = [block + b"\n\n" for block in exchange.body.split(b"\n\n") if block]
    assert_cut_anywhere(decoder_for(exchange), exchange.body, frames)


@every_stream
def test_whole_streams_cut_in_two_and_short(exchange):
    assert_whole_streams_cut(decoder_for(exchange), exchange.body)


@every_stream
def test_lines_may_end_in_any_way(exchange):
    assert_lines_may_end_in_any_way(decoder_for(exchange), exchange.body)


@every_answer
def test_an_answer_that_came_whole_becomes_the_same_events(exchange):
    row, response, body = PROVIDERS[exchange.provider], exchange.response, exchange.body
    if response["status"] >= 400:
        error = OpenAIChat().decode_error(HttpFailure(status=response["status"], body=body), row)
        assert (error.reason, error.status) == ("invalid_request", response["status"])
        assert json.loads(body)["error"]["message"][:100] in error.message
        return
    *before, last = OpenAIChat().decode_body(body, row)
    wire = json.loads(body)["choices"][0]
    said = {"text": "", "reasoning": ""}
    read_content(wire["message"].get("content"), said)
    calls = [call["function"] for call in wire["message"].get("tool_calls") or []]
    assert last.message.content == said["text"]
    refusal = wire["message"].get("refusal")
    assert last.metadata.get("refusal") == refusal
    assert last.metadata["raw_finish_reason"] == ("refusal" if refusal else wire["finish_reason"])
    assert [(c.name, c.raw_arguments) for c in last.message.tool_calls] == [
        (c["name"], c["arguments"]) for c in calls
    ]
    assert len([event for event in before if isinstance(event, ToolCallCompleted)]) == len(calls)


def read_independently(body: bytes) -> dict:
    said = {
        "text": "",
        "reasoning": "",
        "finish": None,
        "usage": {},
        "error": None,
        "id": None,
        "model": None,
    }
    calls: list[dict] = []
    for line in body.decode().split("\n"):
        if not line.startswith("data:") or line[5:].strip() == "[DONE]":
            continue
        chunk = json.loads(line[5:])
        said["id"] = said["id"] or chunk.get("id")
        said["model"] = said["model"] or chunk.get("model")
        said["usage"] = chunk.get("usage") or (chunk.get("x_groq") or {}).get("usage") or said["usage"]
        said["error"] = said["error"] or (chunk.get("error") or {}).get("message")
        for choice in chunk.get("choices") or []:
            said["finish"] = choice.get("finish_reason") or said["finish"]
            delta = choice["delta"]
            read_content(delta.get("content"), said)
            said["reasoning"] += delta.get("reasoning_content") or delta.get("reasoning") or ""
            for call in delta.get("tool_calls") or []:
                if call.get("id") and call["id"] not in [known["id"] for known in calls]:
                    calls.append({"id": call["id"], "index": call.get("index"), "name": "", "raw": ""})
                known = [k for k in calls if k["index"] == call.get("index")][-1]
                known["name"] += call["function"].get("name") or ""
                known["raw"] += call["function"].get("arguments") or ""
    return said | {"calls": [(call["name"], call["raw"]) for call in calls]}


def read_content(content, said):
    if isinstance(content, str):
        said["text"] += content
    for part in content if isinstance(content, list) else []:
        said["text"] += part.get("text") or ""
        said["reasoning"] += "".join(thought["text"] for thought in part.get("thinking") or [])
