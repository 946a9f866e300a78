"""Removes the current call's key from values, for handlers that write logs.

Rule of this file: a key is never part of an event, which a handler may keep. While an event is being emitted,
the key can be removed from a value, but the key itself cannot be obtained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

__all__ = ["Hide", "hidden", "hiding"]

Hide: TypeAlias = Callable[[Any], Any]
"""A function from a value to a copy of it without the key."""

_hide: ContextVar[Hide | None] = ContextVar("allm_actors.telemetry.hide", default=None)


@contextmanager
def hiding(hide: Hide | None) -> Iterator[None]:
    """Make `hidden` use this function inside the block."""
    token = _hide.set(hide)
    try:
        yield
    finally:
        _hide.reset(token)


def hidden(value: Any) -> Any:
    """The value without the key of the call whose event is being emitted."""
    hide = _hide.get()
    return value if hide is None else hide(value)
