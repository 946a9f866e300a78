"""Documents: which ones a format supports, and how they are encoded.

Rule of this file: what differs between formats is in `Documents`; the rest is the same for all. A URL is passed on,
never fetched.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from allm_actors.data import Document
from allm_actors.data.media.documents import MIME_TYPES

__all__ = ["ANYWHERE", "Documents", "document_data", "document_failure", "document_name"]

ANYWHERE: Final = ("",)
_MAX_BYTES = 50 * 1024 * 1024
_EXTENSIONS = {mime_type: extension for extension, mime_type in reversed(MIME_TYPES.items())}


def _no_failure(_document: Document) -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """The documents that a format supports.

    `roles` are those of the messages that may hold one, `urls` are the prefixes of URLs that the provider
    fetches, and `failure` says why a document is not supported by this format, or returns None.
    """

    roles: frozenset[str] = frozenset({"user"})
    urls: tuple[str, ...] = ()
    failure: Callable[[Document], str | None] = _no_failure


def document_failure(document: Document, documents: Documents) -> str | None:
    """Why a document cannot be sent, or None."""
    kind, _ = document.source
    if kind != "url":
        if document.mime_type is None:
            return "missing_mime_type"
        try:
            if len(document.to_bytes()) > _MAX_BYTES:
                return "document_too_large"
        except (ValueError, OSError):
            return "unresolvable_document"
    return documents.failure(document)


def document_data(document: Document) -> str:
    """The Base64 of a document that is no URL. Base64 that was given is passed on unchanged."""
    kind, value = document.source
    return str(value) if kind == "base64" else base64.b64encode(document.to_bytes()).decode()


def document_name(document: Document) -> str:
    """A file name for a document: its title, or the name in its path or URL, with the extension of its MIME type."""
    name = document.title or _file_name(document) or "document"
    extension = _EXTENSIONS.get(document.mime_type or "", "")
    return name if MIME_TYPES.get(PurePath(name).suffix.lower()) == document.mime_type else name + extension


def _file_name(document: Document) -> str:
    kind, value = document.source
    if kind == "file":
        return PurePath(str(value)).name
    return PurePosixPath(urlsplit(str(value)).path).name if kind == "url" else ""
