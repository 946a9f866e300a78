"""Tools are found in files and modules, and what is wrong with a place is said with its name."""

import sys
from pathlib import Path

import pytest

from allm_actors.cli.toolbox import load_tools
from allm_actors.cli.trouble import Misuse
from allm_actors.engine.adapter import ToolContext
from allm_actors.engine.isolated import IsolatedCall

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


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool file leaves its folder on the path."""
    monkeypatch.setattr(sys, "path", list(sys.path))


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


def test_a_file_may_import_what_is_beside_it_also_when_a_tool_is_called(
    tmp_path: Path,
) -> None:
    (tmp_path / "beside_of_a_test.py").write_text(SOURCE)
    (tmp_path / "late_of_a_test.py").write_text("number = 7")
    path = tmp_path / "imports_of_a_test.py"
    path.write_text(
        "import allm_actors as allm\nfrom beside_of_a_test import one\n"
        "@allm.tool\ndef late() -> int:\n    'Late.'\n    from late_of_a_test import number\n    return number\n"
    )
    one, late = load_tools([str(path)])
    assert (one.name, late()) == ("one", 7)


def test_a_file_with_isolated_tools_may_be_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "isolated_of_a_test.py").write_text(
        f"{SOURCE}\nisolated = allm.tool(name='isolated', isolation='process')(plain)"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "isolated_of_a_test", raising=False)
    (isolated,) = load_tools(["isolated_of_a_test.py:isolated"])
    context = ToolContext(context={}, tool_call=None)
    assert IsolatedCall(isolated, {"n": 3}, context).run() == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("partial_of_a_test.py", "'iso': isolation='process' imports the function"),
        (
            "json.py",
            "a new one would find another module 'json'.* the folder of .*json.py on PYTHONPATH, and",
        ),
    ],
)
def test_an_isolated_tool_that_cannot_be_imported_is_refused_with_its_place(
    tmp_path: Path, name: str, words: str
) -> None:
    made = "partial(plain)" if name.startswith("partial") else "plain"
    path = tmp_path / name
    path.write_text(
        f"{SOURCE}\nfrom functools import partial\niso = allm.tool(name='iso', isolation='process')({made})"
    )
    with pytest.raises(Misuse, match=f"{name}: tool .*{words}"):
        load_tools([str(path)])


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
        ("~nobody_at_all/kit.py", "no file ~nobody_at_all/kit.py"),
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
