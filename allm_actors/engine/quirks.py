"""How servers of one dialect differ, as data.

Rule of this file: values alone. A provider that wants something of its own says so in its row of the catalogue; what
follows from it is written once, in the dialect, in `dialects/parameters` for the fields of a chat completion, and in
`remote/options` for headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Header", "Quirks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """How a server differs from the first of its dialect.

    `include_usage`: whether usage in a stream must be asked for with `stream_options`; some servers send it unasked and
    refuse the field. `max_tokens`: what the field is called; None asks the model's name. `prompt_cache`: which of
    `key` and `retention` the server has a field for; it may refuse the other. `sealed_reasoning`: a pattern of the
    names of models whose thoughts come, sealed, for the next request if they are asked for. `thoughts_back`: the field
    of a chat message in which a server wants back what the model thought, because it forgets it otherwise. `documents`:
    how a chat message holds one: as a `file`, also one by its URL, or as a `document_url`; None is not at all.
    `call_ids`: a pattern of the ids that calls may have; None is any. `call_ids_of`: the same, for models of makers who
    take fewer. `many_vendors`: whether models of several makers are behind it, who do not take each other's thoughts.
    `after_answers`: what the model is made to have said between a tool's answer and what a user says next, to a server
    that refuses the one right after the other.

    Of the fields of a chat completion, by the names that a caller gives them: `renames`: what the server calls a field.
    `refuses`: fields that it does not know. `most`: how many items a field may list. `words`: the values that a field
    may have. `ranges`: the least and the greatest number. `only_for`: a pattern of the models that have a field; for
    the others it is left out, so that one set of options serves models with and without it.
    """

    include_usage: bool = True
    max_tokens: str | None = "max_tokens"
    prompt_cache: frozenset[str] = frozenset()
    sealed_reasoning: str | None = None
    thoughts_back: str | None = None
    call_ids: str | None = None
    call_ids_of: Mapping[str, str] = field(default_factory=dict)
    many_vendors: bool = False
    after_answers: str | None = None
    documents: Literal["file", "file or URL", "document_url"] | None = None
    renames: Mapping[str, str] = field(default_factory=dict)
    refuses: frozenset[str] = frozenset()
    most: Mapping[str, int] = field(default_factory=dict)
    words: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    only_for: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A header that `option` of `adapter_opts` fills, or the first of the variables `names` that is set."""

    name: str
    option: str
    names: tuple[str, ...] = ()
