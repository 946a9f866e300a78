"""What OpenAI's two endpoints have in common in a request.

Rule of this file: pure. A caller need not know which of the two a model is asked through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from allm_actors.data import ValidationError

__all__ = ["WORDS", "forced_name", "prompt_cache", "unknown_word"]

WORDS: Final[Mapping[str, tuple[str, str, tuple[str, ...]]]] = {
    "reasoning_effort": ("reasoning", "effort", ("none", "low", "medium", "high", "xhigh")),
    "reasoning_summary": ("reasoning", "summary", ("auto", "concise", "detailed")),
    "verbosity": ("text", "verbosity", ("low", "medium", "high")),
}
"""For each option of a model that reasons: where it goes in responses, and its words."""
_CHOICES = ("auto", "none", "required")


def forced_name(choice: str | Mapping[str, Any]) -> str | None:
    """The function that must be called, in the shape of either endpoint or by its name; None for another choice."""
    match choice:
        case str():
            return None if choice in _CHOICES else choice
        case {"type": "function", "function": {"name": str(name)}} | {"type": "function", "name": str(name)}:
            return name
        case _:
            return None


def unknown_word(name: str, value: object) -> ValidationError:
    """The refusal of an option's value that is none of its words."""
    holder, field, known = WORDS[name]
    message = (
        f"{name} must be one of {', '.join(known)}; got: {value!r}. "
        f"A newer word goes to the provider unread as {holder}={{{field!r}: …}}"
    )
    return ValidationError("invalid_request", [(name, "invalid_value")], message=message)


def prompt_cache(cache: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """The fields for `Request.prompt_cache`, of those that the server knows."""
    wire: dict[str, Any] = {}
    if "key" in known and cache.get("key") is not None:
        wire["prompt_cache_key"] = cache["key"]
    if "retention" in known and cache.get("retention") == "long":
        wire["prompt_cache_retention"] = "24h"
    return wire
