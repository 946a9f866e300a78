"""Whose processes are measured: ours on each dispatcher, stock Pykka, the probes of a directory, Erlang.

Rule of this file: a `Runtime` is what `processes.py` needs of an actor library, and no more. All of them are Pykka's in
their interface, so the actors that are measured are the same code; only supervision is each one's own.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pykka

from supervisors import (
    DynamicSupervisor,
    LoopDispatcher,
    PinnedDispatcher,
    PoolDispatcher,
    Process,
    System,
    child,
    exit,
)

__all__ = ["DISPATCHERS", "PROBES", "Family", "Runtime", "erlang", "runtime"]

MANY = 100_000_000  # restarts that no storm exceeds
DISPATCHERS: Mapping[str, Callable[[], Any]] = {
    "pool": PoolDispatcher,
    "threads": PinnedDispatcher,
    "loop": LoopDispatcher,
}
PROBES: Mapping[str, str] = {"probe, pooled": "PooledActor", "probe, lean": "LeanActor"}
Born = Callable[[Any, float], object]


class Family(ABC):
    """A supervisor of permanent children, each of which calls `born(ref, time)` when it has begun."""

    can_kill: bool = False

    @abstractmethod
    def start(self, count: int) -> None:
        """Have so many children started; they will be born."""

    def kill(self, ref: Any) -> None:
        """End a child as Erlang's `exit(Pid, kill)` does."""
        raise NotImplementedError

    def crash(self, ref: Any) -> None:
        """Let the child's handler raise."""
        ref.tell("crash")

    def end(self, ref: Any) -> None:
        """Kill the child where that can be done."""
        (self.kill if self.can_kill else self.crash)(ref)

    def terminate(self, ref: Any) -> None:
        """Have the supervisor stop a child for good, and wait for that."""
        raise NotImplementedError


class Runtime:
    """An actor library: its base class, and its supervisor."""

    can_ask_inside = True
    has_callbacks = False
    loop: asyncio.AbstractEventLoop | None = None

    def __init__(self, actor: type[Any], family: Callable[[type[Any], Born], Family]) -> None:
        self.actor = actor
        self._family = family

    def family(self, born: Born) -> Family:
        """A supervisor without children."""
        return self._family(self.actor, born)


def runtime(name: str, probes: str | None) -> Runtime:
    """The runtime of this name; those of `PROBES` are in the module `pooled` of the directory `probes`."""
    if name in DISPATCHERS:
        return _ours(name)
    if name == "pykka":
        return Runtime(pykka.ThreadingActor, _ByHand)
    sys.path.insert(0, probes or "")
    return Runtime(getattr(importlib.import_module("pooled"), PROBES[name]), _ByHand)


def erlang(measure: str, number: int) -> dict[str, float]:
    """The numbers of one measure of `processes.erl`."""
    source = Path(__file__).with_name("processes.erl")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["erlc", "-o", folder, source], check=True, capture_output=True)
        command = ["erl", "+P", "1000000", "-noshell", "-kernel", "logger_level", "none", "-pa", folder]
        order = ["-s", "processes", "main", measure, str(number)]
        done = subprocess.run([*command, *order], check=True, capture_output=True, text=True)
    numbers: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return numbers


# Ours.


def _ours(name: str) -> Runtime:
    dispatcher = DISPATCHERS[name]()
    System(dispatcher=dispatcher).__enter__()
    found = Runtime(Process, _Supervised)
    found.loop = dispatcher.loop if isinstance(dispatcher, LoopDispatcher) else None
    found.can_ask_inside, found.has_callbacks = found.loop is None, True
    return found


class _Supervised(Family):
    can_kill = True

    def __init__(self, actor: type[Any], born: Born) -> None:
        class Child(actor):  # type: ignore[misc]
            def init(self) -> None:
                born(self.actor_ref, time.perf_counter())

            def on_receive(self, message: Any) -> None:
                raise RuntimeError(message)

        self._supervisor = DynamicSupervisor.start(max_restarts=MANY, max_seconds=1.0)
        self._spec = child(Child)

    def start(self, count: int) -> None:
        for _ in range(count):
            self._supervisor.start_child_soon(self._spec)

    def kill(self, ref: Any) -> None:
        exit(ref, "kill")

    def terminate(self, ref: Any) -> None:
        self._supervisor.terminate_child(ref)


# Pykka's, and what has its interface: supervised by the few lines that a user of Pykka would write.


class _ByHand(Family):
    def __init__(self, actor: type[Any], born: Born) -> None:
        class Child(actor):  # type: ignore[misc]
            def __init__(self, supervisor: Any) -> None:
                super().__init__()
                self.supervisor = supervisor

            def on_start(self) -> None:
                born(self.actor_ref, time.perf_counter())

            def on_receive(self, message: Any) -> None:
                raise RuntimeError(message)

            def on_failure(self, *_error: Any) -> None:
                self.supervisor.tell(self.actor_ref)

        class Supervisor(actor):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.children: set[Any] = set()

            def on_receive(self, message: Any) -> None:
                if not isinstance(message, int):
                    self.children.discard(message)
                for _ in range(message if isinstance(message, int) else 1):
                    self.children.add(Child.start(self.actor_ref))

        self._supervisor = Supervisor.start()

    def start(self, count: int) -> None:
        self._supervisor.tell(count)
