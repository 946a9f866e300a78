"""Ollama's own chat format: a request to its JSON.

Rule of this file: pure. Parameters that `Request` has no field for are in `request.options`, which override
every field: names of the wire request's own fields stay at its top level, all others are model parameters, in
`options`.

    ours                              on the wire
    max_tokens, temperature           options.num_predict, options.temperature
    tool messages                     role tool, with the tool's name; there are no ids
    what the model thought            thinking, as it came; see `lines`
    an assistant's calls              tool_calls, with the arguments as an object
    pictures                          images, Base64; a URL is refused
    response_format                   format: "json", or the schema itself
    tool_choice none                  no tools; required, or a name, is refused, because this format has neither

Source: https://github.com/ollama/ollama/blob/main/docs/api.md and .../main/api/types.go (ChatRequest), and recorded
exchanges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from allm_actors.data import AdapterError, ImagePart, Message, Request
from allm_actors.engine.catalog import Provider
from allm_actors.engine.dialects.answer import provider_state
from allm_actors.engine.dialects.body import chat_request, flat_text, tool_spec
from allm_actors.engine.dialects.chat import ChatDialect, has_schema, has_tools_and_format
from allm_actors.engine.dialects.ollama.lines import STATE, Decoder
from allm_actors.engine.dialects.parts import check_parts
from allm_actors.engine.dialects.pictures import picture_data
from allm_actors.engine.wire import HttpRequest

__all__ = ["DIALECT", "encode"]

_PATH = "/api/chat"
_HEADERS = {"content-type": "application/json", "accept": "application/x-ndjson"}
_AS_BYTES = frozenset({"user", "assistant", "tool"})
_TOP_LEVEL = (
    "format",
    "keep_alive",
    "think",
    "stream",
    "tools",
    "messages",
    "model",
    "logprobs",
    "top_logprobs",
    "truncate",
    "shift",
)


def encode(request: Request, row: Provider, base_url: str) -> HttpRequest:
    """The streaming HTTP request, without its key.

    Raises: `ValidationError` and `AdapterError("unsupported_feature")` for what cannot be sent.
    """
    check_parts(request.messages, row, as_bytes=_AS_BYTES)
    return chat_request(base_url + _PATH, _body(request, row), _HEADERS)


def _body(request: Request, row: Provider) -> dict[str, Any]:
    names = {call.id: call.name for message in request.messages for call in message.tool_calls}
    body: dict[str, Any] = {} if request.model is None else {"model": request.model}
    body["messages"] = [_message(message, names) for message in request.messages]
    has_tools = bool(request.tools) or "tools" in request.options
    unwanted = ("tools",) if has_tools and not _wants_tools(request.tool_choice, row) else ()
    if request.tools and not unwanted:
        body["tools"] = [tool_spec(tool) for tool in request.tools]
    wanted = _format(request.response_format)
    if wanted is not None:
        body["format"] = wanted
    body["stream"] = True
    options: dict[str, Any] = {}
    if request.temperature is not None:
        options["temperature"] = request.temperature
    if request.max_tokens is not None:
        options["num_predict"] = request.max_tokens
    given = request.options
    options |= {name: value for name, value in given.items() if name not in (*_TOP_LEVEL, "options")}
    options |= given.get("options") or {}
    if options:
        body["options"] = options
    return body | {name: given[name] for name in _TOP_LEVEL if name in given and name not in unwanted}


def _wants_tools(choice: Any, row: Provider) -> bool:
    if choice in (None, "auto", "none"):
        return bool(choice != "none")
    message = f"{row.label} cannot force a tool call; leave tool_choice out, or make it 'auto'"
    raise AdapterError("unsupported_feature", provider=row.name, message=message)


def _format(wanted: Any) -> Any:
    if has_schema(wanted):
        return wanted["schema"]
    kind = wanted.get("type") if isinstance(wanted, Mapping) else wanted
    return "json" if kind == "json_object" else None


def _message(message: Message, names: Mapping[str, str]) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": flat_text(message)}
    pictures = [part for part in message.content if isinstance(part, ImagePart)]
    if pictures:
        wire["images"] = [picture_data(part.image)[1] for part in pictures]
    if message.role == "tool":
        name = message.name or names.get(message.tool_call_id or "")
        return wire if name is None else {**wire, "tool_name": name}
    state = provider_state(message, STATE)
    if isinstance(state, Mapping):
        wire |= state
    if message.tool_calls:
        wire["tool_calls"] = [
            {"function": {"name": call.name, "arguments": call.arguments}} for call in message.tool_calls
        ]
    return wire


DIALECT: Final = ChatDialect(
    encode=encode,
    decoder=Decoder,
    stream_types=frozenset({"application/x-ndjson"}),
    requires_structured_finalize=has_tools_and_format,
)
