"""Exchanges are read as they were recorded, and streams are built as OpenAI builds them."""

import itertools
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from allm_actors.data import ToolCall
from allm_actors.testing.exchanges import FAULTS, chat_completions, load_exchange, refusal, sse
from allm_actors.testing.loopback import LoopbackServer, Reply

EXCHANGES = sorted((Path(__file__).parents[4] / "examples/exchanges").glob("*.json"))
RESPONSE = {"status": 200, "headers": {"Content-Type": "application/json", "Content-Length": "9"}}


def recorded(tmp_path: Path, response: dict[str, Any]) -> Path:
    request = {
        "method": "POST",
        "url": "https://api.example.com/v1/x?beta=1",
        "headers": {},
        "body": {"n": 1},
    }
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"provider": "example", "request": request, "response": response}))
    return path


def raw(reply: Reply) -> tuple[bytes, ...]:
    assert reply.chunks is not None
    return tuple(chunk for chunk in reply.chunks if isinstance(chunk, bytes))


def payloads(chunks: tuple[bytes, ...]) -> list[dict[str, Any]]:
    assert chunks[-1] == b"data: [DONE]\n\n"
    return [json.loads(chunk.removeprefix(b"data: ")) for chunk in chunks[:-1]]


def joined_calls(chunks: tuple[bytes, ...]) -> list[tuple[str, str, str]]:
    deltas = [
        call
        for payload in payloads(chunks)
        for choice in payload["choices"]
        for call in choice["delta"].get("tool_calls", ())
    ]
    groups = [list(group) for _, group in itertools.groupby(deltas, key=lambda delta: delta["index"])]
    return [
        (group[0]["id"], group[0]["function"]["name"], "".join(d["function"]["arguments"] for d in group))
        for group in groups
    ]


def test_a_recorded_exchange_keeps_what_was_asked_and_what_came(tmp_path: Path) -> None:
    exchange = load_exchange(recorded(tmp_path, RESPONSE | {"body_text": '{"a": 1}\n'}))
    assert (exchange.name, exchange.provider) == ("one", "example")
    assert (exchange.method, exchange.target, exchange.json) == ("POST", "/v1/x?beta=1", {"n": 1})
    assert (exchange.reply.status, exchange.reply.body, exchange.reply.chunks) == (200, b'{"a": 1}\n', None)
    assert exchange.reply.headers == {"content-type": "application/json"}


def test_a_binary_body_is_decoded(tmp_path: Path) -> None:
    assert load_exchange(recorded(tmp_path, RESPONSE | {"body_b64": "AP8="})).reply.body == b"\x00\xff"


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_a_recorded_stream_has_one_chunk_for_each_event(tmp_path: Path, newline: str) -> None:
    text = f"event: a{newline}data: 1{newline}{newline}data: 2{newline}{newline}data: cut"
    response = RESPONSE | {"headers": {"content-type": "text/event-stream"}, "body_text": text}
    chunks = raw(load_exchange(recorded(tmp_path, response)).reply)
    assert len(chunks) == 3
    assert b"".join(chunks) == text.encode()


def test_a_recording_may_say_how_its_reply_came(tmp_path: Path) -> None:
    response = RESPONSE | {"pace": 0.5, "first_byte_delay": 2, "then": "stall"}
    reply = load_exchange(recorded(tmp_path, response)).reply
    assert (reply.pace, reply.first_byte_delay, reply.then) == (0.5, 2, "stall")


def test_a_text_is_streamed_word_by_word_and_loses_nothing() -> None:
    text = "  Hello,  wörld\n\nagain "
    built = payloads(chat_completions(text=text))
    words = [choice["delta"].get("content", "") for payload in built for choice in payload["choices"]]
    assert "".join(words) == text
    assert len([word for word in words if word.strip()]) == 3
    assert built[-1]["choices"][0]["finish_reason"] == "stop"


def test_calls_are_streamed_one_after_the_other_in_fragments_that_join_to_json() -> None:
    calls = [
        ToolCall(id="a", name="weather", arguments={"city": "São Paulo", "days": 3}),
        ToolCall(id="b", name="clock", arguments={}),
        ToolCall(id="c", name="broken", arguments={}, raw_arguments='{"cut'),
    ]
    chunks = chat_completions(tool_calls=calls)
    assert joined_calls(chunks) == [
        ("a", "weather", '{"city":"São Paulo","days":3}'),
        ("b", "clock", "{}"),
        ("c", "broken", '{"cut'),
    ]
    assert payloads(chunks)[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_usage_comes_in_a_last_chunk_without_choices() -> None:
    last = payloads(chat_completions(text="Hi", finish="length", usage={"prompt_tokens": 3}))[-2:]
    assert last[0]["choices"][0]["finish_reason"] == "length"
    assert (last[1]["choices"], last[1]["usage"]) == ([], {"prompt_tokens": 3})


def test_events_of_other_providers_are_built_without_the_done_of_openai() -> None:
    assert sse({"a": 1}, [2], done=False) == (b'data: {"a":1}\n\n', b"data: [2]\n\n")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, "invalid_request_error"), (429, "rate_limit_error"), (503, "server_error")],
    ids=str,
)
def test_a_refusal_is_worded_as_openai_words_it(status: int, kind: str) -> None:
    reply = refusal(status, "No.", code="c")
    error = {"message": "No.", "type": kind, "param": None, "code": "c"}
    assert (reply.status, json.loads(reply.body)) == (status, {"error": error})


@pytest.mark.parametrize("path", EXCHANGES, ids=lambda path: path.stem)
def test_every_exchange_of_the_examples_is_a_whole_stream(path: Path) -> None:
    chunks = raw(load_exchange(path).reply)
    assert payloads(chunks)[-1]["usage"]["total_tokens"] > 0
    for _, _, arguments in joined_calls(chunks):
        assert isinstance(json.loads(arguments), dict)


def test_the_examples_ask_for_two_tools_at_once_and_send_both_answers() -> None:
    first, second, _ = (load_exchange(path) for path in EXCHANGES if path.stem.startswith("weather"))
    asked = [id for id, _, _ in joined_calls(raw(first.reply))]
    answered = [m["tool_call_id"] for m in second.json["messages"] if m["role"] == "tool"]
    assert asked == answered == ["call_weather_1", "call_time_1"]


@pytest.mark.parametrize("name", FAULTS)
def test_no_fault_reads_as_a_finished_stream(name: str) -> None:
    with LoopbackServer([FAULTS[name]]) as server, httpx.Client(timeout=0.2) as client:
        try:
            answer = client.get(server.url)
        except httpx.TransportError:
            return
        whole = answer.status_code == 200 and answer.text.endswith("data: [DONE]\n\n")
        finished = whole and '"error"' not in answer.text and '"delta"\n' not in answer.text
        assert not finished
