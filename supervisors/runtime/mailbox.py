"""The mailbox of a process: two lanes, closed atomically, and the activation that every dispatcher runs.

The rule of this file: no item is lost, and none stays in the mailbox of the dead. There is no lock around the
lanes: a put appends and *then* looks whether the mailbox was drained; a drain marks it and *then* empties it.
In either order somebody sees the item. Whoever moves items does so one by one, between lanes that a drain
empties, and then looks as after a put.

Invariants: one activation of a process at a time (whoever takes `_idle` without waiting submits it); it goes
idle only after it gave `_idle` back *and* found both lanes empty; the control lane is looked at before every
user message; nothing runs before the start nor after the close. If a submission fails halfway (Ctrl-C, no
thread, no stack), the mailbox is submitted once more, or at the next put; an activation too many is told from
one that is due by `scheduled`.

Source: Akka `Mailbox` ("system messages first, set idle, then look again").
"""

from __future__ import annotations

from _thread import LockType, allocate_lock, start_new_thread
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from supervisors.reasons import KILLED
from supervisors.runtime.log import log
from supervisors.runtime.running import put_off, running, uninterrupted
from supervisors.runtime.signals import From

if TYPE_CHECKING:
    from supervisors.runtime.dispatch import Dispatcher
    from supervisors.runtime.limit import Limit
    from supervisors.runtime.running import Owner

__all__ = ["Mailbox"]


# Nested turns and deaths on one stack, about a hundred calls; each generation of processes takes two.
_DEEP: Final = 16
_making = RLock()  # reentrant: a finalizer or a signal handler may run while it is held


# There is no thread to be had, or no stack left for more than giving the role back: the next put schedules
# what was put. Without stack, a new thread does.
_IN_NEED = (RuntimeError, OSError)


class Mailbox:
    """What waits for one process.

    It refers to its owner, the process, until that is dead: nothing else has to keep an idle process alive.
    """

    __slots__ = (
        "_idle",
        "closed",
        "control",
        "dispatcher",
        "drained",
        "emptying",
        "fresh",
        "held",
        "limit",
        "most",
        "owner",
        "user",
    )

    def __init__(self) -> None:
        # A mailbox begins as "scheduled": puts before the process is bound wait, and nobody submits it.
        self._idle = allocate_lock()
        self._idle.acquire()
        self.user: deque[Any] | None = None
        self.control: deque[Any] | None = None
        self.held: deque[Any] | None = None
        self.owner: Owner | None = None
        self.dispatcher: Dispatcher | None = None
        self.limit: Limit | None = None
        self.most: int = 0
        self.fresh: bool = True
        self.closed: bool = False
        self.drained: bool = False
        self.emptying: bool = False

    def __len__(self) -> int:
        """How many user messages wait."""
        return len(self.user or ()) + len(self.held or ())

    @property
    def high_water(self) -> int:
        """The most user messages that ever waited; between two looks of the owner a queue only grows."""
        return max(self.most, len(self))

    def put(self, item: Any) -> bool:
        """Append to the user lane. False: the mailbox was drained meanwhile, and the caller must drain it again."""
        user = self.user
        if user is None:
            user = self._lane(control=False)
        if self.limit is not None:
            self.limit.put()
        return self._submit(user, item, False)

    def put_control(self, signal: Any) -> bool:
        """Append to the control lane, which overtakes the user lane. False as for `put`."""
        control = self.control
        if control is None:
            control = self._lane(control=True)
        return self._submit(control, signal, False)

    def put_quiet(self, item: Any, *, control: bool) -> bool:
        """`put` or `put_control`; an idle owner takes its turn at once, on the caller's thread.

        For signals that run no code of the user's, so that no thread has to be woken. Not if such turns are
        nested too deeply for the stack, as where a parent ends, and so its child, and so on.
        """
        lane = self._lane(control=control)
        if self.limit is not None and not control:
            self.limit.put()
        return self._submit(lane, item, True)

    @property
    def scheduled(self) -> bool:
        """Whether somebody has the role of running the owner, or of having it run."""
        locked: bool = self._idle.locked()
        return locked

    def interrupted(self) -> None:
        """An exception struck scheduling or running: have the owner run soon unless that is on its way.

        On the main thread a signal's handler may raise between any two steps: then it is unknown whether the
        role was taken, and whether a dispatcher has heard of it.
        Source: https://docs.python.org/3/library/signal.html#note-on-signal-handlers-and-exceptions
        """
        if self.dispatcher is not None:
            self._idle.acquire(False)
            self.dispatcher.again(self)

    def put_through(self, gate: Any) -> None:
        """Let a simulation have its own `gate`, with the two methods of a lock, and so see every put.

        Thread: the one that starts the owner, before it may run.
        """
        self._idle = gate

    def put_back(self, items: Sequence[Any]) -> bool:
        """Put these, in their order, before everything that waits. False as for `put`. Thread: the owner's turn."""
        lane = self.held if self.held is not None else self.user
        if self.limit is not None:
            for _ in items:
                self.limit.put()
        (lane if lane is not None else self._lane(control=False)).extendleft(reversed(items))
        return not self.drained

    def hold(self) -> None:
        """From now on only what the owner lets pass is handled; the rest waits for `release`. Thread: the owner's."""
        if self.held is None:
            self.held = deque()

    def release(self) -> bool:
        """End `hold`: what was held comes before what arrived since. False as for `put`. Thread: the owner's turn."""
        held = self.held
        if held is not None:
            self.let_go(held)  # where a killer still finds it
            self.held = None
            self.let_go(held)  # what a sender spared, and put back meanwhile
        return not self.drained

    def let_go(self, held: deque[Any] | None) -> None:
        """Put held items in front of what waits; one by one: a sender may drop the oldest. Thread: any.

        The caller then looks whether the mailbox was drained meanwhile.
        """
        try:
            while held:
                (self.user if self.user is not None else self._lane(control=False)).appendleft(held.pop())
        except IndexError:
            pass  # it took the last one

    def drain(self) -> list[Any]:
        """Everything still queued, in order. After this every put says False. Thread: any, also several at once."""
        self.drained = True
        if not (self.user or self.control or self.held):
            return []
        self.most = self.high_water
        return list(self.leftovers())

    def requests(self) -> list[From]:
        """The requests among what is queued, which stay there. Thread: any."""
        return [item for lane in (self.held, self.user) for item in tuple(lane or ()) if type(item) is From]

    def leftovers(self) -> Iterator[Any]:
        """Take off what is still queued after a `drain`, and yield it one by one. Thread: as for `drain`."""
        for lane in (self.control, self.held, self.user):
            while lane:
                try:
                    yield lane.popleft()
                except IndexError:
                    break  # another thread took the last one

    def wake(self) -> None:
        """Become idle; or be scheduled again, if there is something to do. Thread: whoever has the role."""
        try:
            self._idle.release()
        except RuntimeError:
            pass  # given back already: `_submit` failed halfway
        if (self.user or self.control) and not self.closed and self._idle.acquire(False):
            self.dispatcher.schedule(self)  # type: ignore[union-attr]

    def run(self, budget: int) -> None:
        """Run the owner for up to `budget` user messages (negative: no limit). Thread: one at a time; never raises."""
        owner = self.owner
        if owner is None:
            return  # died while it was in the run queue; it stays "scheduled", so it is never submitted again
        before, running.process = running.process, owner
        try:
            more = self._turn(owner, budget)
        except BaseException as exc:  # noqa: BLE001 - owners do not raise; if one does, it must not take the worker with it
            put_off(exc)
            log.exception("the process of %r raised into its dispatcher, and is killed", owner)
            more = _kill(owner)
        finally:
            running.process = before
        if self.closed:
            return
        if more:
            self.dispatcher.schedule(self)  # type: ignore[union-attr]
        else:
            self.wake()

    def _turn(self, owner: Owner, budget: int) -> bool:
        # Whether there may be more to do than the budget allowed.
        if self.fresh:
            self.fresh = False
            owner._actor_begin()  # noqa: SLF001
        while True:
            control = self.control
            while control and not self.closed:
                try:
                    signal = control.popleft()
                except IndexError:
                    return False  # a killer drained it
                owner._actor_on_control(signal)  # noqa: SLF001
            user = self.user
            if not user or self.closed:
                return False
            if budget == 0:
                return True
            budget -= 1
            waiting = len(user)
            if waiting > self.most:
                self.most = waiting
            try:
                item = user.popleft()
            except IndexError:
                return False  # a killer drained it
            if self.held is not None and not owner._actor_passes(item):  # noqa: SLF001
                self.held.append(item)
                if self.drained:
                    owner.ref.drain(KILLED)
            else:
                if self.limit is not None:
                    self.limit.taken(len(self))
                owner._actor_on_user(item)  # noqa: SLF001

    def _submit(self, lane: deque[Any], item: Any, quiet: bool) -> bool:
        try:
            lane.append(item)
            if self.drained:
                return False
            if self._idle.acquire(False):
                if quiet and len(lane) == 1 and running.depth < _DEEP:
                    with uninterrupted:
                        self.run(1)
                else:
                    self.dispatcher.schedule(self)  # type: ignore[union-attr]
        except _IN_NEED as error:
            self.dispatcher.doubtful = True  # type: ignore[union-attr]
            try:  # not in a function, for which there may be no room
                self._idle.release()
            except RuntimeError:
                pass
            if isinstance(error, RecursionError) and type(self._idle) is LockType:  # else it is simulated
                try:  # another thread has stack: somebody may have put meanwhile, and relies on us
                    start_new_thread(self.interrupted, ())
                except RuntimeError:
                    pass
            raise
        except BaseException:
            self.interrupted()
            raise
        return True

    def _lane(self, *, control: bool) -> deque[Any]:
        fresh: deque[Any] = deque()
        with _making:
            # In one step each, with no call between the look and the write: what comes in there would be lost.
            if control:
                self.control = lane = self.control if self.control is not None else fresh
            else:
                self.user = lane = self.user if self.user is not None else fresh
        return lane


def _kill(owner: Owner) -> bool:
    with suppress(BaseException):  # `ProcessKilled`, for it is its own turn
        owner._actor_kill()  # noqa: SLF001
    return False
