"""OpenAI's Responses API: a request to its JSON.

Rule of this file: pure and stateless: the whole thread is sent each time and nothing is stored
(`store: false`). Therefore thoughts are requested in sealed form, where the row says that there is one, and
sent back unchanged. Parameters that `Request` has no field for are in `request.options`, which override every
field; `previous_response_id`, `conversation` and `background` need `store: true` with them.

    ours                              on the wire
    messages                          input, one item each
    an assistant's calls              function_call items; everything else of an answer goes back unchanged
    a tool's message                  function_call_output
    pictures                          input_image, of a user's message or of a tool's
    documents                         input_file, likewise
    max_tokens                        max_output_tokens
    tools                             {"type": "function", name, description, parameters, strict}
    tool_choice, a tool's name        {"type": "function", "name": …}
    response_format                   text.format, its schema beside its type
    reasoning_effort, reasoning_summary, verbosity, of the options: reasoning.effort, reasoning.summary, text.verbosity

A tool is `strict` only if its `metadata` says so; `strict: false` is sent otherwise, because without the
field a server makes every optional argument mandatory.

Source: https://platform.openai.com/docs/api-reference/responses/create and its guides to function calling and to
reasoning (2026-09), and recorded exchanges.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from allm_actors.data import (
    Document,
    DocumentPart,
    Message,
    Part,
    Request,
    TextPart,
    Tool,
    ToolCall,
    ValidationError,
)
from allm_actors.data.tool_choice import CHOICE_WORDS
from allm_actors.engine.catalog import OPENAI_WORDS, Provider
from allm_actors.engine.dialects.answer import provider_state
from allm_actors.engine.dialects.body import (
    arguments_text,
    chat_request,
    flat_text,
    is_text,
    named_schema,
    parameters,
)
from allm_actors.engine.dialects.chat import ChatDialect, has_tools_and_schema
from allm_actors.engine.dialects.documents import ANYWHERE, Documents, document_name
from allm_actors.engine.dialects.lenient import dict_of, text_of
from allm_actors.engine.dialects.openai.events import STATE, Decoder
from allm_actors.engine.dialects.openai.options import prompt_cache
from allm_actors.engine.dialects.parameters import known
from allm_actors.engine.dialects.parts import check_parts
from allm_actors.engine.dialects.pictures import picture_url
from allm_actors.engine.routes import endpoint_url
from allm_actors.engine.wire import HttpRequest

__all__ = ["DIALECT", "Decoder", "encode"]

_PATH = "/responses"
_HEADERS = {"content-type": "application/json", "accept": "text/event-stream"}
_DOCUMENTS = Documents(roles=frozenset({"user", "tool"}), urls=ANYWHERE)
_SEALED = "reasoning.encrypted_content"
# The places of options that are not top-level fields.
_PLACES: Mapping[str, tuple[str, str]] = {
    "reasoning_effort": ("reasoning", "effort"),
    "reasoning_summary": ("reasoning", "summary"),
    "verbosity": ("text", "verbosity"),
}
# Chat completions refuse the most effort. Source: `ReasoningEffort` of openai 3.57.0, and openai_model_profile in
# https://github.com/pydantic/pydantic-ai/blob/main/pydantic_ai_slim/pydantic_ai/profiles/openai.py.
_WORDS = {**OPENAI_WORDS, "reasoning_effort": (*OPENAI_WORDS["reasoning_effort"], "max")}
# Chat completions have no summaries; here, the models that reason have them.
_LIKE = {"reasoning_summary": "reasoning_effort"}


def encode(request: Request, row: Provider, base_url: str) -> HttpRequest:
    """The streaming HTTP request, without its key.

    Raises: `ValidationError` and `AdapterError("unsupported_feature")` for what cannot be sent.
    """
    check_parts(request.messages, row, _DOCUMENTS)
    options = dict(request.options)
    words = {name: options.pop(name) for name in _PLACES if options.get(name) is not None}
    body = _body(request, row, stored=bool(options.get("store", False)))
    if isinstance(options.get("text"), Mapping):
        options["text"] = {**body.get("text", {}), **options["text"]}
    body |= options
    for name, value in words.items():
        holder, field = _PLACES[name]
        if value not in _WORDS[name]:
            raise _unknown_word(name, value)
        if row.quirks.knows(_LIKE.get(name, name), request.model):
            body[holder] = {**(body.get(holder) or {}), field: value}
    body = known(body, row, body.get("model"), dict_of(body.get("reasoning")).get("effort"))
    url = endpoint_url(base_url, row, "openai_responses", _PATH, body.get("model"))
    return chat_request(url, body, _HEADERS)


def _unknown_word(name: str, value: object) -> ValidationError:
    holder, field = _PLACES[name]
    message = (
        f"{name} must be one of {', '.join(_WORDS[name])}; got: {value!r}. To send a newer value "
        f"unchecked, use {holder}={{{field!r}: …}}"
    )
    return ValidationError("invalid_request", [(name, "invalid_value")], message=message)


def _body(request: Request, row: Provider, *, stored: bool) -> dict[str, Any]:
    body: dict[str, Any] = {} if request.model is None else {"model": request.model}
    body["input"] = [item for message in request.messages for item in _items(message, stored=stored)]
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body["max_output_tokens"] = request.max_tokens
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice)
    if request.response_format is not None:
        body["text"] = {"format": _format(request.response_format)}
    if request.prompt_cache is not None:
        body |= prompt_cache(request.prompt_cache, row.quirks.prompt_cache)
    body["store"] = False
    sealed = row.quirks.sealed_reasoning
    if sealed is not None and re.match(sealed, request.model or "", re.IGNORECASE):
        body["include"] = [_SEALED]
    body["stream"] = True
    return body


def _tool(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": parameters(tool),
        "strict": tool.metadata.get("strict") is True,
    }


def _tool_choice(choice: str | Mapping[str, Any]) -> Any:
    named = isinstance(choice, str) and choice not in CHOICE_WORDS
    return {"type": "function", "name": choice} if named else choice


def _format(wanted: Any) -> Any:
    if isinstance(wanted, str):
        return {"type": wanted}
    if wanted.get("type") != "json_schema":
        return wanted
    return {
        name: value
        for name, value in named_schema(wanted).items()
        if name in ("type", "name", "description", "schema", "strict")
    }


# --- messages -----------------------------------------------------------------------------------------------------


def _items(message: Message, *, stored: bool) -> Iterable[dict[str, Any]]:
    match message.role:
        case "assistant":
            yield from _assistant(message, stored=stored)
        case "tool":
            output = _content(message)
            yield {"type": "function_call_output", "call_id": message.tool_call_id, "output": output}
        case "user":
            yield {"role": "user", "content": _content(message)}
        case _:
            yield {"role": message.role, "content": flat_text(message)}


def _content(message: Message) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str) or is_text(message):
        return flat_text(message)
    return [_part(part) for part in message.content]


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "input_text", "text": part.text}
    if isinstance(part, DocumentPart):
        return _file(part.document)
    return {"type": "input_image", "image_url": picture_url(part.image), "detail": part.detail}


def _file(document: Document) -> dict[str, Any]:
    kind, value = document.source
    if kind == "url":
        return {"type": "input_file", "file_url": value}
    return {"type": "input_file", "filename": document_name(document), "file_data": document.to_data_uri()}


def _assistant(message: Message, *, stored: bool) -> Iterable[dict[str, Any]]:
    output = provider_state(message, STATE)
    if isinstance(output, list):
        yield from _going_back(output, {call.id: call for call in message.tool_calls}, stored=stored)
        return
    text = flat_text(message)
    if text:
        yield {"role": "assistant", "content": text}
    yield from map(_call, message.tool_calls)


def _going_back(
    output: list[dict[str, Any]], called: Mapping[str, ToolCall], *, stored: bool
) -> list[dict[str, Any]]:
    """The items without calls that have no answer, and without thoughts that the server would refuse.

    It refuses thoughts that consist only of an id, and thoughts that are not followed by the items they led
    to.
    """
    kept: list[dict[str, Any]] = []
    follows = False
    for item in reversed(output):
        if item.get("type") == "reasoning":
            known = stored or item.get("encrypted_content") or item.get("content")
            if follows and known:
                kept.append(item)
            continue
        if item.get("type") != "function_call":
            follows = True
            kept.append(item)
            continue
        call = called.get(text_of(item.get("call_id")) or text_of(item.get("id")) or "")
        follows = call is not None
        if call is not None:
            # Sent back unchanged, arguments that are not JSON would be refused.
            kept.append({**item, "arguments": arguments_text(call)})
    return kept[::-1]


def _call(call: ToolCall) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": arguments_text(call),
    }


DIALECT: Final = ChatDialect(
    encode=encode, decoder=Decoder, requires_structured_finalize=has_tools_and_schema
)
