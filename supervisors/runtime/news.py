"""Notifications of a table's changes: sent in the order of the changes, and never while its lock is held.

The rule of this file: whoever changes the table queues the news under its lock, and has them sent after it.
One thread at a time sends, whoever queued them: so they keep their order, and a receiver finds no lock.

A death is a change, too, and may come in the middle of another: garbage collection runs a finalizer that
kills somebody. Then it waits until that change is made. And no other lock is taken while this one is held: a
killer may hold that of the system.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import RLock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supervisors.runtime.ref import Ref

__all__ = ["News"]


class News:
    """The news of the table whose lock this is; `forget(ref)` removes from it what a dead process had."""

    __slots__ = ("_dead", "_forget", "_lock", "_queue", "_telling")

    def __init__(self, lock: RLock, forget: Callable[[Ref[Any]], object]) -> None:
        self._lock = lock
        self._forget = forget
        self._dead: deque[Ref[Any]] = deque()
        self._queue: deque[tuple[Ref[Any], Any]] = deque()
        self._telling = False

    def add(self, ref: Ref[Any], message: Any) -> None:
        """Queue a message to `ref`. Thread: that of the change; the lock is held."""
        self._queue.append((ref, message))

    def died(self, ref: Ref[Any]) -> None:
        """Have a dead process forgotten. Thread: any; in the middle of a change it is done after that."""
        self._dead.append(ref)
        if not self._lock._is_owned():  # type: ignore[attr-defined] # noqa: SLF001 - as `threading.Condition` asks
            self._bury()  # also if another thread does it now: once we get the lock, it is done
            self.tell()

    def tell(self) -> None:
        """Send what is queued, unless another thread is doing so. Thread: any; the lock is not held."""
        interrupted: BaseException | None = None
        while self._dead or (self._queue and not self._telling):
            self._bury()
            ours = False
            try:
                with self._lock:
                    if self._telling or not self._queue:
                        continue  # the thread that sends comes to ours, too
                    self._telling = ours = True
                    ref, message = self._queue.popleft()
                ref.inform(message)
            except BaseException as exc:  # noqa: BLE001 - we were killed meanwhile; the rest must be sent
                interrupted = exc
            finally:
                if ours:
                    self._telling = False
        if interrupted is not None:
            raise interrupted

    def _bury(self) -> None:
        with self._lock:
            while self._dead:
                self._forget(self._dead[0])
                self._dead.popleft()  # after it: Ctrl-C may strike, and it is done again
