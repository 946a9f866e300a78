"""A schema without references: each definition stands where it is used.

Rule of this file: the schema means the same before and after. A definition that refers to itself stays one, and so
does what would make the schema too large.
"""

from __future__ import annotations

from typing import Any

from .walking import DEFS, Schema, references, walk

__all__ = ["inlined"]

_MOST = 1000  # references: with two in each definition, ten definitions come to as many

# What may stand beside a reference without restricting what it refers to.
_ABOUT = frozenset({"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"})


def inlined(schema: Schema) -> Schema:
    """The schema with its definitions in the place of the references to them, as far as that can be."""
    definitions = schema.get("$defs")
    if not isinstance(definitions, dict):
        return schema
    reached = _reached(definitions)
    left = _MOST

    def put_in(tree: Schema) -> Schema:
        nonlocal left
        beside = {key: value for key, value in tree.items() if key != "discriminator"}  # it names definitions
        name = _name(tree.get("$ref"))
        if name not in reached or name in reached[name] or not left:
            return beside
        left -= 1
        del beside["$ref"]
        definition: Any = walk(definitions[name], put_in)
        if not beside:
            return definition  # type: ignore[no-any-return]
        about = isinstance(definition, dict) and _ABOUT.issuperset(beside)
        return definition | beside if about else {"allOf": [definition, beside]}

    tree: Schema = walk({key: value for key, value in schema.items() if key != "$defs"}, put_in)
    used = _names(tree)
    if not _names(schema) <= reached.keys() or any(map(_is_anchor, references(schema))):
        used = set(definitions)  # a reference goes into a definition, or to an anchor in one
    needed = used.union(*(reached[name] for name in used))
    kept = {name: definition for name, definition in definitions.items() if name in needed}
    return tree | ({"$defs": kept} if kept else {})


def _names(tree: Any) -> set[str]:
    return {_name(reference) for reference in references(tree) if reference.startswith(DEFS)}


def _name(reference: Any) -> str:
    """The name of the definition that is referred to; empty for any other reference."""
    named = isinstance(reference, str) and reference.startswith(DEFS)
    return reference.removeprefix(DEFS) if named else ""


def _is_anchor(reference: str) -> bool:
    return reference.startswith("#") and reference[1:2] not in ("", "/")


def _reached(definitions: Schema) -> dict[str, set[str]]:
    """By definition: those it refers to, and those they refer to."""
    direct = {name: _names(definition) & definitions.keys() for name, definition in definitions.items()}
    reached: dict[str, set[str]] = {}
    for name in definitions:
        found: set[str] = set()
        waiting = list(direct[name])
        while waiting:
            each = waiting.pop()
            if each not in found:
                found.add(each)
                waiting += direct[each]
        reached[name] = found
    return reached
