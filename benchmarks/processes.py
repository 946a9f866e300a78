"""What processes cost: idle, started and stopped, told, asked, restarted, in a storm of crashes, and as siblings of many.

    python -m benchmarks.processes [-r 3] [--probes DIR] [--pin] [table or subject ...]

Tables: idle, tell, ask, restart, storm, cost. Beside ours, on a pool, on a thread each and on an event loop, are stock
Pykka's threads, Erlang where it is installed, and with `--probes` what a module `pooled` in that directory can do.
Killed is `exit(ref, "kill")`, in Erlang `exit(Pid, kill)`; crashed is a handler that raises. A restart lasts until the
new `init` runs. `--pin` keeps each subject on one CPU; without it each may use all there are.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from queue import SimpleQueue
from typing import Any

from benchmarks.measure import Column, Subject, arguments, measure, percentile, settled_rss, show, threads
from benchmarks.peers import DISPATCHERS, PROBES, Runtime, erlang, runtime

__all__ = ["SUBJECTS"]

MESSAGES, ASKS, RESTARTS, SAMPLE, BATCH = 200_000, 5_000, 1_000, 1_000, 100
REFERENCE = "pykka"

Measure = Callable[[Runtime, int], dict[str, float]]


def idle(subject: Runtime, count: int) -> dict[str, float]:
    """Start so many that do nothing, tell each something, and stop them."""
    actor = _echo(subject.actor)
    actor.start().ask("warm")
    before, began = settled_rss(), time.perf_counter()
    refs = [actor.start() for _ in range(count)]
    numbers = {"start": count / (time.perf_counter() - began), "threads": threads()}
    numbers["bytes"] = (settled_rss() - before) / count
    for ref in refs:
        ref.tell("a message")
    for ref in refs:
        ref.ask("another")
    numbers["used"] = (settled_rss() - before) / count
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
    began = time.perf_counter()
    for pump, sink in lines:
        pump.tell(sink)
    for _ in lines:
        done.acquire()
    return {"tell": pairs * each / (time.perf_counter() - began)}


def ask(subject: Runtime, count: int) -> dict[str, float]:
    """Questions from outside, from an actor that waits, from one that goes on meanwhile; and two tells, there and back."""
    numbers = {"outside": percentile(_asked(_echo(subject.actor).start(), count), 50)}
    done: SimpleQueue[Any] = SimpleQueue()
    if subject.can_ask_inside:
        _asker(subject.actor).start().tell((_echo(subject.actor).start(), count, done))
        numbers["between"] = percentile(done.get(), 50)
    if subject.has_callbacks:
        _caller(subject.actor).start().tell((_echo(subject.actor).start(), count, done))
        numbers["callback"] = percentile(done.get(), 50)
    here, there = _pong(subject.actor).start(), _pong(subject.actor).start()
    began = time.perf_counter()
    here.tell((there, 2 * count, done))
    done.get()
    return {**numbers, "pingpong": (time.perf_counter() - began) / count * 1e6}


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
    refs, began = [], time.perf_counter()
    for _ in range(count // BATCH):
        family.start(BATCH)
        refs += [born.get() for _ in range(BATCH)]
    numbers = {"start": (time.perf_counter() - began) / count * 1e6}
    sample = refs[:: max(1, count // SAMPLE)][:SAMPLE]
    gc.collect()  # what the start left behind is not to be paid for by the few that follow
    began = time.perf_counter()
    for ref in sample:
        family.kill(ref)
    again = [born.get() for _ in sample]
    numbers["restart"] = (time.perf_counter() - began) / len(sample) * 1e6
    gc.collect()
    began = time.perf_counter()
    for ref in again:
        family.terminate(ref)
    return {**numbers, "terminate": (time.perf_counter() - began) / len(again) * 1e6}


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
        def on_receive(self, message: Any) -> None:
            peer, left, done = message
            if left:
                peer.tell((self.actor_ref, left - 1, done))
            else:
                done.put(None)

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


# Subjects and tables.


def _in_python(name: str, what: Measure, number: int, probes: str | None) -> dict[str, float]:
    logging.disable(logging.CRITICAL)  # nobody else writes reports of crashes either
    return what(runtime(name, probes), number)


def _in_erlang(what: Measure, number: int, probes: str | None) -> dict[str, float]:  # noqa: ARG001
    return erlang(what.__name__, number)


def _subjects(what: Measure, numbers: tuple[int, ...], *, runtimes: tuple[str, ...]) -> dict[str, Subject]:
    return {
        f"{what.__name__} {number}, {name}": Subject(partial(_in_erlang, what, number), programs=("erl", "erlc"))
        if name == "Erlang"
        else Subject(partial(_in_python, name, what, number))
        for number in numbers
        for name in runtimes
    }


LIGHT = ("pool", "loop", *PROBES, "Erlang")
ALL = (*DISPATCHERS, "pykka", *PROBES, "Erlang")
OTP = ("pool", "Erlang")
SUBJECTS: Mapping[str, Subject] = {
    **_subjects(idle, (10_000,), runtimes=ALL),
    **_subjects(idle, (100_000,), runtimes=LIGHT),
    **_subjects(tell, (1, 100), runtimes=ALL),
    **_subjects(ask, (ASKS,), runtimes=ALL),
    **_subjects(restart, (RESTARTS,), runtimes=ALL),
    **_subjects(storm, (10_000,), runtimes=ALL),
    **_subjects(cost, (100, 1_000, 10_000, 100_000), runtimes=OTP),
}
TABLES: Mapping[str, tuple[str, tuple[Column, ...]]] = {
    "idle": (
        "{} idle processes",
        (
            Column("bytes", "bytes each", ",.0f", ratio=True),
            Column("used", "bytes, once told", ",.0f"),
            Column("counted", "bytes, Erlang's own count", ",.0f"),
            Column("threads", "threads", ",.0f"),
            Column("start", "started per s", ",.0f", ratio=True),
            Column("stop", "stopped per s", ",.0f", ratio=True),
        ),
    ),
    "tell": ("Tells from actor to actor, pairs: {}", (Column("tell", "per s", ",.0f", ratio=True),)),
    "ask": (
        "An ask, µs",
        (
            Column("outside", "from outside p50", ",.1f", ratio=True),
            Column("between", "between actors p50", ",.1f", ratio=True),
            Column("callback", "the same, with a callback, p50", ",.1f"),
            Column("pingpong", "two tells", ",.1f", ratio=True),
        ),
    ),
    "restart": (
        "A restart, µs",
        (
            Column("p50", "by an actor p50", ",.0f", ratio=True),
            Column("p99", "p99", ",.0f"),
            Column("outside p50", "from outside p50", ",.0f", ratio=True),
            Column("outside p99", "p99", ",.0f"),
        ),
    ),
    "storm": (
        "{} children of one dynamic supervisor end at once",
        (
            Column("killed", "killed, restarts per s", ",.0f", ratio=True),
            Column("crashed", "crashed, restarts per s", ",.0f", ratio=True),
        ),
    ),
    "cost": (
        "One of {} children, µs",
        (
            Column("start", "start", ",.1f"),
            Column("restart", "kill and restart", ",.1f"),
            Column("terminate", "terminate", ",.1f"),
        ),
    ),
}
REFERENCES = {"idle 100000": "Erlang", "storm": "Erlang"}


def _wanted(names: list[str], probes: str | None) -> list[str]:
    # A table's name means all its subjects.
    known = [name for name in SUBJECTS if probes or not name.split(", ", 1)[1].startswith("probe")]
    if not names:
        return known
    return [each for name in names for each in [known_one for known_one in known if known_one.startswith(f"{name} ")] or [name]]


if __name__ == "__main__":
    options: dict[str, dict[str, Any]] = {"--probes": {"metavar": "DIR"}, "--pin": {"action": "store_true"}}
    asked = arguments(__doc__, SUBJECTS, options)
    asked.subjects = _wanted(asked.subjects, asked.probes)
    samples = measure("benchmarks.processes", SUBJECTS, asked, pinned=asked.pin, probes=asked.probes)
    for heading in dict.fromkeys(name.split(", ", 1)[0] for name in samples):
        table, number = heading.split(" ")
        rows = {name.split(", ", 1)[1]: rows for name, rows in samples.items() if name.startswith(f"{heading}, ")}
        title, columns = TABLES[table]
        show(title.format(f"{int(number):,}"), columns, rows, "Erlang" if "Erlang" in rows else "pool")
