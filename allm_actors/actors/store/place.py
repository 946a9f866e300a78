"""What a `store=` argument means."""

from __future__ import annotations

import inspect
from pathlib import Path

from .contract import Store
from .memory import MemoryStore
from .sqlite import SQLiteStore

__all__ = ["store_for"]

_METHODS = ("open", "load", "save", "delete", "ids", "close")


def store_for(place: str | Path | Store | None) -> Store:
    """The store for a `store=` argument: None keeps sessions in memory, a path is an SQLite file.

    Raises ValueError for an empty path, which SQLite takes for a temporary file, and TypeError for anything
    else, and for an object that lacks some of a store's methods.
    """
    if place is None:
        return MemoryStore()
    if place == "":
        raise ValueError("store must not be an empty text: pass a path, or None to keep sessions in memory")
    if isinstance(place, (str, Path)):
        return SQLiteStore(place)
    wrong = _misfit(place)
    if wrong:
        raise TypeError(f"store must be None, a path or a Store, got {wrong}")
    return place


def _misfit(place: object) -> str:
    """What this is, if it is not a store, and why; empty if it is."""
    if isinstance(place, type):
        return f"the class {place.__name__}: pass an object of it, {place.__name__}(…)"
    methods = {name: getattr(place, name, None) for name in _METHODS}
    missing = ", ".join(f"{name}()" for name, method in methods.items() if not callable(method))
    if missing:
        return f"{type(place).__name__}, which lacks {missing}"
    later = ", ".join(f"{name}()" for name, method in methods.items() if inspect.iscoroutinefunction(method))
    if later:
        return f"{type(place).__name__}, whose {later} must be a plain def: it is called on a thread and may block"
    return ""
