"""The last steps of every death, whoever takes them: the process itself, its killer, or the thread of an adopted actor.

The rule of this file: they are taken once, and in the order in which they are written. The name is free before anyone
hears of the death.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from supervisors.errors import AlreadyStarted
from supervisors.reasons import Reason, is_clean
from supervisors.runtime.ref import Ref
from supervisors.runtime.reports import Report
from supervisors.runtime.signals import Outcome, StartFailed
from supervisors.runtime.ties import announce

__all__ = ["claim", "conclude", "release"]

_log = logging.getLogger("supervisors")


def claim(ref: Ref[Any]) -> bool:
    """Whether the caller is the one to bury the process."""
    with ref.system.lock:
        if ref.buried:
            return False
        ref.buried = True
        return True


def release(ref: Ref[Any]) -> None:
    """Give back what the process held of its system."""
    box = ref.actor_inbox
    if ref.name is not None:
        _give_up(ref, lambda _: ref.system.names.unregister(ref.name, ref))
    for give_up in ref.holdings or ():
        _give_up(ref, give_up)
    ref.holdings = None
    if box.limit is not None:
        box.limit.released()
    if box.dispatcher is not None:
        box.dispatcher.retire(box)
    ref.system.remove(ref)


def conclude(ref: Ref[Any], reason: Reason, verdict: Outcome | None) -> None:
    """Tell everybody; the starter, if it still waits, gets `verdict`, or that the start failed."""
    if not is_clean(reason) and not isinstance(reason, AlreadyStarted):
        reports = ref.system.reports
        if reports.wanted(reason):
            reports.emit(Report("process_ended", ref, reason))
    announce(ref, reason)
    starter, ref.starter = ref.starter, None
    if starter is not None:
        starter(verdict or StartFailed(ref, reason))
    ref.actor_inbox.owner = None


def _give_up(ref: Ref[Any], give_up: Callable[[Ref[Any]], object]) -> None:
    try:
        give_up(ref)
    except Exception:  # noqa: BLE001 - it is kept elsewhere, by somebody who may raise; this death goes on
        _log.exception("something that %s held could not be given up", ref)
