"""A provider on loopback that does what it is asked: calls each tool once, fills in a schema, and else has one answer.

Rule of this file: what it says follows from the request alone, so that any page and any example can talk to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from allm_actors.data import ToolCall
from allm_actors.testing.exchanges import chat_completions
from allm_actors.testing.loopback import Reply, Request

__all__ = ["TEXT", "answer"]

TEXT = "Yes: light rain, 17 degrees."
USAGE = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
VALUES = {"string": "Lisbon", "integer": 1, "number": 1.0, "boolean": True, "array": []}


def answer(request: Request) -> Reply:
    """Calls every tool after a user's message, unless it may not; then answers."""
    asked = request.json
    tools = asked.get("tools") if asked.get("tool_choice") != "none" else None
    if tools and asked["messages"][-1]["role"] == "user":
        calls = [_call(index, tool["function"]) for index, tool in enumerate(tools)]
        return Reply(chunks=chat_completions(tool_calls=calls, usage=USAGE))
    wanted = asked.get("response_format", {}).get("json_schema")
    text = TEXT if wanted is None else msgspec.json.encode(_filled(wanted["schema"])).decode()
    return Reply(chunks=chat_completions(text=text, usage=USAGE))


def _call(index: int, function: Mapping[str, Any]) -> ToolCall:
    return ToolCall(id=f"call_{index}", name=str(function["name"]), arguments=_filled(function["parameters"]))


def _filled(schema: Mapping[str, Any]) -> dict[str, Any]:
    # A dataclass comes as a reference to its own definition.
    if "$ref" in schema:
        schema = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    return {name: VALUES[schema["properties"][name]["type"]] for name in schema.get("required", ())}
