"""Every way in which a server fails its client, on both HTTP stacks, with and without TLS: the right error in time."""

import asyncio
import math
import re
import time
from contextlib import aclosing

import pytest

from allm_actors.data import ErrorEvent, Message, MessageCompleted, Request, TextDelta
from allm_actors.engine.adapter import Call
from allm_actors.engine.adapters import find_adapter
from allm_actors.engine.http.transport import HttpxTransport
from allm_actors.testing.exchanges import chat_completions, refusal
from allm_actors.testing.http1 import chunk
from allm_actors.testing.loopback import LoopbackServer, Reply

from .stacks import client_tls, no_descriptor_more, server_tls, stack  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("stack")

ASK = Request(messages=[Message(role="user", content="hi")], model="m")
PIECES = chat_completions(text=["Hel", "lo"], usage={"prompt_tokens": 3, "completion_tokens": 2})
WHOLE = b"".join(PIECES)
CODED = b"".join(map(chunk, PIECES))
EVENTS = b"content-type: text/event-stream\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\n" + EVENTS + b"transfer-encoding: chunked\r\n\r\n"
MEASURED = b"HTTP/1.1 200 OK\r\n%bcontent-length: %d\r\n\r\n%b" % (EVENTS, len(WHOLE), WHOLE)

SILENT = {"stream_timeout": 0.2}
ENDLESS = [b": still here\n\n"] * 100_000

FAILURES = {
    # what the server does: the reply, options of the call, the error's reason and its phase
    "never answers": (Reply(first_byte_delay=math.inf), SILENT, "timeout", "first_byte"),
    "stops in the head": (Reply(raw=[b"HTTP/1.1 200 OK\r\n"], then="stall"), SILENT, "timeout", "first_byte"),
    "stops in the body": (
        Reply(chunks=PIECES[:2], then="stall"),
        {**SILENT, "first_byte_timeout": 10.0},
        "timeout",
        "idle",
    ),
    "never ends": (Reply(chunks=ENDLESS, pace=0.01), {"request_timeout": 0.3}, "timeout", "total"),
    "resets before the head": (Reply(raw=[], then="reset"), {}, "network_error", None),
    "closes before the head": (Reply(raw=[], then="half_close"), {}, "network_error", None),
    "closes in the head": (
        Reply(raw=[b"HTTP/1.1 200 OK\r\nx"], then="half_close"),
        {},
        "network_error",
        None,
    ),
    "resets in the body": (Reply(chunks=PIECES[:2], then="reset"), {}, "network_error", None),
    "closes in the body": (Reply(chunks=PIECES[:2], then="half_close"), {}, "network_error", None),
    "closes in a measured body": (
        Reply(raw=[MEASURED[:-5]], then="half_close"),
        {},
        "network_error",
        None,
    ),
    "closes in an unmeasured body": (
        Reply(raw=[b"HTTP/1.1 200 OK\r\n" + EVENTS + b"\r\n" + PIECES[0]], then="half_close"),
        {},
        "network_error",
        None,
    ),
    "says nothing": (Reply(raw=[b"HTTP/1.1 204 No Content\r\n\r\n"]), {}, "network_error", None),
    "limits": (refusal(429, "slow down"), {}, "rate_limited", None),
    **{
        f"is broken, {status}": (refusal(status, "oops"), {}, "provider_unavailable", None)
        for status in (500, 502, 503, 504, 529)
    },
    "is a web page": (
        Reply(headers={"content-type": "text/html"}, body=b"<html>"),
        {},
        "malformed_response",
        None,
    ),
    "is a broken web page": (
        Reply(status=503, headers={"content-type": "text/html"}, body=b"<html>"),
        {},
        "provider_unavailable",
        None,
    ),
    "is a text": (
        Reply(headers={"content-type": "text/plain"}, body=b"hello"),
        {},
        "malformed_response",
        None,
    ),
    "is no JSON": (Reply(body=b"{"), {}, "malformed_response", None),
    "sends on": (Reply(status=307, headers={"location": "https://elsewhere/x"}), {}, "invalid_request", None),
    "compresses": (
        Reply(headers={"content-encoding": "gzip"}, chunks=[b"\x1f\x8b"]),
        {},
        "malformed_response",
        None,
    ),
    "is not HTTP": (
        Reply(raw=[b"SSH-2.0-OpenSSH_9.9\r\n\r\n"], then="stall"),
        {},
        "malformed_response",
        None,
    ),
    "has an impossible size": (
        Reply(raw=[b"HTTP/1.1 200 OK\r\ncontent-length: ten\r\n\r\n"], then="stall"),
        {},
        "malformed_response",
        None,
    ),
    "has a broken chunk": (
        Reply(raw=[CHUNKED, chunk(PIECES[0]), b"zz\r\n\r\n"], then="stall"),
        {},
        "malformed_response",
        None,
    ),
    "has a head without end": (
        Reply(
            raw=[b"HTTP/1.1 200 OK\r\n", *[b"x-%d: %b\r\n" % (n, b"x" * 1000) for n in range(300)]],
            then="stall",
        ),
        {},
        "malformed_response",
        None,
    ),
    "has a header without end": (
        Reply(raw=[b"HTTP/1.1 200 OK\r\nx: ", *[b"x" * 10_000] * 30], then="stall"),
        {},
        "malformed_response",
        None,
    ),
    "has a line without end": (Reply(chunks=[b"data: ", *[b"x" * 2**20] * 18]), {}, "malformed_event", None),
}
SUCCESSES = {
    "all in one packet": Reply(raw=[CHUNKED + CODED + b"0\r\n\r\n"]),
    "byte by byte": Reply(raw=[bytes([byte]) for byte in CHUNKED + CODED + b"0\r\n\r\n"]),
    "measured": Reply(raw=[MEASURED]),
    "until the connection ends": Reply(
        raw=[b"HTTP/1.0 200 OK\r\n" + EVENTS + b"\r\n", WHOLE], then="half_close"
    ),
    "after 100 and 103": Reply(
        raw=[
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n",
            CHUNKED,
            CODED,
            b"0\r\n\r\n",
        ]
    ),
    "with trailers and extensions": Reply(
        raw=[CHUNKED, b'5;name="v"\r\n: a\n\n\r\n', CODED, b"0\r\nx-cost: 3\r\nx-more: 4\r\n\r\n"]
    ),
    "and the server leaves": Reply(
        raw=[b"HTTP/1.1 200 OK\r\nconnection: close\r\n", MEASURED[17:]], then="half_close"
    ),
}


@pytest.fixture(scope="module", autouse=True)
def warm():
    """What is opened once and stays open, such as a library's own files, is opened before anything is counted."""
    asyncio.run(ask_all("http", [Reply(body=b"{}")] * 2, HttpxTransport))
    asyncio.run(ask_all("https", [Reply(body=b"{}")] * 2, HttpxTransport))


async def ask_all(scheme, replies, make, **options):
    """The last event of each call, the calls made one after the other."""
    ends = []
    tls = server_tls() if scheme == "https" else None
    server = LoopbackServer(replies, tls=tls)
    await asyncio.to_thread(server.start)
    transport = make(verify=client_tls())
    call = Call(
        request_id="r", retry=False, transport=transport, options={"base_url": server.url + "/v1", **options}
    )
    try:
        for _ in replies:
            events = []
            async with aclosing(find_adapter("openai-compatible").batches(ASK, call)) as batches:
                async for batch in batches:
                    events += batch
            ends.append(events)
    finally:
        await transport.aclose()
        await asyncio.to_thread(server.wait_for, lambda s: s.connections == 0)
        await asyncio.to_thread(server.close)
    return ends


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_one_error_with_its_reason_in_time(name, scheme):
    reply, options, reason, phase = FAILURES[name]
    started = time.monotonic()
    with no_descriptor_more():
        (events,) = asyncio.run(ask_all(scheme, [reply], HttpxTransport, **options))
    assert [type(event) for event in events].count(ErrorEvent) == 1
    error = events[-1].error
    assert (error.reason, error.metadata.get("phase")) == (reason, phase)
    assert error.provider == "openai-compatible"
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("name", SUCCESSES)
def test_an_answer_is_whole_however_it_is_framed_and_so_is_the_next(name, scheme):
    with no_descriptor_more():
        ends = asyncio.run(ask_all(scheme, [SUCCESSES[name]] * 3, HttpxTransport))
    for events in ends:
        assert "".join(event.delta for event in events if isinstance(event, TextDelta)) == "Hello"
        assert isinstance(events[-1], MessageCompleted)


@pytest.mark.parametrize(
    "rest", [":8443/v2?key=secret", ":8443?key=secret", ":8443#secret", ":8443/?key=secret@elsewhere"]
)
@pytest.mark.parametrize("scheme", ["https:", ""])
def test_a_redirect_names_the_host_and_nothing_else(scheme, rest):
    reply = Reply(status=308, headers={"location": f"{scheme}//user:pass@elsewhere.example{rest}"})
    ((*_, last),) = asyncio.run(ask_all("http", [reply], HttpxTransport))
    assert "elsewhere.example:8443" in last.error.message
    assert "pass" not in last.error.message
    assert "secret" not in last.error.message


@pytest.mark.parametrize(
    "there", ["/v2?key=secret", "https://a\\secret/", "secret", "https://elsewhere:secret/"]
)
def test_a_redirect_to_what_is_no_host_shows_nothing_of_it(there):
    ((*_, last),) = asyncio.run(
        ask_all("http", [Reply(status=308, headers={"location": there})], HttpxTransport)
    )
    assert re.search(r"redirects to another path|redirects to an invalid URL", last.error.message)
    assert "secret" not in last.error.message


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nset-cookie: session=secret\0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nset-cookie : session='secret'\r\n\r\n",
        b"HTP/1.1 secret\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nsecret\r\n",
    ],
)
def test_an_answer_that_is_not_http_is_said_to_be_none_without_quoting_it(answer):
    ((*_, last),) = asyncio.run(ask_all("http", [Reply(raw=[answer], then="half_close")], HttpxTransport))
    assert "did not answer with valid HTTP" in last.error.message
    assert "secret" not in last.error.message
