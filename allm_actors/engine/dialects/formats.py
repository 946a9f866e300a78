"""Response formats as a server takes them: natively, or told in the prompt.

Rule of this file: pure. What a server or a model takes is in its catalogue row: `schemas`, `formats_beside_tools`.
Tools are never what gives way, unless they may not be called: a model that is held to a format would call none.

    the request has                              what is sent
    -------------------------------------------  ----------------------------------------------------------------
    a schema that its model is not held to       any JSON is asked for, and the schema is told
    JSON or a schema beside tools that it does   the tools; that the last answer must be JSON, and the schema, are
    not go with                                  told
    the same, with tool_choice none              the format, without the tools
    anything else, or a server's own format      itself
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from allm_actors.data import Message, Request, TextPart
from allm_actors.data.encoding import json_text
from allm_actors.engine.catalog import Provider
from allm_actors.engine.quirks import is_one_of

__all__ = ["with_format_told"]

_ALONE = "Answer with a JSON object, and nothing else."
# "The text of": some models call a tool `json` that nobody has, see https://github.com/vercel/ai/issues/10023.
_BESIDE_TOOLS = (
    "Call the tools that you need. Your final answer must be the text of a JSON object, and nothing else."
)
_SCHEMA = " It must match this JSON schema:\n"


def with_format_told(request: Request, row: Provider) -> Request:
    """The request with a format that this server takes from its model; itself if it takes what was asked for."""
    wanted = request.response_format
    kind, schema = (wanted["type"], wanted.get("schema")) if isinstance(wanted, Mapping) else (wanted, None)
    if kind not in ("json_object", "json_schema"):
        return request
    model = str(request.options.get("model", request.model) or "")
    unread = bool(request.options.get("tools"))  # in the provider's own shape
    has_tools = bool(request.tools) or unread
    if has_tools and not _go_together(request, row, model):
        if request.tool_choice != "none" or unread:
            return _told(request, _BESIDE_TOOLS, schema, None)
        request, has_tools = msgspec.structs.replace(request, tools=[], tool_choice=None), False
    if schema is None or is_one_of(row.quirks.schemas, model):
        return request
    return _told(request, _BESIDE_TOOLS if has_tools else _ALONE, schema, {"type": "json_object"})


def _go_together(request: Request, row: Provider, model: str) -> bool:
    models = row.quirks.formats_beside_tools
    forced = request.tool_choice not in (None, "auto", "none")
    return models is None or (not forced and is_one_of(models, model))


def _told(request: Request, words: str, schema: Any, wanted: Any) -> Request:
    """The request for this format, whose first message says, behind what the system has to say, what is told."""
    told = words if schema is None else f"{words}{_SCHEMA}{json_text(schema)}"
    messages = list(request.messages)
    if messages and messages[0].role == "system":
        said = messages[0].content
        content = f"{said}\n\n{told}" if isinstance(said, str) else [*said, TextPart(text=told)]
        messages[0] = msgspec.structs.replace(messages[0], content=content)
    else:
        messages.insert(0, Message(role="system", content=told))
    return msgspec.structs.replace(request, messages=messages, response_format=wanted)
