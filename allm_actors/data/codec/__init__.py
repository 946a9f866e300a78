"""The two encodings of values: JSON to exchange, MessagePack to store.

Rule of this file: names only. Both write every value of `allm_actors.data`, alone or inside `metadata`, `context` and
`options`; for both a round trip is identity; neither ever writes a handler, a function or a key. An enum
member, or a value of a subclass of plain data, is written as its plain value.
"""

from .envelope import from_json, to_json
from .msgpack import SCHEMA_VERSION, from_msgpack, to_msgpack
from .shapes import register

__all__ = ["SCHEMA_VERSION", "from_json", "from_msgpack", "register", "to_json", "to_msgpack"]
