"""What a session actor is started with, and what outlives it.

Rule of this file: nothing here acts. A setup is the same at every restart; a cell shows the last value to any
reader; `OpenTurns` ends those that a dead session owed an end.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from allm_actors.actors.inside import Inside
from allm_actors.actors.ports import Ports
from allm_actors.actors.turns.ending import ending, unadmitted
from allm_actors.actors.turns.spec import TurnSpec, WhenBusy
from allm_actors.data import Session
from allm_actors.execution.effects import Checkpoint

__all__ = ["Cell", "OpenTurns", "SessionSetup", "snapshot"]


class Cell:
    """The last value of a session, for anyone to read. Written by the session's own actor only.

    `loads` counts how often it was loaded; `holder` is the number of the actor that has loaded it and works
    with it. The value it is made with is a placeholder: readers check that it has been loaded.
    """

    __slots__ = ("__weakref__", "_noted", "_value", "holder", "inside", "loads")

    def __init__(self, value: Session) -> None:
        self._value = value
        self.inside: Inside = Inside(value.id)
        self.loads: int = 0
        self.holder: int | None = None
        self._noted: Checkpoint | None = None

    @property
    def value(self) -> Session:
        """The session, with the thread that was noted last."""
        noted = self._noted
        if noted is not None:
            self.value = msgspec.structs.replace(self._value, thread=noted.thread)
        return self._value

    @value.setter
    def value(self, value: Session) -> None:
        self._value, self._noted = value, None

    def load(self, value: Session, holder: int | None) -> None:
        """Take the stored value; `holder` is the actor that works with it, or None."""
        self.value, self.holder = value, holder
        self.inside.turn = None  # that of a predecessor died with it
        self.loads += 1

    def release(self, holder: int) -> None:
        """That actor has ended: changes by others are not seen here from now on. Thread: the one it died on."""
        if self.holder == holder:
            self.holder = None

    def note(self, checkpoint: Checkpoint) -> None:
        """The session has this checkpoint's thread from now on; it is built when someone reads `value`."""
        self._noted = checkpoint


def snapshot(session: Session) -> Session:
    """A copy of the session with its own lists and metadata."""
    thread = msgspec.structs.replace(session.thread, messages=list(session.thread.messages))
    return msgspec.structs.replace(
        session,
        thread=thread,
        pending_tool_calls=list(session.pending_tool_calls),
        metadata=dict(session.metadata),
    )


class SessionSetup(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Everything a session actor is started with. A restart starts from the same, and from the store."""

    ports: Ports
    cell: Cell
    id: str | None = None
    when_busy: WhenBusy = "queue"
    queue_limit: int = 16
    idle_timeout: float | None = None
    system: str | None = None
    first: TurnSpec | None = None


class OpenTurns:
    """The channels of a session's open turns. Outlives the actor, and ends them when it dies.

    `settled` has, by the ids of turns whose end is stored but not told yet, what tells it.
    """

    __slots__ = ("cell", "open", "settled")

    def __init__(self, cell: Cell) -> None:
        self.cell: Cell = cell
        self.open: dict[str, TurnSpec] = {}
        self.settled: dict[str, Callable[[], object]] = {}

    def forget(self, id: str) -> None:
        """That turn has its end."""
        self.open.pop(id, None)
        self.settled.pop(id, None)

    def abandon(self, reason: object) -> None:
        """The actor is dead: end every open turn, with an error that says so if its end is not stored.

        Thread: the one it died on.
        """
        inside = self.cell.inside
        if inside.turn in self.open:  # else it is a turn of our successor
            inside.turn = None
        while self.open:
            id, spec = self.open.popitem()
            if (tell := self.settled.pop(id, None)) is not None:
                tell()
                continue
            if spec.operation is not None and not spec.channel.accepted:
                spec.channel.end(error=unadmitted(reason))
                continue
            result, last = ending(spec, self.cell.value.thread, reason)
            spec.channel.end(result, last=last)
