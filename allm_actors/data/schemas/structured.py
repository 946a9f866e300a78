"""Structured answers: a type as the `response_format` of a request, and the parsing of the answer into it.

Rule of this file: pure, except that making a value runs the type's own code (`__post_init__`, pydantic's
validators), so `parse` is called where user code may run. Messages about a misfit are for a model to read.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from allm_actors.data.errors import ValidationError
from allm_actors.data.mistakes import mistake_in

from .convert import convert
from .schema import json_schema, of_type

_FENCED = re.compile(r"\s*```[a-zA-Z]*[ \t]*\r?\n(.*?)\s*```\s*", re.DOTALL)

__all__ = ["broken_model", "misfit", "parse", "response_format_of"]


def response_format_of(model: Any) -> dict[str, Any]:
    """The `response_format` that asks for an answer of this type, under the type's own name.

    Raises TypeError for what is no type, has no JSON Schema, or is not an object in JSON: providers want an object.
    """
    shown = _named(model)
    if isinstance(model, (str, bytes, dict, list, tuple)) or model is None:
        raise TypeError(
            f"response_model must be a type (a dataclass, TypedDict, Struct or pydantic model), got: {model!r}"
        )
    if of_type(model).get("type") != "object":
        raise TypeError(
            f"response_model {shown} is not an object in JSON; wrap it in a type with fields, such as a dataclass"
        )
    return json_schema(re.sub(r"[^A-Za-z0-9_-]", "_", shown)[:64], model)


def parse(text: str, model: Any) -> Any:
    """Parse a text that is one JSON value, with or without a Markdown fence around it, into the type.

    Raises ValueError, whose message tells a model what to change, and whatever else the type's own code raises.
    """
    fenced = _FENCED.fullmatch(text)
    written = fenced[1] if fenced else text
    try:
        value = msgspec.json.decode(written)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        why = mistake_in(written, error)
        raise ValueError(f"it must be one JSON object and nothing else ({why})") from None
    return convert(value, model)


def misfit(problem: str, retries: int) -> ValidationError:
    """The error of a call whose answer never fitted its `response_model`."""
    times = (
        "" if retries == 0 else ", even after 1 retry" if retries == 1 else f", even after {retries} retries"
    )
    message = f"the model's answer does not fit the response_model{times}: {problem}"
    return ValidationError("invalid_response", [("parsed", problem)], message=message)


def broken_model(model: Any, raised: str) -> ValidationError:
    """The error for a type whose own code failed, so that no other answer would help."""
    message = f"{_named(model)} cannot be made: its own code raised {raised}"
    return ValidationError("invalid_response", [("parsed", "raised")], message=message)


def _named(model: Any) -> str:
    return getattr(model, "__name__", None) or repr(model)
