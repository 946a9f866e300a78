"""Ctrl-C, or a collection of garbage, at each place at which it can strike.

CPython looks for signals where a function begins, after each call, and where a loop goes round again, and since 3.12 it
collects garbage nowhere else; a handler, or a finalizer, then acts between any two steps of a library. Here a trace
function does so at the nth such place.
Source: https://docs.python.org/3/library/signal.html#note-on-signal-handlers-and-exceptions
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from functools import cache
from types import CodeType, FrameType
from typing import Any

__all__ = ["interrupted"]


@cache
def _places(code: CodeType) -> frozenset[int]:
    """The offsets of the instructions before which CPython has looked for signals."""
    found, before = set(), ""
    for each in dis.get_instructions(code):
        if before.startswith(("RESUME", "CALL")) and not before.startswith("CALL_INTRINSIC"):
            found.add(each.offset)
        if each.opname == "JUMP_BACKWARD":
            found.add(each.argval)
        before = each.opname
    return frozenset(found)


def _ctrl_c() -> None:
    raise KeyboardInterrupt


def interrupted(
    work: Callable[[], object], at: int, *packages: str, by: Callable[[], object] = _ctrl_c
) -> bool:
    """Whether `work` was interrupted at the place of that number, of those in these packages or files."""
    left = at

    def step(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal left
        if event == "opcode" and frame.f_lasti in _places(frame.f_code):
            left -= 1
            if left < 0:
                sys.settrace(None)
                frame.f_trace = None
                by()
        return step

    def enter(frame: FrameType, _event: str, _arg: object) -> Any:
        if left < 0 or not any(f"/{package}" in frame.f_code.co_filename for package in packages):
            return None
        frame.f_trace = step  # first: Python 3.13 looks for it when it is asked for instructions
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return step

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks whether anybody has asked when tracing begins
    sys.settrace(enter)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return left < 0
