"""How busy a host is, in numbers for monitoring.

Rule of this file: callable on any thread. No process is asked, so nothing is disturbed and nothing waits; a
number may be out of date by the time it is returned.
"""

from __future__ import annotations

from typing import Any

import msgspec

from supervisors import System

from .sessions.session import SessionActor
from .workers.cancellation import strays_of
from .workers.tools import AsyncCallWorker, CallWorker

__all__ = ["HostStats", "stats_of"]


class HostStats(msgspec.Struct, frozen=True, kw_only=True):
    """How many things of each kind a host has at one moment.

    `sessions`: named ones in memory, running or idle; `turns`: running, including calls without a session;
    `waiting`: turns in the queues of sessions. `model_calls` and `tool_calls` are those that turns wait for,
    `other_calls` are not chat. `hanging` calls were ended but still run, on their threads (see `max_zombies`
    of `Host`) or event loops. `lag`: how many seconds the slowest of the host's event loops took to react
    to the previous look at these numbers, or takes until now; 0.0 the first time.
    """

    sessions: int = 0
    turns: int = 0
    waiting: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    other_calls: int = 0
    hanging: int = 0
    lag: float = 0.0


def stats_of(system: System) -> HostStats:
    """The numbers of the host whose processes are in `system`."""
    owners: list[Any] = [ref.actor_inbox.owner for ref in system.processes()]
    sessions = [owner for owner in owners if isinstance(owner, SessionActor)]
    turns = [turn for session in sessions if (turn := session.turn) is not None]
    return HostStats(
        sessions=sum(session.named for session in sessions),
        turns=len(turns),
        waiting=sum(session.waiting for session in sessions),
        model_calls=sum(turn.model is not None for turn in turns),
        tool_calls=sum(turn.tools for turn in turns),
        other_calls=sum(isinstance(owner, CallWorker | AsyncCallWorker) for owner in owners),
        hanging=len(system.zombies) + strays_of(system),
        lag=system.lag(),
    )
