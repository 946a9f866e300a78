"""The rules that a value must satisfy before it is sent; every failure is listed, in order.

Rule of this file: opt-in and total. Constructors check nothing, so the rules below expect anything; `validate` lists
everything that is wrong as `(field, code)`, where a field inside a value is a path (a list). Its docstring
has the codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args

from allm_actors.data.compact import TOOL_HELP, is_built_in
from allm_actors.data.errors import ValidationError
from allm_actors.data.media.images import Image
from allm_actors.data.media.sources import is_source
from allm_actors.data.messages import ImagePart, Message, Part, Role, TextPart, ToolCall
from allm_actors.data.predicates import is_number, is_positive, one_of
from allm_actors.data.requests import Request
from allm_actors.data.sessions import Session, SessionStatus
from allm_actors.data.threads import Thread
from allm_actors.data.tools import TOOL_NAME, Tool

from . import requirements
from .advice import in_words
from .pairing import are_paired, unpaired
from .requirements import is_whole

__all__ = ["RESERVED_TOOL_NAMES", "are_whole", "has_whole_calls", "validate"]

RESERVED_TOOL_NAMES = frozenset({"auto", "none", "required"})  # they are words of `tool_choice`
_ROLES = frozenset(get_args(Role))
_STATUSES = frozenset(get_args(SessionStatus))

Failure = tuple[Any, str]


def validate(value: Any) -> None:
    """Check a value; returns None when nothing in it is wrong. A provider may still not support it.

    Raises ValidationError with every failure in `errors`, and TypeError for any other kind of value. The codes:

    - message: `role` unknown; `content` invalid_part_type, invalid_type; `tool_call_id` required; `tool_calls`
      invalid_type
    - tool: `name` empty, reserved_tool_name, invalid_format; `description` not_a_string; `schema` not_a_map
    - thread: its messages; then `tool_call_id` unknown_tool_call_id (an answer without a call) or already_answered, and
      `tool_calls` unanswered_tool_call (not for the last assistant message)
    - request: `messages` empty; its messages and tools; `tools` duplicate_name; `temperature` out_of_range;
      `max_tokens` must_be_positive; `response_format` invalid_shape; `structured_finalize` requires_json_schema;
      `prompt_cache` invalid_shape; then calls and answers, of which the last message's calls too must be answered
    - session: `status` unknown; `pending_question`, `pending_tool_calls` required_for_status; `pending_tool_calls`
      invalid_type; `metadata` error_required_for_status; then its thread
    - image request: `operation` unknown; `n` must_be_positive; `response_format` unknown; `size` invalid_shape;
      `input_images` not_a_list, invalid_image, must_be_empty, invalid_count; `mask` invalid_image; `prompt`
      required_for_operation, not_allowed_for_operation
    - embedding request: `input` not_a_list, empty, and of each not_a_string, empty; `dimensions` must_be_positive;
      `task_type` unknown; `truncate` not_a_boolean
    - moderation request: `input` not_a_list, empty, and of each invalid_part_type, empty
    - speech request: `input` not_a_string, empty; `format` unknown; `speed`, `sample_rate` must_be_positive; `voice`,
      `instructions` not_a_string
    - transcription request: `audio` invalid_audio; `language`, `prompt` not_a_string
    - classification request: `questions` not_a_map, empty, and of each invalid_type, `instructions` empty, `type`
      unknown, `criteria` not_a_map, empty, not_a_list, too_few_levels, invalid_shape; `state` empty

    A value of a wrong type in place of a message, a tool or a thread is invalid_type. An image, a document or
    a clip without a valid source counts as an invalid part, image or audio.
    """
    for cls, (reason, failures) in _RULES.items():
        if isinstance(value, cls):
            errors = list(failures(value))
            if errors:
                raise _said(value, ValidationError(reason, errors, **_detail(value, errors)))
            return
    names = ", ".join(cls.__name__ for cls in _RULES)
    raise TypeError(f"validate takes one of {names}, got {type(value).__name__}")


def _said(value: Any, error: ValidationError) -> ValidationError:
    """The error, with a message that says for each failure what was expected, unless it has one already."""
    if error.message != error.default_message():
        return error
    return error.explained([in_words(value, field, code) for field, code in error.errors])


def are_whole(messages: list[Message]) -> bool:
    """Whether these text messages are a valid continuation of valid ones; False means that a full check is needed."""
    return _are_plain(messages) and are_paired(messages)


def _are_plain(messages: Any) -> bool:
    """Whether all of these are valid text messages, as most are: then no further check is needed."""
    if not isinstance(messages, list):
        return False
    for message in messages:
        if type(message) is not Message or type(message.content) is not str:
            return False
        role: object = message.role
        if type(role) is not str or role not in _ROLES or (role == "tool" and message.tool_call_id is None):
            return False
        if role == "assistant" and message.metadata and not has_whole_calls(message):
            return False
    return True


def has_whole_calls(message: Any) -> bool:
    """Whether the calls of a message, if it makes any, are `ToolCall` values."""
    metadata = message.metadata if message.role == "assistant" else None
    calls = metadata.get("tool_calls") if isinstance(metadata, dict) else None
    if calls is None:
        return True
    if not isinstance(calls, list):
        return False
    for call in calls:  # noqa: SIM110 - most have one call, and a generator costs more than that
        if not isinstance(call, ToolCall):
            return False
    return True


def _message(message: Any) -> Iterator[Failure]:
    if not one_of(message.role, _ROLES):
        yield "role", "unknown"
    if isinstance(message.content, list):
        if _foreign_part(message.content) is not None:
            yield "content", "invalid_part_type"
    elif not isinstance(message.content, str):
        yield "content", "invalid_type"
    if message.role == "tool" and message.tool_call_id is None:
        yield "tool_call_id", "required"
    if not has_whole_calls(message):
        yield "tool_calls", "invalid_type"


def _messages(messages: Any) -> Iterable[Failure]:
    return () if _are_plain(messages) else _each("messages", messages, Message, _message)


def _tool(tool: Any) -> Iterator[Failure]:
    if tool.name == "":
        yield "name", "empty"
    elif one_of(tool.name, RESERVED_TOOL_NAMES):
        yield "name", "reserved_tool_name"
    elif not (isinstance(tool.name, str) and TOOL_NAME.fullmatch(tool.name)):
        yield "name", "invalid_format"
    if not isinstance(tool.description, str):
        yield "description", "not_a_string"
    if not isinstance(tool.schema, dict):
        yield "schema", "not_a_map"


def _thread(thread: Any) -> Iterator[Failure]:
    yield from _messages(thread.messages)
    yield from unpaired(thread.messages, may_be_open=True)


def _request(request: Any) -> Iterator[Failure]:
    if request.messages == []:
        yield "messages", "empty"
    yield from _messages(request.messages)
    yield from _each("tools", request.tools, Tool, _tool)
    if _has_duplicate_names(request.tools):
        yield "tools", "duplicate_name"
    yield from _parameters(request)
    yield from unpaired(request.messages, may_be_open=False)


def _parameters(request: Any) -> Iterator[Failure]:
    if request.temperature is not None and not (
        is_number(request.temperature) and 0 <= request.temperature <= 2
    ):
        yield "temperature", "out_of_range"
    if request.max_tokens is not None and not is_positive(request.max_tokens):
        yield "max_tokens", "must_be_positive"
    shape = request.response_format
    if not (shape is None or shape == "text" or isinstance(shape, dict)):
        yield "response_format", "invalid_shape"
    if request.structured_finalize and not (isinstance(shape, dict) and shape.get("type") == "json_schema"):
        yield "structured_finalize", "requires_json_schema"
    if request.prompt_cache is not None and not _is_prompt_cache(request.prompt_cache):
        yield "prompt_cache", "invalid_shape"


def _session(session: Any) -> Iterator[Failure]:
    if not one_of(session.status, _STATUSES):
        yield "status", "unknown"
    if session.status == "awaiting_user" and session.pending_question is None:
        yield "pending_question", "required_for_status"
    if session.status == "awaiting_tools" and not session.pending_tool_calls:
        yield "pending_tool_calls", "required_for_status"
    if not isinstance(session.pending_tool_calls, list) or not all(
        isinstance(call, ToolCall) for call in session.pending_tool_calls
    ):
        yield "pending_tool_calls", "invalid_type"
    if session.status == "error" and not _has_error(session.metadata):
        yield "metadata", "error_required_for_status"
    if isinstance(session.thread, Thread):
        yield from _under(["thread"], _thread(session.thread))
    else:
        yield "thread", "invalid_type"


_RULES: dict[type[Any], tuple[str, Callable[[Any], Iterable[Failure]]]] = {
    Message: ("invalid_message", _message),
    Tool: ("invalid_tool", _tool),
    Thread: ("invalid_thread", _thread),
    Request: ("invalid_request", _request),
    Session: ("invalid_session", _session),
    **requirements.RULES,
}


def _detail(value: Any, errors: list[Failure]) -> dict[str, Any]:
    """For a message on its own: says which part is invalid, in the message and in `metadata`."""
    if ("content", "invalid_part_type") not in errors:  # inside any other value, the field is a path
        return {}
    got = _foreign_part(value.content)
    return {
        "message": f"validation failed: content element is not a TextPart, an ImagePart or a DocumentPart (got: {got})",
        "metadata": {
            "invalid_part_type": {"expected": [part.__name__ for part in get_args(Part)], "got": got}
        },
    }


def _foreign_part(content: Any) -> str | None:
    """Describes the first part that cannot be sent; None if all can."""
    for part in content:
        kind = type(part)
        if kind is TextPart or (
            kind is ImagePart and type(part.image) is Image and is_source(part.image.source)
        ):
            continue  # the most common case
        if not isinstance(part, Part):
            return "Map" if isinstance(part, dict) else kind.__name__
        if not is_whole(part):
            return f"{type(part).__name__} whose source is none"
    return None


def _each(
    name: str, values: Any, cls: type[Any], rule: Callable[[Any], Iterable[Failure]]
) -> Iterator[Failure]:
    if not isinstance(values, list):
        yield name, "invalid_type"
        return
    for index, value in enumerate(values):
        if isinstance(value, cls):
            for failure in rule(value):
                yield from _under([name, index], (failure,))
        else:
            yield [name, index], "invalid_type"


def _under(prefix: list[Any], failures: Iterable[Failure]) -> Iterator[Failure]:
    for field, code in failures:
        yield [*prefix, *(field if isinstance(field, list) else [field])], code


def _has_duplicate_names(tools: Any) -> bool:
    tools = [tool for tool in tools if isinstance(tool, Tool)] if isinstance(tools, list) else []
    names = [tool.name for tool in tools if isinstance(tool.name, str)]
    if any(tool.compact for tool in tools) and not any(map(is_built_in, tools)):
        names.append(TOOL_HELP)  # compact tools add `tool_help`
    return len(set(names)) < len(names)


def _has_error(metadata: Any) -> bool:
    return isinstance(metadata, dict) and metadata.get("error") is not None


def _is_prompt_cache(value: Any) -> bool:
    if not (isinstance(value, dict) and value.keys() == {"key", "retention"}):
        return False
    key = value["key"]
    return (key is None or (isinstance(key, str) and key != "")) and one_of(
        value["retention"], ("short", "long")
    )
