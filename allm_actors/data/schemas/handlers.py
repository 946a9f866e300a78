"""A function as a tool's handler: a handler takes the arguments as one dict, and the context if it wants it.

Rule of this file: what the model sends is converted to the annotated types before the function runs. If it
does not fit, a `ToolError("invalid_arguments")` names every wrong argument and what it should be, so that the
model can correct itself.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from allm_actors.data.errors import ToolError

from .convert import Misfit, convert, shown
from .signature import CONTEXT, Signature, names_the_context, signature_as_written

__all__ = ["Made", "called", "context_of", "function_behind", "handler_of", "made_of"]

Handler = Callable[..., Any]


class Made(NamedTuple):
    """What `handler_of` made a handler of. `itself` is the handler: a wrapper may have copied its attributes."""

    function: Callable[..., Any]
    signature: Signature
    tool_name: str
    itself: weakref.ref[Any]


def handler_of(function: Callable[..., Any], signature: Signature, tool_name: str) -> Handler:
    """The handler that calls the function: `handler(arguments, context=None)`, a coroutine function for an async one.

    `handler.__wrapped__` is the function; `handler.takes_context` says whether it wants the context.
    """
    unnamed = signature.positional_only

    def plain(arguments: Mapping[str, Any], context: Any = None) -> Any:
        named = _bound(signature, tool_name, arguments, context)
        return function(*[named.pop(each.name, each.default) for each in unnamed], **named)

    async def asynchronous(arguments: Mapping[str, Any], context: Any = None) -> Any:
        named = _bound(signature, tool_name, arguments, context)
        return await function(*[named.pop(each.name, each.default) for each in unnamed], **named)

    handler: Any = asynchronous if _is_async(function) else plain
    functools.update_wrapper(handler, function)
    handler.takes_context = signature.context is not None
    handler.made = Made(function, signature, tool_name, weakref.ref(handler))
    return handler  # type: ignore[no-any-return]  # a function that was given an attribute


def made_of(handler: object) -> Made | None:
    """What `handler_of` made this handler of; None for any other handler, even one that wraps such a handler."""
    made = getattr(handler, "made", None)
    return made if isinstance(made, Made) and made.itself() is handler else None


def function_behind(handler: Handler) -> Callable[..., Any]:
    """The function that `handler_of` made this handler of; any other handler itself, whatever it wraps."""
    made = made_of(handler)
    return handler if made is None else made.function


def context_of(handler: Handler) -> str | None:
    """How a handler takes the context: "" as its second argument, a name as that keyword; None if it takes none.

    It takes it with a second positional parameter without a default, or with any parameter that is named
    `context` or annotated `ToolContext`. A callable without a readable signature takes none.
    """
    told = getattr(handler, "takes_context", None)
    if isinstance(told, bool):
        return "" if told else None
    try:
        parameters = list(signature_as_written(handler).parameters.values())
    except (TypeError, ValueError):
        return None
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    second = positional[1] if len(positional) > 1 else None
    if second is not None and (second.default is inspect.Parameter.empty or _is_context(second)):
        return ""
    named = (p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    return next((p.name for p in named if p not in positional[:1] and _is_context(p)), None)


def called(handler: Handler, place: str | None, arguments: Any, context: Any) -> Any:
    """Call the handler with these arguments, and with the context if it takes it; `place` is from `context_of`."""
    if place is None:
        return handler(arguments)
    return handler(arguments, context) if place == "" else handler(arguments, **{place: context})


def _is_context(parameter: inspect.Parameter) -> bool:
    return parameter.name == CONTEXT or names_the_context(parameter.annotation)


def _is_async(function: Any) -> bool:
    by_call = getattr(type(function), "__call__", None)  # noqa: B004 (a callable object may be async)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(by_call)


def _bound(
    signature: Signature, tool_name: str, arguments: Mapping[str, Any], context: Any
) -> dict[str, Any]:
    values, problems = _converted(signature, arguments)
    if problems:
        raise ToolError(
            "invalid_arguments",
            tool_name=tool_name,
            message="; ".join(problem.said for problem in problems),
            metadata={
                "arguments": [problem.name for problem in problems],
                "unquoted": "; ".join(problem.unquoted for problem in problems),
            },
        )
    if signature.context is not None:
        values[signature.context.name] = context
    return values


class _Problem(NamedTuple):
    """A wrong argument: `said` is for the model, `unquoted` for logs, without anything that the model sent."""

    name: str
    said: str
    unquoted: str


def _converted(signature: Signature, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[_Problem]]:
    values: dict[str, Any] = {}
    problems: list[_Problem] = []
    for argument in signature.arguments:
        name = argument.name
        if name in given:
            try:
                values[name] = convert(given[name], argument.type)
            except Misfit as misfit:
                problems.append(_problem(name, str(misfit), misfit.unquoted))
        elif argument.required:
            problems.append(_problem(name, f"missing; expected {shown(argument.type)}"))
    if len(values) == len(given):  # every given argument was used, so none is unexpected
        return values, problems
    known = {argument.name for argument in signature.arguments}
    others = {name: value for name, value in given.items() if name not in known}
    if signature.open_ended:
        return others | values, problems
    names = ", ".join(argument.name for argument in signature.arguments) or "none"
    return values, problems + [_unexpected(name, names) for name in others]


def _problem(name: str, said: str, unquoted: str | None = None) -> _Problem:
    return _Problem(
        name, f"argument {name}: {said}", f"argument {name}: {said if unquoted is None else unquoted}"
    )


def _unexpected(name: str, names: str) -> _Problem:
    said = f"unexpected; the arguments are: {names}"
    return _Problem(name, f"argument {name}: {said}", f"an argument that is {said}")
