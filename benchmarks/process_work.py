"""What the processes of one runtime are made to do, and how long it takes them.

Rule of this file: the actors of all runtimes are the same code, on the base class of each. A measure returns numbers;
what they are called is in the tables of `processes.py`.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

from benchmarks.measure import cpu, percentile, settled_rss, threads
from benchmarks.peers import Runtime

__all__ = ["ask", "cost", "idle", "restart", "storm", "tell"]

MESSAGES, SAMPLE, BATCH = 200_000, 1_000, 100


def idle(subject: Runtime, count: int) -> dict[str, float]:
    """Start so many that do nothing, tell each something, and stop them."""
    actor = _echo(subject.actor)
    actor.start().ask("warm")
    before, began = settled_rss(), time.perf_counter()
    refs = [actor.start() for _ in range(count)]
    numbers = {"start": count / (time.perf_counter() - began)}
    numbers["bytes"] = (settled_rss() - before) / count
    for ref in refs:
        ref.tell("a message")
    for ref in refs:
        ref.ask("another")
    numbers |= {"used": (settled_rss() - before) / count, "threads": threads()}
    began = time.perf_counter()
    for stopped in [ref.stop(block=False) for ref in refs]:
        stopped.get()
    return {**numbers, "stop": count / (time.perf_counter() - began)}


def tell(subject: Runtime, pairs: int) -> dict[str, float]:
    """So many senders, each to a receiver of its own."""
    each, done = MESSAGES // pairs, threading.Semaphore(0)

    class Sink(subject.actor):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.left = each

        def on_receive(self, _message: Any) -> None:
            self.left -= 1
            if not self.left:
                done.release()

    class Pump(subject.actor):  # type: ignore[misc,name-defined]
        def on_receive(self, sink: Any) -> None:
            for number in range(each):
                sink.tell(number)

    lines = [(Pump.start(), Sink.start()) for _ in range(pairs)]
    before, began = cpu(), time.perf_counter()
    for pump, sink in lines:
        pump.tell(sink)
    for _ in lines:
        done.acquire()
    wall, used = time.perf_counter() - began, cpu() - before
    return {"tell": pairs * each / wall, "cpu": used / (pairs * each) * 1e6}


def ask(subject: Runtime, count: int) -> dict[str, float]:
    """Questions from outside, from an actor that waits, from one that does not; and two tells, there and back."""
    numbers = {"outside": percentile(_asked(_echo(subject.actor).start(), count), 50)}
    done: SimpleQueue[Any] = SimpleQueue()
    if subject.can_ask_inside:
        _asker(subject.actor).start().tell((_echo(subject.actor).start(), count, done))
        numbers["between"] = percentile(done.get(), 50)
    if subject.has_callbacks:
        _caller(subject.actor).start().tell((_echo(subject.actor).start(), count, done))
        numbers["callback"] = percentile(done.get(), 50)
    if subject.loop is not None:
        coroutine = _awaited(_echo(subject.actor).start(), count)
        took = asyncio.run_coroutine_threadsafe(coroutine, subject.loop).result()
        numbers["awaited"] = percentile(took, 50)
    here, there = _pong(subject.actor).start(), _pong(subject.actor).start()
    here.tell((there, 2 * count, done))
    return {**numbers, "pingpong": percentile(done.get(), 50)}


def restart(subject: Runtime, count: int) -> dict[str, float]:
    """One child, ended again and again: by an outsider, and by an actor."""
    born: SimpleQueue[Any] = SimpleQueue()
    family = subject.family(lambda ref, at: born.put((ref, at)))
    family.start(1)
    took = []
    ref, _ = born.get()
    for _ in range(count):
        began = time.perf_counter()
        family.end(ref)
        ref, at = born.get()
        took.append((at - began) * 1e6)
    by_actor = _restarted_by_actor(subject, count)
    return {
        "outside p50": percentile(took, 50),
        "outside p99": percentile(took, 99),
        "p50": percentile(by_actor, 50),
        "p99": percentile(by_actor, 99),
    }


def storm(subject: Runtime, count: int) -> dict[str, float]:
    """All children of one supervisor ended at once."""
    numbers = {}
    for how in ("killed", "crashed"):
        born: SimpleQueue[Any] = SimpleQueue()
        family = subject.family(lambda ref, _at, born=born: born.put(ref))
        if how == "killed" and not family.can_kill:
            continue
        family.start(count)
        refs = [born.get() for _ in range(count)]
        end = family.kill if how == "killed" else family.crash
        gc.collect()
        began = time.perf_counter()
        for ref in refs:
            end(ref)
        for _ in refs:
            born.get()
        numbers[how] = count / (time.perf_counter() - began)
    return numbers


def cost(subject: Runtime, count: int) -> dict[str, float]:
    """So many siblings: to start each, and to kill and restart, and to terminate, some of them."""
    born: SimpleQueue[Any] = SimpleQueue()
    family = subject.family(lambda ref, _at: born.put(ref))
    numbers: dict[str, float] = {}
    refs: list[Any] = []
    with _timed("start", count, numbers):
        for _ in range(count // BATCH):
            family.start(BATCH)
            refs += [born.get() for _ in range(BATCH)]
    sample = refs[:: max(1, count // SAMPLE)][:SAMPLE]
    gc.collect()  # what the start left behind is not to be paid for by the few that follow
    with _timed("restart", len(sample), numbers):
        for ref in sample:
            family.kill(ref)
        again = [born.get() for _ in sample]
    gc.collect()
    with _timed("terminate", len(sample), numbers):
        for ref in again:
            family.terminate(ref)
    return numbers


@contextmanager
def _timed(what: str, count: int, numbers: dict[str, float]) -> Iterator[None]:
    before, began = cpu(), time.perf_counter()
    yield
    numbers[what] = (time.perf_counter() - began) / count * 1e6
    numbers[f"{what} cpu"] = (cpu() - before) / count * 1e6


# Actors.


def _echo(base: type[Any]) -> type[Any]:
    class Echo(base):  # type: ignore[misc]
        def on_receive(self, message: Any) -> Any:
            return message

    return Echo


def _asked(ref: Any, count: int) -> list[float]:
    took = []
    for number in range(count):
        began = time.perf_counter()
        ref.ask(number)
        took.append((time.perf_counter() - began) * 1e6)
    return took


async def _awaited(ref: Any, count: int) -> list[float]:
    took = []
    for number in range(count):
        began = time.perf_counter()
        await ref.ask(number, block=False)
        took.append((time.perf_counter() - began) * 1e6)
    return took


def _asker(base: type[Any]) -> type[Any]:
    class Asker(base):  # type: ignore[misc]
        def on_receive(self, message: Any) -> None:
            ref, count, done = message
            done.put(_asked(ref, count))

    return Asker


def _caller(base: type[Any]) -> type[Any]:
    class Caller(base):  # type: ignore[misc]
        def on_receive(self, message: Any) -> None:
            if isinstance(message, tuple):
                self.other, self.left, self.done = message
                self.took: list[float] = []
            else:
                self.took.append((time.perf_counter() - self.began) * 1e6)
            if not self.left:
                self.done.put(self.took)
                return
            self.left -= 1
            self.began = time.perf_counter()
            self.other.ask(self.left, block=False).add_done_callback(self.answered)

        def answered(self, answer: Any) -> None:
            self.actor_ref.tell(answer.get())

    return Caller


def _pong(base: type[Any]) -> type[Any]:
    class Pong(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.at: list[float] = []

        def on_receive(self, message: Any) -> None:
            peer, left, done = message
            self.at.append(time.perf_counter() * 1e6)
            if left:
                peer.tell((self.actor_ref, left - 1, done))
            else:
                done.put([after - before for before, after in pairwise(self.at)])

    return Pong


def _restarted_by_actor(subject: Runtime, count: int) -> list[float]:
    done: SimpleQueue[list[float]] = SimpleQueue()

    class Killer(subject.actor):  # type: ignore[misc,name-defined]
        def on_receive(self, message: Any) -> None:
            if not isinstance(message, tuple):
                self.end, self.began, self.took = message, time.perf_counter(), []
                return
            ref, at = message
            self.took.append((at - self.began) * 1e6)
            if len(self.took) > count:
                done.put(self.took[1:])
                return
            self.began = time.perf_counter()
            self.end(ref)

    killer = Killer.start()
    family = subject.family(lambda ref, at: killer.tell((ref, at)))
    killer.tell(family.end)
    family.start(1)
    return done.get()
