"""Deleting a session: its running turn is interrupted, its stored state is deleted, and then its name is free.

Rule of this file: the name stays registered until the store has deleted the session, by the session's actor
or, where there is none, by an `Eraser`. So whoever uses the name meanwhile waits, and begins a new
conversation.
"""

from __future__ import annotations

from typing import Any

from allm_actors.actors.ports import Ports
from allm_actors.actors.protocol import Forget, StoreAnswered
from allm_actors.actors.store.actor import Delete
from allm_actors.data import Session
from supervisors import IGNORE, NO_REPLY, From, Future, Process

from .reaching import ask_actor
from .setup import Cell

__all__ = ["Eraser", "forget"]


def forget(ports: Ports, id: str, cell: Cell) -> Future[Any]:
    """Delete the session of that name; the future is set when that is done, or has the error. Never blocks."""
    return ask_actor(ports, id, Forget(), Eraser, ports, id, cell)


class Eraser(Process):
    """Holds the name of a session without an actor while it is deleted: without loading it, because what cannot be
    loaded can be deleted. Thread: the I/O loop's.
    """

    restart = "temporary"
    dispatcher = "io"

    def __init__(self, ports: Ports, id: str, cell: Cell) -> None:
        super().__init__()
        self._ports, self._id, self._cell = ports, id, cell
        self._asked: list[From] = []

    def init(self) -> Any:
        """Take the name."""
        return None if self._ports.claim(self._id, self.ref) else IGNORE  # the session is alive after all

    def on_receive(self, message: Any) -> Any:
        """Have the session deleted. Other requests get no reply, and start the session when this process exits."""
        match message:
            case Forget() if (request := self.current_request) is not None:
                self._asked.append(request)
                if len(self._asked) == 1:
                    ref = self.ref
                    self._ports.ask_store(
                        Delete(self._id),
                        lambda answer, error: ref.send(StoreAnswered(self._deleted, answer, error)),
                    )
            case StoreAnswered(then, answer, error):
                then(answer, error)
            case _:
                pass
        return NO_REPLY

    def _deleted(self, _answer: Any, error: BaseException | None) -> None:
        if error is None:
            self._cell.load(Session(id=self._id), None)
        for request in self._asked:
            if error is None:
                request.reply(None)
            else:
                request.fail(error)
        self.exit()
