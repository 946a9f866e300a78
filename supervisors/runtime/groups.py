"""Process groups: any number of processes under one name, and news of who joins and leaves.

The rule of this file: a group is there while it has members, and asking for one that is not is no error. A snapshot and
the news that follow it are taken under one lock, so nothing is missed and nothing is told twice.

Source: Erlang/OTP `pg`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any, final

from supervisors.errors import ProcessDown, SupervisorError
from supervisors.reasons import NOPROC
from supervisors.runtime.names import check_key
from supervisors.runtime.news import News
from supervisors.runtime.running import guard, running
from supervisors.runtime.ties import a_ref

if TYPE_CHECKING:
    from supervisors.runtime.ref import Ref

__all__ = ["GroupJoined", "GroupLeft", "GroupMonitor", "Groups"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class GroupMonitor:
    """One process's wish to hear of one group."""

    owner: Ref[Any]
    group: Hashable


@final
@dataclass(frozen=True, slots=True)
class GroupJoined:
    """The message that these have joined."""

    monitor: GroupMonitor
    group: Hashable
    refs: tuple[Ref[Any], ...]


@final
@dataclass(frozen=True, slots=True)
class GroupLeft:
    """The message that these have left, or died."""

    monitor: GroupMonitor
    group: Hashable
    refs: tuple[Ref[Any], ...]


class Groups:
    """The groups of one scope; scopes know nothing of each other. Thread: any."""

    def __init__(self) -> None:
        self._lock = RLock()  # reentrant: a finalizer or a signal handler may come in
        self._news = News(self._lock)
        # A finalizer may run, and end a member, wherever something is called: but not while an entry is made.
        self._members: defaultdict[Hashable, dict[Ref[Any], int]] = defaultdict(dict)
        self._groups: dict[Ref[Any], dict[Hashable, None]] = {}
        self._monitors: dict[Hashable, dict[GroupMonitor, None]] = {}
        self._wishes: dict[Ref[Any], dict[GroupMonitor, None]] = {}

    def join(self, group: Hashable, ref: Ref[Any]) -> None:
        """Be a member, until it has left as often as it joined, or is dead.

        Raises: `ProcessDown`; `BadSpec` for what can be no name, or is no ref.
        """
        guard()
        check_key(group)
        a_ref(ref)
        with self._lock:
            joined = self._groups.get(ref)
            if joined is None:
                if not ref.hold(self._forget_member):
                    raise ProcessDown(NOPROC, ref)
                joined = self._groups[ref] = {}
            times = self._members[group].get(ref, 0) + 1
            self._members[group][ref] = times
            joined[group] = None
            for monitor in self._monitors.get(group, ()):
                self._news.add(monitor.owner, GroupJoined(monitor, group, (ref,)))
            if ref.buried:  # by a finalizer, perhaps, that was run while we were at it
                self._groups[ref] = joined
        if ref.buried:
            self._forget_member(ref)
        self._news.tell()

    def leave(self, group: Hashable, ref: Ref[Any]) -> bool:
        """Be a member once less; False if it was none."""
        guard()
        with self._lock:
            members = self._members.get(group, {})
            if ref not in members:
                return False
            self._remove(group, ref, 1)
        self._news.tell()
        return True

    def members(self, group: Hashable) -> list[Ref[Any]]:
        """All members, each as often as it joined, in no order."""
        with self._lock:
            return [ref for ref, times in self._members.get(group, {}).items() for _ in range(times)]

    def which_groups(self) -> list[Hashable]:
        """All groups that have members."""
        with self._lock:
            return list(self._members)

    def monitor(self, group: Hashable) -> tuple[GroupMonitor, list[Ref[Any]]]:
        """Who is in the group, and from now on a `GroupJoined` or `GroupLeft` for each change, to the calling process.

        Raises: `SupervisorError` outside a process.
        """
        guard()
        process = running.process
        if process is None:
            raise SupervisorError("only a process can monitor a group: the news are messages")
        owner = process.ref
        with self._lock:
            wishes = self._wishes.get(owner)
            if wishes is None:
                if not owner.hold(self._forget_owner):
                    raise ProcessDown(NOPROC, owner)
                wishes = self._wishes[owner] = {}
            monitor = GroupMonitor(owner, group)
            wishes[monitor] = None
            self._monitors.setdefault(group, {})[monitor] = None
            return monitor, self.members(group)

    def demonitor(self, monitor: GroupMonitor) -> None:
        """No more news; what is queued already still arrives."""
        guard()
        with self._lock:
            self._wishes.get(monitor.owner, {}).pop(monitor, None)
            self._unwatch(monitor)

    def _remove(self, group: Hashable, ref: Ref[Any], times: int) -> None:
        members = self._members[group]
        members[ref] -= times
        if not members[ref]:
            del members[ref]
            del self._groups[ref][group]
        if not members:
            del self._members[group]
        for monitor in self._monitors.get(group, ()):
            self._news.add(monitor.owner, GroupLeft(monitor, group, (ref,) * times))

    def _unwatch(self, monitor: GroupMonitor) -> None:
        monitors = self._monitors.get(monitor.group, {})
        monitors.pop(monitor, None)
        if not monitors:
            self._monitors.pop(monitor.group, None)

    def _forget_member(self, ref: Ref[Any]) -> None:
        with self._lock:
            for group in list(self._groups.get(ref, ())):
                self._remove(group, ref, self._members[group][ref])
            self._groups.pop(ref, None)
        self._news.tell()

    def _forget_owner(self, ref: Ref[Any]) -> None:
        with self._lock:
            for monitor in self._wishes.pop(ref, {}):
                self._unwatch(monitor)
