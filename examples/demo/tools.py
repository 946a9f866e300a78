"""The demo's engine and its tools: two that need each other, and one that crashes.

Rule of this file: `RUNS` lists what ran in this process, so that "it did not run again" can be checked.
"""

from __future__ import annotations

import threading
from typing import Any, Literal

import allm_actors as allm

__all__ = ["RUNS", "engine_for", "get_tides", "get_time", "get_weather"]

RUNS: list[str] = []
# Neither tool returns before the other runs too: run one after the other, both would fail here.
_together = threading.Barrier(2)


@allm.tool
def get_weather(city: str, unit: Literal["c", "f"] = "c") -> dict[str, Any]:
    """The weather in a city, now."""
    RUNS.append("get_weather")
    _together.wait(timeout=10)
    return {"city": city, "condition": "light rain", "temperature": 17 if unit == "c" else 63}


@allm.tool
def get_time(city: str) -> dict[str, str]:
    """The local time in a city."""
    RUNS.append("get_time")
    _together.wait(timeout=10)
    return {"city": city, "time": "18:40"}


@allm.tool
def get_tides(harbour: str) -> dict[str, str]:
    """High and low water at a harbour, today."""
    RUNS.append("get_tides")
    raise RuntimeError(f"the tide table of {harbour} is not available")


def engine_for(url: str) -> allm.Engine:
    """An engine that asks the provider at `url`, over HTTP, without a key."""
    return allm.Engine(
        adapter="openai-compatible:gpt-4.1-mini",
        tools=[get_weather, get_time, get_tides],
        adapter_opts={"base_url": url},
    )
