"""Checks before a request is sent: the rules of all providers, and what a model is known not to support.

Rule of this file: pure. Only what a `ModelRef` says of a model counts: without one, or where it is silent,
everything is allowed; all failures are listed at once. `tool_choice` is normalized in the same way for every
dialect:

    tool_choice                                    becomes
    ---------------------------------------------  -------------------------------------------------------------
    "auto", "none", "required", in any case        that word; without tools, the first two become None
    a tool's name, in any shape (`named_choice`)   the name; refused unless the request has that tool
    any other mapping                              itself: a provider's own shape, which only the provider can check

And so is `response_format`:

    response_format                                becomes
    ---------------------------------------------  -------------------------------------------------------------
    {"type": "json_schema", "schema": …}, "text"   itself
    {"type": "json_schema", "json_schema": {…}}    the same, flat: it is OpenAI's shape, which others do not read
    a JSON Schema, or a mapping without a type     refused: no dialect supports it
    a mapping of any other type                    itself: a server's own format, for the dialects that pass it on

What a model is known not to support:

    the request has                the model's capabilities say       refusal
    -----------------------------  ---------------------------------  ----------------------------------------
    tools                          {"tools": {"enabled": False}}      ["tools"]: tools_disabled
    a json_schema response_format  {"json_native": False}             ["response_format"]: json_native_disabled
    an image                       {"vision": False}                  ["vision"]: vision_disabled
    a document                     {"documents": False}               ["documents"]: documents_disabled
    (is an image request)          {"images_enabled": False}          ["images_enabled"]: images_disabled
    an image operation             {"supported_image_operations": …}  ["operation"]: unsupported_image_operation
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from allm_actors.data import (
    AdapterError,
    DocumentPart,
    EngineError,
    ImagePart,
    ImageRequest,
    ModelRef,
    Request,
    ValidationError,
)
from allm_actors.data.tool_choice import CHOICE_WORDS, named_choice
from allm_actors.engine.catalog import Provider

__all__ = ["check_capabilities", "check_format", "in_common_words", "with_finalize", "without_foreign_words"]

# Options of OpenAI's reasoning models. Other servers of its format have their own rules (see `catalog`); these dialects
# have no such fields, and their providers refuse unknown fields, or ignore them.
_FOREIGN = frozenset({"reasoning_effort", "reasoning_summary", "verbosity"})
_WITHOUT_THEM = frozenset({"anthropic", "cohere", "gemini", "ollama"})
_FORMATS = ("text", "json_object", "json_schema")
_KEYWORDS = frozenset({"$defs", "$ref", "$schema", "allOf", "anyOf", "enum", "oneOf", "properties"})
_OF_A_SCHEMA = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
# These dialects translate the response format into their own, and would drop one that they do not know.
_WRITE_FORMATS = frozenset({"anthropic", "bedrock", "gemini", "ollama"})


def check_capabilities(model: str | ModelRef | None, request: Any) -> None:
    """Raises `ValidationError("unsupported_capability")` for what the model is known not to support."""
    if not isinstance(model, ModelRef):
        return
    able, what = model.capabilities or {}, "capabilities"
    refused: list[tuple[Any, str]] = []
    if isinstance(request, Request):
        refused = list(_of_chat(able, request))
    elif isinstance(request, ImageRequest):
        refused, what = list(_of_images(able, request)), "image capabilities"
    if refused:
        codes = ", ".join(code for _, code in refused)
        message = (
            f"model does not support requested {what}: {codes} ({model.id}); ask another model, or for less"
        )
        raise ValidationError("unsupported_capability", refused, message=message)


def without_foreign_words(request: Request, dialect: str) -> Request:
    """The request without the options that only OpenAI's format has, so that one call site serves every provider."""
    if dialect not in _WITHOUT_THEM or _FOREIGN.isdisjoint(request.options):
        return request
    options = {name: value for name, value in request.options.items() if name not in _FOREIGN}
    return msgspec.structs.replace(request, options=options)


def check_format(request: Request, dialect: str, row: Provider) -> None:
    """Raises `AdapterError("unsupported_feature")` for a server's own response format that the dialect would drop."""
    wanted = request.response_format
    if dialect not in _WRITE_FORMATS or not isinstance(wanted, Mapping) or wanted["type"] == "json_schema":
        return
    if wanted["type"] not in _FORMATS or len(wanted) > 1:
        others = [repr(name) for name in wanted if name != "type"]
        own = f"{wanted['type']!r}" + (f" with {', '.join(others)}" if others else "")
        known = f"{', '.join(_FORMATS)}, the last with a schema"
        message = f"{row.label} has no response_format of type {own}; use {known}"
        raise AdapterError("unsupported_feature", provider=row.name, message=message)


def in_common_words(request: Request) -> Request:
    """The request with `tool_choice` and `response_format` normalized as above.

    Raises `ValidationError` for one that is refused there.
    """
    return _with_response_format(_with_tool_choice(request))


def _with_tool_choice(request: Request) -> Request:
    choice = named_choice(request.tool_choice)
    if choice is None or isinstance(choice, Mapping):
        return request
    if not isinstance(choice, str):
        message = f"tool_choice must be 'auto', 'none', 'required' or a tool's name; got: {choice!r}"
        raise ValidationError("invalid_request", [("tool_choice", "invalid_shape")], message=message)
    names = [tool.name for tool in request.tools]
    unread = "tools" in request.options  # in the provider's own shape, whose names are not read here
    is_word = choice is request.tool_choice and choice not in names and choice.lower() in CHOICE_WORDS
    if is_word:
        choice = choice.lower()
    if not names and not unread:
        if choice == "required" or not is_word:
            raise _without_tools(choice)
        choice = None
    elif not is_word and not unread and choice not in names:
        raise _unknown_tool(choice, names)
    return msgspec.structs.replace(request, tool_choice=choice)


def with_finalize(adapter: Any, request: Request) -> Request:
    """The request, marked for a second, structured pass (`structured_finalize`) if the adapter says that it needs one.

    Raises `EngineError("invalid_engine")` if the adapter raises when it is asked.
    """
    ask = getattr(adapter, "requires_structured_finalize", None)
    if ask is None or request.structured_finalize:
        return request
    try:
        needed = ask(request)
    except Exception as error:
        name = getattr(adapter, "name", adapter)
        message = (
            f"the adapter {name!r} failed at requires_structured_finalize: {type(error).__name__}: {error}"
        )
        raise EngineError("invalid_engine", message=message) from error
    return msgspec.structs.replace(request, structured_finalize=True) if needed else request


def _with_response_format(request: Request) -> Request:
    wanted = request.response_format
    if not isinstance(wanted, Mapping):
        return request
    kind = wanted.get("type")
    if not isinstance(kind, str) or kind in _OF_A_SCHEMA:
        raise _no_format("a JSON Schema alone is not enough" if _is_schema(wanted) else "it has no type")
    if kind != "json_schema":
        return request
    nested = wanted.get("json_schema")
    flat = wanted if "schema" in wanted or not isinstance(nested, Mapping) else _flat(wanted, nested)
    if not isinstance(flat.get("schema"), Mapping):
        raise _no_format("it has no schema")
    return request if flat is wanted else msgspec.structs.replace(request, response_format=flat)


def _flat(wanted: Mapping[str, Any], nested: Mapping[str, Any]) -> dict[str, Any]:
    beside = {name: value for name, value in wanted.items() if name != "json_schema"}
    return {**beside, **nested, "type": beside["type"]}


def _is_schema(wanted: Mapping[str, Any]) -> bool:
    kind = wanted.get("type")
    return isinstance(kind, list) or kind in _OF_A_SCHEMA or not _KEYWORDS.isdisjoint(wanted)


def _no_format(why: str) -> ValidationError:
    message = (
        f"response_format is invalid: {why}; give it as allm.json_schema(name, type_or_schema), or "
        "response_model=SomeType, which also parses the answer"
    )
    return ValidationError("invalid_request", [("response_format", "invalid_shape")], message=message)


def _without_tools(choice: str) -> ValidationError:
    message = (
        f"tool_choice {choice!r} forces a call, but the request has no tools; give it tools, or leave "
        "tool_choice out"
    )
    return ValidationError("invalid_request", [("tool_choice", "requires_tools")], message=message)


def _unknown_tool(choice: str, names: list[str]) -> ValidationError:
    message = (
        f"tool_choice {choice!r} is not a tool of the request; it must be one of {', '.join(names)}, or "
        f"{', '.join(map(repr, CHOICE_WORDS))}"
    )
    return ValidationError("invalid_request", [("tool_choice", "unknown_tool")], message=message)


def _of_chat(able: Mapping[str, Any], request: Request) -> Iterator[tuple[Any, str]]:
    if request.tools and _says_no(able.get("tools"), "enabled"):
        yield ["tools"], "tools_disabled"
    if _wants_schema(request.response_format) and _says_no(able.get("json_native"), "enabled"):
        yield ["response_format"], "json_native_disabled"
    if _says_no(able.get("vision"), "enabled") and _has(request, ImagePart):
        yield ["vision"], "vision_disabled"
    if _says_no(able.get("documents"), "enabled") and _has(request, DocumentPart):
        yield ["documents"], "documents_disabled"


def _of_images(able: Mapping[str, Any], request: ImageRequest) -> Iterator[tuple[Any, str]]:
    if able.get("images_enabled") is False:
        yield ["images_enabled"], "images_disabled"
    operations = able.get("supported_image_operations")
    if isinstance(operations, list | tuple) and request.operation not in operations:
        yield ["operation"], "unsupported_image_operation"


def _says_no(capability: Any, key: str) -> bool:
    """Whether a capability is switched off: by False itself, or by a mapping that has False for `key`."""
    return capability is False or (isinstance(capability, Mapping) and capability.get(key) is False)


def _wants_schema(wanted: Any) -> bool:
    return isinstance(wanted, Mapping) and wanted.get("type") == "json_schema"


def _has(request: Request, kind: type[ImagePart | DocumentPart]) -> bool:
    return any(isinstance(part, kind) for message in request.messages for part in message.parts())
