"""HTTP/2, over TLS and real sockets: what holds there as over HTTP/1.1, and the one thing that does not."""

import asyncio
from contextlib import aclosing

import pytest

from allm_actors.data import ErrorEvent, Message, MessageCompleted, Request, TextDelta
from allm_actors.engine.adapter import Call
from allm_actors.engine.adapters import find_adapter
from allm_actors.engine.transport import HttpxTransport
from allm_actors.testing.exchanges import chat_completions
from allm_actors.testing.loopback import LoopbackServer, Reply

from .stacks import client_tls, no_descriptor_more, server_tls

pytest.importorskip("h2", reason="httpx[http2] is not installed")
from h2.errors import ErrorCodes

from .http2 import Http2Server

KEY = "sk-http2-0123456789"
ASK = Request(messages=[Message(role="user", content="hi")], model="m")
HELLO = chat_completions(text=["Hello", " there"], usage={"prompt_tokens": 3, "completion_tokens": 2})
STREAMED = {"content_type": "text/event-stream"}
AGAIN = {"max_attempts": 3, "base_delay": 0.001, "retry_on": ("network_error",)}


def events_of(transport, url, *, read=None, retry=False, **options):
    """Everything one model says; `read` may end it early by returning true for an event."""

    async def ask():
        call = Call(
            request_id="r1",
            api_key=KEY,
            retry=retry,
            transport=transport,
            options={"base_url": url + "/v1", **options.pop("options", {})},
            **options,
        )
        events = []
        async with aclosing(find_adapter("openai-compatible").batches(ASK, call)) as answer:
            async for batch in answer:
                events += batch
                if read is not None and any(map(read, batch)):
                    break
        return events

    return ask()


def http2():
    return HttpxTransport(http2=True, verify=client_tls())


def run(scenario, transport=None):
    """What `scenario(transport)` returns, with the transport closed after it."""

    async def main():
        made = transport or http2()
        try:
            async with asyncio.timeout(20):
                return await scenario(made)
        finally:
            await made.aclose()

    return asyncio.run(main())


def ask_one(answer, **options):
    """What one request to a server with this `answer` gives."""
    with Http2Server(answer) as server:
        return run(lambda transport: events_of(transport, server.url, **options))


def text_of(events):
    return "".join(event.delta for event in events if isinstance(event, TextDelta))


def failure(events):
    """The one error, at the end; it shows no key."""
    errors = [event.error for event in events if isinstance(event, ErrorEvent)]
    assert len(errors) == 1
    assert isinstance(events[-1], ErrorEvent)
    assert KEY not in repr(errors[0].to_fields())
    return errors[0]


async def hello(stream):
    stream.head(**STREAMED)
    stream.say(*HELLO)
    stream.end()


async def begins(stream):
    """The head and the first text."""
    stream.head(**STREAMED)
    stream.say(*HELLO[:2])


def test_an_answer_is_the_same_as_over_http1_and_so_is_the_request():
    with Http2Server(hello) as server:
        events = run(lambda transport: events_of(transport, server.url))
        (asked,) = server.streams
    with LoopbackServer([Reply(chunks=HELLO)], tls=server_tls()) as one:
        own = HttpxTransport(verify=client_tls())
        assert run(lambda transport: events_of(transport, one.url), own) == events
        (same,) = one.requests
    assert text_of(events) == "Hello there"
    assert isinstance(events[-1], MessageCompleted)
    assert asked.body == same.body
    assert asked.headers["authorization"] == same.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers[":path"] == same.target


def test_a_server_that_speaks_only_http1_is_spoken_to_in_it():
    with LoopbackServer([Reply(chunks=HELLO)] * 2, tls=server_tls()) as server:

        async def scenario(transport):
            return [await events_of(transport, server.url) for _ in range(2)]

        assert [text_of(events) for events in run(scenario)] == ["Hello there"] * 2
        assert [request.connection for request in server.requests] == [0, 0]


def test_many_streams_share_one_connection_and_run_at_once():
    everybody = asyncio.Event()

    async def together(stream):
        stream.head(**STREAMED)
        stream.say(HELLO[0])
        if len(server.streams) == 30:
            everybody.set()
        await everybody.wait()
        for chunk in HELLO[1:]:
            stream.say(chunk)
            await asyncio.sleep(0)
        stream.end()

    async def scenario(transport):
        return await asyncio.gather(*[events_of(transport, server.url) for _ in range(30)])

    with Http2Server(together) as server:
        assert {text_of(events) for events in run(scenario)} == {"Hello there"}
        assert server.connections == 1


@pytest.mark.parametrize(
    "then",
    [
        lambda stream: stream.reset(ErrorCodes.INTERNAL_ERROR),
        lambda stream: stream.go_away(),
        lambda stream: stream.drop(),
    ],
    ids=["reset", "goaway", "drop"],
)
def test_a_stream_that_breaks_is_one_error_and_keeps_what_came(then):
    async def breaks(stream):
        await begins(stream)
        await stream.connection.server.read.wait()
        then(stream)

    with Http2Server(breaks) as server:
        server.read = asyncio.Event()

        def read(event):
            if isinstance(event, TextDelta):
                server.call(server.read.set)

        events = run(lambda transport: events_of(transport, server.url, read=read))
    assert text_of(events) == "Hello"
    assert failure(events).reason == "network_error"


@pytest.mark.parametrize("code", [ErrorCodes.REFUSED_STREAM, ErrorCodes.INTERNAL_ERROR])
def test_a_stream_that_is_refused_is_tried_again_as_the_policy_says(code):
    async def refuses_once(stream):
        if len(server.streams) == 1:
            stream.reset(code)
        else:
            await hello(stream)

    with Http2Server(refuses_once) as server:
        assert text_of(run(lambda t: events_of(t, server.url, retry=AGAIN))) == "Hello there"
        assert len(server.streams) == 2

    async def refuses(stream):
        stream.reset(code)

    assert failure(ask_one(refuses)).reason == "network_error"


def test_a_connection_that_the_server_left_is_noticed_by_the_next_request_which_is_tried_again():
    async def leaves(stream):
        await hello(stream)
        stream.go_away(last=stream.id)

    async def scenario(transport):
        said = []
        for _ in range(3):
            said.append(text_of(await events_of(transport, server.url, retry=AGAIN)))
            await asyncio.to_thread(server.wait_for, lambda server: server.open == 0)
        return said

    with Http2Server(leaves) as server:
        assert run(scenario) == ["Hello there"] * 3
        assert server.connections == 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_refusal_is_the_error_that_it_is_over_http1(status):
    async def refuses(stream):
        stream.head(status, content_type="text/html", retry_after="7")
        stream.say(b"<html><title>No</title></html>")
        stream.end()

    page = Reply(
        status=status,
        headers={"content-type": "text/html", "retry-after": "7"},
        body=b"<html><title>No</title></html>",
    )
    error = failure(ask_one(refuses))
    with LoopbackServer([page], tls=server_tls()) as one:
        own = HttpxTransport(verify=client_tls())
        same = failure(run(lambda transport: events_of(transport, one.url), own))
    assert (error.reason, error.status, error.retry_after_ms) == (
        same.reason,
        same.status,
        same.retry_after_ms,
    )


def test_silence_before_during_and_over_all_are_three_errors():
    async def silent(_stream):
        await asyncio.Event().wait()

    async def stops(stream):
        await begins(stream)
        await asyncio.Event().wait()

    async def endless(stream):
        await begins(stream)
        while True:
            stream.say(b": still here\n\n")
            await asyncio.sleep(0.01)

    for answer, limit, phase in (
        (silent, {"options": {"first_byte_timeout": 0.2}}, "first_byte"),
        (stops, {"stream_timeout": 0.2}, "idle"),
        (endless, {"request_timeout": 0.4}, "total"),
    ):
        error = failure(ask_one(answer, **limit))
        assert (error.reason, error.metadata["phase"]) == ("timeout", phase)


def test_who_leaves_early_does_not_disturb_the_others_and_leaves_nothing_open():
    """httpx does not tell the server that one stream has been left: it hears of it when the connection closes."""
    everybody, left = asyncio.Event(), asyncio.Event()

    async def waits(stream):
        await begins(stream)
        await left.wait()
        stream.say(*HELLO[2:])
        stream.end()

    async def scenario(transport):
        def first(event):
            return isinstance(event, TextDelta)

        others = [asyncio.create_task(events_of(transport, server.url)) for _ in range(3)]
        assert text_of(await events_of(transport, server.url, read=first)) == "Hello"
        hung = asyncio.create_task(events_of(transport, server.url, read=lambda _: everybody.set()))
        await everybody.wait()
        hung.cancel()
        await asyncio.gather(hung, return_exceptions=True)
        server.call(left.set)
        said = [text_of(events) for events in await asyncio.gather(*others)]
        return [*said, text_of(await events_of(transport, server.url))]

    with no_descriptor_more(), Http2Server(waits) as server:
        assert run(scenario) == ["Hello there"] * 4
        assert server.connections == 1
        assert server.resets == []  # when this changes, docs/reference/options.md has good news to tell
        server.wait_for(lambda server: server.open == 0)
