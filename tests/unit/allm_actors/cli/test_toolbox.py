"""Tools are found in files and modules, and what is wrong with a place is said with its name."""

from pathlib import Path

import pytest

from allm_actors.cli.toolbox import load_tools
from allm_actors.cli.trouble import Misuse

SOURCE = '''
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

both = [two, one]
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


def test_a_module_is_found_by_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(file.parent))
    assert names(f"{file.stem}:one") == ["one"]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("{file}:three", "no 'three'; it has: one, two"),
        ("{file}:number", "int, not a tool"),
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
