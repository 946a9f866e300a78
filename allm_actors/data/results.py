"""The results of a step and of a chat.

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
    """One model call and the tool messages that answered it; `done` says that a chat would end after this step."""

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
        """The text of the last answer, as `Response.text`; None if there is none."""
        return None if self.final_response is None else self.final_response.text()

    @property
    def parsed(self) -> Any:
        """The last answer as a value of the call's `response_model`; None if there is none, or it does not fit."""
        return None if self.final_response is None else self.final_response.parsed

    def usage(self) -> Usage:
        """What all model calls of the chat consumed together, as far as the providers said: tokens, and USD."""
        told = [step.response for step in self.steps]
        if not told or told[-1] != self.final_response:
            told.append(self.final_response)  # the call of a step that did not complete
        return reduce(Usage.plus, (response.usage for response in told if response is not None), Usage())
