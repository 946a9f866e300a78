"""Tools are found in files and modules, and what is wrong with a place is said with its name."""

import sys
from pathlib import Path

import pytest

from allm_actors.cli.toolbox import load_tools
from allm_actors.cli.trouble import Misuse

SOURCE = '''
from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import allm_actors as allm

@allm.tool
def one(city: str) -> str:
    """The first."""
    return city

@allm.tool
def two() -> str:
    """The second."""
    return "2"

def plain(n: int) -> int:
    """Not decorated."""
    return n

@dataclass
class Kept:
    _: KW_ONLY
    city: str = ""

both = [two, one]
mixed = [one, plain]
none = []
number = 3
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kit_of_a_test.py"
    path.write_text(SOURCE)
    return path


def names(*places: str) -> list[str]:
    return [tool.name for tool in load_tools(places)]


def test_a_file_gives_all_its_tools_in_order(file: Path) -> None:
    assert names(str(file)) == ["one", "two"]


def test_a_name_gives_a_tool_a_list_or_a_plain_function(file: Path) -> None:
    assert names(f"{file}:two") == ["two"]
    assert names(f"{file}:both") == ["two", "one"]
    assert names(f"{file}:plain") == ["plain"]


def test_a_tool_that_two_places_share_is_taken_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(file.parent))
    assert names(f"{file.stem}:two", file.stem, f"{file.stem}:both") == ["two", "one"]


def test_a_file_may_be_at_home_and_may_have_a_colon_in_its_name(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = file.parent
    monkeypatch.setenv("HOME", str(home))
    assert names(f"~/{file.name}") == ["one", "two"]
    odd = file.rename(home / "a:b.py")
    assert names(str(odd)) == ["one", "two"]
    assert names(f"{odd}:two") == ["two"]


def test_a_file_without_the_suffix_is_no_module_of_that_name(file: Path) -> None:
    bare = file.rename(file.with_suffix(""))
    with pytest.raises(Misuse, match="is not a Python file"):
        load_tools([str(bare)])


def test_a_file_may_import_what_is_beside_it_and_leaves_no_path_behind(tmp_path: Path) -> None:
    (tmp_path / "beside_of_a_test.py").write_text(SOURCE)
    path = tmp_path / "imports_of_a_test.py"
    path.write_text("from beside_of_a_test import one")
    before = list(sys.path)
    assert names(str(path)) == ["one"]
    path.write_text("1 / 0")
    with pytest.raises(Misuse):
        load_tools([str(path)])
    assert sys.path == before


def test_a_module_of_the_working_directory_is_found(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.chdir(file.parent)
    monkeypatch.delitem(sys.modules, file.stem, raising=False)
    assert names(f"{file.stem}:one") == ["one"]


def test_a_module_is_found_by_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(file.parent))
    assert names(f"{file.stem}:one") == ["one"]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("{file}:three", "no 'three'; it has: one, two"),
        ("{file}:number", "int, not a tool"),
        ("{file}:none", "list, not a tool"),
        ("{file}:mixed", "list, not a tool"),
        ("{file}:Kept", "type, not a tool"),
        ("json:nothing", "no 'nothing'; it has: no tools"),
        ("nowhere.py", "no file nowhere.py"),
        ("no_such_module_at_all", "cannot be loaded: ModuleNotFoundError"),
        ("json", "has no tools"),
    ],
)
def test_a_place_that_cannot_be_used_is_named(file: Path, place: str, words: str) -> None:
    with pytest.raises(Misuse, match=words):
        load_tools([place.format(file=file)])


@pytest.mark.parametrize(
    ("source", "words"),
    [("1 / 0", "ZeroDivisionError: division by zero"), ("raise SystemExit('no')", "SystemExit: no")],
)
def test_what_a_file_raises_is_part_of_the_line(tmp_path: Path, source: str, words: str) -> None:
    path = tmp_path / "broken_of_a_test.py"
    path.write_text(source)
    with pytest.raises(Misuse, match=words):
        load_tools([str(path)])
