"""Our own HTTP/1.1 over real sockets: its connections, and what becomes of them."""

import asyncio
import contextlib
import gc
import itertools
import math
import os
import select
import socket
import ssl
import sys
import threading
import traceback
from functools import partial

import httpx
import pytest
import trustme

from allm_actors.data import AdapterError
from allm_actors.engine.http import http1_connection
from allm_actors.engine.http import transport as door
from allm_actors.engine.http.http1_pool import Origin, Pool
from allm_actors.engine.http.http1_transport import Http1Transport
from allm_actors.engine.http.transport import HttpxTransport
from allm_actors.engine.wire import Deadlines, HttpRequest
from allm_actors.testing.http1 import chunk
from allm_actors.testing.loopback import Gate, LoopbackServer, Reply

from .stacks import CA, client_tls, descriptors, no_descriptor_more, server_tls, stack  # noqa: F401 - a fixture

KEYS = ({"authorization": "Bearer a"}, {"authorization": "Bearer b"})
both_stacks = pytest.mark.usefixtures("stack")


async def fetch(transport, url, headers=None, body=b"{}", **deadlines):
    """The body of the answer to one request."""
    request = HttpRequest(url=url + "/v1", body=body, headers=headers or {})
    async with transport.open(request, Deadlines(**deadlines)) as response:
        return await response.body(10_000_000)


async def in_thread(server, condition):
    await asyncio.to_thread(server.wait_for, condition)


def run(server, scenario, transport=None):
    """Run `scenario(transport)` and close."""

    async def main():
        made = transport or HttpxTransport(verify=client_tls())
        try:
            return await scenario(made)
        finally:
            await made.aclose()

    with server:
        result = asyncio.run(main())
        server.wait_for(lambda s: s.connections == 0)
        return result


# Pools.


def test_each_key_has_connections_of_its_own():
    server = LoopbackServer([Reply(body=b"1")] * 5)

    async def scenario(transport):
        for key in (KEYS[0], KEYS[1], KEYS[0], KEYS[1], {}):
            await fetch(transport, server.url, key)

    run(server, scenario)
    assert [request.connection for request in server.requests] == [0, 1, 0, 1, 2]


@pytest.mark.parametrize(
    "header",
    ["xi-api-key", "x-amz-security-token", "ocp-apim-subscription-key", "x-gateway-secret", "cookie"],
)
def test_a_key_is_one_whatever_header_has_it(header):
    server = LoopbackServer(lambda _: Reply(body=b"1"))

    async def scenario(transport):
        for key in ("a", "b", "a"):
            await fetch(transport, server.url, {header: key})

    run(server, scenario)
    assert [request.connection for request in server.requests] == [0, 1, 0]


@pytest.mark.parametrize("header", ["x-session-affinity", "openai-project", "openai-organization"])
def test_what_is_asked_for_is_no_key(header):
    server = LoopbackServer(lambda _: Reply(body=b"1"))

    async def scenario(transport):
        for value in ("a", "b", "a"):
            await fetch(transport, server.url, {header: value})

    run(server, scenario)
    assert [request.connection for request in server.requests] == [0, 0, 0]


def test_what_is_new_in_each_request_is_no_key():
    server = LoopbackServer(lambda _: Reply(body=b"1"))

    async def scenario(transport):
        for key in ("a", "b"):
            await fetch(transport, server.url, {"Idempotency-Key": key, "x-request-id": key})

    run(server, scenario)
    assert [request.connection for request in server.requests] == [0, 0]


def test_a_signature_is_not_another_key():
    """AWS's is new with each request."""
    server = LoopbackServer([Reply(body=b"1")] * 3)
    signed = "AWS4-HMAC-SHA256 Credential={}/20260101/eu-west-1/bedrock/aws4_request, Signature={}"

    async def scenario(transport):
        for key, signature in (("AKIDA", "01"), ("AKIDA", "02"), ("AKIDB", "03")):
            await fetch(transport, server.url, {"authorization": signed.format(key, signature)})

    run(server, scenario)
    assert [request.connection for request in server.requests] == [0, 0, 1]


def test_what_is_idle_too_long_is_closed():
    server = LoopbackServer([Reply(body=b"1")])

    async def main():
        transport = Http1Transport(client_tls, idle_seconds=0.05)
        async with httpx.AsyncClient(transport=transport) as client:
            assert (await client.get(server.url)).text == "1"
            assert transport.open == 1
            await in_thread(server, lambda s: s.connections == 0)
            assert transport.open == 0

    with server:
        asyncio.run(main())


def test_no_more_are_kept_idle_than_allowed():
    gate = Gate()
    server = LoopbackServer(lambda _: Reply(chunks=[gate, b"1"]))

    async def main():
        transport = Http1Transport(client_tls, most_idle=2)
        async with httpx.AsyncClient(
            transport=transport, limits=httpx.Limits(max_connections=None)
        ) as client:
            asking = [asyncio.create_task(client.get(server.url)) for _ in range(5)]
            await in_thread(server, lambda s: len(s.requests) == 5)
            gate.open()
            await asyncio.gather(*asking)
            await in_thread(server, lambda s: s.connections == 2)

    with server:
        asyncio.run(main())


def test_who_is_busy_keeps_a_connection_when_too_many_are_idle():
    server = LoopbackServer(lambda _: Reply(body=b"1"))

    async def main():
        transport = Http1Transport(client_tls, most_idle=3)
        async with httpx.AsyncClient(transport=transport) as client:
            for key in ("a", "b", "c", "busy", "busy", "busy", "c"):
                await client.get(server.url, headers={"authorization": key})

    with server:
        asyncio.run(main())
    assert [request.connection for request in server.requests] == [0, 1, 2, 3, 3, 3, 2]


def test_the_connection_that_was_used_last_is_used_first():
    """So that those that are too many grow old."""
    gates = [Gate(), Gate()]
    server = LoopbackServer([*(Reply(chunks=[gate, b"1"]) for gate in gates), *[Reply(body=b"1")] * 2])

    async def scenario(transport):
        asking = []
        for number in range(2):
            asking.append(asyncio.create_task(fetch(transport, server.url)))
            await in_thread(server, lambda s, so_far=number: len(s.requests) > so_far)
        for gate, asked in zip(gates, asking, strict=True):
            gate.open()
            await asked
        for _ in range(2):
            await fetch(transport, server.url)

    run(server, scenario)
    assert [request.connection for request in server.requests] == [0, 1, 1, 1]


@both_stacks
def test_with_a_limit_who_comes_later_waits_in_line():
    gate = Gate()
    server = LoopbackServer(lambda _: Reply(chunks=[gate, b"1"]))

    async def scenario(transport):
        asking = [asyncio.create_task(fetch(transport, server.url)) for _ in range(6)]
        await in_thread(server, lambda s: len(s.requests) == 2)
        asking.pop().cancel()  # one of those who wait, whose turn must not be lost
        gate.open()
        assert await asyncio.gather(*asking) == [b"1"] * 5

    run(server, scenario, HttpxTransport(max_connections=2))
    assert {request.connection for request in server.requests} == {0, 1}


@both_stacks
def test_who_waits_for_a_connection_waits_no_longer_than_for_the_network():
    server = LoopbackServer(lambda _: Reply(chunks=[b"1"], then="stall"))

    async def scenario(transport):
        request = HttpRequest(url=server.url, body=b"")
        async with transport.open(request, Deadlines()):
            with pytest.raises(AdapterError) as raised:
                await fetch(transport, server.url, first_byte=0.1)
            return raised.value

    error = run(server, scenario, HttpxTransport(max_connections=1))
    assert (error.reason, error.metadata["phase"]) == ("timeout", "first_byte")


@both_stacks
def test_who_waits_in_line_for_too_long_is_told_of_the_limit():
    server = LoopbackServer(lambda _: Reply(chunks=[b"1"], then="stall"))

    async def scenario(transport):
        request = HttpRequest(url=server.url, body=b"")
        async with transport.open(request, Deadlines()):
            with pytest.raises(
                AdapterError, match=r"became free within 0.1 s; raise max_connections to allow more"
            ) as raised:
                await fetch(transport, server.url, connect=0.1)
            return raised.value

    error = run(server, scenario, HttpxTransport(max_connections=1))
    assert (error.reason, error.metadata["phase"]) == ("timeout", "connect")


def test_a_limit_of_no_connections_is_refused():
    with pytest.raises(ValueError, match="max_connections must be at least 1"):
        HttpxTransport(max_connections=0)


def test_loops_of_many_threads_come_and_go():
    """Each of them finds others that have ended, and lets go of their connections."""
    transport = HttpxTransport(httpx.MockTransport(lambda _request: httpx.Response(200, content=b"1")))
    said = []

    def work():
        said.extend(asyncio.run(fetch(transport, "http://h/")) for _ in range(100))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert said == [b"1"] * 12 * 100


@both_stacks
def test_a_loop_that_is_over_is_forgotten():
    transport = HttpxTransport()
    with LoopbackServer([Reply(body=b"1")] * 3) as server:
        for _ in range(3):
            asyncio.run(fetch(transport, server.url))
    assert len(transport._stacks) == 1


@both_stacks
def test_each_loop_has_its_own_connections():
    server = LoopbackServer([Reply(body=b"1")] * 3)
    transport = HttpxTransport()

    async def one():
        await fetch(transport, server.url)
        await transport.aclose()

    with server:
        for _ in range(3):
            asyncio.run(one())
    assert [request.connection for request in server.requests] == [0, 1, 2]


# When a connection is used again.

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1"
SPOILT = {
    "it says close": b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\n1",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n1",
    "a second answer": ANSWER + ANSWER,
    "something after it": ANSWER + b"\r\n?",
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_connection_that_said_too_much_or_enough_is_not_used_again(name):
    server = LoopbackServer([Reply(raw=[SPOILT[name]], then="stall"), Reply(raw=[ANSWER])])

    async def scenario(transport):
        return [await fetch(transport, server.url) for _ in range(2)]

    assert run(server, scenario) == [b"1", b"1"]
    assert [request.connection for request in server.requests] == [0, 1]


def test_what_comes_while_nobody_asked_closes_the_connection():
    gate = Gate()
    server = LoopbackServer([Reply(raw=[ANSWER, gate, ANSWER], then="stall"), Reply(raw=[ANSWER])])

    async def scenario(transport):
        first = await fetch(transport, server.url)
        gate.open()
        await in_thread(server, lambda s: s.connections == 0)
        return [first, await fetch(transport, server.url)]

    assert run(server, scenario) == [b"1", b"1"]


@both_stacks
def test_an_answer_that_was_not_read_to_its_end_closes_the_connection():
    server = LoopbackServer(lambda _: Reply(chunks=[b"1", Gate()]))

    async def scenario(transport):
        request = HttpRequest(url=server.url, body=b"")
        for _ in range(3):
            async with transport.open(request, Deadlines()) as response:
                assert await response.pour(lambda _chunk: False)

    run(server, scenario)
    assert [request.connection for request in server.requests] == [0, 1, 2]


@both_stacks
@pytest.mark.parametrize("then", ["half_close", "reset"])
def test_a_server_that_leaves_idle_connections_is_asked_again_on_another(then):
    """It leaves right behind its answer: the next request meets a connection that is gone, or going."""
    server = LoopbackServer([Reply(raw=[ANSWER], then="half_close")] * 50)

    async def scenario(transport):
        ends = []
        for _ in range(50):
            try:
                ends.append(await fetch(transport, server.url))
            except AdapterError as error:  # httpx does not ask again
                ends.append(error.reason)
        return ends

    ends = run(server, scenario)
    assert set(ends) <= ({b"1"} if not_httpx() else {b"1", "network_error"})


def not_httpx():
    return not (isinstance(HttpxTransport, partial) and HttpxTransport.keywords["own"] is False)


class Peer:
    """A server by hand: each connection is told apart, and does what its script says."""

    def __init__(self, serve, tls=None):
        self.got, self._serve, self._tls = [], serve, tls
        self.accepted = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", 0, ssl=self._tls)
        scheme = "http" if self._tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc):
        self._server.close()

    async def _meet(self, reader, writer):
        self.accepted += 1
        try:
            await self._serve(self, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def read(self, reader):
        """One request: its body, or as much of it as `most` says."""
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(size)
        self.got.append(body)
        return body


both_schemes = pytest.mark.parametrize("tls", [None, server_tls], ids=["http", "https"])


@both_schemes
def test_what_a_server_has_worked_on_is_not_sent_again(tls):
    """It reads a request on a connection that was idle, takes its time, and goes: nobody knows what it has done."""

    async def serve(peer, reader, writer):
        await peer.read(reader)
        writer.write(ANSWER)
        await peer.read(reader)
        await asyncio.sleep(http1_connection.AT_ONCE_SECONDS + 0.1)
        writer.transport.abort()

    async def main():
        transport = HttpxTransport(verify=client_tls())
        async with Peer(serve, tls and tls()) as peer:
            warm = [asyncio.create_task(fetch(transport, peer.url)) for _ in range(4)]
            await asyncio.gather(*warm)
            peer.got.clear()
            with pytest.raises(AdapterError) as caught:
                await fetch(transport, peer.url)
            assert (caught.value.reason, len(peer.got)) == ("network_error", 1)
            await transport.aclose()

    asyncio.run(main())


def test_what_has_hardly_been_read_is_sent_again_once():
    """Every connection is closed as soon as the next request is on it, and new ones become idle meanwhile."""

    async def serve(peer, reader, writer):
        await peer.read(reader)
        writer.write(ANSWER)
        await peer.read(reader)
        writer.transport.abort()

    async def main():
        transport = HttpxTransport()
        async with Peer(serve) as peer:
            await fetch(transport, peer.url)
            (stacks,) = transport._stacks.values()
            pool = stacks._own._pool
            dial = pool.connection

            async def another_is_idle(origin):
                """Somebody else has just made one, and used it."""
                pool.connection = dial
                if not any(place.idle for place in pool._places.values()):
                    await fetch(transport, peer.url)
                pool.connection = another_is_idle
                return await dial(origin)

            pool.connection = another_is_idle
            peer.got.clear()
            with pytest.raises(AdapterError) as caught:
                await fetch(transport, peer.url, body=b"paid for")
            assert (caught.value.reason, peer.got.count(b"paid for")) == ("network_error", 2)
            assert caught.value.metadata.get("phase") is None  # of which the retry policy makes nothing more
            await transport.aclose()

    asyncio.run(main())


def test_what_was_not_read_is_sent_again_once_and_over_a_new_connection():
    """All idle connections are dead, and their ends are not heard of yet: the second one asked is new."""

    async def serve(peer, reader, writer):
        await peer.read(reader)
        writer.write(ANSWER)
        if peer.accepted <= 4:
            await reader.readexactly(1)  # the next request has begun to come
            writer.transport.abort()
        else:
            await peer.read(reader)

    async def main():
        transport = HttpxTransport(verify=client_tls())
        async with Peer(serve) as peer:
            await asyncio.gather(*[asyncio.create_task(fetch(transport, peer.url)) for _ in range(4)])
            assert await fetch(transport, peer.url) == b"1"
            assert peer.accepted == 5
            await transport.aclose()

    asyncio.run(main())


@both_schemes
def test_what_waits_on_an_idle_connection_is_no_answer(tls):
    """The server said something after its answer, and the event loop has not looked since."""

    async def serve(peer, reader, writer):
        await peer.read(reader)
        writer.write(ANSWER)
        if peer.accepted == 1:
            await said.wait()
            writer.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 4\r\n\r\nEVIL")
            await writer.drain()
            await asyncio.Event().wait()
        await peer.read(reader)

    said = asyncio.Event()

    async def main():
        transport = HttpxTransport(verify=client_tls())
        here = asyncio.get_running_loop()
        peer, ready = Peer(serve, tls and tls()), threading.Event()
        over = threading.Event()

        def elsewhere():
            async def run_peer():
                async with peer:
                    peer.loop = asyncio.get_running_loop()
                    ready.set()
                    await asyncio.to_thread(over.wait, 10)

            asyncio.run(run_peer())

        thread = threading.Thread(target=elsewhere, daemon=True)
        thread.start()
        await asyncio.to_thread(ready.wait, 10)
        assert await fetch(transport, peer.url) == b"1"
        (connection,) = [each for place in _pool(transport).values() for each in place.idle]
        peer.loop.call_soon_threadsafe(said.set)
        number = connection._transport.get_extra_info("socket").fileno()
        assert select.select([number], [], [], 10)[0]  # and this loop does not run meanwhile
        assert await fetch(transport, peer.url) == b"1"
        assert peer.accepted == 2
        await transport.aclose()
        over.set()
        thread.join(10)
        assert here.is_running()

    asyncio.run(main())


def _pool(transport):
    (stacks,) = transport._stacks.values()
    return stacks._own._pool._places


@both_schemes
def test_a_connection_with_half_a_request_in_it_is_not_used_again(tls):
    """The answer came before the request was out: what is still to be written would be read as the next one."""

    async def serve(peer, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        await over.wait()  # it reads no more

    over = asyncio.Event()

    async def main():
        transport = HttpxTransport(verify=client_tls())
        async with Peer(serve, tls and tls()) as peer:
            large = HttpRequest(url=peer.url, body=b"x" * 60_000_000)
            async with transport.open(large, Deadlines()) as response:
                assert (response.status, await response.body(10)) == (413, b"{}")
            assert [each for place in _pool(transport).values() for each in place.idle] == []
            over.set()
            await transport.aclose()

    asyncio.run(main())


def test_who_waits_for_a_connection_comes_before_who_comes_later():
    server = LoopbackServer(lambda _: Reply(body=b"1"))
    order = []

    async def scenario(transport):
        async def ask(name, times):
            for _ in range(times):
                await fetch(transport, server.url)
                order.append(name)

        await asyncio.gather(ask("often", 40), *[ask(f"once {number}", 1) for number in range(5)])

    run(server, scenario, HttpxTransport(max_connections=1))
    assert max(order.index(f"once {number}") for number in range(5)) < 10


def test_the_line_is_kept_after_somebody_has_left_it_as_a_connection_became_free():
    server = LoopbackServer(lambda _: Reply(body=b"1"))
    order = []

    async def main():
        pool = Pool(client_tls, most=1)
        origin = Origin("http", "127.0.0.1", int(server.url.rpartition(":")[2]))

        async def take(name):
            order.append((name, await pool.connection(origin)))

        async def in_line():
            while not pool._places[origin].waiting:  # noqa: ASYNC110 - a pool tells nobody who waits
                await asyncio.sleep(0)

        await take("first")
        (_, connection) = order.pop()
        leaving = asyncio.create_task(take("leaves"))
        await in_line()
        leaving.cancel()
        connection.finished(reusable=True)
        await asyncio.wait([leaving])
        await take("second")
        order.clear()

        waiting = asyncio.create_task(take("waits"))
        await in_line()
        later = asyncio.create_task(take("comes later"))
        connection.finished(reusable=True)
        await asyncio.wait([waiting, later], return_when=asyncio.FIRST_COMPLETED)
        connection.finished(reusable=True)
        await asyncio.wait([waiting, later])
        await pool.aclose()

    with server:
        asyncio.run(main())
    assert [name for name, _ in order] == ["waits", "comes later"]


def test_who_leaves_as_its_turn_comes_gives_it_to_the_next():
    server = LoopbackServer(lambda _: Reply(body=b"1"))

    class Leaves:
        def put(self, data):
            """It comes before the end."""

        def end(self, _error):
            asking[0].cancel()  # its turn has come, and it has not looked yet

    async def scenario(transport):
        async with transport.open(HttpRequest(url=server.url, body=b"{}", headers={}), Deadlines()):
            (place,) = _pool(transport).values()
            (first,) = place.connections
            asking.extend(asyncio.create_task(fetch(transport, server.url)) for _ in range(2))
            while len(place.waiting) < 2:  # noqa: ASYNC110 - a pool tells nobody who waits
                await asyncio.sleep(0)
            first._exchange.pour(Leaves())
            async with asyncio.timeout(10):
                return await asyncio.gather(*asking, return_exceptions=True)

    asking = []
    left, served = run(server, scenario, HttpxTransport(max_connections=1))
    assert (type(left), served) == (asyncio.CancelledError, b"1")


# Flow.


def test_a_reader_who_does_not_read_holds_the_server_up():
    class Pieces:
        sent = 0

        def __iter__(self):
            for _ in range(400):
                Pieces.sent += 1
                yield b"x" * 65536

        def __len__(self):
            return 400

    server = LoopbackServer([Reply(chunks=Pieces())])

    async def scenario(transport):
        async with transport.open(HttpRequest(url=server.url, body=b""), Deadlines()) as response:
            exchange = transport._stacks[asyncio.get_running_loop()]._own._pool._places
            (place,) = exchange.values()
            (connection,) = place.connections
            async with asyncio.timeout(5):
                while not connection._exchange._held_back:
                    await asyncio.to_thread(int)  # the loop turns
            held, sent = connection._exchange._behind, Pieces.sent
            size = 0

            def count(data):
                nonlocal size
                size += len(data)
                return True

            await response.pour(count)
            return held, sent, size

    held, sent, size = run(server, scenario)
    assert held <= 2 * 65536 + 65536
    assert sent < 400
    assert size == 400 * 65536


@both_stacks
def test_a_feed_that_raises_raises_where_it_was_asked_for_and_closes():
    server = LoopbackServer([Reply(chunks=[b"1", Gate()])])

    def feed(_data):
        raise RuntimeError("mine")

    async def scenario(transport):
        async with transport.open(HttpRequest(url=server.url, body=b""), Deadlines()) as response:
            await response.pour(feed)

    with pytest.raises(RuntimeError, match="mine"):
        run(server, scenario)


def test_an_answer_before_the_whole_request_is_read_is_an_answer():
    server = LoopbackServer([Reply(status=413, body=b"too much")])

    async def scenario(transport):
        request = HttpRequest(url=server.url, body=b"x" * 5_000_000)
        async with transport.open(request, Deadlines()) as response:
            return response.status, await response.body(100)

    assert run(server, scenario) == (413, b"too much")


# Cancelling.


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_whenever_it_is_cancelled_no_socket_is_left(scheme):
    """Ours: below httpx's stack a socket can be lost when the race of connections is cancelled as it is won."""
    tls = server_tls() if scheme == "https" else None
    server = LoopbackServer(lambda _: Reply(chunks=[b"1", b"2"], then="stall"), tls=tls)

    async def main(cancelled_after):
        transport = HttpxTransport(verify=client_tls())
        for turns in cancelled_after:
            asking = asyncio.create_task(fetch(transport, server.url))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        # One that gets through: by then the server has seen the end of those before.
        asking = asyncio.create_task(fetch(transport, server.url))
        await in_thread(server, lambda s: any(r.json == {} for r in s.requests))
        asking.cancel()
        await asyncio.wait([asking])
        await transport.aclose()
        await in_thread(server, lambda s: s.connections == 0)

    with server:
        asyncio.run(main([]))
        before = descriptors()
        asyncio.run(main([*range(40), *range(40, 200, 8)]))
    assert len(descriptors()) < len(before)  # the server's own are gone, and nothing came


def test_closing_twice_closes_once(monkeypatch):
    server = LoopbackServer([Reply(chunks=[b"1"], then="stall")])
    aborts = []
    abort = asyncio.selector_events._SelectorSocketTransport.abort
    monkeypatch.setattr(
        asyncio.selector_events._SelectorSocketTransport,
        "abort",
        lambda self: (aborts.append(self), abort(self)),
    )

    async def scenario(transport):
        asking = asyncio.create_task(fetch(transport, server.url))
        await in_thread(server, lambda s: len(s.requests) == 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await transport.aclose()
        return len(aborts)

    assert run(server, scenario) == 1


# TLS.


@both_stacks
@pytest.mark.parametrize(
    ("names", "verify"),
    [(("127.0.0.1",), True), (("elsewhere.example",), None)],
    ids=["unknown authority", "other name"],
)
def test_a_certificate_that_does_not_hold_is_refused(names, verify):
    server = LoopbackServer([Reply(body=b"1")], tls=server_tls(*names))

    async def scenario(transport):
        with pytest.raises(AdapterError) as raised:
            await fetch(transport, server.url, KEYS[0])
        return raised.value

    error = run(server, scenario, HttpxTransport(verify=client_tls() if verify is None else verify))
    assert (error.reason, error.metadata["phase"]) == ("network_error", "connect")
    assert "CERTIFICATE_VERIFY_FAILED" in error.message
    assert server.requests == ()


@both_stacks
def test_authorities_come_from_the_environment(monkeypatch, tmp_path):
    file = tmp_path / "ca.pem"
    CA.cert_pem.write_to_path(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setattr(door, "_trusted", {})
    server = LoopbackServer([Reply(body=b"1")], tls=server_tls())
    assert run(server, partial(fetch, url=server_url(server)), HttpxTransport()) == b"1"


@both_stacks
def test_authorities_that_were_renewed_are_read_by_the_next_transport(monkeypatch, tmp_path):
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setattr(door, "_trusted", {})
    server = LoopbackServer([Reply(body=b"1"), Reply(body=b"2")], tls=server_tls())

    async def fetch_anew():
        transport = HttpxTransport()
        try:
            return await fetch(transport, server_url(server))
        finally:
            await transport.aclose()

    async def scenario(_transport):
        with pytest.raises(AdapterError, match="CERTIFICATE_VERIFY_FAILED"):
            await fetch_anew()
        CA.cert_pem.write_to_path(file)
        first = await fetch_anew()
        read = dict(door._trusted)
        assert (first, await fetch_anew()) == (b"1", b"2")
        assert door._trusted == read  # not once more

    run(server, scenario)


@both_stacks
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_authorities_that_cannot_be_read_are_said_so_and_leave_no_socket(monkeypatch, tmp_path, content):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setattr(door, "_trusted", {})
    server = LoopbackServer([], tls=server_tls())

    async def scenario(transport):
        gc.disable()
        try:
            with no_descriptor_more(), pytest.raises(AdapterError, match="check SSL_CERT_FILE and") as raised:
                await fetch(transport, server.url)
        finally:
            gc.enable()
        return raised.value.reason

    assert run(server, scenario, HttpxTransport()) == "invalid_request"


@both_stacks
def test_what_cannot_be_imported_is_named_and_is_no_failure_of_the_network(monkeypatch):
    monkeypatch.setattr(door, "_trusted", {})
    server = LoopbackServer([], tls=server_tls())

    async def scenario(transport):
        monkeypatch.setitem(sys.modules, "ssl", None)
        with pytest.raises(AdapterError, match="this Python cannot import ssl, which HTTP needs") as raised:
            await fetch(transport, server.url)
        return raised.value.reason

    assert run(server, scenario, HttpxTransport()) == "invalid_request"


def server_url(server):
    """Its URL, before it has one."""

    class Later(str):
        __slots__ = ()

        def __add__(self, path):
            return server.url + path

    return Later()


@both_stacks
def test_without_verification_any_certificate_will_do():
    server = LoopbackServer([Reply(body=b"1")], tls=server_tls("elsewhere.example"))
    assert run(server, partial(fetch, url=server_url(server)), HttpxTransport(verify=False)) == b"1"


@both_stacks
def test_the_server_is_told_which_name_is_meant():
    said = []
    tls = server_tls("localhost")
    tls.sni_callback = lambda _socket, name, _context: said.append(name)
    server = LoopbackServer([Reply(body=b"1")], tls=tls)

    async def scenario(transport):
        return await fetch(transport, server.url.replace("127.0.0.1", "localhost"))

    assert run(server, scenario) == b"1"
    assert said == ["localhost"]


@both_stacks
@pytest.mark.parametrize("framing", [b"content-length: 200000\r\n", b""], ids=["a length", "until the end"])
def test_over_tls_nothing_is_lost_that_came_before_the_end_of_its_connection(framing):
    """The server closes right behind its answer, and nobody reads meanwhile."""
    listening = socket.create_server(("127.0.0.1", 0))
    tls = server_tls()

    def serve():
        with listening, tls.wrap_socket(listening.accept()[0], server_side=True) as client:
            asked = b""
            while not asked.endswith(b"{}"):
                asked += client.recv(65536)
            client.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n" + framing + b"\r\n" + b"x" * 200_000)

    async def main():
        transport = HttpxTransport(verify=client_tls())
        request = HttpRequest(url=f"https://127.0.0.1:{listening.getsockname()[1]}/v1", body=b"{}")
        async with transport.open(request, Deadlines()) as response:
            await asyncio.to_thread(server.join, 10)
            body = await response.body(1_000_000)
        await transport.aclose()
        return len(body)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    assert asyncio.run(main()) == 200_000


# Proxies.


@both_stacks
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_asked(monkeypatch, name):
    proxy = LoopbackServer([Reply(body=b"by proxy")])

    async def scenario(transport):
        return await fetch(transport, "http://provider.example")

    with proxy:
        monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert run(LoopbackServer([]), scenario) == b"by proxy"
        assert proxy.requests[0].target == "http://provider.example/v1"


def through_a_proxy(monkeypatch, proxy, scenario, transport=None):
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        return run(LoopbackServer([]), scenario, transport or HttpxTransport())


SHUT = {
    "it closes": Reply(raw=[], then="half_close"),
    "it resets": Reply(raw=[], then="reset"),
    "it speaks no HTTP": Reply(raw=[b"secret nonsense\r\n\r\n"], then="half_close"),
    "it refuses": Reply(status=403),
}


@pytest.mark.parametrize("name", SHUT)
def test_a_proxy_that_opens_no_way_is_a_connection_that_cannot_be_made(monkeypatch, name):
    async def scenario(transport):
        with pytest.raises(AdapterError, match=r"cannot connect to provider.example") as raised:
            await fetch(transport, "https://provider.example")
        return raised.value

    error = through_a_proxy(monkeypatch, LoopbackServer([SHUT[name]]), scenario)
    assert (error.reason, error.metadata) == ("network_error", {"phase": "connect"})
    assert "nonsense" not in error.message


def test_a_proxy_that_is_silent_is_waited_for_as_long_as_for_a_connection(monkeypatch):
    async def scenario(transport):
        with pytest.raises(AdapterError, match=r"no connection to provider.example within 0.2 s") as raised:
            async with asyncio.timeout(5):
                await fetch(transport, "https://provider.example", connect=0.2)
        return raised.value

    error = through_a_proxy(monkeypatch, LoopbackServer([Reply(raw=[], then="stall")]), scenario)
    assert (error.reason, error.metadata) == ("timeout", {"phase": "connect"})


class Tunnel:
    """A proxy that lets everything through."""

    def __init__(self, to):
        self._to = to
        self.asked, self._tasks = [], []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc):
        self._server.close()
        await asyncio.gather(*self._tasks)

    async def _meet(self, reader, writer):
        self._tasks.append(asyncio.current_task())
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).split()[0])
        there = await asyncio.open_connection("127.0.0.1", self._to)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(self._pump(reader, there[1]), self._pump(there[0], writer))

    async def _pump(self, reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()


def test_an_answer_through_a_proxy_may_take_longer_than_connecting(monkeypatch):
    gate = Gate()
    server = LoopbackServer([Reply(chunks=[b"1"]), Reply(raw=[gate, ANSWER])], tls=server_tls())
    limit = 0.5

    async def main():
        async with Tunnel(int(server.url.rpartition(":")[2])) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            transport = HttpxTransport(verify=client_tls())
            first = await fetch(transport, server.url, connect=limit)
            slow = asyncio.create_task(fetch(transport, server.url, KEYS[0], connect=limit))
            await in_thread(server, lambda s: len(s.requests) == 2)
            done, _ = await asyncio.wait([slow], timeout=limit + 0.2)
            gate.open()
            answers = [first, await slow]
            await transport.aclose()
            return done, answers, proxy.asked

    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with server:
        assert asyncio.run(main()) == (set(), [b"1", b"1"], [b"CONNECT"])


SETTINGS = {
    "brackets": ({"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "[::1]"}, "NO_PROXY must list hosts"),
    "a range": ({"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "::1/128"}, "NO_PROXY must list hosts"),
    "a scheme": ({"HTTP_PROXY": "ftp://u:S3cr3t@127.0.0.1:9"}, "must be URLs with http"),
    "no URL": ({"HTTP_PROXY": "http://u:S3cr3t/x@127.0.0.1:9"}, "must be URLs with http"),
    "SOCKS": ({"ALL_PROXY": "socks5://u:S3cr3t@127.0.0.1:9"}, r"pip install 'httpx\[socks\]'"),
    "a port": (
        {"HTTP_PROXY": "http://u:S3cr3t@127.0.0.1:99999"},
        "an invalid host or port; check base_url and proxy",
    ),
}


@both_stacks
@pytest.mark.parametrize("name", SETTINGS)
def test_a_proxy_that_cannot_be_is_named_and_not_shown(monkeypatch, name):
    settings, why = SETTINGS[name]
    for setting in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(setting, raising=False)
    for setting, value in settings.items():
        monkeypatch.setenv(setting, value)
    if name == "SOCKS":
        monkeypatch.setitem(sys.modules, "socksio", None)

    async def scenario(transport):
        with pytest.raises(AdapterError, match=why) as raised:
            await fetch(transport, "http://provider.example")
        return raised.value

    error = run(LoopbackServer([]), scenario, HttpxTransport())
    assert error.reason == "invalid_request"
    assert "S3cr3t" not in "".join(traceback.format_exception(error)) + repr(error.to_fields())


@both_stacks
@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:99999", "http://127.0.0.1:-1", "http://127.0.0.1:0", "http://0177.0.0.1"]
)
def test_a_host_or_a_port_that_cannot_be_is_said_to_be_one(url):
    async def scenario(transport):
        with pytest.raises(AdapterError, match="an invalid host or port") as raised:
            await fetch(transport, url)
        return raised.value.reason

    assert run(LoopbackServer([]), scenario, HttpxTransport()) == "invalid_request"


@pytest.mark.parametrize("name", ["a" * 70 + ".example", "a..b"])
def test_a_name_that_cannot_be_is_no_header_that_cannot_be(name):
    async def scenario(transport):
        with pytest.raises(AdapterError, match="an invalid host or port"):
            await fetch(transport, f"http://{name}")

    run(LoopbackServer([]), scenario, HttpxTransport())


@both_stacks
def test_who_needs_no_proxy_is_asked_directly(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,.example")
    server = LoopbackServer([Reply(body=b"1")])
    assert run(server, partial(fetch, url=server_url(server))) == b"1"


# Which stack.


def test_which_stack_a_request_takes():
    server = LoopbackServer([Reply(body=b"1")] * 4)

    async def used(transport, url=None):
        await fetch(transport, url or server.url)
        stacks = transport._stacks[asyncio.get_running_loop()]
        taken = "own" if stacks._own is not None else "httpx"
        await transport.aclose()
        return taken

    async def main():
        with_user = server.url.replace("//", "//user:pass@")
        return [
            await used(HttpxTransport()),
            await used(HttpxTransport(own=False)),
            await used(HttpxTransport(), with_user),
            await used(HttpxTransport(httpx.AsyncHTTPTransport())),
        ]

    with server:
        assert asyncio.run(main()) == ["own", "httpx", "httpx", "httpx"]
    assert server.requests[2].headers["authorization"].startswith("Basic ")


def test_no_cookie_of_a_server_is_kept():
    server = LoopbackServer([Reply(headers={"set-cookie": "a=1; Path=/"}, body=b"1")] * 2)

    async def main():
        transport = HttpxTransport(own=False)
        for _ in range(2):
            await fetch(transport, server.url)
        kept = len(transport._stacks[asyncio.get_running_loop()].sender()._client.cookies.jar)
        await transport.aclose()
        return kept

    with server:
        assert asyncio.run(main()) == 0
    assert not any("cookie" in request.headers for request in server.requests)


def test_without_its_parser_everything_takes_the_other_stack(monkeypatch):
    monkeypatch.setattr(door, "find_spec", lambda _name: None)
    server = LoopbackServer([Reply(body=b"1")])

    async def scenario(transport):
        body = await fetch(transport, server.url)
        return body, transport._stacks[asyncio.get_running_loop()]._own

    assert run(server, scenario) == (b"1", None)
    with pytest.raises(ImportError, match=r"pip install 'httpx\[http2\]'"):
        HttpxTransport(http2=True)


def test_it_is_an_httpx_transport_like_any_other():
    pieces = [b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\netag: x\r\n\r\n"]
    chunked = Reply(chunks=[b"a", b"b", b"c"])
    server = LoopbackServer(
        [Reply(raw=pieces), Reply(body=b"{}"), chunked, Reply(raw=[chunk(b"x")], then="stall")]
    )

    async def main():
        async with httpx.AsyncClient(
            transport=Http1Transport(ssl.create_default_context), timeout=5
        ) as client:
            head = await client.head(server.url)
            assert (head.status_code, head.headers["content-length"], head.content) == (200, "7", b"")
            assert (await client.post(server.url, json={"a": 1})).json() == {}
            async with client.stream("GET", server.url) as answer:
                assert b"".join([piece async for piece in answer.aiter_bytes()]) == b"abc"
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(server.url)
            with pytest.raises(httpx.UnsupportedProtocol):
                await client.get("ftp://127.0.0.1/")
            with pytest.raises(httpx.ConnectError):
                await client.get("http://127.0.0.1:9/")

    with server:
        asyncio.run(main())
    assert [request.connection for request in server.requests] == [0, 0, 0, 0]
    assert server.requests[1].json == {"a": 1}


@pytest.mark.parametrize("wrapped", [False, True], ids=["httpx's", "wrapped"])
def test_httpx_loses_no_connection_to_a_call_that_is_left_at_any_step(wrapped):
    server = LoopbackServer(itertools.repeat(Reply(chunks=[b"1", b"2"])))

    async def left_at(transport, step):
        """Whether the call was still going on."""
        call = asyncio.create_task(fetch(transport, server.url, connect=3.0))
        for _ in range(step):
            await asyncio.sleep(0)
        going_on = call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        return going_on

    async def scenario(transport):
        await fetch(transport, server.url)
        step, over = 0, 0
        while over < 3:
            over += not await left_at(transport, step)
            step += 1
        return [await fetch(transport, server.url, connect=3.0) for _ in range(2)]

    made = HttpxTransport(Wrapped()) if wrapped else HttpxTransport(own=False, max_connections=1)
    assert run(server, scenario, made) == [b"12", b"12"]


class Wrapped(httpx.AsyncBaseTransport):
    """Somebody's transport around httpx's, with a place for one connection."""

    def __init__(self):
        self._inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=1))

    async def handle_async_request(self, request):
        return await self._inner.handle_async_request(request)

    async def aclose(self):
        await self._inner.aclose()


@both_stacks
def test_a_request_whose_transport_is_closed_fails_and_is_not_cancelled():
    server = LoopbackServer([Reply(first_byte_delay=math.inf)])

    async def scenario(transport):
        call = asyncio.create_task(fetch(transport, server.url))
        await in_thread(server, lambda s: s.requests)
        await transport.aclose()
        with pytest.raises(AdapterError, match="broke before the answer began"):
            await call

    run(server, scenario)


def test_a_client_that_cannot_be_made_is_not_the_proxys_fault_where_there_is_none(monkeypatch):
    def broken(**_settings):
        raise RuntimeError("with a secret")

    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(httpx, "AsyncClient", broken)
    with pytest.raises(AdapterError, match=r"making its client fails with RuntimeError$"):
        asyncio.run(fetch(HttpxTransport(own=False), "http://127.0.0.1:9"))
