"""What a peer that speaks HTTP badly is told apart by. Rule of this file: names only, so that all may know them."""

from __future__ import annotations

__all__ = ["ClosedError", "MalformedError", "RefusedError", "StreamResetError", "TruncatedError"]


class MalformedError(Exception):
    """What came is not an HTTP response; the text says how, in words that may be shown."""


class TruncatedError(ConnectionError):
    """The connection ended before the response did."""


class StreamResetError(ConnectionError):
    """The peer ended this response, and not the connection."""


class RefusedError(ConnectionError):
    """The request was certainly not read, so it may be sent again."""


class ClosedError(RefusedError):
    """The other side closed what was idle while we wrote, so it has hardly read the request."""
