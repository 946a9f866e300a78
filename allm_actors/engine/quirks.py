"""How servers of one dialect differ, as data.

Rule of this file: values only. A provider's deviation is a value in its row of the catalogue; its effect is
implemented once, in the dialect, in `dialects/parameters` for the fields of a chat completion, in `dialects/formats`
for response formats, and in `remote/options` for headers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

__all__ = ["SAMPLING", "Header", "Quirks", "is_one_of"]

SAMPLING: Final = ("temperature", "top_p", "top_k")
"""The fields that say how a token is drawn, as most servers call them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """How a server differs from the reference server of its dialect.

    `include_usage`: whether usage in a stream must be requested with `stream_options`; some servers always
    send it and refuse the field. `max_tokens`: the name of that field; with None it depends on the model's
    name. `prompt_cache`: which of `key` and `retention` the server has a field for; it may refuse the other.
    `sealed_reasoning`: a pattern of the names of models that return sealed thoughts on request, to be sent
    back. `thoughts_back`: the field of a chat message in which a server wants the model's thoughts back,
    because it does not keep them; in `content` they are parts beside the text. `no_thoughts`: what it wants
    there if there were none. `documents`: how a chat message holds one: as a `file`, or as one that may be a
    URL, or as a `document_url`; None: not at all. `call_ids`: a pattern of the ids that calls may have; None
    is any. `call_ids_of`: the same, for vendors whose models accept fewer. `many_vendors`: whether it serves
    models of several vendors, which do not accept each other's thoughts. `after_answers`: text of an
    assistant message to insert between a tool's answer and a user's message, for a server that refuses the
    one directly after the other.

    `blank_answers`: whether it accepts an assistant's message without text and calls; without, such a message
    is left out. `system_first`: whether it refuses system messages behind others; they are sent before them.
    `alternating`: whether it wants the user and the assistant to take turns. `names`: the roles whose
    messages may have a name; it is left out of all others. `reasons`: what a status or a code of an error
    means, where it means something else than elsewhere.

    For response formats: `schemas`: a pattern of the models whose answers can be held to a JSON schema; None is
    any. `schemas_streamed`: whether such an answer can be streamed. `formats_beside_tools`: a pattern of the
    models that take JSON, or a schema, together with tools, while none of them must be called; None is any, and
    always. What a model does not take is told in the system message.

    For the fields of a chat completion, by the caller's names: `renames`: the server's name of a field.
    `refuses`: fields that it does not know. `most`: how many items a field may list. `words`: the values that
    a field may have. `ranges`: its least and greatest number. `only_for`: a pattern of the models that have a
    field; for the others it is left out, so that one set of options serves models with and without it. Those
    of `SAMPLING` depend on `reasoning_effort`, too, where a model has that: they are there while it is `none`.
    """

    include_usage: bool = True
    max_tokens: str | None = "max_tokens"
    prompt_cache: frozenset[str] = frozenset()
    sealed_reasoning: str | None = None
    thoughts_back: str | None = None
    no_thoughts: str | None = None
    call_ids: str | None = None
    call_ids_of: Mapping[str, str] = field(default_factory=dict)
    many_vendors: bool = False
    after_answers: str | None = None
    blank_answers: bool = True
    system_first: bool = False
    alternating: bool = False
    names: frozenset[str] = frozenset({"system", "user", "assistant"})
    schemas: str | None = None
    schemas_streamed: bool = True
    formats_beside_tools: str | None = None
    reasons: Mapping[int | str, str] = field(default_factory=dict)
    documents: Literal["file", "file or URL", "document_url"] | None = None
    renames: Mapping[str, str] = field(default_factory=dict)
    refuses: frozenset[str] = frozenset()
    most: Mapping[str, int] = field(default_factory=dict)
    words: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    only_for: Mapping[str, str] = field(default_factory=dict)

    def knows(self, name: str, model: str | None, effort: object = None) -> bool:
        """Whether this model has the field of that name, if it is to reason with this effort."""
        if effort is not None and name in SAMPLING and self.knows("reasoning_effort", model):
            return name not in self.only_for or effort == "none"
        return is_one_of(self.only_for.get(name), model)


def is_one_of(models: str | None, model: str | None) -> bool:
    """Whether a model's name begins as the pattern says; None is any name."""
    return models is None or re.match(models, model or "", re.IGNORECASE) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A header that `option` of `adapter_opts` fills, or the first of the variables `names` that is set."""

    name: str
    option: str
    names: tuple[str, ...] = ()
