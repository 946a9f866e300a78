"""Which tool a request wants called: the words for it, and the shapes in which providers name one.

Rule of this file: pure. What it does not know is a provider's own, and stays as it is.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["CHOICE_WORDS", "forbids_calls", "forced_names", "named_choice"]

CHOICE_WORDS: Final = ("auto", "none", "required")
"""The choices that name no tool."""


def forced_names(choice: Any) -> frozenset[str]:
    """The names of the tools that a `tool_choice` forces, in any known provider's shape; empty for any other shape."""
    names: list[Any] = []
    match choice:
        case str():
            names = [choice]
        case ("tool", name):
            names = [name]
        case {"type": "function", "function": {"name": name}}:
            names = [name]
        case {"type": "tool" | "function", "name": name}:
            names = [name]
        case {"mode": str(mode), "allowedFunctionNames": [*allowed]} if mode.upper() == "ANY":
            names = allowed
        case {"function_calling_config": dict(inner)} | {"functionCallingConfig": dict(inner)}:
            return forced_names(inner)
        case _:
            pass
    return frozenset(name for name in names if isinstance(name, str))


def forbids_calls(choice: Any) -> bool:
    """Whether a `tool_choice` says, in any known provider's shape, that no tool may be called."""
    match choice:
        case "none" | {"type": "none"}:
            return True
        case {"mode": str(mode)}:
            return mode.upper() == "NONE"
        case {"function_calling_config": dict(inner)} | {"functionCallingConfig": dict(inner)}:
            return forbids_calls(inner)
        case _:
            return False


def named_choice(choice: Any) -> Any:
    """A `tool_choice` that forces one tool, in any known shape, as that tool's name; any other unchanged."""
    match choice:
        case ("tool", str(name)):
            return name
        case {"type": "function", "function": {"name": str(name)}, **rest} if not rest:
            return name
        case {"type": "tool" | "function", "name": str(name), **rest} if not rest:
            return name
        case _:
            return choice
