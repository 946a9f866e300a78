"""The store's actor stores what arrives together together, and answers each save by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from allm_actors.actors.store import MemoryStore, Save, SQLiteStore
from allm_actors.actors.store.keeper import ListIds, Load, MemoryStoreActor, StoreActor, store_actor_for
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


@pytest.mark.parametrize("reason", ["conflict", "corrupt"])
def test_what_is_wrong_with_one_session_is_not_told_to_those_it_was_saved_with(reason: str) -> None:
    class Refuses(MemoryStore):
        def save(self, batch: Sequence[Save]) -> None:
            if any(save.session.id == "bad" for save in batch):
                raise StoreError(reason, message="not this one")
            super().save(batch)

    with Sim(0):
        keeper = StoreActor.start(Refuses())
        a, bad, b = [keeper.ask(Save(Session(id=id)), block=False) for id in ("a", "bad", "b")]
        assert a.get(timeout=5) is b.get(timeout=5) is None
        with pytest.raises(StoreError, match="not this one"):
            bad.get(timeout=5)
        assert keeper.ask(ListIds()) == ["a", "b"]


def test_a_load_sees_what_was_saved_before_it(system: System, tmp_path: Path) -> None:
    keeper = StoreActor.start(SQLiteStore(tmp_path / "s.db"))
    keeper.tell(Save(Session(id="a", context={"n": 1})))

    assert keeper.ask(Load("a", 1), timeout=5) == Session(id="a", context={"n": 1})


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
