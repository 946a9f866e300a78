"""What requests to OpenAI's two chat endpoints have in common.

Rule of this file: pure. A caller need not know which of the two endpoints a model uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["prompt_cache"]


def prompt_cache(cache: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """The fields for `Request.prompt_cache`, limited to those that the server knows."""
    wire: dict[str, Any] = {}
    if "key" in known and cache.get("key") is not None:
        wire["prompt_cache_key"] = cache["key"]
    if "retention" in known and cache.get("retention") == "long":
        wire["prompt_cache_retention"] = "24h"
    return wire
