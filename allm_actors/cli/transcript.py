"""A turn as a person reads it: text as it comes, a line for each tool that starts and ends.

Rule of this file: it prints what the events say and nothing else. Text is never cut; arguments and results of
tools are cut to one line.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from allm_actors.data import (
    AskUserRequested,
    ChatResult,
    Err,
    Event,
    Session,
    TextDelta,
    ToolCallCompleted,
    ToolExecutionCompleted,
    ToolExecutionStarted,
    ToolHalt,
    ToolResultEncoded,
)

from .colour import escaped, harmless
from .terminal import Terminal
from .trouble import is_empty, line, shortcoming

__all__ = ["Transcript", "call_text", "count_text", "cut"]

_NAME = 64  # columns, as much as the name of a tool may have; that of an unknown one is the model's


class Transcript:
    """Prints the events of one turn."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal, self._paint = terminal, terminal.paint
        self._names: dict[str, str] = {}
        self._failed: set[str] = set()
        self._started: dict[str, float] = {}
        self._mid_line = False
        self._begun = time.monotonic()

    def show(self, event: Event) -> None:
        """Print one event."""
        match event:
            case TextDelta(delta=delta):
                self._terminal.tell(delta)
                self._mid_line = not delta.endswith("\n")
            case ToolCallCompleted(id=id, name=name):  # one of an unknown tool is answered, but never started
                self._names[id] = name
            case ToolExecutionStarted(id=id, name=name, arguments=arguments):
                self._names[id], self._started[id] = name, time.monotonic()
                self._line(
                    self._paint("⚙ ", "cyan") + cut(call_text(name, arguments), self._terminal.width - 4)
                )
            case ToolExecutionCompleted(id=id, result=Err()):
                self._failed.add(id)
            case ToolResultEncoded(id=id, content=content):
                self._answer(id, content)
            case AskUserRequested(tool_call_id=id):
                self._answer(id, "asks you a question")
            case ToolHalt(tool_call_id=id, reason=reason):
                self._answer(id, f"ends the turn: {reason}")
            case _:
                pass

    def end(self, result: ChatResult) -> bool:
        """Print how the turn ended, if that needs saying. Returns whether it ended well."""
        self.break_line()
        error = result.metadata.get("error")
        match result.halted_reason:
            case "error" | "tool_error":
                self._terminal.complain(
                    line(error if error is not None else "the turn failed without giving a reason")
                )
                return False
            case "cancelled" | "interrupted":
                self._terminal.say(self._paint("stopped; what has arrived so far is kept", "yellow"))
                return False
            case "max_turns":
                self._terminal.complain(
                    f"stopped after {len(result.steps)} model calls, all of which called tools"
                )
                return False
            case _:
                return self._judge(result)

    def summary(self, result: ChatResult) -> str:
        """How long the turn took and what it consumed, as far as is known."""
        tokens = result.usage().total()
        return f"{time.monotonic() - self._begun:.1f} s" + (f" · {tokens} tokens" if tokens else "")

    def break_line(self) -> None:
        """Begin a new line unless there is one."""
        if self._mid_line:
            self._terminal.say()
            self._mid_line = False

    def _judge(self, result: ChatResult) -> bool:
        if (lacks := shortcoming(result)) is not None:
            self._terminal.complain(lacks)
            return False
        if is_empty(result):
            self._terminal.note("the answer is empty")
        return True

    def _answer(self, id: str, content: str) -> None:
        started = self._started.pop(id, None)
        took = _seconds(started)
        name = cut(self._names.get(id, id), _NAME)
        mark = self._paint("✗ ", "red") if id in self._failed else self._paint("✓ ", "green")
        room = self._terminal.width - len(name) - len(took) - 6
        self._line(f"{mark}{name}  {self._paint(cut(content, room), 'dim')}{self._paint(took, 'dim')}")

    def _line(self, text: str) -> None:
        self.break_line()
        self._terminal.say(f"  {text}")
        self._terminal.flush()


def call_text(name: str, arguments: Mapping[str, Any]) -> str:
    """A call as a programmer would write it: `get_weather(city="Lisbon")`.

    It reads as what it is: the name of an argument that is no name is quoted, and what cannot be seen is escaped.
    """
    given = ", ".join(
        f"{key if str(key).isidentifier() else _json(key)}={_json(value)}" for key, value in arguments.items()
    )
    return f"{name}({given})"


def count_text(session: Session) -> str:
    """How many messages a session has."""
    count = len(session.messages)
    return f"{count} message" + ("" if count == 1 else "s")


def cut(text: str, room: int) -> str:
    """The text on one line of at most `room` columns, with an ellipsis where something is missing."""
    flat = harmless(" ".join(text.split()))
    return flat if len(flat) <= max(room, 20) else f"{flat[: max(room, 20) - 1]}…"


def _json(value: Any) -> str:
    return escaped(json.dumps(value, ensure_ascii=False))


def _seconds(started: float | None) -> str:
    took = 0.0 if started is None else time.monotonic() - started
    return f"  {took:.2f} s" if took >= 0.01 else ""
