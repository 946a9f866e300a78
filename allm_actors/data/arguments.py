"""A tool call's JSON text to its arguments.

Rule of this file: text that is not one JSON object never becomes arguments; it becomes a sentence that says
what is wrong, which the loop sends to the model instead of running the tool.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .depth import ARGUMENTS_TOO_DEEP, DEEPEST, is_deeper
from .mistakes import mistake_in

__all__ = ["read_arguments"]

_decode = msgspec.json.Decoder().decode


def read_arguments(raw: str | None, *, cut_off: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments and the call's metadata: `({…}, {})`, or `({}, {"arguments_error": why})`. Never raises.

    `raw` is the text as the model wrote it. None, or no text at all, means no arguments, unless the answer was
    `cut_off` before it was complete.
    """
    if raw is None:
        raw = ""
    if not raw.strip() and not cut_off:
        return {}, {}
    try:
        value = _decode(raw)
    except RecursionError:
        return {}, {"arguments_error": ARGUMENTS_TOO_DEEP}
    except (msgspec.DecodeError, ValueError) as error:
        why = (
            "were cut off by the token limit" if cut_off else f"are not valid JSON ({mistake_in(raw, error)})"
        )
        return {}, {"arguments_error": f"the arguments {why}"}
    if not isinstance(value, dict):
        return {}, {"arguments_error": f"the arguments must be a JSON object, got {_KINDS[type(value)]}"}
    if is_deeper(value, DEEPEST):
        return {}, {"arguments_error": ARGUMENTS_TOO_DEEP}
    return value, {}


_KINDS = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}
