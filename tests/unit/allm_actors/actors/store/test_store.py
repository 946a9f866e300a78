"""A store gives back what was saved, appends what is new, and refuses what is not its own."""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from allm_actors.actors.store import MemoryStore, Save, SQLiteStore, Store, schema, store_for
from allm_actors.actors.store.contract import is_unanswered
from allm_actors.data import Message, Session, StoreError, Thread, ToolCall
from allm_actors.data.codec import SCHEMA_VERSION
from allm_actors.data.codec.shapes import CODES
from allm_actors.data.depth import DEEPEST_WRITTEN
from allm_actors.testing import strategies


def session(*texts: str, id: str = "s") -> Session:
    return Session(id=id, thread=Thread.from_messages([Message(role="user", content=text) for text in texts]))


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = store_for(None if request.param == "memory" else tmp_path / "s.db")
    store.open()
    yield store
    store.close()


def test_what_was_saved_is_loaded(store: Store) -> None:
    store.save([Save(session("a", "b")), Save(session("c", id="t"))])

    assert store.load("s") == session("a", "b")
    assert store.load("t") == session("c", id="t")
    assert store.load("nobody") is None
    assert store.ids() == ["s", "t"]


def test_messages_that_are_kept_are_not_written_again_and_the_rest_is_replaced(store: Store) -> None:
    store.save([Save(session("a", "b", "c"))])
    store.save([Save(session("a", "B"), keep=1)])

    assert store.load("s") == session("a", "B")


def test_a_deleted_session_is_gone(store: Store) -> None:
    store.save([Save(session("a"))])
    store.delete("s")
    store.delete("s")

    assert store.load("s") is None


def test_a_session_without_a_name_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="give it a name"):
        store.save([Save(Session())])


def test_a_file_survives_its_store(tmp_path: Path) -> None:
    first = SQLiteStore(tmp_path / "s.db")
    first.open()
    first.save([Save(session("a"))])
    first.close()

    second = SQLiteStore(tmp_path / "s.db")
    second.open()

    assert second.load("s") == session("a")
    second.close()


def test_a_batch_is_stored_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db")
    store.open()
    with pytest.raises(StoreError):
        store.save([Save(session("a")), Save(Session())])

    assert store.ids() == []
    store.close()


@pytest.mark.parametrize(
    ("content", "reason", "advice"),
    [
        (b"this is no database, but it is long enough to look at" * 20, "not_a_store", "another path"),
        ("foreign", "not_a_store", "pass another path as store="),
        ("newer", "newer_schema", "upgrade allm-actors"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_and_left_as_it_is(
    tmp_path: Path, content: bytes | str, reason: str, advice: str
) -> None:
    path = tmp_path / "s.db"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "foreign":
        sqlite3.connect(path).execute("CREATE TABLE mine (x)").connection.close()
    else:
        ours = SQLiteStore(path)
        ours.open()
        ours.close()
        sqlite3.connect(path).execute("PRAGMA user_version = 99").connection.close()
    before = path.read_bytes()

    with pytest.raises(StoreError, match=advice) as refused:
        SQLiteStore(path).open()

    assert refused.value.reason == reason
    assert str(path) in str(refused.value)
    assert path.read_bytes() == before


def test_a_store_for_reading_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with contextlib.closing(SQLiteStore(path)) as first:
        first.open()
        first.save([Save(session("a"))])
    before = path.read_bytes()

    with contextlib.closing(SQLiteStore(path, read_only=True)) as store:
        store.open()
        assert (store.ids(), store.load("s")) == (["s"], session("a"))
        with pytest.raises(StoreError, match="readonly"):
            store.save([Save(session("b", id="t"))])

    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(StoreError) as refused:
        SQLiteStore(tmp_path / "none.db", read_only=True).open()
    assert refused.value.reason == "unavailable"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="folder exists") as refused:
        SQLiteStore(tmp_path / "nowhere" / "s.db").open()

    assert refused.value.reason == "unavailable"


def test_a_session_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db")
    store.open()
    store.save([Save(session("a"))])
    sqlite3.connect(tmp_path / "s.db", isolation_level=None).execute(
        "UPDATE messages SET body = x'00'"
    ).connection.close()

    with pytest.raises(StoreError, match="'s'") as refused:
        store.load("s")

    assert refused.value.reason == "corrupt"
    store.close()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (1, "t"),
        (1, None),
        (1, {}),
        (1, []),
        (2, 1.5),
        (2, {None: [CODES[Message], "user", "a"]}),
        (2, {None: [CODES[Thread], [], {None: [CODES[Message], "user", "a"]}]}),
        (3, "asleep"),
        (3, []),
        (7, {None: [CODES[Message], "user", "a"]}),
        (8, 3),
    ],
)
def test_a_header_that_is_well_formed_and_no_session_is_corrupt(
    tmp_path: Path, place: int, value: object
) -> None:
    fields: list[object] = [CODES[Session], "s", {None: [CODES[Thread], []]}, "idle", [], None, None, {}, {}]
    with contextlib.closing(SQLiteStore(tmp_path / "s.db")) as store:
        store.open()
        store.save([Save(session("a"))])
        for damaged in (False, True):
            if damaged:
                fields[place] = value
            header = msgspec.msgpack.encode([SCHEMA_VERSION, {None: fields}])
            with contextlib.closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as db:
                db.execute("UPDATE sessions SET header = ?", [header])
            if not damaged:
                assert store.load("s") == session("a")
        with pytest.raises(StoreError, match="'s'") as refused:
            store.load("s")

    assert refused.value.reason == "corrupt"


@pytest.mark.parametrize(
    ("table", "body", "advice"),
    [
        ("messages", [SCHEMA_VERSION + 1, {None: [CODES[Message], "user", "a"]}], "upgrade"),
        ("messages", [SCHEMA_VERSION, {None: [CODES[Message], *"abcde", {}, "later"]}], "upgrade"),
        (
            "messages",
            [SCHEMA_VERSION, {None: [CODES[Message], "user", {None: ["shop.Order", {}]}]}],
            "register",
        ),
        ("sessions", [SCHEMA_VERSION + 1, {None: [CODES[Session], "s"]}], "upgrade"),
    ],
)
def test_a_session_that_another_program_can_read_is_not_called_damaged(
    tmp_path: Path, table: str, body: object, advice: str
) -> None:
    store = SQLiteStore(tmp_path / "s.db")
    store.open()
    store.save([Save(session("a"))])
    column = "body" if table == "messages" else "header"
    sqlite3.connect(tmp_path / "s.db", isolation_level=None).execute(
        f"UPDATE {table} SET {column} = ?", (msgspec.msgpack.encode(body),)
    ).connection.close()

    with pytest.raises(StoreError, match=f"'s'.*{advice}") as refused:
        store.load("s")

    assert refused.value.reason == "newer_schema"
    store.close()


def test_a_session_that_is_nested_as_deep_as_may_be_written_is_loaded_and_a_deeper_one_is_refused(
    tmp_path: Path,
) -> None:
    def nested(levels: int) -> Session:
        it: object = None
        for _ in range(levels):
            it = {"a": it}
        said = Message(role="user", content="hi", metadata={"it": it})
        return Session(id="s", thread=Thread.from_messages([said]), context={"it": it}, metadata={"it": it})

    deepest = DEEPEST_WRITTEN - 3  # around it are an envelope, its fields, and the map that it is in
    store = SQLiteStore(tmp_path / "s.db")
    store.open()
    store.save([Save(nested(deepest))])

    with pytest.raises(StoreError, match=f"'s'.* at most {DEEPEST_WRITTEN} levels") as refused:
        store.save([Save(nested(deepest + 1))])
    store.close()
    store.open()

    assert refused.value.reason == "unencodable"
    assert store.load("s") == nested(deepest)
    store.close()


@pytest.mark.parametrize("odd", [{"context": None}, {"metadata": 1}, {"status": "odd"}, {"thread": {}}])
def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path, odd: dict[str, Any]) -> None:
    store = SQLiteStore(tmp_path / "s.db")
    store.open()
    store.save([Save(session("a"))])
    with pytest.raises(StoreError, match="is not one of a session") as refused:
        store.save([Save(msgspec.structs.replace(session("a"), **odd))])
    assert refused.value.reason == "unencodable"
    assert store.load("s") == session("a")
    store.close()


def test_who_saves_a_session_that_somebody_else_has_saved_is_refused(tmp_path: Path) -> None:
    mine, theirs = SQLiteStore(tmp_path / "s.db"), SQLiteStore(tmp_path / "s.db")
    for store in (mine, theirs):
        store.open()
        assert store.load("s") is None
    mine.save([Save(session("a"))])
    mine.save([Save(session("a", "b"), keep=1), Save(session("a", "b", "c"), keep=2)])

    with pytest.raises(StoreError, match="saved by another host") as refused:
        theirs.save([Save(session("x"))])
    theirs.save([Save(session("y", id="other"))])

    assert refused.value.reason == "conflict"
    assert mine.load("s") == session("a", "b", "c")
    assert theirs.load("s") == session("a", "b", "c")
    theirs.save([Save(session("a", "b", "c", "d"), keep=3)])
    with pytest.raises(StoreError):
        mine.save([Save(session("lost"))])
    mine.close()
    theirs.close()


@pytest.mark.parametrize("saves", range(1, 6))
def test_who_has_seen_what_was_deleted_is_refused_however_far_its_successor_has_come(
    tmp_path: Path, saves: int
) -> None:
    mine, theirs = SQLiteStore(tmp_path / "s.db"), SQLiteStore(tmp_path / "s.db")
    for store in (mine, theirs):
        store.open()
    mine.save([Save(session("a"))])
    mine.save([Save(session("a", "b"), keep=1)])
    mine.save([Save(session("a", "b", "c"), keep=2)])

    theirs.delete("s")
    for _ in range(saves):
        theirs.save([Save(session("x", "y", "z"))])

    with pytest.raises(StoreError, match="saved by another host") as refused:
        mine.save([Save(session("a", "b", "c", "d"), keep=3)])
    assert refused.value.reason == "conflict"
    assert theirs.load("s") == session("x", "y", "z")
    mine.close()
    theirs.close()


def test_what_cannot_be_read_is_not_overwritten_by_who_tried(tmp_path: Path) -> None:
    mine, theirs = SQLiteStore(tmp_path / "s.db"), SQLiteStore(tmp_path / "s.db")
    for store in (mine, theirs):
        store.open()
    mine.save([Save(session("a"))])
    assert theirs.load("s") == session("a")
    mine.save([Save(session("b"))])
    with contextlib.closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as db:
        db.execute("UPDATE messages SET body = x'00'")
    with pytest.raises(StoreError, match="cannot be decoded"):
        theirs.load("s")
    with pytest.raises(StoreError, match="saved by another host"):
        theirs.save([Save(session("a", "c"))])
    mine.close()
    theirs.close()


def test_a_look_finds_what_a_save_would_be_refused_with(tmp_path: Path) -> None:
    mine, theirs = SQLiteStore(tmp_path / "s.db"), SQLiteStore(tmp_path / "s.db")
    for store in (mine, theirs):
        store.open()
        store.check("s")
    mine.save([Save(session("a"))])
    mine.check("s")
    with pytest.raises(StoreError, match="saved by another host") as conflict:
        theirs.check("s")
    assert conflict.value.reason == "conflict"
    theirs.load("s")
    theirs.check("s")
    theirs.delete("s")
    theirs.check("s")
    with pytest.raises(StoreError, match="saved by another host"):
        mine.check("s")
    mine.close()
    theirs.close()


def test_who_deletes_a_session_may_begin_it_anew(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db")
    store.open()
    for text in "abc":
        store.save([Save(session(text))])
        store.save([Save(session(text, "more"), keep=1)])
        store.delete("s")
    store.close()


def test_a_session_that_was_counted_from_one_is_counted_on(tmp_path: Path) -> None:
    """As files were written at first."""
    mine, theirs = SQLiteStore(tmp_path / "s.db"), SQLiteStore(tmp_path / "s.db")
    mine.open()
    mine.save([Save(session("a"))])
    with contextlib.closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as db:
        db.execute("UPDATE sessions SET revision = 1")
    for store in (mine, theirs):
        store.open()
        assert store.load("s") == session("a")
    mine.save([Save(session("a", "b"), keep=1)])
    with contextlib.closing(sqlite3.connect(tmp_path / "s.db")) as db:
        assert db.execute("SELECT revision FROM sessions").fetchall() == [(2,)]
    with pytest.raises(StoreError, match="saved by another host"):
        theirs.save([Save(session("a", "c"), keep=1)])
    mine.close()
    theirs.close()


def test_a_store_that_is_opened_again_lets_go_of_what_it_had_open(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db")
    store.open()
    first = store._database._db
    assert first is not None
    store.open()

    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        first.execute("SELECT 1")
    assert store.ids() == []
    store.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_gone_is_not_written_to(tmp_path: Path, replaced: bool) -> None:
    path, away = tmp_path / "s.db", tmp_path / "away.db"
    store = SQLiteStore(path)
    store.open()
    store.save([Save(session("a"))])
    path.rename(away)
    if replaced:
        path.write_bytes(b"")
    for use in (lambda: store.save([Save(session("a", "b"), 1)]), lambda: store.load("s"), store.ids):
        with pytest.raises(
            StoreError, match="was removed or replaced while it was in use; put it back"
        ) as gone:
            use()
        assert (gone.value.reason, gone.value.path) == ("unavailable", str(path))

    away.replace(path)
    store.save([Save(session("a", "b"), 1)])
    assert store.load("s") == session("a", "b")
    store.close()


def test_a_file_stays_where_it_is_when_the_process_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("s.db")
    store.open()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.save([Save(session("a"))])
    store.open()
    assert store.load("s") == session("a")
    store.close()
    assert not (tmp_path / "elsewhere" / "s.db").exists()


def test_a_file_that_somebody_upgrades_is_not_written_to(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db")
    store.open()
    with contextlib.closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="has schema version 99, and this version reads up to 4") as refused:
        store.save([Save(session("a"))])
    assert refused.value.reason == "newer_schema"
    store.close()


FIRST_SCHEMA_OF_ALL = """
CREATE TABLE sessions (id TEXT PRIMARY KEY, header BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE messages (
    session TEXT NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (session, seq)
) WITHOUT ROWID;
PRAGMA application_id = 1095519309;
PRAGMA user_version = 1;
"""
FIRST_SCHEMA = """
CREATE TABLE sessions (id TEXT PRIMARY KEY, header BLOB NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE messages (
    session TEXT NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (session, seq)
) WITHOUT ROWID;
PRAGMA application_id = 1095519309;
PRAGMA user_version = 1;
"""
SECOND_SCHEMA = """
CREATE TABLE sessions (id TEXT PRIMARY KEY, header BLOB NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE messages (session TEXT NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (session, seq));
PRAGMA application_id = 1095519309;
PRAGMA user_version = 2;
"""
THIRD_SCHEMA = """
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, header BLOB NOT NULL, revision INTEGER NOT NULL,
    saved_at REAL NOT NULL DEFAULT 0, unanswered INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE messages (session TEXT NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (session, seq));
PRAGMA application_id = 1095519309;
PRAGMA user_version = 3;
"""


def written_with(schema: str, folder: Path, talks: dict[str, Session]) -> Path:
    """A file of an older version with these sessions in it."""
    with contextlib.closing(SQLiteStore(folder / "new.db")) as new:
        new.open()
        new.save([Save(talk) for talk in talks.values()])
    with contextlib.closing(sqlite3.connect(folder / "old.db", isolation_level=None)) as old:
        old.executescript(schema)
        old.execute("ATTACH ? AS new", (str(folder / "new.db"),))
        columns = ", ".join(name for _, name, *_ in old.execute("PRAGMA main.table_info('sessions')"))
        old.execute(f"INSERT INTO sessions SELECT {columns} FROM new.sessions")
        old.execute("INSERT INTO messages SELECT * FROM new.messages")
    return folder / "old.db"


@pytest.mark.parametrize(
    "schema",
    [FIRST_SCHEMA_OF_ALL, FIRST_SCHEMA, SECOND_SCHEMA, THIRD_SCHEMA],
    ids=["first of all", "first", "second", "third"],
)
def test_a_file_of_an_older_version_is_upgraded_with_all_that_is_in_it(tmp_path: Path, schema: str) -> None:
    talks = {name: session(*"abc", id=name) for name in ("ada", "bob")}
    talks["eve"] = msgspec.structs.replace(session("a", id="eve"), status="completed")
    began = int(time.time())
    path = written_with(schema, tmp_path, talks)
    for _ in range(2):  # and opened once more
        with contextlib.closing(SQLiteStore(path)) as store:
            store.open()
            assert {name: store.load(name) for name in store.ids()} == talks
            told = {each.id: (each.unanswered, each.status, each.halted_reason) for each in store.stored()}
            assert told == {
                "ada": (True, "idle", None),
                "bob": (True, "idle", None),
                "eve": (False, "completed", None),
            }, "an upgrade looks who was in the middle of a turn"
            assert all(began <= each.saved_at <= time.time() for each in store.stored()), (
                "the upgrade counts as a save"
            )
            store.save([Save(talks["ada"])])
    with contextlib.closing(sqlite3.connect(path)) as db:
        kinds = dict(db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
    assert sorted(kinds) == ["messages", "sessions"]
    assert "ROWID" not in kinds["messages"]


@pytest.mark.parametrize("schema", [FIRST_SCHEMA_OF_ALL, SECOND_SCHEMA], ids=["first of all", "second"])
def test_a_file_of_an_older_version_can_be_read_as_it_is_but_tells_no_times(
    tmp_path: Path, schema: str
) -> None:
    talks = {"ada": session("a", id="ada")}
    path = written_with(schema, tmp_path, talks)
    with contextlib.closing(SQLiteStore(path, read_only=True)) as store:
        store.open()
        assert (store.ids(), store.load("ada")) == (["ada"], talks["ada"])
        with pytest.raises(
            StoreError, match=r"of an older version, .* open it with a host, which upgrades it"
        ):
            store.stored()


def test_what_is_deleted_is_not_in_the_file_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def as_sqlite_is_built_by_default(*args: Any, **options: Any) -> sqlite3.Connection:
        db = connect(*args, **options)
        db.execute("PRAGMA secure_delete = OFF")  # Debian's SQLite is built with it on
        return db

    monkeypatch.setattr(sqlite3, "connect", as_sqlite_is_built_by_default)
    path = tmp_path / "s.db"
    with contextlib.closing(SQLiteStore(path)) as store:
        store.open()
        store.save(
            [Save(session("a secret", "another secret " * 2000, id="ada")), Save(session("b", id="bob"))]
        )
    assert b"secret" in path.read_bytes()
    with contextlib.closing(SQLiteStore(path)) as store:
        store.open()
        store.delete("ada")
    assert b"secret" not in path.read_bytes()


def test_a_file_of_a_newer_version_tells_nothing(tmp_path: Path) -> None:
    with contextlib.closing(SQLiteStore(tmp_path / "s.db")) as store:
        store.open()
        with contextlib.closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as newer:
            newer.execute("PRAGMA user_version = 99")
        with pytest.raises(StoreError, match="has schema version 99"):
            store.stored()


HALF = Message(role="assistant", content="hal", metadata={"partial": True})
FAILED = Message(role="assistant", content="", metadata={"finish_reason": "error"})
CALLS = Message(
    role="assistant", content="", metadata={"tool_calls": [ToolCall(id="c0", name="look", arguments={})]}
)
TOLD = Message(role="tool", content="x", tool_call_id="c0")
ASKED, SAID = Message(role="user", content="hi"), Message(role="assistant", content="hello")
SYSTEM = Message(role="system", content="Be brief.")


@pytest.mark.parametrize(
    ("last", "status", "unanswered"),
    [
        (ASKED, "idle", True),
        (TOLD, "idle", True),
        (CALLS, "idle", True),  # its process was killed while the tool ran
        (HALF, "idle", True),
        (FAILED, "error", True),
        (ASKED, "error", True),
        (SAID, "idle", False),
        (SYSTEM, "idle", False),
        (Message(role="assistant", content="", metadata=[]), "idle", False),  # type: ignore[arg-type]
        (None, "idle", False),
        (TOLD, "completed", False),  # it was halted, as by max_turns
        (TOLD, "awaiting_user", False),
        (TOLD, "awaiting_tools", False),
        (SAID, "completed", False),
    ],
)
def test_whose_turn_ended_before_the_model_had_answered(
    last: Message | None, status: Any, unanswered: bool
) -> None:
    assert is_unanswered(Session(id="s", status=status), last) is unanswered


def test_a_store_tells_when_each_session_was_saved_and_whether_it_waits_for_an_answer(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1000, 2000))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    call = ToolCall(id="c0", name="look", arguments={})
    asked = session("hi", id="asked")
    told = Message(role="tool", content="x", tool_call_id="c0")
    answered = msgspec.structs.replace(asked, id="answered", thread=asked.thread.add_assistant("hello"))
    worked = msgspec.structs.replace(asked, id="worked", thread=answered.thread.add(told))
    manual = msgspec.structs.replace(worked, id="manual", pending_tool_calls=[call])
    store.save([Save(each) for each in (asked, answered, worked)])
    store.save([Save(manual), Save(asked), Save(Session(id="empty"))])
    assert [(each.id, each.unanswered) for each in store.stored()] == [
        ("answered", False),
        ("worked", True),
        ("manual", False),
        ("asked", True),
        ("empty", False),
    ]
    assert [each.saved_at for each in store.stored()] == [1001.0, 1002.0, 1003.0, 1004.0, 1005.0]
    store.delete("worked")
    assert [each.id for each in store.stored()] == ["answered", "manual", "asked", "empty"]


@pytest.mark.parametrize("broken", [0, 1, 2, 3])
def test_an_upgrade_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, broken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "old.db", isolation_level=None)) as old:
        old.executescript(FIRST_SCHEMA)
        old.execute("INSERT INTO messages VALUES ('s', 0, x'00')")
    statements = schema.UPGRADES[1]
    monkeypatch.setitem(schema.UPGRADES, 1, (*statements[:broken], "INSERT INTO nowhere VALUES (1)"))
    with pytest.raises(StoreError, match="no such table"):
        SQLiteStore(tmp_path / "old.db").open()
    with contextlib.closing(sqlite3.connect(tmp_path / "old.db")) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("SELECT * FROM messages").fetchall() == [("s", 0, b"\0")]
        assert db.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone() == (2,)


@pytest.mark.parametrize("place", ["s.db", "."])
def test_what_cannot_be_written_is_not_opened(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access
    readonly = tmp_path / place
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != readonly and access(path, mode))
    with pytest.raises(StoreError, match="cannot be written; check the permissions of the file"):
        SQLiteStore(tmp_path / "s.db").open()


def test_a_damaged_page_is_no_reason_to_throw_the_file_away(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = SQLiteStore(path)
    store.open()
    names = [f"s{number}" for number in range(200)]
    store.save([Save(session("x" * 500, id=name)) for name in names])
    store.close()
    with path.open("r+b") as file:
        file.seek(4096 * 20)
        file.write(b"\xff" * 4096)
    store.open()
    whole, said = 0, []
    for name in names:
        try:
            whole += store.load(name) is not None
        except StoreError as error:
            said.append((error.reason, "other sessions in it may be intact" in str(error)))
    assert whole > 100
    assert set(said) == {("corrupt", True)}
    store.close()


def test_a_store_that_is_opened_again_takes_the_file_that_is_there(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db")
    store.open()
    store.save([Save(session("a"))])
    (tmp_path / "s.db").rename(tmp_path / "away.db")
    store.open()
    assert store.ids() == []
    store.save([Save(session("b"))])
    store.close()


def test_it_may_be_opened_again_while_a_killed_actor_is_still_inside_it(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db")
    store.open()
    opened, began = threading.Event(), threading.Event()
    texts = [f"message {number}" for number in range(300)]

    def zombie() -> None:
        while not opened.is_set():
            with contextlib.suppress(StoreError):  # interrupted
                store.save([Save(session(*texts))])
            began.set()

    thread = threading.Thread(target=zombie)
    thread.start()
    assert began.wait(30)
    for _ in range(300):
        store.open()
        kept = store.load("s")
        assert kept in (None, session(*texts)), "half of what was interrupted is there"
    opened.set()
    thread.join(30)
    store.close()


def test_who_never_ends_is_waited_for_with_patience(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db", patience=0.01)
    store.open()
    inside, leave = threading.Event(), threading.Event()

    def hung() -> None:
        with store._database.held():
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=hung)
    thread.start()
    assert inside.wait(30)
    with pytest.raises(StoreError, match="still in use by a thread") as refused:
        store.open()
    assert refused.value.reason == "locked"
    leave.set()
    thread.join(30)
    store.open()
    assert store.ids() == []
    store.close()


OPENS = """
import sys
from allm_actors.actors.store import SQLiteStore
for path in map(str.strip, sys.stdin):
    store = SQLiteStore(path)
    try:
        store.open()
        store.close()
        print("opened", flush=True)
    except Exception as error:
        print(repr(error), flush=True)
"""


def test_processes_may_make_a_new_file_at_the_same_time(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    with contextlib.ExitStack() as running:
        openers = [
            running.enter_context(
                subprocess.Popen([sys.executable, "-c", OPENS], stdin=pipe, stdout=pipe, text=True)
            )
            for _ in range(4)
        ]
        seen: list[str] = []
        for n in range(60):
            for opener in openers:
                assert opener.stdin is not None
                opener.stdin.write(f"{tmp_path / str(n)}.db\n")
                opener.stdin.flush()
            seen += [opener.stdout.readline().strip() for opener in openers if opener.stdout is not None]
    assert set(seen) == {"opened"}
    assert len(seen) == 240


def test_an_empty_path_is_none() -> None:
    """SQLite would take it for a file that is gone at the end."""
    with pytest.raises(ValueError, match="None to keep sessions in memory"):
        store_for("")


def test_what_is_known_of_a_session_is_let_go(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db")
    store.open()
    session = Session(id="s")
    store.save([Save(session, 0)])
    store.release("s")
    store.release("never there")
    assert store.load("s") == session  # whoever works with it again begins like this
    store.save([Save(session, 0)])
    store.close()


def test_anything_else_is_no_store() -> None:
    with pytest.raises(TypeError, match="int"):
        store_for(3)  # type: ignore[arg-type]
    assert isinstance(store_for(MemoryStore()), MemoryStore)


class Unclosable(MemoryStore):
    close = None


class Later(MemoryStore):
    async def load(self, id: str) -> None:
        """Too late: nobody awaits it."""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (MemoryStore, r"got the class MemoryStore: pass an object of it, MemoryStore\(…\)"),
        (object(), r"got object, which lacks open\(\), load\(\), save\(\), delete\(\), ids\(\), close\(\)"),
        (Unclosable(), r"got Unclosable, which lacks close\(\)$"),
        (Later(), r"got Later, whose load\(\) must be a plain def"),
    ],
)
def test_what_is_nearly_a_store_is_told_what_it_lacks(given: Any, said: str) -> None:
    with pytest.raises(TypeError, match=f"store must be None, a path or a Store, {said}"):
        store_for(given)


@settings(max_examples=30)
@given(strategies.sessions())
def test_every_session_survives_the_file(tmp_path_factory: pytest.TempPathFactory, value: Session) -> None:
    named = Session(**{**{name: getattr(value, name) for name in value.__struct_fields__}, "id": "s"})
    store = SQLiteStore(tmp_path_factory.mktemp("store") / "s.db")
    store.open()
    store.save([Save(named)])

    assert store.load("s") == named
    store.close()


def test_a_path_in_a_directory_that_is_gone_is_refused_by_name(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(StoreError, match=r"s\.db cannot be found: the working directory is gone") as refused:
        SQLiteStore("s.db")
    assert refused.value.reason == "unavailable"
    assert SQLiteStore(tmp_path / "s.db").path == str(tmp_path / "s.db")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_neither_uses_nor_closes_what_its_parent_has_open(tmp_path):
    store = SQLiteStore(tmp_path / "s.db", patience=0.1)
    store.open()
    store.save([Save(session("Hi"))])
    inherited = store._database._db
    inside, leave = threading.Event(), threading.Event()

    def busy():
        with store._database.held(), store._database.transaction():
            inside.set()
            leave.wait()

    thread = threading.Thread(target=busy)
    thread.start()
    inside.wait()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            refusals = [
                _refusal(store.load, "s"),
                *(_refusal(each.open) for each in (store, SQLiteStore(store.path))),
            ]
            store.close()
            untouched = inherited.total_changes >= 0  # raises where it was closed
            elsewhere = SQLiteStore(tmp_path / "elsewhere.db")
            elsewhere.open()
            elsewhere.save([Save(session("Hi"))])
            forked = all("was forked" in text for text in refusals[1:])
            right = untouched and "is not open" in refusals[0] and forked and elsewhere.ids() == ["s"]
            os._exit(0 if right else 1)
        os._exit(2)
    leave.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert store.ids() == ["s"]
    store.close()


def _refusal(call, *args):
    with pytest.raises(StoreError) as refused:
        call(*args)
    return str(refused.value)


def test_a_store_may_wait_for_ever(tmp_path: Path) -> None:
    with contextlib.closing(SQLiteStore(tmp_path / "s.db", patience=math.inf)) as store:
        store.open()
        store.save([Save(session("a"))])
        assert store.load("s") == session("a")
