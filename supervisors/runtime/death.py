"""The last steps of every death, whoever takes them: the process itself, its killer, or the thread of an adopted actor.

The rule of this file: they are taken once, and in the order in which they are written. If one fails, that is
logged and the next is taken, for somebody waits for it. The name is free before anyone hears of the death.
"""

from __future__ import annotations

from typing import Any, Final

from supervisors.errors import AlreadyStarted
from supervisors.reasons import Crash, Reason, is_clean
from supervisors.runtime.ref import Ref
from supervisors.runtime.reports import Report
from supervisors.runtime.running import contained
from supervisors.runtime.signals import Outcome, StartFailed
from supervisors.runtime.ties import announce
from supervisors.runtime.zombies import Zombie

__all__ = ["UNSETTLED", "abandon", "claim", "conclude", "condemn", "release", "tell_starter"]

UNSETTLED: Final = "a step of ending a process failed"
_KEPT: Final = "releasing what a process held failed"


def claim(ref: Ref[Any]) -> bool:
    """Whether the caller is the one to bury the process."""
    with ref.system.lock:
        if ref.buried:
            return False
        ref.buried = True
        return True


def condemn(ref: Ref[Any]) -> bool:
    """Whether the caller is the one to kill the process, which it then also buries: it has claimed it."""
    with ref.system.lock:
        if ref.buried:
            return False
        ref.killed = ref.buried = ref.actor_inbox.closed = True
        return True


def abandon(ref: Ref[Any]) -> Zombie | None:
    """End the wait of a killed process; its thread, if one runs it now, is the zombie that is returned."""
    wait, box = ref.waiting, ref.actor_inbox
    if wait is not None:
        wait.wake()
    zombie = Zombie(ref.system.zombies, ref)
    return zombie if box.dispatcher is not None and box.dispatcher.abandon(box, zombie) else None


def release(ref: Ref[Any]) -> None:
    """Give back what the process held of its system."""
    box = ref.actor_inbox
    if ref.name is not None:
        contained(_KEPT, ref.system.names.unregister, ref.name, ref)
    for give_up in ref.holdings or ():
        contained(_KEPT, give_up, ref)
    ref.holdings = None
    if box.limit is not None:
        box.limit.released()
    if box.dispatcher is not None:
        contained(_KEPT, box.dispatcher.retire, box)
    ref.system.remove(ref)


def conclude(ref: Ref[Any], reason: Reason, verdict: Outcome | None) -> None:
    """Announce the death; the starter, if it still waits, gets `verdict`, or that the start failed."""
    contained("reporting the end of a process failed", _report, ref, reason)
    announce(ref, reason)
    tell_starter(ref, verdict or StartFailed(reason, ref))
    ref.actor_inbox.owner = None


def tell_starter(ref: Ref[Any], outcome: Outcome) -> None:
    """Tell the starter, if it still waits. Once a process is claimed nobody else does."""
    with ref.system.lock:
        starter, ref.starter = ref.starter, None
    if starter is not None:
        starter(outcome)


def _report(ref: Ref[Any], reason: Reason) -> None:
    if not is_clean(reason) and not isinstance(reason, AlreadyStarted):
        reports = ref.system.reports
        # A parent is told why the start failed, and a supervisor reports it; only a crash is an error here.
        told = ref.starter is not None and ref.parent is not None and not isinstance(reason, Crash)
        if reports.wanted("process_ended", reason):
            reports.emit(Report("process_ended", ref, reason), quiet=told)
