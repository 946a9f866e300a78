"""The site has every page there is, in a place of its own, and its links lead to pages.

What is asked here is `docs/site/book.py`, which decides all that and needs no MkDocs; `make docs` builds it, strictly.
"""

import importlib.util
import posixpath
from pathlib import Path
from types import ModuleType

import pytest

import allm_actors
import supervisors

ROOT = Path(__file__).parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("book", ROOT / "docs/site/book.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BOOK = load()


def places(nav: list) -> list[str]:
    inside = [next(iter(entry.values())) for entry in nav]
    return [place for each in inside for place in ([each] if isinstance(each, str) else each)]


def test_every_page_and_every_example_has_one_place() -> None:
    found = places(BOOK.nav())
    assert len(found) == len(set(found))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    examples = {path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").glob("*.py")}
    assert pages - set(found) == set()
    assert {str(Path(path).with_suffix(".md")) for path in examples} - set(found) == set()


def test_pages_are_in_the_order_in_which_the_index_names_them() -> None:
    found = places(BOOK.nav())
    assert (
        found.index("guides/streaming.md")
        < found.index("guides/tools.md")
        < found.index("guides/sessions.md")
    )
    assert found.index("decisions/README.md") < found.index("decisions/0001-flat-layout.md")


@pytest.mark.parametrize("place", sorted(BOOK.written()))
def test_the_links_of_a_page_lead_to_pages_of_the_site(place: str) -> None:
    source = BOOK.written()[place]
    text = BOOK.FENCE.sub("", BOOK.on_site(source.read_text(), source, place))
    goals = [goal for _, goal, _ in BOOK.LINK.findall(text) if goal and "://" not in goal]
    known = {*BOOK.written(), *BOOK.programs()}
    assert {
        posixpath.normpath(posixpath.join(posixpath.dirname(place), goal)) for goal in goals
    } - known == set()


def test_a_link_to_what_is_not_on_the_site_keeps_its_words() -> None:
    source = ROOT / "docs/supervisors/coming-from-pykka.md"
    text = "[are listed](../../tests/conformance/pykka_runtime.py), [kill](what-kill-means.md#x), [me](#here)"
    shown = "are listed, [kill](what-kill-means.md#x), [me](#here)"
    assert BOOK.on_site(text, source, "supervisors/coming-from-pykka.md") == shown


def test_code_is_left_alone() -> None:
    text = "```python\nrows[0](one/two.md)\n```\n"
    assert BOOK.on_site(text, ROOT / "docs/index.md", "index.md") == text


@pytest.mark.parametrize("package", [allm_actors, supervisors], ids=lambda package: package.__name__)
def test_the_api_pages_have_every_promised_name(package: ModuleType) -> None:
    shown = {
        line.rpartition(".")[2]
        for name in BOOK.PACKAGES
        for line in BOOK.api_page(name).splitlines()
        if ":::" in line
    }
    modules = {name for name in package.__all__ if isinstance(getattr(package, name), ModuleType)}
    assert set(package.__all__) - modules - shown == set()


def test_language_models_get_a_list_of_all_pages() -> None:
    texts = {place: source.read_text() for place, source in BOOK.written().items()}
    listed = BOOK.llms_txt(texts)
    assert listed.startswith("# allm-actors\n\n> Ask language models")
    assert [place for place in texts if f"]({place})" not in listed] == ["index.md"]
