"""Anthropic's messages: a request to its JSON.

Rule of this file: pure. Parameters that `Request` has no field for are in `request.options`, which override
every field except the forced tool of structured output.

    ours                              on the wire
    system messages, wherever         system, joined by empty lines
    tool messages                     tool_result blocks; those in a row are one user message
    an assistant's calls              tool_use blocks; thoughts and server tools go back as they came, but for what was
                                      cut off: it would be refused for as long as the conversation lasts. See `claude`
                                      for those whose beginning has changed
    tool_choice required, a name      {"type": "any"}, {"type": "tool", "name": …}
    response_format json_schema       a tool `respond_with_json_<name>` (and a number, if the user has one of that name)
                                      that must be called, or, beside tools, may be called in their place; see
                                      `events`. A model that thinks is not forced; one that never can be gets
                                      output_config.format, if the schema allows it
    max_tokens                        max_tokens; by default 1024, but 64000, which these allow, for models that think
                                      unless told not to: it limits their thoughts and their answer together
    documents                         document blocks: a PDF, or a text, which is text/plain whatever kind it is
    prompt_cache                      cache_control of the whole request; a cache key has no field in this format

Source: https://docs.anthropic.com/en/api/messages, and recorded exchanges.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import groupby, takewhile
from operator import itemgetter
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
)
from allm_actors.engine.catalog import Provider
from allm_actors.engine.dialects.answer import provider_state
from allm_actors.engine.dialects.anthropic.events import JSON_TOOL, STATE, Decoder
from allm_actors.engine.dialects.body import chat_request, check_turns, flat_text, is_text, parameters
from allm_actors.engine.dialects.chat import ChatDialect, has_schema
from allm_actors.engine.dialects.claude import (
    BETA,
    binds_thoughts,
    can_be_forced,
    constrained,
    keep_stale_thoughts_out,
    needs_beta,
    thinks_too_late,
    thinks_unasked,
)
from allm_actors.engine.dialects.documents import ANYWHERE, Documents, document_data
from allm_actors.engine.dialects.histories import without_loose_ends
from allm_actors.engine.dialects.lenient import dict_of, dicts_of, text_of
from allm_actors.engine.dialects.parameters import known
from allm_actors.engine.dialects.parts import check_parts
from allm_actors.engine.dialects.pictures import picture_data
from allm_actors.engine.wire import HttpRequest

__all__ = ["DIALECT", "encode"]

_PATH = "/v1/messages"
_HEADERS = {
    "content-type": "application/json",
    "accept": "text/event-stream",
    "anthropic-version": "2023-06-01",
}
_MAX_TOKENS = 1024
_MAX_TOKENS_WITH_THOUGHTS = 64_000
_PDF = "application/pdf"
_KINDS = {
    "thinking": "thought",
    "redacted_thinking": "thought",
    "tool_use": "call",
    "tool_result": "result",
}
_SERVED = ("server_tool_use", "mcp_tool_use")
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME = 128


def encode(request: Request, row: Provider, base_url: str) -> HttpRequest:
    """The streaming HTTP request, without its key.

    Raises: `ValidationError` and `AdapterError("unsupported_feature")` for what cannot be sent.
    """
    check_parts(request.messages, row, _DOCUMENTS)
    body = _body(request) | request.options
    body = known(body, row, body.get("model"))
    check_turns(body["messages"], row.label)
    if thinks_too_late(body.get("thinking"), body["messages"], _kinds):
        del body["thinking"]
    _force_json(request, body)
    if binds_thoughts(body.get("model")):
        keep_stale_thoughts_out(body, body, _kinds)
    headers = {**_HEADERS, "anthropic-beta": BETA} if needs_beta(body.get("thinking")) else _HEADERS
    return chat_request(base_url + _PATH, body, headers)


def _body(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = {} if request.model is None else {"model": request.model}
    body["max_tokens"] = _most_tokens(request) if request.max_tokens is None else request.max_tokens
    system = [flat_text(message) for message in request.messages if message.role == "system"]
    system = [text for text in system if text.strip()]
    if system:
        body["system"] = "\n\n".join(system)
    body["messages"] = list(_turns(request.messages))
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    choice = _tool_choice(request.tool_choice)
    if choice is not None:
        body["tool_choice"] = choice
    if request.prompt_cache is not None:
        long = {"ttl": "1h"} if request.prompt_cache.get("retention") == "long" else {}
        body["cache_control"] = {"type": "ephemeral", **long}
    body["stream"] = True
    return body


def _most_tokens(request: Request) -> int:
    thinks = thinks_unasked(request.options.get("model", request.model))
    return _MAX_TOKENS_WITH_THOUGHTS if thinks else _MAX_TOKENS


def _tool(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": parameters(tool)}


def _tool_choice(choice: str | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    match choice:
        case None | "auto":
            return None
        case "none":
            return {"type": "none"}
        case "required":
            return {"type": "any"}
        case str():
            return {"type": "tool", "name": choice}
        case _:
            return choice


def _force_json(request: Request, body: dict[str, Any]) -> None:
    wanted = request.response_format
    if not has_schema(wanted):
        return
    config, own = dict_of(body.get("output_config")), _names(request)
    if "format" in config or _has_answered(request.messages, own):
        return
    held = None if can_be_forced(body.get("model")) else constrained(wanted["schema"])
    if held is not None:
        body["output_config"] = {**config, "format": {"type": "json_schema", "schema": held}}
        return
    name = _json_tool(wanted.get("name") or "answer", own)
    description = "Return the final result as a JSON object matching the schema."
    tool = {"name": name, "description": description, "input_schema": wanted["schema"]}
    others = body.get("tools") if request.tool_choice != "none" else None
    body["tools"] = [*body.get("tools", ()), tool]
    body["tool_choice"] = _forced(name, beside=bool(others), asked=_may_not_be_forced(body))


def _names(request: Request) -> frozenset[str]:
    """The names of the user's tools, those in the provider's own words among them."""
    raw = dicts_of(request.options.get("tools"))
    return frozenset([*(tool.name for tool in request.tools), *(str(tool.get("name")) for tool in raw)])


def _json_tool(wanted: str, own: frozenset[str]) -> str:
    """The name of the tool whose call is the answer; none of the user's tools has it."""
    name = fits = _NO_NAME.sub("_", f"{JSON_TOOL}{wanted}")[:_LONGEST_NAME]
    number = 1
    while fits in own:
        number += 1
        fits = f"{name[: _LONGEST_NAME - 4]}_{number}"
    return fits


def _has_answered(messages: Iterable[Message], own: frozenset[str]) -> bool:
    """Whether the last step has a call of the JSON tool as an ordinary tool call: forced again, it would never end.

    No answer decoded here has such a call, because it becomes the answer's text; messages from elsewhere may.
    """
    spoken = [message for message in messages if message.role != "system"]
    step = takewhile(lambda message: message.role != "user", reversed(spoken))
    called = {call.name for message in step for call in message.tool_calls}
    return any(name.startswith(JSON_TOOL) for name in called - own)


def _forced(name: str, *, beside: bool, asked: bool) -> dict[str, Any]:
    # A model that is forced to answer at once cannot call the tools it needs for the answer, and invents one.
    # And some models may only be asked to call a tool.
    if beside:
        return {"type": "auto" if asked else "any"}
    forced = {"type": "auto"} if asked else {"type": "tool", "name": name}
    return {**forced, "disable_parallel_tool_use": True}  # one answer


def _kinds(content: Any) -> list[str]:
    return [_KINDS.get(str(block.get("type")), "") for block in dicts_of(content)]


def _may_not_be_forced(body: Mapping[str, Any]) -> bool:
    """Whether the API refuses a forced tool: for some models always, for the others while they think."""
    thinking = body.get("thinking")
    thinks = isinstance(thinking, Mapping) and thinking.get("type") in ("enabled", "adaptive")
    return thinks or not can_be_forced(body.get("model"))


# --- messages -------------------------------------------------------------------------------------------------


def _turns(messages: Iterable[Message]) -> Iterable[dict[str, Any]]:
    spoken = [message for message in messages if message.role != "system"]
    said = ((message.role, _content(message, goes_on=message is spoken[-1])) for message in spoken)
    for role, group in groupby(((role, content) for role, content in said if content), key=itemgetter(0)):
        if role == "tool":
            yield {"role": "user", "content": [block for _, blocks in group for block in blocks]}
        else:
            yield from ({"role": role, "content": content} for _, content in group)


def _content(message: Message, *, goes_on: bool) -> str | list[Any]:
    if message.role == "tool":
        return [_result(message)]
    return _user(message) if message.role == "user" else _assistant(message, goes_on=goes_on)


def _result(message: Message) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": _user(message)}


def _user(message: Message) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str) or is_text(message):
        return _said(flat_text(message))
    return [
        _part(part) for part in message.content if not (isinstance(part, TextPart) and not _said(part.text))
    ]


def _said(text: str) -> str:
    """The text, unless it is blank: that is refused, with the whole conversation."""
    return text if text.strip() else ""


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, DocumentPart):
        return _document(part.document)
    kind, value = part.image.source
    if kind == "url":
        return {"type": "image", "source": {"type": "url", "url": value}}
    mime_type, data = picture_data(part.image)
    return {"type": "image", "source": {"type": "base64", "media_type": mime_type, "data": data}}


def _document(document: Document) -> dict[str, Any]:
    titled = {} if document.title is None else {"title": document.title}
    return {"type": "document", "source": _document_source(document), **titled}


def _document_source(document: Document) -> dict[str, Any]:
    kind, value = document.source
    if kind == "url":
        return {"type": "url", "url": value}
    if document.mime_type != _PDF:
        return {"type": "text", "media_type": "text/plain", "data": document.to_bytes().decode()}
    return {"type": "base64", "media_type": _PDF, "data": document_data(document)}


def _document_failure(document: Document) -> str | None:
    mime_type = document.mime_type
    if mime_type == _PDF or (mime_type is None and document.source[0] == "url"):
        return None
    if document.source[0] == "url" or not str(mime_type).startswith("text/"):
        return "unsupported_document_format"
    try:
        document.to_bytes().decode()
    except UnicodeDecodeError:
        return "unresolvable_document"
    return None


_DOCUMENTS = Documents(roles=frozenset({"user", "tool"}), urls=ANYWHERE, failure=_document_failure)


def _assistant(message: Message, *, goes_on: bool) -> str | list[dict[str, Any]]:
    """The content of an assistant's message. It `goes_on` if no message follows: the model continues it."""
    text = flat_text(message)
    blocks = provider_state(message, STATE)
    if isinstance(blocks, list):
        called = {call.id for call in message.tool_calls}
        wanted = [block for block in _with_text(blocks, text) if _is_wanted(block, called)]
        return without_loose_ends(wanted, _read, goes_on=goes_on)
    text = _said(text.rstrip() if goes_on else text)  # with white space at its end it is refused
    if not message.tool_calls:
        return text
    spoken = [{"type": "text", "text": text}] if text else []
    return [*spoken, *map(_tool_use, message.tool_calls)]


def _with_text(blocks: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """The blocks, with the message's text inserted if the text blocks do not have it.

    A structured answer came as a call of a tool that is not the user's, so it goes back as text, before any
    calls.
    """
    if text == "".join(text_of(block.get("text")) or "" for block in blocks if block.get("type") == "text"):
        return blocks
    kinds = [block.get("type") for block in blocks]
    at = kinds.index("tool_use") if "tool_use" in kinds else len(kinds)
    return [*blocks[:at], {"type": "text", "text": text}, *blocks[at:]]


def _is_wanted(block: Mapping[str, Any], called: set[str]) -> bool:
    """Whether a block may be sent back: not a call that was removed, a blank text, or a thought without signature."""
    match block.get("type"):
        case "tool_use":
            return text_of(block.get("id")) in called
        case "text":
            return bool(_said(text_of(block.get("text")) or ""))
        case "thinking":
            return bool(text_of(block.get("signature")))
        case _:
            return True


def _read(block: Mapping[str, Any]) -> tuple[str, Any]:
    """A block's kind and the id of its call, as `without_loose_ends` expects them."""
    if block.get("type") in _SERVED:
        return "served", block.get("id")
    if "tool_use_id" in block:
        return "result", block["tool_use_id"]
    return _KINDS.get(str(block.get("type")), ""), None


def _tool_use(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}


def _decoder_for(request: Request) -> Callable[[Provider], Decoder]:
    return partial(Decoder, own=_names(request))


DIALECT: Final = ChatDialect(encode=encode, decoder=Decoder, decoder_for=_decoder_for)
