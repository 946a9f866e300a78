"""What became of every recorded exchange: read as it was recorded, read differently, or not for us, and why.

Rule of this file: nothing is left out in silence. A conformance file says with `SUITE = Suite(…)` which of its tests
read answers and which compares requests; the exchanges are those that these tests are parametrized with. Whatever no
suite takes needs a rule in `REST`, with a reason; a rule that nothing needs any more is an error.
`python -m tests.conformance.ledger` prints the page docs/reference/traffic.md.
"""

from __future__ import annotations

import importlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conformance.traffic import TRAFFIC, server_events

__all__ = [
    "PAGE",
    "REST",
    "Entry",
    "Rule",
    "Suite",
    "entries",
    "exchanges_of",
    "printed",
    "suites",
    "unused_rules",
]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/traffic.md"
BOTH, ANSWER, DIFFERS, OTHER = "answer and request", "answer", "differs", "not applicable"
COLUMNS = (BOTH, ANSWER, DIFFERS, OTHER)
Check = Callable[[Any], object]


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What one conformance file has to do with recorded traffic.

    `endpoint`: what its exchanges are called in the page, or a function that says so of one. `dialect`: that of
    a chat, whose exchanges are played over sockets, too. `streams`: those that a network may do something to, which
    `decoder` reads, and `frames` takes apart.
    `reads`: tests that compare our reading of an answer with an independent one. `sends`: the test that compares the
    request that we encode with the recorded one; where it skips, its reason is told. `differs`: exchanges whose answer
    is read differently from how it was recorded, on purpose, and why.
    """

    endpoint: str | Callable[[Any], str]
    dialect: str | None = None
    streams: Sequence[Any] = ()
    decoder: Callable[[Any], Any] | None = None
    frames: Callable[[bytes], list[bytes]] = server_events
    reads: tuple[Check, ...] = ()
    sends: Check | None = None
    differs: Mapping[str, str] = field(default_factory=dict)


class Rule(NamedTuple):
    """Exchanges that no suite takes: of a folder (or file), by URL (or kind); what they are, and why not."""

    of: str
    url: str
    endpoint: str
    reason: str


REST = (
    Rule("realtime-.*", "websocket", "realtime", "a conversation over a WebSocket; the library speaks HTTP"),
    Rule("xai-grpc", "grpc-proto", "gRPC", "gRPC; the library speaks HTTP"),
    Rule(
        "bedrock",
        r"/invoke(-with-response-stream)?$",
        "InvokeModel",
        "each model's own format, in an envelope",
    ),
    Rule("writer", r"/v1/chat$", "chat", "a format of its own, like chat completions but not the same"),
    Rule("google", r"/interactions$", "interactions", "a format of its own, beside generateContent"),
    Rule("ollama", r"/api/generate$", "generate", "completions of a text, not chat"),
    Rule(
        ".*",
        r"(?<!/chat)/(completions|complete|generate)$",
        "text completion",
        "completions of a text, not chat",
    ),
    Rule(".*", r"[/:]count-?_?[tT]okens$", "count tokens", "counting is no capability of the library"),
    Rule(".*", r"/rerank$", "rerank", "reranking is no capability of the library"),
    Rule(
        "groq/vercel-groq-transcription-text|mistral/vercel-mistral-transcription",
        r"/chat/completions$",
        "audio",
        "a transcription, recorded under the address of chat",
    ),
    Rule("cohere/.*embed.*", r"/v2/chat$", "embeddings", "embeddings, recorded under the address of chat"),
    Rule(
        ".*", r"/(files|vector_stores|fileSearchStores)(/.*)?$", "files", "files at providers are not managed"
    ),
    Rule("google", r"/cachedContents$", "cached contents", "caches at providers are not managed"),
    Rule(
        "openai", r"/conversations(/.*)?$", "conversations", "conversations are kept here, not at providers"
    ),
    Rule(
        "openai",
        r"/responses/.+$",
        "stored responses",
        "answers that were stored at the provider are not fetched",
    ),
    Rule(".*", r"/(models|instances)(/.+)?$", "models", "what a provider offers is not asked for"),
)


class Entry(NamedTuple):
    """What became of one file."""

    name: str
    endpoint: str
    column: str
    reason: str


def suites() -> list[Suite]:
    """The suites of all conformance files, in the order of their names."""
    stems = sorted(path.stem for path in Path(__file__).parent.glob("test_*_traffic.py"))
    modules = (importlib.import_module(f"tests.conformance.{stem}") for stem in stems)
    return [module.SUITE for module in modules if hasattr(module, "SUITE")]


def entries() -> list[Entry]:
    """One entry for each recorded file, by name. Raises AssertionError for what fails or has no place, or two."""
    taken: dict[str, Entry] = {}
    for suite in suites():
        for entry in _of(suite):
            assert entry.name not in taken, f"{entry.name} is read by two suites"
            taken[entry.name] = entry
    found = [taken.get(name) or _rest(path, name) for path, name in _files()]
    assert set(taken) <= {entry.name for entry in found}
    return found


def unused_rules() -> list[Rule]:
    """Rules that no file needs, because a suite takes everything they name."""
    needed = {(entry.endpoint, entry.reason) for entry in entries() if entry.column == OTHER}
    return [rule for rule in REST if (rule.endpoint, rule.reason) not in needed]


def exchanges_of(suite: Suite) -> list[Any]:
    """The exchanges whose answers a suite reads."""
    return [exchange for read in suite.reads for _, exchange in _cases(read)]


def _files() -> list[tuple[Path, str]]:
    return [(path, f"{path.parent.name}/{path.stem}") for path in sorted(TRAFFIC.glob("*/*.json"))]


def _of(suite: Suite) -> Iterator[Entry]:
    requests = dict(_cases(suite.sends)) if suite.sends is not None else {}
    for read in suite.reads:
        for name, exchange in _cases(read):
            endpoint = suite.endpoint if isinstance(suite.endpoint, str) else suite.endpoint(exchange)
            skipped = _reason_to_skip(read, exchange)
            if skipped is not None:
                yield Entry(name, endpoint, OTHER, skipped)
                continue
            if name in suite.differs:
                yield Entry(name, endpoint, DIFFERS, suite.differs[name])
                continue
            why = "no request was recorded" if suite.sends else "requests are not compared here"
            if name in requests and suite.sends is not None:
                why = _reason_to_skip(suite.sends, requests[name]) or ""
            yield Entry(name, endpoint, ANSWER if why else BOTH, why)


def _cases(test: Check) -> list[tuple[str, Any]]:
    """What a test is parametrized with, by name; nothing where there is no traffic."""
    marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
    params = [param.values[0] for mark in marks for param in mark.args[1]]
    return [(exchange.name, exchange) for exchange in params if exchange is not None]


def _reason_to_skip(test: Check, exchange: Any) -> str | None:
    """Run the test; why it skips, or None if it holds. What it raises says which exchange it was."""
    try:
        test(exchange)
    except pytest.skip.Exception as skipped:
        said = str(skipped.msg).removeprefix("not applicable: the request has ")
        return said.removesuffix(", which our requests have no word for")
    except Exception as error:
        error.add_note(f"in {exchange.name}")
        raise
    return None


def _rest(path: Path, name: str) -> Entry:
    recorded = json.loads(path.read_text())
    where = recorded.get("request", {}).get("url", "").split("?")[0] or recorded.get("kind", "")
    for rule in REST:
        if re.fullmatch(f"(?:{rule.of})(/.*)?", name) and re.search(rule.url, where):
            return Entry(name, rule.endpoint, OTHER, rule.reason)
    raise AssertionError(f"{name} ({where}) is read by no suite, and no rule of REST says why")


# --- the page -----------------------------------------------------------------------------------------------------


def printed() -> str:
    """The page, from what the suites come to now."""
    found = entries()
    by_cell = Counter((entry.name.split("/")[0], entry.endpoint, entry.column) for entry in found)
    places = sorted({(folder, endpoint) for folder, endpoint, _ in by_cell})
    rows = [
        [folder, endpoint, str(sum(counts := [by_cell[folder, endpoint, column] for column in COLUMNS]))]
        + [str(count or "") for count in counts]
        for folder, endpoint in places
    ]
    totals = Counter(entry.column for entry in found)
    rows.append(["**all**", "", f"**{len(found)}**", *(f"**{totals[column]}**" for column in COLUMNS)])
    reasons = Counter((entry.column, entry.reason) for entry in found if entry.reason)
    whys = [
        [column, reason, str(count)]
        for column in COLUMNS
        for (at, reason), count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
        if at == column
    ]
    return (
        _HEAD
        + _table(["folder", "endpoint", "files", *COLUMNS], rows)
        + _WHY
        + _table(["column", "why", "files"], whys)
    )


_HEAD = """# Recorded traffic

What the dialects make of recorded exchanges with real providers, by provider and endpoint. The recordings are public
ones, of the test suites of other libraries; they are not part of this repository. `python -m tests.conformance.ledger`
prints this page; a test holds it against the suites where the recordings are beside the checkout.

Each file is counted in one column:

- **answer and request**: our reading of the answer is what an independent reading of its JSON says, and the request
  that we encode from the same conversation equals the recorded body, up to the differences that the suite documents.
- **answer**: the answer likewise; why its request is not compared is said below.
- **differs**: the answer is read differently, on purpose.
- **not applicable**: no dialect speaks this.

"""
_WHY = """
## Why

"""


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [
        f"| {' | '.join(line)} |\n".replace("|  |", "| |").replace("|  |", "| |") for line in (head, *rows)
    ]
    return "".join([lines[0], f"|{'---|' * len(head)}\n", *lines[1:]])


if __name__ == "__main__":
    if not TRAFFIC.exists():
        raise SystemExit(f"no recorded traffic in {TRAFFIC}")
    PAGE.write_text(printed())
