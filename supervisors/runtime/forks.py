"""What a forked child begins with: no processes, and so no names, no members, and nothing registered.

The rule of this file: a table of processes is empty in a forked child, and has a new lock. Neither the processes
in it nor the thread that perhaps held its lock are there.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["Table", "begin_empty"]


class Table(Protocol):
    """Something that lists processes."""

    def begin(self) -> None:
        """Make it empty, with a lock that nobody holds."""
        ...


def begin_empty(table: Table) -> None:
    """Call `table.begin()` now, and again in each forked child, as long as the table exists."""
    table.begin()
    _tables.add(table)


_tables: WeakSet[Table] = WeakSet()


def _in_a_fork() -> None:
    for table in list(_tables):
        table.begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_fork)
