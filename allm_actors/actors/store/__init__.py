"""Where sessions are stored: memory, an SQLite file, or a store of the user's; and the only process that touches it."""

from .contract import Save, Store, StoredSession
from .memory import MemoryStore
from .place import store_for
from .sqlite import SQLiteStore

__all__ = ["MemoryStore", "SQLiteStore", "Save", "Store", "StoredSession", "store_for"]
