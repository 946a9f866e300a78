"""What a step and a chat came to.

Rule of this file: plain frozen values. A step is one model call with its tools; a chat is steps until one halts it.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import msgspec

from .messages import Message
from .responses import Response, Usage
from .threads import Thread

__all__ = ["ChatResult", "StepResult"]


class StepResult(msgspec.Struct, frozen=True, kw_only=True, rename={"done": "done?"}):
    """One model call and the tool messages that answered it; `done` says that a chat has no reason to go on."""

    thread: Thread
    response: Response | None = None
    tool_results: list[Message] = []
    done: bool = False
    metadata: dict[str, Any] = {}


class ChatResult(msgspec.Struct, frozen=True, kw_only=True):
    """A finished chat. `halted_reason` is `completed`, `error`, `max_turns`, `halt_when`, `ask_user`, `tool_error`,
    `manual_tool_calls`, `cancelled`, `interrupted`, or the reason a tool halted with.
    """

    thread: Thread | None = None
    final_response: Response | None = None
    halted_reason: str | None = None
    pending_question: str | None = None
    pending_tool_call_id: str | None = None
    steps: list[StepResult] = []
    metadata: dict[str, Any] = {}

    @property
    def halted(self) -> bool:
        """Whether anything but a complete answer ended the chat."""
        return self.halted_reason != "completed"

    def text(self) -> str | None:
        """What was answered last, see `Response.text`; None where nothing was."""
        return None if self.final_response is None else self.final_response.text()

    def usage(self) -> Usage:
        """What all model calls of the chat have used together, as far as their providers said: tokens, and USD."""
        told = [step.response for step in self.steps]
        if not told or told[-1] != self.final_response:
            told.append(self.final_response)  # it broke off before its step was done
        return reduce(Usage.plus, (response.usage for response in told if response is not None), Usage())
