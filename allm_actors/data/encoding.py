"""Plain data as JSON and as MessagePack.

Rule of this file: pure. All that may be large is encoded here, into a buffer that grows: where memory runs out, that
raises MemoryError, while `encode` of msgspec 0.23 ends the interpreter with a segmentation fault.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

__all__ = ["json_bytes", "json_text", "msgpack_bytes"]

_JSON: Final = msgspec.json.Encoder()
_MSGPACK: Final = msgspec.msgpack.Encoder()


def json_bytes(value: Any, encoder: msgspec.json.Encoder = _JSON) -> bytes:
    """The value as compact JSON, in UTF-8.

    Raises: TypeError for what JSON has no form for, UnicodeEncodeError (a ValueError) for half of a surrogate pair,
    RecursionError, MemoryError.
    """
    buffer = bytearray()
    encoder.encode_into(value, buffer)
    return bytes(buffer)


def json_text(value: Any, encoder: msgspec.json.Encoder = _JSON) -> str:
    """The value as compact JSON. Raises: as `json_bytes`."""
    buffer = bytearray()
    encoder.encode_into(value, buffer)
    return buffer.decode()


def msgpack_bytes(value: Any) -> bytes:
    """The value as MessagePack. Raises: as `json_bytes`, and OverflowError for an integer of more than 64 bits."""
    buffer = bytearray()
    _MSGPACK.encode_into(value, buffer)
    return bytes(buffer)
