"""What a call that is not chat cost, where its provider did not say: from the prices in its `ModelRef`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from allm_actors.data import EmbeddingResponse, ImageUsage, Usage
from allm_actors.execution.costs import missing_costs

__all__ = ["priced"]

_COUNTED = ("input_tokens", "output_tokens", "input_cost", "output_cost", "total_cost")


def priced(response: Any, pricing: Mapping[str, Any]) -> Any:
    """The response with the costs that its usage lacks. `pricing` is USD per million tokens, as in a `ModelRef`."""
    usage = getattr(response, "usage", None)
    if not pricing or not isinstance(usage, Usage | ImageUsage):
        return response
    counted: Usage
    if isinstance(usage, ImageUsage):
        counted = Usage(**{name: getattr(usage, name) for name in _COUNTED})
    elif isinstance(response, EmbeddingResponse):
        counted = _of_vectors(usage)
    else:
        counted = usage
    usage = msgspec.structs.replace(usage, **missing_costs(counted, pricing))
    return msgspec.structs.replace(response, usage=usage)


def _of_vectors(usage: Usage) -> Usage:
    """Vectors are made of input alone: all tokens were read, and nothing is paid for output."""
    read = usage.total_tokens if usage.input_tokens is None else usage.input_tokens
    written = 0.0 if usage.output_cost is None else usage.output_cost
    return msgspec.structs.replace(usage, input_tokens=read, output_cost=written)
