"""`allm sessions`, `allm providers`, and how little `allm --help` costs."""

import os
import pty
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import allm_actors
from allm_actors.cli import main
from allm_actors.engine import adapters

Call = Callable[..., tuple[int, str, str]]


def test_sessions_are_listed_by_name(allm: Call, options: list[str], home: Path) -> None:
    store = ("--store", str(home / "s.db"))
    for name in ("b", "a"):
        assert allm("run", "hi", "--session", name, *store, *options)[0] == 0
    assert allm("sessions", *store) == (0, "a\nb\n", "")
    assert allm("sessions", "--long", *store)[1].splitlines()[0] == "a  completed  2 messages  1 heard: hi"


def test_the_home_of_nobody_is_a_folder_like_any_other(allm: Call) -> None:
    store = ("--store", "~nobody_at_all/s.db")
    assert allm("sessions", *store) == (2, "", "allm: there is no store at ~nobody_at_all/s.db\n")


def test_a_person_without_a_home_is_told_what_to_set(allm: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "~")
    code, _, err = allm("sessions")
    assert (code, err) == (
        2,
        "allm: there is no home folder to keep files in: set HOME or XDG_DATA_HOME\n",
    )


@pytest.mark.parametrize("long", [(), ("--long",)])
def test_a_name_moves_no_cursor(allm: Call, options: list[str], home: Path, long: tuple[str, ...]) -> None:
    store = ("--store", str(home / "s.db"))
    assert allm("run", "hi", "--session", "a\x1b[2J\nb", *store, *options)[0] == 0
    assert allm("sessions", *store, *long)[1].startswith("a\x1b[2J\nb")  # for a program
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "allm_actors", "sessions", *store, *long]
    try:
        subprocess.run(command, stdout=slave, check=True, timeout=45)
        assert os.read(master, 4096).startswith("a␛[2J␊b".encode())
    finally:
        os.close(master)
        os.close(slave)


def test_a_store_that_is_not_there_is_not_made(allm: Call, home: Path) -> None:
    code, out, err = allm("sessions", "--store", str(home / "none.db"))
    assert (code, out, err) == (2, "", f"allm: there is no store at {home / 'none.db'}\n")
    assert not (home / "none.db").exists()
    code, out, err = allm("sessions")  # of the default store, which nobody has named, there need not be one
    assert (code, out) == (0, "")
    assert "no sessions" in err
    assert not (home / "data").exists()


def test_a_session_that_is_damaged_hides_no_other(allm: Call, options: list[str], home: Path) -> None:
    path = home / "s.db"
    for name in ("a", "b", "c"):
        assert allm("run", "hi", "--session", name, "--store", str(path), *options)[0] == 0
    with sqlite3.connect(path) as db:
        db.execute("UPDATE sessions SET header = x'c1c1' WHERE id = 'b'")
    db.close()
    code, out, err = allm("sessions", "--long", "--store", str(path))
    assert code == 1
    assert [line.split("  ")[:2] for line in out.splitlines()] == [
        ["a", "completed"],
        ["b", "corrupt"],
        ["c", "completed"],
    ]
    assert err.startswith(f"allm: the session store {path} holds a session 'b' that cannot be decoded")
    assert err.count("\n") == 1
    assert allm("sessions", "--store", str(path)) == (0, "a\nb\nc\n", "")


def test_a_session_that_only_another_program_can_read_hides_no_other(
    allm: Call, options: list[str], home: Path
) -> None:
    path = home / "s.db"
    for name in ("a", "b"):
        assert allm("run", "hi", "--session", name, "--store", str(path), *options)[0] == 0
    with sqlite3.connect(path) as db:
        db.execute("UPDATE sessions SET header = x'9263c0' WHERE id = 'a'")
    db.close()
    code, out, err = allm("sessions", "--long", "--store", str(path))
    assert code == 1
    assert [line.split("  ")[:2] for line in out.splitlines()] == [["a", "newer_schema"], ["b", "completed"]]
    assert "upgrade" in err


def test_listing_an_empty_file_leaves_it_empty(allm: Call, home: Path) -> None:
    path = home / "a #?%20.db"
    path.touch()
    assert allm("sessions", "--long", "--store", str(path)) == (0, "", f"no sessions in {path}\n")
    assert path.read_bytes() == b""
    assert [each.name for each in home.glob("a *")] == [path.name]


def test_listing_an_older_store_does_not_upgrade_it(allm: Call, options: list[str], home: Path) -> None:
    path = home / "s.db"
    assert allm("run", "hi", "--session", "a", "--store", str(path), *options)[0] == 0
    with sqlite3.connect(path) as db:  # what the first version had
        db.executescript(
            "ALTER TABLE messages RENAME TO now; CREATE TABLE messages (session TEXT NOT NULL, seq INTEGER NOT NULL,"
            "body BLOB NOT NULL, PRIMARY KEY (session, seq)) WITHOUT ROWID; INSERT INTO messages SELECT * FROM now;"
            "DROP TABLE now; PRAGMA user_version = 1"
        )
    db.close()
    before = path.read_bytes()
    assert allm("sessions", "--long", "--store", str(path)) == (
        0,
        "a  completed  2 messages  1 heard: hi\n",
        "",
    )
    assert path.read_bytes() == before
    assert sorted(each.name for each in home.glob("s.db*")) == ["s.db"]


def test_providers_say_whether_a_key_is_set_and_never_the_key(
    allm: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "gsk-secret")
    code, out, err = allm("providers")
    assert (code, err) == (0, "")
    assert "secret" not in out
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert "GROQ_API_KEY" in rows["groq"]
    assert "not set" not in rows["groq"]
    assert "not set" in rows["openai"]
    assert "optional" in rows["openai-compatible"]


def test_providers_of_other_packages_that_cannot_be_asked_are_told_of(
    allm: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = {
        "broken": EntryPoint("broken", "no_such_package:Adapter", adapters.GROUP),
        "odd": EntryPoint("odd", "builtins:object", adapters.GROUP),
        "good": EntryPoint("good", "allm_actors.engine.fake:FakeAdapter", adapters.GROUP),
        "openai": EntryPoint("openai", "mine:Adapter", adapters.GROUP),
    }
    monkeypatch.setattr(adapters, "_installed", lambda group: points if group == adapters.GROUP else {})
    code, out, err = allm("providers")
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0
    assert "broken" in rows["broken"].removeprefix("broken")
    assert "broken" in rows["odd"]
    assert "broken" not in rows["good"] + rows["openai"]
    assert "'no_such_package:Adapter' cannot be used: ModuleNotFoundError" in err
    assert "'builtins:object' cannot be used" in err
    assert (
        "the entry point 'mine:Adapter' of allm_actors.adapters is ignored: 'openai' is a name of this" in err
    )
    assert err.count("allm: ") == err.count("\n") == 3


def test_a_misspelt_option_names_the_nearest(allm: Call) -> None:
    code, _, err = allm("run", "hi", "--timout", "3")
    assert code == 2
    assert err.rstrip().endswith("unrecognized arguments: --timout 3; did you mean --timeout?")
    assert "did you mean" not in allm("sessions", "--zzz")[2]
    assert "did you mean --base-url?" in allm("chat", "--baseurl=x")[2]


def test_the_version_is_that_of_the_library(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"allm {allm_actors.__version__}\n"


def test_help_loads_nothing_but_argparse() -> None:
    code = (
        "import sys; from allm_actors.cli import main; main(['--help']);"
        "heavy = {'msgspec', 'httpx', 'pykka', 'structlog', 'supervisors', 'asyncio', 'sqlite3'};"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_help_can_be_printed_where_only_ascii_can() -> None:
    command = [sys.executable, "-m", "allm_actors", "chat", "--help"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Ctrl-C stops an answer" in done.stdout
