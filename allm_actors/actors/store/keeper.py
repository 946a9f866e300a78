"""StoreActor: the one process that touches the store.

Rule of this file: saves that arrive together are stored together, in one transaction, and each is answered only after
that. What asks for a session comes after the saves of that session, and not after those of others. A store that fails
answers with its error and stays: a full disk must not take the conversations down with it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from allm_actors.data import Session, StoreError
from supervisors import NO_REPLY, From, Process

from .contract import Save, Store
from .memory import MemoryStore

__all__ = [
    "Check",
    "Create",
    "Delete",
    "ListIds",
    "Load",
    "MemoryStoreActor",
    "Release",
    "StoreActor",
    "store_actor_for",
]


_OWN_FAULT = frozenset({"unencodable", "conflict", "corrupt"})  # of one session, not of the store


@dataclass(frozen=True, slots=True)
class Load:
    """Ask: the session of that name, or None. From now on `owner`, a number, works with it."""

    id: str
    owner: int


@dataclass(frozen=True, slots=True)
class Check:
    """Ask: nothing, or the `conflict` that a save of that session would be refused with."""

    id: str


@dataclass(frozen=True, slots=True)
class Create:
    """Ask: store a session whose name nobody has; whether it was stored."""

    session: Session


@dataclass(frozen=True, slots=True)
class Delete:
    """Ask: forget the session of that name."""

    id: str


@dataclass(frozen=True, slots=True)
class Release:
    """Tell: `owner` has ended. Nothing, if somebody else works with the session of that name already."""

    id: str
    owner: int


@dataclass(frozen=True, slots=True)
class ListIds:
    """Ask: the names of all sessions, sorted."""


@dataclass(frozen=True, slots=True)
class Flush:
    """Note to self: store what has been collected."""


def store_actor_for(store: Store) -> type[StoreActor]:
    """The actor class for a store: a thread of its own, unless it is only memory."""
    return MemoryStoreActor if isinstance(store, MemoryStore) else StoreActor


class StoreActor(Process):
    """Loads and saves sessions. Thread: its own, because a disk may block."""

    dispatcher = "pinned"
    reply_errors = (StoreError,)

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store
        self._batch: list[tuple[Save, From | None]] = []
        self._owners: dict[str, int] = {}  # who has loaded a session, and works with it

    def init(self) -> None:
        """Open the store. Raises StoreError, which makes the host's start fail with it."""
        self._ask("open")

    def on_receive(self, message: Any) -> Any:
        """Answer loads at once, after what was saved of that session before them; collect saves."""
        match message:
            case Save():
                self._collect(message)
                return NO_REPLY
            case Load(id, owner):
                self._flush_if_of(id)
                session = self._ask("load", id)
                self._owners[id] = owner
                return session
            case Check(id):
                self._flush_if_of(id)
                return self._ask("check", id) if hasattr(self._store, "check") else None
            case Create(session):
                self._flush_if_of(str(session.id))
                return self._create(session)
            case Delete(id):
                self._flush_if_of(id)
                return self._ask("delete", id)
            case Release(id, owner):
                self._flush_if_of(id)
                if self._owners.get(id) == owner:
                    del self._owners[id]
                    self._release(id)
                return None
            case ListIds():
                self._flush()
                return self._ask("ids")
            case _:  # Flush, and whatever a stranger sent
                return self._flush()

    def terminate(self, _reason: Any) -> None:
        """Store what was collected, and close."""
        self._flush()
        with contextlib.suppress(StoreError):
            self._ask("close")

    def _ask(self, what: str, *args: Any) -> Any:
        """Have the store do this. What it should not have raised is an error of the store's, not the end of ours."""
        try:
            return getattr(self._store, what)(*args)
        except StoreError:
            raise
        except Exception as error:
            text = f"the store's {what}() failed: {type(error).__name__}: {error}"
            raise StoreError("unavailable", message=text, cause=repr(error)) from error

    def _create(self, session: Session) -> bool:
        id = str(session.id)
        if id in self._owners:
            return False  # also when it has said nothing yet, and is not in the store
        try:
            if self._ask("load", id) is not None:
                return False
            self._ask("save", [Save(session, 0)])
        finally:
            self._release(id)
        return True

    def _release(self, id: str) -> None:
        if hasattr(self._store, "release"):
            with contextlib.suppress(StoreError):  # nobody waits for an answer
                self._ask("release", id)

    def _collect(self, save: Save) -> None:
        self._batch.append((save, self.current_request))
        if len(self._batch) > 1:
            return
        if self.ref.load().waiting:
            self.ref.tell(Flush())  # comes after every save that waits already: those share the transaction
        else:
            self._flush()

    def _flush_if_of(self, id: str) -> None:
        # Were each to store what others had saved, those would have no transaction in common, and while the file is
        # locked no wait.
        if any(save.session.id == id for save, _ in self._batch):
            self._flush()

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        if not self._save(batch):
            for one in batch:  # one of them cannot be encoded: the others must not suffer for it
                self._save([one])

    def _save(self, batch: list[tuple[Save, From | None]]) -> bool:
        """Store a batch and answer it. False, and nothing answered, when it may succeed in parts."""
        requests = [request for _, request in batch if request is not None]  # None: it was told, not asked
        try:
            if batch:
                self._ask("save", [save for save, _ in batch])
        except StoreError as error:
            if error.reason in _OWN_FAULT and len(batch) > 1:
                return False
            for request in requests:
                request.fail(error)
        else:
            for request in requests:
                request.reply(None)
        return True


class MemoryStoreActor(StoreActor):
    """The same over a dict: nothing blocks, so it lives where the sessions live."""

    dispatcher = "io"
