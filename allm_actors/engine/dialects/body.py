"""What every dialect does with a request's texts.

Rule of this file: pure. Text that cannot be sent is refused before anything is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from allm_actors.data import Message, TextPart, ValidationError

__all__ = ["flat_text", "json_body"]


def flat_text(message: Message) -> str:
    """A message's text; of its parts, the texts joined by newlines."""
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in message.content if isinstance(part, TextPart))


def json_body(body: Mapping[str, Any]) -> bytes:
    """The body as JSON. Raises `ValidationError` for what has no JSON."""
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError as error:
        message = f"the request has a text that is not valid Unicode: {error.reason}"
        raise ValidationError("invalid_request", [("text", "not_unicode")], message=message) from None
