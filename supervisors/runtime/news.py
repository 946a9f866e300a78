"""What a table tells others of its changes: in the order of the changes, and never while its lock is held.

The rule of this file: whoever changes the table adds the news under its lock and tells them after it. One thread at a
time tells, whoever's news they are: so they keep their order, and a receiver that looks at the table finds no lock.

A death is a change, too, and may come in the middle of another: the garbage is collected, and a finalizer kills
somebody. It waits then until that change is made. And nobody asks for another lock while this one is held: who kills
may hold the system's.
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
    """The news of one table, whose lock this is; `forget(ref)` takes what a dead process has off that table."""

    __slots__ = ("_dead", "_forget", "_lock", "_queue", "_telling")

    def __init__(self, lock: RLock, forget: Callable[[Ref[Any]], object]) -> None:
        self._lock = lock
        self._forget = forget
        self._dead: deque[Ref[Any]] = deque()
        self._queue: deque[tuple[Ref[Any], Any]] = deque()
        self._telling = False

    def add(self, ref: Ref[Any], message: Any) -> None:
        """Have `ref` told. Thread: that of the change; the lock is held."""
        self._queue.append((ref, message))

    def died(self, ref: Ref[Any]) -> None:
        """Have a dead process forgotten. Thread: any; in the middle of a change it is done after that."""
        self._dead.append(ref)
        if not self._lock._is_owned():  # type: ignore[attr-defined] # noqa: SLF001 - as `threading.Condition` asks
            self._bury()  # in any case: if somebody else is at it, when we have the lock it is done
            self.tell()

    def tell(self) -> None:
        """Tell what there is to tell, unless somebody is at it. Thread: any; the lock is not held."""
        interrupted: BaseException | None = None
        while self._dead or (self._queue and not self._telling):
            self._bury()
            ours = False
            try:
                with self._lock:
                    if self._telling or not self._queue:
                        continue  # whoever tells comes to ours, too
                    self._telling = ours = True
                    ref, message = self._queue.popleft()
                ref.inform(message)
            except BaseException as exc:  # noqa: BLE001 - we were killed meanwhile, and the news are those of others
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
