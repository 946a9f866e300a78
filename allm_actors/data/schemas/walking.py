"""Walks over a JSON Schema: what in it is a schema, and what merely looks like one.

Rule of this file: a schema is never changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["DEFS", "Schema", "references", "renamed", "walk"]

DEFS = "#/$defs/"
"""How a reference to a definition begins."""

Schema = dict[str, Any]

_BY_NAME = frozenset({"properties", "patternProperties", "$defs", "dependentSchemas"})
_NESTED = frozenset(
    {"items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"}
)
_LISTED = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})


def walk(schema: Any, edit: Callable[[Schema], Schema]) -> Any:
    """The schema, edited from the inside out. A property may be called `enum`: names are not keywords."""
    if not isinstance(schema, dict):
        return schema
    tree: Schema = {}
    for key, value in schema.items():
        if key in _BY_NAME and isinstance(value, dict):
            tree[key] = {name: walk(inner, edit) for name, inner in value.items()}
        elif key in _LISTED and isinstance(value, list):
            tree[key] = [walk(inner, edit) for inner in value]
        else:
            tree[key] = walk(value, edit) if key in _NESTED else value
    return edit(tree)


def references(tree: Any) -> set[str]:
    """Every `$ref` in it."""
    if isinstance(tree, list):
        return set().union(*map(references, tree))
    if not isinstance(tree, dict):
        return set()
    own = {tree["$ref"]} if isinstance(tree.get("$ref"), str) else set()
    return own.union(*map(references, tree.values()))


def renamed(tree: Any, names: Mapping[str, str]) -> Any:
    """The tree, in which what refers to a definition uses its new name; `names` is from old to new.

    Besides `$ref` these are the values of a `discriminator`'s `mapping`.
    """
    if isinstance(tree, dict):
        return {key: renamed(value, names) for key, value in tree.items()}
    if isinstance(tree, list):
        return [renamed(each, names) for each in tree]
    if isinstance(tree, str) and tree.startswith(DEFS):
        name = tree.removeprefix(DEFS)
        return DEFS + names.get(name, name)
    return tree
