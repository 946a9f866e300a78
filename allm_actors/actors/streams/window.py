"""How far a producer may run ahead of its consumer.

Rule of this file: counts only. The producer adds to `sent`, the consumer to `taken`; each is written by one side alone,
so the fast path is two plain integers and no lock, no message. A producer that finds the window closed stops
until the consumer opens it and wakes the producer, once.
"""

from __future__ import annotations

__all__ = ["Window"]


class Window:
    """A bounded lead, in items (events or batches). The consumer wakes the producer when half of it is free again."""

    __slots__ = ("_starved", "limit", "sent", "taken")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.sent: int = 0
        self.taken: int = 0
        self._starved = False

    def send(self, count: int = 1) -> None:
        """Producer: `count` items were sent."""
        self.sent += count

    def is_open(self) -> bool:
        """Producer: whether more may be sent now. After False, wait until the consumer's `take` has said True."""
        if self.sent - self.taken < self.limit:
            return True
        # Set before the second check, so that at least one side notices a `take` in between.
        self._starved = True
        if self.sent - self.taken < self.limit:
            self._starved = False
            return True
        return False

    def take(self, count: int = 1) -> bool:
        """Consumer: `count` items were taken. True when the producer waits and must be woken now."""
        self.taken += count
        if self._starved and self.sent - self.taken <= self.limit // 2:
            self._starved = False
            return True
        return False
