"""Failures of `validate` in words: what was expected, and what was found.

Rule of this file: the codes are for programs and do not change; these words are for people. Of what was found
only a word or a number is shown, and only in fields that never hold text of a conversation, or a key.
"""

from __future__ import annotations

from typing import Any, get_args, get_origin

from allm_actors.data.media.audio import FORMATS
from allm_actors.data.messages import Role
from allm_actors.data.services.classification import QuestionType
from allm_actors.data.services.embeddings import TaskType
from allm_actors.data.sessions import SessionStatus

__all__ = ["in_words"]

_LONGEST = 60
_SHOWN = frozenset(
    {"temperature", "max_tokens", "response_format", "role", "name", "n", "size", "dimensions", "speed"}
    | {"sample_rate", "operation", "format", "task_type", "status", "type", "truncate", "structured_finalize"}
)


def _one_of(words: Any) -> str:
    return f"one of {', '.join(map(repr, sorted(words)))}"


_BELONGS: dict[tuple[str, str], str] = {
    ("temperature", "out_of_range"): "a number from 0 to 2",
    ("response_format", "invalid_shape"): "'text' or a dict, such as allm.json_schema(name, type)",
    ("response_format", "unknown"): _one_of(["binary", "base64", "url"]),
    (
        "prompt_cache",
        "invalid_shape",
    ): "True (only as an option of a call), or a dict with 'key' and a 'retention' of 'short' or 'long'",
    ("role", "unknown"): _one_of(get_args(Role)),
    ("status", "unknown"): _one_of(get_args(SessionStatus)),
    ("operation", "unknown"): _one_of(["generate", "edit", "variation"]),
    ("format", "unknown"): _one_of(FORMATS),
    ("task_type", "unknown"): _one_of(get_args(TaskType)),
    ("type", "unknown"): _one_of(get_args(QuestionType)),
    ("name", "invalid_format"): "1 to 64 letters, digits, _ and - (set it with name=)",
    ("name", "reserved_tool_name"): "a name that is not a word of tool_choice (set it with name=)",
    ("content", "invalid_type"): "text, or a list of TextPart, ImagePart and DocumentPart",
    ("speed", "must_be_positive"): "a number above 0",
    ("size", "invalid_shape"): "a text such as '1024x1024', or a tuple of two whole numbers above 0",
    ("messages", "invalid_type"): "a list of messages, such as [allm.user('…')]",
    ("messages.*", "invalid_type"): "a Message, such as allm.user('…')",
    ("tools", "invalid_type"): "a list of tools (see allm.tool)",
    ("tools.*", "invalid_type"): "a Tool (see allm.tool)",
    ("thread", "invalid_type"): "a Thread",
    ("questions.*", "invalid_type"): "a ClassificationQuestion, such as ClassificationQuestion.choice(…)",
    ("criteria", "invalid_shape"): "None, or a dict that says what 'true' and 'false' mean",
    ("schema", "not_a_map"): "a dict with a JSON Schema",
    **{
        ("", code): words
        for code, words in {
            "must_be_positive": "a whole number above 0",
            "not_a_string": "a text",
            "not_a_list": "a list",
            "not_a_map": "a dict",
            "not_a_boolean": "True or False",
            "invalid_image": "an Image with a source, such as Image.from_file makes",
            "invalid_audio": "an Audio with a source, such as Audio.from_file makes",
        }.items()
    },
}
_ADVICE: dict[tuple[str, str], str] = {
    (
        "structured_finalize",
        "requires_json_schema",
    ): "it needs a response_format of allm.json_schema(name, type)",
    (
        "content",
        "invalid_part_type",
    ): (
        "each part must be a TextPart, an ImagePart or a DocumentPart, with a source such as Image.from_file "
        "sets"
    ),
    (
        "",
        "invalid_part_type",
    ): "each must be a text or an ImagePart, with a source such as Image.from_file sets",
    ("input_images", "invalid_count"): "an edit takes one or two pictures, and a variation takes one",
    (
        "input_images",
        "must_be_empty",
    ): "to change a picture, use operation='edit' or allm.edit_image",
    ("prompt", "required_for_operation"): "describe the picture in a non-empty text",
    ("prompt", "not_allowed_for_operation"): "a variation takes no prompt; use an edit if you need one",
    ("criteria", "too_few_levels"): "a scale needs at least two levels",
    ("messages", "empty"): "give at least one message, such as [allm.user('…')]",
    ("tools", "duplicate_name"): "a model cannot tell two tools with the same name apart; rename one",
    (
        "tool_call_id",
        "required",
    ): "a tool message must say which call it answers, as allm.tool_result(id, …) does",
    **dict.fromkeys(
        (("tool_calls", "invalid_type"), ("pending_tool_calls", "invalid_type")),
        "it must be a list of ToolCall values, such as allm.from_json returns",
    ),
    ("", "empty"): "it must not be empty",
    ("", "unknown_tool_call_id"): "no message before it contains the call that it answers",
    ("", "already_answered"): "the call that it answers already has an answer",
    (
        "",
        "unanswered_tool_call",
    ): "each of its calls needs an id and an answer of its own, as allm.tool_result(id, …) makes",
    ("", "required_for_status"): "a session with that status must have one",
    ("", "error_required_for_status"): "a session that ended in an error must have it in metadata['error']",
}


def in_words(value: Any, field: Any, code: str) -> str | None:
    """What was expected in the field of the value, and what was found; None for a code that needs no explanation."""
    path = field if isinstance(field, list) else [field]
    is_id = len(path) == 2 and path[0] == "questions"  # an id may equal a field's name
    named = isinstance(path[-1], str) and not is_id
    name = path[-1] if named else f"{path[-2]}.*"
    belongs = _BELONGS.get((name, code)) or _BELONGS.get(("", code))
    if belongs is None:
        return _ADVICE.get((name, code)) or _ADVICE.get(("", code))
    there = _at(value, path)
    instead = "; pass it as response_model" if name == "response_format" and _is_a_type(there) else ""
    return f"expected {belongs}, got {_shown(name, there)}{instead}"


def _at(value: Any, path: list[Any]) -> Any:
    for step in path:
        value = value[step] if isinstance(value, list | dict) else getattr(value, step)
    return value


def _is_a_type(value: Any) -> bool:
    return isinstance(value, type) or get_origin(value) is not None


def _shown(field: str, value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    plain = value is None or isinstance(value, str | int | float | tuple)
    try:
        text = repr(value) if plain and field in _SHOWN else ""
    except ValueError:  # a number with more digits than Python writes
        text = ""
    return text if 0 < len(text) <= _LONGEST else type(value).__name__
