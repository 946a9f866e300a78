"""HTTP/1.1 messages: a request to its bytes, the bytes of a response to its parts.

Rule of this file: no I/O, and a name for everything a peer can do wrong. The bytes are parsed by llhttp, strictly; what
it does not decide is decided here: which responses have no body, which end with their connection, which leave the
connection reusable, and how large a head may be. The chunks of a body are collected by `list.append`
directly, so that a chunk costs no Python call.

Source: RFC 9112 sections 2 to 9 (messages, framing, connections), RFC 9110 sections 5.5, 5.6.2 (fields) and 15.2 (1xx).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from .http1_errors import MalformedError, TruncatedError

__all__ = ["MAX_HEAD_BYTES", "Outgoing", "ResponseReader", "request_bytes"]

MAX_HEAD_BYTES = 64 * 1024
"""The most bytes that names and values of a response's headers may have, and again those of its trailers."""

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?\Z")
_TARGET = re.compile(rb"[!-~]+\Z")
_BODILESS = (204, 304)


class Outgoing(NamedTuple):
    """A request in parts, which each version of HTTP assembles in its own way. `head` is for HTTP/1.1 only."""

    method: bytes
    target: bytes
    headers: Sequence[tuple[bytes, bytes]]
    head: bytes
    body: bytes


def request_bytes(method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """A request, to be written at once. Raises ValueError for a character that HTTP does not allow there.

    The headers must be complete, `host` and `content-length` included.
    """
    if not _NAME.match(method) or not _TARGET.match(target):
        raise ValueError("the method or the path has a character that is not allowed")
    lines = [b"%b %b HTTP/1.1\r\n" % (method, target)]
    for name, value in headers:
        if not _NAME.match(name) or not _VALUE.match(value):
            raise ValueError("a header has a character that is not allowed")
        lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join([*lines, b"\r\n", body])


class ResponseReader:
    """One response being received. After `ended` nothing more is expected; further data makes the connection unusable.

    `headers` are as on the wire, without trailers; `reusable` says whether the connection may carry another request.
    """

    __slots__ = (
        "_bodiless",
        "_fields",
        "_parser",
        "_pieces",
        "_silence",
        "_until_close",
        "ended",
        "headed",
        "headers",
        "on_body",
        "reusable",
        "status",
    )

    def __init__(self, *, bodiless: bool = False) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.headed = self.ended = self.reusable = False
        self._bodiless = bodiless  # the answer to a HEAD
        self._until_close = False
        self._fields = 0  # bytes of headers, then of trailers
        self._silence = 0  # bytes since the last of the body
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append
        self._parser: HttpResponseParser | None = HttpResponseParser(self)

    def feed(self, data: bytes | memoryview) -> None:
        """Take what was read. Raises `MalformedError`, after which nothing may be fed."""
        parser = self._parser
        if parser is None:
            self.reusable = False
            return
        before = len(self._pieces)
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self.ended:
                raise self._malformed(error) from None
            self.reusable = False
        if self.ended:
            self._parser = None  # breaks the reference cycle between reader and parser
        elif len(self._pieces) > before:
            self._silence = 0
        else:
            # A line that never ends is not a field yet, and the parser would buffer it without limit.
            self._silence += len(data)
            if self._silence > 2 * MAX_HEAD_BYTES:
                raise self._too_large()

    def take(self) -> bytes:
        """The body that came since the last time; empty when none did."""
        pieces = self._pieces
        if len(pieces) == 1:
            return pieces.pop()
        body = b"".join(pieces)
        pieces.clear()
        return body

    def eof(self) -> None:
        """The peer will send nothing more. Raises `TruncatedError` when that is too early."""
        self.reusable = False
        self._parser = None
        if not self.ended and not (self.headed and self._until_close):
            what = "complete message body" if self.headed else "a response"
            raise TruncatedError(f"peer closed connection without sending {what}")
        self.ended = True

    # Called by the parser.

    def on_message_begin(self) -> None:
        """A response begins: the first, or the one after a 1xx."""
        if self.ended:
            raise MalformedError("a second response")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is only counted."""
        self._fields += len(name) + len(value)
        if self._fields > MAX_HEAD_BYTES:
            raise self._too_large()
        if not self.headed:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is here."""
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        self._fields = 0
        if 100 <= status < 200 and status != 101:
            self.headers.clear()
            return
        self.status, self.headed = status, True
        coding = _last_coding(self.headers)
        # A 1.0 server that sends chunks violates the protocol; its framing cannot be trusted.
        self.reusable = parser.should_keep_alive() and not (coding and parser.get_http_version() == "1.0")
        self._until_close = not _is_framed(self.headers, coding)
        if self._bodiless or status in _BODILESS:
            self.ended = True

    def on_message_complete(self) -> None:
        """The response is whole, unless it was a 1xx."""
        self.ended = self.headed

    def _malformed(self, error: Exception) -> MalformedError:
        cause = error.__context__  # what a callback raised
        if isinstance(cause, MalformedError):
            return cause
        return MalformedError(f"the bytes received are not an HTTP/1.1 response ({type(error).__name__})")

    def _too_large(self) -> MalformedError:
        part = "trailers or chunk extensions" if self.headed else "headers"
        return MalformedError(f"the response has more than {MAX_HEAD_BYTES} bytes of {part}")


def _last_coding(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The transfer coding that was applied last; empty when there is none. Source: RFC 9112 6.1."""
    values = [value for name, value in headers if name.lower() == b"transfer-encoding"]
    return b",".join(values).rpartition(b",")[2].strip().lower()


def _is_framed(headers: Iterable[tuple[bytes, bytes]], coding: bytes) -> bool:
    """Whether the end of the body is marked by its framing, not by the connection's end. Source: RFC 9112 6.3."""
    if coding:
        return coding == b"chunked"
    return any(name.lower() == b"content-length" for name, _ in headers)
