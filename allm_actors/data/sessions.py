"""A conversation with a status: what is stored, branched and resumed.

Rule of this file: a plain frozen value. No engine, no handler and no key is ever part of it.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .messages import Content, Message, ToolCall
from .threads import Thread

__all__ = ["Session", "SessionStatus"]

SessionStatus = Literal["idle", "awaiting_user", "awaiting_tools", "completed", "error"]


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A thread, its status, and the question or calls it waits for."""

    id: str | None = None
    thread: Thread = msgspec.field(default_factory=Thread)
    status: SessionStatus = "idle"
    pending_tool_calls: list[ToolCall] = []
    pending_question: str | None = None
    pending_tool_call_id: str | None = None
    context: dict[str, Any] = {}
    metadata: dict[str, Any] = {}

    def add(self, *messages: Message) -> Session:
        """This session with messages at the end of its thread, whatever its status; nothing else changes."""
        return msgspec.structs.replace(self, thread=self.thread.add(*messages))

    def add_user(self, text: str) -> Session:
        """This session with a user message appended."""
        return self.add(Message(role="user", content=text))

    def add_tool_result(self, id: str, content: Content) -> Session:
        """This session with a tool message appended, its content unchanged. Pending calls stay pending:
        answer them with `submit_tool_result`.
        """
        return self.add(Message(role="tool", content=content, tool_call_id=id))

    # The names of the Elixir library; those above are the names that `Thread` uses.
    append = add
    append_user = add_user
    append_tool_result = add_tool_result

    @property
    def messages(self) -> list[Message]:
        """The messages of the thread, oldest first."""
        return self.thread.messages
