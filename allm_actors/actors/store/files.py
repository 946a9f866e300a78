"""Which file a path leads to, and whether the process can open more.

Rule of this file: it looks, and changes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from typing import TypeAlias

__all__ = ["Identity", "identity_of", "out_of_files", "status_of"]

Identity: TypeAlias = tuple[int, int]
"""The device and the inode of a file: the same for as long as it exists, whatever its name becomes."""

_FILES = 4  # that SQLite may need: the database, -wal, -shm, and a temporary file


def status_of(path: str) -> os.stat_result | None:
    """What the system knows of the file at this path; None if there is none."""
    try:
        return os.stat(path)  # noqa: PTH116 - at each transaction, and a Path costs more than the look
    except OSError:
        return None


def identity_of(path: str) -> Identity | None:
    """Which file this path leads to; None if there is none."""
    status = status_of(path)
    return None if status is None else (status.st_dev, status.st_ino)


def out_of_files(error: sqlite3.OperationalError) -> str | None:
    """The system's word for it, if SQLite could not open a file because too many are open; else None."""
    # SQLite does not say why it could not open a file. So we try to open as many as it may need.
    if "unable to open" not in str(error):
        return None
    with contextlib.ExitStack() as opened:
        try:
            for _ in range(_FILES):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        except OSError as refused:
            return refused.strerror if refused.errno in (errno.EMFILE, errno.ENFILE) else None
    return None
