"""Adapts the fields of a chat completion to a provider's row.

Rule of this file: pure, and the row decides. It is applied last, to the caller's options as well as to our
own fields. What a server would refuse, or accept and ignore, is refused here, before anything is sent. A
field of None counts as not given and is never refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from allm_actors.data import ValidationError
from allm_actors.engine.catalog import Provider
from allm_actors.engine.quirks import Quirks

__all__ = ["known", "obeying"]


def known(fields: Mapping[str, Any], row: Provider, model: object, effort: object = None) -> dict[str, Any]:
    """The fields that this model has, if it is to reason with this effort."""
    name = str(model or "")
    return {field: value for field, value in fields.items() if row.quirks.knows(field, name, effort)}


def obeying(body: Mapping[str, Any], row: Provider) -> dict[str, Any]:
    """The body with the row's field names, without fields that its model does not have.

    Raises: `ValidationError` with everything that the server would refuse.
    """
    quirks = row.quirks
    wrong = list(_wrong(body, quirks))
    if wrong:
        said = "; ".join(why for _, _, why in wrong)
        errors: list[tuple[Any, str]] = [(name, code) for name, code, _ in wrong]
        raise ValidationError("invalid_request", errors, message=f"{row.label} would refuse this: {said}")
    kept = known(body, row, body.get("model"), body.get("reasoning_effort"))
    kept = {name: value for name, value in kept.items() if name not in quirks.refuses}
    return kept | {new: kept.pop(old) for old, new in quirks.renames.items() if old in kept}


def _wrong(body: Mapping[str, Any], quirks: Quirks) -> Iterator[tuple[str, str, str]]:
    """The field, the code and the reason for everything that the server would refuse."""
    given = {name: value for name, value in body.items() if value is not None}
    for name in sorted(quirks.refuses & given.keys()):
        yield name, "not_supported", f"it does not know {name} (leave it out)"
    for name, most in quirks.most.items():
        value = given.get(name)
        if isinstance(value, list | tuple) and len(value) > most:
            yield name, "too_many", f"{name} can have at most {most} items, got {len(value)}"
    for name, words in quirks.words.items():
        if name in given and given[name] not in words:
            known = ", ".join(map(str, words))
            yield name, "invalid_value", f"{name} must be one of {known}; got: {given[name]!r}"
    for name, (least, greatest) in quirks.ranges.items():
        value = given.get(name, least)
        if not (isinstance(value, int | float) and least <= value <= greatest):
            yield name, "out_of_range", f"{name} must be from {least:g} to {greatest:g}, got: {value!r}"
