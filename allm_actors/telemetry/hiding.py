"""The key of whoever causes an event, for those who write lines about it.

Rule of this file: a key is never a part of an event, which anybody may keep. It can be taken out of a value, only while
the event is being told, and nobody can ask for the key itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

__all__ = ["Hide", "hidden", "hiding"]

Hide: TypeAlias = Callable[[Any], Any]
"""A value to one like it without the key."""

_hide: ContextVar[Hide | None] = ContextVar("allm_actors.telemetry.hide", default=None)


@contextmanager
def hiding(hide: Hide | None) -> Iterator[None]:
    """Have `hidden` take out what this one does, inside this block."""
    token = _hide.set(hide)
    try:
        yield
    finally:
        _hide.reset(token)


def hidden(value: Any) -> Any:
    """The value without the key that belongs to the event which is being told."""
    hide = _hide.get()
    return value if hide is None else hide(value)
