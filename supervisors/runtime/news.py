"""What a table tells others of its changes: in the order of the changes, and never while its lock is held.

The rule of this file: whoever changes the table adds the news under its lock and tells them after it. One thread at a
time tells, whoever's news they are: so they keep their order, and a receiver that looks at the table finds no lock.
"""

from __future__ import annotations

from collections import deque
from threading import RLock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supervisors.runtime.ref import Ref

__all__ = ["News"]


class News:
    """The news of one table, whose lock this is."""

    __slots__ = ("_lock", "_queue", "_telling")

    def __init__(self, lock: RLock) -> None:
        self._lock = lock
        self._queue: deque[tuple[Ref[Any], Any]] = deque()
        self._telling = False

    def add(self, ref: Ref[Any], message: Any) -> None:
        """Have `ref` told. Thread: that of the change; the lock is held."""
        self._queue.append((ref, message))

    def tell(self) -> None:
        """Tell what there is to tell, unless somebody is at it. Thread: any; the lock is not held."""
        interrupted: BaseException | None = None
        while self._queue:
            with self._lock:
                if self._telling or not self._queue:
                    break  # whoever tells comes to ours, too
                self._telling = True
                ref, message = self._queue.popleft()
            try:
                ref.inform(message)
            except BaseException as exc:  # noqa: BLE001 - we were killed meanwhile, and the news are those of others
                interrupted = exc
            finally:
                self._telling = False
        if interrupted is not None:
            raise interrupted
