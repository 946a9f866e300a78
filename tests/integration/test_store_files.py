"""The files of a store in use: what is taken away from it is noticed, and what SQLite itself does is not; and what
happens while somebody else has them locked.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import allm_actors as allm
from allm_actors.actors.store import Save, SQLiteStore
from allm_actors.data import Session, Thread
from allm_actors.testing import script

SOON = 60
ANOTHER = """
import sys
from allm_actors.actors.store import Save, SQLiteStore
from allm_actors import Session, Thread, user
store, said = SQLiteStore(sys.argv[1], patience=30), {}
for line in sys.stdin:
    what, *words = line.split()
    try:
        if what == "save":
            mine = said.setdefault(words[0], [])
            mine.extend(user(text) for text in words[1:])
            store.save([Save(Session(id=words[0], thread=Thread.from_messages(mine)))])
        elif what == "often":
            for n in range(int(words[1])):
                store.open()
                for _ in range(1 + n % 3):
                    mine = said.setdefault(words[0], [])
                    mine.append(user("x" * 3000))
                    store.load(words[0])
                    store.save([Save(Session(id=words[0], thread=Thread.from_messages(mine)))])
                    store.load(words[0])
                store.close()
        else:
            getattr(store, what)()
        print("done", flush=True)
    except Exception as error:
        print(repr(error), flush=True)
"""


class Another:
    """A second process with a store on the file, which does what it is told."""

    def __init__(self, path: Path, code: str = ANOTHER) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=pipe, stdout=pipe, text=True
        )

    def begin(self, what: str) -> None:
        """Have it do this."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()

    def end(self) -> str:
        """What came of it."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def does(self, *what: str) -> None:
        """Do these, one after the other."""
        for each in what:
            self.begin(each)
            assert self.end() == "done"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.db"


@pytest.fixture
def another(path: Path) -> Iterator[Another]:
    another = Another(path)
    yield another
    another.process.communicate(timeout=SOON)


def session(id: str, *texts: str) -> Session:
    return Session(id=id, thread=Thread.from_messages([allm.user(text) for text in texts]))


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def stored(path: Path) -> dict[str, int]:
    """How many messages each session has, for who opens the file now."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return dict(db.execute("SELECT session, count(*) FROM messages GROUP BY session"))


def refused(store: SQLiteStore, id: str = "a") -> str:
    """What it says to whoever uses it, however."""
    said = set()
    for use in (lambda: store.save([Save(session(id, "x"))]), lambda: store.load(id), store.ids):
        with pytest.raises(allm.StoreError) as error:
            use()
        assert (error.value.reason, error.value.path) == ("unavailable", store.path)
        said.add(str(error.value))
    (text,) = said
    return text


GONE = [("-wal",), ("-shm",), ("-wal", "-shm")]


@pytest.mark.parametrize("gone", GONE, ids="".join)
def test_a_file_that_has_lost_one_beside_it_is_refused_and_has_all_that_was_stored(
    path: Path, another: Another, gone: tuple[str, ...]
) -> None:
    store = SQLiteStore(path)
    store.open()
    store.save([Save(session("a", "1", "2"))])
    for suffix in gone:
        beside(path, suffix).unlink()
    assert f"has lost s.db{gone[0]}, removed or replaced while it was in use; restart the host" in refused(
        store
    )
    assert "has lost" in refused(store, "b")
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as db:
        assert db.execute("SELECT count(*) FROM messages").fetchone() == (2,), "as who kills it now finds it"
    store.close()
    assert list(path.parent.iterdir()) == [path]
    store.open()
    store.save([Save(session("b", "1"))])
    another.does("open", "save c 1", "close")
    assert store.ids() == ["a", "b", "c"]
    store.close()
    assert stored(path) == {"a": 2, "b": 1, "c": 1}


LOSES = """
import os, sys
import allm_actors as allm
from allm_actors.testing import script
says = allm.Engine(adapter="fake", adapter_opts={"scripts": [[script.text("a"), script.finish("stop")]] * 9})
chat = allm.Host(store=sys.argv[1]).start().session("a", says)
chat.reply("1").result()
os.unlink(sys.argv[1] + "-wal")
for n in range(8):
    try:
        chat.reply("2").result()
    except allm.StoreError as error:
        os.write(1, error.reason.encode())
        break
os.kill(os.getpid(), 9)
"""


def test_what_a_host_has_said_to_be_stored_is_after_it_has_lost_its_log(path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", LOSES, str(path)], check=False, capture_output=True, timeout=SOON
    )
    assert (child.stdout, child.returncode) == (b"unavailable", -signal.SIGKILL)
    assert stored(path) == {"a": 2}


OVERTAKEN = """
import sys
from allm_actors.actors.store import Save, SQLiteStore
from allm_actors import Session, StoreError, Thread, user
store = SQLiteStore(sys.argv[1])
store.open()
store.save([Save(Session(id="a", thread=Thread.from_messages([user("1"), user("2")])))])
print("ready", flush=True)
sys.stdin.readline()
for use in (lambda: store.load("a"), store.close, store.open, SQLiteStore(sys.argv[1]).open):
    try:
        use()
        print("done", flush=True)
    except StoreError as error:
        print(error.reason, "end the process" in str(error), flush=True)
"""


@pytest.mark.parametrize("gone", GONE[1:], ids="".join)
def test_what_another_process_has_stored_meanwhile_is_left_alone(
    path: Path, another: Another, gone: tuple[str, ...]
) -> None:
    pipe = subprocess.PIPE
    loser = subprocess.Popen([sys.executable, "-c", OVERTAKEN, str(path)], stdin=pipe, stdout=pipe, text=True)
    assert loser.stdout is not None
    assert loser.stdout.readline() == "ready\n"
    for suffix in gone:
        beside(path, suffix).unlink()
    another.does("open", *(f"save b {n}" for n in range(5)), "close")
    told, _ = loser.communicate("\n", timeout=SOON)
    assert told.split("\n")[:-1] == ["unavailable False", "done", "unavailable True", "unavailable True"]
    assert stored(path)["b"] == 5
    if gone == ("-shm",):
        assert stored(path)["a"] == 2


def test_one_beside_it_that_is_put_back_is_no_trouble(path: Path) -> None:
    with contextlib.closing(SQLiteStore(path)) as store:
        store.open()
        store.save([Save(session("a", "1"))])
        log, away = beside(path, "-wal"), beside(path, "-away")
        log.rename(away)
        assert "has lost s.db-wal" in refused(store)
        away.rename(log)
        store.save([Save(session("a", "1", "2"))])
    assert stored(path) == {"a": 2}


def test_another_host_of_the_process_must_let_go_first(path: Path) -> None:
    one, two = SQLiteStore(path), SQLiteStore(path)
    for store in (one, two):
        store.open()
    one.save([Save(session("a", "1"))])
    beside(path, "-wal").unlink()
    refused(one)
    one.close()
    with pytest.raises(allm.StoreError, match=r"still open in this process.* stop all hosts that use it"):
        one.open()
    two.close()
    one.open()
    assert one.ids() == ["a"]
    one.close()


def test_the_files_of_a_symbolic_link_are_where_it_leads_to(path: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    path.symlink_to(tmp_path / "there" / "real.db")
    with contextlib.closing(SQLiteStore(path)) as store:
        store.open()
        store.save([Save(session("a", "1"))])
        assert store.ids() == ["a"]
        beside(tmp_path / "there" / "real.db", "-wal").unlink()
        assert "has lost real.db-wal" in refused(store)


@pytest.mark.parametrize("size", [0, 100, 4096])
def test_a_file_that_is_cut_short_is_refused(path: Path, size: int) -> None:
    with contextlib.closing(SQLiteStore(path)) as store:
        store.open()
        store.save([Save(session("a", *("x" * 500 for _ in range(50))))])
        store.close()
        store.open()
        os.truncate(path, size)
        assert "was truncated while it was in use" in refused(store)
        assert "was truncated while it was in use" in refused(store, "b")


def test_a_file_that_has_become_smaller_by_a_vacuum_is_not_cut_short(path: Path) -> None:
    with contextlib.closing(SQLiteStore(path)) as store:
        store.open()
        for _ in range(2):
            store.save([Save(session("a", *("x" * 500 for _ in range(500))))])
            store.delete("a")
            store.close()
            store.open()
            before = path.stat().st_size
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
                db.execute("VACUUM")
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            assert path.stat().st_size < before / 4
            store.load("b")
            store.save([Save(session("b", "1"))])
        assert store.ids() == ["b"]


def test_hosts_may_open_and_close_the_file_of_others_as_they_like(path: Path) -> None:
    """Whoever closes it last removes what is beside it, and who opens it next makes them anew."""
    with contextlib.ExitStack() as running:
        others = [Another(path) for _ in range(3)]
        for other in others:
            running.callback(other.process.communicate, timeout=SOON)
        for other, name in zip(others, "abc", strict=True):
            other.begin(f"often {name} 60")
        store = SQLiteStore(path, patience=30)
        for n in range(40):
            store.open()
            store.load("d")
            for _ in range(5):
                store.save([Save(session("d", *(["x"] * (1 + n))))])
            store.close()
        assert [other.end() for other in others] == ["done"] * 3
    assert stored(path) == {"a": 120, "b": 120, "c": 120, "d": 40}


def test_a_log_that_is_folded_and_begun_anew_is_the_same_one(path: Path, another: Another) -> None:
    with contextlib.closing(SQLiteStore(path, patience=30)) as store:
        store.open()
        another.begin("often a 120")
        for _ in range(60):  # each some 40 pages: SQLite folds the log when it has 1,000
            store.save([Save(session("b", *("x" * 3000 for _ in range(40))))])
        assert another.end() == "done"
        for mode in ("PASSIVE", "RESTART", "TRUNCATE"):
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
                db.execute(f"PRAGMA wal_checkpoint({mode})")
            store.save([Save(session("b", *("x" * 3000 for _ in range(40))))])
    assert stored(path) == {"a": 240, "b": 40}


LOCKS = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.stdin:
    db.execute("BEGIN EXCLUSIVE" if line == "lock\\n" else "ROLLBACK")
    print("done", flush=True)
"""
SAYS = [script.text("Hello."), script.finish("stop")]


@pytest.fixture
def locker(path: Path) -> Iterator[Another]:
    """Somebody who locks the file, and unlocks it."""
    locker = Another(path, LOCKS)
    yield locker
    locker.process.communicate(timeout=SOON)


@pytest.mark.parametrize("fresh", [False, True])
def test_all_who_wait_for_a_locked_file_are_told_within_one_patience(
    path: Path, locker: Another, fresh: bool
) -> None:
    engine = allm.Engine(adapter="fake", adapter_opts={"scripts": [SAYS] * 99})
    patience, took = 1.0, list[float]()

    def say(name: str) -> None:
        began = time.monotonic()
        with pytest.raises(allm.StoreError) as refused:
            host.session(name, engine).reply("more")
        assert refused.value.reason == "locked"
        took.append(time.monotonic() - began)

    with allm.Host(store=SQLiteStore(path, patience=patience)) as host:
        names = [f"s{number}" for number in range(12)]
        for name in names:
            chat = host.session(name, engine)
            chat.reply("Hi").result()
            if fresh:
                chat.stop()
        locker.does("lock")
        threads = [threading.Thread(target=say, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        assert host.session_ids() == sorted(names)
        for thread in threads:
            thread.join(SOON)
        assert len(took) == len(names)
        assert max(took) < 4 * patience, "and not one after the other"
        locker.does("unlock")
        for name in names:
            assert host.session(name, engine).reply("more").result().halted_reason == "completed"


def test_who_comes_after_a_wait_in_vain_waits_for_long_only_when_something_was_stored_since(
    path: Path, locker: Another
) -> None:
    with contextlib.closing(SQLiteStore(path, patience=0.3)) as store:
        store.open()

        def waits() -> int:
            """What SQLite does, in milliseconds."""
            assert store._database._db is not None
            return int(store._database._db.execute("PRAGMA busy_timeout").fetchone()[0])

        for _ in range(2):
            assert waits() == 300
            locker.does("lock")
            for _ in range(3):
                with pytest.raises(allm.StoreError, match="is locked by another process"):
                    store.save([Save(session("a", "1"))])
                assert store.ids() == []
            assert waits() == 100
            locker.does("unlock")
            store.save([Save(session("a", "1"))])
            store.delete("a")
        locker.does("lock")
        with pytest.raises(allm.StoreError, match="is locked by another process"):
            store.save([Save(session("a", "1"))])
        locker.does("unlock")
        store.open()
        assert waits() == 300


NO_FILES = """
import os, resource, sys
from allm_actors.actors.store import SQLiteStore
from allm_actors.data import StoreError
left, path = int(sys.argv[1]), sys.argv[2]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True:
        taken.append(os.dup(1))
except OSError:
    for _ in range(left):
        os.close(taken.pop())
try:
    SQLiteStore(path).open()
    print("opened")
except StoreError as error:
    print(error.reason, error)
"""


@pytest.mark.parametrize("left", [0, 1, 2])
def test_who_may_open_no_more_files_is_told_so(path: Path, left: int) -> None:
    pytest.importorskip("resource")
    with contextlib.closing(SQLiteStore(path)) as store:
        store.open()
    told = subprocess.run(
        [sys.executable, "-c", NO_FILES, str(left), str(path)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    assert told.startswith("unavailable")
    assert "Too many open files; raise the limit of open files (`ulimit -n`)" in told
    assert "folder" not in told


def in_a_folder_that_cannot_be_written(path: Path, read: Callable[[], object]) -> str:
    """What comes of it, in a process that is not root's."""
    heard, tells = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            if os.geteuid() == 0:
                os.setuid(65534)
            try:
                text = repr(read())
            except allm.StoreError as error:
                text = str(error)
            os.write(tells, text.encode())
        os._exit(0)
    os.close(tells)
    with os.fdopen(heard, encoding="utf-8") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that others may look into, and nobody but us may change."""
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork here")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield folder
        folder.chmod(0o700)


def shut(folder: Path) -> None:
    """Let nobody write there."""
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)


def test_a_store_for_reading_reads_a_file_that_is_at_rest_in_a_folder_that_cannot_be_written(
    folder: Path,
) -> None:
    path = folder / "100% ours?.db"
    with contextlib.closing(SQLiteStore(path)) as store:
        store.open()
        store.save([Save(session("a", "1"))])
    shut(folder)

    def read() -> object:
        with contextlib.closing(SQLiteStore(path, read_only=True)) as store:
            store.open()
            return store.ids(), store.load("a") == session("a", "1"), [each.name for each in folder.iterdir()]

    told = in_a_folder_that_cannot_be_written(path, read)
    assert told == "(['a'], True, ['100% ours?.db'])"


def test_a_store_for_reading_does_not_read_past_a_log(folder: Path) -> None:
    path = folder / "s.db"

    def read() -> object:
        with contextlib.closing(SQLiteStore(path, read_only=True)) as store:
            store.open()
            return store.ids()

    with contextlib.closing(SQLiteStore(path)) as store:
        store.open()
        store.save([Save(session("a", "1"))])
        for suffix in ("", "-wal"):
            (folder / f"copy.db{suffix}").write_bytes(beside(path, suffix).read_bytes())
    path = folder / "copy.db"
    shut(folder)
    assert "unable to open" in in_a_folder_that_cannot_be_written(path, read)


def test_a_store_for_reading_stops_when_somebody_writes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(SQLiteStore(path)) as store:
        store.open()
        store.save([Save(session("a", "1"))])
    monkeypatch.setattr(os, "access", lambda *_: False)
    with contextlib.closing(SQLiteStore(path, read_only=True)) as reader:
        reader.open()
        assert reader.ids() == ["a"]
        monkeypatch.undo()
        with contextlib.closing(SQLiteStore(path)) as store:
            store.open()
            store.save([Save(session("b", "1"))])
            with pytest.raises(allm.StoreError, match="was opened by another process while it was read"):
                reader.ids()
            reader.open()
            assert reader.ids() == ["a", "b"]


def test_a_store_for_reading_notices_that_somebody_has_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(SQLiteStore(path)) as store:
        store.open()
        store.save([Save(session("a", "1"))])
        store.close()
        monkeypatch.setattr(os, "access", lambda *_: False)
        with contextlib.closing(SQLiteStore(path, read_only=True)) as reader:
            reader.open()
            monkeypatch.undo()
            store.open()
            store.save([Save(session("b", "1"))])
            store.close()
            with pytest.raises(allm.StoreError, match="was opened by another process while it was read"):
                reader.load("a")
