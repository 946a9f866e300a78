"""What a model may call, and what a handler may answer.

Rule of this file: a `Tool` is data except for its `handler`, and no codec ever writes a handler.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from typing import Any, Literal, get_args

import msgspec

from .errors import ToolError
from .predicates import is_number
from .schemas.handlers import called, context_of, function_behind
from .schemas.normal import normalized

__all__ = ["TOOL_NAME", "AskUser", "Effect", "Err", "Halt", "HandlerResult", "Isolation", "Ok", "Tool"]

TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""A pattern of tool names that every provider accepts."""

Isolation = Literal["thread", "process"]
Effect = Literal["once", "idempotent", "pure"]
_ISOLATIONS: tuple[str, ...] = get_args(Isolation)
_EFFECTS: tuple[str, ...] = get_args(Effect)


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function the model may call.

    `schema` is a JSON Schema object; its keys become text and its enum members their values. `manual` tools are handed
    to the caller instead of being run. `timeout` is in seconds from the moment the handler starts; None takes the
    call's `tool_timeout`. Raises TypeError for a `manual` or a `compact` that is not a bool, a `handler` that
    is not callable, a `summary` that is no text and a `metadata` that is no dict; ValueError for an invalid
    `timeout`, `isolation` or `effect`, or a schema that contains itself. Everything else is checked by
    `validate`.
    """

    name: str
    description: str
    schema: dict[str, Any]
    handler: Callable[..., Any] | None = None
    manual: bool = False
    compact: bool = False
    summary: str | None = None
    timeout: float | None = None
    isolation: Isolation = "thread"
    effect: Effect = "once"
    metadata: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if not isinstance(self.manual, bool):
            raise TypeError(f"Tool manual must be a boolean, got: {self.manual!r}")
        self._check_kinds()
        _one_of(self, "isolation", _ISOLATIONS)
        _one_of(self, "effect", _EFFECTS)
        if not (self.timeout is None or (is_number(self.timeout) and self.timeout > 0)):
            must = f"timeout must be a positive number of seconds, got: {self.timeout!r}"
            raise ValueError(f"tool {self.name!r}: {must}")
        msgspec.structs.force_setattr(self, "schema", normalized(self.schema, f"tool {self.name!r}"))

    def _check_kinds(self) -> None:
        given: dict[str, object] = {
            name: getattr(self, name) for name in ("handler", "compact", "summary", "metadata")
        }
        for name, must, fits in (
            ("handler", "a function", given["handler"] is None or callable(given["handler"])),
            ("compact", "True or False", isinstance(given["compact"], bool)),
            ("summary", "a text", isinstance(given["summary"], str | None)),
            ("metadata", "a dict", isinstance(given["metadata"], dict)),
        ):
            if not fits:
                raise TypeError(f"tool {self.name!r}: {name} must be {must}, got: {given[name]!r}")

    def run(self, arguments: Any, context: Any) -> Any:
        """Call the handler as the library does: with these arguments, and with the context if it takes it.

        A coroutine function returns a coroutine. Raises what the handler raises; ToolError(`not_found`)
        without one.
        """
        if self.handler is None:
            text = f"tool {self.name!r} has no handler; give it one, or make it manual"
            raise ToolError("not_found", tool_name=self.name, message=text)
        return called(self.handler, context_of(self.handler), arguments, context)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function behind the tool, as if it had not been decorated."""
        if self.handler is None:
            raise TypeError(f"tool {self.name!r} has no handler to call")
        return function_behind(self.handler)(*args, **kwargs)

    def __reduce__(self) -> Any:
        # The name of a decorated function now refers to the tool, so pickle could not find the function by its name.
        handler = self.handler
        module, name = getattr(handler, "__module__", None), getattr(handler, "__qualname__", None)
        found = _found(module, name) if isinstance(module, str) and isinstance(name, str) else None
        if handler is None or not isinstance(found, Tool) or found.handler is not handler:
            return super().__reduce__()
        fields = {field: getattr(self, field) for field in self.__struct_fields__ if field != "handler"}
        return _as_found, (module, name, fields)


def _found(module: str, name: str) -> Any:
    try:
        return reduce(getattr, name.split("."), sys.modules[module])
    except (AttributeError, KeyError):
        return None


def _as_found(module: str, name: str, fields: dict[str, Any]) -> Tool:
    import_module(module)
    found = _found(module, name)
    if not isinstance(found, Tool):
        raise AttributeError(  # noqa: TRY004 - as pickle itself does for a missing name
            f"this tool was pickled as {name} of {module}, which is not there any more; restore it"
        )
    return Tool(**fields, handler=found.handler)


def _one_of(tool: Tool, field: str, words: tuple[str, ...]) -> None:
    value = getattr(tool, field)
    if value not in words:
        known = f"{', '.join(map(repr, words[:-1]))} or {words[-1]!r}"
        raise ValueError(f"tool {tool.name!r}: {field} must be {known}, got: {value!r}")


class Ok(msgspec.Struct, frozen=True):
    """A handler's success. Returning a bare value means the same."""

    value: Any = None


class Err(msgspec.Struct, frozen=True):
    """A handler's failure, as a value. Raising means the same, with the exception as the reason."""

    reason: Any = None


@dataclass(frozen=True, slots=True, init=False)
class AskUser:
    """The handler needs an answer from a person; `options` (e.g. choices) are for whoever shows the question."""

    question: str
    options: dict[str, Any]

    def __init__(self, question: str | None = None, /, **options: Any) -> None:
        if question is None:  # a keyword; beside a positional one it is an option
            if "question" not in options:
                raise TypeError("AskUser needs a question: AskUser('Which city?')")
            question = options.pop("question")
        object.__setattr__(self, "question", question)
        object.__setattr__(self, "options", options)


class Halt(msgspec.Struct, frozen=True):
    """The handler ends the loop: `reason` becomes the result's `halted_reason`, `result` the tool's answer."""

    reason: str
    result: Any = None


HandlerResult = Ok | Err | AskUser | Halt
