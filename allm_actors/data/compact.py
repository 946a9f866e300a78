"""Compact tools: what a model sees of a tool until it asks for more.

Rule of this file: pure and deterministic, so that every request of a run has the same tools and a provider's
prompt cache stays valid. What is sent is a stub; what is executed is the tool itself.

    a tool                                 what the model is sent
    -------------------------------------  ---------------------------------------------------------------------------
    not compact, or forced by tool_choice  the tool as it is
    compact                                its name, its summary, the names of its arguments, `{"type": "object"}`
    (once, if any of them is compact)      `tool_help`, which answers with descriptions and schemas
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from .messages import ToolCall
from .tool_choice import forced_names
from .tools import Tool

__all__ = [
    "TOOL_HELP",
    "ToolHelp",
    "is_built_in",
    "missing_arguments",
    "projected",
    "with_help",
]

TOOL_HELP = "tool_help"
_MARKER = "allm_builtin"
_LONGEST_SUMMARY = 160
_SENTENCE = re.compile(r".*?[.!?](?=\s|$)")
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"names": {"type": "array", "items": {"type": "string"}, "description": "Names of tools"}},
    "required": ["names"],
    "additionalProperties": False,
}


class ToolHelp:
    """The tool that explains compact tools; the loop runs it itself, except in `mode="manual"`."""

    name = TOOL_HELP

    @staticmethod
    def answer(tools: Iterable[Tool], call: ToolCall) -> str:
        """What `tool_help` answers to this call: each named tool's description and JSON Schema.

        `tools` are the tools as they were given to the engine or the call.
        """
        arguments: object = call.arguments
        names: Any = arguments.get("names") if isinstance(arguments, dict) else None
        known = {tool.name: tool for tool in tools if not is_built_in(tool)}
        compact = ", ".join(name for name, tool in known.items() if tool.compact) or "(none)"
        if not names or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return f'tool_help expects {{"names": ["tool_name", ...]}}. Compact tools: {compact}'
        found = [
            _described(known[name]) if name in known else f"## {name}\nUnknown tool. Compact tools: {compact}"
            for name in dict.fromkeys(names)
        ]
        return "\n\n".join(found)


def projected(tools: Sequence[Tool], tool_choice: Any = None) -> list[Tool]:
    """The tools as they are sent. Projecting twice changes nothing more."""
    if not any(tool.compact for tool in tools):
        return list(tools)
    forced = forced_names(tool_choice)
    sent = [_sent(tool, whole=tool.name in forced) if tool.compact else tool for tool in tools]
    return sent if any(is_built_in(tool) for tool in sent) else [*sent, _help_tool(())]


def with_help(tools: Sequence[Tool]) -> list[Tool]:
    """The tools as they are executed: all of them and, if one is compact, `tool_help`."""
    if not any(tool.compact for tool in tools) or any(tool.name == TOOL_HELP for tool in tools):
        return list(tools)
    return [*tools, _help_tool(tools)]


def is_built_in(tool: Tool) -> bool:
    """Whether this is our `tool_help`, and not a tool of the user's of that name."""
    return tool.metadata.get(_MARKER) == TOOL_HELP


def missing_arguments(tool: Tool, call: ToolCall) -> str | None:
    """The answer to a model that called a compact tool without its required arguments; None if they are there.

    Only the top level is checked: the rest is left to the handler.
    """
    if not tool.compact:
        return None
    missing = [name for name in _required(tool.schema) if name not in call.arguments]
    return f"missing required argument(s): {', '.join(missing)}\n\n{_described(tool)}" if missing else None


def _sent(tool: Tool, *, whole: bool) -> Tool:
    sendable: tuple[object, object] = (tool.description, tool.schema)
    if whole or not (isinstance(sendable[0], str) and isinstance(sendable[1], dict)):  # `validate` says which
        return msgspec.structs.replace(tool, compact=False)
    text = " ".join(part for part in (_summary(tool), _hint(tool.schema)) if part)
    # A stub leaves open what `strict` would have a provider enforce.
    metadata = {name: value for name, value in tool.metadata.items() if name != "strict"}
    return Tool(name=tool.name, description=text, schema={"type": "object"}, metadata=metadata)


def _help_tool(tools: Sequence[Tool]) -> Tool:
    def answer(arguments: dict[str, Any]) -> str:
        return ToolHelp.answer(tools, ToolCall(id="", name=TOOL_HELP, arguments=arguments))

    return Tool(
        name=TOOL_HELP,
        description="Describes tools in full, with the JSON Schema of their arguments. Ask before calling a tool "
        "whose arguments you do not know.",
        schema=_SCHEMA,
        handler=answer if tools else None,
        metadata={_MARKER: TOOL_HELP},
    )


def _summary(tool: Tool) -> str:
    text = tool.summary if tool.summary is not None else tool.metadata.get("summary")
    if not isinstance(text, str):
        line = tool.description.strip().partition("\n")[0].strip()
        sentence = _SENTENCE.match(line)
        text = sentence[0] if sentence else line
    return text if len(text) <= _LONGEST_SUMMARY else text[: _LONGEST_SUMMARY - 3] + "..."


def _hint(schema: dict[str, Any]) -> str:
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return ""
    required = [name for name in _required(schema) if name in properties]
    optional = sorted(name for name in properties if name not in required)
    words = [", ".join(required)] if required else []
    if optional:
        words.append(f"[{', '.join(optional)}]")
    return f"Args: {' '.join(words) or 'none'}"


def _required(schema: dict[str, Any]) -> list[str]:
    required = schema.get("required")
    return [name for name in required if isinstance(name, str)] if isinstance(required, list) else []


def _described(tool: Tool) -> str:
    try:
        schema = msgspec.json.encode(tool.schema).decode()
    except (TypeError, ValueError):  # only its stub was sent: its schema is not checked yet
        schema = repr(tool.schema)
    return f"## {tool.name}\n{tool.description}\nParameters (JSON Schema): {schema}"
