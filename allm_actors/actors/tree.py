"""The supervision tree of a host, and what its processes run on.

    host                rest_for_one: when a child dies, those after it are restarted too
    ├── store           StoreActor: loads and saves sessions
    └── work            one_for_one: each child is restarted alone
        ├── adapters    one AdapterActor per turn that asks a model; never restarted
        ├── tools       one ToolActor per running tool call; never restarted
        └── sessions    one SessionActor per session; restarted, with its stored state.
                        One CallActor per call that is not chat; never restarted

Rule of this file: sessions, adapters and supervisors never block and run on the thread of one event loop, so
that data from a socket reaches the session without a hop between threads; the store and blocking tools have
threads.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, ClassVar, Final, Literal, TypeAlias

from allm_actors.data import EngineError
from supervisors import (
    Dispatcher,
    DynamicSupervisor,
    LoopDispatcher,
    PinnedDispatcher,
    PoolDispatcher,
    ProcessRef,
    Supervisor,
    System,
    child,
    simulated,
)

from .loops import no_loop
from .ports import ADAPTERS, HOST, SESSIONS, STORE, TOOLS, WORK
from .store import Store
from .store.actor import store_actor_for

__all__ = [
    "DISPATCHERS",
    "NO_LIMIT",
    "DispatcherName",
    "loop_of",
    "make_system",
    "refuse_simulated",
    "start_tree",
]

NO_LIMIT: Final = sys.maxsize

DispatcherName: TypeAlias = Literal["loop", "pool", "threads"]
DISPATCHERS: Final[dict[DispatcherName, Callable[[], Dispatcher] | None]] = {
    "loop": None,
    "pool": PoolDispatcher,
    "threads": PinnedDispatcher,
}
"""What sessions, adapters and supervisors may run on; None is the event loop of the host."""


class Branch(Supervisor):
    """A supervisor on the same dispatcher as the sessions."""

    dispatcher: ClassVar[str] = "io"


class Crowd(DynamicSupervisor):
    """A dynamic supervisor on the same dispatcher as the sessions."""

    dispatcher: ClassVar[str] = "io"


def make_system(dispatcher: DispatcherName, loop: asyncio.AbstractEventLoop | None) -> System:
    """A system with an event loop, `loop` or one of its own, and another for asynchronous tools.

    Raises: EngineError in a simulation.
    """
    refuse_simulated()
    system = System(max_zombies=NO_LIMIT)  # the limit is the host's, which refuses new calls instead
    loops = LoopDispatcher(loop)
    system.register_dispatcher("loop", loops)
    system.register_dispatcher("tools", LoopDispatcher())
    other = DISPATCHERS[dispatcher]
    system.register_dispatcher("io", loops if other is None else other())
    return system


def refuse_simulated() -> None:
    """Raises EngineError in a simulation, where waiting for a real host would never end."""
    if simulated():
        message = (
            "this needs real threads and real time, and a simulation is running here: in a scenario, use only "
            "its own host, with host.session(…), and no call without a session"
        )
        raise EngineError("invalid_engine", message=message)


def loop_of(system: System, name: str = "loop") -> asyncio.AbstractEventLoop:
    """The event loop of such a system, or that of its `tools`. Raises EngineError when no file descriptors are left
    for it.
    """
    dispatcher: Any = system.dispatcher(name)
    try:
        loop: asyncio.AbstractEventLoop = dispatcher.loop
    except OSError as error:
        raise no_loop(error) from error
    return loop


def start_tree(system: System, store: Store) -> ProcessRef[Any]:
    """Start the tree above; its root. Raises StoreError when the store cannot be used."""
    # In a context of its own: Ctrl-C may strike as it is entered or left, and the caller's would keep this system.
    return copy_context().run(_started, system, store)


def _started(system: System, store: Store) -> ProcessRef[Any]:
    with system.activated():
        return Branch.start(
            [
                child(store_actor_for(store), store, name=STORE),
                child(
                    Branch,
                    [
                        child(Crowd, name=ADAPTERS),
                        child(Crowd, name=TOOLS),
                        child(Crowd, name=SESSIONS, max_restarts=100, max_seconds=5.0),
                    ],
                    name=WORK,
                ),
            ],
            strategy="rest_for_one",
            max_restarts=10,  # a store on a bad disk may crash a few times before the host gives up
            name=HOST,
        )
