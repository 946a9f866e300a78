"""SimHost: the production host in a deterministic simulation.

    with SimHost(seed=7) as host:
        chat = host.session("s", engine)
        turn = chat.reply("hi")
        assert turn.result().halted_reason == "completed"
        host.run_until_idle()

Rule of this file: the host, its actors, its supervisors and the loop machine are those of production; only
scheduling, time, faults and the ids of turns are the simulation's. There is no event loop and no network in
it: what needs one is refused, by name, in the caller.

Units: virtual seconds.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar

from allm_actors.actors.host import Host
from allm_actors.actors.ports import HOST
from allm_actors.actors.store import Store
from allm_actors.actors.tree import NO_LIMIT
from allm_actors.actors.turns.spec import TurnSpec
from allm_actors.data import EngineError, Session, StoreError
from supervisors import Faults, Future, Sim, System
from supervisors import exit as exit_process
from supervisors.runtime.ref import Ref

__all__ = ["MORTALS", "SimHost", "crashes", "role_of"]

T = TypeVar("T")

MORTALS = {
    "adapter": ("AdapterActor", "ThreadedAdapterActor", "BlockingAdapterActor"),
    "tool": ("ToolActor",),
    "session": ("SessionActor",),
    "store": ("StoreActor", "MemoryStoreActor"),
    "supervisor": ("Branch", "Crowd"),
}
"""The roles of a host's processes, and their classes."""

_ROLES = {name: role for role, names in MORTALS.items() for name in names}


def role_of(ref: Ref[Any]) -> str | None:
    """The role of a process in its host (a key of `MORTALS`); None for any other, and for the root of the tree."""
    return None if ref.name == HOST else _ROLES.get(ref.actor_class.__name__)


def crashes(
    *roles: str, chance: float = 0.05, at_most: int = 3, nth: int | None = None, **others: Any
) -> Faults:
    """`Faults` that kill processes of these roles, before or after one of their messages: `adapter` (gets a
    message after each delay), `tool` (gets one for each job after its first; a client can kill it during a
    job, with `host.kill("tool")`), `session`, `store`, `supervisor`. Without roles: adapters, sessions and
    stores. Other fields are those of `Faults`.

    Raises: ValueError for an unknown role.
    """
    _check_roles(roles)
    wanted = roles or ("adapter", "session", "store")
    return Faults(
        kill=lambda ref: role_of(ref) in wanted, kill_chance=chance, at_most=at_most, nth=nth, **others
    )


class SimHost(Host):
    """A `Host` on the simulator: virtual time, seeded order, injected crashes. Everything happens on one thread at a
    time, while the scenario waits for something (a turn, `run_until_idle`, `advance`).

    Adapters must say where they would wait (`play`, as the scripted provider does) or never wait (`stream`); tools are
    plain functions, which wait with `sleep`, `context.cancelled.wait` or the runtime's futures. `store` is memory or an
    SQLite file. With `sim` it lives in a simulation that somebody else drives.

    Raises: EngineError from the call that would need an event loop: asynchronous tools, adapters that read a network.
    `Stuck` where a turn is waited for that nothing can end any more; `SimulationError` as `Sim` says.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        store: str | Path | Store | None = None,
        faults: Faults | None = None,
        replay: Sequence[int] | None = None,
        sim: Sim | None = None,
        idle_timeout: float | None = None,
        max_zombies: int = 64,
        shutdown_timeout: float = 60.0,
        **options: Any,
    ) -> None:
        super().__init__(
            store, idle_timeout=idle_timeout, max_zombies=max_zombies, shutdown_timeout=shutdown_timeout
        )
        self._given_sim = sim is not None
        self.sim: Sim = sim if sim is not None else Sim(seed, faults=faults, replay=replay, **options)
        self.seed: int = self.sim.seed
        self._numbers = itertools.count(1)
        self._collects = False
        self._world = ExitStack()

    def __del__(self) -> None:
        """It has no threads and no files that could be left."""

    def __enter__(self) -> Self:
        self._collects = gc.isenabled()
        gc.disable()  # a stream that is collected cancels its turn: when that happens is the scenario's business
        try:
            if not self._given_sim:
                self._world.enter_context(self.sim)
            return self.start()
        except BaseException:
            self._world.close()
            self._resume_collecting()
            raise

    def __exit__(self, *exc: object) -> None:
        try:
            failed = exc[0] is not None
            if not failed:
                self.stop()
        finally:
            try:
                self._world.__exit__(*exc)  # type: ignore[arg-type]
            finally:
                self._resume_collecting()

    async def __aenter__(self) -> NoReturn:
        """There is no event loop in a simulation."""
        raise TypeError("a simulated host has no event loop: use `with SimHost(…)`")

    # The simulation.

    @property
    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self.sim.now

    @property
    def choices(self) -> list[int]:
        """What was chosen: `SimHost(replay=host.choices)` with the same scenario runs the same way."""
        return self.sim.choices

    def run_until_idle(self) -> None:
        """Run everything until nothing is left that would happen by itself. As `Sim.run_until_idle`."""
        self.sim.run_until_idle()

    def advance(self, seconds: float) -> None:
        """Let this much virtual time pass, and run everything that happens in it."""
        self.sim.advance(seconds)

    def sleep(self, seconds: float) -> None:
        """Wait this long in virtual time: in a tool, a client or the scenario."""
        self.sim.sleep(seconds)

    def client(self, work: Callable[..., T], *args: Any, name: str | None = None) -> Future[T]:
        """Run `work(*args)` concurrently, as a user of the host; returns a future of its result."""
        return self.sim.client(work, *args, name=name)

    def pick(self, *things: T) -> T:
        """Choose one of these: a choice of the scenario's own, replayed and shrunk like all others."""
        return self.sim.pick(*things)

    def stored(self, id: str) -> Session | None:
        """The stored value of a session, which a restart would find, or None."""
        return self._store.load(id)

    def living(self, *roles: str) -> list[Ref[Any]]:
        """The living processes of these roles (of all roles, if none is named), oldest first.

        Raises ValueError for an unknown role.
        """
        _check_roles(roles)
        wanted = roles or tuple(MORTALS)
        return [ref for ref in self.system.processes() if role_of(ref) in wanted]

    def kill(self, *roles: str) -> bool:
        """Kill a process of one of these roles, picked by the simulation. Returns False if there is none.

        Raises ValueError for an unknown role.
        """
        found = self.living(*roles)
        if found:
            exit_process(self.pick(*found), "kill")
        return bool(found)

    # What is the simulation's of the host.

    def tool_loop(self) -> None:
        """There is none."""

    def new_id(self) -> str:
        """The next number, so that a run can be repeated to the letter."""
        return f"turn-{next(self._numbers)}"

    def check_turn(self, spec: TurnSpec) -> None:
        """Raises EngineError for an asynchronous tool, or an adapter that reads a network."""
        for tool in spec.options.tools.values():
            if inspect.iscoroutinefunction(tool.handler):
                advice = "give it a plain function, or let it be played: prove_halting(…, handlers='wild')"
                raise _unplayable(f"tool {tool.name!r} is a coroutine function", advice)
        adapter = spec.adapter
        waits = callable(getattr(adapter, "batches", None)) and not callable(getattr(adapter, "play", None))
        if waits or inspect.isasyncgenfunction(getattr(adapter, "stream", None)):
            name = getattr(adapter, "name", type(adapter).__name__)
            raise _unplayable(f"adapter {name!r} uses the network", "use 'fake', or an adapter with play()")

    def _make_system(self) -> System:
        self.sim.system.zombies.limit = NO_LIMIT
        return self.sim.system

    @staticmethod
    def _io_loop(system: System) -> asyncio.AbstractEventLoop | None:  # noqa: ARG004 - there is none
        return None

    def _close_transport(self, system: System, seconds: float) -> None:
        """Nothing was connected."""

    def _stop(self, running: Any) -> None:
        # The simulation outlives its host: whoever drives it ends it.
        if running is not None:
            self._stop_tree(running.root, self._shutdown_timeout)
            with suppress(StoreError):
                self._store.close()  # its actor may have been killed, and not restarted before the end

    def _resume_collecting(self) -> None:
        if self._collects:
            gc.enable()


def _check_roles(roles: Sequence[str]) -> None:
    for role in roles:
        if role not in MORTALS:
            raise ValueError(f"a host has no role {role!r}; the roles are: {', '.join(MORTALS)}")


def _unplayable(what: str, advice: str) -> EngineError:
    text = f"{what}, and a simulated host has no event loop; {advice}"
    return EngineError("invalid_engine", message=text)
