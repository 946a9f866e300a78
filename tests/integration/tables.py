"""The tables of the reference that are printed from the code.

Rule of this file: what a table says is read from the code, or from what the calls really came to; only the words on
how something comes about are written, in the docstring of whatever makes it so. `python -m tests.integration.tables`
prints them into the pages, between `<!-- table: name -->` and `<!-- end -->`; a test holds page and code together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.services import SERVICES
from allm_actors.execution import sessions
from tests.integration import halts, producers, validations

__all__ = ["PAGES", "TABLES", "printed"]

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "reference").glob("*.md"))
_PLACE = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(?=<!-- end -->)", re.DOTALL)

OPERATIONS = {
    "start": "`start`",
    "reply": "`reply`",
    "continue_user": "`continue_` (user)",
    "continue_other": "`continue_` (another)",
    "continue_none": "`continue_` (None)",
    "step": "`step`",
    "submit": "`submit_tool_result`",
}
RULES = {
    "run": "runs",
    "raise": "`SessionStatusError`",
    "error": "`session_in_error_state`",
    "unknown": "`unknown_tool_call_id`",
}
QUESTIONS = {"asked": "what was asked", "kept": "as it was", "none": "none"}


def session_rules() -> str:
    """What may be done, by status."""
    rows = ([_code(row), *(RULES[rule] for rule in rules)] for row, rules in sessions.RULES.items())
    return _table(["session", *(OPERATIONS[name] for name in sessions.OPERATIONS)], rows)


def session_landings() -> str:
    """Where a result leaves a session."""
    words = {
        sessions.GOING_ON: "a step that is not done",
        sessions.ANY_OTHER: "any other reason, or a step that is done",
    }
    rows = (
        [
            words.get(reason, _code(reason)),
            _code(landing.status),
            _code(landing.with_calls_left),
            QUESTIONS[landing.question],
            "set" if landing.failed else "",
        ]
        for reason, landing in sessions.LANDINGS.items()
    )
    return _table(
        ["the result", "status", "with calls left", "`pending_question`", '`metadata["error"]`'], rows
    )


def halted_reasons() -> str:
    """Why a chat halts: what its metadata really has, and where it leaves a session."""
    rows = []
    for reason, way in halts.CHATS.items():
        session, result = way()
        keys = ", ".join(map(_code, result.metadata))
        name = "the tool's own" if reason == halts.OWN else _code(reason)
        rows.append([name, _words(way), keys, _code(session.status)])
    return _table(["`halted_reason`", "when", "`metadata`", "the session is then"], rows)


def error_reasons() -> str:
    """How each reason of each error comes about."""
    made = {pair: _words(producer) for pair, producer in producers.PRODUCERS.items()}
    made |= {pair: f"reserved: {why}" for pair, why in producers.RESERVED.items()}
    order = sorted(made, key=lambda pair: (pair[0].__name__, pair[1]))
    return _table(
        ["error", "reason", "when"],
        ([_code(error.__name__), _code(reason), made[error, reason]] for error, reason in order),
    )


def validation_codes() -> str:
    """Every failure that a `ValidationError` can list."""
    rows = ([_code(part) for part in failure] for failure in sorted(validations.failures()))
    return _table(["reason", "field", "code"], rows)


def services() -> str:
    """Who does what is not chat."""
    rows = [
        [
            _code(CAPABILITIES[row.span].slot),
            _code(row.provider.name),
            " or ".join(map(_code, row.provider.key_names))
            + ("" if row.provider.key_required else ", optional"),
            "" if row.model is None else _code(row.model),
            ", ".join(row.operations) or ("" if row.most is None else f"{row.most} inputs"),
            "yes" if row.streamed else "",
        ]
        for row in SERVICES.values()
    ]
    return _table(["slot", "name", "key", "model", "operations, or one request", "streamed"], rows)


def provider_rules() -> str:
    """What a provider's row changes or refuses in a chat completion."""
    rows = []
    for name, row in sorted(PROVIDERS.items()):
        told = row.quirks
        words = [f"{_code(ours)} is {_code(theirs)}" for ours, theirs in told.renames.items()]
        words += [f"{_code(option)} is refused" for option in sorted(told.refuses)]
        words += [f"at most {most} of {_code(option)}" for option, most in told.most.items()]
        words += [
            f"{_code(option)} is one of {', '.join(_code(str(word)) for word in known)}"
            for option, known in told.words.items()
        ]
        words += [
            f"{_code(option)} is from {least} to {most}" for option, (least, most) in told.ranges.items()
        ]
        if told.only_for:
            words.append(f"{', '.join(map(_code, told.only_for))} only to models that have it")
        if words:
            rows.append([_code(name), "; ".join(words)])
    return _table(["provider", "what is different"], rows)


def provider_headers() -> str:
    """Which headers an option of `adapter_opts`, or a variable, fills."""
    rows = [
        [_code(row.name), _code(header.option), " or ".join(map(_code, header.names)), _code(header.name)]
        for row in PROVIDERS.values()
        for header in row.headers
    ]
    return _table(["provider", "`adapter_opts`", "or the variable", "header"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "provider-headers": provider_headers,
    "provider-rules": provider_rules,
    "session-rules": session_rules,
    "session-landings": session_landings,
    "halted-reasons": halted_reasons,
    "error-reasons": error_reasons,
    "services": services,
    "validation-codes": validation_codes,
}


def printed(page: str) -> str:
    """The page with its tables as they are."""
    return _PLACE.sub(lambda place: place[1] + TABLES[place[2]](), page)


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [f"| {' | '.join(line)} |\n".replace("|  |", "| |") for line in (head, *rows)]
    return "".join([lines[0], f"|{'---|' * len(head)}\n", *lines[1:]])


def _words(way: Callable[..., object]) -> str:
    return (way.__doc__ or "").strip()


def _code(text: str) -> str:
    return f"`{text}`"


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(printed(path.read_text()))
