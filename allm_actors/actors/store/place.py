"""What a `store=` argument means."""

from __future__ import annotations

from pathlib import Path

from .contract import Store
from .memory import MemoryStore
from .sqlite import SQLiteStore

__all__ = ["store_for"]


def store_for(place: str | Path | Store | None) -> Store:
    """The store for a `store=` argument: None keeps sessions in memory, a path is an SQLite file.

    Raises ValueError for an empty path, which SQLite takes for a temporary file, and TypeError for anything
    else.
    """
    if place is None:
        return MemoryStore()
    if place == "":
        raise ValueError("store must not be an empty text: pass a path, or None to keep sessions in memory")
    if isinstance(place, (str, Path)):
        return SQLiteStore(place)
    if not all(hasattr(place, name) for name in ("open", "load", "save", "delete", "ids", "close")):
        raise TypeError(f"store must be None, a path or a Store, got {type(place).__name__}")
    return place
