"""Links, monitors, children: what ties processes to each other, and what travels along the ties when one dies.

The rule of this file: every table is changed under the system's lock, and death takes a process's tables once
under that lock. So a `link` or `monitor` either is in the tables that death takes, or finds the process dead.
Nothing is sent while the lock is held. The lock is reentrant, because a finalizer may run while it is held,
and kill somebody: so objects are made and functions called before the check whether a process lives, and none
between check and entry.

Source: Erlang/OTP reference manual, "Processes: links, monitors".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from supervisors.reasons import NOPROC, SHUTDOWN, Reason
from supervisors.runtime.running import contained, run_exit_callback
from supervisors.runtime.signals import ALIVE, DownNotice, ExitNotice, Letter, Link, MonitorRef

if TYPE_CHECKING:
    from supervisors.runtime.ref import Ref

__all__ = [
    "Ties",
    "accept",
    "adopt",
    "announce",
    "demonitor",
    "link",
    "monitor",
    "take_over",
    "taken_back",
    "unlink",
    "unwatch",
    "watch",
]


class Ties:
    """The tables of one process, made when the first entry is."""

    __slots__ = ("children", "links", "monitors", "watchers", "watching")

    def __init__(self) -> None:
        self.links: dict[Ref[Any], Link] = {}
        self.monitors: dict[MonitorRef, None] = {}
        self.watching: dict[MonitorRef, None] = {}
        self.children: dict[Ref[Any], None] = {}
        self.watchers: list[Callable[[Reason], object]] = []


def adopt(parent: Ref[Any], child: Ref[Any]) -> bool:
    """Make `child` a child of `parent`, which has to stop it. False: the parent is dead."""
    with parent.system.lock:
        ties = _ties(parent)
        if parent.reason is not ALIVE:
            return False
        ties.children[child] = None
        child.parent = parent
        return True


def take_over(parent: Ref[Any], child: Ref[Any]) -> None:
    """Make a running process the parent's child; one that has a parent, or is dead, is linked instead."""
    with parent.system.lock:
        if child.parent is parent and child.linked:
            return
        ties = _ties(parent)
        if child.parent is None and child.reason is ALIVE and parent.reason is ALIVE:
            ties.children[child] = None
            child.parent = parent
            child.linked = True
            return
    link(parent, child)
    if parent.reason is not ALIVE:
        child.terminate(SHUTDOWN)


def link(ref: Ref[Any], other: Ref[Any]) -> None:
    """Link two processes: when one dies, the other gets an exit signal."""
    with ref.system.lock:
        tie, mine, theirs = Link(), _ties(ref), _ties(other)
        needless = ref is other or _is_child(ref, other) or _is_child(other, ref)
        if ref.reason is ALIVE and other.reason is ALIVE:
            if not needless and other not in mine.links:
                mine.links[other] = theirs.links[ref] = tie
            return
        if ref.reason is ALIVE:
            mine.links[other] = tie  # where `unlink` finds it
    ref.receive_exit(ExitNotice(other, NOPROC, tie))


def unlink(ref: Ref[Any], other: Ref[Any]) -> None:
    """Remove the link: no exit from `other` arrives afterwards, not even one that is already queued."""
    with ref.system.lock:
        for child, parent in ((ref, other), (other, ref)):
            if child.parent is parent:
                child.linked = False
                if parent.ties is not None:
                    parent.ties.children.pop(child, None)
        mine = ref.ties.links.pop(other, None) if ref.ties is not None else None
        theirs = other.ties.links.pop(ref, None) if other.ties is not None else None
        for tie in (mine, theirs):
            if tie is not None:
                tie.active = False


def accept(ref: Ref[Any], notice: ExitNotice) -> bool:
    """Whether an exit signal that was on its way still counts: once, and not after `unlink`."""
    if notice.sender is None or (notice.link is None and not notice.child):
        return True  # sent with `exit`, on no link
    with ref.system.lock:
        if notice.child:
            return ref.ties is not None and ref.ties.children.pop(notice.sender, ALIVE) is not ALIVE
        if ref.ties is not None:
            ref.ties.links.pop(notice.sender, None)
        active = notice.link is not None and notice.link.active
        if notice.link is not None:
            notice.link.active = False
        return active


def taken_back(ref: Ref[Any], item: object) -> bool:
    """Whether this is a signal that nobody is to hear of any more: after `unlink`, `demonitor`, or by its sender."""
    if type(item) is ExitNotice and item.child:
        return ref.ties is None or item.sender not in ref.ties.children
    if type(item) is ExitNotice:
        return item.link is not None and not item.link.active
    return (type(item) is DownNotice and not item.mref.active) or (type(item) is Letter and not item.active)


def monitor(owner: Ref[Any], target: Ref[Any] | None) -> MonitorRef:
    """Tell `owner` once when `target` ends: now, with `NOPROC`, if it has ended or never was."""
    mref = MonitorRef(owner, target)
    if target is not None:
        with owner.system.lock:
            mine, theirs = _ties(owner), _ties(target)
            if target.reason is ALIVE:
                if owner.reason is ALIVE:
                    theirs.monitors[mref] = mine.watching[mref] = None
                return mref
    owner.inform(DownNotice(mref, NOPROC))
    return mref


def demonitor(mref: MonitorRef, *, flush: bool = True) -> None:
    """End the monitor; with `flush` a DOWN that is already queued is not delivered either."""
    with mref.owner.system.lock:
        _end_monitor(mref)
        if flush:
            mref.active = False


def watch(ref: Ref[Any], callback: Callable[[Reason], object]) -> bool:
    """Have `callback(reason)` called at death. False: the process is dead already."""
    with ref.system.lock:
        ties = _ties(ref)
        if ref.reason is not ALIVE:
            return False
        ties.watchers.append(callback)
        return True


def unwatch(ref: Ref[Any], callback: Callable[[Reason], object]) -> None:
    """Take back a `watch`."""
    with ref.system.lock:
        ties = ref.ties
        if ties is not None and callback in ties.watchers:
            ties.watchers.remove(callback)


_UNTOLD = "telling a process of a death failed"  # perhaps a property of their class raises


def announce(ref: Ref[Any], reason: Reason) -> None:
    """The process is dead: record why, and tell its children, links, monitors and observers, in this order."""
    with ref.system.lock:
        ref.reason = reason
        ties, ref.ties = ref.ties, None
        parent = ref.parent if ref.linked else None
        owner = None if parent is None else parent.actor_inbox.owner
        if owner is not None and owner._actor_forgets(ref, reason):  # noqa: SLF001
            parent, ref.linked = None, False
        _forget_child(ref)
        if ties is not None:
            _untie(ties)
    if ties is not None:
        for child in ties.children:
            contained(_UNTOLD, child.terminate, SHUTDOWN)
    if parent is not None:
        contained(_UNTOLD, parent.receive_exit, ExitNotice(ref, reason, child=True))
    if ties is None:
        return
    for peer, tie in ties.links.items():
        contained(_UNTOLD, peer.receive_exit, ExitNotice(ref, reason, tie))
    for mref in ties.monitors:
        contained(_UNTOLD, mref.owner.inform, DownNotice(mref, reason))
    for callback in ties.watchers:
        run_exit_callback(callback, reason)


def _ties(ref: Ref[Any]) -> Ties:
    # For the dead: new ones, which nobody will ever look at.
    if ref.ties is not None:
        return ref.ties
    ties = Ties()
    if ref.reason is not ALIVE:
        return ties
    if ref.ties is None:
        ref.ties = ties
    return ref.ties


def _is_child(child: Ref[Any], parent: Ref[Any]) -> bool:
    return child.parent is parent and parent.ties is not None and child in parent.ties.children


def _forget_child(ref: Ref[Any]) -> None:
    # A child that never started dies unannounced; a linked one stays on the list until its exit is handled.
    parent = ref.parent
    if parent is not None and not ref.linked and parent.ties is not None:
        parent.ties.children.pop(ref, None)


def _untie(ties: Ties) -> None:
    # The peers keep their side until the exit has arrived, so that `unlink` can still stop it.
    for mref in ties.watching:
        mref.active = False
        if mref.target is not None and mref.target.ties is not None:
            mref.target.ties.monitors.pop(mref, None)
    for mref in ties.monitors:
        if mref.owner.ties is not None:
            mref.owner.ties.watching.pop(mref, None)


def _end_monitor(mref: MonitorRef) -> None:
    if mref.target is not None and mref.target.ties is not None:
        mref.target.ties.monitors.pop(mref, None)
    if mref.owner.ties is not None:
        mref.owner.ties.watching.pop(mref, None)
