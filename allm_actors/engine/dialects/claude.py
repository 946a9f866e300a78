"""What Claude wants at every provider.

Rule of this file: pure.

**Thoughts** of newer models are bound to what came before them. If `system`, `tools` or an earlier message has changed
since, because a program was deployed again or a message was removed, a request with such a thought is refused, and so
is every later one of the conversation. So the server is asked to leave it out; the conversation goes on without it.
It can be asked so beside adaptive thinking only.

Newer models **think** unless they are told not to, and their most tokens limit thoughts and answer together.

**Tools** cannot be forced on newer models. Such a model is held to the schema of an answer in another way.

**Schemas** that an answer is held to may use a part of JSON Schema only, and all else is refused. What is left out is
said in the description, and checked when the answer is read.

Source: https://platform.claude.com/docs/en/build-with-claude/preserved-thinking,
https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-thinking-block-binding.html,
https://github.com/pydantic/pydantic-ai/blob/main/pydantic_ai_slim/pydantic_ai/models/anthropic/_thinking_binding.py,
https://platform.claude.com/docs/en/models/opus-5-5/whats-new-opus-5-5 ("Forced tool use returns an error"),
https://platform.claude.com/docs/en/models/sonnet-5-5/whats-new-sonnet-5-5 (the same, and thinking "on by
default"), https://github.com/pydantic/pydantic-ai/blob/main/pydantic_ai_slim/pydantic_ai/profiles/anthropic.py,
https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations and
https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html; all read 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from allm_actors.data.schemas.strict import is_strict, said_in_words
from allm_actors.data.schemas.walking import DEFS, Schema, references, walk
from allm_actors.engine.catalog import NEWER_CLAUDE
from allm_actors.engine.dialects.histories import began_without_thoughts
from allm_actors.engine.dialects.lenient import dicts_of

__all__ = [
    "BETA",
    "Kinds",
    "binds_thoughts",
    "can_be_forced",
    "constrained",
    "keep_stale_thoughts_out",
    "needs_beta",
    "thinks_too_late",
    "thinks_unasked",
]

Kinds = Callable[[Any], list[str]]
"""The kind of each block of a turn's content, of which `thought`, `call` and `result` matter."""

BETA: Final = "thinking-binding-controls-2026-08-01"
"""The beta feature without which `block_binding` is refused."""

# A number after the family is a version; a longer one is the date of a snapshot.
_UNFORCED = re.compile(r"claude-(?:fable|mythos)-|claude-(?:opus|sonnet)-(?:5-[5-9]|[6-9]|[1-9]\d)(?!\d)")
_THINKS = re.compile(NEWER_CLAUDE)
_BINDS = re.compile(r"claude-[a-z]+-(?:5-[1-9]|[6-9]|[1-9]\d)(?!\d)")
_KEYWORDS = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "allOf"}
    | {"$ref", "$defs", "title", "description"}
)
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)


def binds_thoughts(model: object) -> bool:
    """Whether this model's thoughts are bound to the conversation."""
    return _BINDS.search(str(model or "")) is not None


def can_be_forced(model: object) -> bool:
    """Whether a request may force this model to call a tool."""
    return _UNFORCED.search(str(model or "")) is None


def thinks_unasked(model: object) -> bool:
    """Whether this model thinks unless it is told not to."""
    return _THINKS.search(str(model or "")) is not None


def thinks_too_late(thinking: object, turns: object, kinds: Kinds) -> bool:
    """Whether thinking is turned on in the middle of a step that began without: the API wants the earlier thoughts."""
    if not isinstance(thinking, Mapping) or thinking.get("type") != "enabled":
        return False
    told = dicts_of(turns)
    return began_without_thoughts([(str(turn.get("role")), kinds(turn.get("content"))) for turn in told])


def keep_stale_thoughts_out(body: dict[str, Any], options: dict[str, Any], kinds: Kinds) -> None:
    """Let no thought in the messages of `body` be refused; `options` has the request's `thinking`.

    If it is turned off, nothing can be said about thoughts in it, and they are left out here.
    """
    turns, thinking = dicts_of(body.get("messages")), options.get("thinking")
    if not any("thought" in kinds(turn.get("content")) for turn in turns):
        return
    if isinstance(thinking, Mapping) and thinking.get("type") == "disabled":
        left = (_without_thoughts(turn, kinds) for turn in turns)
        body["messages"] = [turn for turn in left if turn["content"]]
    else:
        options["thinking"] = _leaving_out_stale(thinking)


def _without_thoughts(turn: dict[str, Any], kinds: Kinds) -> dict[str, Any]:
    content = turn.get("content")
    if not isinstance(content, list):
        return turn
    kept = [block for block, kind in zip(content, kinds(content), strict=True) if kind != "thought"]
    return {**turn, "content": kept}


def _leaving_out_stale(thinking: Any) -> Any:
    """The `thinking` with which the server leaves out the thoughts that it would refuse.

    What the caller says in it stays, also about this. Beside another way of thinking nothing is added.
    """
    given = {} if thinking is None else thinking
    if not isinstance(given, Mapping) or given.get("type", "adaptive") != "adaptive":
        return thinking
    binding = {"prefix_mismatch_behavior": "drop_block"}
    return {"type": "adaptive", "block_binding": binding, **given}


def needs_beta(thinking: object) -> bool:
    """Whether a request's `thinking` says something that is refused without the beta feature."""
    return isinstance(thinking, Mapping) and "block_binding" in thinking


def constrained(schema: Schema) -> Schema | None:
    """The schema in a form that an answer can be held to; None if it has none, as a map of any keys or a recursion."""
    tree: Schema = walk(schema, _constrained)
    return tree if is_strict(tree) and not _is_recursive(tree) else None


def _constrained(schema: Schema) -> Schema:
    tree = {key: value for key, value in schema.items() if key not in ("default", "discriminator")}
    if "oneOf" in tree and "anyOf" not in tree:
        tree["anyOf"] = tree.pop("oneOf")
    if "$ref" in tree and tree.keys() - {"$ref", "$defs"}:
        alone = {"$ref": tree.pop("$ref")}
        if "anyOf" in tree:
            tree["allOf"] = [*tree.get("allOf", ()), alone]
        else:
            tree["anyOf"] = [alone]
    if "properties" in tree:
        tree.setdefault("additionalProperties", False)
    told = {key: value for key, value in tree.items() if key not in _KEYWORDS}
    if told.get("format") in _FORMATS:
        del told["format"]
    if told.get("minItems") in (0, 1):
        del told["minItems"]
    return said_in_words(tree, told)


def _is_recursive(tree: Schema) -> bool:
    definitions: dict[str, Any] = tree.get("$defs", {})
    used = {name: references(definition) for name, definition in definitions.items()}
    if not all(each.startswith(DEFS) for each in references(tree)):
        return True  # to the schema itself
    order = TopologicalSorter(
        {name: [each.removeprefix(DEFS) for each in refs] for name, refs in used.items()}
    )
    try:
        order.prepare()
    except CycleError:
        return True
    return False
