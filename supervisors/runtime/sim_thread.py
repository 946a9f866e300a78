"""What a simulation schedules: threads (each a `SimThread`), mailboxes with work, timers; and how they are shown.

The rule of this file: it says what could run and what to call it, and runs nothing.
"""

from __future__ import annotations

import math
import threading
from _thread import allocate_lock
from typing import TYPE_CHECKING, Any, TypeAlias

from supervisors.runtime.mailbox import Mailbox
from supervisors.runtime.signals import From, Signal
from supervisors.runtime.timers import TimerRef

if TYPE_CHECKING:
    from supervisors.runtime.future import Wait
    from supervisors.runtime.ref import Ref
    from supervisors.runtime.running import Mortal
    from supervisors.runtime.zombies import Zombie

__all__ = ["Item", "SimThread", "has_message", "target", "title"]


class SimThread:
    """One thread of a simulation: what it does, or what it waits for."""

    __slots__ = (
        "baton",
        "box",
        "deadline",
        "error",
        "lock",
        "name",
        "outside",
        "process",
        "task",
        "thread",
        "wait",
        "zombie",
    )

    def __init__(self, name: str, *, outside: bool) -> None:
        self.name: str = name
        self.outside: bool = outside  # it runs the scenario or a client, and is no worker
        self.thread: threading.Thread = threading.current_thread()
        self.baton: threading.Lock = allocate_lock()
        self.baton.acquire()
        self.task: Mailbox | TimerRef | None = None
        self.box: Mailbox | None = None
        self.zombie: Zombie | None = None
        self.lock: Any = None
        self.deadline: float = math.inf
        self.wait: Wait | None = None
        self.process: Mortal | None = None
        self.error: BaseException | None = None

    def __str__(self) -> str:
        return self.name if self.process is None else str(self.process.ref)

    def may_go_on(self, now: float) -> bool:
        """Whether what it waits for has come, or its time is over."""
        return self.deadline <= now or not self.lock.locked()


Item: TypeAlias = "Mailbox | TimerRef | SimThread"


def has_message(box: Mailbox) -> bool:
    """Whether the next item that the owner handles is a user's message."""
    if box.fresh or box.control or not box.user:
        return False
    item = box.user[0]
    return isinstance(item, From) or not isinstance(item, Signal)


def title(item: Item) -> str:
    """What happens if this one is chosen. Messages by type only: they may hold what belongs in no log."""
    if isinstance(item, Mailbox):
        return "nothing: it is dead" if item.owner is None else f"{item.owner.ref}: {_turn(item)}"
    return "a timer fires" if isinstance(item, TimerRef) else f"{item} goes on"


def _turn(box: Mailbox) -> str:
    if box.fresh:
        return "starts"
    lane = box.control or box.user
    if not lane:
        return "nothing to do"
    item = lane[0]
    return f"asked, {type(item.message).__name__}" if isinstance(item, From) else type(item).__name__


def target(wait: Wait | None) -> str:
    """Whom a wait is for, as text."""
    ref: Ref[Any] | None = None if wait is None else wait.target
    return "something that nobody does" if ref is None else str(ref)
