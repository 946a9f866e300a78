"""Sessions in memory."""

from __future__ import annotations

from collections.abc import Sequence

from allm_actors.data import Session

from .contract import Save, name_of

__all__ = ["MemoryStore"]


class MemoryStore:
    """Sessions in a dict: they outlive their actors, not the process. For one host only: it detects no conflicts."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    def open(self) -> None:
        """Nothing to open."""

    def load(self, id: str) -> Session | None:
        """The session of that name, or None."""
        return self._sessions.get(id)

    def save(self, batch: Sequence[Save]) -> None:
        """Keep every session of the batch."""
        for save in batch:
            self._sessions[name_of(save.session)] = save.session

    def delete(self, id: str) -> None:
        """Forget a session."""
        self._sessions.pop(id, None)

    def ids(self) -> list[str]:
        """The names of all sessions, sorted."""
        return sorted(self._sessions)

    def close(self) -> None:
        """Nothing to close."""
