"""Documents as values: a PDF, a text or a spreadsheet; where the bytes are, not necessarily the bytes themselves.

Rule of this file: a URL is never fetched. `to_bytes` reads a local file when the source is one; nothing else does I/O.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from .sources import bytes_of, check_given, check_url, data_uri_of, repr_of

__all__ = ["MIME_TYPES", "Document", "DocumentSource"]

DocumentSource = tuple[Literal["binary", "base64", "url", "file"], str | bytes]
_OFFICE = "application/vnd.openxmlformats-officedocument"
# The system's own table of extensions differs from one machine to the next.
MIME_TYPES = {
    ".pdf": "application/pdf",
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".html": "text/html",
    ".htm": "text/html",
    ".json": "application/json",
    ".doc": "application/msword",
    ".docx": f"{_OFFICE}.wordprocessingml.document",
    ".xls": "application/vnd.ms-excel",
    ".xlsx": f"{_OFFICE}.spreadsheetml.sheet",
    ".pptx": f"{_OFFICE}.presentationml.presentation",
}


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A document: `source` is `(kind, value)` with kind `binary`, `base64`, `url` or `file`.

    `title` is the name that the model is told, if the provider's API has a field for it.
    """

    source: DocumentSource
    mime_type: str | None = None
    title: str | None = None
    metadata: dict[str, Any] = {}

    def __repr__(self) -> str:
        return repr_of(self)

    @classmethod
    def from_file(cls, path: str | Path, title: str | None = None) -> Document:
        """The document in a local file, read when it is needed; the MIME type comes from the extension."""
        mime_type = MIME_TYPES.get(Path(path).suffix.lower())
        return cls(source=("file", str(path)), mime_type=mime_type, title=title)

    @classmethod
    def from_bytes(cls, data: bytes, mime_type: str, title: str | None = None) -> Document:
        """The document in `data`. Raises TypeError unless they are bytes with a MIME type."""
        check_given("Document.from_bytes", data, bytes, mime_type, "application/pdf")
        return cls(source=("binary", data), mime_type=mime_type, title=title)

    @classmethod
    def from_base64(cls, text: str, mime_type: str, title: str | None = None) -> Document:
        """The document in Base64 `text`, kept undecoded. Raises TypeError unless it is text with a MIME type."""
        check_given("Document.from_base64", text, str, mime_type, "application/pdf")
        return cls(source=("base64", text), mime_type=mime_type, title=title)

    @classmethod
    def from_url(cls, url: str, mime_type: str | None = None, title: str | None = None) -> Document:
        """The document at `url`, which the provider fetches; `mime_type` defaults to that of the URL's extension.

        Raises TypeError for what is no text.
        """
        check_url("Document.from_url", url)
        return cls(source=("url", url), mime_type=mime_type or _type_of(url), title=title)

    def to_bytes(self) -> bytes:
        """The bytes. Raises ValueError (`invalid_source`, `invalid_base64`, `remote_source`), or OSError for an
        unreadable file.
        """
        return bytes_of(self.source, "document")

    def to_data_uri(self) -> str:
        """The document as a data URI. Raises ValueError (`invalid_source`, `remote_source`, `missing_mime_type`) or
        OSError.
        """
        return data_uri_of(self.source, self.mime_type, "document")


def _type_of(url: str) -> str | None:
    try:
        return MIME_TYPES.get(PurePosixPath(urlsplit(url).path).suffix.lower())
    except ValueError:  # no URL at all, as the provider will say
        return None
