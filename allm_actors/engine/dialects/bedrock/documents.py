"""Bedrock's documents: a block each, with a format and a name that no other document of the request has.

Rule of this file: pure. A name has only characters that the provider accepts (letters, digits, single spaces,
hyphens and brackets), and is the same in every request of a conversation, so that a prompt cache stays valid.

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
_LONGEST = 190  # characters of the 200 allowed, so that a number can be appended


def _failure(document: Document) -> str | None:
    if document.mime_type is None:
        return "missing_mime_type"
    return None if document.mime_type in _FORMATS else "unsupported_document_format"


DOCUMENTS = Documents(roles=frozenset({"user", "tool"}), urls=("s3://",), failure=_failure)


def document_block(document: Document) -> dict[str, Any]:
    """The block of a document that `named` has given a title."""
    kind, value = document.source
    source = {"s3Location": {"uri": value}} if kind == "url" else {"bytes": document_data(document)}
    format = _FORMATS[str(document.mime_type)]
    return {"document": {"format": format, "name": document.title, "source": source}}


def named(messages: Iterable[Message]) -> Iterator[Message]:
    """The messages with a unique title for each document: its own in allowed characters, or `Document 1`, …"""
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
