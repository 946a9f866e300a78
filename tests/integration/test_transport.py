"""One adapter over real sockets, against a server that fails in every way servers fail."""

import asyncio
import gzip
import json
import math
import time
import zlib
from contextlib import aclosing

import httpx
import pytest

import allm_actors as allm
from allm_actors import telemetry
from allm_actors.data import (
    AdapterError,
    ErrorEvent,
    Message,
    MessageCompleted,
    MessageStarted,
    Request,
    TextDelta,
    Tool,
)
from allm_actors.engine.adapter import Call
from allm_actors.engine.adapters import find_adapter
from allm_actors.engine.http.transport import HttpxTransport
from allm_actors.engine.wire import Deadlines, HttpRequest
from allm_actors.execution.fold import fold
from allm_actors.testing.exchanges import chat_completions, refusal, sse
from allm_actors.testing.loopback import Gate, LoopbackServer, Reply

from .stacks import no_descriptor_more, stack  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("stack")

KEY = "sk-loopback-0123456789"
ASK = Request(messages=[Message(role="user", content="hi")], model="gpt-4.1-mini", options={"seed": 7})
HELLO = Reply(chunks=chat_completions(text="Hello there", usage={"prompt_tokens": 3, "completion_tokens": 2}))


def ask(server_or_url, *, adapter="openai", retry=False, read=None, asked=ASK, **options):
    """Everything the adapter says to `asked`, in batches; `read` looks at each batch."""
    url = server_or_url if isinstance(server_or_url, str) else server_or_url.url + "/v1"

    async def run():
        transport = HttpxTransport()
        call = Call(
            request_id="r1",
            api_key=KEY,
            retry=retry,
            transport=transport,
            options={"base_url": url, **options},
        )
        batches = []
        try:
            async with aclosing(find_adapter(adapter).batches(asked, call)) as answer:
                async for batch in answer:
                    batches.append(batch)
                    if read is not None and read(batch):
                        break
        finally:
            await transport.aclose()
        return batches

    return asyncio.run(run())


def events_of(batches):
    return [event for batch in batches for event in batch]


def failure(batches):
    """The error that ended it; it is last, it is the only one, and it shows no key."""
    events = events_of(batches)
    errors = [event.error for event in events if isinstance(event, ErrorEvent)]
    assert isinstance(events[0], MessageStarted)
    assert [event.error for event in events[-1:]] == errors
    assert KEY not in repr(errors[0].to_fields())
    assert errors[0].provider == "openai"
    return errors[0]


def test_a_transport_without_a_network_may_give_the_body_whole_or_in_pieces():
    async def pieces():
        for chunk in HELLO.chunks:
            yield chunk

    for content in (b"".join(HELLO.chunks), pieces()):
        answer = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=content)
        given = httpx.MockTransport(lambda _request, answer=answer: answer)
        events = events_of(ask("http://example.test/v1", transport=given))
        assert "".join(e.delta for e in events if isinstance(e, TextDelta)) == "Hello there"
        assert isinstance(events[-1], MessageCompleted)
    refused = httpx.MockTransport(lambda _request: httpx.Response(401, json={"error": {"message": "no"}}))
    assert failure(ask("http://example.test/v1", transport=refused)).reason == "authentication_failed"


@pytest.mark.parametrize(
    ("kind", "phase"),
    [
        (httpx.ConnectTimeout, "connect"),
        (httpx.PoolTimeout, "connect"),
        (httpx.WriteTimeout, "first_byte"),
        (httpx.ReadTimeout, "first_byte"),
        (httpx.TimeoutException, "first_byte"),
    ],
)
def test_a_timeout_of_a_transport_of_ones_own_is_one_of_the_call(kind, phase):
    def late(_request):
        raise kind("late")

    error = failure(ask("http://example.test/v1", transport=httpx.MockTransport(late)))
    assert (error.reason, error.metadata["phase"]) == ("timeout", phase)
    assert "example.test" in error.message


def test_a_timeout_within_an_answer_of_a_transport_of_ones_own_is_silence():
    async def pieces():
        yield HELLO.chunks[0]
        raise httpx.ReadTimeout("late")

    answer = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=pieces())
    error = failure(ask("http://example.test/v1", transport=httpx.MockTransport(lambda _: answer)))
    assert (error.reason, error.metadata["phase"]) == ("timeout", "idle")
    assert "example.test was silent for longer than its transport allows (ReadTimeout)" in error.message


@pytest.mark.parametrize(
    "bug", [ValueError("a bug"), UnicodeDecodeError("utf-8", b"", 0, 1, "a bug"), KeyError("a bug")]
)
def test_a_bug_of_a_transport_of_ones_own_is_not_said_to_be_a_headers(bug):
    def broken(_request):
        raise bug

    error = failure(ask("http://example.test/v1", transport=httpx.MockTransport(broken)))
    assert (error.reason, error.cause) == ("network_error", type(bug).__name__)
    assert "header" not in error.message
    assert "a bug" not in repr(error.to_fields())


def test_an_answer_arrives_and_the_request_is_what_the_provider_expects():
    with LoopbackServer([HELLO]) as server:
        events = events_of(ask(server, headers={"x-team": "blue"}))
    assert "".join(e.delta for e in events if isinstance(e, TextDelta)) == "Hello there"
    assert events[-1].metadata["usage"].input_tokens == 3
    (asked,) = server.requests
    assert asked.target == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert (asked.headers["accept-encoding"], asked.headers["x-team"]) == ("identity", "blue")
    assert asked.json == {
        "model": "gpt-4.1-mini",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "seed": 7,
    }


@pytest.mark.parametrize(
    "choice", [("tool", "f"), {"type": "tool", "name": "f"}, {"type": "function", "name": "f"}, "f"]
)
@pytest.mark.parametrize("adapter", ["openai", "anthropic", "gemini"])
def test_a_choice_of_a_tool_means_the_same_in_every_shape(adapter, choice):
    tool = Tool(name="f", description="d", schema={"type": "object"})
    sent = []
    for shape in (choice, {"type": "function", "function": {"name": "f"}}):
        asked = Request(messages=ASK.messages, model="m", tools=[tool], tool_choice=shape)
        with LoopbackServer([Reply(status=400)]) as server:
            ask(server, adapter=adapter, asked=asked)
            sent.append(server.requests[0].json)
    assert sent[0] == sent[1]
    assert '"f"' in json.dumps(sent[0].get("tool_choice", sent[0].get("toolConfig")))


def test_openrouter_is_told_which_program_asks(monkeypatch):
    monkeypatch.setenv("OPENROUTER_APP_NAME", "Heron")
    monkeypatch.delenv("OPENROUTER_APP_URL", raising=False)
    with LoopbackServer([HELLO, HELLO]) as server:
        ask(server, adapter="openrouter")
        ask(server, adapter="openai")
        openrouter, openai = server.requests
    assert openrouter.headers["x-title"] == "Heron"
    assert not {"x-title", "http-referer"} & {*openai.headers}
    assert "http-referer" not in openrouter.headers


def test_an_organization_is_told_to_nobody_who_has_none():
    with pytest.raises(TypeError, match="anthropic does not take; leave it out"):
        ask("http://127.0.0.1:9", adapter="anthropic", organization="acme")


def test_each_network_read_is_one_batch():
    gate = Gate()
    first, *rest = chat_completions(text=["Hel", "lo"])
    with LoopbackServer([Reply(chunks=[first + rest[0], gate, *rest[1:]])]) as server:
        batches = ask(server, read=lambda batch: gate.open() if isinstance(batch[-1], TextDelta) else None)
    assert batches[1] == [TextDelta("Hel")]
    assert isinstance(batches[-1][-1], MessageCompleted)


def test_connections_are_used_again():
    async def run(url):
        transport = HttpxTransport()
        for _ in range(3):
            call = Call(request_id="r", api_key=KEY, transport=transport, options={"base_url": url})
            assert [e async for e in find_adapter("openai").stream(ASK, call)]
        await transport.aclose()

    with LoopbackServer([HELLO] * 3) as server:
        asyncio.run(run(server.url))
        assert {request.connection for request in server.requests} == {0}


def test_a_loop_that_ends_closes_what_nobody_has_closed():
    transport = HttpxTransport()

    async def run(url):
        call = Call(request_id="r", api_key=KEY, transport=transport, options={"base_url": url})
        assert [e async for e in find_adapter("openai").stream(ASK, call)]

    with LoopbackServer([HELLO] * 3) as server:
        asyncio.run(run(server.url))  # what is made once only, is made
        server.wait_for(lambda s: s.connections == 0)  # its own end is a descriptor, too
        with no_descriptor_more():
            asyncio.run(run(server.url))
            server.wait_for(lambda s: s.connections == 0)
        asyncio.run(run(server.url))
    assert [request.connection for request in server.requests] == [0, 1, 2]


def test_many_streams_run_at_once():
    async def run(url):
        transport = HttpxTransport()
        call = Call(request_id="r", api_key=KEY, transport=transport, options={"base_url": url})

        async def one():
            return [e async for e in find_adapter("openai").stream(ASK, call)][-1]

        ends = await asyncio.gather(*(one() for _ in range(200)))
        await transport.aclose()
        return ends

    with LoopbackServer(lambda _: HELLO) as server:
        assert all(isinstance(end, MessageCompleted) for end in asyncio.run(run(server.url)))


def test_a_key_in_a_header_of_the_calls_own_is_in_no_error():
    quoting = Reply(status=400, body=b'{"error": {"message": "nobody is called gw-canary-0123"}}')
    with LoopbackServer([quoting]) as server:
        error = failure(ask(server, headers={"x-gateway-token": "gw-canary-0123"}))
    assert "nobody is called" in error.message
    assert "gw-canary-0123" not in repr(error.to_fields())


def test_401_says_which_key_to_check():
    with LoopbackServer(
        [refusal(401, f"Incorrect API key provided: {KEY}.", code="invalid_api_key")]
    ) as server:
        error = failure(ask(server))
    assert (error.reason, error.status, error.request_id) == ("authentication_failed", 401, "r1")
    assert "OPENAI_API_KEY" in error.message
    assert "[REDACTED]" in error.message


def test_each_retry_is_told_to_whoever_measures():
    told = []
    telemetry.attach("retries", told.append, "allm.adapter.retry")
    try:
        with LoopbackServer([refusal(429, "slow down", headers={"retry-after": "0.01"}), HELLO]) as server:
            ask(server, retry={"base_delay": 0.001, "jitter": 0.0})
    finally:
        telemetry.detach("retries")
    (event,) = told
    assert event.measurements["system_time"] > 0
    about = dict(event.metadata)
    assert about.pop("request_id")
    assert about == {
        "provider": "openai",
        "model": "gpt-4.1-mini",
        "attempt": 1,
        "delay_ms": 10,
        "reason": "rate_limited",
    }


def test_429_is_tried_again_when_its_wait_is_short_and_returned_when_it_is_long():
    busy = refusal(429, "slow down", headers={"retry-after": "0.01"})
    with LoopbackServer([busy, busy, HELLO]) as server:
        events = events_of(ask(server, retry={"base_delay": 0.001, "jitter": 0.0}))
        assert isinstance(events[-1], MessageCompleted)
        assert [type(event) for event in events].count(MessageStarted) == 1
        assert len(server.requests) == 3
    with LoopbackServer([refusal(429, "slow down", headers={"retry-after": "7"})] * 2) as server:
        error = failure(ask(server, retry={"max_delay": 2.0}))
        assert (error.reason, error.retry_after_ms, len(server.requests)) == ("rate_limited", 7000, 1)


def test_500_is_tried_again_until_the_attempts_are_used_up():
    with LoopbackServer([refusal(500, "oops")] * 5) as server:
        error = failure(ask(server, retry={"base_delay": 0.001, "jitter": 0.0, "max_attempts": 3}))
        assert (error.reason, error.status, len(server.requests)) == ("provider_unavailable", 500, 3)


def test_an_error_inside_a_stream_that_began_well_is_not_tried_again():
    chunks = [
        *chat_completions(text="Hel")[:2],
        *sse({"error": {"message": "overloaded", "code": 502}}, done=False),
    ]
    with LoopbackServer([Reply(chunks=chunks)] * 2) as server:
        error = failure(ask(server, retry={"base_delay": 0.001}))
        assert (error.reason, len(server.requests)) == ("provider_unavailable", 1)


@pytest.mark.parametrize(
    "wire",
    [{"code": 502}, {"type": "overloaded_error"}, {"code": "server_error"}, {"code": "rate_limit_exceeded"}],
    ids=lambda wire: str(*wire.values()),
)
def test_an_error_that_is_all_of_a_stream_is_tried_again(wire):
    broken = Reply(chunks=sse({"error": {"message": "not now", **wire}}, done=False))
    with LoopbackServer([broken, HELLO]) as server:
        events = events_of(ask(server, retry={"base_delay": 0.001, "jitter": 0.0}))
        assert (isinstance(events[-1], MessageCompleted), len(server.requests)) == (True, 2)


@pytest.mark.parametrize("code", ["insufficient_quota", "invalid_api_key", "invalid_prompt"])
def test_an_error_that_will_not_pass_is_not_tried_again_wherever_it_comes(code):
    refused = Reply(chunks=sse({"error": {"message": "no", "code": code}}, done=False))
    with LoopbackServer([refused, HELLO]) as server:
        failure(ask(server, retry={"base_delay": 0.001, "jitter": 0.0}))
        assert len(server.requests) == 1


def test_a_web_page_is_named_with_its_host():
    page = Reply(headers={"content-type": "text/html; charset=utf-8"}, body=b"<html>welcome</html>")
    with LoopbackServer([page]) as server:
        error = failure(ask(server))
    assert error.reason == "malformed_response"
    assert "text/html" in error.message
    assert server.url.removeprefix("http://") in error.message
    assert "welcome" not in error.message
    with LoopbackServer(
        [Reply(status=502, headers={"content-type": "text/html"}, body=b"<html>secret</html>")]
    ) as server:
        error = failure(ask(server))
    assert (error.reason, error.status) == ("provider_unavailable", 502)
    assert "secret" not in error.message


def test_a_server_that_does_not_stream_is_understood():
    choice = b'{"message":{"content":"whole"},"finish_reason":"stop"}'
    body = b'{"id":"x","model":"m","choices":[%b],"usage":{"total_tokens":4}}' % choice
    with LoopbackServer([Reply(body=body)]) as server:
        events = events_of(ask(server))
    assert [e.delta for e in events if isinstance(e, TextDelta)] == ["whole"]
    assert (events[-1].finish_reason, events[-1].metadata["usage"].total_tokens) == ("stop", 4)
    with LoopbackServer(
        [Reply(body=b'{"error":{"message":"no such model","code":"model_not_found"}}')]
    ) as server:
        assert failure(ask(server)).reason == "invalid_request"
    with LoopbackServer([Reply(body=b'{"ok":true}')]) as server:
        assert failure(ask(server)).reason == "malformed_response"


def test_silence_before_during_and_over_all_are_three_messages():
    silent = Reply(first_byte_delay=math.inf)
    stalled = Reply(chunks=chat_completions(text="Hel")[:2], then="stall")
    dripping = Reply(chunks=[b": still here\n\n"] * 1000, pace=0.01)
    said, phases = {}, []
    for name, reply, options in [
        ("first byte", silent, {"stream_timeout": 0.1}),
        ("between", stalled, {"stream_timeout": 0.1}),
        ("in all", dripping, {"request_timeout": 0.2}),
    ]:
        with LoopbackServer([reply]) as server:
            error = failure(ask(server, **options))
            server.wait_for(lambda s: s.connections == 0)
        assert error.reason == "timeout"
        said[name] = error.message
        phases.append(error.metadata["phase"])
    assert phases == ["first_byte", "idle", "total"]
    assert "did not begin" in said["first byte"]
    assert "in the middle" in said["between"]
    assert "in all" in said["in all"]


def test_comments_keep_a_stream_alive():
    chunks = [*[b": keep-alive\n\n"] * 8, *chat_completions(text="at last")]
    with LoopbackServer([Reply(chunks=chunks, pace=0.05)]) as server:
        assert isinstance(events_of(ask(server, stream_timeout=0.3))[-1], MessageCompleted)


@pytest.mark.parametrize("then", ["reset", "half_close"])
def test_a_connection_that_breaks_before_the_answer_brought_no_part_of_it(then):
    with LoopbackServer([Reply(raw=[], then=then)]) as server:
        error = failure(ask(server))
    assert (error.reason, "before the answer began" in error.message) == ("network_error", True)
    assert "partial" not in error.metadata


@pytest.mark.parametrize("then", ["reset", "half_close", "end"])
def test_a_stream_that_is_cut_is_one_error_and_keeps_what_came(then):
    with LoopbackServer([Reply(chunks=chat_completions(text="Hello there")[:2], then=then)]) as server:
        batches = ask(server)
    error = failure(batches)
    assert (error.reason, error.metadata["partial"]) == ("network_error", True)
    assert TextDelta("Hello ") in events_of(batches)


@pytest.mark.parametrize("then", ["end", "half_close", "reset", "stall", "leave"])
def test_what_a_broken_answer_cost_and_which_it_was_is_known(then):
    begun = {"type": "message_start", "message": {"id": "m1", "model": "c", "usage": {"input_tokens": 1000}}}
    text = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "Hello"}}
    chunks = sse(begun, text, done=False)
    leaves = then == "leave"
    with LoopbackServer([Reply(chunks=chunks, then="stall" if leaves else then)]) as server:
        patience = {} if leaves else {"stream_timeout": 0.3}
        read = (lambda batch: isinstance(batch[-1], TextDelta)) if leaves else None
        batches = ask(server, adapter="anthropic", read=read, **patience)
    response = fold(events_of(batches)).response()
    assert (response.usage.input_tokens, response.text()) == (1000, "Hello")
    if not leaves:
        error = response.metadata["error"]
        assert (error.metadata["response_id"], error.metadata["model"]) == ("m1", "c")


def test_an_unreachable_port_is_a_network_error_that_is_tried_again():
    started = time.monotonic()
    error = failure(
        ask("http://127.0.0.1:9/v1", retry={"base_delay": 0.05, "jitter": 0.0, "max_attempts": 3})
    )
    assert (error.reason, error.metadata["phase"]) == ("network_error", "connect")
    assert "127.0.0.1:9" in error.message
    assert time.monotonic() - started >= 0.15


def test_closing_the_iterator_closes_the_connection():
    with LoopbackServer([Reply(chunks=chat_completions(text="Hello")[:2], then="stall")]) as server:
        batches = ask(server, read=lambda batch: isinstance(batch[-1], TextDelta))
        server.wait_for(lambda s: s.connections == 0 and s.abandoned == 1)
    assert not any(isinstance(event, ErrorEvent) for event in events_of(batches))


@pytest.mark.parametrize(
    "reply", [Reply(first_byte_delay=math.inf), Reply(chunks=[b": hi\n\n"], then="stall")]
)
def test_cancelling_the_task_closes_the_connection(reply):
    async def run(server):
        transport = HttpxTransport()
        call = Call(request_id="r", api_key=KEY, transport=transport, options={"base_url": server.url})

        async def read():
            return [event async for event in find_adapter("openai").stream(ASK, call)]

        task = asyncio.create_task(read())
        await asyncio.to_thread(server.wait_for, lambda s: len(s.requests) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(server.wait_for, lambda s: s.connections == 0)
        await transport.aclose()

    with LoopbackServer([reply]) as server:
        asyncio.run(run(server))


def test_nothing_is_sent_before_the_second_pull():
    async def run(server):
        transport = HttpxTransport()
        call = Call(request_id="r", api_key=KEY, transport=transport, options={"base_url": server.url})
        async with aclosing(find_adapter("openai").batches(ASK, call)) as answer:
            assert await anext(answer) == [MessageStarted()]
        await transport.aclose()

    with LoopbackServer([HELLO]) as server:
        asyncio.run(run(server))
        assert server.requests == ()


@pytest.mark.parametrize("wrong", ["sk-bad\nkey-0123", "sk-bäd-key-0123"], ids=["line", "letter"])
def test_a_key_with_a_forbidden_character_never_shows(wrong):
    async def run(url):
        transport = HttpxTransport()
        for key in (KEY, wrong):
            call = Call(
                request_id="r", api_key=key, transport=transport, options={"base_url": url}, retry=False
            )
            events = [event async for event in find_adapter("openai").stream(ASK, call)]
        await transport.aclose()
        return events[-1].error

    with LoopbackServer([HELLO]) as server:
        error = asyncio.run(run(server.url))
    assert error.reason == "invalid_request"
    assert "a header, or the key, has a character" in error.message
    assert "key-0123" not in repr(error.to_fields())
    assert error.__context__ is None
    assert error.__cause__ is None


SAID = b'{"error": {"message": "we are full", "code": "overloaded_error"}}'
REFUSALS = {
    "gzip": ("gzip", gzip.compress(SAID), "we are full"),
    "in capitals": ("GZIP", gzip.compress(SAID), "we are full"),
    "deflate": ("deflate", zlib.compress(SAID), "we are full"),
    "cut short": ("gzip", gzip.compress(SAID)[:-6], ""),
    "not at all": ("gzip", SAID, "we are full"),
    "in a way nobody knows": ("br", b"\x1b\x00\xf8", ""),
    "a bomb": ("gzip", gzip.compress(b" " * 2**24), ""),
}


@pytest.mark.parametrize(("coding", "body", "words"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_that_a_gateway_has_compressed_is_a_refusal(coding, body, words):
    refused = Reply(status=503, headers={"content-encoding": coding}, chunks=[body])
    again = {"base_delay": 0.0, "jitter": 0.0}
    with LoopbackServer([refused] * 6) as server:
        error = failure(ask(server, retry=again))
        assert (error.reason, error.status) == ("provider_unavailable", 503)
        assert words in str(error)
        engine = allm.Engine(embed_adapter="openai:m", adapter_opts={"base_url": server.url}, retry=again)
        with pytest.raises(allm.EmbeddingAdapterError) as embedding:
            allm.embed(engine, ["hi"], api_key="k")
        assert (embedding.value.reason, embedding.value.status) == ("provider_unavailable", 503)
        assert words in str(embedding.value)
        assert len(server.requests) == 6  # each was tried again


def opened(server, read, deadlines):
    """What `read` makes of the response of a transport."""

    async def run():
        transport = HttpxTransport()
        try:
            asked = HttpRequest(url=server.url, body=b"{}", headers={})
            async with asyncio.timeout(10), transport.open(asked, deadlines) as response:
                return await read(response)
        finally:
            await transport.aclose()

    return asyncio.run(run())


WORDS = b"we are full " * 50
CODED = {"identity": WORDS, "gzip": gzip.compress(WORDS), "x-gzip": gzip.compress(WORDS)}


@pytest.mark.parametrize(("coding", "body"), CODED.items(), ids=CODED)
def test_of_a_refusal_no_more_is_kept_than_was_asked_for(coding, body):
    refused = Reply(status=503, headers={"content-encoding": coding}, body=body)
    with LoopbackServer([refused]) as server:
        assert opened(server, lambda response: response.body(len(WORDS) - 7), Deadlines()) == WORDS[:-7]


def test_a_refusal_that_never_ends_is_read_for_so_long_and_no_longer():
    with LoopbackServer([Reply(status=503, chunks=[b"we are full"], then="stall")]) as server:
        said = opened(server, lambda response: response.body(100, 0.05), Deadlines())
    assert b"we are full".startswith(said)


def test_what_earlier_attempts_took_is_taken_off_the_time_for_the_whole_call():
    with LoopbackServer([Reply(then="stall")]) as server, pytest.raises(AdapterError) as raised:
        opened(server, lambda response: response.body(100), Deadlines(total=60.0, spent=60.0))
    assert (raised.value.reason, raised.value.metadata["phase"]) == ("timeout", "total")


LIMITED = b'{"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}'
TYPES = ["application/json", "text/event-stream", "text/plain", ""]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("adapter", ["openai", "anthropic", "gemini", "ollama"])
def test_an_error_that_is_said_with_a_good_status_is_that_error(adapter, kind):
    said = (
        b'{"type": "error", ' + LIMITED[1:].replace(b"exceeded", b"error")
        if adapter == "anthropic"
        else LIMITED
    )
    told = Reply(headers={"content-type": kind}, chunks=[b"\n", said[:20], said[20:]])
    with LoopbackServer([told] * 3) as server:
        batches = ask(server, adapter=adapter, retry={"base_delay": 0.0, "jitter": 0.0})
        error = events_of(batches)[-1].error
        assert error.reason == "rate_limited"
        assert "Rate limit reached" in str(error)
        assert len(server.requests) == 3


@pytest.mark.parametrize("kind", TYPES)
def test_an_answer_that_comes_whole_is_read_whatever_its_type_is_called(kind):
    message = {"role": "assistant", "content": "Hello"}
    whole = {"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    with LoopbackServer(
        [Reply(headers={"content-type": kind}, chunks=[json.dumps(whole).encode()])]
    ) as server:
        response = fold(events_of(ask(server))).response()
        assert (response.output_text, response.finish_reason) == ("Hello", "stop")


def test_an_event_that_is_called_an_error_is_one():
    told = b'event: error\ndata: {"message": "Rate limit reached", "code": "rate_limit_exceeded"}\n\n'
    with LoopbackServer([Reply(chunks=[told])]) as server:
        error = failure(ask(server))
        assert (error.reason, "Rate limit reached" in str(error)) == ("rate_limited", True)


@pytest.mark.parametrize(
    "call",
    [
        lambda engine: allm.embed(engine, ["a"], api_key=KEY),
        lambda engine: allm.moderate(engine, "a", api_key=KEY),
        lambda engine: allm.generate_image(engine, "a", api_key=KEY),
        lambda engine: allm.synthesize(engine, "a", api_key=KEY),
        lambda engine: allm.transcribe(engine, allm.Audio.from_bytes(b"x", "audio/mpeg"), api_key=KEY),
    ],
    ids=["embed", "moderate", "image", "speech", "transcribe"],
)
def test_what_is_not_chat_hears_of_such_an_error_too(call):
    slots = ("embed", "moderation", "image", "speech", "transcription")
    told = Reply(headers={"content-type": "application/json"}, chunks=[LIMITED])
    with LoopbackServer([told] * 3) as server:
        engine = allm.Engine(
            **{f"{slot}_adapter": "openai:m" for slot in slots},
            adapter_opts={"base_url": server.url},
            retry={"base_delay": 0.0, "jitter": 0.0},
        )
        with pytest.raises(allm.AdapterError, match="Rate limit reached") as refused:
            call(engine)
        assert (refused.value.reason, len(server.requests)) == ("rate_limited", 3)
