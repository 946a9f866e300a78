"""What a provider once said, and what that comes to: read here without the library's own decoder.

Rule of this file: it is the demo's second opinion. The text of a stream is joined from its JSON by hand, so that
comparing it with what the library delivered means something.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allm_actors.testing.exchanges import Exchange, load_exchange
from allm_actors.testing.loopback import Reply

__all__ = [
    "OURS",
    "RecordedTurn",
    "Recording",
    "load_recordings",
    "messages_of",
    "spoken",
    "text_of",
    "tools_of",
]

OURS = Path(__file__).parents[1] / "exchanges"
_PART = re.compile(r"__\d+of\d+$")


@dataclass(frozen=True, slots=True)
class RecordedTurn:
    """What a person said, and the exchanges that answered it: more than one where tools were called."""

    prompt: str
    exchanges: Sequence[Exchange]

    @property
    def text(self) -> str:
        """All that the model said."""
        return "".join(text_of(exchange) for exchange in self.exchanges)

    @property
    def refused(self) -> int | None:
        """The HTTP status of a refusal."""
        status = self.exchanges[-1].reply.status
        return status if status >= 400 else None


@dataclass(frozen=True, slots=True)
class Recording:
    """The turns of one conversation."""

    name: str
    turns: Sequence[RecordedTurn]

    @property
    def exchanges(self) -> list[Exchange]:
        """All exchanges, in order."""
        return [exchange for turn in self.turns for exchange in turn.exchanges]


def load_recordings(place: Path) -> list[Recording]:
    """The chat completions in a file with the rest of its sequence, or in a folder."""
    files = sorted(place.glob("*.json")) if place.is_dir() else _sequence(place)
    names = dict.fromkeys(_PART.sub("", file.stem) for file in files)
    found = []
    for name in names:
        try:
            exchanges = [load_exchange(file) for file in files if _PART.sub("", file.stem) == name]
        except (KeyError, ValueError):  # a recording of something else than HTTP
            continue
        if all(exchange.target.partition("?")[0].endswith("/chat/completions") for exchange in exchanges):
            found.append(Recording(name, list(_turns(exchanges))))
    return found


def messages_of(exchange: Exchange) -> list[dict[str, Any]]:
    """The messages of an exchange's request; none where the request was not recorded."""
    return (exchange.json or {}).get("messages") or []


def tools_of(exchange: Exchange) -> list[dict[str, Any]]:
    """The functions that an exchange's request offered."""
    return [tool["function"] for tool in (exchange.json or {}).get("tools") or () if "function" in tool]


def calls_of(exchange: Exchange) -> list[str]:
    """The ids of the tool calls in an exchange's reply; empty texts where the provider gave none."""
    calls = [call for said in _said(exchange.reply) for call in said.get("tool_calls") or ()]
    return [call.get("id") or "" for call in calls if (call.get("function") or {}).get("name")]


def text_of(exchange: Exchange) -> str:
    """The text that an exchange's reply says, joined by hand."""
    return "".join(_text(said.get("content")) for said in _said(exchange.reply))


def spoken(chunk: bytes) -> str:
    """The text in one server-sent event."""
    return "".join(_text(said.get("content")) for said in _deltas(chunk))


def _said(reply: Reply) -> list[dict[str, Any]]:
    """The messages, or pieces of messages, in a reply."""
    if reply.chunks is None:
        return [choice.get("message") or {} for choice in (_json(reply.body).get("choices") or ())[:1]]
    return [delta for chunk in reply.chunks if isinstance(chunk, bytes) for delta in _deltas(chunk)]


def _deltas(chunk: bytes) -> list[dict[str, Any]]:
    events = [_json(line.removeprefix(b"data:")) for line in chunk.split(b"\n") if line.startswith(b"data:")]
    return [choice.get("delta") or {} for event in events for choice in (event.get("choices") or ())[:1]]


def _sequence(file: Path) -> list[Path]:
    name = _PART.sub("", file.stem)
    return [file] if name == file.stem else sorted(file.parent.glob(f"{name}__*.json"))


def _turns(exchanges: Iterable[Exchange]) -> Iterable[RecordedTurn]:
    """A request that answers tool calls goes on with the turn of the request before it."""
    turn: list[Exchange] = []
    for exchange in exchanges:
        if turn and (turn[-1].reply.status >= 400 or not _answers(exchange, turn[-1])):
            yield RecordedTurn(_prompt(turn[0]), turn)
            turn = []
        turn.append(exchange)
    if turn:
        yield RecordedTurn(_prompt(turn[0]), turn)


def _answers(exchange: Exchange, before: Exchange) -> bool:
    known = {message.get("tool_call_id") for message in messages_of(before)}
    answered = {m["tool_call_id"] for m in messages_of(exchange) if m.get("role") == "tool"} - known
    calls = calls_of(before)
    return any(id in answered for id in calls) or ("" in calls and bool(answered))


def _prompt(exchange: Exchange) -> str:
    said = [message.get("content") for message in messages_of(exchange) if message.get("role") == "user"]
    return next(
        (text for text in reversed(said) if isinstance(text, str) and text), "(the message has no text)"
    )


def _text(content: Any) -> str:
    parts = [part.get("text") for part in content] if isinstance(content, list) else [content]
    return "".join(part for part in parts if isinstance(part, str))


def _json(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
