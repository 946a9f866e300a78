"""StoreActor: the one process that touches the store.

Rule of this file: saves that arrive together are stored together, in one transaction, and answered only after
that. A request for a session comes after the saves of that session, but does not wait for those of others. If the
store fails, the actor answers with the error and lives on: a full disk must not end the conversations.
"""

from __future__ import annotations

import contextlib
import inspect
from dataclasses import dataclass
from typing import Any

from allm_actors.data import Session, StoreError
from supervisors import NO_REPLY, From, Process

from .contract import Save, Store, StoredSession
from .memory import MemoryStore

__all__ = [
    "Check",
    "Create",
    "Delete",
    "ListIds",
    "ListStored",
    "Load",
    "MemoryStoreActor",
    "Release",
    "StoreActor",
    "store_actor_for",
]


_OWN_FAULT = frozenset({"unencodable", "conflict", "corrupt"})  # of one session, not of the store
# What a store raises over a value that it did not expect.
_OF_A_VALUE = (TypeError, ValueError, LookupError, AttributeError)


@dataclass(frozen=True, slots=True)
class Load:
    """Request: the session of that name, or None, and why its last turn ended, if the store knows that.

    From now on the actor of number `owner` works with it.
    """

    id: str
    owner: int


@dataclass(frozen=True, slots=True)
class Check:
    """Request: None, or fails with the `conflict` that a save of that session would be refused with."""

    id: str


@dataclass(frozen=True, slots=True)
class Create:
    """Request: store a copy of the session `source` under a free name; answers whether it was stored.

    Fails with the `conflict` that a save of `source` would be refused with. `halted_reason` is that of `Save`.
    """

    session: Session
    source: str
    halted_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Request: delete the session of that name."""

    id: str


@dataclass(frozen=True, slots=True)
class Release:
    """Message without answer: `owner` has ended. Ignored if another actor works with that session already."""

    id: str
    owner: int


@dataclass(frozen=True, slots=True)
class ListIds:
    """Request: the names of all sessions, sorted."""


@dataclass(frozen=True, slots=True)
class ListStored:
    """Request: a `StoredSession` for each session, the one that was saved longest ago first."""


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
        self._owners: dict[str, int] = {}  # by session: the actor that works with it

    def init(self) -> None:
        """Open the store. Raises StoreError, which makes the host's start fail with it."""
        self._ask("open")

    def on_receive(self, message: Any) -> Any:
        """Answer requests at once, after the earlier saves of the same session; collect saves."""
        match message:
            case Save():
                self._collect(message)
                return NO_REPLY
            case Load(id, owner):
                self._flush_if_of(id)
                session = self._load(id)
                knows = session is not None and hasattr(self._store, "halted_reason")
                halted_reason = self._ask("halted_reason", id) if knows else None
                self._owners[id] = owner
                return session, halted_reason
            case Check(id):
                return self._check(id)
            case Create(session, source, halted_reason):
                self._flush_if_of(str(session.id))
                self._check(source)
                return self._create(session, halted_reason)
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
            case ListStored():
                self._flush()
                return self._stored()
            case _:  # Flush, and whatever a stranger sent
                return self._flush()

    def terminate(self, _reason: Any) -> None:
        """Store what was collected, and close."""
        self._flush()
        with contextlib.suppress(StoreError):
            self._ask("close")

    def _ask(self, what: str, *args: Any) -> Any:
        """Call a method of the store. Any other exception becomes a StoreError (`unavailable`): the actor lives on."""
        try:
            return getattr(self._store, what)(*args)
        except StoreError:
            raise
        except Exception as error:
            text = f"the store's {what}() failed: {type(error).__name__}: {error}"
            raise StoreError("unavailable", message=text, cause=repr(error)) from error

    def _check(self, id: str) -> None:
        self._flush_if_of(id)
        if hasattr(self._store, "check"):
            self._ask("check", id)

    def _load(self, id: str) -> Session | None:
        session = self._ask("load", id)
        if session is None or isinstance(session, Session):
            return session
        if inspect.iscoroutine(session):
            session.close()  # or Python warns that it was never awaited
        message = f"the store's load() returned a {type(session).__name__}; it must return a Session, or None"
        raise StoreError("unavailable", message=message)

    def _create(self, session: Session, halted_reason: str | None) -> bool:
        id = str(session.id)
        if id in self._owners:
            return False  # an actor works with it, though it may not be in the store yet
        try:
            if self._load(id) is not None:
                return False
            self._ask("save", [Save(session, 0, halted_reason)])
        except StoreError as error:
            if error.reason != "conflict":
                raise
            return False  # another host has just taken the name
        finally:
            self._release(id)
        return True

    def _stored(self) -> list[StoredSession]:
        if not hasattr(self._store, "stored"):
            kind = type(self._store).__name__
            message = f"this store does not tell when its sessions were saved: {kind} has no stored()"
            raise StoreError("unavailable", message=message)
        stored: list[StoredSession] = self._ask("stored")
        return stored

    def _release(self, id: str) -> None:
        if hasattr(self._store, "release"):
            with contextlib.suppress(StoreError):  # nobody waits for an answer
                self._ask("release", id)

    def _collect(self, save: Save) -> None:
        self._batch.append((save, self.current_request))
        if len(self._batch) > 1:
            return
        if self.ref.load().waiting:
            self.ref.tell(Flush())  # handled after the saves in the mailbox, which share the transaction
        else:
            self._flush()

    def _flush_if_of(self, id: str) -> None:
        # A request that flushed the saves of other sessions would break up their common transaction, and with it their
        # common wait for a locked file.
        if any(save.session.id == id for save, _ in self._batch):
            self._flush()

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        if not self._save(batch):
            for one in batch:  # one of them is refused: the others must not fail with it
                self._save([one])

    def _save(self, batch: list[tuple[Save, From | None]]) -> bool:
        """Store a batch and answer it. False, with nothing answered, if its saves should be tried one by one."""
        requests = [request for _, request in batch if request is not None]  # None: it was told, not asked
        try:
            if batch:
                self._ask("save", [save for save, _ in batch])
        except StoreError as error:
            own_fault = error.reason in _OWN_FAULT or isinstance(error.__cause__, _OF_A_VALUE)
            if own_fault and len(batch) > 1:
                return False
            for request in requests:
                request.fail(error)
        else:
            for request in requests:
                request.reply(None)
        return True


class MemoryStoreActor(StoreActor):
    """The same over a dict: nothing blocks, so it runs on the dispatcher of the sessions."""

    dispatcher = "io"
