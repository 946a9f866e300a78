"""A type as the form of an answer: what the model is asked for, and what its text becomes.

Rule of this file: pure, except that making a value runs what its type runs (`__post_init__`, pydantic's validators), so
whoever calls `parse` does it where the user's code may run. What is said about a misfit is for a model to read.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from allm_actors.data.errors import ValidationError

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
    """The value of the type that is written in the text, as JSON and nothing else but one Markdown fence around it.

    Raises ValueError, whose message tells a model what to change, and whatever else the type's own code raises.
    """
    fenced = _FENCED.fullmatch(text)
    try:
        value = msgspec.json.decode(fenced[1] if fenced else text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(f"it must be one JSON object and nothing else ({error})") from None
    return convert(value, model)


def misfit(problem: str, retries: int) -> ValidationError:
    """The error of a call whose answer never had the form that was asked for."""
    times = (
        "" if retries == 0 else ", even after 1 retry" if retries == 1 else f", even after {retries} retries"
    )
    message = f"the model's answer does not fit the response_model{times}: {problem}"
    return ValidationError("invalid_response", [("parsed", problem)], message=message)


def broken_model(model: Any, raised: str) -> ValidationError:
    """The error of a type whose own code failed, where no other answer would have helped."""
    message = f"{_named(model)} cannot be made: its own code raised {raised}"
    return ValidationError("invalid_response", [("parsed", "raised")], message=message)


def _named(model: Any) -> str:
    return getattr(model, "__name__", None) or repr(model)
