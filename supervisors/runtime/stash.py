"""Messages that a process puts aside while it cannot deal with them, and later handles in their order.

The rule of this file: what is put aside still belongs to the process: at its death a request fails, a message becomes a
dead letter. As with the lanes, whoever adds then looks whether the process was drained, and whoever drains marks first.

Source: Akka `Stash`; Erlang/OTP `gen_statem`, "Postponing Events".
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from supervisors.errors import ProcessDown, SupervisorError
from supervisors.reasons import KILLED, Reason
from supervisors.runtime.signals import From, Letter, Signal

if TYPE_CHECKING:
    from supervisors.runtime.ref import Ref

__all__ = ["Stash"]


class Stash:
    """What one process has put aside. Thread: the owner's; `bury` any."""

    __slots__ = ("_items", "wanted")

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self.wanted: bool = False

    def __len__(self) -> int:
        return len(self._items)

    def keep(self, ref: Ref[Any], item: Any) -> None:
        """Put aside what has just been handled, as its handler asked for.

        Raises: `SupervisorError` for what was no message.
        """
        self.wanted = False
        if type(item) is Letter:
            item = item.message
        elif isinstance(item, Signal) and not isinstance(item, From):
            raise SupervisorError(f"{ref} can stash only messages, and this was a {type(item).__name__}")
        self._items.append(item)
        if ref.actor_inbox.drained:
            self.bury(ref, KILLED if ref.killed else ref.exit_reason)

    def give_back(self, ref: Ref[Any]) -> None:
        """Put everything back, in front of what waits in the mailbox."""
        items, self._items = self._items, deque()
        if items and not ref.actor_inbox.put_back(items):
            ref.drain(KILLED)

    def bury(self, ref: Ref[Any], reason: Reason) -> None:
        """The process is dead: dispose of everything."""
        while self._items:
            try:
                item = self._items.popleft()
            except IndexError:
                return  # another thread took the last one
            ref.refuse(item, "process is dead", ProcessDown(reason, ref))
