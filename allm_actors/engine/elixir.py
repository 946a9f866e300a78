"""An engine in the Elixir library's encoding: modules by their full names, options as pairs, delays in milliseconds.

Rule of this file: what has a counterpart is converted both ways; a name or a delay without a counterpart
there is written unchanged, so that nothing is lost.

Source: the modules under `ALLM.Providers`, and the settings of `ALLM.Retry` (ALLM 0.6).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from allm_actors.data.predicates import is_number

__all__ = ["delays_in_milliseconds", "delays_in_seconds", "module_of", "name_of"]

_PREFIX = "Elixir.ALLM."
_NOTHING = frozenset({"ToolExecutor.Default", "ToolResultEncoder.JSON"})
_NAMES = {"OpenAI": "openai", "Anthropic": "anthropic", "Gemini": "gemini"}
_NAMES |= {"ElevenLabs": "elevenlabs", "Voyage": "voyage", "Fake": "fake"}
_CHAT = ("Fake", "OpenAI", "Anthropic", "Gemini")
_OTHERS = {
    "image_adapter": ("Images", ("OpenAI", "Gemini")),
    "embed_adapter": ("Embeddings", ("OpenAI", "Gemini", "Voyage")),
    "moderation_adapter": ("Moderation", ("OpenAI",)),
    "speech_adapter": ("Speech", ("OpenAI", "ElevenLabs")),
    "transcription_adapter": ("Transcription", ("OpenAI", "Gemini", "ElevenLabs")),
    "classification_adapter": ("Classification", ()),
}
_MODULES: dict[str, dict[str, str]] = {
    "adapter": {_NAMES[module]: f"Providers.{module}" for module in _CHAT},
    **{
        slot: {"fake": f"Providers.Fake{what}"}
        | {_NAMES[module]: f"Providers.{module}.{what}" for module in who}
        for slot, (what, who) in _OTHERS.items()
    },
}
_DELAYS = ("base_delay", "max_delay", "jitter")


def module_of(slot: str, name: Any) -> Any:
    """The Elixir module for an adapter's name in a slot of an engine; a name without one is returned unchanged."""
    module = _MODULES[slot].get(name) if slot in _MODULES and isinstance(name, str) else None
    return name if module is None else _PREFIX + module


def name_of(slot: str, value: Any) -> Any:
    """The name behind a module in a slot; None for the Elixir library's own defaults. Raises LookupError."""
    if not (isinstance(value, str) and value.startswith("Elixir.")):
        return value
    module = value.removeprefix(_PREFIX)
    if module in _NOTHING:
        return None
    names = {module: name for name, module in _MODULES.get(slot, {}).items()}
    if module not in names:
        raise LookupError(value)
    return names[module]


def delays_in_milliseconds(retry: Mapping[str, Any]) -> list[list[Any]]:
    """Retry settings as pairs; a delay that is no whole number of milliseconds stays in seconds."""
    return [
        [f"{name}_ms", round(value * 1000)] if _is_exact(name, value) else [name, value]
        for name, value in retry.items()
    ]


def delays_in_seconds(pairs: Iterable[Any]) -> dict[str, Any]:
    """Retry settings from such pairs."""
    retry: dict[str, Any] = {}
    for name, value in pairs:
        if isinstance(name, str) and name.removesuffix("_ms") in _DELAYS and name.endswith("_ms"):
            retry[name.removesuffix("_ms")] = value / 1000 if is_number(value) else value
        else:
            retry[name] = value
    return retry


def _is_exact(name: str, value: Any) -> bool:
    if name not in _DELAYS or not is_number(value) or not 0 <= value < 2**32:
        return False
    return bool(round(value * 1000) / 1000 == value)
