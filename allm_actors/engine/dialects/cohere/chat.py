"""Cohere's chat, version 2: a request to its JSON.

Rule of this file: pure. Parameters that `Request` has no field for (documents, thinking, citation and safety
modes) are in `request.options`, which override every field.

    ours                              on the wire
    an assistant's thoughts           content of type thinking, and tool_plan, as they came; see `events`
    an assistant's calls              tool_calls, with the arguments as text
    tool_choice required, none        REQUIRED, NONE
    tool_choice, a name               REQUIRED, and only that tool: this format has no field for a name
    response_format                   json_object, with json_schema when there is a schema; not beside tools
    pictures                          image_url, with a URL or a data URI

Source: https://docs.cohere.com/v2/reference/chat-stream, and recorded exchanges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from allm_actors.data import (
    AdapterError,
    ImagePart,
    Message,
    Request,
    TextPart,
    Tool,
)
from allm_actors.engine.catalog import Provider
from allm_actors.engine.dialects.answer import provider_state
from allm_actors.engine.dialects.body import call_made, chat_request, flat_text, is_text, tool_spec
from allm_actors.engine.dialects.chat import ChatDialect, has_schema, has_tools_and_format
from allm_actors.engine.dialects.cohere.events import STATE, Decoder
from allm_actors.engine.dialects.parts import check_parts
from allm_actors.engine.dialects.pictures import picture_url
from allm_actors.engine.wire import HttpRequest

__all__ = ["DIALECT", "encode"]

_PATH = "/v2/chat"
_HEADERS = {"content-type": "application/json", "accept": "text/event-stream"}


def encode(request: Request, row: Provider, base_url: str) -> HttpRequest:
    """The streaming HTTP request, without its key.

    Raises: `ValidationError` and `AdapterError("unsupported_feature")` for what cannot be sent.
    """
    check_parts(request.messages, row, in_answers=False)
    return chat_request(base_url + _PATH, _body(request, row) | request.options, _HEADERS)


def _body(request: Request, row: Provider) -> dict[str, Any]:
    body: dict[str, Any] = {} if request.model is None else {"model": request.model}
    body["messages"] = [_message(message) for message in request.messages]
    tools, choice = _tools(request, row)
    if tools:
        body["tools"] = [tool_spec(tool) for tool in tools]
    if choice is not None:
        body["tool_choice"] = choice
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.response_format not in (None, "text"):
        body["response_format"] = _response_format(request.response_format)
    body["stream"] = True
    return body


def _tools(request: Request, row: Provider) -> tuple[list[Tool], Any]:
    """The tools to send, and whether one of them must be called."""
    choice = request.tool_choice
    match choice:
        case None | "auto":
            return request.tools, None
        case "none" | "required":
            return request.tools, choice.upper()
        case str():
            if "tools" in request.options:
                raise _no_name(choice, row)
            return [tool for tool in request.tools if tool.name == choice], "REQUIRED"
        case _:
            return request.tools, choice


def _no_name(choice: str, row: Provider) -> AdapterError:
    message = (
        f"{row.label} has no field for the name of a tool that must be called: with tools in its own form, "
        f"send only {choice!r}, and tool_choice='required'"
    )
    return AdapterError("unsupported_feature", provider=row.name, message=message)


def _response_format(wanted: Any) -> Any:
    if isinstance(wanted, str):
        return {"type": wanted}
    if has_schema(wanted):
        return {"type": "json_object", "json_schema": wanted["schema"]}
    return wanted


# --- messages -------------------------------------------------------------------------------------------------


def _message(message: Message) -> dict[str, Any]:
    match message.role:
        case "tool":
            return {"role": "tool", "tool_call_id": message.tool_call_id, "content": flat_text(message)}
        case "assistant":
            return {"role": "assistant", **_said(message)}
        case "user":
            return {"role": "user", "content": _asked(message)}
        case _:
            return {"role": message.role, "content": flat_text(message)}


def _asked(message: Message) -> str | list[dict[str, Any]]:
    if is_text(message):
        return flat_text(message)
    shown = (part for part in message.content if isinstance(part, TextPart | ImagePart))
    return [_part(part) for part in shown]


def _part(part: TextPart | ImagePart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    return {"type": "image_url", "image_url": {"url": picture_url(part.image)}}


def _said(message: Message) -> dict[str, Any]:
    kept = provider_state(message, STATE)
    wire = dict(kept) if isinstance(kept, Mapping) else {}
    text = flat_text(message)
    if text or not message.tool_calls:
        wire.setdefault("content", text)
    if message.tool_calls:
        wire["tool_calls"] = [call_made(call) for call in message.tool_calls]
    return wire


DIALECT: Final = ChatDialect(
    encode=encode, decoder=Decoder, requires_structured_finalize=has_tools_and_format
)
