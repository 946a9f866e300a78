"""From an adapter's name to the adapter.

Rule of this file: an adapter is made once, when it is first asked for, and shared: it holds no state of a call. Installed
packages add names under the entry-point group `allm_actors.adapters`; a name of ours is never taken by one.
"""

from __future__ import annotations

import threading
from importlib.metadata import entry_points
from typing import Any

from allm_actors.data import EngineError
from allm_actors.engine.adapter import Adapter
from allm_actors.engine.fake import FakeAdapter

__all__ = ["find_adapter"]

GROUP = "allm_actors.adapters"
_lock = threading.Lock()
_made: dict[str, Adapter] = {}


def find_adapter(adapter: str | Adapter | None) -> Adapter:
    """The adapter of that name, or the object itself. Thread: safe.

    Raises `EngineError`: `missing_adapter`, or `unknown_adapter` naming the nearest names.
    """
    if adapter is None:
        raise EngineError(
            "missing_adapter", message="this engine has no adapter: give it one, Engine(adapter='openai')"
        )
    if not isinstance(adapter, str):
        return adapter
    with _lock:
        if adapter not in _made:
            _made[adapter] = _make(adapter)
        return _made[adapter]


def _make(name: str) -> Any:
    if name == FakeAdapter.name:
        return FakeAdapter()
    raise EngineError("unknown_adapter", provider=name)
