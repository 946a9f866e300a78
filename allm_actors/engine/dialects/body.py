"""Texts and JSON bodies of requests, for all dialects.

Rule of this file: pure. Text that cannot be sent is refused before anything is sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from allm_actors.data import Message, TextPart, Tool, ToolCall, ValidationError
from allm_actors.data.encoding import json_bytes, json_text
from allm_actors.engine.wire import HttpRequest

__all__ = [
    "arguments_text",
    "call_made",
    "chat_request",
    "check_turns",
    "flat_text",
    "is_text",
    "json_body",
    "named_schema",
    "parameters",
    "tool_spec",
]

_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")
_OBJECT: dict[str, Any] = {"type": "object", "properties": {}}


def flat_text(message: Message) -> str:
    """A message's text; if it has parts, the text parts joined by newlines."""
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in message.content if isinstance(part, TextPart))


def is_text(message: Message) -> bool:
    """Whether a message's content is nothing but text."""
    return isinstance(message.content, str) or all(isinstance(part, TextPart) for part in message.content)


def arguments_text(call: ToolCall) -> str:
    """A call's arguments as the model wrote them; if that text is blank or not JSON, `arguments` as JSON.

    Servers parse the arguments of earlier calls: text that is not JSON would make the whole thread unusable.
    """
    raw = call.raw_arguments
    if raw and not raw.isspace() and not call.metadata.get("arguments_error"):
        return raw
    return json_text(call.arguments)


def tool_spec(tool: Tool) -> dict[str, Any]:
    """A tool, in the shape of OpenAI's chat that others share."""
    function = {"name": tool.name, "description": tool.description, "parameters": parameters(tool)}
    return {"type": "function", "function": function}


def parameters(tool: Tool) -> dict[str, Any]:
    """The schema of a tool's arguments, which is that of an object with properties, even if it says neither.

    Source: OpenAI refuses one without `properties` ("object schema missing properties"), Anthropic and Bedrock one
    without `type`.
    """
    return tool.schema if tool.schema.keys() >= _OBJECT.keys() else {**_OBJECT, **tool.schema}


def named_schema(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The form of an answer, whose name has only letters that OpenAI takes ("must match '^[a-zA-Z0-9_-]+$'")."""
    name = wanted.get("name")
    return {**wanted, "name": _NO_NAME.sub("_", name)[:64]} if isinstance(name, str) else dict(wanted)


def call_made(call: ToolCall) -> dict[str, Any]:
    """An assistant's call, in the same shape."""
    function = {"name": call.name, "arguments": arguments_text(call)}
    return {"id": call.id, "type": "function", "function": function}


def check_turns(turns: object, label: str) -> None:
    """Raises `ValidationError` if no messages are left to send: system messages and blank ones do not count."""
    if not turns:
        message = (
            f"{label} needs at least one message with content, and this request has only system messages or "
            "blank ones; add a user message with a text"
        )
        raise ValidationError("invalid_request", [("messages", "empty")], message=message)


def chat_request(url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> HttpRequest:
    """A request whose body says, as `stream`, whether the answer is to be streamed. Raises: as `json_body`."""
    return HttpRequest(
        url=url, body=json_body(body), headers=headers, streamed=body.get("stream") is not False
    )


def json_body(body: Mapping[str, Any]) -> bytes:
    """The body as JSON. Raises `ValidationError` for invalid Unicode, and TypeError for what JSON cannot express."""
    try:
        return json_bytes(body)
    except UnicodeEncodeError as error:
        message = f"the request has a text that is not valid Unicode: {error.reason}"
        raise ValidationError("invalid_request", [("text", "not_unicode")], message=message) from None
    except TypeError as error:
        raise TypeError(f"{_unsent(body)} cannot be sent as JSON: {error}") from None


def _unsent(value: Any, *path: object) -> str:
    """The path to the innermost value that JSON cannot express."""
    inside = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    )
    for step, item in inside:
        try:
            json_bytes(item)
        except TypeError:
            return _unsent(item, *path, step)
    return f"{'.'.join(map(str, path)) or 'the request'}, of type {type(value).__name__},"
