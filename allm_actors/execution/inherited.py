"""Refusals for a message that the session had before the turn: every later turn would be refused for it, too.

Rule of this file: pure. Only the message of the refusal changes: it says how to take out what it is about.

    a failure                   is about
    --------------------------  ----------------------------------------------------------
    content.i.…, messages.i.…   message i of the request
    text: not_unicode           each message with a text that UTF-8 cannot encode
    vision, documents           each message with an image; with a document
    any other                   no message
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from allm_actors.data import DocumentPart, ImagePart, Message, ValidationError
from allm_actors.data.utf8 import is_utf8

from .receiving import text_of

__all__ = ["with_way_out"]

E = TypeVar("E", bound=Exception)


def with_way_out(error: E, asked: Sequence[Message], earlier: Sequence[Message]) -> E:
    """The refusal of a request with the messages `asked`. If it is a ValidationError about any that the session had
    `earlier`, its message says which of the session's these are, and how to take them out.
    """
    if not isinstance(error, ValidationError) or not earlier:
        return error
    about = {id(message) for entry in error.errors for message in _about(entry, asked)}
    places = [index for index, message in enumerate(earlier) if id(message) in about]
    if not places:
        return error
    which = ", ".join(f"messages[{index}]" for index in places)
    text = (
        f"{error}; the session has had {which} since an earlier turn: take it out with "
        "session.replace_messages(…) in a host, allm.session.replace_messages(session, …) for a value"
    )
    told = error.replaced(message=text)
    told.__cause__, told.__traceback__ = error.__cause__, error.__traceback__
    return told


def _about(entry: Any, asked: Sequence[Message]) -> Iterable[Message]:
    match entry:
        case (["content" | "messages", int(index), *_], _) if 0 <= index < len(asked):
            return [asked[index]]
        case ("text", "not_unicode"):
            return [message for message in asked if not is_utf8(text_of(message))]
        case (["vision"], "vision_disabled"):
            return [message for message in asked if _holds(message, ImagePart)]
        case (["documents"], "documents_disabled"):
            return [message for message in asked if _holds(message, DocumentPart)]
        case _:
            return []


def _holds(message: Message, kind: type[ImagePart | DocumentPart]) -> bool:
    return any(isinstance(part, kind) for part in message.parts())
