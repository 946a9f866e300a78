"""Text that UTF-8 has a form for, which it has not for half of a surrogate pair.

Rule of this file: pure. Such halves come from names of files (PEP 383), from cut streams and from other languages'
strings. What the world gave is sent with U+FFFD in their place, as `bytes.decode` does; what a caller typed is refused.
"""

from __future__ import annotations

from typing import Any, overload

__all__ = ["is_utf8", "utf8_of"]


def is_utf8(text: str) -> bool:
    """Whether UTF-8 has a form for it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@overload
def utf8_of(value: str) -> str: ...
@overload
def utf8_of(value: Any) -> Any: ...
def utf8_of(value: Any) -> Any:
    """The value with U+FFFD for each half of a pair in its texts, those in lists, which tuples become, and
    the keys of dicts included.
    """
    if isinstance(value, str):
        if value.isascii() or is_utf8(value):
            return value
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list | tuple):
        return [utf8_of(item) for item in value]
    return {utf8_of(key): utf8_of(item) for key, item in value.items()} if isinstance(value, dict) else value
