"""Lone surrogates, which UTF-8 cannot encode: finding and replacing them.

Rule of this file: pure. They come from file names (PEP 383), from cut streams and from other languages'
strings. In data from outside they are replaced by U+FFFD, as `bytes.decode` does; in a caller's own values
they are refused.
"""

from __future__ import annotations

from typing import Any, overload

__all__ = ["is_utf8", "utf8_of"]


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can encode the text."""
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
    """The value with U+FFFD for each lone surrogate in its texts, also inside lists and dicts, keys included.
    Tuples become lists.
    """
    if isinstance(value, str):
        if value.isascii() or is_utf8(value):
            return value
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list | tuple):
        return [utf8_of(item) for item in value]
    return {utf8_of(key): utf8_of(item) for key, item in value.items()} if isinstance(value, dict) else value
