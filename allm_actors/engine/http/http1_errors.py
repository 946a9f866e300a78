"""The ways in which an HTTP exchange can fail. Rule of this file: names only, so that every module may import them."""

from __future__ import annotations

__all__ = ["ClosedError", "MalformedError", "RefusedError", "StreamResetError", "TruncatedError"]


class MalformedError(Exception):
    """The peer's data is not a valid HTTP response; the text says why, and may be shown."""


class TruncatedError(ConnectionError):
    """The connection ended before the response did."""


class StreamResetError(ConnectionError):
    """The peer ended this response, but not the connection."""


class RefusedError(ConnectionError):
    """The request was certainly not read, so it may be sent again."""


class ClosedError(RefusedError):
    """The peer closed the idle connection while we wrote, so it has most likely not read the request."""
