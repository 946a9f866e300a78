"""Answers that are not quite as their provider's page says, and what must never come of them."""

import json
from functools import partial
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.data import (
    AdapterError,
    MessageCompleted,
    RawChunk,
    TextCompleted,
    TextDelta,
    ToolCallCompleted,
)
from allm_actors.data.utf8 import utf8_of
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects import find_dialect
from allm_actors.engine.dialects.failures import retry_after_ms
from allm_actors.engine.dialects.lenient import read_leniently, read_object
from allm_actors.engine.dialects.openai.wire import Call, Choice, Chunk, Delta, Function
from allm_actors.engine.http.proxies import may_be_exempt
from allm_actors.engine.secret import Secret, scrub
from tests.conformance import aws_frames

BROKE = AdapterError("network_error", provider="openai", message="it broke")


def calls_of(events):
    made = [event for event in events if isinstance(event, ToolCallCompleted)]
    return [(each.name, each.arguments, "arguments_error" in each.metadata) for each in made]


# --- OpenAI's format, whole ---------------------------------------------------------------------------------------


def call(name, arguments, **fields):
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **fields}


def whole(*calls):
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    body = {"id": "x", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}]}
    return calls_of(find_dialect("openai_chat").decode_body(json.dumps(body).encode(), PROVIDERS["openai"]))


@pytest.mark.parametrize("ids", [({}, {}), ({"id": "c"}, {"id": "c"}), ({"id": "a"}, {"id": "b"})])
@pytest.mark.parametrize("first", ["", "{}", None, {}])
def test_what_comes_whole_lists_its_calls(first, ids):
    made = whole(call("now", first, **ids[0]), call("weather", '{"city": "Rome"}', **ids[1]))
    assert made == [("now", {}, False), ("weather", {"city": "Rome"}, False)]


def test_two_calls_of_one_tool_that_come_whole_are_two():
    made = whole(call("weather", '{"city": "Rome"}'), call("weather", '{"city": "Oslo"}'))
    assert [arguments["city"] for _, arguments, _ in made] == ["Rome", "Oslo"]


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(LEAVES, lambda each: st.lists(each) | st.dictionaries(st.text(), each), max_leaves=8)


@given(value=st.dictionaries(st.text(), VALUES), escaped=st.booleans(), twice=st.booleans())
def test_what_is_read_by_c_is_what_is_read_by_hand(value, escaped, twice):
    text = json.dumps(value, ensure_ascii=escaped)
    if twice:
        text = f'{{"a": 0, "a": 1, {text[1:]}' if value else '{"a": 0, "a": 1}'
    assert read_object(text.encode()) == json.loads(text)


def test_what_does_not_fit_counts_as_missing_and_the_rest_is_read():
    function = {"name": ["now"], "arguments": {}}
    delta = {"content": ["a", 1], "tool_calls": [{"index": -1, "function": function}, {}, "x"], "refusal": ""}
    choices = [{"index": True, "delta": delta, "message": {}, "usage": "free"}, None]
    wire = {"id": 7, "model": "m", "choices": choices, "x_groq": [], "citations": 1, "unknown": 2}
    calls = [Call(function=Function(arguments={})), Call()]
    read = Chunk(model="m", choices=[Choice(delta=Delta(content=["a", 1], tool_calls=calls))], citations=1)
    assert read_leniently(json.dumps(wire).encode(), Chunk) == read
    assert read_leniently(b"[]", Chunk) is None


# --- characters in two halves -------------------------------------------------------------------------------------


def openai_delta(text):
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


def call_delta(call):
    return {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}


def claudes_delta(text):
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


def geminis_delta(text):
    return {"candidates": [{"content": {"parts": [{"text": text}]}}]}


def bedrocks_delta(text):
    return {"contentBlockIndex": 0, "delta": {"text": text}, "p": "abc"}


def ollamas_delta(text):
    now = {"model": "m", "created_at": f"2026-11-30T21:40:00.{next(NUMBERS)}Z"}
    return {**now, "message": {"role": "assistant", "content": text}, "done": False}


def server_event(data):
    return b"data: " + data + b"\n\n"


def fed(decoder, wire, frame=server_event, **how):
    return decoder.feed(frame(json.dumps(wire, **how).encode()))


def texts_of(events):
    return "".join(event.delta for event in events if isinstance(event, TextDelta))


NUMBERS = count()
DELTAS = [
    ("openai_chat", openai_delta, server_event),
    ("anthropic", claudes_delta, server_event),
    ("gemini", geminis_delta, server_event),
    ("bedrock", bedrocks_delta, partial(aws_frames.event, "contentBlockDelta")),
    ("ollama", ollamas_delta, lambda data: data + b"\n"),
]


@pytest.mark.parametrize(("dialect", "delta", "frame"), DELTAS, ids=[dialect for dialect, *_ in DELTAS])
@given(text=st.text('a\\"\n\u00e9\U0001f600\U0001f3fd', max_size=8), escaped=st.booleans(), data=st.data())
def test_a_text_that_is_cut_as_utf16_comes_whole(dialect, delta, frame, text, escaped, data):
    """Where the stream ends in the middle of a character, that is one of U+FFFD."""
    units = text.encode("utf-16-le")
    units = units[: 2 * data.draw(st.integers(0, len(units) // 2))]
    cuts = sorted(2 * cut for cut in data.draw(st.sets(st.integers(0, len(units) // 2), max_size=8)))
    parts = [units[a:b].decode("utf-16-le", "surrogatepass") for a, b in pairwise([0, *cuts, len(units)])]
    decoder = find_dialect(dialect).decoder(PROVIDERS["openai"])
    begin = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    events = fed(decoder, begin) if dialect == "anthropic" else []
    for part in parts:
        events += fed(decoder, delta(part), frame, ensure_ascii=escaped or part != utf8_of(part))
    events += data.draw(st.sampled_from([decoder.end, partial(decoder.broke, BROKE)]))()
    assert texts_of(events) == utf8_of(units.decode("utf-16-le", "surrogatepass"))


def test_half_a_character_alone_is_not_joined_to_a_quote_or_a_backslash():
    decoder = find_dialect("openai_chat").decoder(PROVIDERS["openai"])
    parts = ["a\ud83d", '"\ude00', "\\\ud83d", "b\ude00", "\ude00\ud83d", "c"]
    events = [event for part in parts for event in fed(decoder, openai_delta(part))]
    assert texts_of(events) == 'a\ufffd"\ufffd\\\ufffdb\ufffd\ufffd\ufffdc'


def test_halves_of_two_texts_in_one_frame_are_not_lost():
    decoder = find_dialect("openai_chat").decoder(PROVIDERS["openai"])
    deltas = [{"reasoning": "t\ud83d", "content": "a\ud83d"}, {"reasoning": "\ude00u", "content": "\ude00b"}]
    events = [e for delta in deltas for e in fed(decoder, {"choices": [{"index": 0, "delta": delta}]})]
    thoughts = [e.payload[1]["delta"] for e in events if isinstance(e, RawChunk) and "delta" in e.payload[1]]
    assert ("".join(thoughts), texts_of(events)) == ("t\U0001f600u", "a\ufffd\ufffdb")


def test_a_frame_that_is_no_json_is_refused_where_it_stands_whatever_it_ends_in():
    decoder = find_dialect("openai_chat").decoder(PROVIDERS["openai"])
    events = decoder.feed(server_event(rb'{"x":"a\ud83d"\ud83d"}')) + fed(decoder, openai_delta("hi"))
    assert [event.error.reason for event in events] == ["malformed_event"]


@pytest.mark.parametrize("dialect", ["openai_chat", "ollama"])
def test_a_large_frame_with_a_lone_half_is_read_in_linear_time(dialect):
    """Quadratic, it took a minute and a half."""
    decoder = find_dialect(dialect).decoder(PROVIDERS["openai"])
    text = '{"a":"bcdefgh"}' * 8000 + "\ud83d."
    wire = openai_delta(text) if dialect == "openai_chat" else ollamas_delta(text)
    frame = server_event if dialect == "openai_chat" else lambda data: data + b"\n"
    assert texts_of(fed(decoder, wire, frame)) == text.replace("\ud83d", "\ufffd")


def test_usage_is_told_before_what_comes_after_its_frame():
    decoder = find_dialect("openai_chat").decoder(PROVIDERS["openai"])
    events = fed(decoder, openai_delta("a\ud83d") | {"usage": {"prompt_tokens": 3}})
    events += fed(decoder, openai_delta("b"))
    kinds = [type(event) for event in events]
    assert kinds.index(RawChunk) < max(at for at, kind in enumerate(kinds) if kind is TextDelta)


def test_halves_of_two_calls_are_not_joined():
    decoder = find_dialect("openai_chat").decoder(PROVIDERS["openai"])
    for index, id in enumerate("ab"):
        function = {"name": "say", "arguments": '{"x": "'}
        fed(decoder, call_delta({"index": index, "id": id, "type": "function", "function": function}))
    parts = [(0, "a\ud83d"), (1, "b\ud83c"), (0, "\ude00"), (1, "\udf89"), (0, "c\ud83d"), (0, "\ude00")]
    for index, part in [*parts, (0, '"}'), (1, '"}')]:
        fed(decoder, call_delta({"index": index, "function": {"arguments": part}}))
    events = [
        *fed(decoder, {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
        *decoder.end(),
    ]
    assert [arguments["x"] for _, arguments, _ in calls_of(events)] == [
        "a\ufffd\ufffdc\U0001f600",
        "b\ufffd\ufffd",
    ]


# --- arguments that are no object ---------------------------------------------------------------------------------

GIVEN = [
    ('{"pattern": "*.tmp"}', {"pattern": "*.tmp"}, False),
    ({"pattern": "*.tmp"}, {"pattern": "*.tmp"}, False),
    (None, {}, False),
    ({}, {}, False),
    (["*.tmp"], {}, True),
    ("*.tmp", {}, True),
    (7, {}, True),
]


@pytest.mark.parametrize(("given", "arguments", "broken"), GIVEN)
def test_ollamas_arguments_never_become_none(given, arguments, broken):
    function = {"name": "delete", "arguments": given}
    message = {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}
    lines = [
        {"message": message, "done": False},
        {"message": {"content": ""}, "done": True, "done_reason": "stop"},
    ]
    decoder = find_dialect(PROVIDERS["ollama"].dialect).decoder(PROVIDERS["ollama"])
    events = decoder.feed(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    assert calls_of(events) == [("delete", arguments, broken)]


@pytest.mark.parametrize(
    ("given", "arguments", "broken"), [each for each in GIVEN if not isinstance(each[0], str)]
)
def test_geminis_arguments_never_become_none(given, arguments, broken):
    part = {"functionCall": {"name": "delete", "args": given}}
    assert calls_of(gemini(candidate(0, part, finishReason="STOP"))) == [("delete", arguments, broken)]


# --- Gemini, several candidates -----------------------------------------------------------------------------------


def candidate(index, *parts, **fields):
    return {"candidates": [{"index": index, "content": {"role": "model", "parts": list(parts)}, **fields}]}


def gemini(*chunks):
    decoder = find_dialect("gemini").decoder(PROVIDERS["gemini"])
    wire = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    return [*decoder.feed(wire), *decoder.end()]


def test_one_of_geminis_candidates_is_read():
    events = gemini(
        candidate(0, {"text": "The answer is "}),
        candidate(1, {"text": "I think it is "}),
        candidate(0, {"text": "4."}, finishReason="STOP"),
        candidate(1, {"text": "five!"}, finishReason="MAX_TOKENS"),
    )
    (said,) = (event.text for event in events if isinstance(event, TextCompleted))
    (ended,) = (event.finish_reason for event in events if isinstance(event, MessageCompleted))
    assert (said, ended) == ("The answer is 4.", "stop")


# --- how long to wait, and what is kept from view -----------------------------------------------------------------


@pytest.mark.parametrize("seconds", ["1790000000", "9999999999", "9" * 30])
def test_who_says_to_wait_for_ages_is_not_asked_again_at_once(seconds):
    assert retry_after_ms({"retry-after": seconds}, 1_759_000_000.0) == 1_000_000_000_000


KEY = "plainkeyABCDEF0123456789"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"bad key {KEY}", "bad key [REDACTED]"),
        (f"bad key {KEY[:-1]}", "bad key [REDACTED]"),
        (f"bad key …{KEY[5:]}!", "bad key …[REDACTED]!"),
        (f"bad key {KEY[:14]} or {KEY[8:]}", "bad key [REDACTED] or [REDACTED]"),
        ("bad key plainkey", "bad key plainkey"),
    ],
)
def test_pieces_of_a_key_are_not_shown(said, shown):
    assert scrub(said, Secret(KEY)) == shown
    assert scrub({"a": [said]}, Secret(KEY)) == {"a": [shown]}


@pytest.mark.parametrize(
    "entry", ["vm", "vm:80", "http://vm", "https://me@vm:8443", ".example, VM:1", "*", "http://*"]
)
def test_a_host_that_may_be_exempt_from_the_proxy_is_judged_here(entry):
    assert may_be_exempt("vm", {"http": "http://proxy", "no": entry})


@pytest.mark.parametrize("entry", ["", "other", "http://other:80", "vm.example", "[::1]:80"])
def test_a_host_that_is_not_is_the_proxys(entry):
    assert not may_be_exempt("vm", {"http": "http://proxy", "no": entry})
