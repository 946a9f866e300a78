"""Bytes to requests, in whatever pieces they come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.testing import http1

WITH_LENGTH = b"POST /v1/chat HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\n\r\n"
WITHOUT_BODY = b"GET /models HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "body"),
    [(WITH_LENGTH, b"hello"), (CHUNKED, b"hello"), (WITHOUT_BODY, b"")],
    ids=["length", "chunked", "none"],
)
def test_a_request_is_read_whole_and_no_further(raw: bytes, body: bytes) -> None:
    parsed = http1.parse(raw + b"GET / HTTP")
    assert parsed is not None
    assert (parsed.body, parsed.length) == (body, len(raw))


@given(raw=st.sampled_from([WITH_LENGTH, CHUNKED, WITHOUT_BODY]), data=st.data())
def test_any_proper_prefix_is_incomplete(raw: bytes, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(raw) - 1))
    assert http1.parse(raw[:length]) is None


def test_header_names_are_lower_case_and_values_are_stripped() -> None:
    parsed = http1.parse(WITH_LENGTH)
    assert parsed is not None
    assert parsed.headers == {"host": "here", "content-length": "5"}


@pytest.mark.parametrize(
    "raw",
    [b"HELLO\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"],
    ids=["request line", "header", "length"],
)
def test_bytes_that_can_never_be_a_request_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        http1.parse(raw)


def test_a_head_names_its_status_even_an_unknown_one() -> None:
    assert (
        http1.head(429, {"retry-after": "1"}) == b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\n\r\n"
    )
    assert http1.head(529, {}) == b"HTTP/1.1 529 Unknown\r\n\r\n"


def test_an_empty_piece_does_not_end_a_chunked_body() -> None:
    assert http1.chunk(b"") == b""
    assert http1.chunk(b"0123456789") == b"a\r\n0123456789\r\n"
