"""A session's value, and how much of it the store has.

Rule of this file: one writer. The value changes here and nowhere else; a save writes the header and the messages that
the store does not have yet, and after a failed save everything is written again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from allm_actors.actors.log import log
from allm_actors.actors.ports import Ports
from allm_actors.actors.protocol import StoreAnswered
from allm_actors.actors.store import Save
from allm_actors.data import Session, StoreError, Thread
from allm_actors.execution.tools import repair
from supervisors import ProcessRef

from .setup import Cell

__all__ = ["Ledger", "Stored", "settled", "store_error"]

Stored = Callable[[StoreError | None], object]


class Ledger:
    """Keeps one session's value. `ref` is its actor, to which the store's answers go.

    Thread: the session actor's; readers look at the cell.
    """

    __slots__ = (
        *("_before", "_cell", "_halted_reason", "_ports", "_repaired", "_stored"),
        *("ref", "stale", "unsaved"),
    )

    def __init__(self, cell: Cell, ports: Ports, ref: ProcessRef[Any]) -> None:
        self._cell, self._ports, self.ref = cell, ports, ref
        self._stored = 0
        self._halted_reason: str | None = None
        self._before: tuple[Session, str | None] | None = None
        self._repaired = False  # open calls were settled here at the load, and the store does not know yet
        self.stale = False  # our value cannot be stored: the store's counts, and must be reloaded
        self.unsaved = False  # the last save of our value failed

    @property
    def value(self) -> Session:
        """The session as of now."""
        return self._cell.value

    @property
    def halted_reason(self) -> str | None:
        """Why the turn ended that the session is the end of, if it is the end of one."""
        return self._halted_reason

    @property
    def before(self) -> Session:
        """What `roll_back` returns to."""
        return self.value if self._before is None else self._before[0]

    def begin(self, session: Session) -> None:
        """The session is this from now on, or until `roll_back`; `commit` makes it final."""
        self._before = self.value, self._halted_reason
        self.put(session, self._halted_reason if session is self.value else None)

    def rewrite(self) -> None:
        """Have the next save write every message."""
        self._stored = 0

    def roll_back(self) -> None:
        """The session is again what it was before `begin`."""
        assert self._before is not None
        self.put(*self._before)
        self._before = None

    def commit(self) -> None:
        """What the session was before `begin` is forgotten: it may be all that was said."""
        self._before = None

    def put(self, session: Session, halted_reason: str | None = None) -> None:
        """The session is this from now on; `halted_reason` is why the turn ended that it is the end of."""
        self._halted_reason = halted_reason
        self._stored = min(self._stored, _shared(self.value.thread, session.thread))
        if session.thread is not self.value.thread:
            # A result's list belongs to its reader, who may change it: keep one of our own.
            thread = msgspec.structs.replace(session.thread, messages=list(session.thread.messages))
            session = msgspec.structs.replace(session, thread=thread)
        self._cell.value = session

    def put_thread(self, thread: Thread) -> None:
        """The session has this thread from now on."""
        self.put(msgspec.structs.replace(self.value, thread=thread))

    def revive(self, stored: Session | None, halted_reason: str | None) -> None:
        """Begin with the stored session; calls that a crash left open are settled, so that providers accept it."""
        self.stale = self.unsaved = self._repaired = False
        self._halted_reason = halted_reason
        if stored is None:
            self._stored = 0
            # It was never stored, or was deleted: begin empty.
            self._cell.load(Session(id=self.value.id), self.ref.number)
            return
        session = settled(stored)
        self._repaired = session is not stored
        self._stored = _shared(stored.thread, session.thread)
        self._cell.load(session, self.ref.number)

    def save(self, done: Stored) -> None:
        """Have the value stored; `done` gets what went wrong, or None."""
        save = Save(self.value, self._stored, self._halted_reason)
        self._stored = len(save.session.thread.messages)
        self.ask(save, lambda _answer, error: self._saved(error, done))

    def ask(self, message: Any, then: Callable[[Any, BaseException | None], object]) -> None:
        """Ask the store: the actor receives `StoreAnswered`, with what is `then` to be done."""
        ref = self.ref
        self._ports.ask_store(message, lambda answer, error: ref.send(StoreAnswered(then, answer, error)))

    def lost(self, error: StoreError) -> None:
        """A save failed: the store has another version, or cannot take ours."""
        if error.reason == "conflict":  # no error: two hosts may share a session on purpose
            log.warning(
                "another host has changed a session that is open here",
                session_id=self.value.id,
                error=str(error),
            )
        else:
            log.error("a session could not be stored", session_id=self.value.id, error=str(error))
        self._stored = 0  # what the store has is unknown
        self.stale = error.reason in ("conflict", "unencodable")

    def _saved(self, error: BaseException | None, done: Stored) -> None:
        failure = None if error is None else store_error(error)
        self.unsaved = failure is not None
        if failure is not None:
            self.lost(failure)
        elif self._repaired:
            # Logged only now: merely loading a session that another host works on has changed nothing.
            self._repaired = False
            text = (
                "tool calls that were left open are answered with an error: whether their tools took effect is "
                "unknown"
            )
            log.warning(text, session_id=self.value.id)
        done(failure)


def settled(session: Session) -> Session:
    """The session with a result for every call that nobody will answer any more; itself when there is none."""
    thread = repair(session.thread, keep={call.id for call in session.pending_tool_calls})
    return session if thread is session.thread else msgspec.structs.replace(session, thread=thread)


def _shared(old: Thread, new: Thread) -> int:
    """How many messages at the beginning are the very same."""
    count = len(old.messages)
    if new.messages[:count] == old.messages:  # what is the same object is not looked into
        return count
    count = 0
    for one, other in zip(old.messages, new.messages, strict=False):
        if one is not other and one != other:
            break
        count += 1
    return count


def store_error(error: BaseException) -> StoreError:
    """The StoreError for a failed request to the store; a generic one if the store's actor died meanwhile."""
    if isinstance(error, StoreError):
        return error
    return StoreError("unavailable", message=f"the session store did not answer: {error}", cause=repr(error))
