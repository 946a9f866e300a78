"""Every recorded stream of chat completions decodes, whatever the network does to it.

A stream is cut in two, and cut short, at every byte. Neither is done naively, which would take hours: feeding is a
function of state and bytes, so it is enough to show for each event that any cut inside it leads to the same events
and to the same state as the event in one piece. Whole streams are then cut where it is cheap enough.
"""

import copy
import json
from pathlib import Path

import pytest

from allm_actors.data import (
    AdapterError,
    ErrorEvent,
    MessageCompleted,
    RawChunk,
    TextCompleted,
    TextDelta,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallStarted,
)
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects.openai_chat import Decoder, OpenAIChat
from allm_actors.engine.wire import HttpFailure

TRAFFIC = Path(__file__).parents[2].parent / "shared" / "traffic"
NAMES = ("openai", "groq", "deepseek", "openrouter", "mistral", "xai", "together", "cerebras")


def streams():
    for provider in NAMES:
        for path in sorted((TRAFFIC / provider).glob("*.json")):
            exchange = json.loads(path.read_text())
            body = (exchange["response"].get("body_text") or "").encode()
            if "chat/completions" in exchange["request"]["url"] and b"data:" in body[:2000]:
                yield pytest.param(provider, body, id=f"{provider}/{path.stem}")


def whole_answers():
    for provider in NAMES:
        for path in sorted((TRAFFIC / provider).glob("*.json")):
            exchange = json.loads(path.read_text())
            body = (exchange["response"].get("body_text") or "").encode()
            chat = "chat/completions" in exchange["request"]["url"] and b"data:" not in body[:2000]
            if chat and (b'"choices"' in body or exchange["response"]["status"] >= 400):
                yield pytest.param(provider, exchange["response"], body, id=f"{provider}/{path.stem}")


def or_skip(cases, names):
    absent = pytest.param(*[None] * names, marks=pytest.mark.skip(reason=f"no recorded traffic in {TRAFFIC}"))
    return list(cases) or [absent]


every_stream = pytest.mark.parametrize(("provider", "body"), or_skip(streams(), 2))
every_answer = pytest.mark.parametrize(("provider", "response", "body"), or_skip(whole_answers(), 3))


@every_stream
def test_a_recorded_stream_says_what_its_json_says(provider, body):
    said = read_independently(body)
    decoder = Decoder(PROVIDERS[provider])
    events = decoder.feed(body) + decoder.end()

    assert "".join(e.delta for e in events if isinstance(e, TextDelta)) == said["text"]
    assert "".join(thoughts(events)) == said["reasoning"]
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
def test_a_cut_anywhere_changes_nothing_and_an_early_end_is_one_error(provider, body):
    blocks = [block + b"\n\n" for block in body.split(b"\n\n") if block]
    decoder = Decoder(PROVIDERS[provider])
    before = []
    for block in blocks:
        whole = clone(decoder)
        told = whole.feed(block)
        for at in range(len(block)):
            cut = clone(decoder)
            first = cut.feed(block[:at])
            assert_ends_early_and_well(first + clone(cut).end(), finished=cut._finish is not None or cut.done)
            assert first + cut.feed(block[at:]) == told
            assert state(cut) == state(whole)
        before += told
        decoder = whole
    straight = Decoder(PROVIDERS[provider])
    assert straight.feed(body) == before


@every_stream
def test_whole_streams_cut_in_two_and_short(provider, body):
    straight = Decoder(PROVIDERS[provider])
    told = straight.feed(body) + straight.end()
    stride = max(1, len(body) // 150)
    for at in range(0, len(body), stride):
        cut = Decoder(PROVIDERS[provider])
        assert cut.feed(body[:at]) + cut.feed(body[at:]) + cut.end() == told
        short = Decoder(PROVIDERS[provider])
        events = short.feed(body[:at])
        assert_ends_early_and_well(events + short.end(), finished=short._finish is not None or short.done)


@every_stream
def test_lines_may_end_in_any_way(provider, body):
    straight = Decoder(PROVIDERS[provider])
    told = straight.feed(body) + straight.end()
    for line_end in (b"\r\n", b"\r"):
        other = body.replace(b"\n", line_end)
        decoder = Decoder(PROVIDERS[provider])
        events = []
        for at in range(0, len(other), 1009):
            events += decoder.feed(other[at : at + 1009])
        assert events + decoder.end() == told


@every_answer
def test_an_answer_that_came_whole_becomes_the_same_events(provider, response, body):
    row = PROVIDERS[provider]
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


def thoughts(events):
    for event in events:
        if isinstance(event, RawChunk) and event.payload[0] == "thinking_delta":
            yield event.payload[1]["delta"]


def assert_calls_are_told_consistently(events):
    for completed in [e for e in events if isinstance(e, ToolCallCompleted)]:
        assert [e.name for e in events if isinstance(e, ToolCallStarted) and e.id == completed.id] == [
            completed.name
        ]
        fragments = [
            e.arguments_delta for e in events if isinstance(e, ToolCallDelta) and e.id == completed.id
        ]
        assert "".join(fragments) == completed.raw_arguments


def assert_ends_early_and_well(events, *, finished):
    """What is told of a stream that ends here: one error, last, or, when the finish was seen, the whole answer."""
    errors = [event for event in events if isinstance(event, ErrorEvent)]
    if finished and not errors:
        return
    assert errors == events[-1:]
    assert not any(isinstance(event, ToolCallCompleted | MessageCompleted) for event in events)
    error = errors[0].error
    assert finished or (isinstance(error, AdapterError) and error.metadata["partial"] is True)


def clone(decoder: Decoder) -> Decoder:
    """A decoder in the same state. `copy.deepcopy` would take most of this file's time."""
    made = copy.copy(decoder)
    made._sse = sse = copy.copy(decoder._sse)
    sse._held = sse._held[:]
    sse._fields = copy.copy(sse._fields)
    sse._fields.data = sse._fields.data[:]
    made._text, made._reasoning, made._refusal = decoder._text[:], decoder._reasoning[:], decoder._refusal[:]
    if decoder._slots:
        copies = {id(slot): copy.copy(slot) for slot in decoder._slots}
        for slot in copies.values():
            slot.fragments = slot.fragments[:]
        made._slots = list(copies.values())
        made._by_index = {index: copies[id(slot)] for index, slot in decoder._by_index.items()}
    else:
        made._slots, made._by_index = [], {}
    return made


def state(decoder: Decoder):
    sse = decoder._sse
    slots = [(s.wire_id, s.id, s.name, s.started, s.fragments) for s in decoder._slots]
    places = {index: decoder._slots.index(slot) for index, slot in decoder._by_index.items()}
    return (
        (sse._held, sse._size, sse._general, sse._at_start, sse.overflowed, sse._fields.data),
        (decoder._text, decoder._reasoning, decoder._refusal, slots, places),
        (decoder._finish, decoder._usage, decoder._id, decoder._model, decoder.done),
    )
