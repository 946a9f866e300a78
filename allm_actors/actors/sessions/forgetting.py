"""Deleting a session: its running turn is interrupted, its stored state is deleted, and then its name is free.

Rule of this file: the name stays registered until the store has deleted the session, by the session's actor
or, where there is none, by an `Eraser`. So whoever uses the name meanwhile waits, and begins a new
conversation.
"""

from __future__ import annotations

from typing import Any

from allm_actors.actors.ports import SESSIONS, Ports
from allm_actors.actors.protocol import Forget
from allm_actors.actors.store.actor import Delete
from allm_actors.data import Session
from supervisors import DEFER_START, IGNORE, NO_REPLY, ChildSpec, Future, Process, ProcessDown
from supervisors.runtime.signals import Signal

from .reaching import cause_of
from .setup import Cell

__all__ = ["Eraser", "forget"]

_TRIES = 5  # how often to try again when another process has taken or given up the name meanwhile


class Erased(Signal):
    """The store has deleted the session, or says why it has not."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Eraser(Process):
    """Holds the name of a session without an actor while it is deleted. Thread: the I/O loop's."""

    restart = "temporary"
    dispatcher = "io"

    def __init__(self, ports: Ports, id: str, cell: Cell) -> None:
        super().__init__()
        self._ports, self._id, self._cell = ports, id, cell

    def init(self) -> Any:
        """Take the name, then have what is stored under it deleted."""
        if not self._ports.claim(self._id, self.ref):
            return IGNORE  # the session is alive after all
        self._ports.ask_store(Delete(self._id), lambda _answer, error: self.ref.signal(Erased(error)))
        return DEFER_START

    def handle_system(self, signal: Signal) -> None:
        """The store has answered."""
        match signal:
            case Erased(error=None):
                self._cell.load(Session(id=self._id), None)
                self.start_succeeded()
                self.ref.tell(None)  # handled after the requests that reached this name meanwhile
            case Erased(error=error):
                self.start_failed(error)
            case _:
                super().handle_system(signal)

    def on_receive(self, message: Any) -> Any:
        """A second `Forget` is done already. Other requests get no reply, and start the session when this one exits."""
        if message is None:
            self.exit()
        return None if isinstance(message, Forget) else NO_REPLY


def forget(ports: Ports, id: str, cell: Cell, deleted: Future[Any], tries: int = _TRIES) -> None:
    """Delete the session of that name; `deleted` is set when that is done, or fails with the error. Never blocks."""

    def again(gone: BaseException | None = None) -> None:
        if gone is None and tries > 0:
            forget(ports, id, cell, deleted, tries - 1)
        else:
            deleted.fail(cause_of(gone, id))

    def answered(answer: Future[Any]) -> None:
        error = answer.error
        if isinstance(error, ProcessDown):
            ports.when_whole(again)  # it died before it could answer: alone, or with its host
        elif error is not None:
            deleted.fail(error)
        else:
            deleted.set()

    def started(start: Future[Any]) -> None:
        error = start.error
        if error is None and start.get() is None:
            again()  # it is alive after all
        elif error is not None and not isinstance(error, ProcessDown):
            deleted.fail(cause_of(error, id))
        else:
            answered(start)

    ref = ports.whereis((SESSIONS, id))
    sessions: Any = ports.whereis(SESSIONS)
    if ref is not None and ref.is_alive():
        ref.ask(Forget(), block=False).add_done_callback(answered)
    elif sessions is None:
        ports.when_whole(again)
    else:
        sessions.start_child_soon(
            ChildSpec(id=id, start=Eraser, args=(ports, id, cell), restart="temporary")
        ).add_done_callback(started)
