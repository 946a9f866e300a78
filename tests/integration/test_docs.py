"""What the documentation shows runs, what it names exists, and what exists is named where it promises to list it all.

The Python blocks of a page run in order, in one namespace. Where they ask OpenAI, a server on loopback answers.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import allm_actors as allm
from allm_actors.cli.arguments import parse
from allm_actors.data import EVENTS, AllmError
from allm_actors.data.services.speech import SPEECH_EVENTS
from allm_actors.data.services.transcription import TRANSCRIPTION_EVENTS
from allm_actors.engine import places
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.engine.retry import RetryPolicy
from allm_actors.testing.loopback import LoopbackServer
from tests.integration.obliging import answer

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "examples/README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "decisions" not in path.parts),
]
OTHER_PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "benchmarks/README.md"]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
ANY_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`((?:allm_actors|supervisors|tests|docs|examples|benchmarks)/[\w./-]*)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
TO_HEADING = re.compile(r"\]\(([^)\s]*#[^)\s]+)\)")


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT).with_suffix(""))


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.endswith("_API_KEY") or name.startswith("ALLM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    with LoopbackServer(answer) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "no-key-of-anybody")
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        yield


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize("page", [page for page in PAGES if BLOCK.search(page.read_text())], ids=page_id)
def test_the_code_of_the_page_runs(page: Path) -> None:
    run(page)


def blocks(page: Path, language: str) -> list[str]:
    return [text for said, text in ANY_BLOCK.findall(page.read_text()) if said == language]


def run(page: Path) -> None:
    text = page.read_text()
    namespace: dict[str, object] = {"__name__": "a_page"}
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_the_links_of_the_page_lead_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES], ids=page_id)
def test_the_headings_that_the_page_links_to_are_there(page: Path) -> None:
    links = [link.partition("#") for link in TO_HEADING.findall(page.read_text()) if "://" not in link]
    assert [
        path + "#" + heading
        for path, _, heading in links
        if path.endswith(".md") or not path
        if heading not in headings(page.parent / path if path else page)
    ] == []


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as the site and forges make them."""
    titles = re.findall(r"^#+ (.+)$", ANY_BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES], ids=page_id)
def test_the_files_that_the_page_names_are_there(page: Path) -> None:
    named = set(FILE.findall(ANY_BLOCK.sub("", page.read_text())))
    assert [place for place in sorted(named) if not (ROOT / place).exists()] == []


def test_every_page_can_be_reached_from_the_index() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        links = [page.parent / link for link in LINK.findall(page.read_text()) if link.endswith(".md")]
        waiting += [link.resolve() for link in links if "://" not in str(link) and link.resolve() not in seen]
    assert names([page for page in PAGES if page not in seen]) == []


@pytest.mark.usefixtures("provider")
def test_the_design_shows_the_tree_that_its_code_draws(capsys: pytest.CaptureFixture[str]) -> None:
    page = ROOT / "docs/design.md"
    run(page)
    drawn = re.sub(r"#\d+", "#", capsys.readouterr().out)
    shown = [re.sub(r"#\d+", "#", text) for text in blocks(page, "text")]
    assert shown == [drawn]


@pytest.mark.parametrize("page", ["README.md", "docs/design.md"])
def test_the_tree_of_the_page_has_the_names_of_the_one_that_runs(page: str) -> None:
    sketch = next(block for block in blocks(ROOT / page, "") if block.startswith("host"))
    with allm.Host() as host:
        running = re.findall(r"^(\W*)(?:.*: )?\w+#\d+ '(\w+)'", host.tree(), re.MULTILINE)
    shown = re.findall(r"^(\W*)(\w+)", sketch, re.MULTILINE)
    assert [(len(indent) // 4, name) for indent, name in shown] == [
        (len(indent.rstrip("'")) // 3, name) for indent, name in running
    ]


def words_of(page: str) -> str:
    return (ROOT / "docs/reference" / page).read_text()


def missing(page: str, wanted: list[str]) -> list[str]:
    text = words_of(page)
    return [name for name in wanted if f"`{name}`" not in text]


def test_the_reference_lists_every_option() -> None:
    refused = {"response_model", "max_retries", "when_busy"}
    assert missing("options.md", sorted(places.KNOWN - refused)) == []
    assert missing("options.md", list(RetryPolicy.__dataclass_fields__)) == []


def test_the_reference_lists_every_slot() -> None:
    slots = [slot for row in CAPABILITIES.values() for slot in (row.slot, row.model_slot)]
    assert missing("options.md", slots) == []


def test_the_reference_lists_every_event_and_its_fields() -> None:
    for event in (*EVENTS, *SPEECH_EVENTS, *TRANSCRIPTION_EVENTS):
        assert missing("events.md", [event.__name__, event.tag, *event.__struct_fields__]) == []


def test_the_reference_lists_every_error_and_its_reasons() -> None:
    errors = [value for name in allm.__all__ if isinstance(value := getattr(allm, name), type)]
    for error in [each for each in errors if issubclass(each, AllmError)]:
        assert missing("errors.md", [error.__name__, *error.reasons, *error.fields]) == []


@pytest.mark.parametrize("command", ["chat", "run", "sessions", "providers"])
def test_the_reference_lists_every_option_of_the_command(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse([command, "--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out.partition("examples:")[0])) - {"--help"}
    text = words_of("cli.md")
    assert f"## `allm {command}`" in text
    assert [option for option in sorted(options) if f"`{option}" not in text] == []
