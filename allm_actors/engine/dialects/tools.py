"""Tools as a model can read them.

Rule of this file: pure. The tools of the request are not changed, only those that are sent.

Source: https://github.com/pydantic/pydantic-ai/issues/10243 (GLM-5.3 writes an argument whose type is a definition as
a text), https://github.com/pydantic/pydantic-ai/blob/main/pydantic_ai_slim/pydantic_ai/profiles/openai.py ("gpt-oss
doesn't see a tool schema's `$defs`, wherever it's served"); both read 2026-11.
"""

from __future__ import annotations

import re

import msgspec

from allm_actors.data import Request
from allm_actors.data.schemas.inlining import inlined

__all__ = ["spelled_out"]

# As the hosts call them: `openai/gpt-oss-120b`, `zai-glm-5-3`, `glm-5p3`.
_READ_NO_DEFINITIONS = re.compile(r"gpt-oss|glm-5[.p-]3(?!\d)", re.IGNORECASE)


def spelled_out(request: Request) -> Request:
    """The request with schemas of tools that its model can read; itself if it reads any."""
    model = str(request.options.get("model", request.model) or "")
    if not request.tools or not _READ_NO_DEFINITIONS.search(model):
        return request
    tools = [msgspec.structs.replace(tool, schema=inlined(tool.schema)) for tool in request.tools]
    return msgspec.structs.replace(request, tools=tools)
