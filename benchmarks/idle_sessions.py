"""What a session costs that does nothing: 10,000 of them in one host.

    python -m benchmarks.idle_sessions [-n 10000] [-r 3] [subject ...]
    python -m benchmarks.idle_sessions --table       where the bytes of one are allocated

Memory is what the process grew by, per session, after a garbage collection, with the sessions' handles let go (or kept,
where the subject says so). Sessions `after a turn` have answered once: a conversation of two messages is in each.
"""

from __future__ import annotations

import gc
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import Column, Subject, arguments, measure, settled_rss, show, threads

__all__ = ["COLUMNS", "SUBJECTS"]

TABLE_ROWS = 30


def idle(
    *, store: bool = False, dispatcher: str = "loop", keep: bool = False, turn: bool = False
) -> Callable[..., dict[str, float]]:
    """A subject with these traits; `store` is SQLite instead of memory."""
    return partial(_idle, store=store, dispatcher=dispatcher, keep=keep, turn=turn)


def _idle(n: int, *, store: bool, dispatcher: str, keep: bool, turn: bool) -> dict[str, float]:
    import allm_actors as allm

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "sessions.db") if store else None
        with allm.Host(place, dispatcher=dispatcher) as host:
            host.session("warm", _engine()).reply("hi").result()
            before, began = settled_rss(), time.perf_counter()
            handles = _start(host, n, turn=turn, keep=keep)
            wall = time.perf_counter() - began
            grown = settled_rss() - before
            living = len(host.system.processes())
            assert living >= n, f"only {living} of {n} sessions live"
            assert len(handles) == (n if keep else 0)
            return {"memory": grown / n, "threads": threads(), "seconds": wall, "each": wall / n * 1e6}


def _start(host: Any, n: int, *, turn: bool, keep: bool) -> list[Any]:
    handles, engine = [], _engine()
    for number in range(n):
        handle = host.session(f"session-{number}", engine)
        if turn:
            handle = host.session(f"session-{number}", _engine())  # a script plays once
            handle.reply("hi").result()
        if keep:
            handles.append(handle)
    return handles


def _engine() -> Any:
    import allm_actors as allm
    from allm_actors.testing import script

    answer = [script.text("hello"), script.finish("stop")]
    return allm.Engine("fake", adapter_opts={"scripts": [answer]})


def table(n: int) -> None:
    """Print where the memory of idle sessions was allocated: by line, per session."""
    import allm_actors as allm

    with allm.Host() as host:
        engine = _engine()
        _start(host, 100, turn=False, keep=False)
        tracemalloc.start()
        gc.collect()
        before = tracemalloc.take_snapshot()
        for number in range(n):
            host.session(f"more-{number}", engine)
        gc.collect()
        after = tracemalloc.take_snapshot()
    _print_table(after.compare_to(before, "lineno"), n)


def _print_table(lines: list[Any], n: int) -> None:
    total = sum(line.size_diff for line in lines)
    print(
        f"### One idle session: {total / n:,.0f} bytes in {sum(x.count_diff for x in lines) / n:.1f} blocks\n"
    )
    print("| bytes | blocks | where | line |\n|---|---|---|---|")
    for line in sorted(lines, key=lambda line: -line.size_diff)[:TABLE_ROWS]:
        frame = line.traceback[0]
        text = (line.traceback.format()[1:] or [""])[0].strip()
        place = "/".join(Path(frame.filename).parts[-3:])
        print(f"| {line.size_diff / n:.0f} | {line.count_diff / n:.1f} | {place}:{frame.lineno} | `{text}` |")


SUBJECTS: Mapping[str, Subject] = {
    "memory, loop": Subject(idle()),
    "memory, pool": Subject(idle(dispatcher="pool")),
    "SQLite, loop": Subject(idle(store=True)),
    "SQLite, pool": Subject(idle(store=True, dispatcher="pool")),
    "memory, loop, handles kept": Subject(idle(keep=True)),
    "memory, loop, after a turn": Subject(idle(turn=True)),
}
COLUMNS = (
    Column("memory", "bytes per session", ",.0f"),
    Column("threads", "threads", ".0f"),
    Column("seconds", "seconds to start", ".2f"),
    Column("each", "µs each", ",.0f"),
)


if __name__ == "__main__":
    options = {"-n": {"type": int, "default": 10_000}, "--table": {"action": "store_true"}}
    asked = arguments(__doc__, SUBJECTS, options)
    if asked.table:
        table(asked.n)
    else:
        samples = measure("benchmarks.idle_sessions", SUBJECTS, asked, n=asked.n)
        show(f"{asked.n:,} idle sessions", COLUMNS, samples)
