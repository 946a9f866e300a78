"""Sessions in memory."""

from __future__ import annotations

from collections.abc import Sequence

from allm_actors.data import Session

from .contract import Save, StoredSession, line_of, name_of

__all__ = ["MemoryStore"]


class MemoryStore:
    """Sessions in a dict: they outlive their actors, not the process. For one host only: it detects no conflicts."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._lines: dict[str, StoredSession] = {}

    def open(self) -> None:
        """Nothing to open."""

    def load(self, id: str) -> Session | None:
        """The session of that name, or None."""
        return self._sessions.get(id)

    def save(self, batch: Sequence[Save]) -> None:
        """Keep every session of the batch."""
        named = [(name_of(save.session), save) for save in batch]  # raises before anything is kept
        for name, save in named:
            self._sessions[name], self._lines[name] = save.session, line_of(name, save)

    def delete(self, id: str) -> None:
        """Forget a session."""
        self._sessions.pop(id, None)
        self._lines.pop(id, None)

    def ids(self) -> list[str]:
        """The names of all sessions, sorted."""
        return sorted(self._sessions)

    def stored(self) -> list[StoredSession]:
        """A line for each session, the one that was saved longest ago first."""
        return sorted(self._lines.values(), key=lambda line: (line.saved_at, line.id))

    def halted_reason(self, id: str) -> str | None:
        """Why the last turn of a session ended."""
        return self._lines[id].halted_reason if id in self._lines else None

    def close(self) -> None:
        """Nothing to close."""
