"""Messages, their parts, and the tool calls they may carry.

Rule of this file: plain frozen values. Nothing here is checked on construction; `rules/validate.py` does that.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .media.documents import Document
from .media.images import Image

__all__ = [
    "Content",
    "Detail",
    "DocumentPart",
    "ImagePart",
    "Message",
    "Part",
    "Role",
    "TextPart",
    "ToolCall",
]

Role = Literal["system", "user", "assistant", "tool"]
Detail = Literal["auto", "low", "high"]


class TextPart(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of text inside a message's content list."""

    text: str
    metadata: dict[str, Any] = {}


class ImagePart(msgspec.Struct, frozen=True, kw_only=True):
    """An image inside a message's content list; `detail` is the resolution at which the model should see it."""

    image: Image
    detail: Detail = "auto"
    metadata: dict[str, Any] = {}


class DocumentPart(msgspec.Struct, frozen=True, kw_only=True):
    """A document inside a message's content list."""

    document: Document
    metadata: dict[str, Any] = {}


Part = TextPart | ImagePart | DocumentPart
Content = str | list[Part]


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call the model asks for.

    `raw_arguments` is the provider's own JSON text; `arguments` is that text parsed. When the text could not be parsed
    into an object, `arguments` is `{}` and `metadata["arguments_error"]` says why (`read_arguments` gives both): such a
    call is never executed.
    """

    id: str
    name: str
    arguments: dict[str, Any]
    raw_arguments: str | None = None
    metadata: dict[str, Any] = {}


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a conversation.

    `content` is text or a list of parts. A tool message answers the call `tool_call_id`. The calls that an assistant
    message makes are in `metadata["tool_calls"]`, as `ToolCall` values.
    """

    role: Role
    content: Content
    name: str | None = None
    tool_call_id: str | None = None
    metadata: dict[str, Any] = {}

    def parts(self) -> list[Part]:
        """The content as a list of parts; a text becomes one `TextPart`."""
        return [TextPart(text=self.content)] if isinstance(self.content, str) else list(self.content)

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The calls this message makes, in order; empty for most messages: only an assistant makes calls."""
        if self.role != "assistant" or not self.metadata:
            return []
        calls: list[ToolCall] = self.metadata.get("tool_calls") or []
        return calls
