"""Where another thread is.

The rule of this file: it looks and changes nothing. The answer may be out of date as soon as it is given.
"""

from __future__ import annotations

import sys
import traceback
from types import FrameType

__all__ = ["frame_of", "stack_of"]


def frame_of(ident: int | None) -> FrameType | None:
    """The innermost frame of the thread with this `ident`; None if no such thread runs."""
    return sys._current_frames().get(ident or 0)  # noqa: SLF001 - the documented way to another thread's stack


def stack_of(ident: int | None) -> str:
    """Its stack as text, with the source of its lines; "" if no such thread runs."""
    frame = frame_of(ident)
    return "" if frame is None else "".join(traceback.format_stack(frame))
