"""An incremental JSON parser: the value of a text that is still being written.

Rule of this file: total and linear. Every character is read once, any text is accepted, and nothing is
raised: where the text stops being JSON, the value stays what it was. Text before the first `{` or `[` is
skipped.

    what is being written    what the value shows of it
    ---------------------    -------------------------------------------
    an object, a list        from its first character on, growing
    a text                   growing
    a key, a number, a word  nothing, until the character that follows it
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar, Final

import msgspec

__all__ = ["NOTHING", "JsonSoFar"]

NOTHING: Final = object()
DEEPEST = 100
_START = re.compile(r"[\[{]")
_BLANK = re.compile(r"[ \t\r\n]+")
_ORDINARY = re.compile(r'[^"\\]+')
_BARE = re.compile(r"[^\s,:\]}\[{\"]+")
_LOOSE = frozenset({"value", "key", "colon", "next"})  # in these modes blanks mean nothing
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

Container = dict[str, Any] | list[Any]


class JsonSoFar:
    """A value that grows. Give it text with `feed`; `root` is the value, or `NOTHING`.

    Containers in `root` keep their identity while they grow; those in `open` may still grow.
    Thread: not safe to share.
    """

    __slots__ = ("_bare", "_key", "_mode", "_pieces", "_quoted", "_surrogates", "changes", "open", "root")

    def __init__(self) -> None:
        self.root: Any = NOTHING
        self.open: list[Container] = []
        self.changes: int = 0
        self._mode = "start"
        self._key: str | None = None
        self._pieces: list[str] = []
        self._quoted = ""  # the escape that has begun
        self._surrogates = False
        self._bare: list[str] = []

    def feed(self, text: str) -> bool:
        """Take more text. Returns whether the value has changed."""
        before, at = self.changes, 0
        while at < len(text) and self._mode != "over":
            blank = _BLANK.match(text, at) if self._mode in _LOOSE else None
            at = self._rules[self._mode](self, text, at) if blank is None else blank.end()
        return self.changes > before

    def settle(self) -> None:
        """Put the string that is being written, as far as it has come, into the value."""
        if self._mode in ("text", "escape") and self.open:
            self._place(self._joined())

    # --- one rule for each thing that may come next; each takes a character at least ------------------------------

    def _at_start(self, text: str, at: int) -> int:
        found = _START.search(text, at)
        if found is None:
            return len(text)
        self._begin(found[0])
        return found.end()

    def _at_value(self, text: str, at: int) -> int:
        match text[at]:
            case "{" | "[" as bracket:
                self._begin(bracket)
            case '"':
                self._add("")
                self._mode, self._pieces = "text", []
            case "]" if self.open[-1] == []:
                self._end("]")
            case "," | ":" | "}" | "]":
                self._mode = "over"
            case _:
                self._mode, self._bare = "bare", []
                return at
        return at + 1

    def _at_key(self, text: str, at: int) -> int:
        if text[at] == '"':
            self._mode, self._pieces = "key text", []
        elif text[at] == "}" and not self.open[-1]:
            self._end("}")
        else:
            self._mode = "over"
        return at + 1

    def _at_colon(self, text: str, at: int) -> int:
        self._mode = "value" if text[at] == ":" else "over"
        return at + 1

    def _at_next(self, text: str, at: int) -> int:
        if text[at] == ",":
            self._mode = "key" if isinstance(self.open[-1], dict) else "value"
        else:
            self._end(text[at])
        return at + 1

    def _in_text(self, text: str, at: int) -> int:
        ordinary = _ORDINARY.match(text, at)
        if ordinary is not None:
            self._pieces.append(ordinary[0])
            self.changes += self._mode == "text"
            return ordinary.end()
        if text[at] == "\\":
            self._quoted = ""
            self._mode = "escape" if self._mode == "text" else "key escape"
        elif self._mode == "text":
            self._place(self._joined())
            self.changes += 1
            self._mode = "next"
        else:
            self._key, self._mode = self._joined(), "colon"
        return at + 1

    def _in_escape(self, text: str, at: int) -> int:
        self._quoted += text[at]
        back = "text" if self._mode == "escape" else "key text"
        if self._quoted[0] != "u":
            self._pieces.append(_ESCAPES.get(self._quoted, self._quoted))
            self.changes += 1
            self._mode = back
        elif len(self._quoted) == 5:
            try:
                self._pieces.append(chr(int(self._quoted[1:], 16)))
            except ValueError:
                self._mode = "over"
                return at + 1
            self._surrogates = self._surrogates or "\ud800" <= self._pieces[-1] <= "\udfff"
            self.changes += 1
            self._mode = back
        return at + 1

    def _in_bare(self, text: str, at: int) -> int:
        bare = _BARE.match(text, at)
        if bare is not None:
            self._bare.append(bare[0])
            return bare.end()
        try:
            value = msgspec.json.decode("".join(self._bare))
        except (msgspec.DecodeError, ValueError):
            self._mode = "over"
        else:
            self._add(value)
            self._mode = "next"
        return at

    _rules: ClassVar[dict[str, Callable[[JsonSoFar, str, int], int]]] = {
        "start": _at_start,
        "value": _at_value,
        "key": _at_key,
        "colon": _at_colon,
        "next": _at_next,
        "text": _in_text,
        "key text": _in_text,
        "escape": _in_escape,
        "key escape": _in_escape,
        "bare": _in_bare,
    }

    # --- what they share ------------------------------------------------------------------------------------------

    def _begin(self, bracket: str) -> None:
        if len(self.open) == DEEPEST:
            self._mode = "over"
            return
        container: Container = {} if bracket == "{" else []
        self._add(container)
        self.open.append(container)
        self._mode = "key" if bracket == "{" else "value"

    def _end(self, bracket: str) -> None:
        if bracket != ("}" if isinstance(self.open[-1], dict) else "]"):
            self._mode = "over"
            return
        self.open.pop()
        self.changes += 1
        self._mode = "next" if self.open else "over"

    def _add(self, value: Any) -> None:
        self.changes += 1
        if not self.open:
            self.root = value
        elif isinstance(self.open[-1], list):
            self.open[-1].append(value)
        else:
            self._place(value)

    def _place(self, value: Any) -> None:
        """Put the value where the newest one is."""
        parent = self.open[-1]
        if isinstance(parent, list):
            parent[-1] = value
        else:
            assert self._key is not None
            parent[self._key] = value

    def _joined(self) -> str:
        text = "".join(self._pieces)
        self._pieces = [text]  # so that the same pieces are joined only once
        if self._surrogates:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")
        return text
