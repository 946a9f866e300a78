"""The store's actor stores what arrives together together, and answers each save by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from allm_actors.actors.store import MemoryStore, Save, SQLiteStore
from allm_actors.actors.store.actor import (
    Check,
    Create,
    Delete,
    ListIds,
    Load,
    MemoryStoreActor,
    Release,
    StoreActor,
    store_actor_for,
)
from allm_actors.data import Session, StoreError
from supervisors import Sim, System


@pytest.fixture
def system() -> Iterator[System]:
    with System() as system:
        yield system


def test_a_save_that_cannot_be_encoded_fails_alone(system: System, tmp_path: Path) -> None:
    keeper = StoreActor.start(SQLiteStore(tmp_path / "s.db"))
    bad = Session(id="bad", metadata={"what": object()})

    saves = [keeper.ask(Save(session), block=False) for session in (Session(id="a"), bad, Session(id="b"))]

    assert saves[0].get(timeout=5) is None
    assert saves[2].get(timeout=5) is None
    with pytest.raises(StoreError, match="metadata") as refused:
        saves[1].get(timeout=5)
    assert refused.value.reason == "unencodable"
    assert keeper.ask(ListIds(), timeout=5) == ["a", "b"]


def test_a_load_sees_what_was_saved_before_it(system: System, tmp_path: Path) -> None:
    keeper = StoreActor.start(SQLiteStore(tmp_path / "s.db"))
    keeper.tell(Save(Session(id="a", context={"n": 1})))

    assert keeper.ask(Load("a", 1), timeout=5) == (Session(id="a", context={"n": 1}), None)


def test_what_was_saved_is_stored_before_the_end(system: System, tmp_path: Path) -> None:
    keeper = StoreActor.start(SQLiteStore(tmp_path / "s.db"))
    keeper.tell(Save(Session(id="a")))
    keeper.stop(timeout=5)

    store = SQLiteStore(tmp_path / "s.db")
    store.open()
    assert store.ids() == ["a"]
    store.close()


def test_memory_needs_no_thread_of_its_own() -> None:
    assert store_actor_for(MemoryStore()) is MemoryStoreActor
    assert store_actor_for(SQLiteStore("x")) is StoreActor


class Counting(MemoryStore):
    """How many saves came at once, each time."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def save(self, batch: Sequence[Save]) -> None:
        self.batches.append(len(batch))
        super().save(batch)


def test_a_save_that_comes_alone_is_stored_in_its_own_turn() -> None:
    with Sim(0):
        store = Counting()
        keeper = StoreActor.start(store)
        assert keeper.ask(Save(Session(id="a"))) is None
        keeper.ask(Save(Session(id="b")))
        assert store.batches == [1, 1]


def test_saves_that_wait_together_are_stored_together() -> None:
    with Sim(0):
        store = Counting()
        keeper = StoreActor.start(store)
        saves = [keeper.ask(Save(Session(id=id)), block=False) for id in "abc"]
        for save in saves:
            assert save.get(timeout=5) is None
        assert store.batches == [3]


ABOUT: dict[str, Callable[[str], Any]] = {
    "load": lambda id: Load(id, 1),
    "check": Check,
    "create": lambda id: Create(Session(id=id), f"source of {id}"),
    "copy": lambda id: Create(Session(id=f"copy of {id}"), id),
    "delete": Delete,
    "release": lambda id: Release(id, 1),
}


@pytest.mark.parametrize("about", ABOUT.values(), ids=ABOUT)
def test_what_is_asked_of_others_does_not_part_saves_that_wait_together(about: Callable[[str], Any]) -> None:
    with Sim(0):
        store = Counting()
        keeper = StoreActor.start(store)
        answers = []
        for id in "abc":
            answers += [keeper.ask(each, block=False) for each in (Save(Session(id=id)), about(f"not {id}"))]
        for answer in answers:
            answer.get(timeout=5)
        assert [size for size in store.batches if size > 1] == [3]
        assert {*"abc"} <= {*store.ids()}


@pytest.mark.parametrize("about", [*ABOUT.values(), lambda _: ListIds()], ids=[*ABOUT, "list"])
def test_what_is_asked_of_a_session_comes_after_its_saves(about: Callable[[str], Any]) -> None:
    class Noting(Counting):
        """What it was asked, in that order."""

        def __init__(self) -> None:
            super().__init__()
            self.asked: list[str] = []

        def __getattribute__(self, name: str) -> Any:
            if name in ("load", "check", "save", "delete", "release", "ids"):
                object.__getattribute__(self, "asked").append(name)
            return super().__getattribute__(name)

    with Sim(0):
        store = Noting()
        keeper = StoreActor.start(store)
        saves = [keeper.ask(Save(Session(id=id)), block=False) for id in "ab"]
        keeper.ask(about("a"), block=False).get(timeout=5)
        for save in saves:
            assert save.get(timeout=5) is None
        assert store.asked[0] == "save"
        assert store.batches[0] == 2


class Picky(Counting):
    """Refuses one session, for a fault of its own."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def save(self, batch: Sequence[Save]) -> None:
        if any(save.session.id == "bad" for save in batch):
            raise self.error
        super().save(batch)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StoreError("conflict"), "conflict"),
        (StoreError("corrupt"), "corrupt"),
        (StoreError("unencodable"), "unencodable"),
        (TypeError("unhashable"), "unhashable"),
        (KeyError("odd"), "odd"),
    ],
)
def test_the_fault_of_one_session_does_not_fail_the_others(error: Exception, reason: str) -> None:
    with Sim(0):
        keeper = StoreActor.start(Picky(error))
        saves = [keeper.ask(Save(Session(id=id)), block=False) for id in ("a", "bad", "b")]
        assert keeper.ask(ListIds()) == ["a", "b"]
        with pytest.raises(StoreError, match=reason):
            saves[1].get(timeout=5)
