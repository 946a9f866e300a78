"""Bedrock's documents: a block each, with a format and a name that no other document of the request has.

Rule of this file: pure. A name is what the provider takes as one (letters, digits, single spaces, hyphens and
brackets), and the same in every request of a conversation, so that what was cached stays so.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_DocumentBlock.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from allm_actors.data import Document, DocumentPart, Message
from allm_actors.data.media.documents import MIME_TYPES
from allm_actors.engine.dialects.documents import Documents, document_data

__all__ = ["DOCUMENTS", "document_block", "named"]

_FORMATS = {
    MIME_TYPES[f".{format}"]: format
    for format in ("pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md")
}
_FOREIGN = re.compile(r"[^A-Za-z0-9\-()\[\]]+")
_LONGEST = 190  # of 200, so that a number fits behind it


def _failure(document: Document) -> str | None:
    if document.mime_type is None:
        return "missing_mime_type"
    return None if document.mime_type in _FORMATS else "unsupported_document_format"


DOCUMENTS = Documents(roles=frozenset({"user", "tool"}), urls=("s3://",), failure=_failure)


def document_block(document: Document) -> dict[str, Any]:
    """A document that has its name already."""
    kind, value = document.source
    source = {"s3Location": {"uri": value}} if kind == "url" else {"bytes": document_data(document)}
    format = _FORMATS[str(document.mime_type)]
    return {"document": {"format": format, "name": document.title, "source": source}}


def named(messages: Iterable[Message]) -> Iterator[Message]:
    """The messages, in which each document has a title of its own: its title, as far as it may, or `Document 1`."""
    taken: set[str] = set()
    for message in messages:
        if isinstance(message.content, str):
            yield message
            continue
        parts = [_named(part, taken) if isinstance(part, DocumentPart) else part for part in message.content]
        yield msgspec.structs.replace(message, content=parts)


def _named(part: DocumentPart, taken: set[str]) -> DocumentPart:
    title = _FOREIGN.sub(" ", part.document.title or "").strip()[:_LONGEST].strip()
    name, number = title or "Document 1", 1
    while name in taken:
        number += 1
        name = f"{title or 'Document'} {number}"
    taken.add(name)
    return msgspec.structs.replace(part, document=msgspec.structs.replace(part.document, title=name))
