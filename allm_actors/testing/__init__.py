"""Scripts, strategies, suites and a simulated host, shipped for those who test with this library.

Rule of this file: names only, each a module, loaded at its first use. `strategies` needs Hypothesis to be installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allm_actors.testing import call_suites, exchanges, loopback, replies, script, strategies

__all__ = ["call_suites", "exchanges", "loopback", "replies", "script", "strategies"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
