"""The parameters of a function, read once when it becomes a tool.

Rule of this file: an argument comes from the model. A parameter annotated `ToolContext`, or one named
`context` without another annotation, comes from the library, and the model is not told of it.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ForwardRef, Literal, Optional, get_args, get_origin, get_type_hints

from .aliases import UNIONS, behind, unaliased
from .bounds import bounded

__all__ = [
    "Argument",
    "Signature",
    "description_of",
    "names_the_context",
    "signature_as_written",
    "signature_of",
]

CONTEXT = "context"
CONTEXT_TYPE = "ToolContext"
_FIELDS = frozenset({("pydantic", "FieldInfo"), ("msgspec", "Field"), ("dataclasses", "Field")})


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument; `type` is its evaluated annotation, `Any` without one."""

    name: str
    type: Any
    required: bool
    default: Any
    positional_only: bool


@dataclass(frozen=True, slots=True)
class Signature:
    """A function's arguments in order; `open_ended` says that it also takes any others, by `**kwargs`."""

    name: str
    docstring: str | None
    arguments: tuple[Argument, ...]
    open_ended: bool
    context: Argument | None

    @property
    def positional_only(self) -> tuple[Argument, ...]:
        """The positional-only arguments, in order."""
        every = self.arguments if self.context is None else (*self.arguments, self.context)
        return tuple(argument for argument in every if argument.positional_only)


def signature_as_written(function: Callable[..., Any]) -> inspect.Signature:
    """`inspect.signature`, where an annotation with a name that exists only for type checkers is given as text.

    Since Python 3.14 (PEP 649) such annotations need no quotation marks, and evaluating them raises
    NameError.
    """
    try:
        return inspect.signature(function)
    except Exception:
        if _as_far_as_it_is_there is None:
            raise
        return _as_far_as_it_is_there(function)


def signature_of(function: Callable[..., Any], names: Mapping[str, Any] | None = None) -> Signature:
    """The signature of a function, a method, a partial or a callable object.

    `names` are the local names that annotations written as text may use. Raises TypeError for an annotation
    that cannot be evaluated, for `*args`, and for the `self` of a method that is not bound, naming the
    parameter.
    """
    target = _target(function)
    _refuse_self(function)
    arguments: list[Argument] = []
    context, open_ended = None, False
    for name, parameter in signature_as_written(function).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise TypeError(f"{_name(function)}: *{name} has no JSON form; use a parameter that is a list")
        if parameter.kind is parameter.VAR_KEYWORD:
            open_ended = True
            continue
        _refuse_field(function, parameter)
        try:
            argument = _argument(parameter, _evaluated(parameter.annotation, target, names or {}))
        except TypeError as error:
            raise TypeError(f"{_name(function)}: parameter {name}: {error}") from None
        if _is_context(argument):
            context = argument
        elif isinstance(argument.type, str):
            raise TypeError(
                f"{_name(function)}: cannot evaluate the annotation {argument.type!r} of {name}; import it"
            )
        else:
            arguments.append(argument)
    return Signature(_name(function), target.__doc__, tuple(arguments), open_ended, context)


_as_far_as_it_is_there: Callable[[Callable[..., Any]], inspect.Signature] | None = None

if sys.version_info >= (3, 14):
    from annotationlib import Format

    def _late_signature(function: Callable[..., Any]) -> inspect.Signature:
        signature = inspect.signature(function, annotation_format=Format.FORWARDREF)
        late = {name for name, each in signature.parameters.items() if _lacks(each.annotation)}
        try:
            texts = inspect.signature(function, annotation_format=Format.STRING).parameters if late else {}
        except TypeError:  # an annotation with an f-string cannot be given as text
            texts = {}
        parameters = [
            each.replace(annotation=_text(each.annotation, texts.get(name))) if name in late else each
            for name, each in signature.parameters.items()
        ]
        return signature.replace(parameters=parameters, return_annotation=signature.empty)

    def _lacks(annotation: Any) -> bool:
        return isinstance(annotation, ForwardRef) or any(map(_lacks, get_args(annotation)))

    def _text(annotation: Any, as_text: inspect.Parameter | None) -> str:
        if as_text is not None:
            return str(as_text.annotation)
        return annotation.__forward_arg__ if isinstance(annotation, ForwardRef) else str(annotation)

    _as_far_as_it_is_there = _late_signature


def names_the_context(annotation: Any) -> bool:
    """Whether an annotation, a type or its text, names `ToolContext`."""
    if isinstance(annotation, str):
        return CONTEXT_TYPE in re.findall(r"\w+", annotation)
    annotation = behind(annotation)
    if get_origin(annotation) is Annotated or get_origin(annotation) in UNIONS:
        return any(map(names_the_context, get_args(annotation)))
    return getattr(annotation, "__name__", "") == CONTEXT_TYPE


def _refuse_self(function: Any) -> None:
    first = next(iter(signature_as_written(function).parameters.values()), None)
    if first is None or first.name not in ("self", "cls") or first.annotation is not first.empty:
        return
    name = _name(function)
    method = name.rpartition(".")[2]
    raise TypeError(
        f"{name}: a model cannot give {first.name}; leave the method undecorated and make a tool of the bound "
        f"method, allm.tool(instance.{method}), or annotate {first.name} if it is an argument for the model"
    )


def _target(function: Any) -> Any:
    """The plain function behind a callable; annotations are evaluated in its module."""
    function = inspect.unwrap(getattr(function, "func", function))
    return function if inspect.isroutine(function) else type(function).__call__


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or type(function).__name__


def description_of(annotation: Any) -> str | None:
    """The text in `Annotated[str, "the city"]`, or in an object with a `description` such as pydantic's `Field`."""
    for extra in getattr(annotation, "__metadata__", ()):
        text = extra if isinstance(extra, str) else getattr(extra, "description", None)
        if isinstance(text, str):
            return text
    return None


def _takes_none(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _takes_none(annotation.__origin__)
    if get_origin(annotation) in UNIONS:
        return any(map(_takes_none, get_args(annotation)))
    of_literal = get_origin(annotation) is Literal and None in get_args(annotation)
    return of_literal or annotation in (Any, object, None, type(None))


def _refuse_field(function: Any, parameter: inspect.Parameter) -> None:
    """Raises TypeError for the `Field(…)` of a library as a default: a plain call of the function would pass it on."""
    kinds = type(parameter.default).__mro__
    if any((cls.__module__.partition(".")[0], cls.__name__) in _FIELDS for cls in kinds):
        raise TypeError(
            f"{_name(function)}: parameter {parameter.name}: put the field into the annotation, as in "
            f"{parameter.name}: Annotated[str, Field(description='…')], and a default behind it"
        )


def _argument(parameter: inspect.Parameter, annotation: Any) -> Argument:
    annotation = bounded(unaliased(annotation))
    if parameter.default is None and not (isinstance(annotation, str) or _takes_none(annotation)):
        text = description_of(annotation)
        optional = Optional[annotation]  # noqa: UP045 - known at run time only
        annotation = optional if text is None else Annotated[optional, text]
    required = parameter.default is parameter.empty
    only = parameter.kind is parameter.POSITIONAL_ONLY
    return Argument(parameter.name, annotation, required, None if required else parameter.default, only)


def _is_context(argument: Argument) -> bool:
    return (argument.name == CONTEXT and argument.type in (Any, object)) or names_the_context(argument.type)


def _evaluated(annotation: Any, target: Any, names: Mapping[str, Any]) -> Any:
    """The evaluated annotation; its text if it names something imported for type checkers only."""
    if annotation is inspect.Parameter.empty:
        return Any
    if not _has_text(annotation):
        return annotation
    variables = {each.__name__: each for each in getattr(target, "__type_params__", ())}
    alone = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return get_type_hints(
            alone, getattr(target, "__globals__", {}), {**names, **variables}, include_extras=True
        )["it"]
    except (NameError, AttributeError, TypeError, SyntaxError):
        return str(annotation)


def _has_text(annotation: Any) -> bool:
    """Whether it is text, or has text somewhere inside, as in `list["Order"]`."""
    if get_origin(annotation) is Literal:
        return False
    if get_origin(annotation) is Annotated:
        return _has_text(annotation.__origin__)
    return isinstance(annotation, str | ForwardRef) or any(map(_has_text, get_args(annotation)))
