"""The kind of value each option takes, checked before anything is started.

Rule of this file: one row for each option whose wrong value would otherwise be found late, inside other code,
or never. The row says what the option must be, worded for the error message. None is not checked: it means
"not given".
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from allm_actors.data import ModelRef, Tool, ValidationError
from allm_actors.data.predicates import all_of, as_price, is_async, is_number
from allm_actors.data.utf8 import is_utf8
from allm_actors.engine.retry import policy_of
from allm_actors.engine.secret import Secret

__all__ = [
    "PRICES",
    "check_kinds",
    "check_model",
    "check_source",
    "check_times",
    "is_seconds",
    "kind_of",
    "let_go",
]


PRICES: Final = ("input", "output", "cached_input", "cache_write_input")
_PRICED: Final = "it has 'input', 'output', 'cached_input' and 'cache_write_input', in USD per million tokens"


def check_kinds(options: Mapping[str, Any]) -> None:
    """Raises TypeError or ValueError for a value of the wrong kind, and ValidationError for two tools of one name."""
    for name, value in options.items():
        kind = _KINDS.get(name)
        if kind is not None and value is not None and not kind[1](value):
            raise _ERRORS.get(name, TypeError)(f"{name} must be {kind[0]}, got: {value!r}")
    names = [tool.name for tool in options.get("tools") or ()]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        message = f"two tools are named {twice!r}: a model could not tell them apart; rename one"
        raise ValidationError("invalid_request", [("tools", "duplicate_name")], message=message)
    check_model(options.get("model"))
    check_source(options.get("api_key"))
    if "retry" in options:
        policy_of(options["retry"])


def check_model(model: object) -> None:
    """Raises ValueError for a name that cannot be sent, and TypeError for a `ModelRef` with a field that must
    be a mapping and is not, a price that is no number, or one that is never used.
    """
    name = model.id if isinstance(model, ModelRef) else model
    if isinstance(name, str) and not is_utf8(name):
        raise ValueError(f"a model's name must be text that can be encoded as UTF-8, got: {name!r}")
    if not isinstance(model, ModelRef):
        return
    for name in ("capabilities", "limits", "pricing"):
        value: object = getattr(model, name)
        if not isinstance(value, Mapping | None):
            raise TypeError(f"{name} of the ModelRef {model.id!r} must be a mapping, got: {value!r}")
    pricing: Mapping[str, Any] = model.pricing or {}
    for name in pricing:
        if name not in PRICES:
            raise TypeError(f"pricing of the ModelRef {model.id!r} has no {name!r}; {_PRICED}")
    for name in PRICES:
        price = pricing.get(name)
        if price is not None and as_price(price) is None:
            text = f"pricing of the ModelRef {model.id!r} must have a number of USD as its {name!r}, got: {price!r}"
            raise TypeError(text)


def check_times(adapter_opts: Mapping[str, Any]) -> None:
    """Raises ValueError for an invalid time among the options that the library itself enforces for every adapter."""
    check_kinds({name: adapter_opts.get(name) for name in ("stream_timeout", "request_timeout")})


def check_source(source: object) -> None:
    """Raises TypeError for an `api_key=` that is neither a key nor a function that returns one."""
    if source is None or isinstance(source, str | Secret):
        return
    if is_async(source):
        raise TypeError(
            "api_key= must not be an asynchronous function, because it is called in a thread; give a plain "
            "function, or await the key first and pass the result"
        )
    if not callable(source):
        let_go(source)
        raise TypeError(
            f"api_key= must be a text, a Secret or a function that returns one, got {kind_of(source)}"
        )


def kind_of(value: object) -> str:
    """Describes a value by its kind, without its content, which may be a key."""
    return "an empty text" if value == "" else type(value).__name__


def let_go(value: object) -> None:
    """Close what may be a coroutine, to suppress Python's "never awaited" warning: the error raised here says more."""
    if inspect.iscoroutine(value):
        value.close()


def is_seconds(value: object) -> bool:
    """Whether a value is a number of seconds that an option may have; infinity is allowed."""
    if not is_number(value):
        return False
    try:
        return float(value) > 0
    except OverflowError:  # a number of more digits than a clock has
        return False


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_plain(value: object) -> bool:
    return callable(value) and not is_async(value)


def _settles(value: object) -> bool:
    return not is_async(value)


def _executes(value: object) -> bool:
    if not isinstance(value, type):
        return callable(getattr(value, "execute", None))
    # A class given instead of an instance, which works only if its method needs no instance.
    return isinstance(inspect.getattr_static(value, "execute", None), staticmethod | classmethod)


def _encodes(value: object) -> bool:
    return _is_plain(value) or (not isinstance(value, str) and callable(getattr(value, "encode", None)))


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


_Kind = tuple[str, Callable[[Any], bool]]
_TEXT: Final[_Kind] = ("a non-empty text", _is_text)
_MAPPING: Final[_Kind] = ("a mapping", _is_mapping)
_BOOL: Final[_Kind] = ("True or False", _is_bool)
_SECONDS: Final[_Kind] = ("a positive number of seconds", is_seconds)
_TIMES: Final = ("stream_timeout", "request_timeout", "connect_timeout", "first_byte_timeout", "tool_timeout")
_KINDS: Final[dict[str, _Kind]] = {
    **dict.fromkeys(("request_id", "session_id"), _TEXT),
    "model": (
        "a non-empty text, or a ModelRef",
        lambda value: _is_text(value.id if isinstance(value, ModelRef) else value),
    ),
    **dict.fromkeys(("context", "adapter_opts", "metadata"), _MAPPING),
    **dict.fromkeys(("emit_text_deltas", "emit_tool_deltas", "include_raw_chunks"), _BOOL),
    **dict.fromkeys(_TIMES, _SECONDS),
    "tools": ("a list of Tool values (see allm.tool)", lambda value: all_of(value, Tool)),
    "structured_finalize": _BOOL,
    "structured_finalize_nudge": ("a text", lambda value: isinstance(value, str)),
    "halt_when": ("a function of one StepResult", callable),
    "on_event": ("a function of one event, not an asynchronous one", _is_plain),
    "on_tool_error": (
        "'continue', 'halt' or a function of (tool_call, error), not an asynchronous one",
        _settles,
    ),
    "tool_executor": (
        "an object with execute(tool, arguments, context)",
        _executes,
    ),
    "tool_result_encoder": ("a function from value to text, or an object with encode(value)", _encodes),
}
_ERRORS: Final[dict[str, type[Exception]]] = dict.fromkeys(_TIMES, ValueError)
