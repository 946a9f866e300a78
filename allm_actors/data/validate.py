"""What a value must be before it is sent: every failure, in order.

Rule of this file: opt-in and total. Constructors check nothing, so the rules below expect anything; `validate` lists
all that is wrong as `(field, code)`, where a field inside a value is a path (a list). Its docstring has the codes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args

from .compact import TOOL_HELP, is_built_in
from .errors import ValidationError
from .images import Image, ImageRequest
from .messages import ImagePart, Message, Role, TextPart
from .pairing import unpaired
from .requests import Request
from .sessions import Session, SessionStatus
from .threads import Thread
from .tools import Tool

__all__ = ["RESERVED_TOOL_NAMES", "validate"]

RESERVED_TOOL_NAMES = frozenset({"auto", "none", "required"})  # they are words of `tool_choice`
_ROLES = frozenset(get_args(Role))
_STATUSES = frozenset(get_args(SessionStatus))
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

Failure = tuple[Any, str]


def validate(value: Message | Tool | Thread | Request | Session | ImageRequest) -> None:
    """Check a value; returns None when it can be sent.

    Raises ValidationError with every failure in `errors`, and TypeError for any other kind of value. The codes:

    - message: `role` unknown; `content` invalid_part_type, invalid_type; `tool_call_id` required
    - tool: `name` empty, reserved_tool_name, invalid_format; `description` not_a_string; `schema` not_a_map
    - thread: its messages; then `tool_call_id` unknown_tool_call_id (an answer without a call) or already_answered, and
      `tool_calls` unanswered_tool_call (not for the last assistant message)
    - request: `messages` empty; its messages and tools; `tools` duplicate_name; `temperature` out_of_range;
      `max_tokens` must_be_positive; `response_format` invalid_shape; `structured_finalize` requires_json_schema;
      `prompt_cache` invalid_shape; then calls and answers, of which the last message's calls too must be answered
    - session: `status` unknown; `pending_question`, `pending_tool_calls` required_for_status; `metadata`
      error_required_for_status; then its thread
    - image request: `operation` unknown; `n` must_be_positive; `response_format` unknown; `size` invalid_shape;
      `input_images` not_a_list, invalid_image, must_be_empty, invalid_count; `mask` invalid_image; `prompt`
      required_for_operation, not_allowed_for_operation

    A value of a wrong type where a message, a tool or a thread belongs is invalid_type.
    """
    for cls, (reason, failures) in _RULES.items():
        if isinstance(value, cls):
            errors = list(failures(value))
            if errors:
                raise ValidationError(reason, errors, **_detail(value, errors))
            return
    names = ", ".join(cls.__name__ for cls in _RULES)
    raise TypeError(f"validate takes one of {names}, got {type(value).__name__}")


def _message(message: Any) -> Iterator[Failure]:
    if not _one_of(message.role, _ROLES):
        yield "role", "unknown"
    if isinstance(message.content, list):
        if _foreign_part(message.content) is not None:
            yield "content", "invalid_part_type"
    elif not isinstance(message.content, str):
        yield "content", "invalid_type"
    if message.role == "tool" and message.tool_call_id is None:
        yield "tool_call_id", "required"


def _tool(tool: Any) -> Iterator[Failure]:
    if tool.name == "":
        yield "name", "empty"
    elif _one_of(tool.name, RESERVED_TOOL_NAMES):
        yield "name", "reserved_tool_name"
    elif not (isinstance(tool.name, str) and _TOOL_NAME.fullmatch(tool.name)):
        yield "name", "invalid_format"
    if not isinstance(tool.description, str):
        yield "description", "not_a_string"
    if not isinstance(tool.schema, dict):
        yield "schema", "not_a_map"


def _thread(thread: Any) -> Iterator[Failure]:
    yield from _each("messages", thread.messages, Message, _message)
    yield from unpaired(thread.messages, open_calls=True)


def _request(request: Any) -> Iterator[Failure]:
    if request.messages == []:
        yield "messages", "empty"
    yield from _each("messages", request.messages, Message, _message)
    yield from _each("tools", request.tools, Tool, _tool)
    if _has_duplicate_names(request.tools):
        yield "tools", "duplicate_name"
    yield from _parameters(request)
    yield from unpaired(request.messages, open_calls=False)


def _parameters(request: Any) -> Iterator[Failure]:
    if request.temperature is not None and not (
        _is_number(request.temperature) and 0 <= request.temperature <= 2
    ):
        yield "temperature", "out_of_range"
    if request.max_tokens is not None and not _is_positive(request.max_tokens):
        yield "max_tokens", "must_be_positive"
    shape = request.response_format
    if not (shape is None or shape == "text" or isinstance(shape, dict)):
        yield "response_format", "invalid_shape"
    if request.structured_finalize and not (isinstance(shape, dict) and shape.get("type") == "json_schema"):
        yield "structured_finalize", "requires_json_schema"
    if request.prompt_cache is not None and not _is_prompt_cache(request.prompt_cache):
        yield "prompt_cache", "invalid_shape"


def _session(session: Any) -> Iterator[Failure]:
    if not _one_of(session.status, _STATUSES):
        yield "status", "unknown"
    if session.status == "awaiting_user" and session.pending_question is None:
        yield "pending_question", "required_for_status"
    if session.status == "awaiting_tools" and not session.pending_tool_calls:
        yield "pending_tool_calls", "required_for_status"
    if session.status == "error" and not _has_error(session.metadata):
        yield "metadata", "error_required_for_status"
    if isinstance(session.thread, Thread):
        yield from _under(["thread"], _thread(session.thread))
    else:
        yield "thread", "invalid_type"


def _image_request(request: Any) -> Iterator[Failure]:
    if not _one_of(request.operation, ("generate", "edit", "variation")):
        yield "operation", "unknown"
    if not _is_positive(request.n):
        yield "n", "must_be_positive"
    if not _one_of(request.response_format, ("binary", "base64", "url")):
        yield "response_format", "unknown"
    if not _is_size(request.size):
        yield "size", "invalid_shape"
    if isinstance(request.input_images, list):
        for index, image in enumerate(request.input_images):
            if not isinstance(image, Image):
                yield ["input_images", index], "invalid_image"
    else:
        yield "input_images", "not_a_list"
    if not isinstance(request.mask, Image | None):
        yield "mask", "invalid_image"
    yield from _for_operation(request)


def _for_operation(request: Any) -> Iterator[Failure]:
    operation, images = request.operation, request.input_images
    count = len(images) if isinstance(images, list) else None
    if operation in ("generate", "edit") and not (isinstance(request.prompt, str) and request.prompt):
        yield "prompt", "required_for_operation"
    if operation == "variation" and request.prompt not in (None, ""):
        yield "prompt", "not_allowed_for_operation"
    if operation == "generate" and count:
        yield "input_images", "must_be_empty"
    if (operation == "edit" and count not in (1, 2, None)) or (
        operation == "variation" and count not in (1, None)
    ):
        yield "input_images", "invalid_count"


_RULES: dict[type[Any], tuple[str, Callable[[Any], Iterable[Failure]]]] = {
    Message: ("invalid_message", _message),
    Tool: ("invalid_tool", _tool),
    Thread: ("invalid_thread", _thread),
    Request: ("invalid_request", _request),
    Session: ("invalid_session", _session),
    ImageRequest: ("invalid_image_request", _image_request),
}


def _detail(value: Any, errors: list[Failure]) -> dict[str, Any]:
    """For a message on its own: which part is not a part, in words and in `metadata`."""
    if not isinstance(value, Message) or ("content", "invalid_part_type") not in errors:
        return {}
    got = _foreign_part(value.content)
    return {
        "message": f"validation failed: content element is not a TextPart or an ImagePart (got: {got})",
        "metadata": {"invalid_part_type": {"expected": ["TextPart", "ImagePart"], "got": got}},
    }


def _foreign_part(content: Any) -> str | None:
    for part in content:
        if not isinstance(part, TextPart | ImagePart):
            return "Map" if isinstance(part, dict) else type(part).__name__
    return None


def _each(
    name: str, values: Any, cls: type[Any], rule: Callable[[Any], Iterable[Failure]]
) -> Iterator[Failure]:
    if not isinstance(values, list):
        yield name, "invalid_type"
        return
    for index, value in enumerate(values):
        if isinstance(value, cls):
            yield from _under([name, index], rule(value))
        else:
            yield [name, index], "invalid_type"


def _under(prefix: list[Any], failures: Iterable[Failure]) -> Iterator[Failure]:
    for field, code in failures:
        yield [*prefix, *(field if isinstance(field, list) else [field])], code


def _has_duplicate_names(tools: Any) -> bool:
    tools = [tool for tool in tools if isinstance(tool, Tool)] if isinstance(tools, list) else []
    names = [tool.name for tool in tools if isinstance(tool.name, str)]
    if any(tool.compact for tool in tools) and not any(map(is_built_in, tools)):
        names.append(TOOL_HELP)  # compact tools bring the tool that explains them
    return len(set(names)) < len(names)


def _has_error(metadata: Any) -> bool:
    return isinstance(metadata, dict) and metadata.get("error") is not None


def _one_of(value: Any, words: Iterable[str]) -> bool:
    return isinstance(value, str) and value in words


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_prompt_cache(value: Any) -> bool:
    if not (isinstance(value, dict) and value.keys() == {"key", "retention"}):
        return False
    key = value["key"]
    return (key is None or (isinstance(key, str) and key != "")) and _one_of(
        value["retention"], ("short", "long")
    )


def _is_size(value: Any) -> bool:
    if isinstance(value, tuple):
        return len(value) == 2 and all(map(_is_positive, value))
    return value is None or isinstance(value, str)
