"""Where another thread is.

The rule of this file: it looks and changes nothing, and never fails. The answer may be out of date as soon as it
is given.
"""

from __future__ import annotations

import sys
import traceback
from types import FrameType

__all__ = ["calls_of", "stack_of"]


def calls_of(ident: int | None) -> list[tuple[FrameType, int]]:
    """The frames of the thread with this `ident` and the lines they are at, the outermost first.

    Empty if no such thread runs. It may run on meanwhile: what it leaves or enters may be missing.
    """
    calls: list[tuple[FrameType, int]] = []
    frame = sys._current_frames().get(ident or 0)  # noqa: SLF001 - the documented way to another thread's stack
    # In CPython 3.11 the `f_back` of a frame that is just being left may be any object.
    while isinstance(frame, FrameType):
        calls.append((frame, frame.f_lineno))
        frame = frame.f_back
    return calls[::-1]


def stack_of(ident: int | None) -> str:
    """Its stack as text, with the source of its lines; "" if no such thread runs."""
    return "".join(traceback.StackSummary.extract(iter(calls_of(ident))).format())
