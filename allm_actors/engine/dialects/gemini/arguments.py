"""A call's arguments that arrive value by value, each with its JSON path.

Rule of this file: total. An invalid path or value changes nothing, and no path can make the arguments larger
than what was sent.

    {"jsonPath": "$.city", "stringValue": "Zür", "willContinue": true}
    {"jsonPath": "$.city", "stringValue": "ich"}
    {"jsonPath": "$.days[0].hot", "boolValue": true}    numberValue, nullValue alike

Source: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling, "Streaming function call
arguments"; recorded streams.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["PartialArguments"]

_DEEPEST = 100  # steps of a path; deeper data could not be stored
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d{1,6})\]|\['([^']*)'\]")


class PartialArguments:
    """The arguments of one call while they arrive."""

    __slots__ = ("_open", "_value")

    def __init__(self) -> None:
        self._value: dict[str, Any] = {}
        self._open: dict[str, _Text] = {}  # by path: texts of which more will come

    def add(self, wires: Iterable[Mapping[str, Any]]) -> None:
        """Take the partial arguments of one part."""
        for wire in wires:
            path = wire.get("jsonPath")
            if isinstance(path, str):
                self._put(path, wire)

    def finish(self) -> dict[str, Any]:
        """The arguments; texts that were not ended are as long as they came."""
        for path in list(self._open):
            self._close(path)
        return self._value

    def _put(self, path: str, wire: Mapping[str, Any]) -> None:
        found, value = _value(wire)
        text = self._open.get(path)
        if text is not None and isinstance(value, str):
            text.fragments.append(value)
        elif found:
            self._begin(path, value)
        if wire.get("willContinue") is not True:
            self._close(path)

    def _begin(self, path: str, value: Any) -> None:
        steps = _steps(path)
        if not steps:
            return
        holder: Any = self._value
        for step, following in itertools.pairwise(steps):
            holder = _inside(holder, step, [] if isinstance(following, int) else {})
        if _set(holder, steps[-1], value) and isinstance(value, str):
            self._open[path] = _Text(holder, steps[-1], value)

    def _close(self, path: str) -> None:
        text = self._open.pop(path, None)
        if text is not None:
            _set(text.holder, text.step, "".join(text.fragments))


class _Text:
    """A text of which more will come; its fragments are joined once, at the end."""

    __slots__ = ("fragments", "holder", "step")

    def __init__(self, holder: Any, step: str | int, first: str) -> None:
        self.holder = holder
        self.step = step
        self.fragments = [first]


def _steps(path: str) -> list[str | int]:
    """The steps of a path such as `$.days[0].hot`; empty for an invalid path."""
    steps: list[str | int] = []
    at = 1 if path.startswith("$") else 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None or len(steps) == _DEEPEST:
            return []
        name, index, quoted = match.groups()
        steps.append(int(index) if index is not None else name if name is not None else quoted)
        at = match.end()
    return steps


def _value(wire: Mapping[str, Any]) -> tuple[bool, Any]:
    if "nullValue" in wire:
        return True, None
    for name in ("stringValue", "numberValue", "boolValue"):
        if name in wire:
            return True, wire[name]
    return False, None


def _get(holder: Any, step: str | int) -> Any:
    if isinstance(holder, dict):
        return holder.get(step)
    if isinstance(holder, list) and isinstance(step, int) and step < len(holder):
        return holder[step]
    return None


def _inside(holder: Any, step: str | int, empty: Any) -> Any:
    """The container at `step`, set to `empty` if there is none yet; None if another kind of value is there."""
    inner = _get(holder, step)
    if inner is None and _set(holder, step, empty):
        return empty
    return inner if type(inner) is type(empty) else None


def _set(holder: Any, step: str | int, value: Any) -> bool:
    match holder, step:
        case dict(), str():
            holder[step] = value
        case list(), int() if step < len(holder):
            holder[step] = value
        case list(), int() if step == len(holder):
            holder.append(value)
        case _:
            return False
    return True
