"""One request out, one stream of events back: engines, adapters, keys, transports and wire formats."""

from allm_actors.engine.adapter import (
    Adapter,
    Batches,
    Call,
    Cancellation,
    Delay,
    Scripted,
    ToolContext,
    ToolExecutor,
    ToolResultEncoder,
)
from allm_actors.engine.engine import Engine

__all__ = [
    "Adapter",
    "Batches",
    "Call",
    "Cancellation",
    "Delay",
    "Engine",
    "Scripted",
    "ToolContext",
    "ToolExecutor",
    "ToolResultEncoder",
]
