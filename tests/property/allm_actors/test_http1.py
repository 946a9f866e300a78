"""The bytes of a response mean the same however they are cut, and what h11 reads in them."""

from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.engine.http.http1_errors import MalformedError, TruncatedError
from allm_actors.engine.http.http1_message import MAX_HEAD_BYTES, ResponseReader, request_bytes
from allm_actors.testing.http1 import parse

STATUSES = st.sampled_from([200, 201, 204, 304, 404, 429, 500, 529])
NAMES = st.from_regex(r"x-[a-z]{1,8}", fullmatch=True)
VALUES = st.from_regex(r"[!-~]([ -~]{0,12}[!-~])?", fullmatch=True)
BODIES = st.lists(st.binary(min_size=1, max_size=40), max_size=8)
INTERIM = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"


@st.composite
def responses(draw):
    """The bytes of a response, framed in one of three ways; whether its end is the connection's."""
    status, pieces = draw(STATUSES), draw(BODIES)
    fields = draw(st.lists(st.tuples(NAMES, VALUES), max_size=4))
    framing = draw(st.sampled_from(["chunked", "length", "close"]))
    if status in (204, 304):
        pieces, framing = [], "length" if framing == "chunked" else framing
    body = b"".join(pieces)
    if framing == "chunked":
        fields.append(("Transfer-Encoding", "chunked"))
        trailer = draw(st.sampled_from([b"", b"x-t: 1\r\n", b"x-t: 1\r\nx-u: 2\r\n"]))
        body = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces) + b"0\r\n" + trailer + b"\r\n"
    elif framing == "length" and status != 204:
        fields.append(("Content-Length", str(len(body))))
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    interim = INTERIM * draw(st.integers(0, 2))
    return interim + f"HTTP/1.1 {status} OK\r\n{lines}\r\n".encode() + body


CUTS = st.lists(st.integers(0, 400), max_size=12)


def cut(data, places):
    """`data` in pieces."""
    edges = [0, *sorted(place for place in places if place < len(data)), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def read(pieces):
    """What a response comes to: how it ended, its head, its body."""
    reader, body, error = ResponseReader(), b"", None
    try:
        for piece in pieces:
            reader.feed(memoryview(piece))
            body += reader.take()
        kept = reader.ended and reader.reusable
        reader.eof()
    except (MalformedError, TruncatedError) as failure:
        body += reader.take()
        kept, error = False, type(failure)
    return error, reader.headed, reader.status, reader.headers, body, kept


def feed_all(reader, pieces):
    for piece in pieces:
        reader.feed(piece)


@given(responses(), CUTS)
def test_no_chunking_changes_what_is_read(data, places):
    assert read(cut(data, places)) == read([data])


@given(responses(), st.integers(0, 400), CUTS)
def test_nor_does_it_where_the_connection_breaks_off(data, end, places):
    assert read(cut(data[:end], places)) == read([data[:end]])


@given(
    st.one_of(
        st.binary(max_size=200), responses().flatmap(lambda data: st.binary(max_size=9).map(data.__add__))
    ),
    CUTS,
)
def test_no_bytes_raise_anything_else_and_no_chunking_matters_to_them(data, places):
    whole, pieces = read([data]), read(cut(data, places))
    assert pieces[0] == whole[0]
    if whole[0] is None:
        assert pieces == whole


@given(responses())
def test_what_is_read_is_what_h11_reads(data):
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method="POST", target="/", headers=[("host", "x"), ("content-length", "0")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(data)
    peer.receive_data(b"")
    status, headers, body = 0, [], b""
    while not isinstance(event := peer.next_event(), h11.EndOfMessage | h11.ConnectionClosed):
        if isinstance(event, h11.Response):
            status, headers = event.status_code, event.headers.raw_items()
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
    error, headed, *ours, _kept = read([data])
    assert (error, headed, ours) == (None, True, [status, [*headers], body])


@pytest.mark.parametrize("line", [b"x: " + b"y" * MAX_HEAD_BYTES, b"\r\n".join([b"x: " + b"y" * 1000] * 70)])
@pytest.mark.parametrize("size", [1000, 65536, 10**6])
def test_a_head_too_large_is_refused_in_any_chunking(line, size):
    data = b"HTTP/1.1 200 OK\r\n" + line + b"\r\ncontent-length: 0\r\n\r\n"
    with pytest.raises(MalformedError, match="more than 65536 bytes of headers"):
        feed_all(ResponseReader(), [data[start : start + size] for start in range(0, len(data), size)])


@pytest.mark.parametrize("endless", [b"x-t: " + b"y" * 9000, b"y" * 9000, b"x: y\r\n" * 1500])
def test_trailers_without_end_are_refused(endless):
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
    with pytest.raises(MalformedError, match="more than 65536 bytes of trailers"):
        feed_all(reader, [endless] * 40)
    assert len(reader.headers) == 1


def test_each_head_and_the_trailers_may_be_as_large_as_one():
    part = b"x-t: " + b"y" * (MAX_HEAD_BYTES // 2 + 1) + b"\r\n"
    hints = b"HTTP/1.1 103 Early Hints\r\n" + part + b"\r\n"
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n" + part + b"\r\n"
    error, *_, body, kept = read([hints, hints, head, b"2\r\nok\r\n0\r\n", part, b"\r\n"])
    assert (error, body, kept) == (None, b"ok", True)


def test_what_stands_between_the_pieces_of_a_body_has_no_bound():
    pieces = [b"1;x=" + b"y" * 1000 + b"\r\n", b"z\r\n"] * (2 * MAX_HEAD_BYTES // 1000 + 1)
    error, *_, body, kept = read(
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", *pieces, CHUNKED[-5:]]
    )
    assert (error, body, kept) == (None, b"z" * (len(pieces) // 2), True)


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"]
)
def test_the_answer_to_a_head_has_no_body(head):
    reader = ResponseReader(bodiless=True)
    reader.feed(head)
    assert reader.ended


def test_an_upgrade_is_no_answer_that_leaves_a_connection():
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nraw")
    assert (reader.status, reader.ended, reader.reusable) == (101, True, False)


CHUNKED = b"2\r\nok\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("version", "codings", "body", "reusable"),
    [
        (b"1.1", [b"chunked"], b"ok", True),
        (
            b"1.0",
            [b"chunked"],
            b"ok",
            False,
        ),  # it says that it keeps the connection, and cannot know of chunks
        (b"1.1", [b"xchunked"], CHUNKED, False),  # not the coding that says where it ends
        (b"1.1", [b"chunked, identity"], CHUNKED, False),
        (b"1.1", [b"chunked", b"x"], CHUNKED, False),
        (b"1.1", [b"x, Chunked "], b"ok", True),
    ],
)
def test_only_chunks_of_a_server_that_knows_them_leave_a_connection(version, codings, body, reusable):
    head = b"HTTP/%b 200 OK\r\nconnection: keep-alive\r\n" % version
    fields = b"".join(b"transfer-encoding: %b\r\n" % coding for coding in codings)
    error, *_, told, kept = read([head + fields + b"\r\n" + CHUNKED])
    assert (error, told, kept) == (None, body, reusable)


@given(st.lists(st.tuples(NAMES, VALUES), unique_by=lambda pair: pair[0], max_size=5), st.binary(max_size=50))
def test_a_request_arrives_as_it_was_meant(fields, body):
    headers = [(name.encode(), value.encode()) for name, value in fields]
    length = (b"content-length", str(len(body)).encode())
    parsed = parse(request_bytes(b"POST", b"/v1?a=b", [*headers, length], body))
    assert parsed is not None
    assert (parsed.method, parsed.target, parsed.body) == ("POST", "/v1?a=b", body)
    assert {name: value for name, value in parsed.headers.items() if name != "content-length"} == dict(fields)


@pytest.mark.parametrize("bad", [b"a\nb", b"a\rb", b"a\0b", b" a", b"a ", b"\x7f"])
def test_a_character_that_would_say_something_else_is_refused(bad):
    for name, value in ((b"x", bad), (bad, b"x")):
        with pytest.raises(ValueError, match="not allowed"):
            request_bytes(b"GET", b"/", [(name, value)], b"")
    with pytest.raises(ValueError, match="not allowed"):
        request_bytes(b"GET", b"/" + bad, [], b"")
