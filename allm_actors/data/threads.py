"""A conversation: messages in order.

Rule of this file: append-only; each method returns a new thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from .messages import Message

__all__ = ["Thread"]


class Thread(msgspec.Struct, frozen=True, kw_only=True):
    """The messages of a conversation, oldest first."""

    messages: list[Message] = []
    metadata: dict[str, Any] = {}

    @classmethod
    def from_messages(cls, messages: Iterable[Message]) -> Thread:
        """A thread of these messages."""
        return cls(messages=list(messages))

    def add(self, *messages: Message) -> Thread:
        """This thread with messages appended."""
        return Thread(messages=[*self.messages, *messages], metadata=self.metadata)

    def add_system(self, text: str) -> Thread:
        """This thread with a system message appended."""
        return self.add(Message(role="system", content=text))

    def add_user(self, text: str) -> Thread:
        """This thread with a user message appended."""
        return self.add(Message(role="user", content=text))

    def add_assistant(self, text: str) -> Thread:
        """This thread with an assistant message appended."""
        return self.add(Message(role="assistant", content=text))

    @property
    def last(self) -> Message | None:
        """The last message, or None."""
        return self.messages[-1] if self.messages else None
