"""How a child that ended comes back, in supervisors of both kinds: at once, or put off.

The rule of this file: a restart is counted when it is tried. One that is put off comes as a `Retry`, and is tried if
that is still the very object that the child's entry holds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable

from supervisors.core.entry import Entry
from supervisors.core.steps import Later, Operation, Retry, Stop
from supervisors.core.window import RestartWindow
from supervisors.spec import DynamicFlags, Flags

__all__ = ["Recovery"]


class Recovery(ABC):
    """Children by key, and the history of their restarts."""

    def __init__(self, flags: Flags | DynamicFlags) -> None:
        self._entries: dict[Hashable, Entry] = {}
        self._window = RestartWindow(flags.max_restarts, flags.max_seconds)

    def retry(self, retry: Retry, now: float) -> Operation[Stop | None]:
        """Make the restart that was put off, unless the child was stopped or started meanwhile."""
        entry = self._entries.get(retry.key)
        if entry is None or entry.retry is not retry:
            return None
        return (yield from self._restart(entry, now))

    def _recover(self, entry: Entry, now: float) -> Operation[Stop | None]:
        backoff = entry.spec.backoff
        if backoff is None:
            return (yield from self._restart(entry, now))
        if backoff.forgets(now - entry.started_at):
            entry.streak = 0
        yield self._put_off(entry)
        return None

    def _put_off(self, entry: Entry) -> Later:
        retry = self._awaiting(entry)
        entry.streak += 1
        return Later(retry, entry.spec.backoff, entry.streak - 1)

    @abstractmethod
    def _restart(self, entry: Entry, now: float) -> Operation[Stop | None]:
        """Count a restart, and make it if that is not one too many."""

    @abstractmethod
    def _awaiting(self, entry: Entry) -> Retry:
        """Have the entry hold a new `Retry`, by the child's key."""
