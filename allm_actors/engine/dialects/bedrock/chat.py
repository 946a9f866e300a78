"""Bedrock's Converse: a request to its JSON.

Rule of this file: pure. Parameters that `Request` has no field for are in `request.options`, which override
every field: names of the wire request's own fields stay at its top level, names of `inferenceConfig` go
there, and all others are parameters of the model, in `additionalModelRequestFields`.

    ours                              on the wire
    model                             in the path: an id, an inference profile, or an ARN
    system messages, wherever         system, a block each
    successive messages of one role   one message; tool messages are toolResult blocks of the user's. Blank ones are
                                      left out: the roles must alternate
    documents                         document blocks; see `documents`. A message with nothing else gets a text, too,
                                      because Converse wants one beside a document
    an assistant's calls              toolUse blocks; thoughts and server tools go back as they came, but for what was
                                      cut off: it would be refused for as long as the conversation lasts
    max_tokens, temperature           inferenceConfig
    tool_choice required, a name      {"any": {}}, {"tool": {"name": …}}
    tool_choice none                  no tools, except those called in the conversation, which must be declared
    response_format json_schema       outputConfig, for models that have it, see the row; see `claude` for what of a
                                      schema it takes
    pictures                          bytes; a URL is refused
    prompt_cache                      a cachePoint after the system's blocks, and one at the end, or before documents
                                      there, after which it is refused (but for a PDF); no cache key

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html,
https://github.com/strands-agents/harness-sdk/issues/1966 (cache points), and recorded exchanges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any, Final
from urllib.parse import quote

from allm_actors.data import (
    AdapterError,
    DocumentPart,
    Message,
    Part,
    Request,
    TextPart,
    Tool,
    ToolCall,
)
from allm_actors.data.encoding import json_text
from allm_actors.engine.catalog import Provider
from allm_actors.engine.dialects.answer import provider_state
from allm_actors.engine.dialects.bedrock.documents import DOCUMENTS, document_block, named
from allm_actors.engine.dialects.bedrock.events import STATE, Decoder
from allm_actors.engine.dialects.body import check_turns, flat_text, json_body, parameters
from allm_actors.engine.dialects.chat import ChatDialect, has_schema
from allm_actors.engine.dialects.claude import (
    BETA,
    binds_thoughts,
    constrained,
    keep_stale_thoughts_out,
    needs_beta,
    thinks_too_late,
)
from allm_actors.engine.dialects.histories import vendor_of, without_loose_ends
from allm_actors.engine.dialects.lenient import dict_of, text_of
from allm_actors.engine.dialects.parameters import known
from allm_actors.engine.dialects.parts import check_parts
from allm_actors.engine.dialects.pictures import picture_data
from allm_actors.engine.wire import HttpRequest

__all__ = ["DIALECT", "encode"]

_HEADERS = {"content-type": "application/json", "accept": "application/vnd.amazon.eventstream"}
_FIELDS = (
    *("messages", "system", "toolConfig", "guardrailConfig", "promptVariables", "requestMetadata"),
    *("performanceConfig", "serviceTier", "outputConfig", "additionalModelResponseFieldPaths"),
    "projectIdentifier",
)
_AS_BYTES = frozenset({"user", "tool"})
_PROMPT = ":prompt/"  # in the ARN of a managed prompt, which has messages of its own
_BESIDE_A_DOCUMENT = "See the document."
_KINDS = {"reasoningContent": "thought", "toolUse": "call", "toolResult": "result"}
_INFERENCE = ("maxTokens", "temperature", "topP", "stopSequences")


def encode(request: Request, row: Provider, base_url: str) -> HttpRequest:
    """The streaming HTTP request, without its key.

    Raises: `ValidationError` and `AdapterError("unsupported_feature")` for what cannot be sent.
    """
    check_parts(request.messages, row, DOCUMENTS, as_bytes=_AS_BYTES)
    model = str(request.options.get("model", request.model))
    body = _body(request, row)
    if _PROMPT not in model:
        check_turns(body["messages"], row.label)
    url = f"{base_url}/model/{quote(model, safe='')}/converse-stream"
    return HttpRequest(url=url, body=json_body(body), headers=_HEADERS)


def _body(request: Request, row: Provider) -> dict[str, Any]:
    given = request.options
    model = given.get("model", request.model)
    vendor = vendor_of(str(model or ""))
    body: dict[str, Any] = {"messages": list(_turns(named(request.messages), vendor))}
    system = [{"text": text} for text in _system(request.messages)]
    if system:
        body["system"] = system
    if request.prompt_cache is not None:
        _mark(body, request.prompt_cache)
    inference = known(_inference(request), row, model)
    if inference:
        body["inferenceConfig"] = inference
    tools = _tool_config(request, row)
    if tools:
        body["toolConfig"] = tools
    wanted = request.response_format
    if has_schema(wanted):
        body["outputConfig"] = {"textFormat": _format(wanted)}
    ours = (*_FIELDS, *_INFERENCE, "inferenceConfig", "additionalModelRequestFields", "model")
    extra = {name: value for name, value in given.items() if name not in ours}
    extra |= given.get("additionalModelRequestFields") or {}
    if thinks_too_late(extra.get("thinking"), body["messages"], _kinds):
        del extra["thinking"]
    extra = known(extra, row, model)
    if binds_thoughts(model):
        keep_stale_thoughts_out(body, extra, _kinds)
    if needs_beta(extra.get("thinking")):
        extra["anthropic_beta"] = [*dict.fromkeys([*(extra.get("anthropic_beta") or ()), BETA])]
    if extra:
        body["additionalModelRequestFields"] = extra
    return body | {name: given[name] for name in _FIELDS if name in given}


def _kinds(content: list[dict[str, Any]]) -> list[str]:
    return [next((_KINDS[name] for name in block if name in _KINDS), "") for block in content]


def _inference(request: Request) -> dict[str, Any]:
    ours = {"maxTokens": request.max_tokens, "temperature": request.temperature}
    inference = {name: value for name, value in ours.items() if value is not None}
    inference |= {name: request.options[name] for name in _INFERENCE if name in request.options}
    return inference | (request.options.get("inferenceConfig") or {})


def _format(wanted: Mapping[str, Any]) -> dict[str, Any]:
    schema = {"schema": json_text(constrained(wanted["schema"]) or wanted["schema"])}
    schema |= {name: wanted[name] for name in ("name", "description") if wanted.get(name)}
    return {"type": "json_schema", "structure": {"jsonSchema": schema}}


def _mark(body: Mapping[str, Any], cache: Mapping[str, Any]) -> None:
    """Set the cache points: what comes before them is cached. The first one covers the tools, too."""
    long = {"ttl": "1h"} if cache.get("retention") == "long" else {}
    for blocks in (body.get("system"), body["messages"][-1]["content"] if body["messages"] else None):
        if blocks:
            blocks.insert(_before_documents(blocks), {"cachePoint": {"type": "default", **long}})


def _before_documents(blocks: list[dict[str, Any]]) -> int:
    """Where a cache point goes: to the end, but not right after a document, unless it is a PDF."""
    at = len(blocks)
    while at and dict_of(blocks[at - 1].get("document")).get("format", "pdf") != "pdf":
        at -= 1
    return at


# --- tools ----------------------------------------------------------------------------------------------------


def _tool_config(request: Request, row: Provider) -> dict[str, Any] | None:
    choice = _tool_choice(request.tool_choice)
    chosen = choice is not None or request.tool_choice == "none"
    if chosen and not request.tools and request.options.keys() & {"tools", "toolConfig"}:
        raise _no_choice(row)
    tools = request.tools if request.tool_choice != "none" else []
    if not tools:
        # A conversation with calls in it is refused unless those tools are declared.
        used = (call.name for message in request.messages for call in message.tool_calls)
        tools = [Tool(name=name, description="", schema={}) for name in dict.fromkeys(used)]
    if not tools:
        return None
    config: dict[str, Any] = {"tools": [_tool(tool) for tool in tools]}
    return config if choice is None or not request.tools else {**config, "toolChoice": choice}


def _no_choice(row: Provider) -> AdapterError:
    message = (
        f"{row.label} takes a tool_choice only beside tools=: with tools in a model's own form, put the choice "
        "into the request's options, in that form, too"
    )
    return AdapterError("unsupported_feature", provider=row.name, message=message)


def _tool(tool: Tool) -> dict[str, Any]:
    said = {"description": tool.description} if tool.description else {}  # it may not be empty
    return {"toolSpec": {"name": tool.name, **said, "inputSchema": {"json": parameters(tool)}}}


def _tool_choice(choice: str | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    match choice:
        case None | "auto" | "none":
            return None
        case "required":
            return {"any": {}}
        case str():
            return {"tool": {"name": choice}}
        case _:
            return choice


# --- messages -------------------------------------------------------------------------------------------------


def _system(messages: Iterable[Message]) -> Iterable[str]:
    return filter(str.strip, (flat_text(message) for message in messages if message.role == "system"))


def _turns(messages: Iterable[Message], vendor: str) -> Iterable[dict[str, Any]]:
    spoken = [message for message in messages if message.role != "system"]
    told = [
        ("assistant", _assistant(message, vendor, goes_on=message is spoken[-1]))
        if message.role == "assistant"
        else ("user", _user(message))
        for message in spoken
    ]
    for role, group in groupby(((role, blocks) for role, blocks in told if blocks), key=itemgetter(0)):
        content = [block for _, blocks in group for block in blocks]
        alone = any("document" in block for block in content) and not any(
            "text" in block for block in content
        )
        yield {"role": role, "content": [*content, {"text": _BESIDE_A_DOCUMENT}] if alone else content}


def _user(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [{"toolResult": {"toolUseId": message.tool_call_id, "content": _said(message)}}]
    return _said(message)


def _said(message: Message) -> list[dict[str, Any]]:
    if isinstance(message.content, str):
        return _text(message.content)
    return [block for part in message.content for block in _part(part)]


def _text(text: str) -> list[dict[str, Any]]:
    return [{"text": text}] if text.strip() else []  # a blank block is refused


def _part(part: Part) -> list[dict[str, Any]]:
    if isinstance(part, TextPart):
        return _text(part.text)
    if isinstance(part, DocumentPart):
        return [document_block(part.document)]
    mime_type, data = picture_data(part.image)
    return [{"image": {"format": mime_type.removeprefix("image/"), "source": {"bytes": data}}}]


def _assistant(message: Message, vendor: str, *, goes_on: bool) -> list[dict[str, Any]]:
    """The content of an assistant's message. It `goes_on` if no message follows: the model continues it."""
    blocks = provider_state(message, STATE)
    if isinstance(blocks, list):
        called = {call.id for call in message.tool_calls}
        wanted = [block for block in blocks if _is_wanted(block, called) and _is_for(block, vendor)]
        return without_loose_ends(wanted, _read, goes_on=goes_on)
    text = flat_text(message)
    return [*_text(text.rstrip() if goes_on else text), *map(_tool_use, message.tool_calls)]


def _is_wanted(block: Mapping[str, Any], called: set[str]) -> bool:
    """Whether a block may be sent back: not a call that was removed from the message, or a blank text."""
    if "text" in block:
        return bool(_text(text_of(block["text"]) or ""))
    kind, id = _read(block)
    return kind != "call" or id in called


def _read(block: Mapping[str, Any]) -> tuple[str, Any]:
    """A block's kind and the id of its call, as `without_loose_ends` expects them."""
    name = next((name for name in _KINDS if name in block), "")
    inner = dict_of(block.get(name))
    served = name == "toolUse" and inner.get("type") == "server_tool_use"
    return "served" if served else _KINDS.get(name, ""), text_of(inner.get("toolUseId"))


def _is_for(block: Mapping[str, Any], vendor: str) -> bool:
    """Whether a block may go to a model of this vendor. The wire does not name a block's maker, but only Claude signs.

    Claude refuses unsigned thoughts, and all other models refuse signed ones.
    """
    if "reasoningContent" not in block or not vendor:
        return True
    thought = dict_of(block["reasoningContent"])
    signed = bool(thought.get("redactedContent") or dict_of(thought.get("reasoningText")).get("signature"))
    return signed == (vendor == "anthropic")


def _tool_use(call: ToolCall) -> dict[str, Any]:
    return {"toolUse": {"toolUseId": call.id, "name": call.name, "input": call.arguments}}


DIALECT: Final = ChatDialect(
    encode=encode, decoder=Decoder, stream_types=frozenset({"application/vnd.amazon.eventstream"})
)
