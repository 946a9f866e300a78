"""Where the bytes of a picture, a document or a clip are: `(kind, value)`, not necessarily the bytes.

Rule of this file: a URL is never fetched. A local file is read when its bytes are asked for; nothing else does I/O.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

__all__ = ["bytes_of", "data_uri_of"]


def bytes_of(source: Any, what: str) -> bytes:
    """The bytes of `what`. Raises ValueError (`invalid_base64`, `remote_source`), or OSError for an unreadable file."""
    kind, value = source
    if isinstance(value, bytes):
        return value
    if kind == "file":
        return Path(value).read_bytes()
    if kind == "url":
        raise ValueError(f"remote_source: a URL is never fetched; download the {what} and use from_bytes")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"invalid_base64: the Base64 text of the {what} cannot be decoded") from error


def data_uri_of(source: Any, mime_type: str | None, what: str) -> str:
    """The bytes as a data URI. Raises ValueError (`remote_source`, `missing_mime_type`) or OSError."""
    kind, value = source
    if kind == "url":
        raise ValueError("remote_source: a URL has no data URI; pass the URL itself")
    if mime_type is None:
        raise ValueError(f"missing_mime_type: set mime_type of the {what}")
    text = value if kind == "base64" else base64.b64encode(bytes_of(source, what)).decode()
    return f"data:{mime_type};base64,{text!s}"
