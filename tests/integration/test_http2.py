"""HTTP/2 over TLS on real sockets: streams that share a connection, and what each makes of what the server does."""

import asyncio
import json
import time
from contextlib import aclosing

import pytest

pytest.importorskip("h2", reason="HTTP/2 needs the package h2: pip install 'httpx[http2]'")

from h2.errors import ErrorCodes
from h2.settings import SettingCodes

import allm_actors as allm
from allm_actors.data import AdapterError, ErrorEvent, Message, Request, TextDelta
from allm_actors.engine.adapter import Call
from allm_actors.engine.adapters import find_adapter
from allm_actors.engine.http import http2_connection
from allm_actors.engine.http.http1_connection import AT_ONCE_SECONDS
from allm_actors.engine.http.transport import HttpxTransport
from allm_actors.engine.wire import Deadlines, HttpRequest
from allm_actors.testing.exchanges import chat_completions, refusal
from allm_actors.testing.loopback import Gate, LoopbackServer, Reply

from .http2_server import Http2Server
from .stacks import client_tls, no_descriptor_more, server_tls, stack  # noqa: F401 - a fixture
from .stage import until

KEY = "sk-canary-0123456789"
ASK = Request(messages=[Message(role="user", content="hi")], model="m")
PIECES = chat_completions(text=["Hel", "lo"], usage={"prompt_tokens": 3, "completion_tokens": 2})
HELLO = Reply(chunks=PIECES)
SOON = 10.0
both_stacks = pytest.mark.usefixtures("stack")


def transport(**options):
    return HttpxTransport(http2=True, verify=client_tls(), **options)


def call_of(server, made, *, retry=False, **options):
    return Call(
        request_id="r1",
        api_key=KEY,
        retry=retry,
        transport=made,
        options={"base_url": server.url + "/v1", **options},
    )


async def ask(server, made, *, begun=None, **options):
    """All events of one call; `begun` is set when the first piece of text has come."""
    events = []
    answer = adapter().batches(ASK, call_of(server, made, **options))
    async with asyncio.timeout(SOON), aclosing(answer):
        async for batch in answer:
            events += batch
            if begun is not None and isinstance(batch[-1], TextDelta):
                begun.set()
    return events


def adapter():
    return find_adapter("openai-compatible")


def run(server, scenario, **options):
    """Run `scenario(transport)` and close, in time; the server is left by everybody."""

    async def main():
        made = transport(**options)
        try:
            async with asyncio.timeout(SOON):
                return await scenario(made)
        finally:
            await made.aclose()

    with server:
        result = asyncio.run(main())
        server.wait_for(lambda seen: seen.connections == 0)
        return result


async def seen_by(server, condition):
    await asyncio.to_thread(server.wait_for, condition)


def text_of(events):
    return "".join(event.delta for event in events if isinstance(event, TextDelta))


def failure(events):
    """The error that ended it: the only one, the last event, without the key."""
    errors = [event.error for event in events if isinstance(event, ErrorEvent)]
    assert [event.error for event in events[-1:]] == errors
    (error,) = errors
    assert KEY not in repr(error.to_fields())
    assert KEY not in repr(error)
    assert (error.__cause__, error.__context__) == (None, None)
    assert (error.provider, error.request_id) == ("openai-compatible", "r1")
    return error


async def says_hello(stream):
    await stream.say(HELLO)


async def silence(_stream):
    await asyncio.get_running_loop().create_future()


async def begins(stream):
    """Half of an answer, then silence."""
    await stream.say(Reply(chunks=PIECES[:2], then="stall"))
    await silence(stream)


# One connection, many streams.


def test_a_chat_is_the_same_as_over_http1():
    def chat(server, made):
        options = {"base_url": server.url + "/v1", "transport": made}
        engine = allm.Engine("openai-compatible:m", adapter_opts=options, retry=False)
        with allm.stream(engine, [allm.user("hi")], api_key=KEY, request_id="r1") as events:
            return list(events)

    with LoopbackServer([HELLO], tls=server_tls()) as old:
        over_http1 = chat(old, HttpxTransport(verify=client_tls()))
        asked = old.requests[0].json
    with Http2Server(says_hello) as new:
        over_http2 = chat(new, transport())
        (request,) = new.seen.requests
        assert new.seen.protocols == ["h2"]
    assert over_http2 == over_http1
    assert text_of(over_http2) == "Hello"
    assert request.json == asked
    assert (request.method, request.target, request.headers["authorization"]) == (
        "POST",
        "/v1/chat/completions",
        f"Bearer {KEY}",
    )


def together(count):
    """An answer whose second half comes when so many have begun."""
    begun = []
    all_here = asyncio.Event()

    async def answer(stream):
        begun.append(stream)
        stream.head()
        await stream.data(b"".join(PIECES[:2]))
        if len(begun) == count:
            all_here.set()
        await all_here.wait()
        await stream.data(b"".join(PIECES[2:]))
        stream.end()

    return answer


@both_stacks
def test_streams_share_a_connection_and_take_turns():
    server = Http2Server(together(20))

    async def scenario(made):
        return await asyncio.gather(*(ask(server, made) for _ in range(20)))

    ends = run(server, scenario)
    assert {text_of(events) for events in ends} == {"Hello"}
    assert server.seen.accepted == 1


def test_each_key_has_a_connection_of_its_own():
    server = Http2Server(says_hello)

    async def scenario(made):
        for key in ("a", "b", "a"):
            await ask(server, made, headers={"authorization": f"Bearer {key}"})

    run(server, scenario)
    assert [request.connection for request in server.seen.requests] == [0, 1, 0]


@pytest.mark.parametrize("streams", [100, None], ids=["at most 100", "no limit is said"])
def test_no_stream_waits_for_another_to_end(streams):
    """Those that a connection has no room for go to another one."""
    server = Http2Server(together(250), streams=streams)

    async def scenario(made):
        return await asyncio.gather(*(ask(server, made) for _ in range(250)))

    ends = run(server, scenario)
    assert {text_of(events) for events in ends} == {"Hello"}
    assert server.seen.accepted == (3 if streams else 1)


def test_with_a_limit_who_comes_later_waits_in_line():
    gate = Gate()

    async def answer(stream):
        stream.head()
        await gate.passed()
        await stream.data(b"".join(PIECES))
        stream.end()

    server = Http2Server(answer, streams=2)

    async def scenario(made):
        asking = [asyncio.create_task(ask(server, made)) for _ in range(7)]
        await seen_by(server, lambda seen: len(seen.requests) == 2)
        asking.pop().cancel()  # one of those who wait, whose turn must not be lost
        gate.open()
        return await asyncio.gather(*asking)

    assert {text_of(events) for events in run(server, scenario, max_connections=1)} == {"Hello"}
    assert server.seen.accepted == 1


@both_stacks
@pytest.mark.parametrize("chosen", [None, ["http/1.1"]], ids=["knows no ALPN", "chooses HTTP/1.1"])
def test_a_server_of_http1_is_spoken_to_as_it_can(chosen):
    gate = Gate()
    tls = server_tls()
    if chosen:
        tls.set_alpn_protocols(chosen)
    server = LoopbackServer(lambda _: Reply(chunks=[*PIECES[:2], gate, *PIECES[2:]]), tls=tls)

    async def scenario(made):
        asking = [asyncio.create_task(ask(server, made)) for _ in range(10)]
        await seen_by(server, lambda server: len(server.requests) == 10)
        gate.open()
        return [*await asyncio.gather(*asking), await ask(server, made)]

    assert {text_of(events) for events in run(server, scenario)} == {"Hello"}
    assert {request.connection for request in server.requests} <= set(range(11))


def test_each_connection_speaks_what_was_chosen_for_it():
    """As behind a load balancer with servers of two kinds."""
    server = Http2Server(says_hello)
    server.tls.set_alpn_protocols(["http/1.1"])

    async def scenario(made):
        async with made.open(asking(server.url), Deadlines()) as response:
            server.tls.set_alpn_protocols(["h2"])
            other = await ask(server, made)
            return await response.body(5), text_of(other)

    assert run(server, scenario) == (b"begun", "Hello")
    assert server.seen.protocols == ["http/1.1", "h2"]


def test_what_is_idle_too_long_is_closed(monkeypatch):
    monkeypatch.setattr("allm_actors.engine.http.transport._IDLE_SECONDS", 0.05)
    server = Http2Server(says_hello)

    async def scenario(made):
        await ask(server, made)
        await seen_by(server, lambda seen: seen.connections == 0)
        return await ask(server, made)

    assert text_of(run(server, scenario)) == "Hello"


def test_no_more_are_kept_idle_than_allowed(monkeypatch):
    monkeypatch.setattr("allm_actors.engine.http.transport._MOST_IDLE", 2)
    server = Http2Server(says_hello)

    async def scenario(made):
        for key in ("a", "b", "c"):
            request = HttpRequest(url=server.url, body=b"{}", headers={"authorization": f"Bearer {key}"})
            async with made.open(request, Deadlines()) as response:
                await response.body(1000)
        await seen_by(server, lambda seen: seen.connections == 2)

    run(server, scenario)
    assert server.seen.accepted == 3


# Leaving.


async def leaves_after_a_piece(server, made):
    async with aclosing(adapter().batches(ASK, call_of(server, made))) as answer:
        async for batch in answer:
            if any(isinstance(event, TextDelta) for event in batch):
                return


async def is_cancelled(server, made):
    task = asyncio.create_task(ask(server, made))
    await seen_by(server, lambda seen: len(seen.requests) == 2)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize(
    ("leave", "does"),
    [(leaves_after_a_piece, begins), (is_cancelled, begins), (is_cancelled, silence)],
    ids=["closed in the answer", "cancelled in the answer", "cancelled before it"],
)
def test_who_leaves_resets_its_stream_and_the_others_go_on(leave, does):
    gate = Gate()

    async def answer(stream):
        if stream.id == 1:
            await stream.say(Reply(chunks=[*PIECES[:2], gate, *PIECES[2:]]))
        else:
            await does(stream)

    server = Http2Server(answer)

    async def scenario(made):
        other = asyncio.create_task(ask(server, made))
        await seen_by(server, lambda seen: len(seen.requests) == 1)
        await leave(server, made)
        await seen_by(server, lambda seen: seen.resets == [(0, 3, ErrorCodes.CANCEL)])
        gate.open()
        return await other

    assert text_of(run(server, scenario)) == "Hello"
    assert server.seen.accepted == 1


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_stream_of_the_engine_that_is_left_resets_its_own(how):
    def engine(server):
        options = {"base_url": server.url + "/v1", "transport": transport()}
        return allm.Engine("openai-compatible:m", adapter_opts=options, retry=False)

    async def first_piece(asked):
        async with allm.aio.stream(asked, [allm.user("hi")], api_key=KEY) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    return

    with Http2Server(begins) as server:
        if how == "async":
            asyncio.run(first_piece(engine(server)))
        else:
            with allm.stream(engine(server), [allm.user("hi")], api_key=KEY) as events:
                next(event for event in events if isinstance(event, TextDelta))
        server.wait_for(lambda seen: seen.resets == [(0, 1, ErrorCodes.CANCEL)])


def test_whenever_one_is_cancelled_the_others_lose_nothing():
    """At every turn of the loop: what is half written would break the connection that all share."""
    gate = Gate()
    turns = 60

    async def answer(stream):
        if stream.id == 1:
            await stream.say(Reply(chunks=[*PIECES[:2], gate, *PIECES[2:]]))
        else:
            await stream.say(Reply(chunks=PIECES[:2] * 50))

    server = Http2Server(answer)

    async def scenario(made):
        other = asyncio.create_task(ask(server, made))
        await seen_by(server, lambda seen: len(seen.requests) == 1)
        for turn in range(turns):
            asking = asyncio.create_task(ask(server, made))
            for _ in range(turn):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
        gate.open()
        return await other

    assert text_of(run(server, scenario)) == "Hello"
    assert server.seen.accepted == 1


def test_whenever_the_first_is_cancelled_no_socket_is_left():
    server = Http2Server(says_hello)

    async def scenario(made):
        for turn in [*range(40), *range(40, 200, 8)]:
            asking = asyncio.create_task(ask(server, made))
            for _ in range(turn):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
            await made.aclose()
        return await ask(server, made)

    with no_descriptor_more():
        assert text_of(run(server, scenario)) == "Hello"


def test_who_waits_for_the_first_connection_gets_it_when_the_one_who_opens_it_is_cancelled():
    server = Http2Server(says_hello)

    async def scenario(made):
        asking = [asyncio.create_task(ask(server, made)) for _ in range(5)]
        for _ in range(5):
            await asyncio.sleep(0)
        asking.pop(0).cancel()
        return await asyncio.gather(*asking)

    assert {text_of(events) for events in run(server, scenario)} == {"Hello"}


# Failures.


async def drips(stream):
    stream.head()
    while not stream.gone:
        await stream.data(b": still here\n\n")
        await asyncio.sleep(0.01)


def ends_with(act):
    """Half of an answer, and then the worst."""

    async def answer(stream):
        await stream.say(Reply(chunks=PIECES[:2], then="stall"))
        act(stream)
        await silence(stream)

    return answer


BREAKS = {
    "is reset": lambda stream: stream.reset(ErrorCodes.INTERNAL_ERROR),
    "is left by a server that goes away": lambda stream: stream.peer.goaway(0, ErrorCodes.INTERNAL_ERROR),
    "loses its connection": lambda stream: stream.peer.transport.abort(),
    "is announced to be lost": lambda stream: (
        stream.peer.goaway(stream.id, ErrorCodes.INTERNAL_ERROR),
        stream.peer.transport.close(),
    ),
}


@both_stacks
@pytest.mark.parametrize("name", BREAKS)
def test_an_answer_that_breaks_is_one_error_and_keeps_what_came(name):
    server = Http2Server(ends_with(BREAKS[name]))

    async def scenario(made):
        return await ask(server, made, retry={"base_delay": 0.001})

    events = run(server, scenario)
    error = failure(events)
    assert (error.reason, error.metadata["partial"]) == ("network_error", True)
    assert text_of(events) == "Hel"
    assert len(server.seen.requests) == 1
    assert allm.fold(events).response().output_text == "Hel"


@both_stacks
@pytest.mark.parametrize(
    ("does", "options", "phase"),
    [
        (silence, {"stream_timeout": 0.2}, "first_byte"),
        (begins, {"stream_timeout": 0.2, "first_byte_timeout": 5.0}, "idle"),
        (drips, {"request_timeout": 0.3}, "total"),
    ],
    ids=["first byte", "idle", "total"],
)
def test_the_deadlines_are_those_of_http1(does, options, phase):
    server = Http2Server(does)
    started = time.monotonic()

    async def scenario(made):
        return await ask(server, made, **options)

    error = failure(run(server, scenario))
    assert (error.reason, error.metadata["phase"]) == ("timeout", phase)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("does", [silence, begins])
def test_a_deadline_ends_its_stream_alone(does):
    gate = Gate()

    async def answer(stream):
        await (stream.say(Reply(chunks=[gate, *PIECES])) if stream.id == 1 else does(stream))

    server = Http2Server(answer)

    async def scenario(made):
        other = asyncio.create_task(ask(server, made))
        await seen_by(server, lambda seen: len(seen.requests) == 1)
        late = await ask(server, made, stream_timeout=0.2)
        await seen_by(server, lambda seen: seen.resets == [(0, 3, ErrorCodes.CANCEL)])
        gate.open()
        return late, await other

    late, other = run(server, scenario)
    assert failure(late).reason == "timeout"
    assert text_of(other) == "Hello"


@both_stacks
@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (refusal(401, f"Incorrect API key: {KEY}."), ("authentication_failed", 401, None)),
        (refusal(429, "slow down", headers={"retry-after": "7"}), ("rate_limited", 429, 7000)),
        (
            Reply(status=500, headers={"content-type": "text/html"}, body=b"<html>secret</html>"),
            ("provider_unavailable", 500, None),
        ),
        (
            Reply(headers={"content-type": "text/html"}, body=b"<html>secret</html>"),
            ("malformed_response", None, None),
        ),
    ],
    ids=["401", "429", "500 in HTML", "200 in HTML"],
)
def test_a_refusal_has_the_reason_that_it_has_over_http1(reply, expected):
    server = Http2Server(lambda stream: stream.say(reply))

    async def scenario(made):
        return await ask(server, made)

    error = failure(run(server, scenario))
    assert (error.reason, error.status, error.retry_after_ms) == expected
    assert "secret" not in error.message


@both_stacks
def test_a_429_is_tried_again_on_the_same_connection():
    async def answer(stream):
        busy = refusal(429, "slow down", headers={"retry-after": "0.01"})
        await stream.say(busy if stream.id < 5 else HELLO)

    server = Http2Server(answer)

    async def scenario(made):
        return await ask(server, made, retry={"base_delay": 0.001, "jitter": 0.0})

    assert text_of(run(server, scenario)) == "Hello"
    assert (len(server.seen.requests), server.seen.accepted) == (3, 1)


def test_a_key_that_cannot_be_written_never_shows():
    server = Http2Server(says_hello)

    async def scenario(made):
        return await ask(server, made, headers={"x-other": f"{KEY}\nx"})

    assert failure(run(server, scenario)).reason == "invalid_request"
    assert server.seen.requests == []


def test_what_is_not_http2_is_malformed():
    async def answer(stream):
        stream.peer.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await silence(stream)

    server = Http2Server(answer)

    async def scenario(made):
        return await ask(server, made)

    error = failure(run(server, scenario))
    assert error.reason == "malformed_response"
    assert "did not answer with valid HTTP" in error.message


def test_a_flood_of_frames_without_data_ends_the_answer():
    async def answer(stream):
        ping = b"\0\0\x08\x06\0\0\0\0\0anybody?"
        while not stream.peer.transport.is_closing():
            stream.peer.transport.write(ping * 100)
            await asyncio.sleep(0)

    server = Http2Server(answer)

    async def scenario(made):
        return await ask(server, made)

    error = failure(run(server, scenario))
    assert error.reason == "malformed_response"
    assert "1000 frames in a row without data" in error.message


# What was not read may be sent again.


def refuses(stream):
    stream.reset(ErrorCodes.REFUSED_STREAM)


def goes_away(stream):
    stream.peer.goaway(0)


@pytest.mark.parametrize("act", [refuses, goes_away], ids=["REFUSED_STREAM", "GOAWAY"])
def test_what_the_server_did_not_look_at_is_sent_again(act):
    server = Http2Server(lambda stream: says_hello(stream) if len(server.seen.requests) > 1 else once(stream))

    async def once(stream):
        act(stream)

    async def scenario(made):
        return await ask(server, made)

    assert text_of(run(server, scenario)) == "Hello"
    assert len(server.seen.requests) == 2
    assert server.seen.accepted == (2 if act is goes_away else 1)


@pytest.mark.parametrize("act", [refuses, goes_away], ids=["REFUSED_STREAM", "GOAWAY"])
def test_a_server_that_refuses_all_is_an_error_that_the_retry_policy_knows(act):
    async def answer(stream):
        act(stream)

    server = Http2Server(answer)

    async def scenario(made):
        once = await ask(server, made)
        asked = len(server.seen.requests)
        twice = await ask(server, made, retry={"max_attempts": 2, "base_delay": 0.001, "jitter": 0.0})
        return once, twice, asked

    once, twice, asked = run(server, scenario)
    for events in (once, twice):
        error = failure(events)
        assert (error.reason, error.metadata) == ("network_error", {"phase": "connect"})
    assert (asked, len(server.seen.requests)) == (3, 9)


@both_stacks
@pytest.mark.parametrize("code", [ErrorCodes.INTERNAL_ERROR, ErrorCodes.ENHANCE_YOUR_CALM])
def test_what_the_server_may_have_read_is_not_sent_again(code):
    async def answer(stream):
        stream.reset(code)

    server = Http2Server(answer)

    async def scenario(made):
        return await ask(server, made, retry={"base_delay": 0.001})

    assert failure(run(server, scenario)).reason == "network_error"
    assert len(server.seen.requests) == 1


def test_what_a_server_has_worked_on_is_not_sent_again():
    """It reads a request, takes its time, and the connection breaks: nobody knows what it has done."""

    async def answer(stream):
        if len(server.seen.requests) == 1:
            await says_hello(stream)
        else:
            await asyncio.sleep(AT_ONCE_SECONDS + 0.1)
            stream.peer.transport.abort()

    server = Http2Server(answer)

    async def scenario(made):
        return [await ask(server, made), await ask(server, made)]

    hello, broken = run(server, scenario)
    assert (text_of(hello), failure(broken).reason) == ("Hello", "network_error")
    assert len(server.seen.requests) == 2


def test_what_was_sent_beside_another_request_is_not_sent_again():
    """The connection had not been idle: that it breaks does not mean that it was about to be closed."""

    async def answer(stream):
        if len(server.seen.requests) == 2:
            stream.peer.transport.abort()
        await silence(stream)

    server = Http2Server(answer)

    async def scenario(made):
        first = asyncio.create_task(ask(server, made))
        await seen_by(server, lambda seen: len(seen.requests) == 1)
        return [await ask(server, made), await first]

    assert [failure(events).reason for events in run(server, scenario)] == ["network_error"] * 2
    assert len(server.seen.requests) == 2


def test_all_that_was_sent_at_once_on_a_connection_that_is_gone_is_sent_again():
    async def answer(stream):
        if stream.peer.number == 0 and len(server.seen.requests) > 1:
            stream.peer.transport.abort()
        else:
            await says_hello(stream)

    server = Http2Server(answer)

    async def scenario(made):
        return [await ask(server, made), *await asyncio.gather(*(ask(server, made) for _ in range(3)))]

    assert [text_of(events) for events in run(server, scenario)] == ["Hello"] * 4
    assert server.seen.accepted == 2


def test_a_server_that_goes_away_ends_what_it_has_begun():
    gate = Gate()

    async def answer(stream):
        if stream.peer.number:
            await says_hello(stream)
            return
        stream.head()
        stream.peer.goaway(2**31 - 1)
        stream.peer.goaway(stream.id)
        await stream.data(b"".join(PIECES[:2]))
        await gate.passed()
        await stream.data(b"".join(PIECES[2:]))
        stream.end()

    server = Http2Server(answer)

    async def scenario(made):
        begun = asyncio.Event()
        first = asyncio.create_task(ask(server, made, begun=begun))
        await begun.wait()
        ends = [await ask(server, made)]
        gate.open()
        ends.append(await first)
        await seen_by(server, lambda seen: seen.connections == 1)  # nobody needs the one that was left
        return ends

    assert [text_of(events) for events in run(server, scenario)] == ["Hello", "Hello"]
    assert server.seen.accepted == 2


def test_a_connection_that_is_gone_when_it_is_needed_is_replaced():
    async def answer(stream):
        await says_hello(stream)
        stream.peer.transport.close()

    server = Http2Server(answer)

    async def scenario(made):
        return [await ask(server, made) for _ in range(8)]

    assert {text_of(events) for events in run(server, scenario)} == {"Hello"}
    assert server.seen.accepted == 8


def test_a_connection_that_is_silent_gets_no_more_requests(monkeypatch):
    """Nobody has closed it, and nobody is there: each request on it would wait for its deadline."""
    monkeypatch.setattr(http2_connection, "_FRESH_SECONDS", -1.0)
    monkeypatch.setattr(http2_connection, "_PING_SECONDS", 0.2)
    monkeypatch.setattr(http2_connection, "AT_ONCE_SECONDS", 0.0)  # nor is one sent there, and then again

    async def answer(stream):
        if stream.peer.number == 0:
            stream.peer.transport.pause_reading()
            await begins(stream)
        await says_hello(stream)

    server = Http2Server(answer)

    async def scenario(made):
        await leaves_after_a_piece(server, made)
        next_one = await ask(server, made)
        stacks = made._stacks[asyncio.get_running_loop()]
        await asyncio.to_thread(until, lambda: stacks._own.open == 1)
        server.in_loop(lambda: [peer.transport.abort() for peer in tuple(server.seen.open)])
        return next_one

    assert text_of(run(server, scenario)) == "Hello"


def test_a_connection_that_has_shown_that_it_is_there_is_left_open(monkeypatch):
    doubts, ask_peer = [], http2_connection.Http2Connection._ask

    def asks(connection):
        ask_peer(connection)
        doubts.append(connection._doubt)

    monkeypatch.setattr(http2_connection, "_FRESH_SECONDS", -1.0)
    monkeypatch.setattr(http2_connection.Http2Connection, "_ask", asks)
    server = Http2Server(begins)

    async def scenario(made):
        await leaves_after_a_piece(server, made)
        await asyncio.to_thread(until, doubts[0].cancelled)

    run(server, scenario)
    assert server.seen.accepted == len(doubts) == 1


def test_a_server_that_takes_more_than_before_is_given_more():
    gate = Gate()

    async def answer(stream):
        if len(server.seen.requests) == 1:
            stream.peer.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 2})
            stream.peer.flush()
            await gate.passed()
        await says_hello(stream)

    server = Http2Server(answer, streams=1)

    async def scenario(made):
        asking = [asyncio.create_task(ask(server, made)) for _ in range(2)]
        await seen_by(server, lambda seen: len(seen.requests) == 2)
        gate.open()
        return await asyncio.gather(*asking)

    assert [text_of(events) for events in run(server, scenario, max_connections=1)] == ["Hello"] * 2
    assert server.seen.accepted == 1


def test_a_server_that_takes_no_requests_yet_is_waited_for():
    server = Http2Server(says_hello, streams=0)

    def ready():
        (peer,) = server.seen.open
        peer.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 5})
        peer.flush()

    async def scenario(made):
        asking = [asyncio.create_task(ask(server, made)) for _ in range(5)]
        await seen_by(server, lambda seen: seen.connections == 1)
        server.in_loop(ready)
        return await asyncio.gather(*asking)

    assert [text_of(events) for events in run(server, scenario)] == ["Hello"] * 5
    assert server.seen.accepted == 1


@pytest.mark.parametrize("limit", [None, 1])
def test_a_server_that_takes_no_requests_is_a_timeout_and_no_storm(limit):
    server = Http2Server(says_hello, streams=0)

    async def scenario(made):
        events = await asyncio.gather(*(ask(server, made, connect_timeout=0.3) for _ in range(5)))
        await seen_by(server, lambda seen: seen.connections == 0)
        return [failure(each) for each in events]

    for error in run(server, scenario, max_connections=limit):
        assert (error.reason, error.metadata) == ("timeout", {"phase": "connect"})
    assert server.seen.requests == []
    assert server.seen.accepted <= 5


# Flow.


def asking(url, body=b"{}"):
    """A request with the key that `ask` has, and so on the same connection."""
    return HttpRequest(url=url, body=body, headers={"authorization": f"Bearer {KEY}"})


async def fetch(made, url, body):
    async with made.open(asking(url, body), Deadlines()) as response:
        return response.status, await response.body(10_000_000)


def test_a_large_request_is_sent_as_the_server_has_room():
    async def answer(stream):
        await stream.say(Reply(body=str(len(stream.body)).encode()))

    server = Http2Server(answer)

    async def scenario(made):
        bodies = [json.dumps("x" * size).encode() for size in (3_000_000, 100_000, 10)]
        answers = await asyncio.gather(*(fetch(made, server.url + "/v1", body) for body in bodies))
        return [len(body) for body in bodies], [int(body) for _, body in answers]

    sizes, counted = run(server, scenario)
    assert counted == sizes
    assert server.seen.accepted == 1


def test_a_reader_who_does_not_read_holds_the_server_up_and_nobody_else():
    pieces, sent = b"x" * 65536, []

    async def answer(stream):
        if stream.id > 1:
            await says_hello(stream)
            return
        sent.append(stream)
        stream.head()
        for _ in range(100):
            await stream.data(pieces)
        stream.end()

    server = Http2Server(answer)

    async def scenario(made):
        async with made.open(asking(server.url), Deadlines()) as response:
            await asyncio.to_thread(until, lambda: sent[0].sent >= http2_connection.WINDOW_BYTES)
            held = sent[0].sent
            other = await ask(server, made)
            return held, text_of(other), len(await response.body(10_000_000))

    held, other, size = run(server, scenario)
    assert held == http2_connection.WINDOW_BYTES
    assert other == "Hello"
    assert size == 100 * len(pieces)


def test_an_answer_before_the_whole_request_is_read_is_an_answer():
    server = Http2Server(says_hello)
    early = Reply(status=413, body=b"too much")

    async def scenario(made):
        server.early = early
        answer = await fetch(made, server.url + "/v1", b"x" * 5_000_000)
        server.early = None
        return answer, text_of(await ask(server, made))

    assert run(server, scenario) == ((413, b"too much"), "Hello")
    assert server.seen.accepted == 1


def test_no_connection_is_an_error_of_the_network():
    async def scenario(made):
        call = Call(
            request_id="r1", transport=made, options={"base_url": "https://127.0.0.1:9/v1"}, retry=False
        )
        return await asyncio.gather(*(last(call) for _ in range(5)))

    async def last(call):
        return [event async for event in adapter().stream(ASK, call)]

    for events in run(Http2Server(says_hello), scenario):
        error = failure(events)
        assert (error.reason, error.metadata) == ("network_error", {"phase": "connect"})


def test_a_server_that_never_says_what_it_takes_is_a_timeout():
    server = Http2Server(says_hello, mute=True)

    async def scenario(made):
        with pytest.raises(AdapterError) as raised:
            async with made.open(asking(server.url), Deadlines(connect=0.2)):
                pass
        return raised.value

    error = run(server, scenario)
    assert (error.reason, error.metadata["phase"]) == ("timeout", "connect")
    assert server.seen.requests == []


def test_who_leaves_while_httpx_connects_takes_nobody_along():
    async def answer(stream):
        stream.head(200, {"content-type": "text/plain"})
        await stream.data(b"ok")
        stream.peer.h2.end_stream(stream.id)
        stream.peer.flush()

    async def ask(door, url):
        async with door.open(HttpRequest(url=url, body=b"{}"), Deadlines(connect=SOON)) as response:
            return await response.body(100)

    async def main(url, step):
        door = transport(own=False)
        calls = [asyncio.create_task(ask(door, url)) for _ in range(4)]
        for _ in range(step):
            await asyncio.sleep(0)
        calls[0].cancel()
        came = await asyncio.gather(*calls, return_exceptions=True)
        await door.aclose()
        return came[1:]

    with Http2Server(answer) as server:
        for step in range(0, 200, 10):
            assert asyncio.run(main(server.url, step)) == [b"ok"] * 3
