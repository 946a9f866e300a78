"""What it costs to hand something from one thread to another, beside handing it over on the same thread.

    python -m benchmarks.hops [-r 3] [subject ...]

A hop: a process on the event loop's thread tells a process that lives on the same thread, on a pool, or on a thread of
its own. `µs per hop` is a message going back and forth between the two with nothing else to do; the lag is from a timer
of the loop to the handler, a message per millisecond. `busy` has one more thread that computes in Python all the time.
Then streams (see `streams`) with the sessions on the loop's own thread, on a pool, and on a thread each.

The measurements behind docs/decisions: "Sessions live on the I/O loop's thread".
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.measure import Column, Subject, arguments, cpu, measure, percentile, show
from benchmarks.provider import provider
from benchmarks.streams import COLUMNS as STREAM_COLUMNS
from benchmarks.streams import attached, chunks_for
from supervisors import LoopDispatcher, PinnedDispatcher, PoolDispatcher, Process, System

__all__ = ["HOPS", "STREAMS"]

HOP_COUNT, LAG_COUNT = 4000, 1500
STREAM_COUNTS = (20, 50, 500)


class Ball(Process):
    """Passes a number on, one less each time."""

    dispatcher = "loop"

    def __init__(self, done: threading.Event) -> None:
        super().__init__()
        self.done, self.other = done, None

    def on_receive(self, message: Any) -> None:
        if not isinstance(message, int):
            self.other = message
        elif message == 0:
            self.done.set()
        else:
            self.other.tell(message - 1)


class FarBall(Ball):
    """The same, elsewhere."""

    dispatcher = "far"


class Clock(Process):
    """Notes how old a time is when it arrives."""

    dispatcher = "far"

    def __init__(self, lags: list[int]) -> None:
        super().__init__()
        self.lags = lags

    def on_receive(self, message: int) -> None:
        self.lags.append(time.perf_counter_ns() - message)


def hops(far: Callable[[], Any] | None, *, busy: bool) -> dict[str, float]:
    """Hops from a loop to `far`, a dispatcher; None is the loop itself."""
    loop = LoopDispatcher()
    with System() as system:
        system.register_dispatcher("loop", loop)
        system.register_dispatcher("far", far() if far is not None else loop)
        if busy:
            threading.Thread(target=_compute, daemon=True).start()
        _back_and_forth(HOP_COUNT // 10)
        before, began = cpu(), time.perf_counter()
        count = HOP_COUNT // 20 if busy else HOP_COUNT
        _back_and_forth(count)
        hop, used = (time.perf_counter() - began) / count * 1e6, (cpu() - before) / count * 1e6
        lags = _lags(loop, LAG_COUNT // 10 if busy else LAG_COUNT)
        numbers = {"hop": hop, "p50": percentile(lags, 50) / 1e3, "p99": percentile(lags, 99) / 1e3}
        return numbers if busy else {**numbers, "cpu": used}


def streams(count: int, dispatcher: str) -> dict[str, float]:
    """The streams of `benchmarks.streams`, the sessions run by `dispatcher`."""
    with provider() as server:
        return attached(dispatcher=dispatcher)(server, count, chunks_for(count))


def _back_and_forth(count: int) -> None:
    done = threading.Event()
    near, far = Ball.start(done), FarBall.start(done)
    near.tell(far)
    far.tell(near)
    near.tell(count)
    done.wait()
    near.stop()
    far.stop()


def _lags(dispatcher: LoopDispatcher, count: int) -> list[int]:
    lags: list[int] = []
    clock, done, loop = Clock.start(lags), threading.Event(), dispatcher.loop

    def tick(left: int) -> None:
        if left:
            clock.tell(time.perf_counter_ns())
            loop.call_later(0.001, tick, left - 1)
        else:
            done.set()

    loop.call_soon_threadsafe(tick, count)
    done.wait()
    clock.stop()
    return lags


def _compute() -> None:
    while True:
        sum(range(1000))


HOPS = {
    f"{name}{', busy' if busy else ''}": Subject(partial(hops, far, busy=busy))
    for busy in (False, True)
    for name, far in (("same thread", None), ("to a pool", PoolDispatcher), ("to a thread", PinnedDispatcher))
}
STREAMS = {
    f"{count} streams, {dispatcher}": Subject(partial(streams, count, dispatcher))
    for count in STREAM_COUNTS
    for dispatcher in ("loop", "pool", "threads")
}
COLUMNS = (
    Column("hop", "µs per hop", ",.1f"),
    Column("cpu", "CPU µs per hop", ",.1f"),
    Column("p50", "lag p50 µs", ",.0f"),
    Column("p99", "lag p99 µs", ",.0f"),
)


if __name__ == "__main__":
    subjects = HOPS | STREAMS
    samples = measure("benchmarks.hops", subjects, arguments(__doc__, subjects))
    hopped = {name: numbers for name, numbers in samples.items() if name in HOPS}
    if hopped:
        show("A hop", COLUMNS, hopped)
    for count in STREAM_COUNTS:
        streamed = {name: numbers for name, numbers in samples.items() if name.startswith(f"{count} ")}
        if streamed:
            show(f"{count} streams", STREAM_COLUMNS, streamed, f"{count} streams, loop")
