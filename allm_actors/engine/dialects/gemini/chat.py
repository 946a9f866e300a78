"""Gemini's generateContent: a request to its JSON.

Rule of this file: pure. Parameters that `Request` has no field for are in `request.options`, which override
every field: names of the wire request's own fields stay at its top level, all others go into
`generationConfig`. `generationConfig` and `toolConfig` are overridden field by field.

    ours                              on the wire
    system messages, wherever         systemInstruction, joined by empty lines
    tool messages                     functionResponse parts; those in a row are one content
    an assistant's messages           those in a row are one content
    an assistant's calls              functionCall parts with their signatures; parts in `provider_state` unchanged
    tools                             functionDeclarations; a schema that `parameters` does not support fully is sent as
                                      parametersJsonSchema
    tool_choice                       toolConfig.functionCallingConfig
    documents                         inlineData, or fileData with a URL
    response_format json_schema       responseMimeType, and responseSchema or responseJsonSchema
    prompt_cache                      nothing: this provider caches by itself

Source: https://ai.google.dev/api/generate-content, and recorded exchanges.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any, Final
from urllib.parse import quote

from allm_actors.data import (
    AdapterError,
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
from allm_actors.engine.catalog import NEWER_GEMINI, Provider
from allm_actors.engine.dialects.answer import provider_state
from allm_actors.engine.dialects.body import check_turns, flat_text, json_body
from allm_actors.engine.dialects.chat import ChatDialect, has_schema
from allm_actors.engine.dialects.documents import ANYWHERE, Documents, document_data
from allm_actors.engine.dialects.gemini.chunks import STATE, SYNTHETIC_ID, Decoder
from allm_actors.engine.dialects.gemini.request import MOST_BYTES, TOP_LEVEL, too_large
from allm_actors.engine.dialects.parts import check_parts
from allm_actors.engine.dialects.pictures import picture_data
from allm_actors.engine.wire import HttpRequest

__all__ = ["DIALECT", "encode"]

_HEADERS = {"content-type": "application/json", "accept": "text/event-stream"}
_DOCUMENTS = Documents(urls=ANYWHERE)
_AS_BYTES = frozenset({"user"})
_MERGED = ("generationConfig", "toolConfig")
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
_OPTIONS = {
    "top_p": "topP",
    "top_k": "topK",
    "stop": "stopSequences",
    "max_tokens": "maxOutputTokens",
    "response_mime_type": "responseMimeType",
    "response_schema": "responseSchema",
}
# The JSON Schema keywords that `parameters` and `responseSchema` support; a schema with any other needs `…JsonSchema`.
# Not `anyOf`: beside a description or a default it is refused ("any_of … must be the only field set").
_SCHEMA_WORDS = frozenset(
    (
        *("type", "format", "title", "description", "nullable", "enum", "default", "example", "pattern"),
        *("items", "minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum"),
        *("properties", "required", "minProperties", "maxProperties", "propertyOrdering"),
    )
)
_FORMATS = {
    "string": ("enum", "date-time"),
    "number": ("float", "double"),
    "integer": ("int32", "int64"),
}
_DROPPED_WORDS = ("additionalProperties", "$schema")
# Newer models refuse a call without their signature; a call that another model made gets a placeholder instead.
_SIGNS = re.compile(NEWER_GEMINI, re.IGNORECASE)
_FOREIGN_SIGNATURE = "skip_thought_signature_validator"


def encode(request: Request, row: Provider, base_url: str) -> HttpRequest:
    """The streaming HTTP request, without its key.

    Raises: `ValidationError` and `AdapterError`, `unsupported_feature` or, for files that are too large together,
    `invalid_request`, for what cannot be sent.
    """
    check_parts(request.messages, row, _DOCUMENTS, in_answers=False, as_bytes=_AS_BYTES)
    model = quote(str(request.options.get("model", request.model)).removeprefix("models/"), safe="")
    url = f"{base_url}/models/{model}:streamGenerateContent?alt=sse"
    wire = _body(request)
    check_turns(wire["contents"], row.label)
    body = json_body(wire)
    why = too_large(body, row.label)
    if why is not None:
        size = {"count": len(body), "max": MOST_BYTES}
        raise AdapterError("invalid_request", provider=row.name, message=why, metadata=size)
    return HttpRequest(url=url, body=body, headers=_HEADERS)


def _body(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = {"contents": list(_contents(request))}
    system = [flat_text(message) for message in request.messages if message.role == "system"]
    if any(system):
        body["systemInstruction"] = {"parts": [{"text": "\n\n".join(filter(None, system))}]}
    if request.tools:
        body["tools"] = [{"functionDeclarations": [_tool(tool) for tool in request.tools]}]
    if request.tool_choice is not None:
        body["toolConfig"] = _tool_config(request.tool_choice)
    config = _generation_config(request)
    options = {name: value for name, value in request.options.items() if name != "model"}
    config |= {_OPTIONS.get(name, name): value for name, value in options.items() if name not in TOP_LEVEL}
    if config:
        body["generationConfig"] = config
    given = {name: value for name, value in options.items() if name in TOP_LEVEL}
    for name in _MERGED:
        if isinstance(given.get(name), Mapping):
            given[name] = {**body.get(name, {}), **given[name]}
    return body | given


def _generation_config(request: Request) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if request.max_tokens is not None:
        config["maxOutputTokens"] = request.max_tokens
    if request.temperature is not None:
        config["temperature"] = request.temperature
    wanted = request.response_format
    kind = wanted.get("type") if isinstance(wanted, Mapping) else wanted
    if kind in ("json_object", "json_schema"):
        config["responseMimeType"] = "application/json"
    if has_schema(wanted):
        config |= _schema(wanted["schema"], "responseSchema", "responseJsonSchema")
    return config


def _tool(tool: Tool) -> dict[str, Any]:
    schema = _schema(tool.schema, "parameters", "parametersJsonSchema")
    return {"name": tool.name, "description": tool.description, **schema}


def _schema(schema: Any, plain: str, full: str) -> dict[str, Any]:
    """The schema under the field, `plain` or `full`, that supports all of it."""
    return {plain: _without(schema)} if _is_simple(schema, of_all=True) else {full: schema}


def _without(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: value for name, value in schema.items() if name not in _DROPPED_WORDS}
    properties = kept.get("properties")
    made = {name: _without(value) for name, value in kept.items()}
    if isinstance(properties, dict):  # the keys here are names of properties, not schema keywords
        made["properties"] = {name: _without(value) for name, value in properties.items()}
    return made


def _is_simple(schema: Any, *, of_all: bool = False) -> bool:
    """Whether the plain field supports the schema with the same meaning; `of_all`: the schema of all arguments."""
    if isinstance(schema, list):
        return all(map(_is_simple, schema))
    if not isinstance(schema, dict):
        return True
    if not _SCHEMA_WORDS.issuperset(name for name in schema if name not in _DROPPED_WORDS):
        return False
    if not _is_simple_kind(schema, of_all=of_all):
        return False
    return all(map(_is_simple, [schema.get("items"), *(schema.get("properties") or {}).values()]))


def _is_simple_kind(schema: Mapping[str, Any], *, of_all: bool) -> bool:
    kind = schema.get("type")
    if isinstance(kind, list) or isinstance(schema.get("additionalProperties"), Mapping):
        return False
    if kind is None and not of_all:
        return False  # the plain field requires a type
    name = str(kind).lower()
    if "format" in schema and schema["format"] not in _FORMATS.get(name, ()):
        return False
    if name == "object":
        return of_all or bool(schema.get("properties"))  # an inner one may not be empty
    values = schema.get("enum")
    return (name != "array" or "items" in schema) and (
        not isinstance(values, list) or (name == "string" and all(isinstance(value, str) for value in values))
    )


def _tool_config(choice: str | Mapping[str, Any]) -> Mapping[str, Any]:
    match choice:
        case str() if choice in _MODES:
            return {"functionCallingConfig": {"mode": _MODES[choice]}}
        case str():
            return {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [choice]}}
        case {"functionCallingConfig": _} | {"function_calling_config": _}:
            return choice
        case _:
            return {"functionCallingConfig": choice}


# --- contents -----------------------------------------------------------------------------------------------------


def _contents(request: Request) -> Iterable[dict[str, Any]]:
    names = {call.id: call for message in request.messages for call in message.tool_calls}
    signs = _SIGNS.search(str(request.options.get("model", request.model) or "")) is not None
    spoken = (message for message in request.messages if message.role != "system")
    told = ((message.role, _parts(message, names, signs=signs)) for message in spoken)
    for role, group in groupby(((role, parts) for role, parts in told if parts), key=itemgetter(0)):
        if role == "user":
            yield from ({"role": "user", "parts": parts} for _, parts in group)
            continue
        # Calls have to come right after a message of the user or of tools, and all their answers right after them.
        sender = "user" if role == "tool" else "model"
        yield {"role": sender, "parts": [part for _, parts in group for part in parts]}


def _parts(message: Message, names: Mapping[str, ToolCall], *, signs: bool) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [_result(message, names)]
    return _user(message) if message.role == "user" else _assistant(message, signs=signs)


def _result(message: Message, calls: Mapping[str, ToolCall]) -> dict[str, Any]:
    call = calls.get(message.tool_call_id or "")
    name = message.name or (call.name if call is not None else None)
    if name is None:
        why = f"the tool message for {message.tool_call_id!r} answers a call that is not in this request"
        raise ValidationError("invalid_request", [("messages", "answer_without_call")], message=why)
    response: dict[str, Any] = {"name": name, "response": {"output": flat_text(message)}}
    return {"functionResponse": response | _id(message.tool_call_id, call)}


def _id(call_id: str | None, call: ToolCall | None) -> dict[str, Any]:
    return {} if call is not None and call.metadata.get(SYNTHETIC_ID) else {"id": call_id}


def _user(message: Message) -> list[dict[str, Any]]:
    if isinstance(message.content, str):
        return _text(message.content)
    return [sent for part in message.content for sent in _part(part)]


def _text(text: str) -> list[dict[str, Any]]:
    return [{"text": text}] if text.strip() else []  # Vertex refuses a blank one


def _part(part: Part) -> list[dict[str, Any]]:
    if isinstance(part, TextPart):
        return _text(part.text)
    if isinstance(part, DocumentPart):
        return [_document(part.document)]
    mime_type, data = picture_data(part.image)
    return [{"inlineData": {"mimeType": mime_type, "data": data}}]


def _document(document: Document) -> dict[str, Any]:
    kind, value = document.source
    typed = {} if document.mime_type is None else {"mimeType": document.mime_type}
    if kind == "url":
        return {"fileData": {**typed, "fileUri": value}}
    return {"inlineData": {**typed, "data": document_data(document)}}


def _assistant(message: Message, *, signs: bool) -> list[dict[str, Any]]:
    kept = provider_state(message, STATE)
    if isinstance(kept, list):
        parts = _kept(kept, message.tool_calls)
    else:
        text = flat_text(message)
        parts = [*([{"text": text}] if text else ()), *map(_call, message.tool_calls)]
    first = next((at for at, part in enumerate(parts) if "functionCall" in part), None)
    if signs and first is not None and "thoughtSignature" not in parts[first]:
        return [*parts[:first], {**parts[first], "thoughtSignature": _FOREIGN_SIGNATURE}, *parts[first + 1 :]]
    return parts


def _call(call: ToolCall) -> dict[str, Any]:
    part: dict[str, Any] = {"functionCall": {"name": call.name, "args": call.arguments} | _id(call.id, call)}
    if "thoughtSignature" in call.metadata:
        part["thoughtSignature"] = call.metadata["thoughtSignature"]
    return part


def _kept(parts: list[dict[str, Any]], calls: list[ToolCall]) -> list[dict[str, Any]]:
    """The parts as they came; if calls were removed from the message since, its calls replace those among the parts."""
    if sum("functionCall" in part for part in parts) == len(calls):
        return parts
    return [*(part for part in parts if "functionCall" not in part), *map(_call, calls)]


DIALECT: Final = ChatDialect(encode=encode, decoder=Decoder)
