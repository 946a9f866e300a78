"""How busy a host is, in numbers for whoever watches over it.

Rule of this file: a look in passing, on any thread. Nobody is asked, so it costs nobody anything and waits for nobody;
what it sees may be over when it is told.
"""

from __future__ import annotations

from typing import Any

import msgspec

from supervisors import System

from .sessions.session import SessionActor
from .workers.strays import strays_of
from .workers.tools import AsyncCallWorker, CallWorker

__all__ = ["HostStats", "stats_of"]


class HostStats(msgspec.Struct, frozen=True, kw_only=True):
    """A host at one moment, in numbers of things.

    `sessions` are in memory, running or not; `turns` run, with those of calls without a session, and `waiting` ones
    stand in the queues of sessions. `model_calls` and `tool_calls` are what the turns wait for, `other_calls` what is
    not chat. `hanging` calls were ended and still run, on their threads (see `max_zombies` of `Host`) or event loops.
    """

    sessions: int = 0
    turns: int = 0
    waiting: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    other_calls: int = 0
    hanging: int = 0


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
    )
