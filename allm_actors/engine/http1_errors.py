"""What a peer that speaks HTTP/1.1 badly is told apart by. Rule of this file: names only, so that all may know them."""

from __future__ import annotations

__all__ = ["MalformedError", "TruncatedError"]


class MalformedError(Exception):
    """What came is not an HTTP/1.1 response; the text says how, in words that may be shown."""


class TruncatedError(ConnectionError):
    """The connection ended before the response did."""
