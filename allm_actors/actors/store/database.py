"""One SQLite file that other threads, hosts and processes may use, too, or remove: opened, locked, looked after.

Rule of this file: it knows nothing of what is in the tables. What is written to the file must reach whoever opens it
next, and never overwrite what others have written: where that is not certain, it is refused, saying what to do.
Source: https://www.sqlite.org/wal.html and https://www.sqlite.org/pragma.html, read 2026-11.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

from allm_actors.data import StoreError

from .files import Identity, identity_of, out_of_files, status_of
from .schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION, has_revisions, pragma, upgrade

__all__ = ["Database"]

_LONGEST = 2e6  # seconds: SQLite counts milliseconds, in 32 bits
_PAUSE = 0.01  # seconds between two attempts to open a file that another process has locked
_HURRIED = 0.1  # seconds to wait for a lock, after the whole patience was spent on it in vain


class Database:
    """The file, and the connection to it; see `SQLiteStore` for what it refuses, and for how long it waits."""

    def __init__(self, path: str | Path, *, patience: float, read_only: bool) -> None:
        self.path: str = str(path)
        if self.path != ":memory:":
            self.path = self._absolute(path)
        self._patience = min(patience, _LONGEST)
        self._read_only = read_only and self.path != ":memory:"
        self._db: sqlite3.Connection | None = None
        self._file: Identity | None = None  # device and inode of the open file
        self._beside: tuple[tuple[str, Identity], ...] = ()  # its -wal and -shm, while SQLite has them
        # Whether it is read as a file that never changes, without locks and without a log.
        self._unlocked = False
        self._changed = 0  # when such a file was last modified
        self._size = self._schema = 0  # the file's size and SQLite's schema version when we last looked
        # Whether the last wait for a lock took the whole patience, and no save succeeded since.
        self._in_vain = False
        self._waits = self._patience  # the busy timeout that SQLite was given last
        # A killed actor's thread may still be inside SQLite: the connection must not be closed before it has left.
        self._turn = threading.RLock()

    def open(self) -> None:
        """Open the file, creating it if it does not exist, except with `read_only`. A connection that is
        still open is interrupted and closed.

        Raises StoreError(`locked`) when that has not ended within `patience`.
        """
        if identity_of(self.path) in _inherited:
            advice = (
                "was open when this process was forked, and SQLite cannot share it between processes: start "
                "hosts after the last fork, or start child processes with spawn"
            )
            raise self.error("unavailable", advice)
        self._in_vain = False
        if (db := self._db) is not None:
            with contextlib.suppress(sqlite3.ProgrammingError):  # closed in between
                db.interrupt()
        with self.held():
            self.close()
            self._file, self._beside = None, ()
            self._check_none_is_left()
            self._waits = self._patience
            self._unlocked = self._read_only and self._is_frozen()
            self._db = sqlite3.connect(
                self._uri() if self._read_only else self.path,
                timeout=self._patience,
                isolation_level=None,
                check_same_thread=False,
                uri=self._read_only,
            )
            try:
                self._prepare(self._db)
                self._check_rights()
                self._note_files(self._db)
                _open[id(self)] = self
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the file; the write-ahead log is checkpointed into it.

        Not if another process has a `-wal` of its own, because ours was removed: it may have written to the file.
        """
        with self._alone():
            db, self._db = self._db, None
            _open.pop(id(self), None)
            if db is None:
                return
            if self._is_overtaken():
                _abandon(self._file, db)
            else:
                db.close()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other threads out. Inside, an error of SQLite's becomes a StoreError that says what to do.

        Raises StoreError(`locked`) when another thread does not leave in time.
        """
        with self._errors(), self._alone():
            yield

    @contextlib.contextmanager
    def transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """One transaction; `BEGIN` is enough to read. To be used while the file is `held`.

        Raises StoreError for a file that is not what it was, or not open.
        """
        db = self._connection
        if self._file is not None:
            self._check_files(db)
        if self._waits != (wait := self._wait()):
            db.execute(f"PRAGMA busy_timeout = {round(wait * 1000)}")
            self._waits = wait
        db.execute(begin)
        try:
            if self._file is not None and begin != "BEGIN":
                self.check_version(pragma(db, "user_version"))
            yield db
        except BaseException:
            if db.in_transaction:  # an interrupted one has been rolled back by SQLite itself
                db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")
        if begin != "BEGIN" or self._read_only:  # others may read a file that is locked
            self._in_vain = False

    def check_version(self, version: int) -> None:
        """Raises StoreError(`newer_schema`) for the version of a file that a later version of this library wrote."""
        # At each write, too: another process may have made the file a newer one's.
        if version > SCHEMA_VERSION:
            advice = (
                f"has schema version {version}, and this version reads up to {SCHEMA_VERSION}; upgrade "
                "allm-actors, or use another file"
            )
            raise self.error("newer_schema", advice)

    def error(self, reason: str, what: str) -> StoreError:
        """The error that says this of the file."""
        return StoreError(reason, path=self.path, message=f"the session store {self.path} {what}")

    def leave_to_parent(self) -> None:
        """In a forked child: forget the connection, because the threads that may have been using it are not here."""
        if self._db is not None and self._file is not None:
            _inherited[self._file] = self._db
        self._db, self._turn = None, threading.RLock()

    def has_strayed(self, file: Identity | None) -> bool:
        """Whether it has `file` open with a `-wal` or `-shm` that was removed or replaced. Thread: any."""
        if self._file != file or not self._turn.acquire(blocking=False):
            return False  # its own transaction finds out
        try:
            return self._db is not None and any(identity_of(path) != known for path, known in self._beside)
        finally:
            self._turn.release()

    def _absolute(self, path: str | Path) -> str:
        try:
            return str(Path(path).absolute())
        except FileNotFoundError as error:
            advice = "cannot be found: the working directory is gone; pass an absolute path"
            raise self.error("unavailable", advice) from error

    def _uri(self) -> str:
        # Not mode=ro: such a connection cannot remove the -wal and -shm files that SQLite needs for reading.
        return f"{Path(self.path).as_uri()}?{'immutable=1' if self._unlocked else 'mode=rw'}"

    def _is_frozen(self) -> bool:
        # SQLite creates -wal and -shm even to read, unless it is told that the file does not change. Without a -wal
        # nobody has the file open. Source: https://www.sqlite.org/wal.html#readonly, read 2026-11.
        log = self._name_of("-wal")
        return not os.access(Path(log).parent, os.W_OK) and identity_of(log) is None

    def _name_of(self, suffix: str) -> str:
        return os.path.realpath(self.path) + suffix  # SQLite follows symbolic links, too

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise StoreError(
                "unavailable", path=self.path, message=f"the session store {self.path} is not open"
            )
        return self._db

    def _prepare(self, db: sqlite3.Connection) -> None:
        with self.transaction("BEGIN"):  # one consistent read: another process may be creating the file
            application, version = pragma(db, "application_id"), pragma(db, "user_version")
            tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application != APPLICATION_ID and (application or tables):
            raise self.error("not_a_store", "is a database of another program; pass another path as store=")
        self.check_version(version)
        if self._read_only:
            self._only_read(db, empty=not tables)
            return
        self._write_ahead(db)
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten, however SQLite was built
        if not tables or version < SCHEMA_VERSION:
            self._create_or_upgrade(db)

    def _only_read(self, db: sqlite3.Connection, *, empty: bool) -> None:
        # What is loaded is the same in all versions; an empty file gets temporary ones, outside the file.
        for statement in SCHEMA if empty else ():
            db.execute(statement.strip().replace("CREATE TABLE", "CREATE TEMP TABLE"))
        if not has_revisions(db):
            db.execute("CREATE TEMP VIEW sessions AS SELECT *, 1 AS revision FROM main.sessions")
        db.execute("PRAGMA query_only = ON")

    def _check_rights(self) -> None:
        path = Path(self.path)
        if (
            not self._read_only
            and path.exists()
            and not all(os.access(place, os.W_OK) for place in (path, path.parent))
        ):
            raise self.error(
                "unavailable", "cannot be written; check the permissions of the file and of its folder"
            )

    def _write_ahead(self, db: sqlite3.Connection) -> None:
        # Changing the journal mode needs an exclusive lock, for which SQLite does not wait, whatever its timeout.
        deadline = time.monotonic() + self._patience
        while True:
            try:
                db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() >= deadline:
                    raise
            time.sleep(_PAUSE)

    def _create_or_upgrade(self, db: sqlite3.Connection) -> None:
        with self.transaction():
            version = pragma(db, "user_version")  # another process may have upgraded it first
            self.check_version(version)
            upgrade(db, version)

    def _note_files(self, db: sqlite3.Connection) -> None:
        # SQLite opens -wal and -shm at its first read and keeps them until it is closed; no other user of SQLite
        # removes them meanwhile.
        with self.transaction("BEGIN"):
            self._schema = pragma(db, "schema_version")
            beside = ((path, identity_of(path)) for path in map(self._name_of, ("-wal", "-shm")))
            self._beside = tuple((path, known) for path, known in beside if known is not None)
            if (status := status_of(self.path)) is not None:
                self._file, self._size = (status.st_dev, status.st_ino), status.st_size
                self._changed = status.st_mtime_ns

    def _check_files(self, db: sqlite3.Connection) -> None:
        status = status_of(self.path)
        if status is None or (status.st_dev, status.st_ino) != self._file:
            advice = (
                "was removed or replaced while it was in use; put it back, or restart the host to use what is "
                "there now"
            )
            raise self.error("unavailable", advice)
        if self._unlocked and (
            status.st_mtime_ns != self._changed or identity_of(self._name_of("-wal")) is not None
        ):
            raise self.error("unavailable", "was opened by another process while it was read; open it again")
        for path, known in self._beside:
            if identity_of(path) != known:
                self._fold(db)
                advice = (
                    f"has lost {Path(path).name}, removed or replaced while it was in use; restart the host"
                )
                raise self.error("unavailable", advice)
        if status.st_size < self._size:
            self._check_not_cut(db, status.st_size)
        self._size = status.st_size

    def _fold(self, db: sqlite3.Connection) -> None:
        # What was stored last is in the removed log, which only this process can still read.
        if not self._is_overtaken():
            with contextlib.suppress(sqlite3.Error):
                db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _check_not_cut(self, db: sqlite3.Connection, size: int) -> None:
        # VACUUM makes the file smaller, too, but never empty, and it increments the schema version.
        try:
            schema = pragma(db, "schema_version") if size else self._schema
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:  # no database any more
            schema = self._schema
        if schema == self._schema:
            raise self.error(
                "unavailable", "was truncated while it was in use; stop the host and restore a backup"
            )
        self._schema = schema

    def _check_none_is_left(self) -> None:
        # SQLite shares one -shm mapping for a file within a process: a new connection would get the stale one.
        file = identity_of(self.path)
        stores = [store for each in _open.valuerefs() if (store := each()) is not None]
        if file in _abandoned or any(store.has_strayed(file) for store in stores):
            advice = (
                "is still open in this process with files beside it that were removed or replaced; stop all hosts that "
                "use it, or end the process, and start again"
            )
            raise self.error("unavailable", advice)

    def _is_overtaken(self) -> bool:
        return identity_of(self.path) == self._file and any(
            identity_of(path) not in (None, known) for path, known in self._beside
        )

    def _wait(self) -> float:
        return min(self._patience, _HURRIED) if self._in_vain else self._patience

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=self._wait()):
            self._in_vain = True
            raise self.error(
                "locked", "is still in use by a thread of this process; wait, or use another file"
            )
        try:
            yield
        finally:
            self._turn.release()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if _is_busy(error):
                self._in_vain = True
                advice = "is locked by another process; stop the other host, or use another file"
                raise self.error("locked", advice) from error
            if (why := out_of_files(error)) is not None:
                advice = f"cannot be used ({error}): {why}; raise the limit of open files (`ulimit -n`), or open fewer"
                raise self.error("unavailable", advice) from error
            advice = f"cannot be used ({error}); check that its folder exists, can be written, and has room"
            raise self.error("unavailable", advice) from error
        except sqlite3.DatabaseError as error:
            if "malformed" in str(error):
                advice = (
                    f"is damaged in one place ({error}), but other sessions in it may be intact: stop the host "
                    "and restore a backup, or save what can be read with sqlite3's .recover"
                )
                raise self.error("corrupt", advice) from error
            advice = f"cannot be read as a session store ({error}); move the file away, or pass another path"
            raise self.error("not_a_store", advice) from error


_open: weakref.WeakValueDictionary[int, Database] = weakref.WeakValueDictionary()
# Connections that were open when this process was forked. In the child SQLite takes the parent's locks for its own, so
# they must be neither used nor closed. Source: https://www.sqlite.org/howtocorrupt.html, 2.6, read 2026-11.
_inherited: dict[Identity | None, sqlite3.Connection] = {}
# Connections that must not be closed either, for as long as the process lives: see `_abandon`.
_abandoned: dict[Identity | None, sqlite3.Connection] = {}


def _leave_all_to_parent() -> None:
    for store in list(_open.values()):
        store.leave_to_parent()
    _open.clear()


def _abandon(file: Identity | None, db: sqlite3.Connection) -> None:
    # Closing it would make SQLite checkpoint its stale log over what others have stored since. So it is kept open, even
    # at the end of the interpreter. (From Python 3.12 on SQLite can be told not to checkpoint; 3.11 cannot.)
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(db))
    _abandoned[file] = db


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all_to_parent)


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return "locked" in str(error) or "busy" in str(error)
