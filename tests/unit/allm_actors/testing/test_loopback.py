"""The loopback server does to its clients exactly what its replies say. Real sockets, no waiting by time."""

import asyncio
import gc
import itertools
import math
import socket
import ssl
import struct
import threading
from contextlib import closing

import httpx
import pytest
import trustme

from allm_actors.testing.loopback import Gate, LoopbackServer, Reply, Request, Then

CHUNKS = (b"data: one\n\n", b"data: two\n\n")
ASK = b"POST /v1 HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n{}"


def connect(server: LoopbackServer) -> closing[socket.socket]:
    host, port = server.url.removeprefix("http://").split(":")
    return closing(socket.create_connection((host, int(port)), timeout=5))


def read_to_end(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


def read_until(client: socket.socket, last: bytes) -> bytes:
    received = b""
    while not received.endswith(last):
        data = client.recv(65536)
        assert data, f"the connection ended after {received!r}"
        received += data
    return received


def seen(request: Request) -> tuple[str, str, object]:
    return request.method, request.target, request.json


def test_a_body_is_sent_with_its_length_and_the_request_is_on_record() -> None:
    reply = Reply(status=201, headers={"X-Request-Id": "r1"}, body=b'{"ok": true}')
    with LoopbackServer([reply]) as server:
        answer = httpx.post(f"{server.url}/v1/models?page=2", json={"stream": False})
    assert (answer.status_code, answer.json()) == (201, {"ok": True})
    assert (answer.headers["x-request-id"], answer.headers["content-length"]) == ("r1", "12")
    assert [seen(request) for request in server.requests] == [
        ("POST", "/v1/models?page=2", {"stream": False})
    ]


def test_chunks_are_an_event_stream_with_the_boundaries_given() -> None:
    with LoopbackServer([Reply(chunks=CHUNKS)]) as server, httpx.stream("GET", server.url) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert tuple(answer.iter_raw()) == CHUNKS


def test_replies_are_used_up_in_order_and_then_the_server_says_so() -> None:
    with LoopbackServer([Reply(body=b"1"), Reply(body=b"2")]) as server, httpx.Client() as client:
        assert [client.get(server.url).text for _ in range(2)] == ["1", "2"]
        last = client.get(f"{server.url}/more")
    assert last.status_code == 500
    assert last.json()["error"]["message"] == "loopback server: no reply is left for GET /more"


def test_a_function_chooses_the_reply_and_its_mistake_is_a_500() -> None:
    def answer(request: Request) -> Reply:
        return Reply(body=str(10 // request.json["n"]).encode())

    with LoopbackServer(answer) as server, httpx.Client() as client:
        assert client.post(server.url, json={"n": 5}).text == "2"
        assert "ZeroDivisionError" in client.post(server.url, json={"n": 0}).text


def test_a_connection_is_reused_and_closed_when_asked() -> None:
    with LoopbackServer(itertools.repeat(Reply(chunks=CHUNKS))) as server, httpx.Client() as client:
        for _ in range(2):
            client.get(server.url)
        assert server.connections == 1
        client.get(server.url, headers={"connection": "close"})
        server.wait_for(lambda s: s.connections == 0)
    assert [request.connection for request in server.requests] == [0, 0, 0]


def test_pipelined_requests_are_answered_one_after_the_other() -> None:
    with LoopbackServer([Reply(body=b"1"), Reply(body=b"2")]) as server, connect(server) as client:
        client.sendall(ASK + ASK)
        received = read_until(client, b"2")
    assert received.index(b"\r\n\r\n1") < received.index(b"\r\n\r\n2")


def test_a_head_request_gets_no_body() -> None:
    with LoopbackServer([Reply(body=b"four")]) as server:
        answer = httpx.head(server.url)
    assert (answer.headers["content-length"], answer.content) == ("4", b"")


def test_bytes_that_are_no_request_are_a_400_and_not_on_record() -> None:
    with LoopbackServer([]) as server, connect(server) as client:
        client.sendall(b"hello\r\n\r\n")
        assert read_to_end(client).startswith(b"HTTP/1.1 400 ")
    assert server.requests == ()


def test_a_reset_reaches_the_client_after_what_was_sent_before() -> None:
    with LoopbackServer([Reply(chunks=CHUNKS, then="reset")]) as server, connect(server) as client:
        client.sendall(ASK)
        with pytest.raises(ConnectionResetError):
            read_to_end(client)
        server.wait_for(lambda s: s.connections == 0)
    assert server.abandoned == 0


def test_a_half_close_ends_the_stream_without_its_last_chunk() -> None:
    with LoopbackServer([Reply(chunks=CHUNKS, then="half_close")]) as server, connect(server) as client:
        client.sendall(ASK)
        received = read_to_end(client)
    assert received.endswith(b"data: two\n\n\r\n")


@pytest.mark.parametrize("then", ["half_close", "reset"])
def test_a_client_cannot_take_a_cut_answer_for_a_complete_one(then: Then) -> None:
    lost = (httpx.RemoteProtocolError, httpx.ReadError)
    with LoopbackServer([Reply(body=b"all of it", then=then)]) as server, pytest.raises(lost):
        httpx.get(server.url)


def test_a_stall_lasts_until_the_client_leaves_and_is_then_abandoned() -> None:
    with LoopbackServer([Reply(chunks=CHUNKS, then="stall")]) as server:
        with connect(server) as client:
            client.sendall(ASK)
            read_until(client, b"data: two\n\n\r\n")
            assert (server.connections, server.abandoned) == (1, 0)
        server.wait_for(lambda s: s.abandoned == 1)
        assert server.connections == 0


def test_a_client_who_leaves_ends_a_slow_answer_at_once() -> None:
    with LoopbackServer([Reply(chunks=CHUNKS, pace=3600)]) as server:
        with connect(server) as client:
            client.sendall(ASK)
            read_until(client, b"data: one\n\n\r\n")
        server.wait_for(lambda s: s.abandoned == 1)


def test_a_server_that_never_answers_has_taken_the_request_all_the_same() -> None:
    with LoopbackServer([Reply(first_byte_delay=math.inf)]) as server:
        with connect(server) as client:
            client.sendall(ASK)
            server.wait_for(lambda s: len(s.requests) == 1)
            client.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.recv(1)
        server.wait_for(lambda s: s.abandoned == 1)


def test_a_gate_holds_a_stream_until_the_test_opens_it() -> None:
    gate = Gate()
    replies = itertools.repeat(Reply(chunks=[CHUNKS[0], gate, CHUNKS[1]]))
    with LoopbackServer(replies) as server, connect(server) as leaver, connect(server) as client:
        leaver.sendall(ASK)
        client.sendall(ASK)
        read_until(leaver, b"data: one\n\n\r\n")
        read_until(client, b"data: one\n\n\r\n")
        leaver.close()
        server.wait_for(lambda s: s.abandoned == 1)
        gate.open()
        gate.open()
        assert read_until(client, b"0\r\n\r\n") == b"b\r\ndata: two\n\n\r\n0\r\n\r\n"


def test_a_large_answer_waits_for_a_slow_reader_and_arrives_whole() -> None:
    piece = b"x" * 65536
    with LoopbackServer([Reply(chunks=[piece] * 64)]) as server, httpx.stream("GET", server.url) as answer:
        server.wait_for(lambda s: len(s.requests) == 1)
        assert sum(len(data) for data in answer.iter_raw()) == 64 * len(piece)


def test_many_clients_are_served_at_once() -> None:
    gate = Gate()

    async def ask_all(server: LoopbackServer) -> list[httpx.Response]:
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None)) as client:
            asking = [asyncio.ensure_future(client.get(server.url)) for _ in range(50)]
            await asyncio.to_thread(server.wait_for, lambda s: len(s.requests) == 50)
            gate.open()
            return await asyncio.gather(*asking)

    with LoopbackServer(itertools.repeat(Reply(chunks=[gate, *CHUNKS]))) as server:
        answers = asyncio.run(ask_all(server))
        assert len({request.connection for request in server.requests}) == 50
    assert {answer.content for answer in answers} == {b"".join(CHUNKS)}


def test_waiting_in_vain_says_what_was_seen() -> None:
    what_was_seen = "the condition did not hold within 0.01 s; seen so far: 0 requests, 0 open connections"
    with LoopbackServer([]) as server, pytest.raises(TimeoutError, match=what_was_seen):
        server.wait_for(lambda s: s.connections == 1, timeout=0.01)


def test_closing_drops_clients_ends_the_thread_and_may_be_repeated() -> None:
    server = LoopbackServer([Reply(first_byte_delay=math.inf)]).start()
    with connect(server) as client:
        client.sendall(ASK)
        server.wait_for(lambda s: len(s.requests) == 1)
        server.close()
        server.close()
        assert read_to_end(client) == b""
    assert (server.connections, server.abandoned) == (0, 0)
    assert "loopback-server" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(ConnectionRefusedError), connect(server):
        pass


def test_a_key_is_on_record_but_never_in_a_repr() -> None:
    with LoopbackServer([Reply()]) as server:
        httpx.post(server.url, headers={"authorization": "Bearer sk-secret"}, json={"key": "sk-secret"})
    assert server.requests[0].headers["authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in repr(server.requests)


@pytest.mark.parametrize(
    ("encrypted", "doubts"),
    [(False, False), (True, False), (True, True)],
    ids=["plain", "no word of TLS", "no trust"],
)
def test_nothing_is_left_open_for_the_garbage_collector(encrypted: bool, doubts: bool) -> None:
    tls = None
    if encrypted:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    for _ in range(20):  # of which some are closed as their client is being accepted
        with LoopbackServer([], tls=tls) as server:
            host, port = server.url.split("//")[1].split(":")
            with closing(socket.create_connection((host, int(port)), timeout=5)) as client:
                if doubts:
                    with pytest.raises(ssl.SSLError):
                        ssl.create_default_context().wrap_socket(client, server_hostname="127.0.0.1")
    gc.collect()  # pytest fails for what it finds


def test_whoever_has_left_is_not_written_to(caplog):
    """asyncio warns of each piece for a connection that is gone."""
    more_than_sockets_hold = [b"x" * 20_000] * 2000
    with LoopbackServer(lambda _request: Reply(chunks=more_than_sockets_hold)) as server:
        for _ in range(20):
            with connect(server) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.sendall(ASK)
                client.recv(1)
        server.wait_for(lambda it: it.abandoned == 20, 10)
    assert "socket.send() raised exception" not in caplog.text


@pytest.mark.parametrize("given", [None, "hello", (b"a", b"b"), {"choices": []}])
def test_whoever_answers_with_something_else_hears_of_it(given):
    with LoopbackServer(lambda _request: given) as server:
        response = httpx.post(f"{server.url}/v1", content=b"{}", timeout=10)
        assert response.status_code == 500
        assert f"must return a Reply, got: {type(given).__name__}" in response.text


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"body": "text"}, TypeError, "body of a Reply must be bytes, got: str"),
        ({"chunks": ["text"]}, TypeError, "chunks of a Reply must be bytes, got: str"),
        ({"chunks": b"text"}, TypeError, "chunks of a Reply must be a list of bytes and gates, got: bytes"),
        ({"raw": [1]}, TypeError, "raw of a Reply must be bytes, got: int"),
        (
            {"headers": {"x-name": "Zoë ☃"}},
            ValueError,
            "the header 'x-name' of a Reply has a character that is not allowed",
        ),
    ],
)
def test_a_reply_that_cannot_be_sent_is_refused_where_it_is_made(fields, error, words):
    with pytest.raises(error, match=words):
        Reply(**fields)
