"""OpenAI's chat completions: a request to its JSON.

Rule of this file: pure. What a server does differently is in its catalogue row. Parameters that `Request` has
no field for are in `request.options`, which override every field, as far as the row allows it.

    ours                              on the wire
    max_tokens                        max_tokens or max_completion_tokens, see the row
    tools                             {"type": "function", "function": {name, description, parameters}}
    tool_choice, a tool's name        {"type": "function", "function": {"name": …}}
    prompt_cache                      prompt_cache_key, prompt_cache_retention; those that the row lists
    response_format json_schema       {"type": "json_schema", "json_schema": {name, schema, strict}}; the answer is not
                                      streamed where that is refused, see the row
    content, nothing but texts         one string, joined by newlines
    documents                         file, or what the row calls it
    an assistant's calls              tool_calls, with the arguments exactly as the model wrote them
    reasoning_effort, verbosity       unchanged, only to models that reason; see the row
    what the model thought            reasoning_content, reasoning or reasoning_details, or parts of content, if the
                                      server wants it back
    a message's name                  name, to servers that take one from that role; see the row
    a user's message after a tool's   with an assistant's in between, if the server requires one; see the row

Source: https://platform.openai.com/docs/api-reference/chat/create.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from allm_actors.data import (
    Document,
    DocumentPart,
    Message,
    Part,
    Request,
    TextPart,
    Tool,
)
from allm_actors.data.tool_choice import CHOICE_WORDS
from allm_actors.engine.catalog import NEWER_GPT, Provider
from allm_actors.engine.dialects.answer import provider_state
from allm_actors.engine.dialects.body import (
    call_made,
    chat_request,
    flat_text,
    is_text,
    named_schema,
    tool_spec,
)
from allm_actors.engine.dialects.chat import ChatDialect, has_schema, has_tools_and_schema
from allm_actors.engine.dialects.documents import ANYWHERE, Documents, document_name
from allm_actors.engine.dialects.lenient import dicts_of, text_of
from allm_actors.engine.dialects.openai.chunks import STATE, Decoder
from allm_actors.engine.dialects.openai.options import prompt_cache
from allm_actors.engine.dialects.parameters import obeying
from allm_actors.engine.dialects.parts import check_parts
from allm_actors.engine.dialects.pictures import picture_url
from allm_actors.engine.routes import endpoint_url
from allm_actors.engine.wire import HttpRequest

__all__ = ["DIALECT", "Decoder", "encode"]

_PATH = "/chat/completions"
_HEADERS = {"content-type": "application/json", "accept": "text/event-stream"}
# By the content type that a server has for them, see `Quirks`.
_DOCUMENTS = {
    "file": Documents(),
    "file or URL": Documents(urls=ANYWHERE),
    "document_url": Documents(urls=ANYWHERE),
}
# The models that refuse `max_tokens`, or will, and their fine-tuned versions.
_COMPLETION_TOKENS = re.compile(rf"(?:ft:)?(?:gpt-4o|gpt-4\.1|{NEWER_GPT}|o[1-9]|chatgpt-)", re.IGNORECASE)


def encode(request: Request, row: Provider, base_url: str) -> HttpRequest:
    """The HTTP request, without its key; a streaming one, unless the row or an option says otherwise.

    Raises: `ValidationError` and `AdapterError("unsupported_feature")` for what cannot be sent.
    """
    documents = _DOCUMENTS.get(row.quirks.documents or "")
    check_parts(request.messages, row, documents, in_answers=False)
    body = obeying(_with_options(_body(request, row), request.options), row)
    if body.get("stream") is False:
        body.pop("stream_options", None)  # servers refuse `stream_options` without `stream`
    url = endpoint_url(base_url, row, "openai_chat", _PATH, body.get("model"))
    return chat_request(url, body, _HEADERS)


def _body(request: Request, row: Provider) -> dict[str, Any]:
    body: dict[str, Any] = {} if request.model is None else {"model": request.model}
    body["messages"] = list(_messages(request.messages, row))
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body[_max_tokens_name(request.model, row)] = request.max_tokens
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice)
    if request.response_format not in (None, "text"):
        body["response_format"] = _response_format(request.response_format)
    if request.prompt_cache is not None:
        body |= prompt_cache(request.prompt_cache, row.quirks.prompt_cache)
    body["stream"] = row.quirks.schemas_streamed or not _is_held_to_a_schema(request.response_format)
    if row.quirks.include_usage:
        body["stream_options"] = {"include_usage": True}
    return body


def _with_options(body: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    ours, given = body.get("stream_options"), options.get("stream_options")
    if ours is None or not isinstance(given, Mapping):
        return body | options
    return body | options | {"stream_options": {**ours, **given}}  # or the usage would be lost


def _max_tokens_name(model: str | None, row: Provider) -> str:
    if row.quirks.max_tokens is not None:
        return row.quirks.max_tokens
    return "max_completion_tokens" if _COMPLETION_TOKENS.match(model or "") else "max_tokens"


def _tool(tool: Tool) -> dict[str, Any]:
    spec = tool_spec(tool)
    if "strict" in tool.metadata:
        spec["function"]["strict"] = tool.metadata["strict"]
    return spec


def _tool_choice(choice: str | Mapping[str, Any]) -> Any:
    named = isinstance(choice, str) and choice not in CHOICE_WORDS
    return {"type": "function", "function": {"name": choice}} if named else choice


def _response_format(wanted: Any) -> Any:
    if isinstance(wanted, str):
        return {"type": wanted}
    if has_schema(wanted):
        schema = {k: v for k, v in named_schema(wanted).items() if k != "type"}
        return {"type": "json_schema", "json_schema": schema}
    return wanted


def _is_held_to_a_schema(wanted: Any) -> bool:
    """Whether the answer is held to a schema, in whichever shape it is given."""
    return isinstance(wanted, Mapping) and wanted.get("type") == "json_schema"


def _messages(messages: Sequence[Message], row: Provider) -> Iterable[dict[str, Any]]:
    if not row.quirks.blank_answers:
        messages = [message for message in messages if not _is_blank_answer(message)]
    if row.quirks.system_first:
        messages = sorted(messages, key=lambda message: message.role != "system")
    if row.quirks.alternating:
        messages = _in_turn(messages)
    said, before = row.quirks.after_answers, None
    for message in messages:
        if said is not None and before == "tool" and message.role not in ("tool", "assistant"):
            yield {"role": "assistant", "content": said}
        yield _message(message, row)
        before = message.role


def _is_blank_answer(message: Message) -> bool:
    return message.role == "assistant" and not message.tool_calls and not flat_text(message).strip()


def _in_turn(messages: Iterable[Message]) -> list[Message]:
    """Those of one speaker in a row as one message."""
    turns: list[Message] = []
    for message in messages:
        last = turns[-1] if turns else None
        one = last is not None and last.role == message.role and message.role in ("user", "assistant")
        if last is not None and one and not (last.tool_calls or message.tool_calls):
            turns[-1] = msgspec.structs.replace(last, content=[*last.parts(), *message.parts()])
        else:
            turns.append(message)
    return turns


def _message(message: Message, row: Provider) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": _content(message, row)}
    if message.name is not None and message.role in row.quirks.names:
        wire["name"] = message.name
    if message.role == "tool":
        wire["tool_call_id"] = message.tool_call_id
    if message.role == "assistant" and message.tool_calls:
        wire["tool_calls"] = [call_made(call) for call in message.tool_calls]
    field = row.quirks.thoughts_back
    if field is not None and message.role == "assistant":
        thoughts = _thoughts(message, field, row.quirks.no_thoughts)
        wire |= {} if thoughts is None else {field: thoughts}
    return wire


def _thoughts(message: Message, field: str, without: str | None) -> Any:
    """What the model thought; `without`, if it did not, or another model or the caller made the answer."""
    state = provider_state(message, STATE)
    thoughts = state.get(field, without) if isinstance(state, Mapping) else without
    return _with_text(thoughts, flat_text(message)) if field == "content" else thoughts


def _with_text(parts: Any, text: str) -> Any:
    """An answer's thoughts and texts, with the message's text if theirs is another; None if nothing was kept."""
    if not isinstance(parts, list):
        return None
    said = [part for part in dicts_of(parts) if part.get("type") == "text"]
    if text == "".join(text_of(part.get("text")) or "" for part in said):
        return parts
    return [*(part for part in parts if part not in said), {"type": "text", "text": text}]


def _content(message: Message, row: Provider) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str) or message.role != "user" or is_text(message):
        return flat_text(message)
    return [_part(part, row) for part in message.content]


def _part(part: Part, row: Provider) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, DocumentPart):
        return _document(part.document, row)
    return {"type": "image_url", "image_url": {"url": picture_url(part.image), "detail": part.detail}}


def _document(document: Document, row: Provider) -> dict[str, Any]:
    kind, value = document.source
    where = str(value) if kind == "url" else document.to_data_uri()
    if row.quirks.documents == "document_url":
        named = {} if document.title is None else {"document_name": document.title}
        return {"type": "document_url", "document_url": where, **named}
    return {"type": "file", "file": {"filename": document_name(document), "file_data": where}}


DIALECT: Final = ChatDialect(
    encode=encode, decoder=Decoder, requires_structured_finalize=has_tools_and_schema
)
