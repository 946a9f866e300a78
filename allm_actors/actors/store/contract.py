"""What a place for sessions can do.

Rule of this file: a session is a header and its messages, so that a step appends instead of rewriting the conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from allm_actors.data import Session, StoreError

__all__ = ["Save", "Store", "name_of"]


class Save(msgspec.Struct, frozen=True):
    """Store `session`, of whose messages the first `keep` are stored already and unchanged."""

    session: Session
    keep: int = 0


class Store(Protocol):
    """What a place for sessions can do. Every method may raise `StoreError`; none is called by two threads at once.

    One that has a `release(id)` is told when nobody works with that session any more, until it is loaded again.

    One that several hosts share refuses a save (`conflict`) of a session that somebody else has saved or deleted since
    it was loaded or saved here, and keeps what it has. It must not take a session that was deleted and begun anew under
    its name for the old one: what it tells versions apart by never comes again for a name, also not after `delete`. A
    `check(id)`, if it has one, raises what a save would be refused with: it is asked before a call is refused by a
    status that may be an old one.
    """

    def open(self) -> None:
        """Make the store ready; called before anything else, again after `close`."""

    def load(self, id: str) -> Session | None:
        """The session of that name, or None."""

    def save(self, batch: Sequence[Save]) -> None:
        """Store all of the batch, or raise and store none of it."""

    def delete(self, id: str) -> None:
        """Forget the session of that name, if there is one."""

    def ids(self) -> list[str]:
        """The names of all sessions, sorted."""

    def close(self) -> None:
        """Let go of files; harmless when not open."""


def name_of(session: Session) -> str:
    """The name to store it under. Raises StoreError where it has none."""
    if session.id is None:
        raise StoreError("unavailable", message="a session without an id cannot be stored; give it a name")
    return session.id
