"""How deep data may be nested.

Rule of this file: a limit is a number, and not what a thread's stack happens to have left. Whatever can be written can
then be read, on another thread and by another Python.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["ARGUMENTS_TOO_DEEP", "DEEPEST", "DEEPEST_WRITTEN", "is_deeper"]

DEEPEST: Final = 64
"""Levels of what others give us to keep, such as a provider's arguments: more than anybody needs, and few enough to
leave room for the values around it.
"""

ARGUMENTS_TOO_DEEP: Final = f"the arguments are nested more than {DEEPEST} levels deep"

DEEPEST_WRITTEN: Final = 4 * DEEPEST
"""Levels of what a codec writes, where one level of data may take three. To read one takes up to three frames of
Python's thousand: a quarter of them is left for whoever reads.
"""


def is_deeper(tree: Any, levels: int) -> bool:
    """Whether lists and dicts are in one another more than so many levels deep. One that contains itself is."""
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
