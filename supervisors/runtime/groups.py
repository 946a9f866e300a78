"""Process groups: any number of processes under one name, and messages about who joins and leaves.

The rule of this file: a group exists while it has members; to ask about one that does not is no error. A
snapshot and the news that follow it are taken under one lock, so nothing is missed and nothing is told twice.

Source: Erlang/OTP `pg`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any, final

from supervisors.errors import ProcessDown, SupervisorError
from supervisors.reasons import NOPROC
from supervisors.runtime.names import check_key
from supervisors.runtime.news import News
from supervisors.runtime.ref import a_ref
from supervisors.runtime.running import guard, running

if TYPE_CHECKING:
    from supervisors.runtime.ref import Ref

__all__ = ["GroupJoined", "GroupLeft", "GroupMonitor", "Groups"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class GroupMonitor:
    """One process's monitor of one group."""

    owner: Ref[Any]
    group: Hashable


@final
@dataclass(frozen=True, slots=True)
class GroupJoined:
    """Sent to the owner of `monitor`: these processes have joined the group."""

    monitor: GroupMonitor
    group: Hashable
    refs: tuple[Ref[Any], ...]


@final
@dataclass(frozen=True, slots=True)
class GroupLeft:
    """Sent to the owner of `monitor`: these processes have left the group, or died."""

    monitor: GroupMonitor
    group: Hashable
    refs: tuple[Ref[Any], ...]


class Groups:
    """The groups of one scope; scopes know nothing of each other. Thread: any."""

    def __init__(self) -> None:
        self._lock = RLock()  # reentrant: a finalizer or a signal handler may run while it is held
        self._news = News(self._lock, self._forget)
        self._members: dict[Hashable, dict[Ref[Any], int]] = {}
        self._groups: dict[Ref[Any], dict[Hashable, None]] = {}
        self._monitors: dict[Hashable, dict[GroupMonitor, None]] = {}
        self._wishes: dict[Ref[Any], dict[GroupMonitor, None]] = {}

    def join(self, group: Hashable, ref: Ref[Any]) -> None:
        """Make `ref` a member, until it has left as often as it joined, or is dead.

        Raises: `ProcessDown` if it is dead; `BadSpec` if `group` is not hashable, or `ref` is no ref.
        """
        guard()
        check_key(group)
        a_ref(ref)
        self._hold(ref)
        with self._lock:
            self._groups.setdefault(ref, {})[group] = None
            members = self._members.setdefault(group, {})
            members[ref] = members.get(ref, 0) + 1
            for monitor in self._monitors.get(group, ()):
                self._news.add(monitor.owner, GroupJoined(monitor, group, (ref,)))
            self._look_again(ref)
        self._news.tell()

    def leave(self, group: Hashable, ref: Ref[Any]) -> bool:
        """Undo one `join`; False if `ref` was no member."""
        guard()
        with self._lock:
            is_member = ref in self._members.get(group, {})
            if is_member:
                self._remove(group, ref, 1)
        self._news.tell()
        return is_member

    def members(self, group: Hashable) -> list[Ref[Any]]:
        """All members, each as often as it joined, in no order."""
        return [ref for ref, times in list(self._members.get(group, {}).items()) for _ in range(times)]

    def which_groups(self) -> list[Hashable]:
        """All groups that have members."""
        return list(self._members)

    def monitor(self, group: Hashable) -> tuple[GroupMonitor, list[Ref[Any]]]:
        """Send the calling process a `GroupJoined` or `GroupLeft` for each change from now on.

        Returns the monitor and the current members.
        Raises: `SupervisorError` outside a process.
        """
        guard()
        process = running.process
        if process is None:
            raise SupervisorError(
                "only a process can monitor a group, because the changes arrive as messages"
            )
        owner = process.ref
        self._hold(owner)
        with self._lock:
            monitor = GroupMonitor(owner, group)
            self._wishes.setdefault(owner, {})[monitor] = None
            self._monitors.setdefault(group, {})[monitor] = None
            members = self.members(group)
            self._look_again(owner)
        self._news.tell()
        return monitor, members

    def demonitor(self, monitor: GroupMonitor) -> None:
        """End the monitor; messages that are queued already still arrive."""
        guard()
        with self._lock:
            self._wishes.get(monitor.owner, {}).pop(monitor, None)
            self._unwatch(monitor)
        self._news.tell()

    def _hold(self, ref: Ref[Any]) -> None:
        if ref not in self._groups and ref not in self._wishes and not ref.hold(self._news.died):
            raise ProcessDown(NOPROC, ref)

    def _look_again(self, ref: Ref[Any]) -> None:
        if ref.buried:  # died since `_hold`, perhaps before there was anything to forget
            self._news.died(ref)

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

    def _forget(self, ref: Ref[Any]) -> None:
        for group in list(self._groups.get(ref, ())):
            self._remove(group, ref, self._members[group][ref])
        self._groups.pop(ref, None)
        for monitor in self._wishes.pop(ref, {}):
            self._unwatch(monitor)
