"""A form with files, as bytes.

Rule of this file: pure, so the boundary is derived from the content, in which it must not occur. A value is
text, or several texts under one name.

Source: RFC 7578; escaping of names as browsers do it (https://html.spec.whatwg.org/#multipart-form-data).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from allm_actors.engine.services import Service
from allm_actors.engine.wire import HttpRequest

__all__ = ["FilePart", "file_name", "form", "form_fields", "form_request"]

_SAMPLE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """A file in a form."""

    name: str
    filename: str
    content_type: str
    data: bytes = field(repr=False)


def form_request(url: str, values: Mapping[str, Any], files: Sequence[FilePart], row: Service) -> HttpRequest:
    """The request that sends these values and files. Raises as `form_fields`."""
    kind, body = form(form_fields(values, row), files)
    return HttpRequest(url=url, body=body, headers={"content-type": kind})


def form_fields(values: Mapping[str, Any], row: Service) -> list[tuple[str, str]]:
    """The name and text of each value; a list gives several, None gives none. Raises `invalid_request` for
    invalid Unicode.
    """
    pairs = [
        (name, _text(each))
        for name, value in values.items()
        if value is not None
        for each in (value if isinstance(value, list | tuple) else [value])
    ]
    for name, text in pairs:
        try:
            f"{name}{text}".encode()
        except UnicodeEncodeError as error:
            message = f"the request has a text that is not valid Unicode: {error.reason}"
            raise row.error("invalid_request", message) from None
    return pairs


def form(fields: Iterable[tuple[str, str]], files: Sequence[FilePart]) -> tuple[str, bytes]:
    """The content type and the body."""
    pieces: list[tuple[bytes, bytes]] = []
    for name, text in fields:
        pieces.append((f'name="{_escaped(name)}"\r\n\r\n'.encode(), text.encode()))
    for file in files:
        head = f'name="{_escaped(file.name)}"; filename="{_escaped(file.filename)}"'
        kind = file.content_type.replace("\r", "").replace("\n", "")
        pieces.append((f"{head}\r\nContent-Type: {kind}\r\n\r\n".encode("utf-8", "replace"), file.data))
    boundary = _boundary(pieces)
    body = b"".join(
        b"--%b\r\nContent-Disposition: form-data; %b%b\r\n" % (boundary, head, data) for head, data in pieces
    )
    return f"multipart/form-data; boundary={boundary.decode()}", b"%b--%b--\r\n" % (body, boundary)


def file_name(source: Any) -> str | None:
    """The name of a local file, without its folders; None for any other source."""
    kind, value = source
    return PurePath(value).name or None if kind == "file" else None


def _boundary(pieces: Sequence[tuple[bytes, bytes]]) -> bytes:
    seed = hashlib.sha256()
    for head, data in pieces:
        seed.update(b"%b%d;%b" % (head, len(data), data[:_SAMPLE]))
    while True:
        boundary = b"allm-%b" % seed.hexdigest()[:32].encode()
        if not any(boundary in head or boundary in data for head, data in pieces):
            return boundary
        seed.update(b"again")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str)


def _escaped(name: str) -> str:
    name = name.encode("utf-8", "replace").decode()
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
