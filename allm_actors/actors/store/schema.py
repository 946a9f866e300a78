"""The tables of a store's SQLite file, and how a file of an older version gets them.

Rule of this file: a version that was released is never changed; a new one gets a number and the statements that
lead to it, which run in one transaction.
"""

from __future__ import annotations

import contextlib
import sqlite3

from allm_actors.data.codec import from_msgpack

from .contract import is_unanswered

__all__ = ["APPLICATION_ID", "SCHEMA", "SCHEMA_VERSION", "UPGRADES", "has_revisions", "pragma", "upgrade"]

APPLICATION_ID = 0x414C4C4D  # "ALLM", so that `file` and we can tell the file from anybody's database
SCHEMA_VERSION = 4
# Messages have row ids: in a WITHOUT ROWID table the rows are in the key's B-tree, and a search in it reads the images
# in neighbouring rows, of any session. Source: https://www.sqlite.org/withoutrowid.html, 5, read 2026-11.
_MESSAGES = """
CREATE TABLE messages (session TEXT NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (session, seq))
"""
SCHEMA = (
    """
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, header BLOB NOT NULL, revision INTEGER NOT NULL,
    saved_at REAL NOT NULL DEFAULT 0, unanswered INTEGER NOT NULL DEFAULT 0,
    status TEXT NOT NULL DEFAULT 'idle', halted_reason TEXT
) WITHOUT ROWID
""",
    _MESSAGES,
)
UPGRADES = {
    1: (
        "ALTER TABLE messages RENAME TO messages_without_row_ids",
        _MESSAGES,
        "INSERT INTO messages SELECT session, seq, body FROM messages_without_row_ids ORDER BY session, seq",
        "DROP TABLE messages_without_row_ids",
    ),
    2: (  # the upgrade counts as a save: when there was one before was not recorded
        "ALTER TABLE sessions ADD COLUMN saved_at REAL NOT NULL DEFAULT 0",
        "ALTER TABLE sessions ADD COLUMN unanswered INTEGER NOT NULL DEFAULT 0",
        "UPDATE sessions SET saved_at = CAST(strftime('%s', 'now') AS REAL)",
        """
UPDATE sessions SET unanswered = is_unanswered(
    header, (SELECT body FROM messages WHERE session = sessions.id ORDER BY seq DESC LIMIT 1)
)
""",
    ),
    3: (  # why a turn ended was not recorded, and a conversation does not tell a cancelled turn from an interrupted one
        "ALTER TABLE sessions ADD COLUMN status TEXT NOT NULL DEFAULT 'idle'",
        "ALTER TABLE sessions ADD COLUMN halted_reason TEXT",
        "UPDATE sessions SET status = status_of(header)",
    ),
}
"""By version: the statements that upgrade a file of that version to the next one."""


def upgrade(db: sqlite3.Connection, version: int) -> None:
    """Bring a file of this version, 0 if it is empty, to `SCHEMA_VERSION`. To be called in a transaction."""
    if version and not has_revisions(db):
        db.execute("ALTER TABLE sessions ADD COLUMN revision INTEGER NOT NULL DEFAULT 1")
    db.create_function("is_unanswered", 2, _is_unanswered)
    db.create_function("status_of", 1, _status_of)
    for statements in [UPGRADES[each] for each in range(version, SCHEMA_VERSION)] if version else [SCHEMA]:
        for statement in statements:
            db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def has_revisions(db: sqlite3.Connection) -> bool:
    """Whether its sessions have revisions; the very first files of version 1 had none."""
    return any(name == "revision" for _, name, *_ in db.execute("PRAGMA table_info(sessions)"))


def pragma(db: sqlite3.Connection, name: str) -> int:
    """The number that a file has under this name."""
    value: int = db.execute(f"PRAGMA {name}").fetchone()[0]
    return value


def _status_of(header: bytes) -> str:
    with contextlib.suppress(Exception):  # as below
        return str(from_msgpack(header).status)
    return "idle"


def _is_unanswered(header: bytes, last: bytes | None) -> bool:
    with contextlib.suppress(Exception):  # what cannot be read is told when the session is loaded
        return is_unanswered(from_msgpack(header), None if last is None else from_msgpack(last))
    return False
