"""Changes that a session is asked for between its turns: submitted tool results, recovery, a fork.

Rule of this file: one at a time. A change is stored before its request is answered; if it cannot be stored,
nothing has changed. Requests that arrive meanwhile wait, because the change may be rolled back. Before a
caller is told of a conflict, the session is reloaded, so that they see what the store has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from allm_actors.actors.ports import SESSIONS, Ports
from allm_actors.actors.protocol import Checked, Forked
from allm_actors.actors.store.actor import Check, Create
from allm_actors.data import Message, Session, SessionError, StoreError
from allm_actors.execution import sessions
from supervisors import NO_REPLY, From

from .ledger import Ledger, settled
from .setup import snapshot

__all__ = ["Changes"]

Tell = Callable[[Exception], object]


class Changes:
    """The changes of one session. `under_way`: one is being stored, or the session is being reloaded.

    Thread: the session actor's.
    """

    __slots__ = ("_copying", "_ledger", "_owed", "_ports", "_refusal", "under_way")

    def __init__(self, ledger: Ledger, ports: Ports) -> None:
        self._ledger, self._ports = ledger, ports
        self._copying: tuple[From, Session] | None = None  # who has asked for the copy that is being stored
        self._refusal: tuple[Exception, Tell] | None = None  # and how its caller is told
        self._owed: Callable[[], object] | None = None  # an answer to give after the reload
        self.under_way = False

    def submit(self, asked: From, results: Sequence[tuple[str, Any]]) -> Any:
        """Answer pending calls. Raises what the session's status refuses."""
        return self._take_over(asked, sessions.submit_tool_results(self._ledger.value, results))

    def recover(self, asked: From) -> Any:
        """Make it usable again. Raises what the session's status refuses."""
        return self._take_over(asked, sessions.recover(self._ledger.value))

    def replace_messages(self, asked: From, messages: Sequence[Message]) -> Any:
        """Put these messages in place of its own. Raises what no model would accept."""
        session = sessions.replace_messages(self._ledger.value, messages)
        # What is equal need not be the same: 1 is True.
        return self._take_over(asked, session, rewritten=True)

    def fork(self, asked: From, id: str) -> Any:
        """Store a copy under a name that is free. Raises SessionError for one that is not."""
        if self._ports.whereis((SESSIONS, id)) is not None:
            raise _taken(id)
        # Results of open calls will reach the original session, not its copy: there they are settled now.
        copy, ref = settled(msgspec.structs.replace(self._ledger.value, id=id)), self._ledger.ref
        create = Create(copy, str(self._ledger.value.id), self._ledger.halted_reason)
        self._copying = asked, copy
        self.wait()
        self._ports.ask_store(create, lambda stored, error: ref.send(Forked(bool(stored), error)))
        return NO_REPLY

    def forked(self, stored: bool, error: BaseException | None, *, running: bool) -> None:
        """The store has answered the request of `fork`. A conflict is left to the turn, if one is `running`: its next
        save meets with it, too.
        """
        assert self._copying is not None
        (asked, copy), self._copying = self._copying, None
        if stored:
            asked.reply(copy)
            return
        refusal = error or _taken(str(copy.id))
        if not running:
            self._lose(error)
        self.tell(lambda: asked.fail(refusal))

    def doubt(self, refusal: Exception, tell: Tell) -> None:
        """The session's status refuses a request. Ask the store whether another host has changed the session,
        then `tell` the caller the refusal, or that conflict.
        """
        self._refusal = refusal, tell
        self.wait()
        ref = self._ledger.ref
        self._ports.ask_store(
            Check(str(self._ledger.value.id)), lambda _answer, error: ref.send(Checked(error))
        )

    def checked(self, error: BaseException | None) -> None:
        """The store has answered the check of `doubt`."""
        assert self._refusal is not None
        (refusal, tell), self._refusal = self._refusal, None
        conflict = self._lose(error)
        self.tell(lambda: tell(conflict or refusal))

    def tell(self, tell: Callable[[], object]) -> None:
        """Tell a caller why a request failed: now, or after the reload if the session is stale."""
        if self._ledger.stale:
            self._owed = tell
        else:
            tell()

    def told(self) -> None:
        """The reload is over, or there will be none: give the answer that waited for it."""
        owed, self._owed = self._owed, None
        if owed is not None:
            owed()

    def save(self) -> None:
        """Store what could not be stored before."""
        self.wait()
        self._ledger.save(lambda _error: self.settle())

    def wait(self) -> None:
        """Make later requests wait until `settle`."""
        self.under_way = True

    def settle(self) -> None:
        """The change is stored, or rolled back: later requests may go on."""
        self.under_way = False

    def _lose(self, error: BaseException | None) -> StoreError | None:
        """If the store's answer is a conflict, have the session reloaded, and return it."""
        if not (isinstance(error, StoreError) and error.reason == "conflict"):
            return None
        self._ledger.lost(error)
        return error

    def _take_over(self, asked: From, session: Session, *, rewritten: bool = False) -> Any:
        self._ledger.begin(session)
        if rewritten:
            self._ledger.rewrite()
        self.wait()

        def stored(error: StoreError | None) -> None:
            if error is None:
                self._ledger.commit()
                asked.reply(snapshot(session))
            else:
                self._ledger.roll_back()
                self.tell(lambda: asked.fail(error))
            self.settle()

        self._ledger.save(stored)
        return NO_REPLY


def _taken(id: str) -> SessionError:
    text = f"session {id!r} already exists and would be overwritten; fork under another name"
    return SessionError("invalid_status_for_operation", message=text)
