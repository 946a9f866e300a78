"""Computes the costs of an answer from known prices, where the provider did not report them.

Rule of this file: a price is USD per million tokens, and only missing costs are filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allm_actors.data import Usage
from allm_actors.data.predicates import as_price, is_number

__all__ = ["missing_costs"]

_TOKENS_PER_PRICE = 1_000_000


def missing_costs(usage: Usage, pricing: Mapping[str, Any]) -> dict[str, float]:
    """The costs that the usage lacks, by field: `input_cost`, `output_cost`, and `total_cost` once both are known.

    `pricing` is `{"input": USD, "output": USD}` for a million tokens each, and what differs for those that the provider
    read from its cache or wrote to it: `cached_input` and `cache_write_input`. Without these, they cost what others do.
    """
    costs: dict[str, float | None] = {
        "input_cost": _first(usage.input_cost, _input_cost(usage, pricing)),
        "output_cost": _first(usage.output_cost, _cost(_written(usage), pricing.get("output"))),
        "total_cost": usage.total_cost,
    }
    if costs["total_cost"] is None and costs["input_cost"] is not None and costs["output_cost"] is not None:
        costs["total_cost"] = costs["input_cost"] + costs["output_cost"]
    return {name: cost for name, cost in costs.items() if cost is not None and getattr(usage, name) is None}


def _written(usage: Usage) -> object:
    """The tokens billed as output. Some providers count thoughts among the output, others not: `total_tokens` tells."""
    output, thought, total = usage.output_tokens, usage.reasoning_tokens, usage.total_tokens
    if not (is_number(output) and is_number(thought) and is_number(total) and is_number(usage.input_tokens)):
        return output
    return output + thought if total >= usage.input_tokens + output + thought else output


def _input_cost(usage: Usage, pricing: Mapping[str, Any]) -> float | None:
    """What was sent: the tokens of the cache are among `input_tokens` (see `Usage`)."""
    cost = _cost(usage.input_tokens, pricing.get("input"))
    if cost is None:
        return None
    for tokens, price in (
        (usage.cached_input_tokens, pricing.get("cached_input")),
        (usage.cache_write_input_tokens, pricing.get("cache_write_input")),
    ):
        other = _cost(tokens, price)
        if other is not None:
            cost += other - (_cost(tokens, pricing["input"]) or 0.0)
    return max(cost, 0.0)


def _first(known: float | None, computed: float | None) -> float | None:
    return computed if known is None else known


def _cost(tokens: object, price: object) -> float | None:
    per_million = as_price(price)
    if not is_number(tokens) or per_million is None:
        return None
    return per_million * tokens / _TOKENS_PER_PRICE
