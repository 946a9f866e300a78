"""The protocol of a session store.

Rule of this file: a session is a header and its messages, so that a step appends instead of rewriting the conversation.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import msgspec

from allm_actors.data import Message, Session, SessionStatus, StoreError
from allm_actors.execution.answers import is_unfinished

__all__ = ["Save", "Store", "StoredSession", "is_unanswered", "line_of", "name_of"]


class Save(msgspec.Struct, frozen=True):
    """Store `session`; its first `keep` messages are stored already and unchanged.

    `halted_reason` is why the turn ended that the session is the end of, if it is the end of one.
    """

    session: Session
    keep: int = 0
    halted_reason: str | None = None


class StoredSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session as a store knows it without loading it.

    `saved_at` is the time of its last save, in seconds since the epoch. `unanswered`: its last turn is running, or
    ended before the model had answered: it was cut off, failed, or its process died. `halted_reason` is why its last
    turn ended: `cancelled` by somebody, `interrupted` by a shutdown, and so on. It is None while a turn runs, if the
    process died during it, and after anything else that changed the session.
    """

    id: str
    saved_at: float
    unanswered: bool
    status: SessionStatus = "idle"
    halted_reason: str | None = None


class Store(Protocol):
    """Stores sessions by name. Every method may raise `StoreError`; no two threads call it at once.
    Arguments are given by position.

    An optional `release(id)` is called when nobody works with that session any more, until it is loaded
    again.

    A store that several hosts share refuses a save (`conflict`) of a session that somebody else has saved or
    deleted since it was loaded or saved here, and keeps what it has. A session that was deleted and begun anew
    under its name is not the old one: a version mark is never used again for a name, not even after `delete`. An
    optional `stored()` returns a `StoredSession` for each session, the one that was saved longest ago first, and
    an optional `halted_reason(id)` what a session was saved with. An optional `check(id)` raises what a save
    would be refused with; it is called before a session is forked, and before a request is refused because of a
    status that may be out of date.
    """

    def open(self) -> None:
        """Make the store ready; called before anything else, and again for use after `close`."""

    def load(self, id: str, /) -> Session | None:
        """The session of that name, or None."""

    def save(self, batch: Sequence[Save], /) -> None:
        """Store all of the batch, or raise and store none of it."""

    def delete(self, id: str, /) -> None:
        """Forget the session of that name, if there is one."""

    def ids(self) -> list[str]:
        """The names of all sessions, sorted."""

    def close(self) -> None:
        """Release files; harmless when not open."""


def is_unanswered(session: Session, last: Message | None) -> bool:
    """Whether the model's next words are due, by the session's status and the `last` of its messages."""
    if last is None or session.status not in ("idle", "error") or session.pending_tool_calls:
        return False
    if last.role != "assistant":
        return last.role != "system"
    said: object = last.metadata
    return is_unfinished(last) or (isinstance(said, dict) and bool(said.get("tool_calls")))


def line_of(name: str, save: Save) -> StoredSession:
    """What `stored` returns for a session that is saved now."""
    session = save.session
    return StoredSession(
        id=name,
        saved_at=time.time(),
        unanswered=is_unanswered(session, session.thread.last),
        status=session.status,
        halted_reason=save.halted_reason,
    )


def name_of(session: Session) -> str:
    """The name to store the session under. Raises StoreError (`unencodable`) where it has none."""
    id: object = session.id  # constructors check nothing
    if not isinstance(id, str):
        found = "without an id" if id is None else f"whose id is of the type {type(id).__name__}"
        raise StoreError("unencodable", message=f"a session {found} cannot be stored; give it a name")
    return id
