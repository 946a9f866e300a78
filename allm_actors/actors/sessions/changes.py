"""What is asked of a session between its turns: results of calls, to recover, a fork.

Rule of this file: one at a time. What it comes to is stored before it is answered; if it cannot be, nothing has
changed. What is asked meanwhile waits, for it may have to be taken back. Who is told of a conflict finds what the store
has: it is loaded before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from allm_actors.actors.ports import SESSIONS, Ports
from allm_actors.actors.protocol import Checked, Forked
from allm_actors.actors.store.keeper import Check, Create
from allm_actors.data import Session, SessionError, StoreError
from allm_actors.execution import sessions
from supervisors import NO_REPLY, From

from .ledger import Ledger, settled
from .seat import snapshot

__all__ = ["Changes"]

Tell = Callable[[Exception], object]


class Changes:
    """The changes of one session. `under_way`: one is being stored, or the session is loaded anew.

    Thread: the session actor's.
    """

    __slots__ = ("_ledger", "_owed", "_ports", "_refusal", "under_way")

    def __init__(self, ledger: Ledger, ports: Ports) -> None:
        self._ledger, self._ports = ledger, ports
        self._refusal: tuple[Exception, Tell] | None = None  # and who is told of it
        self._owed: Callable[[], object] | None = None  # what is told when the session is loaded anew
        self.under_way = False

    def submit(self, asked: From, results: Sequence[tuple[str, Any]]) -> Any:
        """Answer pending calls. Raises what the session's status refuses."""
        return self._take_over(asked, sessions.submit_tool_results(self._ledger.value, results))

    def recover(self, asked: From) -> Any:
        """Make it usable again. Raises what the session's status refuses."""
        return self._take_over(asked, sessions.recover(self._ledger.value))

    def fork(self, asked: From, id: str) -> Any:
        """Store a copy under a name that is free. Raises SessionError for one that is not."""
        # The answers to calls that run now come to the session that made them, not to its copy.
        copy, ref = settled(msgspec.structs.replace(self._ledger.value, id=id)), self._ledger.ref
        if self._ports.whereis((SESSIONS, id)) is not None:
            raise _taken(id)
        self.wait()

        def done(stored: bool, error: BaseException | None) -> None:
            if stored:
                asked.reply(copy)
            else:
                asked.fail(error or _taken(id))
            ref.send(Forked())

        self._ports.ask_store(Create(copy), done)
        return NO_REPLY

    def doubt(self, refusal: Exception, tell: Tell) -> None:
        """The session's status refuses something. `tell` it, unless the status is an old one, because another host has
        changed the session: then `tell` that.
        """
        self._refusal = refusal, tell
        self.wait()
        ref = self._ledger.ref
        self._ports.ask_store(
            Check(str(self._ledger.value.id)), lambda _answer, error: ref.send(Checked(error))
        )

    def checked(self, error: BaseException | None) -> None:
        """The store has looked."""
        assert self._refusal is not None
        (refusal, tell), self._refusal = self._refusal, None
        if isinstance(error, StoreError) and error.reason == "conflict":
            self._ledger.lost(error)
            refusal = error
        self.tell(lambda: tell(refusal))

    def tell(self, tell: Callable[[], object]) -> None:
        """Tell why something has not been done: now, or when what the store has is loaded."""
        if self._ledger.stale:
            self._owed = tell
        else:
            tell()

    def told(self) -> None:
        """What the store has is loaded, or will not be: tell what waited for that."""
        owed, self._owed = self._owed, None
        if owed is not None:
            owed()

    def save(self) -> None:
        """Store what could not be stored before."""
        self.wait()
        self._ledger.save(lambda _error: self.settle())

    def wait(self) -> None:
        """Whatever is asked from now on waits, until `settle`."""
        self.under_way = True

    def settle(self) -> None:
        """What was being stored is stored, or not."""
        self.under_way = False

    def _take_over(self, asked: From, session: Session) -> Any:
        before = self._ledger.value
        self._ledger.put(session)
        self.wait()

        def stored(error: StoreError | None) -> None:
            if error is None:
                asked.reply(snapshot(session))
            else:
                self._ledger.put(before)
                self.tell(lambda: asked.fail(error))
            self.settle()

        self._ledger.save(stored)
        return NO_REPLY


def _taken(id: str) -> SessionError:
    text = f"session {id!r} already exists and would be overwritten; fork under another name"
    return SessionError("invalid_status_for_operation", message=text)
