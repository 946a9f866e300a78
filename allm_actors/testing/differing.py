"""How one request differs from another, in a few lines.

Rule of this file: pure; a value is shown by its beginning, and never with what looks like a key.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from allm_actors.data.redaction import redact

__all__ = ["differences"]

_MOST = 8
_LONGEST = 80
_NOTHING = object()


def differences(recorded: Any, asked: Any) -> list[str]:
    """Where two JSON values differ: the path, what was recorded and what is asked now."""
    found = list(_walk("", recorded, asked))
    more = [f"… and {len(found) - _MOST} more"] if len(found) > _MOST else []
    return found[:_MOST] + more


def _walk(path: str, recorded: Any, asked: Any) -> Iterator[str]:
    if isinstance(recorded, dict) and isinstance(asked, dict):
        for name in sorted({*recorded, *asked}):
            inner = f"{path}.{name}" if path else name
            yield from _walk(inner, recorded.get(name, _NOTHING), asked.get(name, _NOTHING))
    elif isinstance(recorded, list) and isinstance(asked, list):
        for index in range(max(len(recorded), len(asked))):
            pair = [items[index] if index < len(items) else _NOTHING for items in (recorded, asked)]
            yield from _walk(f"{path}[{index}]", *pair)
    elif recorded != asked:
        yield f"{path or 'body'}: recorded {_shown(recorded)}, asked {_shown(asked)}"


def _shown(value: Any) -> str:
    if value is _NOTHING:
        return "nothing"
    text = redact(repr(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
