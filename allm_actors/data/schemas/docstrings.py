"""Reads from a docstring the description of a function and of each of its parameters.

Rule of this file: three styles are read (Google's `Args:`, NumPy's underlined `Parameters`, Sphinx's `:param x:`), and
any other text is description. No docstring is an error: what is not understood is left out.
Source: https://google.github.io/styleguide/pyguide.html#383-functions-and-methods,
https://numpydoc.readthedocs.io/en/latest/format.html, https://www.sphinx-doc.org/en/master/usage/domains/python.html
"""

from __future__ import annotations

import inspect
import re

__all__ = ["read"]

_GOOGLE = re.compile(
    r"^(?:(?P<args>Args|Arguments|Parameters|Params)|Returns?|Yields?|Raises|Examples?|Notes?|Attributes|See Also|"
    r"Warnings?|Todo|References|Keyword Args|Keyword Arguments):\s*$"
)
_NUMPY = re.compile(r"^(?P<name>[A-Z][A-Za-z ]+)\n-{3,}\s*$", re.MULTILINE)
_SPHINX = re.compile(
    # Not any word: a line of text may begin with a role, as in :class:`Order`.
    r"^:(?P<field>param|parameter|arg|argument|key|keyword|type|raises?|except|exception|returns?|rtype|yields?|ytype|"
    r"var|ivar|cvar|vartype|meta)\b(?P<names>[^:\n]*):[ \t]*(?P<text>(?:.*)(?:\n[ \t]+.*)*)",
    re.MULTILINE,
)
_GOOGLE_ITEM = re.compile(r"^\*{0,2}(?P<name>\w+)\s*(?:\([^)]*\))?\s*:\s*(?P<text>.*)$")
_NUMPY_ITEM = re.compile(r"^(?P<names>\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?$")


def read(docstring: str | None) -> tuple[str, dict[str, str]]:
    """The description, without any section, and the text for each parameter that has one."""
    text = inspect.cleandoc(docstring or "")
    for style in (_sphinx, _numpy, _google):
        found = style(text)
        if found is not None:
            description, parameters = found
            return description.strip(), {
                name: _line(words) for name, words in parameters.items() if words.strip()
            }
    return text, {}


def _sphinx(text: str) -> tuple[str, dict[str, str]] | None:
    fields = list(_SPHINX.finditer(text))
    if not fields:
        return None
    parameters = {
        field["names"].split()[-1].lstrip("*"): field["text"]
        for field in fields
        if field["field"] in ("param", "parameter", "arg", "argument", "key", "keyword")
        and field["names"].split()
    }
    return text[: fields[0].start()], parameters


def _numpy(text: str) -> tuple[str, dict[str, str]] | None:
    heads = list(_NUMPY.finditer(text))
    if not heads:
        return None
    parameters: dict[str, str] = {}
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        if head["name"].strip() in ("Parameters", "Other Parameters"):
            parameters |= _numpy_items(text[head.end() : following.start() if following else None])
    return text[: heads[0].start()], parameters


def _numpy_items(section: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        item = _NUMPY_ITEM.match(line)
        if item:
            names = [name.strip().lstrip("*") for name in item["names"].split(",")]
        elif line.strip():
            parameters |= {name: f"{parameters.get(name, '')} {line.strip()}" for name in names}
    return parameters


def _google(text: str) -> tuple[str, dict[str, str]] | None:
    lines = text.splitlines()
    heads = [i for i, line in enumerate(lines) if _GOOGLE.match(line)]
    if not heads:
        return None
    if heads == [0] and not next(filter(None, lines[1:]), " ").startswith(" "):
        # The section is all there is, so `cleandoc` took its indent for the docstring's.
        lines[1:] = [f" {line}" for line in lines[1:]]
    parameters: dict[str, str] = {}
    for start, end in zip(heads, [*heads[1:], len(lines)], strict=True):
        head = _GOOGLE.match(lines[start])
        if head and head["args"]:
            parameters |= _google_items(lines[start + 1 : end])
    return "\n".join(lines[: heads[0]]), parameters


def _google_items(lines: list[str]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    name, indent = "", None
    for line in lines:
        if not line.strip():
            continue
        depth = len(line) - len(line.lstrip())
        if depth == 0:
            break  # prose after the section
        item = _GOOGLE_ITEM.match(line.strip())
        if item and (indent is None or depth <= indent):
            name, indent = item["name"], depth
            parameters[name] = item["text"]
        elif name:
            parameters[name] += f" {line.strip()}"
    return parameters


def _line(text: str) -> str:
    return " ".join(text.split())
