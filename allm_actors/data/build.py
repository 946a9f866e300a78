"""Short ways to write messages, requests and tools.

Rule of this file: programming mistakes are refused here (a wrong option, a type without a schema); whether
the values make sense together is for `validate` to say.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypedDict, TypeVar, Unpack, overload

import msgspec

from .encoding import json_text
from .media.images import Image, ImageRequest
from .messages import Message, Part, TextPart
from .predicates import all_of
from .requests import ModelRef, Request
from .schemas import docstrings
from .schemas.handlers import called, context_of, handler_of
from .schemas.normal import normalized
from .schemas.schema import json_schema, of_function
from .schemas.signature import signature_of
from .threads import Thread
from .tools import TOOL_NAME, Effect, Isolation, Tool
from .utf8 import utf8_of

__all__ = [
    "assistant",
    "called",
    "context_of",
    "image_request",
    "json_schema",
    "request",
    "system",
    "tool",
    "tool_result",
    "user",
]


class ToolOptions(TypedDict, total=False):
    """The options of a tool besides its name, description, schema and handler; see `Tool`."""

    manual: bool
    compact: bool
    summary: str | None
    timeout: float | None
    isolation: Isolation
    effect: Effect
    metadata: dict[str, Any]


class RequestOptions(TypedDict, total=False):
    """The fields of a `Request`, as `request` takes them; a `model` may also be a `ModelRef`."""

    messages: Iterable[Message] | Thread | str
    model: str | ModelRef | None
    tools: list[Tool]
    tool_choice: str | tuple[str, str] | Mapping[str, Any] | None
    temperature: float | None
    max_tokens: int | None
    response_format: str | Mapping[str, Any] | None
    stream: bool
    structured_finalize: bool
    prompt_cache: dict[str, Any] | None
    options: dict[str, Any]
    metadata: dict[str, Any]


class ImageRequestOptions(TypedDict, total=False):
    """The fields of an `ImageRequest`, as `image_request` takes them; a `model` may also be a `ModelRef`."""

    operation: Literal["generate", "edit", "variation"]
    model: str | ModelRef | None
    prompt: str | None
    n: int
    size: tuple[int, int] | list[int] | str | None
    quality: str | None
    style: str | None
    background: str | None
    response_format: Literal["binary", "base64", "url"]
    input_images: list[Image]
    mask: Image | None
    options: dict[str, Any]
    metadata: dict[str, Any]


P = TypeVar("P", bound=Part)  # a list of one kind of part will do


def system(text: str) -> Message:
    """A system message: what the model should be and do. Raises TypeError for anything but text."""
    return Message(role="system", content=_text("system", text))


@overload
def user(content: str | list[Part]) -> Message: ...
@overload
def user(content: list[P]) -> Message: ...
def user(content: str | list[P]) -> Message:
    """A user message: text, or a list of `TextPart`, `ImagePart` and `DocumentPart`.

    Raises TypeError for anything else.
    """
    if not isinstance(content, list):
        _text("user", content, "text or a list of parts")
    return Message(role="user", content=content)  # type: ignore[arg-type]


def assistant(text: str) -> Message:
    """An assistant message, as if the model had said it. Raises TypeError for anything but text.

    One that makes calls is a `Message(role="assistant", content="", metadata={"tool_calls": [ToolCall(…)]})`.
    """
    return Message(role="assistant", content=_text("assistant", text))


def tool_result(id: str, content: Any) -> Message:
    """The tool message that answers the call `id`; content other than text or parts is written as JSON.

    A lone surrogate, as a file name may contain, becomes U+FFFD. Raises TypeError for what cannot be written
    as JSON.
    """
    if isinstance(content, str):
        return Message(role="tool", content=utf8_of(content), tool_call_id=id)
    if _are_parts(content):
        return Message(role="tool", content=utf8_parts(content), tool_call_id=id)
    return Message(role="tool", content=_json_of(content), tool_call_id=id)


def utf8_parts(parts: list[Part]) -> list[Part]:
    """These parts, with U+FFFD for each lone surrogate in their texts."""
    return [
        msgspec.structs.replace(part, text=utf8_of(part.text)) if isinstance(part, TextPart) else part
        for part in parts
    ]


def request(
    messages: Iterable[Message] | Thread | str | None = None, /, **options: Unpack[RequestOptions]
) -> Request:
    """A request of messages; options are the fields of `Request`. A text is one user message.

    Raises TypeError for what holds no messages, or messages that are given twice, and for an unknown option, naming the
    nearest one. Whether each item is a valid message is for `validate` to say.
    """
    _check_options("request", Request, options)
    fields: dict[str, Any] = {**options}
    given = _once("request", "messages", messages, fields)
    if isinstance(given, Thread):
        given = given.messages
    return Request(messages=[user(given)] if isinstance(given, str) else _messages(given), **fields)


def image_request(prompt: str | None = None, /, **options: Unpack[ImageRequestOptions]) -> ImageRequest:
    """A request for images; options are the fields of `ImageRequest`. A positional prompt wins over `prompt=`.

    Raises TypeError for a prompt that is no text, and for an unknown option, naming the nearest one.
    """
    _check_options("image_request", ImageRequest, options)
    fields: dict[str, Any] = {**options}
    named = fields.pop("prompt", None)
    given = named if prompt is None else prompt
    return ImageRequest(prompt=None if given is None else _text("image_request", given), **fields)


@overload
def tool(
    function: Callable[..., Any],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    schema: Mapping[Any, Any] | None = None,
    **options: Unpack[ToolOptions],
) -> Tool: ...
@overload
def tool(
    *,
    name: str,
    description: str,
    schema: Mapping[Any, Any],
    handler: Callable[..., Any] | None = None,
    **options: Unpack[ToolOptions],
) -> Tool: ...
@overload
def tool(
    *, name: str | None = None, description: str | None = None, **options: Unpack[ToolOptions]
) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    schema: Mapping[Any, Any] | None = None,
    handler: Callable[..., Any] | None = None,
    **options: Any,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """A tool from a function, or from its parts.

    `@tool` and `@tool(name=…, manual=True, …)` take name, description and schema from the function; the model's
    arguments are converted to the annotated types, and a parameter that is annotated `ToolContext`, or is named
    `context` without a type of its own, gets the `ToolContext`. A method becomes a tool when it is bound:
    `tool(shop.price)`. `tool(function, schema=…)` tells the model this schema in place of the signature's.
    `tool(name=…, description=…, schema=…, handler=…)` takes them as they are: the handler gets the arguments as one
    dict, and the `ToolContext` if it has a second parameter. Options are the other fields of `Tool`.
    Raises TypeError for an unknown option, a missing part, a function and a handler given together, a method
    that is not bound, or a parameter whose type JSON cannot express, and ValueError for a name that no
    provider accepts, or a schema that contains itself.
    """
    _check_options("tool", Tool, options)
    if function is not None:
        if handler is not None:
            raise TypeError("tool takes a function, which is its handler, or a handler=, not both")
        return _from_function(function, sys._getframe(1).f_locals, name, description, schema, options)  # noqa: SLF001
    if schema is None and handler is None:
        return lambda f: _from_function(f, sys._getframe(1).f_locals, name, description, None, options)  # noqa: SLF001
    parts: dict[str, Any] = {"name": name, "description": description, "schema": schema}
    missing = [part for part, value in parts.items() if value is None]
    if missing:
        raise TypeError(
            f"tool needs {', '.join(missing)}; to take them from the function, decorate it with @tool, or say "
            "tool(function, schema=…)"
        )
    own = {"name": _checked_name(name), "schema": _checked_schema(schema, name)}
    return Tool(**{**parts, **own}, handler=handler, **options)


def _messages(given: Any) -> list[Any]:
    if isinstance(given, (Mapping, bytes, bytearray)) or not isinstance(given, Iterable):
        raise TypeError(f"allm.request takes messages, a Thread or a text, got {type(given).__name__}")
    return list(given)


def _json_of(content: Any) -> str:
    try:
        try:
            return json_text(content)
        except UnicodeEncodeError:
            return json_text(utf8_of(msgspec.to_builtins(content)))
    except RecursionError:
        why = "it contains itself, or is nested too deeply"
    except (TypeError, ValueError) as error:
        why = f"{error}; give text, plain data or message parts, and for an error its text"
    raise TypeError(f"allm.tool_result cannot write this {type(content).__name__} as JSON: {why}")


def _checked_name(name: Any) -> Any:
    if not (isinstance(name, str) and TOOL_NAME.fullmatch(name)):
        raise ValueError(
            f"a tool's name must be 1 to 64 letters, digits, _ and -, got: {name!r}; pass such a name as name="
        )
    return name


def _checked_schema(schema: Any, name: Any) -> Any:
    if not isinstance(schema, Mapping):
        raise TypeError(
            f"tool {name!r}: schema must be a dict with a JSON Schema, got {type(schema).__name__}"
        )
    return normalized(schema, f"tool {name!r}", anew=True)


def _once(builder: str, name: str, given: Any, options: dict[str, Any]) -> Any:
    """An argument given by position or by name; taken out of the options."""
    if name not in options:
        return given
    if given is not None:
        raise TypeError(
            f"allm.{builder} was given {name} twice, by position and as {name}=…; give only one of them"
        )
    return options.pop(name)


def _text(builder: str, text: Any, wanted: str = "text") -> str:
    if not isinstance(text, str):
        raise TypeError(f"allm.{builder} takes {wanted}, got {type(text).__name__}")
    return text


def _from_function(
    function: Any,
    names: Mapping[str, Any],
    name: str | None,
    description: str | None,
    schema: Any,
    options: dict[str, Any],
) -> Tool:
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"@tool decorates a function, got {function!r}")
    signature = signature_of(function, names)
    name = name if name is not None else getattr(function, "__name__", None)
    if name is None:
        raise TypeError(f"@tool needs name=, because a {type(function).__name__} has no name of its own")
    _checked_name(name)
    return Tool(
        name=name,
        description=description if description is not None else docstrings.read(signature.docstring)[0],
        schema=of_function(signature) if schema is None else _checked_schema(schema, name),
        handler=handler_of(function, signature, name),
        **options,
    )


def _check_options(call: str, cls: type[Any], options: Mapping[str, Any]) -> None:
    known = [field.name for field in msgspec.structs.fields(cls)]
    for option in options:
        if option not in known:
            nearest = difflib.get_close_matches(option, known, n=1)
            advice = f"did you mean {nearest[0]!r}?" if nearest else f"the options are {', '.join(known)}"
            raise TypeError(f"{call} has no option {option!r}; {advice}")


def _are_parts(content: Any) -> bool:
    return isinstance(content, list) and bool(content) and all_of(content, Part)
