"""What is on the site, and in which order.

Rule of this file: nothing is listed twice. A page's place is where `index.md` links to it, the examples are the files
in `examples/`, the API is what the packages promise in `__all__`. It knows nothing of MkDocs, so the tests can ask it.
"""

from __future__ import annotations

import ast
import importlib
import posixpath
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CHAPTERS = {
    "Tutorial": ("tutorial/",),
    "Guides": ("guides/",),
    "Reference": ("reference/", "api/"),
    "supervisors": ("supervisors/",),
    "Examples": ("examples/",),
    "Design": ("design.md", "decisions/", "changelog.md"),
}
PACKAGES = ("allm_actors", "allm_actors.data", "allm_actors.testing", "supervisors")
FIRST = ("allm_actors.facade", "allm_actors.engine", "allm_actors.actors", "allm_actors.data.build")
# Not promised by name, but what a promised name gives to its user.
HANDED_OUT = {"allm_actors": ["allm_actors.actors.sessions.handle.SessionHandle"]}
# Whoever searches wants a page that explains before a listing, and a listing before a name in the API.
WIDE = "---\nhide: [toc]\nsearch: { boost: 0.7 }\n---\n\n"
DEEP = "---\nsearch: { boost: 0.2 }\n---\n\n"
FENCE = re.compile(r"^(`{3,}).*?^\1\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]\[]*)\]\(([^)#\s]*)(#[^)\s]*)?\)")


def written() -> dict[str, Path]:
    """Every page that somebody wrote, by its place on the site."""
    pages = {path.relative_to(DOCS).as_posix(): path for path in sorted(DOCS.rglob("*.md"))}
    return pages | {"examples/README.md": ROOT / "examples/README.md", "changelog.md": ROOT / "CHANGELOG.md"}


def programs() -> dict[str, Path]:
    """Every example, by its place on the site."""
    found = [*sorted((ROOT / "examples").glob("*.py")), *sorted((ROOT / "examples/supervision").glob("*.py"))]
    return {path.relative_to(ROOT).with_suffix(".md").as_posix(): path for path in found}


def made() -> dict[str, str]:
    """The text of every page that nobody wrote: the examples as they are, and the API."""
    listings = {
        place: f"{WIDE}# {path.relative_to(ROOT / 'examples')}\n\n````python\n{path.read_text()}````\n"
        for place, path in programs().items()
    }
    return listings | {f"api/{package}.md": DEEP + api_page(package) for package in PACKAGES}


def nav() -> list[object]:
    """The table of contents, in the shape that MkDocs takes."""
    pages = in_order([*written(), *made()])
    chapters = {
        name: [p for place in places for p in pages if p.startswith(place)]
        for name, places in CHAPTERS.items()
    }
    return [{"Start": "index.md"}, *({name: inside} for name, inside in chapters.items())]


def in_order(pages: Iterable[str]) -> list[str]:
    """As the pages that are lists of pages name them; what none of them names comes last."""
    sources = written()
    seen = ["index.md"]
    for page in seen:
        if posixpath.basename(page) in ("index.md", "README.md"):
            named = [place_of(target) for _, target in links(sources[page].read_text(), sources[page])]
            seen += dict.fromkeys(place for place in named if place and place not in seen)
    return sorted(pages, key=lambda page: seen.index(page) if page in seen else len(seen))


def links(text: str, source: Path) -> Iterator[tuple[str, Path]]:
    """The links to files in a page: the words, and the file."""
    for words, target, _ in LINK.findall(FENCE.sub("", text)):
        if target and "://" not in target:
            yield words, Path(posixpath.normpath((source.parent / target).as_posix()))


def place_of(path: Path) -> str | None:
    """Where a file or folder of the repository is on the site; None if it is not there."""
    if path.is_dir() and ROOT / "examples" in (path, *path.parents):
        return "examples/README.md"
    pages = (written() | programs()).items()
    return next((place for place, source in pages if path in (source, _folder(source))), None)


def on_site(text: str, source: Path, place: str) -> str:
    """The text of a page with its links as they are on the site; what is not there keeps its words only."""

    def moved(match: re.Match[str]) -> str:
        words, target, anchor = match.groups(default="")
        if not target or "://" in target:
            return match[0]
        path = Path(posixpath.normpath((source.parent / target).as_posix()))
        goal = place_of(path)
        if goal is None and not path.exists():
            return match[0]  # for MkDocs to complain about
        if goal in (None, place):
            return words
        return f"[{words}]({posixpath.relpath(goal, posixpath.dirname(place) or '.')}{anchor})"

    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [LINK.sub(moved, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(moved, text[end:])])


def _folder(page: Path) -> Path | None:
    return page.parent if page.name in ("README.md", "index.md") else None


def api_page(package: str) -> str:
    """The promised names of a package, by the module they live in, for mkdocstrings to fill in."""
    module = importlib.import_module(package)
    elsewhere = () if package == "allm_actors.data" else importlib.import_module("allm_actors.data").__all__
    listed = {
        value.__name__ for name in module.__all__ if isinstance(value := getattr(module, name), ModuleType)
    }
    blocks: dict[str, list[str]] = {}
    for name in module.__all__:
        value = getattr(module, name)
        if isinstance(value, ModuleType):
            if value.__name__ not in PACKAGES:
                homes = {each: home(value, each).rpartition(".")[0] for each in value.__all__}
                own = [each for each in value.__all__ if homes[each] not in listed - {value.__name__}]
                blocks[value.__name__] = [f"{value.__name__}.{each}" for each in own]
        elif name not in elsewhere:
            path = home(module, name)
            blocks.setdefault(path.rpartition(".")[0], []).append(path)
    for path in HANDED_OUT.get(package, ()):
        blocks.setdefault(path.rpartition(".")[0], []).append(path)
    parts = [f"# `{package}`\n", first_line(module), ""]
    if package == "allm_actors":
        parts.append("It also has every name of [`allm_actors.data`](allm_actors.data.md).\n")
    for place in sorted(blocks, key=_rank):
        parts.append(f"## {first_line(importlib.import_module(place)).rstrip('.')}\n")
        parts += [_entry(name, fields=package == "allm_actors.data") for name in blocks[place]]
    return "\n".join(parts)


def home(package: ModuleType, name: str) -> str:
    """The full name of what `package` promises as `name`, where it is defined."""
    value = getattr(package, name)
    given = getattr(value, "__module__", None)
    if isinstance(given, str) and getattr(sys.modules.get(given), name, None) is value:
        return f"{given}.{name}"
    tree = ast.parse(
        Path(str(package.__file__)).read_text()
    )  # a constant or an alias does not know where it is from
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    found = next((node for node in imports if name in [alias.name for alias in node.names]), None)
    if found is None:
        return f"{package.__name__}.{name}"
    inside = package.__name__ if hasattr(package, "__path__") else package.__name__.rpartition(".")[0]
    return f"{inside + '.' if found.level else ''}{found.module}.{name}"


def _rank(module: str) -> tuple[int, str]:
    return next((at for at, place in enumerate(FIRST) if module.startswith(place)), len(FIRST)), module


def _entry(name: str, *, fields: bool) -> str:
    # What a value consists of, and its defaults, are its documentation; elsewhere the signature says it already.
    shown = str(fields).lower()
    return f"::: {name}\n    options: {{ show_attribute_values: {shown}, show_if_no_docstring: {shown} }}\n"


def first_line(module: ModuleType) -> str:
    """What a module says it is."""
    return (module.__doc__ or module.__name__).strip().splitlines()[0]


def title(text: str) -> str:
    """The heading of a page."""
    return next(line for line in text.splitlines() if line.startswith("# ")).removeprefix("# ")


def llms_txt(texts: dict[str, str]) -> str:
    """The list of pages for language models, as llmstxt.org describes it; links lead to the Markdown."""
    lines = [f"# {title(texts['index.md'])}", "", f"> {_opening(texts['index.md'])}"]
    for name, places in CHAPTERS.items():
        pages = [page for place in places for page in in_order(texts) if page.startswith(place)]
        lines += ["", f"## {name}", "", *(f"- [{title(texts[page])}]({page})" for page in pages)]
    return "\n".join(lines) + "\n"


def _opening(text: str) -> str:
    return " ".join(text.partition("\n\n")[2].partition("\n\n")[0].split())
