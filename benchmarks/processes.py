"""What processes cost: idle, told, asked, restarted, in a storm of crashes, and as siblings of many.

    python -m benchmarks.processes [-r 3] [--probes DIR] [--pin] [table or subject ...]

Tables: idle, tell, ask, restart, storm, cost. Beside ours, on a pool, on a thread each and on an event loop, are stock
Pykka's threads, Erlang where it is installed, and with `--probes` what a module `pooled` in that directory can do.
Killed is `exit(ref, "kill")`, in Erlang `exit(Pid, kill)`; crashed is a handler that raises. A restart lasts until the
new `init` runs. `--pin` keeps each subject on one CPU; without it each may use all there are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from queue import SimpleQueue
from typing import Any

from benchmarks.measure import Column, Subject, arguments, measure, percentile, show
from benchmarks.peers import DISPATCHERS, PROBES, Runtime, erlang, runtime
from benchmarks.process_work import ask, cost, idle, restart, storm, tell

__all__ = ["SUBJECTS"]

ASKS, RESTARTS = 5_000, 1_000
FLOOR = "floor: two threads"

Measure = Callable[[Runtime, int], dict[str, float]]


def _in_python(name: str, what: Measure, number: int, probes: str | None) -> dict[str, float]:
    logging.disable(logging.CRITICAL)  # nobody else writes reports of crashes either
    return what(runtime(name, probes), number)


def _in_erlang(what: Measure, number: int, probes: str | None) -> dict[str, float]:  # noqa: ARG001
    return erlang(what.__name__, number)


def _hand_over(count: int, probes: str | None) -> dict[str, float]:  # noqa: ARG001
    """What any answer from another thread takes: there and back through two queues."""
    there: SimpleQueue[int] = SimpleQueue()
    back: SimpleQueue[int] = SimpleQueue()

    def answer() -> None:
        for _ in range(count):
            back.put(there.get())

    threading.Thread(target=answer, daemon=True).start()
    took = []
    for number in range(count):
        began = time.perf_counter()
        there.put(number)
        back.get()
        took.append((time.perf_counter() - began) * 1e6)
    return {"outside": percentile(took, 50)}


def _subjects(what: Measure, numbers: tuple[int, ...], *, runtimes: tuple[str, ...]) -> dict[str, Subject]:
    return {
        f"{what.__name__} {number}, {name}": Subject(
            partial(_in_erlang, what, number), programs=("erl", "erlc")
        )
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
    f"ask {ASKS}, {FLOOR}": Subject(partial(_hand_over, ASKS)),
    **_subjects(restart, (RESTARTS,), runtimes=ALL),
    **_subjects(storm, (1_000,), runtimes=ALL),
    **_subjects(storm, (10_000,), runtimes=LIGHT),
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
    "tell": (
        "Tells from actor to actor, pairs: {}",
        (Column("tell", "per s", ",.0f", ratio=True), Column("cpu", "CPU µs each", ",.2f", ratio=True)),
    ),
    "ask": (
        "An ask, µs",
        (
            Column("outside", "from outside p50", ",.1f", ratio=True),
            Column("between", "between actors p50", ",.1f", ratio=True),
            Column("callback", "with a callback p50", ",.1f"),
            Column("awaited", "awaited on the loop p50", ",.1f"),
            Column("pingpong", "two tells p50", ",.1f", ratio=True),
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
        "{} children of one supervisor end at once",
        (
            Column("killed", "killed, restarts per s", ",.0f", ratio=True),
            Column("crashed", "crashed, restarts per s", ",.0f", ratio=True),
        ),
    ),
    "cost": (
        "One of {} children, µs",
        (
            Column("start", "start", ",.1f"),
            Column("start cpu", "CPU", ",.1f"),
            Column("restart", "kill and restart", ",.1f"),
            Column("restart cpu", "CPU", ",.1f"),
            Column("terminate", "terminate", ",.1f"),
            Column("terminate cpu", "CPU", ",.1f"),
        ),
    ),
}
REFERENCES = {"idle": "Erlang", "tell": "pykka", "ask": "pykka", "restart": "pykka", "storm": "Erlang"}


def _wanted(names: list[str], probes: str | None) -> list[str]:
    # The name of a table, with or without its number, means all its subjects.
    known = [name for name in SUBJECTS if probes or not name.endswith(tuple(PROBES))]
    starts = [(f"{name} ", f"{name}, ") for name in names]
    found = [[each for each in known if each.startswith(start)] for start in starts]
    return [
        each for name, all_of_it in zip(names, found, strict=True) for each in all_of_it or [name]
    ] or known


def _print(heading: str, rows: Mapping[str, Any]) -> None:
    table, number = heading.split(" ")
    title, columns = TABLES[table]
    show(title.format(f"{int(number):,}"), columns, rows, REFERENCES.get(table))


if __name__ == "__main__":
    options: dict[str, dict[str, Any]] = {"--probes": {"metavar": "DIR"}, "--pin": {"action": "store_true"}}
    asked = arguments(__doc__, SUBJECTS, options)
    asked.subjects = _wanted(asked.subjects, asked.probes)
    samples = measure("benchmarks.processes", SUBJECTS, asked, pinned=asked.pin, probes=asked.probes)
    for heading in dict.fromkeys(name.split(", ", 1)[0] for name in samples):
        _print(
            heading,
            {
                name.split(", ", 1)[1]: each
                for name, each in samples.items()
                if name.startswith(f"{heading}, ")
            },
        )
