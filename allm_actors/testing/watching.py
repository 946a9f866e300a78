"""A real-time watchdog over simulations: if one hangs, it prints where.

Rule of this file: it only observes. A simulation takes milliseconds; one that takes this long waits for
something outside of it, which the simulation itself cannot notice.

Units: real seconds.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["watched"]

_PATIENCE = 20.0


@contextmanager
def watched(progress: Callable[[], object], patience: float = _PATIENCE) -> Iterator[None]:
    """While the block runs: if `progress()` has not changed for `patience` seconds, print the handlers' stacks."""
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(progress, patience, over), name="watcher", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _watch(progress: Callable[[], object], patience: float, over: threading.Event) -> None:
    seen: object = None
    while not over.wait(patience):
        now = progress()
        if now == seen:
            sys.stderr.write(_said(patience))
            return
        seen = now


def _said(patience: float) -> str:
    stacks = (traceback.extract_stack(frame) for frame in sys._current_frames().values())  # noqa: SLF001 - documented
    busy = [stack for stack in stacks if any(frame.filename.endswith("wild.py") for frame in stack)]
    shown = "\n".join("".join(stack.format()[-4:]) for stack in busy)
    return (
        f"a schedule has run for {patience:g} seconds of real time: a handler waits for something outside the "
        "simulation, which cannot end that wait; wait with `context.cancelled.wait`, or in another way that "
        f"the simulation controls\n{shown}"
    )
