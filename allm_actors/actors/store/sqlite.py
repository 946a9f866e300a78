"""Sessions in one SQLite file.

Rule of this file: what `save` returned for is durable against the death of the process (SQLite's WAL; with
`synchronous=NORMAL` only a power loss may take the last commits). What may happen to the file itself is in `database`.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard, get_args

import msgspec

from allm_actors.data import Message, Session, SessionStatus, StoreError, Thread
from allm_actors.data.codec import from_msgpack, to_msgpack
from allm_actors.data.predicates import all_of, one_of

from .contract import Save, StoredSession, line_of, name_of
from .database import Database
from .schema import SCHEMA_VERSION, pragma

__all__ = ["SQLiteStore"]


class SQLiteStore:
    """Sessions in one SQLite file. Raises StoreError for a file that is not ours, newer than we are, or locked.

    A file that was open when the process was forked is refused in the child, where SQLite could corrupt it.
    A file that is removed, replaced or truncated while it is open is refused, too, and so is one whose `-wal` or
    `-shm` file is removed: what is written to it would be lost, or overwritten by others.
    Several hosts may use one file, for different sessions: a save of a session that another host has saved
    since it was loaded is refused (`conflict`), so that no messages are lost silently. So is a save of a
    session that was deleted since, whatever has been begun under its name.

    With `read_only` a file is neither created, upgraded nor changed; saves are refused (`unavailable`). In a folder
    that cannot be written, a file that nobody has open can be read, until somebody opens it.

    Units: `patience` is how long it waits for another process to release the file, in seconds. After one such wait in
    vain, the next ones wait at most 0.1 until a save succeeds again, so that waiting callers do not queue up.
    """

    def __init__(self, path: str | Path, *, patience: float = 5.0, read_only: bool = False) -> None:
        self._database = Database(path, patience=patience, read_only=read_only)
        self.path: str = self._database.path
        self._seen: dict[str, int] = {}  # by session: the revision that we loaded or saved last

    def open(self) -> None:
        """Open the file, creating it if it does not exist, except with `read_only`. A connection that is
        still open is interrupted and closed.

        Raises StoreError(`locked`) when that has not ended within `patience`.
        """
        self._database.open()
        self._seen.clear()

    def load(self, id: str) -> Session | None:
        """The session of that name, or None."""
        with self._database.held():
            with self._database.transaction("BEGIN") as db:
                row = db.execute("SELECT header, revision FROM sessions WHERE id = ?", (id,)).fetchone()
                rows = db.execute("SELECT body FROM messages WHERE session = ? ORDER BY seq", (id,))
                bodies = [body for (body,) in rows]
            session = None if row is None else self._decode(id, row[0], bodies)
            self._seen[id] = 0 if row is None else row[1]  # what cannot be read has not been seen
        return session

    def check(self, id: str) -> None:
        """Raises StoreError(`conflict`) when somebody else has changed it since it was loaded or saved here."""
        with self._database.held(), self._database.transaction("BEGIN") as db:
            self._seen_revision(db, id)

    def save(self, batch: Sequence[Save]) -> None:
        """Store the batch in one transaction."""
        rows = [self._encode(save) for save in batch]
        seen = dict.fromkeys((name for name, *_ in rows), 0)
        with self._database.held():
            with self._database.transaction() as db:
                for (name, header, keep, bodies), save in zip(rows, batch, strict=True):
                    revision = seen[name] = self._next_revision(db, name, seen[name])
                    self._check_kept(db, name, keep)
                    line = line_of(name, save)
                    row = (name, header, revision, *msgspec.structs.astuple(line)[1:])
                    db.execute("REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)", row)
                    db.execute("DELETE FROM messages WHERE session = ? AND seq >= ?", (name, keep))
                    numbered = ((name, seq, body) for seq, body in enumerate(bodies, keep))
                    db.executemany("INSERT INTO messages VALUES (?, ?, ?)", numbered)
            self._seen.update(seen)

    def delete(self, id: str) -> None:
        """Forget a session."""
        with self._database.held():
            with self._database.transaction() as db:
                db.execute("DELETE FROM messages WHERE session = ?", (id,))
                db.execute("DELETE FROM sessions WHERE id = ?", (id,))
            self._seen.pop(id, None)

    def release(self, id: str) -> None:
        """Nobody works with the session of that name any more, until it is loaded again."""
        self._seen.pop(id, None)

    def ids(self) -> list[str]:
        """The names of all sessions, sorted."""
        with self._database.held(), self._database.transaction("BEGIN") as db:
            return [id for (id,) in db.execute("SELECT id FROM sessions ORDER BY id")]

    def stored(self) -> list[StoredSession]:
        """A line for each session, the one that was saved longest ago first.

        Raises StoreError(`unavailable`) for a file of an older version that is only read.
        """
        with self._database.held(), self._database.transaction("BEGIN") as db:
            version = pragma(db, "user_version")
            self._database.check_version(version)
            if 0 < version < SCHEMA_VERSION:
                advice = "is of an older version, which recorded less; open it with a host, which upgrades it"
                raise self._database.error("unavailable", advice)
            columns = ", ".join(StoredSession.__struct_fields__)
            rows = db.execute(f"SELECT {columns} FROM sessions ORDER BY saved_at, id")  # noqa: S608 - our own names
            return [
                StoredSession(
                    id=id, saved_at=at, unanswered=bool(waits), status=status, halted_reason=halted_reason
                )
                for id, at, waits, status, halted_reason in rows
            ]

    def halted_reason(self, id: str) -> str | None:
        """Why the last turn of a session ended; None in a file of an older version that is only read."""
        with self._database.held(), self._database.transaction("BEGIN") as db:
            if pragma(db, "user_version") < SCHEMA_VERSION:
                return None
            row = db.execute("SELECT halted_reason FROM sessions WHERE id = ?", (id,)).fetchone()
            return None if row is None else row[0]

    def close(self) -> None:
        """Close the file; the write-ahead log is checkpointed into it.

        Not if another process has a `-wal` of its own, because ours was removed: it may have written to the file.
        """
        self._database.close()

    def _next_revision(self, db: sqlite3.Connection, name: str, written: int) -> int:
        ours = self._seen_revision(db, name, written)
        return ours + 1 if ours else _first_revision()

    def _seen_revision(self, db: sqlite3.Connection, name: str, written: int = 0) -> int:
        row = db.execute("SELECT revision FROM sessions WHERE id = ?", (name,)).fetchone()
        stored, ours = row[0] if row else 0, written or self._seen.get(name, 0)
        if stored != ours:
            advice = (
                f"has a newer version of session {name!r}, saved by another host; look at the session's status, "
                "because what you asked for may be done there, and ask again to go on from that version"
            )
            raise self._database.error("conflict", advice)
        return ours

    def _check_kept(self, db: sqlite3.Connection, name: str, keep: int) -> None:
        # An append must match what is there: after a failed save the next one writes everything.
        row = (
            db.execute("SELECT max(seq) FROM messages WHERE session = ?", (name,)).fetchone()
            if keep
            else (-1,)
        )
        if (row[0] if row[0] is not None else -1) < keep - 1:
            raise self._database.error(
                "corrupt", f"does not have the first {keep} messages of session {name!r}; save all of them"
            )

    def _encode(self, save: Save) -> tuple[str, bytes, int, list[bytes]]:
        name = name_of(save.session)
        if not _is_session(save.session, name):  # it could not be loaded again
            advice = f"cannot hold session {name!r}: its thread, status, context or metadata is not one of a session"
            raise self._database.error("unencodable", advice)
        new = save.session.thread.messages[save.keep :]
        try:
            return (
                name,
                to_msgpack(_header(save.session)),
                save.keep,
                [to_msgpack(message) for message in new],
            )
        except TypeError as error:
            raise self._database.error("unencodable", f"cannot hold session {name!r}: {error}") from error

    def _decode(self, id: str, header: bytes, bodies: list[bytes]) -> Session:
        try:
            session, messages = from_msgpack(header), [from_msgpack(body) for body in bodies]
        except Exception as error:
            if isinstance(error, StoreError) and error.reason == "newer_schema":
                advice = f"holds a session {id!r} that is intact, but not for this process: {error}"
                raise self._database.error("newer_schema", advice) from error
            advice = f"holds a session {id!r} that cannot be decoded ({type(error).__name__}: {error})"
            raise self._database.error("corrupt", advice) from error
        if not _is_session(session, id) or not all_of(messages, Message):
            raise self._database.error("corrupt", f"holds something other than session {id!r} under its name")
        return msgspec.structs.replace(
            session, thread=msgspec.structs.replace(session.thread, messages=messages)
        )


def _is_session(value: Any, id: str) -> TypeGuard[Session]:
    # The bytes may have come from anywhere, and an odd id or status would fail the saves that share its transaction.
    return (
        isinstance(value, Session)
        and value.id == id
        and type(value.thread) is Thread
        and one_of(value.status, get_args(SessionStatus))
        and all(isinstance(each, dict) for each in (value.thread.metadata, value.context, value.metadata))
    )


def _header(session: Session) -> Session:
    return msgspec.structs.replace(session, thread=Thread(metadata=session.thread.metadata))


def _first_revision() -> int:
    # Not 1: another host may still hold the session deleted under this name, and its save would be accepted once the
    # new session reaches the same revision. A random start avoids that without keeping anything of deleted sessions.
    return secrets.randbelow(1 << 62) + 1
