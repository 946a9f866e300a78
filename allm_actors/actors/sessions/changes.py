"""Changes that a session is asked for between its turns: submitted tool results, recovery, a fork.

Rule of this file: one at a time. A change is stored before its request is answered; if it cannot be stored,
nothing has changed. Requests that arrive meanwhile wait, because the change may be rolled back. Before a
caller is told of a conflict, the session is reloaded, so that they see what the store has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from allm_actors.actors.ports import SESSIONS
from allm_actors.actors.store.actor import Check, Create
from allm_actors.data import Message, Session, SessionError, StoreError
from allm_actors.execution import sessions
from supervisors import NO_REPLY, From

from .ledger import Ledger, settled
from .setup import snapshot

__all__ = ["Changes"]


class Changes:
    """The changes of one session. `under_way`: one is being stored, or the session is being reloaded, and later
    requests wait.

    Thread: the session actor's.
    """

    __slots__ = ("_ledger", "_owed", "under_way")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._owed: Callable[[], object] | None = None  # an answer to give after the reload
        self.under_way: bool = False

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

    def fork(self, asked: From, id: str, will_save: Callable[[], bool]) -> Any:
        """Store a copy under a name that is free. Raises SessionError for one that is not.

        A conflict is left to the running turn, if it `will_save` then: its next save meets with it, too.
        """
        if self._ledger.ref.system.whereis((SESSIONS, id)) is not None:
            raise _taken(id)
        # Results of open calls will reach the original session, not its copy: there they are settled now.
        copy = settled(msgspec.structs.replace(self._ledger.value, id=id))
        self.under_way = True

        def forked(stored: bool | None, error: BaseException | None) -> None:
            self.under_way = False
            if stored:
                asked.reply(copy)
                return
            if not will_save():
                self._lose(error)
            self.tell(lambda: asked.fail(error or _taken(id)))

        self._ledger.ask(Create(copy, str(self._ledger.value.id), self._ledger.halted_reason), forked)
        return NO_REPLY

    def doubt(self, refusal: Exception, tell: Callable[[Exception], object]) -> None:
        """The session's status refuses a request. Ask the store whether another host has changed the session,
        then `tell` the caller the refusal, or that conflict.
        """
        self.under_way = True

        def checked(_answer: Any, error: BaseException | None) -> None:
            self.under_way = False
            conflict = self._lose(error)
            self.tell(lambda: tell(conflict or refusal))

        self._ledger.ask(Check(str(self._ledger.value.id)), checked)

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
        self.under_way = True

        def saved(_error: StoreError | None) -> None:
            self.under_way = False

        self._ledger.save(saved)

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
        self.under_way = True

        def stored(error: StoreError | None) -> None:
            self.under_way = False
            if error is None:
                self._ledger.commit()
                asked.reply(snapshot(session))
            else:
                self._ledger.roll_back()
                self.tell(lambda: asked.fail(error))

        self._ledger.save(stored)
        return NO_REPLY


def _taken(id: str) -> SessionError:
    text = f"session {id!r} already exists and would be overwritten; fork under another name"
    return SessionError("invalid_status_for_operation", message=text)
