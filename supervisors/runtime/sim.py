"""A simulated system, whose runs can be repeated: one thread at a time, in seeded order, in virtual time.

The rule of this file: processes, supervisors and mailboxes are those of production; only who runs next, what
time it is and what goes wrong are the simulation's. The same seed and the same scenario make the same run.

    with Sim(seed=7) as sim:
        ref = Counter.start()
        first, second = sim.client(ref.ask, 1), sim.client(ref.ask, 2)
        sim.run_until_idle()

Source: FoundationDB, "Simulation and Testing"; Akka.NET `TestScheduler`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, Self, TypeVar

import pykka

from supervisors.errors import OutsideSimulation, Stuck
from supervisors.runtime.choices import Choice, Choices
from supervisors.runtime.faults import Faults, InjectedFault, Mishaps
from supervisors.runtime.future import Future
from supervisors.runtime.mailbox import Mailbox
from supervisors.runtime.ref import Ref
from supervisors.runtime.running import running
from supervisors.runtime.sim_dispatcher import Gate, SimDispatcher
from supervisors.runtime.system import System
from supervisors.runtime.virtual import VirtualClock

__all__ = ["Sim", "silence"]

T = TypeVar("T")

_STOP_TIME: Final = 3600.0  # virtual seconds that the processes get to stop when the block is left


class Sim:
    """A simulated `System` in a `with` block, driven by the thread of the block.

    `seed` makes the choices, unless `replay` has those of an earlier run (`Sim.choices`). `preemption` is the
    probability that a sender is interrupted where it sends. `max_steps` is how many steps may be taken before
    the scenario itself goes on. Units: virtual seconds; but `real_patience` is how many real seconds a
    handler may block.

    Raises: `Stuck` where the scenario waits and nothing can happen any more; `SimulationError` where things
    go on without end, or a handler blocks in a way the runtime does not see; `OutsideSimulation` for threads
    from outside.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        replay: Sequence[int] | None = None,
        faults: Faults | None = None,
        preemption: float = 0.1,
        max_steps: int = 100_000,
        max_zombies: int = 8,
        real_patience: float = 30.0,
    ) -> None:
        self.seed = seed
        self.clock: VirtualClock = VirtualClock()
        self._choices = Choices(seed, replay)
        self._mishaps = Mishaps(faults, self._choices)
        self._dispatcher = SimDispatcher(
            self._choices,
            self.clock,
            self._mishaps,
            preemption=preemption,
            max_steps=max_steps,
            real_patience=real_patience,
        )
        self.system: System = _SimSystem(self, self._dispatcher, self._mishaps, max_zombies)
        self._clients: list[_Client] = []
        self._current: AbstractContextManager[System] | None = None
        self._outer: Any = None

    def __enter__(self) -> Self:
        self._outer, running.host = running.host, self._dispatcher
        self._current = self.system.activated()
        self._current.__enter__()
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *_exc: object) -> None:
        if exc_type is not None and (issubclass(exc_type, KeyboardInterrupt) or not self._dispatcher.driven):
            # Interrupted at an unknown point: the simulation's threads, which are daemons, are left alone.
            self._dispatcher.broken = True
        try:
            self._end(failed=exc_type is not None)
        finally:
            running.host = self._outer
            if self._current is not None:
                self._current.__exit__(None, None, None)

    @property
    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self.clock.monotonic()

    @property
    def broken(self) -> bool:
        """Whether a handler has blocked its thread, so that the simulation cannot go on."""
        return self._dispatcher.broken

    @property
    def choices(self) -> list[int]:
        """What was chosen where there was a choice: `Sim(replay=sim.choices)` runs the same way."""
        return list(self._choices.taken)

    @property
    def trace(self) -> list[Choice]:
        """What happened, step by step."""
        return list(self._choices.trace)

    def settle(self) -> None:
        """Let everything happen that can happen now, while time stands still."""
        self.advance(0.0)

    def advance(self, seconds: float) -> None:
        """Let so many virtual seconds pass, with everything that happens meanwhile.

        Raises: `ValueError` for a negative number; what a client raised whose result nobody has asked for.
        """
        if not seconds >= 0:
            raise ValueError(f"time can only move forward, not by {seconds!r} seconds")
        self._dispatcher.rest(self.now + seconds)
        self._speak_up()

    def run_until_idle(self) -> None:
        """Let everything happen, whatever time it takes, until nothing is left that would happen by itself.

        Raises: `Stuck` if somebody still waits; `SimulationError` if it never ends; what a client raised.
        """
        self._dispatcher.rest(math.inf)
        self._speak_up()
        waits = self._dispatcher.waits()
        if waits:
            raise Stuck(waits)

    def client(self, work: Callable[..., T], *args: Any, name: str | None = None) -> Future[T]:
        """Run `work(*args)` beside everything else, outside any process; returns a future of its result.

        Raises: `TypeError` if `work` cannot be called.
        """
        if not callable(work):
            raise TypeError(f"a client runs a function, not a {type(work).__name__}")
        label = name if name is not None else f"client {len(self._clients) + 1}"
        client = _Client(self._dispatcher)
        self._clients.append(client)

        def run() -> None:
            with self.system.activated():
                try:
                    client.set(work(*args))
                except BaseException:  # noqa: BLE001 - it is for whoever waits for the client
                    client.set_exception()

        self._dispatcher.enlist(run, label)
        return client

    def sleep(self, seconds: float) -> None:
        """Wait so many virtual seconds, in a handler, a client or the scenario; a kill ends the wait."""
        try:
            Future[None](None, self._dispatcher).get(timeout=seconds)
        except pykka.Timeout:
            pass

    def pick(self, *things: T) -> T:
        """Pick one of these: a choice of the scenario's own, replayed and made small like all others.

        Raises: `ValueError` for nothing at all.
        """
        if not things:
            raise ValueError("nothing to pick from; give at least one thing")
        return things[self._choices.pick(len(things), lambda nth: f"the scenario picks {things[nth]!r}")]

    def report(self, limit: int = 60) -> str:
        """The trace as text, for people; at most the last `limit` lines."""
        lines = [f"{nth:>4}  {choice}" for nth, choice in enumerate(self._choices.trace, 1)]
        left_out = len(lines) - limit
        return "\n".join(lines if left_out <= 0 else [f"      ... {left_out} steps", *lines[-limit:]])

    def _end(self, *, failed: bool) -> None:
        self._choices.calm_down()
        dispatcher = self._dispatcher
        try:
            if not failed and not dispatcher.broken:
                self.system.stop(timeout=_STOP_TIME)
        finally:
            if not dispatcher.broken:
                self._kill_the_rest()
            dispatcher.dismiss()
        if not failed:
            self._speak_up()

    def _kill_the_rest(self) -> None:
        self.system.stopped = True
        with silence():
            for ref in reversed(self.system.processes()):
                ref.kill()

    def _speak_up(self) -> None:
        # Errors should never pass silently: neither those of foreign threads nor those of clients.
        trespass, self._dispatcher.trespass = self._dispatcher.trespass, None
        if trespass is not None:
            raise trespass
        for client in self._clients:
            client.raise_unheard()


@contextmanager
def silence(*others: str) -> Iterator[None]:
    """Log nothing inside the block, nor to the loggers of `others`: whatever ends there is meant to."""
    logs = [logging.getLogger(name) for name in ("supervisors", *others)]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


class _Client(Future[Any]):
    __slots__ = ("_heard",)

    def __init__(self, host: SimDispatcher) -> None:
        super().__init__(None, host)
        self._heard = False

    def get(self, *, timeout: float | None = None) -> Any:
        self._heard = True
        return super().get(timeout=timeout)

    def raise_unheard(self) -> None:
        if self.done() and not self._heard:
            self.get()


class _SimSystem(System):
    def __init__(self, sim: Sim, dispatcher: SimDispatcher, mishaps: Mishaps, max_zombies: int) -> None:
        super().__init__(dispatcher=dispatcher, clock=sim.clock, max_zombies=max_zombies)
        self.lock = dispatcher.system_lock
        self.timers = dispatcher.timers
        self._sim = sim
        self._baton = dispatcher
        self._mishaps = mishaps

    def next_number(self) -> int:
        self._baton.check()
        return super().next_number()

    def add(self, ref: Ref[Any]) -> None:
        box: object = ref.actor_inbox
        if not isinstance(box, Mailbox):
            raise OutsideSimulation(f"{ref} has a thread of its own, and a simulation can run only processes")
        box.put_through(Gate(self._baton))
        if self._mishaps.start_fails(ref):
            box.owner._actor_init = _failing(ref)  # type: ignore[union-attr]  # noqa: SLF001 - its `init` is the user's
        super().add(ref)

    def random(self) -> float:
        return self._sim._choices.fraction()  # noqa: SLF001 - same package

    def apart(self, work: Callable[[], object]) -> None:
        self._sim.client(work, name="the system")


def _failing(ref: Ref[Any]) -> Callable[[], object]:
    def init() -> object:
        raise InjectedFault(f"the simulation made the start of {ref} fail")

    return init
