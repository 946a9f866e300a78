"""Where the bytes of an image, a document or a clip are: `(kind, value)`, not necessarily the bytes themselves.

Rule of this file: a URL is never fetched. A local file is read when its bytes are asked for; nothing else does I/O.
A value must be of its kind's type: bytes labelled Base64, or text labelled bytes, would be sent as garbage.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path, PurePath
from typing import Any

__all__ = ["bytes_of", "check_given", "check_source", "check_url", "data_uri_of", "is_source", "repr_of"]

_LONG = 64  # bytes or characters up to which data is shown
_VALUES: dict[str, Any] = {"binary": bytes, "base64": str, "url": str, "file": (str, PurePath)}


def is_source(source: Any) -> bool:
    """Whether it is a kind with a value of that kind's type. Takes any value."""
    if not isinstance(source, (tuple, list)) or len(source) != 2:
        return False
    kind, value = source
    return isinstance(kind, str) and isinstance(value, _VALUES.get(kind, ()))


def check_given(maker: str, data: object, kind: type, mime_type: object, such_as: str) -> None:
    """Raises TypeError unless `maker` was given data of this kind with a MIME type."""
    if not (isinstance(data, kind) and isinstance(mime_type, str)):
        got = f"{type(data).__name__} and {type(mime_type).__name__}"
        raise TypeError(f"{maker} takes {kind.__name__} and a MIME type such as {such_as!r}, got {got}")


def check_url(maker: str, url: object) -> None:
    """Raises TypeError unless `maker` was given text."""
    if not isinstance(url, str):
        raise TypeError(
            f"{maker} takes a URL as text, such as 'https://example.org/a', got {type(url).__name__}"
        )


def check_source(source: Any, what: str) -> None:
    """Raises ValueError (`invalid_source`) unless the source of `what` is one."""
    if not is_source(source):
        raise ValueError(
            f"invalid_source: the source of the {what} must be ('binary', bytes), ('base64', text), ('url', "
            f"text) or ('file', path), got {_shown(source)}; from_bytes, from_base64 and so on make one"
        )


def repr_of(value: Any) -> str:
    """The `repr` of a value with a `source`, with the size in place of long data."""
    fields = ((name, getattr(value, name)) for name in value.__struct_fields__)
    words = (f"{name}={_brief(given) if name == 'source' else repr(given)}" for name, given in fields)
    return f"{type(value).__name__}({', '.join(words)})"


def _brief(source: Any) -> str:
    if is_source(source) and source[0] in ("binary", "base64") and len(source[1]) > _LONG:
        unit = "bytes" if source[0] == "binary" else "characters"
        return f"({source[0]!r}, <{len(source[1]):,} {unit}>)"
    return repr(source)


def bytes_of(source: Any, what: str) -> bytes:
    """The bytes of `what`. Raises ValueError (`invalid_source`, `invalid_base64`, `remote_source`), or OSError for an
    unreadable file.
    """
    check_source(source, what)
    kind, value = source
    if kind == "binary":
        data: bytes = value
        return data
    if kind == "file":
        return Path(value).read_bytes()
    if kind == "url":
        raise ValueError(f"remote_source: a URL is never fetched; download the {what} and use from_bytes")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"invalid_base64: the Base64 text of the {what} cannot be decoded") from error


def data_uri_of(source: Any, mime_type: str | None, what: str) -> str:
    """The bytes as a data URI.

    Raises ValueError (`invalid_source`, `remote_source`, `missing_mime_type`) or OSError.
    """
    check_source(source, what)
    kind, value = source
    if kind == "url":
        raise ValueError("remote_source: a URL has no data URI; pass the URL itself")
    if mime_type is None:
        raise ValueError(f"missing_mime_type: set mime_type of the {what}")
    text = value if kind == "base64" else base64.b64encode(bytes_of(source, what)).decode()
    return f"data:{mime_type};base64,{text!s}"


def _shown(source: Any) -> str:
    """The source's kind or type, without its content."""
    if not (isinstance(source, (tuple, list)) and len(source) == 2):
        return type(source).__name__
    kind, value = source
    word = repr(kind) if isinstance(kind, str) and kind in _VALUES else f"an unknown {type(kind).__name__}"
    return f"({word}, {type(value).__name__})"
