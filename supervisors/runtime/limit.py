"""Mailboxes with an end: how many messages may wait, and what happens to the next one.

The rule of this file: only messages that clients send are limited. Signals, DOWN, exits and timers are not, for losing
one of them would break a promise.
"""

from __future__ import annotations

from _thread import allocate_lock
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from supervisors.errors import BadSpec, MailboxFull
from supervisors.runtime.running import running
from supervisors.runtime.signals import From, Signal
from supervisors.spec import is_count, is_number

if TYPE_CHECKING:
    from supervisors.runtime.ref import Ref

__all__ = ["UNBOUNDED", "Limit", "MailboxConfig", "Policy", "check_mailbox"]

Policy: TypeAlias = Literal["fail", "block", "drop_new", "drop_old"]
_POLICIES = ("fail", "block", "drop_new", "drop_old")


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxConfig:
    """The class attribute `mailbox` of a process.

    `maxlen=None` is unbounded. Policies: `fail` raises `MailboxFull` in the sender; `block` makes a sender outside any
    process wait up to `timeout` seconds (a process never waits: it could be waiting for itself), then fails;
    `drop_new` and `drop_old` make a dead letter of the message, or of the one that waits longest.
    """

    maxlen: int | None = None
    policy: Policy = "fail"
    timeout: float | None = None

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


def check_mailbox(config: object) -> None:
    """Refuse a class attribute `mailbox` that says nothing about one.

    Raises: `BadSpec("invalid_mailbox")`.
    """
    if not isinstance(config, MailboxConfig):
        kind = type(config).__name__
        raise BadSpec("invalid_mailbox", kind, f"`mailbox` of a class must be a MailboxConfig, not a {kind}")


class Limit:
    """What a bounded mailbox knows about itself."""

    __slots__ = ("_lock", "_waiting", "config", "high_water")

    def __init__(self, config: MailboxConfig) -> None:
        self.config = config
        self.high_water = 0
        self._lock = allocate_lock()
        self._waiting: list[Any] = []

    def admit(self, ref: Ref[Any], item: object) -> bool:
        """Whether `item` may be put now; if not, it has been disposed of.

        Raises: `MailboxFull`.
        """
        waiting = len(ref.actor_inbox)
        maxlen = self.config.maxlen
        if maxlen is None or waiting < maxlen:
            self.high_water = max(self.high_water, waiting + 1)
            return True
        match self.config.policy:
            case "drop_new":
                ref.refuse(item, "mailbox full", MailboxFull(ref, maxlen))
                return False
            case "drop_old":
                self._drop_oldest(ref, maxlen)
                return True
            case "block" if running.process is None and self._wait(ref, maxlen):
                return True
        raise MailboxFull(ref, maxlen)

    def taken(self, left: int) -> None:
        """The owner took a message: wake a blocked sender. Thread: the owner's."""
        if self._waiting and left < (self.config.maxlen or 0):
            with self._lock:
                waiting, self._waiting = self._waiting, []
            for lock in waiting:
                lock.release()

    def _wait(self, ref: Ref[Any], maxlen: int) -> bool:
        box = ref.actor_inbox
        while len(box) >= maxlen and not box.closed:
            lock = allocate_lock()
            lock.acquire()
            with self._lock:
                self._waiting.append(lock)
            if len(box) < maxlen or box.closed:
                return True
            if not ref.dispatcher.wait_outside(lock, self.config.timeout):
                return False
        return True

    def _drop_oldest(self, ref: Ref[Any], maxlen: int) -> None:
        user = ref.actor_inbox.user
        spared: list[Any] = []
        try:
            while user:
                item = user.popleft()
                if not isinstance(item, Signal) or isinstance(item, From):
                    ref.refuse(item, "mailbox full", MailboxFull(ref, maxlen))
                    break
                spared.append(item)
        except IndexError:
            pass  # the owner was faster: there is room now
        if user is not None and spared:
            user.extendleft(reversed(spared))
