"""Checks which parts of messages can be sent.

Rule of this file: every part is checked before anything is sent, and every failure is listed. What a format
does not support is refused, and not left out; with one exception: an image in an assistant's message, which
no provider but Ollama accepts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from allm_actors.data import AdapterError, DocumentPart, ImagePart, Message, Part, ValidationError
from allm_actors.engine.catalog import Provider
from allm_actors.engine.dialects.documents import Documents, document_failure
from allm_actors.engine.dialects.pictures import picture_failure

__all__ = ["check_parts"]


def check_parts(
    messages: Sequence[Message],
    row: Provider,
    documents: Documents | None = None,
    *,
    in_answers: bool = True,
    as_bytes: frozenset[str] = frozenset(),
) -> None:
    """Refuse what cannot be sent; without `documents`, the format does not support any.

    `in_answers` is whether a tool's answer may hold images; `as_bytes` are the roles of the messages whose images
    must not be given by URL, because the provider fetches none. Raises: `ValidationError("invalid_message")` with
    every part that cannot be sent, and `AdapterError("unsupported_feature")` for what only other providers
    accept.
    """
    mixed = [(index, each) for index, each in enumerate(messages) if not isinstance(each.content, str)]
    if not mixed:
        return
    errors = [error for index, each in mixed for error in _failures(index, each, documents)]
    if errors:
        raise ValidationError("invalid_message", errors).explained()
    for _, message in mixed:
        for part in message.content:
            if isinstance(part, DocumentPart):
                _check_word(part, message.role, row, documents)
            elif isinstance(part, ImagePart) and message.role == "tool" and not in_answers:
                raise AdapterError("unsupported_feature", provider=row.name, message=_no_picture(row))
            elif isinstance(part, ImagePart) and part.image.source[0] == "url" and message.role in as_bytes:
                raise AdapterError("unsupported_feature", provider=row.name, message=_no_picture_url(row))


def _failures(index: int, message: Message, documents: Documents | None) -> Iterator[tuple[Any, str]]:
    if message.role == "system":
        if _holds(message, ImagePart):
            yield ["messages", index, "content"], "image_in_system_message"
        if _holds(message, DocumentPart):
            yield ["messages", index, "content"], "document_in_system_message"
    for at, part in enumerate(message.content):
        failure = _failure(part, documents, of_system=message.role == "system")
        if failure is not None:
            yield ["content", index, at], failure


def _holds(message: Message, kind: type[ImagePart | DocumentPart]) -> bool:
    return any(isinstance(part, kind) for part in message.content)


def _failure(part: object, documents: Documents | None, *, of_system: bool) -> str | None:
    if not isinstance(part, Part):
        return "invalid_part_type"
    if isinstance(part, ImagePart) and not of_system:
        return picture_failure(part.image)
    if isinstance(part, DocumentPart) and not of_system and documents is not None:
        return document_failure(part.document, documents)
    return None


def _no_picture(row: Provider) -> str:
    return (
        f"{row.label} takes no picture in a tool's answer: put it into a user message that follows the "
        "answers, or use a provider that does"
    )


def _no_picture_url(row: Provider) -> str:
    return f"{row.label} takes no picture by URL: send its bytes, with Image.from_bytes or Image.from_file"


def _check_word(part: DocumentPart, role: str, row: Provider, documents: Documents | None) -> None:
    kind, value = part.document.source
    if documents is None:
        why = "takes no documents: send the document's text, with TextPart, or use another provider"
    elif role not in documents.roles:
        why = f"takes no document in a message of role {role!r}: put it into a user message"
    elif kind == "url" and not str(value).startswith(documents.urls):
        why = "does not fetch this document: send its bytes, with Document.from_bytes or Document.from_file"
    else:
        return
    raise AdapterError("unsupported_feature", provider=row.name, message=f"{row.label} {why}")
