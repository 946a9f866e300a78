"""The action of a timer: it sends a message to a process, or to whoever has a name when the timer fires.

The rule of this file: there is one thread for all timers, and nothing here holds it up.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from supervisors.errors import SupervisorError
from supervisors.runtime.names import Name, Via
from supervisors.runtime.ref import Ref
from supervisors.runtime.running import contained

if TYPE_CHECKING:
    from supervisors.runtime.system import System

__all__ = ["Delivery"]


class Delivery:
    """The action of a timer: sends an ordinary message, which no limit of the mailbox stops.

    All timers share a thread, on which this only looks who is there. If a process has to be started or waited
    for, that is done on another thread; ticks of a periodic timer that come meanwhile are skipped.
    """

    __slots__ = ("_busy", "_dest", "_message", "_system")

    def __init__(self, system: System, dest: Any, message: Any) -> None:
        self._system = system
        self._dest = dest
        self._message = message
        self._busy = False

    def __call__(self) -> bool:
        # False: the receiver is dead, so a periodic timer may end.
        dest = self._dest
        if not isinstance(dest, Ref):
            self._send(beside=False)
            return True
        if not dest.actor_inbox.closed:
            dest.inform(self._message)
        return dest.is_alive()

    def _send(self, *, beside: bool) -> None:
        names, dest = self._system.names, self._dest
        try:
            with self._system.activated():
                ref = names.whereis(dest) if beside else names.owner(dest)
        except BaseException as exc:
            self._give_up(type(exc).__name__)
            if isinstance(exc, SupervisorError):
                return
            raise
        if not beside and _may_start(dest) and (ref is None or not ref.is_alive()):
            self._send_beside()
        elif ref is None:
            self._give_up("no process of that name")
        else:
            ref.inform(self._message)

    def _send_beside(self) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            self._system.apart(self._finish)
        except BaseException:  # there is no thread
            self._busy = False
            self._give_up("no thread could be started to look it up")
            raise

    def _finish(self) -> None:
        contained("a timer failed", partial(self._send, beside=True))
        self._busy = False

    def _give_up(self, why: str) -> None:
        self._system.dead_letters.add(self._message, self._dest, None, why)


def _may_start(name: Name) -> bool:
    # A registry whose `whereis` does more than look has an `owner` that does not.
    return isinstance(name, Via) and hasattr(name.registry, "owner")
