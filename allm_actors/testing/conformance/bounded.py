"""The base of every suite: a law that is not over in time has failed.

Rule of this file: a law runs on a thread of its own, for what hangs cannot be ended from outside. The thread that waits
for it goes on with the next law, and the one that hangs is left behind.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

__all__ = ["IF_AN_ADAPTER_HANGS", "Bounded"]

IF_AN_ADAPTER_HANGS = (
    "If that is a call, look at what your adapter waits for: an iterator of events must end after MessageCompleted or "
    "ErrorEvent, every wait for the provider needs a timeout, and nothing asynchronous may block. If it is your stage, "
    "look there"
)
Law = Callable[..., None]


class Bounded:
    """Bounds its laws, and those that a subclass puts in their places."""

    limit: float = 20.0
    """How long a law may take, in seconds, beside the waits that are bounded by `patience`, where the suite has one."""
    if_it_hangs: ClassVar[str] = ""
    """Where to look for what a law waits for."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        ours = cls.__module__.startswith(f"{__package__}.")
        for name, law in list(vars(cls).items()):
            is_law = name.startswith("test_") and (ours or hasattr(super(cls, cls), name))
            if is_law and inspect.isfunction(law) and not inspect.iscoroutinefunction(law):
                setattr(cls, name, _bounded(law))


def _bounded(law: Law) -> Law:
    @functools.wraps(law)
    def run(suite: Any, **fixtures: Any) -> None:
        __tracebackhide__ = True
        seconds = suite.limit + 2 * getattr(suite, "patience", 0.0)
        failures: list[BaseException] = []
        thread = Thread(
            target=contextvars.copy_context().run,
            args=(_perform, functools.partial(law, suite, **fixtures), failures),
            name=law.__name__,
            daemon=True,
        )
        thread.start()
        thread.join(seconds)
        if failures:
            raise failures.pop()
        if thread.is_alive():
            raise AssertionError(
                f"{law.__name__} hangs: after {seconds:g} s it still waits{_place(thread, suite)}. "
                f"{suite.if_it_hangs}. Or set `limit` in your suite, in seconds, if it only takes longer"
            )

    return run


def _perform(law: Callable[[], object], failures: list[BaseException]) -> None:
    try:
        law()
    except BaseException as failure:  # noqa: BLE001 - a skip, too, is for whoever runs the law
        failures.append(failure)


def _place(thread: Thread, suite: Any) -> str:
    """Where a thread is in the files of the suite, or of the stage: the innermost line of theirs."""
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - documented
    files = {getattr(sys.modules.get(each.__module__), "__file__", None) for each in type(suite).__mro__}
    stack = [] if frame is None else traceback.extract_stack(frame)
    lines = [line for line in stack if line.filename in files and line.filename != __file__]
    if not lines:
        return ""
    return f" in {Path(lines[-1].filename).name}, line {lines[-1].lineno}: {lines[-1].line}"
