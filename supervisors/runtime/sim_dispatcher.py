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
from supervisors.runtime.sim_thread import Item, SimThread, has_message, target, title
from supervisors.runtime.stacks import stack_of
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
        self.timers: VirtualTimers = VirtualTimers(clock, mishaps.lateness)
        self.system_lock: Any = threading.RLock()  # a thread is not interrupted while it holds this
        self.trespass: OutsideSimulation | None = None
        self.broken: bool = False
        self._choices = choices
        self._clock = clock
        self._mishaps = mishaps
        self._preemption = preemption
        self._max_steps = max_steps
        self._real_patience = real_patience
        self._steps = 0  # since the driver's last turn
        self._moves = 0
        self._queue: list[Item] = []
        self._parked: list[SimThread] = []
        self._idle: list[SimThread] = []
        self._hired = 0
        self._until: float | None = None  # the driver rests until then
        self._driver = SimThread("the scenario", outside=True)
        self._holder = self._driver
        self._sim_threads: dict[int, SimThread] = {get_ident(): self._driver}

    @property
    def driven(self) -> bool:
        """Whether the driver has the baton."""
        return self._holder is self._driver

    def check(self) -> SimThread:
        """The sim_thread of the calling thread, which must have the baton.

        Raises: `OutsideSimulation` in any other thread; the driver gets it too.
        """
        sim_thread = self._sim_threads.get(get_ident())
        if sim_thread is None or sim_thread is not self._holder:
            name = threading.current_thread().name
            self.trespass = OutsideSimulation(
                f"thread {name!r} touched a simulated system from outside; use sim.client instead of a thread"
            )
            raise self.trespass
        return sim_thread

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
        sim_thread = self.check()
        sim_thread.lock = lock
        if timeout is not None:
            sim_thread.deadline = self._clock.monotonic() + self._mishaps.patience(max(0.0, timeout))
        sim_thread.process = running.process
        sim_thread.wait = running.wait if sim_thread.process is None else sim_thread.process.ref.waiting
        running.wait = None
        self._parked.append(sim_thread)
        self._leave(sim_thread)
        return bool(lock.acquire(False))

    def wait_outside(self, lock: Any, timeout: float | None) -> bool:
        """See `Dispatcher.wait_outside`."""
        return self.wait(lock, timeout)

    def abandon(self, box: Mailbox, zombie: Zombie) -> bool:
        """See `Dispatcher.abandon`; the victim, which has been woken, may run before the kill is complete."""
        self.interrupt()
        for sim_thread in self._sim_threads.values():
            if sim_thread.box is box and sim_thread is not self._holder:
                sim_thread.zombie = zombie
                zombie.begin(sim_thread.thread)
                return True
        return False

    def stop(self, timeout: float | None = None) -> list[Mailbox]:  # noqa: ARG002
        """See `Dispatcher.stop`. The threads stay until `dismiss`, for somebody still drives the simulation."""
        return [sim_thread.box for sim_thread in self._sim_threads.values() if sim_thread.box is not None]

    def rest(self, until: float) -> None:
        """Let everything happen until a virtual time; infinity: until nothing is left. Thread: the driver."""
        sim_thread = self.check()
        if sim_thread is not self._driver:
            raise SimulationError(
                f"only the scenario itself can let time pass, not {sim_thread}; sleep, or wait"
            )
        self._until = until
        self._leave(sim_thread)

    def pause(self) -> None:
        """Let others run before the caller goes on."""
        sim_thread = self.check()
        sim_thread.process = running.process
        self._queue.append(sim_thread)
        self._leave(sim_thread)

    def interrupt(self) -> None:
        """Called where something was sent: perhaps others run before the sender goes on."""
        sim_thread = self.check()
        if not (self._queue or self._parked) or self.system_lock._is_owned():  # noqa: SLF001 - it has no public name
            return
        if running.process is None and not sim_thread.outside:
            return  # a worker between two turns
        name = sim_thread.name if running.process is None else str(running.process.ref)
        if self._choices.chance(self._preemption, f"{name} is interrupted"):
            self.pause()

    def enlist(self, work: Callable[[], object], name: str) -> None:
        """Run `work()` on a thread of its own, outside any process; it begins when it is chosen."""
        self.check()
        sim_thread = SimThread(name, outside=True)
        self._start(sim_thread, lambda: self._serve(sim_thread, work))
        self._queue.append(sim_thread)

    def waits(self) -> list[tuple[str, str]]:
        """Who waits, and for whom, as pairs of text."""
        found = [(str(sim_thread), target(sim_thread.wait)) for sim_thread in self._parked]
        parked = [sim_thread.process.ref for sim_thread in self._parked if sim_thread.process is not None]
        for sim_thread in self._parked:
            ref = None if sim_thread.wait is None else sim_thread.wait.target
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
                for sim_thread in self._parked:
                    sim_thread.error = ProcessKilled("the simulation is over")
                self._queue += self._parked
                self._parked = []
                self.rest(self._clock.monotonic())
        except SimulationError:
            return  # somebody refuses to end: its thread is a daemon thread
        for sim_thread in self._idle:
            sim_thread.baton.release()
            sim_thread.thread.join()

    # --- the baton ----------------------------------------------------------------------------------------------------

    def _leave(self, sim_thread: SimThread) -> None:
        # Returns when this thread is chosen again.
        item = self._next()
        if item is not sim_thread:
            self._give(item)
            self._sleep(sim_thread)
        sim_thread.lock = sim_thread.wait = sim_thread.process = None
        sim_thread.deadline = math.inf
        error, sim_thread.error = sim_thread.error, None
        if error is not None:
            raise error

    def _give(self, item: Item) -> None:
        if isinstance(item, SimThread):
            sim_thread = item
        else:
            sim_thread = self._idle.pop() if self._idle else self._hire()
            sim_thread.task = item
        self._holder = sim_thread
        sim_thread.baton.release()

    def _sleep(self, sim_thread: SimThread) -> None:
        patience = self._real_patience if sim_thread is self._driver else -1
        moves = -1
        while not sim_thread.baton.acquire(True, patience):
            if moves != self._moves:
                moves = self._moves  # it takes long, but something happens
                continue
            self.broken = True
            raise SimulationError(
                f"{self._holder.box or self._holder} blocks its thread, and the simulation cannot see what it "
                f"waits for; wait with the runtime (ask, Future.get, sim.sleep):\n{stack_of(self._holder.thread.ident)}"
            )

    def _hire(self) -> SimThread:
        self._hired += 1
        sim_thread = SimThread(f"worker {self._hired}", outside=False)
        self._start(sim_thread, lambda: self._work(sim_thread))
        return sim_thread

    def _start(self, sim_thread: SimThread, work: Callable[[], None]) -> None:
        def main() -> None:
            running.host = self
            sim_thread.baton.acquire()
            work()

        sim_thread.thread = threading.Thread(
            target=main, name=f"supervisors-sim-{sim_thread.name}", daemon=True
        )
        sim_thread.thread.start()
        self._sim_threads[sim_thread.thread.ident or 0] = sim_thread

    def _work(self, sim_thread: SimThread) -> None:
        running.worker = sim_thread
        while sim_thread.task is not None:
            task, sim_thread.task = sim_thread.task, None
            self._perform(sim_thread, task)
            item = self._next()
            if isinstance(item, SimThread):
                self._idle.append(sim_thread)
                self._give(item)
                sim_thread.baton.acquire()
            else:
                sim_thread.task = item

    def _serve(self, sim_thread: SimThread, work: Callable[[], object]) -> None:
        if sim_thread.error is None:
            work()
        del self._sim_threads[get_ident()]
        self._give(self._next())

    def _perform(self, sim_thread: SimThread, task: Mailbox | TimerRef) -> None:
        try:
            if isinstance(task, Mailbox):
                self._run(sim_thread, task)
            else:
                self.timers.fire(task, self._clock.monotonic())
        except BaseException as exc:  # noqa: BLE001 - whoever drives the simulation is told, and the baton goes on
            self._driver.error = exc

    def _run(self, sim_thread: SimThread, box: Mailbox) -> None:
        ref = box.owner.ref if box.owner is not None and self._mishaps.kills else None
        victim = ref if ref is not None and has_message(box) else None
        if victim is not None and self._mishaps.killed_before(victim):
            victim.kill()
            return
        sim_thread.box = box
        box.run(1)
        sim_thread.box = None
        zombie, sim_thread.zombie = sim_thread.zombie, None
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
            self._queue += [sim_thread for sim_thread in self._parked if sim_thread.may_go_on(now)]
            self._parked = [sim_thread for sim_thread in self._parked if not sim_thread.may_go_on(now)]
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
        then = min([self.timers.earliest(), *(sim_thread.deadline for sim_thread in self._parked)])
        if then == math.inf or (self._until is not None and then > self._until):
            return False
        self._clock.move_to(then)
        return True

    def _drive(self, error: SimulationError | None = None) -> SimThread:
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
        self._parked = [sim_thread for sim_thread in self._parked if sim_thread is not driver]
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
