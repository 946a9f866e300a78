"""How deep data may be nested.

Rule of this file: a limit is a fixed number, not what a thread's stack happens to have left. So whatever can
be written can be read, on another thread and by another Python version.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["ARGUMENTS_TOO_DEEP", "DEEPEST", "DEEPEST_WRITTEN", "is_deeper"]

DEEPEST: Final = 64
"""Levels of data from outside that is kept, such as a model's arguments: more than anyone needs, and few
enough to leave room for the values around it.
"""

ARGUMENTS_TOO_DEEP: Final = f"the arguments are nested more than {DEEPEST} levels deep"

DEEPEST_WRITTEN: Final = 4 * DEEPEST
"""Levels of what a codec writes, where one level of data may take three. Reading a level takes up to three of
Python's 1000 stack frames, which leaves a quarter of them to the reader's caller.
"""


def is_deeper(tree: Any, levels: int) -> bool:
    """Whether lists and dicts are nested more than `levels` deep, as one that contains itself is."""
    kind = type(tree)
    if kind is not dict and kind is not list:
        return False
    if not levels:
        return True
    for item in tree.values() if kind is dict else tree:
        kind = type(item)
        if (kind is dict or kind is list) and is_deeper(item, levels - 1):
            return True
    return False
