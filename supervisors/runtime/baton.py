"""One runner at a time: the dispatcher of a simulation.

The rule of this file: of all threads of a simulation only the one that has the baton runs. A thread that
waits chooses what happens next, out of everything that could happen, and passes the baton on. So a handler
that waits parks its own thread while others continue, as on a pool; no process ever runs on top of another
one's stack.

What could happen: a mailbox with work takes one message; a thread whose wait is over, or was only paused, goes on; a
timer that is due fires. They queue in the order in which they became possible, so index 0, the oldest, is fair. When
there is nothing, time moves to the next deadline. When there is none either, whoever drives the simulation is told.

Source: loom (Rust), CHESS (one runner, every choice recorded); FoundationDB, "Simulation and Testing".
"""

from __future__ import annotations

import math
import threading
from _thread import get_ident
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from supervisors.errors import OutsideSimulation, ProcessKilled, SimulationError, Stuck
from supervisors.runtime.choices import Choices
from supervisors.runtime.dispatch import Dispatcher
from supervisors.runtime.faults import Mishaps
from supervisors.runtime.mailbox import Mailbox
from supervisors.runtime.running import running
from supervisors.runtime.seat import Item, Seat, has_message, stack, target, title
from supervisors.runtime.timers import TimerRef
from supervisors.runtime.virtual import VirtualClock, VirtualTimers

if TYPE_CHECKING:
    from supervisors.runtime.zombies import Zombie

__all__ = ["Gate", "SimDispatcher"]


class SimDispatcher(Dispatcher):
    """The dispatcher of a `Sim`: runs one thread at a time, in the order of `choices`.

    The thread that makes it is the driver.
    `preemption` is the probability that a thread pauses where it sends something, so that others run in
    between. `max_steps` and `real_patience` as for `Sim`.
    """

    def __init__(
        self,
        choices: Choices,
        clock: VirtualClock,
        mishaps: Mishaps,
        *,
        preemption: float,
        max_steps: int,
        real_patience: float,
    ) -> None:
        self.timers = VirtualTimers(clock, mishaps.lateness)
        self.system_lock: Any = threading.RLock()  # a thread is not interrupted while it holds this
        self.trespass: OutsideSimulation | None = None
        self.broken = False
        self._choices = choices
        self._clock = clock
        self._mishaps = mishaps
        self._preemption = preemption
        self._max_steps = max_steps
        self._real_patience = real_patience
        self._steps = 0  # since the driver's last turn
        self._moves = 0
        self._queue: list[Item] = []
        self._parked: list[Seat] = []
        self._idle: list[Seat] = []
        self._hired = 0
        self._until: float | None = None  # the driver rests until then
        self._driver = Seat("the scenario", outside=True)
        self._holder = self._driver
        self._seats: dict[int, Seat] = {get_ident(): self._driver}

    @property
    def driven(self) -> bool:
        """Whether the driver has the baton."""
        return self._holder is self._driver

    def check(self) -> Seat:
        """The seat of the calling thread, which must have the baton.

        Raises: `OutsideSimulation` in any other thread; the driver gets it too.
        """
        seat = self._seats.get(get_ident())
        if seat is None or seat is not self._holder:
            name = threading.current_thread().name
            self.trespass = OutsideSimulation(
                f"thread {name!r} touched a simulated system from outside; use sim.client instead of a thread"
            )
            raise self.trespass
        return seat

    def schedule(self, box: Mailbox) -> None:
        """See `Dispatcher.schedule`; the calling thread may be interrupted, so that `box` runs first."""
        self.check()
        self._queue.append(box)
        self.interrupt()

    def blocking(self) -> _Blocking:
        """See `Dispatcher.blocking`: others may run when the block ends."""
        return _Blocking(self)

    def wait(self, lock: Any, timeout: float | None) -> bool:
        """See `Dispatcher.wait`. Units: virtual seconds."""
        seat = self.check()
        seat.lock = lock
        if timeout is not None:
            seat.deadline = self._clock.monotonic() + self._mishaps.patience(max(0.0, timeout))
        seat.process = running.process
        seat.wait = running.wait if seat.process is None else seat.process.ref.waiting
        running.wait = None
        self._parked.append(seat)
        self._leave(seat)
        return bool(lock.acquire(False))

    def wait_outside(self, lock: Any, timeout: float | None) -> bool:
        """See `Dispatcher.wait_outside`."""
        return self.wait(lock, timeout)

    def abandon(self, box: Mailbox, zombie: Zombie) -> bool:
        """See `Dispatcher.abandon`; the victim, which has been woken, may run before the kill is complete."""
        self.interrupt()
        for seat in self._seats.values():
            if seat.box is box and seat is not self._holder:
                seat.zombie = zombie
                zombie.begin(seat.thread)
                return True
        return False

    def stop(self, timeout: float | None = None) -> list[Mailbox]:  # noqa: ARG002
        """See `Dispatcher.stop`. The threads stay until `dismiss`, for somebody still drives the simulation."""
        return [seat.box for seat in self._seats.values() if seat.box is not None]

    def rest(self, until: float) -> None:
        """Let everything happen until a virtual time; infinity: until nothing is left. Thread: the driver."""
        seat = self.check()
        if seat is not self._driver:
            raise SimulationError(f"only the scenario itself can let time pass, not {seat}; sleep, or wait")
        self._until = until
        self._leave(seat)

    def pause(self) -> None:
        """Let others run before the caller goes on."""
        seat = self.check()
        seat.process = running.process
        self._queue.append(seat)
        self._leave(seat)

    def interrupt(self) -> None:
        """Called where something was sent: perhaps others run before the sender goes on."""
        seat = self.check()
        if not (self._queue or self._parked) or self.system_lock._is_owned():  # noqa: SLF001 - it has no public name
            return
        if running.process is None and not seat.outside:
            return  # a worker between two turns
        name = seat.name if running.process is None else str(running.process.ref)
        if self._choices.chance(self._preemption, f"{name} is interrupted"):
            self.pause()

    def enlist(self, work: Callable[[], object], name: str) -> None:
        """Run `work()` on a thread of its own, outside any process; it begins when it is chosen."""
        self.check()
        seat = Seat(name, outside=True)
        self._start(seat, lambda: self._serve(seat, work))
        self._queue.append(seat)

    def waits(self) -> list[tuple[str, str]]:
        """Who waits, and for whom, as pairs of text."""
        found = [(str(seat), target(seat.wait)) for seat in self._parked]
        parked = [seat.process.ref for seat in self._parked if seat.process is not None]
        for seat in self._parked:
            ref = None if seat.wait is None else seat.wait.target
            while ref is not None and ref not in parked and ref.waiting is not None:
                parked.append(ref)  # a supervisor: it waits without a thread
                found.append((str(ref), target(ref.waiting)))
                ref = ref.waiting.target
        return found

    def dismiss(self) -> None:
        """End all threads. Thread: the driver, when no process is left."""
        if self.broken:
            return
        try:
            self.rest(self._clock.monotonic())
            while self._parked:
                for seat in self._parked:
                    seat.error = ProcessKilled("the simulation is over")
                self._queue += self._parked
                self._parked = []
                self.rest(self._clock.monotonic())
        except SimulationError:
            return  # somebody refuses to end: its thread is a daemon thread
        for seat in self._idle:
            seat.baton.release()
            seat.thread.join()

    # --- the baton ----------------------------------------------------------------------------------------------------

    def _leave(self, seat: Seat) -> None:
        # Returns when this thread is chosen again.
        item = self._next()
        if item is not seat:
            self._give(item)
            self._sleep(seat)
        seat.lock = seat.wait = seat.process = None
        seat.deadline = math.inf
        error, seat.error = seat.error, None
        if error is not None:
            raise error

    def _give(self, item: Item) -> None:
        if isinstance(item, Seat):
            seat = item
        else:
            seat = self._idle.pop() if self._idle else self._hire()
            seat.task = item
        self._holder = seat
        seat.baton.release()

    def _sleep(self, seat: Seat) -> None:
        patience = self._real_patience if seat is self._driver else -1
        moves = -1
        while not seat.baton.acquire(True, patience):
            if moves != self._moves:
                moves = self._moves  # it takes long, but something happens
                continue
            self.broken = True
            raise SimulationError(
                f"{self._holder.box or self._holder} blocks its thread, and the simulation cannot see what it "
                f"waits for; wait with the runtime (ask, Future.get, sim.sleep):\n{stack(self._holder.thread)}"
            )

    def _hire(self) -> Seat:
        self._hired += 1
        seat = Seat(f"worker {self._hired}", outside=False)
        self._start(seat, lambda: self._work(seat))
        return seat

    def _start(self, seat: Seat, work: Callable[[], None]) -> None:
        def main() -> None:
            running.host = self
            seat.baton.acquire()
            work()

        seat.thread = threading.Thread(target=main, name=f"supervisors-sim-{seat.name}", daemon=True)
        seat.thread.start()
        self._seats[seat.thread.ident or 0] = seat

    def _work(self, seat: Seat) -> None:
        running.worker = seat
        while seat.task is not None:
            task, seat.task = seat.task, None
            self._perform(seat, task)
            item = self._next()
            if isinstance(item, Seat):
                self._idle.append(seat)
                self._give(item)
                seat.baton.acquire()
            else:
                seat.task = item

    def _serve(self, seat: Seat, work: Callable[[], object]) -> None:
        if seat.error is None:
            work()
        del self._seats[get_ident()]
        self._give(self._next())

    def _perform(self, seat: Seat, task: Mailbox | TimerRef) -> None:
        try:
            if isinstance(task, Mailbox):
                self._run(seat, task)
            else:
                self.timers.fire(task, self._clock.monotonic())
        except BaseException as exc:  # noqa: BLE001 - whoever drives the simulation is told, and the baton goes on
            self._driver.error = exc

    def _run(self, seat: Seat, box: Mailbox) -> None:
        ref = box.owner.ref if box.owner is not None and self._mishaps.kills else None
        victim = ref if ref is not None and has_message(box) else None
        if victim is not None and self._mishaps.killed_before(victim):
            victim.kill()
            return
        seat.box = box
        box.run(1)
        seat.box = None
        zombie, seat.zombie = seat.zombie, None
        if zombie is not None:
            zombie.end()
        if victim is not None and victim.is_alive() and self._mishaps.killed_after(victim):
            victim.kill()

    # --- what happens next --------------------------------------------------------------------------------------------

    def _next(self) -> Item:
        while True:
            self._look()
            options = self._options()
            if not options:
                if self._move_time():
                    continue
                return self._drive()
            self._steps += 1
            if self._steps > self._max_steps:
                return self._drive(
                    SimulationError(
                        f"still busy after {self._max_steps} steps: something never stops; use "
                        "advance(seconds) where timers repeat, or raise max_steps"
                    )
                )
            return self._choose(options)

    def _choose(self, options: list[Item]) -> Item:
        item = options[self._choices.pick(len(options), lambda nth: title(options[nth]))]
        self._queue.remove(item)
        self._moves += 1
        if item is self._driver:
            self._steps = 0
        return item

    def _look(self) -> None:
        now = self._clock.monotonic()
        if self._parked:
            self._queue += [seat for seat in self._parked if seat.may_go_on(now)]
            self._parked = [seat for seat in self._parked if not seat.may_go_on(now)]
        self._queue += self.timers.take_due()

    def _options(self) -> list[Item]:
        # Timers of one process keep their order; those that were cancelled meanwhile are gone.
        if not any(isinstance(item, TimerRef) for item in self._queue):
            return self._queue
        self._queue = [item for item in self._queue if not isinstance(item, TimerRef) or item.pending]
        options: list[Item] = []
        owners: list[Any] = []
        for item in self._queue:
            if isinstance(item, TimerRef) and item.owned is not None:
                if any(item.owned is owner for owner in owners):
                    continue
                owners.append(item.owned)
            options.append(item)
        return options

    def _move_time(self) -> bool:
        then = min([self.timers.earliest(), *(seat.deadline for seat in self._parked)])
        if then == math.inf or (self._until is not None and then > self._until):
            return False
        self._clock.move_to(then)
        return True

    def _drive(self, error: SimulationError | None = None) -> Seat:
        # Nothing happens by itself: it is the driver's turn, whatever it was waiting for.
        driver = self._driver
        self._steps = 0
        if self._until is not None:
            if self._until < math.inf:
                self._clock.move_to(self._until)
        elif error is None:
            driver.error = Stuck(self.waits())
        if error is not None:
            driver.error = error
        self._until = None
        self._parked = [seat for seat in self._parked if seat is not driver]
        self._queue = [item for item in self._queue if item is not driver]
        return driver


class Gate:
    """What a mailbox of a simulation has in place of its `_idle` lock: every put passes here."""

    __slots__ = ("_dispatcher", "_taken")

    def __init__(self, dispatcher: SimDispatcher) -> None:
        self._dispatcher = dispatcher
        self._taken = True

    def acquire(self, _wait: bool = False) -> bool:
        """Whether the caller is the one to schedule the mailbox."""
        if self._taken:
            self._dispatcher.interrupt()
            return False
        self._dispatcher.check()
        self._taken = True
        return True

    def release(self) -> None:
        """The mailbox is idle again."""
        self._taken = False


class _Blocking:
    __slots__ = ("_dispatcher",)

    def __init__(self, dispatcher: SimDispatcher) -> None:
        self._dispatcher = dispatcher

    def __enter__(self) -> None:
        self._dispatcher.check()

    def __exit__(self, *_exc: object) -> None:
        self._dispatcher.pause()
