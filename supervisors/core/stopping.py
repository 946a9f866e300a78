"""How children are stopped, and which deaths are worth a report.

The rule of this file: a child is asked first and killed only when its time is over; either way we wait for the death.

Source: Erlang/OTP `supervisor`, "shutdown" of the child specification.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from supervisors.core.entry import Entry
from supervisors.core.steps import KILL, TIMED_OUT, Exited, Operation, Ref, Report, Signal
from supervisors.reasons import KILLED, SHUTDOWN, Reason, Shutdown, is_clean
from supervisors.spec import ChildSpec

__all__ = ["stop_in_parallel", "stop_one"]


def stop_one(entry: Entry) -> Operation[None]:
    """Stop a child, by its own rule, and wait for its death."""
    if entry.ref is None:
        return
    yield _request(entry.spec, entry.ref)
    reason = yield from _death(entry.ref)
    if not _is_expected(entry.spec, reason):
        yield Report("shutdown_error", entry.spec.id, entry.ref, reason)


def stop_in_parallel(entries: Iterable[Entry]) -> Operation[None]:
    """Stop children all at once, each by its own rule and with its own time; they may die in any order."""
    running = [(entry, entry.ref) for entry in entries if entry.ref is not None]
    for entry, ref in running:
        yield _request(entry.spec, ref)
    # All times run from now, so waiting for the child with the shortest first kills each one in time.
    running.sort(key=lambda pair: _within(pair[0].spec))
    for entry, ref in running:
        reason = yield from _death(ref)
        # Elixir's DynamicSupervisor takes Shutdown(term) from any child for the clean end it is.
        if not _is_expected(entry.spec, reason) and not isinstance(reason, Shutdown):
            yield Report("shutdown_error", entry.spec.id, ref, reason)


def _request(spec: ChildSpec, ref: Ref) -> Signal:
    return Signal(ref, KILL if spec.shutdown == "brutal_kill" else SHUTDOWN, _within(spec))


def _death(ref: Ref) -> Operation[Reason]:
    reason = yield Exited(ref)
    if reason is TIMED_OUT:
        yield Signal(ref, KILL, math.inf)
        reason = yield Exited(ref)
    return reason


def _within(spec: ChildSpec) -> float:
    # A kill has no time limit. The `shutdown` of a checked spec is never None.
    return spec.shutdown if isinstance(spec.shutdown, int | float) else math.inf


def _is_expected(spec: ChildSpec, reason: Reason) -> bool:
    if spec.restart != "permanent" and is_clean(reason):
        return True
    return reason is (KILLED if spec.shutdown == "brutal_kill" else SHUTDOWN)
