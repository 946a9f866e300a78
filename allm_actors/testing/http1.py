"""As much of HTTP/1.1 as a loopback server needs: bytes to requests, answers to bytes.

Rule of this file: pure. Bytes that are not all there yet are `None`; bytes that can never be a request: `ValueError`.

Source: RFC 9112 sections 2 to 7 (message format, Content-Length, chunked transfer coding); trailers are not supported.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

__all__ = ["LAST_CHUNK", "Parsed", "chunk", "head", "parse"]

LAST_CHUNK = b"0\r\n\r\n"


class Parsed(NamedTuple):
    """A request that has arrived in full, and the `length` in bytes that it took. Header names are lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    length: int


def parse(received: bytes | bytearray) -> Parsed | None:
    """The first request in `received`, or `None` while it is incomplete."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = bytes(received[:end]).decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3:
        raise ValueError(f"a request line must have three words, not {len(words)}")
    headers = dict(_header(line) for line in lines)
    found = _body(received, end + 4, headers)
    return None if found is None else Parsed(words[0], words[1], headers, *found)


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """The status line and the header block, with the empty line after it."""
    lines = [f"HTTP/1.1 {status} {_phrase(status)}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body. Empty data would end the body, so it becomes no bytes at all."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise ValueError("a header line must have a colon")
    return name.lower(), value.strip()


def _body(received: bytes | bytearray, start: int, headers: Mapping[str, str]) -> tuple[bytes, int] | None:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return _chunked_body(received, start)
    end = start + int(headers.get("content-length", "0"))
    return (bytes(received[start:end]), end) if len(received) >= end else None


def _chunked_body(received: bytes | bytearray, start: int) -> tuple[bytes, int] | None:
    body = b""
    while (line_end := received.find(b"\r\n", start)) >= 0:
        size = int(bytes(received[start:line_end]).partition(b";")[0], 16)
        data = line_end + 2
        start = data + size + 2
        if len(received) < start:
            return None
        if not size:
            return body, start
        body += received[data : data + size]
    return None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
