"""Bounded mailboxes: how many messages may wait, what happens to the next one, how long they have waited.

The rule of this file: only messages that clients send are limited. Signals, DOWN, exits and timers are
counted and not limited, for losing one would break a promise. Mailboxes without bound and `ages` pay nothing.
"""

from __future__ import annotations

import asyncio
from _thread import RLock, allocate_lock
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, final

from supervisors.errors import BadSpec, MailboxFull
from supervisors.runtime.running import running
from supervisors.runtime.signals import From, Signal
from supervisors.runtime.timers import Deadline
from supervisors.spec import is_count, is_number

if TYPE_CHECKING:
    from supervisors.runtime.ref import Ref
    from supervisors.runtime.timers import Clock

__all__ = ["UNBOUNDED", "Limit", "MailboxConfig", "MailboxLoad", "Policy", "check_mailbox"]

Policy: TypeAlias = Literal["fail", "block", "drop_new", "drop_old"]
_POLICIES = ("fail", "block", "drop_new", "drop_old")


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxConfig:
    """The class attribute `mailbox` of a process.

    `maxlen=None` is unbounded. Policies: `fail` raises `MailboxFull` in the sender; `block` makes a sender
    outside any process wait up to `timeout` seconds, then fails (in a process, which could be waiting for
    itself, and on an event loop it fails at once); `drop_new` makes a dead letter of the new message,
    `drop_old` of the oldest one.

    With `ages`, or with a `maxlen`, `ref.load()` knows for how long the oldest message has waited; that costs
    a look at the clock and 32 bytes for each message that waits.
    """

    maxlen: int | None = None
    policy: Policy = "fail"
    timeout: float | None = None
    ages: bool = False

    def __post_init__(self) -> None:
        if self.maxlen is not None and not (is_count(self.maxlen) and self.maxlen >= 1):
            raise BadSpec("invalid_mailbox", self.maxlen, f"maxlen must be at least 1, not {self.maxlen!r}")
        if self.policy not in _POLICIES:
            raise BadSpec(
                "invalid_mailbox", self.policy, f"policy must be one of {_POLICIES}, not {self.policy!r}"
            )
        if self.timeout is not None and not (is_number(self.timeout) and self.timeout >= 0):
            raise BadSpec(
                "invalid_mailbox",
                self.timeout,
                f"timeout must be seconds >= 0, or None, not {self.timeout!r}",
            )


UNBOUNDED: Final = MailboxConfig()


@final
class MailboxLoad(NamedTuple):
    """How many messages wait, the most that ever did at once, and the age of the oldest in seconds.

    `oldest_age` is 0.0 if nothing waits, and None if the mailbox keeps no ages (see `MailboxConfig`).
    """

    waiting: int
    high_water: int
    oldest_age: float | None


def check_mailbox(config: object) -> None:
    """Refuse a class attribute `mailbox` that is no `MailboxConfig`.

    Raises: `BadSpec("invalid_mailbox")`.
    """
    if not isinstance(config, MailboxConfig):
        kind = type(config).__name__
        raise BadSpec("invalid_mailbox", kind, f"`mailbox` of a class must be a MailboxConfig, not a {kind}")


class Limit:
    """The bound of a mailbox, and the ages of its messages; only mailboxes that need either have one."""

    __slots__ = ("_clock", "_lock", "_since", "_waiting", "config")

    def __init__(self, config: MailboxConfig, clock: Clock) -> None:
        self.config: MailboxConfig = config
        self._clock = clock
        self._since: deque[float] = deque()
        self._lock = RLock()  # reentrant: a finalizer may run while it is held
        self._waiting: list[Any] = []

    def admit(self, ref: Ref[Any], item: object) -> bool:
        """Whether `item` may be put now; if not, it has been disposed of.

        Raises: `MailboxFull`.
        """
        waiting = len(ref.actor_inbox)
        maxlen = self.config.maxlen
        if maxlen is None or waiting < maxlen:
            return True
        match self.config.policy:
            case "drop_new":
                ref.refuse(item, "mailbox full", MailboxFull(ref, maxlen))
                return False
            case "drop_old":
                self._drop_oldest(ref, maxlen)
                return True
            case "block" if running.process is None and not _on_a_loop() and self._wait(ref, maxlen):
                return True
        raise MailboxFull(ref, maxlen)

    def age(self) -> float:
        """For how many seconds the oldest message has waited; 0.0 if none does."""
        try:
            return max(0.0, self._clock.monotonic() - self._since[0])
        except IndexError:
            return 0.0

    def put(self) -> None:
        """Called before an item is put, and so before it can be taken: each has a time."""
        self._since.append(self._clock.monotonic())

    def taken(self, left: int) -> None:
        """The owner took an item: wake blocked senders if there is room. Thread: the owner's."""
        self._forget_oldest()
        if self._waiting and left < (self.config.maxlen or 0):
            with self._lock:
                waiting, self._waiting = self._waiting, []
            for lock in waiting:
                lock.release()

    def released(self) -> None:
        """The owner is dead: wake all blocked senders, and forget."""
        self._since.clear()
        self.taken(-1)

    def _forget_oldest(self) -> None:
        # Items are not told apart: the times are in order, and there is one for each item.
        try:
            self._since.popleft()
        except IndexError:
            pass  # the owner died meanwhile

    def _wait(self, ref: Ref[Any], maxlen: int) -> bool:
        box = ref.actor_inbox
        deadline = Deadline(
            self._clock, self.config.timeout
        )  # for all attempts: others may be faster each time
        while len(box) >= maxlen and not box.closed:
            lock = allocate_lock()
            lock.acquire()
            with self._lock:
                self._waiting.append(lock)
            if len(box) < maxlen or box.closed:
                return True
            if not ref.dispatcher.wait_outside(lock, deadline.remaining()):
                with self._lock:
                    self._waiting = [each for each in self._waiting if each is not lock]
                return False
        return True

    def _drop_oldest(self, ref: Ref[Any], maxlen: int) -> None:
        box = ref.actor_inbox
        for lane in (box.held, box.user):  # what a process that is suspended, or still starts, holds is older
            taken = [] if lane is None else _take_oldest(lane)
            if lane is not box.held and lane is not box.user:
                box.let_go(lane)  # released meanwhile, and what was spared is back in it
            if box.drained:
                ref.drain()  # it died meanwhile, and what was spared is back in its mailbox
            for item in taken:
                ref.refuse(item, "mailbox full", MailboxFull(ref, maxlen))
                self._forget_oldest()
            if taken:
                return


def _take_oldest(lane: deque[Any]) -> list[Any]:
    # At most one message; none, if the owner was faster: there is room now.
    spared: list[Any] = []
    taken: list[Any] = []
    try:
        while lane and not taken:
            item = lane.popleft()
            (spared if isinstance(item, Signal) and not isinstance(item, From) else taken).append(item)
    except IndexError:
        pass
    lane.extendleft(reversed(spared))
    return taken


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
