"""Where sessions live: memory, one SQLite file, or a place of the user's; and the process that alone touches it."""

from .contract import Save, Store
from .memory import MemoryStore
from .place import store_for
from .sqlite import SQLiteStore

__all__ = ["MemoryStore", "SQLiteStore", "Save", "Store", "store_for"]
